#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 180
"""Names: a directory costs its List pages and nothing else, however many ask; what
changes in Blob is seen after the time to live, or at once after `dz refresh`, and
an open file never mixes two versions.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")
MANY = 12_000


class Job:
    def __init__(self, served, top, ttl="60"):
        self.served = served
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="64M", DELTAZERO_METADATA_TTL=ttl,
                        DELTAZERO_MOUNT=f"{MOUNT}={served.url}/data")

    def start(self, code, *args):
        return subprocess.Popen([DZ, "run", "--", sys.executable, "-c", code, *map(str, args)], env=self.env,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, code, *args):
        process = self.start(code, *args)
        out = process.communicate(timeout=100)[0]
        assert process.returncode == 0, process.returncode
        return out

    def asked(self):
        """Requests by operation, without the probes of the mount's root."""
        counts = {}
        for r in self.served.log():
            counts[r["op"]] = counts.get(r["op"], 0) + 1
        return counts


def with_job(ttl="60"):
    def decorate(test):
        def wrapped(_):
            with tempfile.TemporaryDirectory() as top, libblob.serve() as served:
                job = Job(served, top, ttl)
                test(job)
                subprocess.run([DZ, "purge", "--disk"], env=job.env, check=True)

        wrapped.__name__ = test.__name__
        wrapped.__module__ = test.__module__
        return libblob.test(wrapped)

    return decorate


def make_many(served):
    folder = os.path.join(served.root, "data", "many")
    os.makedirs(folder)
    for i in range(MANY):
        with open(f"{folder}/{i:06}", "wb") as f:
            f.write(b"x" * (i % 50))


@with_job()
def a_directory_costs_its_list_pages_and_stats_afterwards_nothing(job):
    make_many(job.served)
    job.run("import os,sys\nnames = os.listdir(sys.argv[1])\nassert len(set(names)) == int(sys.argv[2]), len(names)\n"
            "for n in names: assert os.stat(sys.argv[1] + '/' + n).st_size == int(n) % 50\n", MOUNT + "/many", MANY)
    asked = job.asked()
    # Three pages of 5,000, and the root's, which says that `many` is a directory.
    assert asked == {"list": 4}, asked


@with_job()
def a_storm_of_stats_is_one_listing(job):
    for i in range(200):
        job.served.write(f"data/set/{i}", b"x")
    code = ("import os,sys\nfor i in range(200): os.stat(f'{sys.argv[1]}/{i}')\n"
            "try: os.stat(sys.argv[1] + '/none')\nexcept FileNotFoundError: pass\n")
    jobs = [job.start(code, MOUNT + "/set") for _ in range(8)]
    assert all(j.wait(60) == 0 for j in jobs)
    asked = job.asked()
    assert asked["list"] <= 2 and set(asked) == {"list"}, asked


@with_job()
def one_name_of_a_long_directory_does_not_wait_for_its_end(job):
    make_many(job.served)
    job.run("import os,sys\nassert os.stat(sys.argv[1]).st_size == 49\n", f"{MOUNT}/many/011999")
    asked = job.asked()
    assert asked.get("head", 0) <= 1 and asked["list"] <= 5, asked


@with_job(ttl="1")
def a_change_is_seen_after_the_time_to_live(job):
    job.served.write("data/a", b"old")
    process = job.start("import os,sys,time\np = sys.argv[1]\nprint(open(p).read(), flush=True)\ninput()\n"
                        "time.sleep(2.2)\nprint(open(p).read(), sorted(os.listdir(os.path.dirname(p))))\n", MOUNT + "/a")
    assert process.stdout.readline().strip() == "old"
    time.sleep(0.05)
    job.served.write("data/a", b"new and longer")
    job.served.write("data/b", b"b")
    out = process.communicate("\n", timeout=60)[0]
    assert out.strip() == "new and longer ['a', 'b']", out


@with_job(ttl="inf")
def a_refresh_shows_a_change_at_once(job):
    job.served.write("data/a", b"old")
    read = "import sys\nprint(open(sys.argv[1]).read(), end='')\n"
    assert job.run(read, MOUNT + "/a") == "old"
    time.sleep(0.05)
    job.served.write("data/a", b"newer")
    assert job.run(read, MOUNT + "/a") == "old"
    subprocess.run([DZ, "refresh", MOUNT + "/a"], env=job.env, check=True)
    assert job.run(read, MOUNT + "/a") == "newer"


@with_job()
def an_open_file_never_mixes_two_versions(job):
    job.served.write("data/a", b"1" * 5_000_000)
    code = ("import os,sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nassert set(os.pread(fd, 65536, 0)) == {49}\n"
            "print('read', flush=True)\ninput()\nseen = set()\nerrors = 0\n"
            "for at in range(0, 5_000_000, 65536):\n"
            "    try: seen |= set(os.pread(fd, 65536, at))\n"
            "    except OSError as e: errors += 1; assert e.errno == 5\n"
            "print(sorted(seen), errors > 0)\n"
            "print(set(open(sys.argv[1], 'rb').read()))\n")
    process = job.start(code, MOUNT + "/a")
    assert process.stdout.readline().strip() == "read"
    time.sleep(0.05)
    job.served.write("data/a", b"2" * 5_000_000)
    out = process.communicate("\n", timeout=100)[0]
    assert out.split("\n")[:2] == ["[49] True", "{50}"], out


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
