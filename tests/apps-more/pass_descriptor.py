# SPDX-License-Identifier: MIT
"""pass_descriptor.py ROOT [PREFIX...]: sends descriptors of files to a program that was
started for it, with PREFIX before its command, closes its own, and prints what it reads.
"""
import os
import socket
import subprocess
import sys

RECEIVER = r"""
import os, socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
_, fds, _, _ = socket.recv_fds(s, 10, 3)
s.send(b"x")
for fd in fds:
    try:
        print(os.readlink(f"/proc/self/fd/{fd}").rsplit("/", 1)[-1].split(":")[0] if len(sys.argv) < 3 else "",
              os.fstat(fd).st_size if len(sys.argv) < 3 else "", os.read(fd, 9), os.pread(fd, 5, 100),
              os.lseek(fd, 0, os.SEEK_CUR))
    except OSError as e:
        print(e.strerror)
s.recv(1)
"""
os.chdir(sys.argv[1])
ours, theirs = socket.socketpair()
command = [*sys.argv[2:], sys.executable, "-c", RECEIVER, str(theirs.fileno()), *(["blind"] if sys.argv[2:] else [])]
child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
fds = [os.open(name, os.O_RDONLY) for name in ("lines.txt", "large", "other.txt")]
os.lseek(fds[0], 7, 0)
kept = os.dup(fds[0])
socket.send_fds(ours, [b"here"], fds)
for fd in fds:
    os.close(fd)
ours.recv(1)
ours.send(b"x")
print(child.communicate()[0], child.returncode)
if not sys.argv[2:]:
    print(os.read(kept, 10), "goes on where the other process was")
