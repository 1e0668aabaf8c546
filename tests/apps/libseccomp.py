# SPDX-License-Identifier: MIT
"""libseccomp.py NUMBER... COMMAND...: runs COMMAND where these system calls give EPERM."""
import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LD_NR = (0x20, 0, 0, 0)
ALLOW = (0x06, 0, 0, 0x7FFF0000)
EPERM = (0x06, 0, 0, 0x00050001)


def deny(numbers):
    program = [LD_NR]
    for i, number in enumerate(numbers):
        program.append((0x15, len(numbers) - i, 0, number))  # equal: to the last instruction
    program += [ALLOW, EPERM]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in program))
    fprog = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(fprog), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


args = sys.argv[1:]
end = next(i for i, arg in enumerate(args) if not arg.isdigit())
deny([int(arg) for arg in args[:end]])
os.execvp(args[end], args[end:])
