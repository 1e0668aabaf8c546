#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 170
"""Eviction in the real engine: a job that reads its data set in a new order every
epoch, with room for half of it, hits nearly as often as can be (as often as the
cache is large); after a switch to another data set too; and a small hot set stays.
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")
BLOCK = 1 << 20
SIMULATED = 0.955
# Prints, for each epoch, what was read and what of it came from memory.
EPOCHS = r"""
import os, random, subprocess, json, sys
dz, epochs, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
names = sorted(os.listdir(folder))
order = random.Random(11)
def dram():
    stat = json.loads(subprocess.run([dz, "stat", "--json"], capture_output=True, check=True).stdout)
    return stat["hits"]["dram"], stat["misses"]
for epoch in range(epochs):
    before = dram()
    order.shuffle(names)
    for name in names:
        with open(os.path.join(folder, name), "rb", buffering=0) as f:
            assert f.read(1 << 20)[:8] == name.encode().ljust(8, b"-")[:8]
    after = dram()
    print(after[0] - before[0], after[1] - before[1], flush=True)
"""


class Job:
    def __init__(self, served, top, dram):
        self.served = served
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DRAM_SIZE=str(dram), DELTAZERO_DISK_SIZE="0", DELTAZERO_METADATA_TTL="inf")

    def epochs(self, n, folder):
        """Hit share of each epoch."""
        run = subprocess.run([DZ, "run", "-m", f"{MOUNT}={self.served.url}/data", "--", sys.executable, "-c", EPOCHS,
                              DZ, str(n), MOUNT + "/" + folder], env=self.env, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        lines = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
        return [hits / (hits + misses) for hits, misses in lines]

    def room(self):
        """Blocks of 1 MiB that DRAM holds."""
        stat = json.loads(subprocess.run([DZ, "stat", "--json"], env=self.env, capture_output=True,
                                         check=True).stdout)
        return stat["dram"]["size"] // BLOCK


def with_job(test):
    def wrapped(_):
        with tempfile.TemporaryDirectory() as top, libblob.serve() as served:
            for folder in ("a", "b"):
                for i in range(160):
                    name = f"{folder}{i:03}"
                    served.write(f"data/{folder}/{name}", name.encode().ljust(8, b"-") + bytes(BLOCK - 8))
            job = Job(served, top, 85 * BLOCK)
            test(job)
            subprocess.run([DZ, "purge", "--disk"], env=job.env, check=True)

    wrapped.__name__ = test.__name__
    wrapped.__module__ = test.__module__
    return libblob.test(wrapped)


@with_job
def shuffled_epochs_hit_nearly_as_often_as_can_be(job):
    shares = job.epochs(12, "a")[4:]
    best = job.room() / 160
    share = sum(shares) / len(shares)
    # `make bench-eviction` has 0.955 of the optimum here; within two points of it.
    assert SIMULATED * best - 0.02 <= share <= best + 0.02, (share, best, shares)


@with_job
def a_switch_to_another_data_set_is_followed(job):
    job.epochs(6, "a")
    shares = job.epochs(6, "b")
    best = job.room() / 160
    assert sum(shares[2:]) / len(shares[2:]) >= 0.9 * best, (shares, best)


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
