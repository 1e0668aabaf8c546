#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""fio with each of its engines: every block that it reads from a mount has the
checksum that fio wrote into it.
"""
import json
import os
import shutil
import subprocess
import sys

from libmore import libshim, plain_tree
from libblob import Skip, dz, run_tests, test, tests_of

SIZE = 16 << 20
JOB = ["--name=job", "--size=16M", "--bs=4k", "--verify=crc32c", "--randrepeat=1",
       "--verify_fatal=1", "--output-format=json", "--verify_state_save=0"]


def make(served):
    for name in ("good", "bad"):
        path = os.path.join(served.root, "data", name)
        subprocess.run(["fio", *JOB, f"--filename={path}", "--rw=write", "--ioengine=psync"],
                       check=True, stdout=subprocess.DEVNULL, cwd=os.path.dirname(served.root))
    with open(path, "r+b") as f:
        f.seek(SIZE // 2)
        f.write(b"not what fio wrote")
    plain_tree(served)


def read(trees, engine, *options, name="good", root=None):
    """What fio says of the job, its status and what it complained of."""
    out = os.path.join(trees.tmp, "fio.json")
    command = ["fio", *JOB, f"--filename={root or trees.mount}/{name}", f"--ioengine={engine}",
               f"--output={out}", "--rw=randread", *options]
    done = subprocess.run([dz(), "run", "--", *command], env=trees.env, cwd=trees.tmp, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with open(out) as f:
        text = f.read()
    if "engine" in text + done.stdout and "not loadable" in text + done.stdout:
        raise Skip(f"this fio has no engine {engine}")
    jobs = json.loads(text[text.index("{\n"):])["jobs"] if "{\n" in text else []
    return sum(job["read"]["io_bytes"] for job in jobs), done.returncode, text + done.stdout


def reads_all(trees, engine, *options, size=SIZE):
    got, status, said = read(trees, engine, *options)
    assert status == 0 and got == size, (engine, got, status, said[-3000:])


def goes_as_locally_or_reads_all(trees, engine, *options):
    """An engine that this machine's kernel refuses is refused on a file too."""
    _, status, said = read(trees, engine, *options, root=trees.local)
    if status:
        raise Skip(f"{engine} does not work here: " + said.strip().splitlines()[0])
    reads_all(trees, engine, *options)


@test
def fio_finds_the_block_that_is_not_right(trees):
    _, status, said = read(trees, "psync", name="bad")
    assert status != 0 and "verify" in said, said


@test
def fio_reads_with_sync_psync_and_vsync(trees):
    reads_all(trees, "sync", "--rw=read")
    reads_all(trees, "psync")
    reads_all(trees, "vsync")


@test
def fio_reads_with_pvsync_and_pvsync2(trees):
    reads_all(trees, "pvsync")
    reads_all(trees, "pvsync2")


@test
def fio_reads_with_mmap(trees):
    reads_all(trees, "mmap")


@test
def fio_reads_with_libaio(trees):
    goes_as_locally_or_reads_all(trees, "libaio", "--iodepth=16")
    reads_all(trees, "libaio", "--iodepth=16", "--direct=1")


@test
def fio_reads_with_posixaio(trees):
    reads_all(trees, "posixaio", "--iodepth=8")


@test
def fio_reads_with_splice(trees):
    goes_as_locally_or_reads_all(trees, "splice", "--rw=read")


@test
def fio_reads_with_O_DIRECT(trees):
    reads_all(trees, "psync", "--direct=1")


@test
def fio_reads_in_four_processes_and_in_four_threads(trees):
    reads_all(trees, "psync", "--numjobs=4", size=4 * SIZE)
    reads_all(trees, "psync", "--numjobs=4", "--thread", size=4 * SIZE)


@test
def fio_with_raw_io_uring_reads_all_or_fails_with_EBADF(trees):
    _, status, _ = read(trees, "io_uring", "--iodepth=8", root=trees.local)
    if status:
        raise Skip("no io_uring here")
    got, status, said = read(trees, "io_uring", "--iodepth=8")
    assert (status == 0 and got == SIZE) or (status != 0 and "Bad file descriptor" in said), said[-2000:]


if __name__ == "__main__":
    if not shutil.which("fio"):
        print("no fio")
        sys.exit(77)
    with libshim.trees(make) as both:
        run_tests(tests_of(sys.modules[__name__]), both)
