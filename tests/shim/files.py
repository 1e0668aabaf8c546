#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""Files, descriptors and processes: the same on a local tree and on a mount; and
what a mount refuses, it refuses with the errno of a read-only file system.
"""
import sys

import libshim
from libblob import Skip, run_tests, test, tests_of

REFUSED = r"""
import errno, os, sys
os.chdir(sys.argv[1])
calls = [
    lambda: os.open("text/lines.txt", os.O_WRONLY),
    lambda: os.open("text/lines.txt", os.O_RDWR),
    lambda: os.open("text/lines.txt", os.O_RDONLY | os.O_TRUNC),
    lambda: os.open("text/new", os.O_WRONLY | os.O_CREAT),
    lambda: os.open("text/new", os.O_RDONLY | os.O_CREAT | os.O_EXCL),
    lambda: os.open("text/lines.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    lambda: os.open("text", os.O_WRONLY | os.O_TMPFILE),
    lambda: os.open("text/lines.txt", os.O_WRONLY | os.O_DIRECTORY),
    lambda: os.open("none/new", os.O_WRONLY | os.O_CREAT),
    lambda: os.open("none", os.O_WRONLY),
    lambda: os.open("text/lines.txt/new", os.O_WRONLY | os.O_CREAT),
    lambda: os.mkdir("new"),
    lambda: os.mkdir("text"),
    lambda: os.rmdir("text"),
    lambda: os.unlink("text/lines.txt"),
    lambda: os.unlink("none"),
    lambda: os.rename("text/lines.txt", "text/new"),
    lambda: os.rename("text/lines.txt", "/tmp/dz-new"),
    lambda: os.symlink("x", "new"),
    lambda: os.truncate("text/lines.txt", 0),
    lambda: os.chmod("text/lines.txt", 0o600),
    lambda: os.chown("text/lines.txt", 0, 0),
    lambda: os.utime("text/lines.txt"),
    lambda: os.mkfifo("new"),
    lambda: os.access("text/lines.txt", os.W_OK),
    lambda: os.statvfs("text").f_flag & os.ST_RDONLY,
]
for number, call in enumerate(calls):
    try:
        print(number, call())
    except OSError as e:
        print(number, errno.errorcode[e.errno])
"""

# vfork in four threads: a child's changes of its descriptors are none of its parent's.
SUBPROCESSES = r"""
import subprocess, sys, threading
name, bad = sys.argv[1] + "/text/lines.txt", []
def work(k):
    for i in range(50):
        with open(name, "rb") as f:
            f.seek(100 * k + i)
            said = subprocess.run(["head", "-c", "40"], stdin=f.fileno(), stdout=subprocess.PIPE, close_fds=i % 2 == 0,
                                  cwd=sys.argv[1] if i % 3 else None)
            f.seek(100 * k + i)
            if said.returncode or said.stdout != f.read(40):
                bad.append((k, i, said))
        try:
            subprocess.run(["no-such-program"])
            bad.append("ran")
        except FileNotFoundError:
            pass
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
print(bad, len(open(name).read()))
"""


@test
def every_call_on_files_gives_the_same(trees):
    trees.same([libshim.program("call_files"), "{}"])


@test
def one_open_file_in_several_processes(trees):
    trees.same([libshim.program("call_processes"), "{}"])


@test
def every_way_to_start_a_program(trees):
    trees.same([libshim.program("call_programs"), "{}"])


@test
def four_threads_of_python_start_200_programs(trees):
    trees.same([sys.executable, "-c", SUBPROCESSES, "{}"])


@test
def a_mount_refuses_as_a_read_only_file_system(trees):
    if not trees.can_bind:
        raise Skip("no namespace of our own")
    trees.same([sys.executable, "-c", REFUSED, "{}"], read_only=True)


@test
def redirections_share_one_position(trees):
    trees.same("(head -n 1; sed -n 1p) < {}/text/lines.txt")
    trees.same("exec 5< {}/text/lines.txt; read a <&5; read b <&5; echo $a, $b; (read c <&5; echo $c); head -n 1 <&5")
    trees.same("cat < {}/text/other.txt; wc -c < {}/data/large.bin; md5sum - < {}/data/large.bin")
    trees.same("while read -r a b; do echo $b; done < {}/text/other.txt")


@test
def links_of_proc_name_the_file(trees):
    trees.same("cat /dev/stdin < {}/text/other.txt; readlink /proc/self/fd/0 < {}/text/other.txt")
    trees.same("cat /dev/fd/3 3< {}/text/other.txt; [ -f /dev/stdin ] < {}/text/other.txt; echo $?")


@test
def scripts_and_working_directories(trees):
    trees.same("cd {}/tree && pwd && /bin/pwd && ls && cd deep/er && pwd && cat ../y.json && cd ../../.. && ls")
    trees.same("cd {}/tree && env -i /bin/ls && env -i /bin/pwd && (cd /usr && ls -d bin)")
    trees.same("python3 {}/tree/deep/er/x.py; cd {}/tree/deep/er && python3 x.py; python3 -c 'import x'")


@test
def a_symbolic_link_outside_leads_in(trees):
    trees.same("ln -s {} link; ln -s link/text deep; cat link/text/other.txt deep/other.txt; ls deep; "
               "test -d link && echo directory; cat link/none; realpath link/text; cp -L deep/other.txt copy; cat copy")


@test
def a_program_that_closes_everything_goes_on(trees):
    trees.same(["python3", "-c", """
import os
a = os.open("{}/text/lines.txt", os.O_RDONLY)
os.closerange(3, 5000)
try: os.read(a, 1)
except OSError as e: print(e.errno)
b = os.open("{}/text/lines.txt", os.O_RDONLY)
print(b, os.read(b, 10))
"""])


if __name__ == "__main__":
    with libshim.trees() as both:
        run_tests(tests_of(sys.modules[__name__]), both)
