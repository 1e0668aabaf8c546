#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 400
"""Do no harm: CPython's own tests of files, descriptors and processes go as well
with the library loaded as without, when nothing is mounted and when a mount is
there that nobody touches.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
from libblob import Skip, run_tests, test, tests_of  # noqa: E402

SUITES = ("test_os test_posix test_fcntl test_fileio test_mmap test_glob test_popen test_epoll test_stat "
          "test_tempfile test_posixpath test_genericpath test_pty test_ioctl").split()
LIB = os.path.join(os.environ["DZ_BUILD"], "libdeltazero.so")


def python_with_tests():
    """Debian keeps them in libpython3.11-testsuite."""
    homes = os.environ["PATH"].split(":") + glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin"))
    for python in [sys.executable, *(os.path.join(home, "python3") for home in homes)]:
        if os.path.exists(python) and not subprocess.call([python, "-c", "import test.test_os"],
                                                          stderr=subprocess.DEVNULL):
            return python
    return None


def failures(**env):
    """What did not go well: the names of suites and tests."""
    if not PYTHON:
        return None
    with tempfile.TemporaryDirectory() as tmp:
        done = subprocess.run([PYTHON, "-m", "test", *SUITES], cwd=tmp, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env={**os.environ, **env}, timeout=180)
    # Python before 3.11.5 counts suites only.
    ran = re.search(r"run=([0-9,]+)|^(\d+) tests OK", done.stdout, re.M)
    assert ran, done.stdout[-3000:]
    assert int((ran[1] or "501").replace(",", "")) > 500 and int(ran[2] or 13) >= 13, done.stdout[-3000:]
    return set(re.findall(r"^(?:FAIL|ERROR): .*|^test_\w+ failed.*", done.stdout, re.M)), ran[0]


def need(native):
    if native is None:
        raise Skip("no python with its tests: apt install libpython3.11-testsuite")


@test
def nothing_changes_when_nothing_is_mounted(native):
    need(native)
    assert failures(LD_PRELOAD=LIB) == native


@test
def nothing_changes_beside_a_mount_that_is_not_touched(native):
    need(native)
    mount = "/mnt/dz-test=http://127.0.0.1:9/devstoreaccount1/data"
    assert failures(LD_PRELOAD=LIB, DELTAZERO_MOUNT=mount) == native


if __name__ == "__main__":
    PYTHON = python_with_tests()
    run_tests(tests_of(sys.modules[__name__]), failures())
