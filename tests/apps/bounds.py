#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 180
"""The limits hold: DRAM and disk stay within what was asked for, at every moment of
a job whose data is several times as large; a process needs little beyond the
shared memory; a hit makes no system call; a program has one thread.
"""
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")
LIMIT = 48 << 20
READ_ALL = "import os,sys\nfor f in sorted(os.listdir(sys.argv[1])): open(sys.argv[1]+'/'+f,'rb').read()\n"
# Its own memory: all mappings that are not the cache's files.
PRIVATE_KB = r"""
import os, re, sys
if len(sys.argv) > 1:
    for f in sorted(os.listdir(sys.argv[1])): open(sys.argv[1] + '/' + f, 'rb').read(1 << 20)
total, counted = 0, True
for line in open('/proc/self/smaps'):
    if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
        counted = not re.search(r'deltazero\.\d+\.\d+/', line)
    elif counted and line.startswith(('Private_Dirty:', 'Private_Clean:', 'Shared_Dirty:')):
        total += int(line.split()[1])
print(total, len(os.listdir('/proc/self/task')))
"""


def usage(folder):
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


class Job:
    def __init__(self, served, top):
        self.served = served
        self.top = top
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DRAM_SIZE=str(LIMIT), DELTAZERO_DISK_SIZE=str(LIMIT))

    def command(self, *command):
        return [DZ, "run", "-m", f"{MOUNT}={self.served.url}/data", "--", *command]

    def run(self, *command):
        return subprocess.run(self.command(*command), env=self.env, check=True, capture_output=True, timeout=120)


def with_job(test):
    def wrapped(_):
        top = tempfile.mkdtemp(dir="/dev/shm")
        try:
            with libblob.serve() as served:
                for i in range(40):
                    served.write(f"data/set/{i:02}", os.urandom(1_500_000 + 1000 * i))
                    served.write(f"data/set/small-{i:02}", os.urandom(5000 + 100 * i))
                job = Job(served, top)
                test(job)
                subprocess.run([DZ, "purge", "--disk"], env=job.env, check=True)
        finally:
            shutil.rmtree(top, ignore_errors=True)

    wrapped.__name__ = test.__name__
    wrapped.__module__ = test.__module__
    return libblob.test(wrapped)


@with_job
def dram_and_disk_stay_within_their_limits_at_every_moment(job):
    most = {"shm": 0, "cache": 0}
    done = threading.Event()

    def watch():
        while not done.is_set():
            for name in most:
                most[name] = max(most[name], usage(f"{job.top}/{name}"))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        job.run(sys.executable, "-c", READ_ALL, MOUNT + "/set")
    done.set()
    watcher.join()
    assert LIMIT / 2 < most["shm"] <= LIMIT, most
    assert LIMIT / 2 < most["cache"] <= LIMIT, most


@with_job
def a_process_keeps_less_than_4_MiB_beyond_the_shared_memory(job):
    bare = int(subprocess.run([sys.executable, "-c", PRIVATE_KB], check=True, capture_output=True).stdout.split()[0])
    ours, threads = map(int, job.run(sys.executable, "-c", PRIVATE_KB, MOUNT + "/set").stdout.split())
    # What the program reads into is its own: a MiB, twice.
    assert ours - bare < 4096 + 2048, (ours, bare)
    assert threads == 1


@with_job
def a_hit_makes_no_system_call(job):
    if not shutil.which("strace"):
        raise libblob.Skip("strace is not installed")
    code = ("import os,sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nos.pread(fd, 1 << 20, 0)\nos.getppid()\n"
            "for i in range(1000): os.pread(fd, 4096, i * 512); os.fstat(fd)\nos.getppid()\n")
    log = job.top + "/strace"
    # The agent is there then: strace would wait for its end.
    job.run("cat", MOUNT + "/set/00")
    job.run("strace", "-f", "-o", log, sys.executable, "-c", code, MOUNT + "/set/00")
    with open(log) as f:
        calls = [re.sub(r"^\d+ +", "", line) for line in f]
    marks = [i for i, call in enumerate(calls) if call.startswith("getppid")]
    assert len(marks) == 2, marks
    between = [c for c in calls[marks[0] + 1:marks[1]] if not re.match(r"(brk|mmap|munmap|madvise)\(", c)]
    assert not between, between[:5]


def calls_of(job, *command, env=None):
    """What strace shows of a program, without process and addresses."""
    if not shutil.which("strace"):
        raise libblob.Skip("strace is not installed")
    log = job.top + "/strace"
    subprocess.run(["strace", "-f", "-o", log, *command], env={**os.environ, **(env or {})}, check=True, capture_output=True)
    with open(log) as f:
        return [re.sub(r"0x[0-9a-f]+", "ADDRESS", re.sub(r"^\d+ +", "", line)) for line in f]


def loaded(job, mount):
    env = {**job.env, "LD_PRELOAD": os.path.join(os.environ["DZ_BUILD"], "libdeltazero.so")}
    return {**env, "DELTAZERO_MOUNT": f"{MOUNT}={job.served.url}/data"} if mount else env


@with_job
def loading_the_library_is_a_few_system_calls(job):
    """What half a millisecond is made of, and a busy machine cannot change; 10 and 24 as this was written."""
    plain = len(calls_of(job, "/bin/true"))
    for mount, most in ((False, 14), (True, 30)):
        calls = calls_of(job, "/bin/true", env=loaded(job, mount))
        assert len(calls) - plain <= most, (len(calls) - plain, calls)
        assert not [c for c in calls if re.match("clone|v?fork|socket|connect", c)], calls


@with_job
def calls_on_other_files_are_as_many_system_calls(job):
    """Also in a process that has a file of a mount open; what is not there is asked about once more."""
    code = ("import mmap,os,sys\nif len(sys.argv) > 2: os.open(sys.argv[2], os.O_RDONLY); os.dup2(3, 60); os.close(3)\n"
            "buf, p = bytearray(4096), sys.argv[1]\nos.getppid()\n"
            "for i in range(3):\n f = os.open(p, os.O_RDONLY); os.readv(f, [buf]); os.preadv(f, [buf], 7); os.fstat(f)\n"
            " os.lseek(f, 0, 0); g = os.dup(f); os.dup2(f, 50); os.close(g); os.close(50); os.close(f); os.stat(p)\n"
            " os.access(p, 4); os.path.realpath('/etc'); os.chdir('/')\n"
            "os.getppid()\nfor i in range(100): os.path.exists(p + 'none')\nos.getppid()\n")
    path = job.top + "/other"
    with open(path, "w") as f:
        f.write("other" * 1000)

    def between(calls):
        calls = [c for c in calls if not re.match(r"(brk|mmap|munmap)\(", c)]
        marks = [i for i, call in enumerate(calls) if call.startswith("getppid")]
        return calls[marks[0]:marks[1]], calls[marks[1]:marks[2]]

    there, missing = between(calls_of(job, sys.executable, "-c", code, path))
    job.run("cat", MOUNT + "/set/00")  # there is an agent then
    ours, lost = between(calls_of(job, sys.executable, "-c", code, path, MOUNT + "/set/00", env=loaded(job, True)))
    assert len(there) > 40 and len(there) == len(ours), list(difflib.unified_diff(there, ours, n=0))
    assert len(missing) == 101 and len(lost) <= 103, lost


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
