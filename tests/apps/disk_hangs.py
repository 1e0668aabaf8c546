#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 180
"""A disk that takes no more writes (a frozen file system) holds nobody up: the job goes on
from Blob, gets the right bytes, and when the disk is back the tier is used again."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")
FILES = 40
# One line on its input, one digest of files [a, b) on its output.
PROGRAM = """
import hashlib, sys
for line in sys.stdin:
    first, last = map(int, line.split())
    digest = hashlib.sha256()
    for i in range(first, last):
        digest.update(open("%s/set/%02d" % (sys.argv[1], i), "rb").read())
    print(digest.hexdigest(), flush=True)
"""


class FileSystem:
    """ext4 on a loop device, to be frozen."""

    def __init__(self, top):
        self.at, image = top + "/fs", top + "/image"
        os.mkdir(self.at)
        self.is_frozen = False
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not shutil.which("fsfreeze"):
            raise libblob.Skip("not root, or no mkfs.ext4 or fsfreeze")
        with open(image, "wb") as f:
            f.truncate(256 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, self.at], stderr=subprocess.DEVNULL).returncode:
            raise libblob.Skip("no loop device to be had")

    def freeze(self, how):
        if subprocess.run(["fsfreeze", how, self.at], stderr=subprocess.DEVNULL).returncode:
            raise libblob.Skip("it cannot be frozen")
        self.is_frozen = how == "--freeze"

    def close(self):
        if self.is_frozen:
            subprocess.run(["fsfreeze", "--unfreeze", self.at])
        subprocess.run(["umount", "-l", self.at], stderr=subprocess.DEVNULL)


class Reader:
    def __init__(self, url, env):
        self.process = subprocess.Popen([DZ, "run", "-m", f"{MOUNT}={url}/data", "--", sys.executable, "-c", PROGRAM,
                                         MOUNT], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def digest(self, first, last):
        self.process.stdin.write(f"{first} {last}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def disk_used(env):
    out = subprocess.run([DZ, "stat", "--json"], env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)["disk"]["used"]


@libblob.test
def a_disk_that_hangs_holds_no_reader_up(_):
    top = tempfile.mkdtemp()
    fs = None
    try:
        fs = FileSystem(top)
        with libblob.serve() as served:
            data = [os.urandom(1_500_000 + 1000 * i) for i in range(FILES)]
            for i in range(FILES):
                served.write(f"data/set/{i:02}", data[i])
            env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                       DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=fs.at + "/cache",
                       DELTAZERO_DRAM_SIZE="32M", DELTAZERO_DISK_SIZE="128M")
            reader = Reader(served.url, env)

            def check(first, last):
                want = hashlib.sha256(b"".join(data[first:last])).hexdigest()
                assert reader.digest(first, last) == want, (first, last)

            check(0, 4)
            for _ in range(200):
                if disk_used(env) >= 4_000_000:
                    break
                time.sleep(0.05)
            fs.freeze("--freeze")
            before = disk_used(env)
            # Half of DRAM may wait for the disk; this is four times as much.
            check(4, FILES)
            # One that starts now is not held up either: to join takes no write.
            other, reader = reader, Reader(served.url, env)
            check(0, 8)
            reader.close()
            reader = other
            # One batch had its places already.
            assert disk_used(env) <= before + (9 << 20), (before, disk_used(env))
            fs.freeze("--unfreeze")
            for _ in range(400):
                if disk_used(env) >= before + (4 << 20):
                    break
                time.sleep(0.05)
                check(0, FILES)
            assert disk_used(env) >= before + (4 << 20), (before, disk_used(env))
            check(0, FILES)
            reader.close()
            subprocess.run([DZ, "purge", "--disk"], env=env, check=True)
    finally:
        if fs:
            fs.close()
        shutil.rmtree(top, ignore_errors=True)


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
