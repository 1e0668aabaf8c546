#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 240
"""Reading in order from the disk tier: small reads wait for few I/Os, and whatever a
reader does in between, no byte is wrong.  With io_uring and where that is denied."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")
PROGRAM = os.path.join(os.environ["DZ_BUILD"], "tests", "apps", "in_order")
DENY = [sys.executable, os.path.join(os.environ["DZ_TOP"], "tests", "apps", "libseccomp.py"), "425"]
# One of each kind: within a unit, of some blocks, and all of it more than DRAM.
SIZES = (1000, 110_001, 700_000, 5_000_000, 9_437_184, 20_000_123)
SEED = int(os.environ.get("KILL_SEED", "1"))


class Job:
    def __init__(self, served, top, disk):
        self.served, self.top, self.local = served, top, top + "/local"
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DRAM_SIZE="16M", DELTAZERO_DISK_SIZE=disk, DELTAZERO_METADATA_TTL="inf")
        os.mkdir(self.local)
        for i, size in enumerate(SIZES):
            data = os.urandom(size)
            served.write(f"data/set/{i}", data)
            with open(f"{self.local}/{i}", "wb") as f:
                f.write(data)

    def start(self, *command, before=()):
        return subprocess.Popen([DZ, "run", "-m", f"{MOUNT}={self.served.url}/data", "--", *before, *command],
                                env=self.env, stderr=subprocess.PIPE, text=True)

    def run(self, *command, before=()):
        with self.start(*command, before=before) as process:
            said = process.communicate(timeout=100)[1]
            assert process.returncode == 0, said

    def mixed(self, seed, readers):
        return [PROGRAM, "mixed", MOUNT + "/set", self.local, str(seed), str(readers)]

    def warm(self):
        """Until the disk has everything: what comes faster than it writes is left out."""
        for _ in range(50):
            for i in range(len(SIZES)):
                self.run(PROGRAM, "all", f"{MOUNT}/set/{i}", str(1 << 20))
            out = subprocess.run([DZ, "stat", "--json"], env=self.env, stdout=subprocess.PIPE, check=True)
            if json.loads(out.stdout)["disk"]["used"] >= sum(SIZES):
                return
        raise AssertionError("the disk tier does not take all of it")


def with_job(disk):
    def decorate(test):
        def wrapped(_):
            top = tempfile.mkdtemp(prefix="dz-order.")
            try:
                with libblob.serve() as served:
                    job = Job(served, top, disk)
                    test(job)
                    subprocess.run([DZ, "purge", "--disk"], env=job.env, check=True)
            finally:
                shutil.rmtree(top, ignore_errors=True)

        wrapped.__name__, wrapped.__module__ = test.__name__, test.__module__
        return libblob.test(wrapped)
    return decorate


@with_job("128M")
def small_reads_in_order_wait_for_few_ios(job):
    if not shutil.which("strace"):
        raise libblob.Skip("strace is not installed")
    job.warm()
    log, reads = job.top + "/strace", SIZES[5] // 8192
    for before in ((), DENY):
        job.run("strace", "-f", "-e", "trace=io_uring_enter,pread64", "-o", log, PROGRAM, "all", f"{MOUNT}/set/5",
                "8192", before=before)
        with open(log) as f:
            calls = len(re.findall(r"(?:io_uring_enter|pread64)\(", f.read()))
        # A unit of 256 KiB is sent and waited for; a block that DRAM takes is four of them.
        assert 16 < calls < reads / 6, (before, calls, reads)


@with_job("128M")
def whatever_readers_do_in_between_each_byte_is_right(job):
    job.warm()
    for before in ((), DENY):
        for seed, readers in ((SEED, 1), (SEED + 1, 1), (SEED + 2, 4)):
            job.run(*job.mixed(seed, readers), before=before)
        # As after a reboot: each block is then read whole once, and checked.
        subprocess.run([DZ, "purge"], env=job.env, check=True, stdout=subprocess.DEVNULL)
        job.run(*job.mixed(SEED + 3, 1), before=before)


@with_job("24M")
def bytes_are_right_while_others_take_the_places(job):
    job.run(*job.mixed(SEED, 1))
    others = [job.start(*job.mixed(SEED + k, 1 + k % 2), before=DENY if k == 2 else ()) for k in range(4)]
    said = [other.communicate(timeout=150)[1] for other in others]
    assert [other.returncode for other in others] == [0] * len(others), said


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
