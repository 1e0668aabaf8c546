#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 120
"""One cache for several containers: mount and PID namespaces of their own over the
same two directories share it; another user does not; one that may only read the
shared memory reads what is there, and fetches the rest for itself.
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
CONTENT = os.urandom(3_000_000)
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")


def can_unshare():
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


class Cache:
    def __init__(self, served, top):
        self.served = served
        self.top = top
        os.chmod(top, 0o755)
        for name in ("shm", "cache"):
            os.mkdir(f"{top}/{name}")
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="0")

    def read(self, name, *container, setup="", env=None):
        """Bytes of a file, read in a container (the words before the shell)."""
        command = f"{setup} exec {DZ} run -m {MOUNT}={self.served.url}/data -- cat {MOUNT}/{name}"
        run = subprocess.run([*container, "sh", "-c", command], env=env or self.env, capture_output=True,
                             timeout=60)
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout

    def gets(self):
        return len([r for r in self.served.log() if r["op"] == "get"])

    def purge(self):
        subprocess.run([DZ, "purge", "--disk"], env=self.env, check=True)


def with_cache(test):
    def wrapped(_):
        if not can_unshare():
            raise libblob.Skip("namespaces need root")
        # Not below a directory that only root may search: another user is to reach it.
        top = tempfile.mkdtemp(dir="/tmp")
        try:
            with libblob.serve() as served:
                served.write("data/file", CONTENT)
                served.write("data/other", CONTENT[::-1])
                cache = Cache(served, top)
                test(cache)
                cache.purge()
        finally:
            shutil.rmtree(top)

    wrapped.__name__ = test.__name__
    wrapped.__module__ = test.__module__
    return libblob.test(wrapped)


NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")


@with_cache
def containers_with_other_process_numbers_share_a_cache(cache):
    assert cache.read("file", *NAMESPACES) == CONTENT
    asked = cache.gets()
    assert asked == 3, asked
    assert cache.read("file", *NAMESPACES) == CONTENT
    assert cache.read("file") == CONTENT
    assert cache.gets() == asked


@with_cache
def another_user_does_not_share(cache):
    assert cache.read("file") == CONTENT
    asked = cache.gets()
    os.chmod(cache.top + "/shm", 0o777)
    os.chmod(cache.top + "/cache", 0o777)
    other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if subprocess.run([*other, "test", "-x", DZ]).returncode != 0:
        raise libblob.Skip("the build directory is closed to other users")
    assert cache.read("file", *other) == CONTENT
    assert cache.gets() == 2 * asked
    subprocess.run([*other, DZ, "purge", "--disk"], env=cache.env, check=True)


@with_cache
def a_container_that_may_only_read_the_memory_reads_what_is_there(cache):
    assert cache.read("file") == CONTENT
    asked = cache.gets()
    read_only = f"mount --bind {cache.top}/shm {cache.top}/shm && mount -o remount,bind,ro {cache.top}/shm &&"
    assert cache.read("file", *NAMESPACES, setup=read_only) == CONTENT
    assert cache.gets() == asked
    assert cache.read("other", *NAMESPACES, setup=read_only) == CONTENT[::-1]
    assert cache.gets() > asked


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
