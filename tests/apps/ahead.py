#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 120
"""What is fetched before it is asked for: a job that reads a whole directory waits
for few of its files and asks Blob once for each; one that reads a few files of many
asks for just those; a random read of a large blob asks for a small piece.
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
FILES = 800
READER = r"""
import os, random, sys
names = sorted(os.listdir(sys.argv[1]))
random.Random(3).shuffle(names)
for name in names[:int(sys.argv[2])]:
    data = open(os.path.join(sys.argv[1], name), "rb").read()
    assert data == name.encode() * 40, name
"""
IN_ORDER = READER.replace("random.Random(3).shuffle(names)\n", "")
SEEKER = r"""
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
order = random.Random(5)
for _ in range(int(sys.argv[2])):
    at = order.randrange(size // 4096) * 4096
    assert os.pread(fd, 4096, at) == (at // 4096).to_bytes(8, "little") * 512
"""


def run(served, code, *args):
    """Runs a cold job; returns `dz stat --json` of its cache."""
    with tempfile.TemporaryDirectory() as tmp:
        env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                   DELTAZERO_SHM_DIR=tmp + "/shm", DELTAZERO_CACHE_DIR=tmp + "/cache",
                   DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="64M")
        dz = os.path.join(os.environ["DZ_BUILD"], "dz")
        subprocess.run([dz, "run", "-m", f"{MOUNT}={served.url}/data", "--", sys.executable, "-c", code,
                        *map(str, args)], env=env, check=True, timeout=100)
        stat = json.loads(subprocess.run([dz, "stat", "--json"], env=env, check=True,
                                         capture_output=True).stdout)
        subprocess.run([dz, "purge", "--disk"], env=env, check=True)
        return stat


def gets(served):
    return [r for r in served.log() if r["op"] == "get"]


def fill(served):
    for i in range(FILES):
        name = f"file-{i:05}"
        served.write(f"data/set/{name}", name.encode() * 40)


@libblob.test
def a_job_that_reads_a_whole_directory_waits_for_few_of_its_files(_):
    with libblob.serve("--latency", "3") as served:
        fill(served)
        stat = run(served, READER, MOUNT + "/set", FILES)
        asked = [r["path"] for r in gets(served)]
        assert len(asked) == FILES and len(set(asked)) == FILES, len(asked)
        assert stat["misses"] < FILES / 2, stat["misses"]


def most_at_once(requests):
    events = sorted([(r["time"], 1) for r in requests] + [(r["time"] + r["ms"] / 1000, -1) for r in requests])
    now = most = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


@libblob.test
def a_job_that_reads_files_in_the_order_of_their_names_has_many_requests_on_the_way(_):
    """One thread; without it 7: the one waited for, and the factor of fetch_ahead.c."""
    with libblob.serve("--latency", "30", "--threads", "2") as served:
        fill(served)
        run(served, IN_ORDER, MOUNT + "/set", FILES)
        asked = [r["path"] for r in gets(served)]
        assert len(asked) == FILES and len(set(asked)) == FILES, len(asked)
        # The first hundred come by the factor alone.
        most = most_at_once(gets(served)[200:])
        assert most >= 24, most


@libblob.test
def a_job_that_reads_a_few_files_of_many_asks_for_just_those(_):
    with libblob.serve() as served:
        fill(served)
        run(served, READER, MOUNT + "/set", 10)
        assert len(gets(served)) == 10, len(gets(served))


@libblob.test
def random_small_reads_of_a_large_blob_ask_for_at_most_256_KiB_each(_):
    with libblob.serve() as served:
        pages = 64 * 256
        served.write("data/large", b"".join(i.to_bytes(8, "little") * 512 for i in range(pages)))
        run(served, SEEKER, MOUNT + "/large", 60)
        assert max(r["bytes"] for r in gets(served)) <= 256 * 1024
        assert sum(r["bytes"] for r in gets(served)) <= 60 * 256 * 1024


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
