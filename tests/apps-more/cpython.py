#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 700
"""CPython's own tests of reading, processes and trees go as well with the library
loaded, beside a mount that nobody touches, as without (tests/shim/harmless.py has
the short ones).
"""
import os
import re
import subprocess
import sys
import tempfile

from libmore import HERE, LIB, Skip
from libblob import run_tests, test, tests_of

sys.path.insert(0, os.path.join(HERE, "..", "shim"))
from harmless import python_with_tests  # noqa: E402

MOUNT = "/mnt/dz-test=http://127.0.0.1:9/devstoreaccount1/data"

# What hands descriptors and memory to others; the rest is semaphores, and sleeps for minutes.
MULTIPROCESSING = ("TestProcess", "Connection", "SharedMemory", "TestCloseFds", "TestPoll", "Subclassing", "TestStdin",
                   "TestFlags")


def failures(suites, **env):
    """The names of the tests that did not go well, twice."""
    with tempfile.TemporaryDirectory() as tmp:
        done = subprocess.run([PYTHON, "-m", "test", "-w", "-j3", *suites], cwd=tmp, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env={**os.environ, **env}, timeout=500)
    assert "Tests result: " in done.stdout and not re.search(r"tests? skipped:", done.stdout), done.stdout[-3000:]
    bad = re.findall(r"^(?:FAIL|ERROR): .*|^test_\w+ failed.*", done.stdout, re.M)
    return set(bad) if done.returncode else set()


def goes_as_well(*suites):
    """What fails is looked at again without the library, which most often is not needed."""
    if not PYTHON:
        raise Skip("no python with its tests: apt install libpython3.11-testsuite")
    loaded = failures(suites, LD_PRELOAD=LIB, DELTAZERO_MOUNT=MOUNT)
    if loaded:
        assert not loaded - failures(suites), loaded


@test
def CPython_tests_of_io_go_as_well_with_the_library():
    goes_as_well("test_io")


@test
def CPython_tests_of_subprocess_go_as_well_with_the_library():
    goes_as_well("test_subprocess")


@test
def CPython_tests_of_trees_and_archives_go_as_well_with_the_library():
    goes_as_well("test_shutil", "test_pathlib", "test_zipfile", "test_tarfile", "test_tempfile", "test_fileinput",
                 "test_file", "test_largefile")


@test
def CPython_tests_of_multiprocessing_go_as_well_with_the_library():
    goes_as_well("test_multiprocessing_fork", "test_multiprocessing_spawn", "test_multiprocessing_forkserver",
                 *sum((["-m", f"*{what}*"] for what in MULTIPROCESSING), []))


if __name__ == "__main__":
    PYTHON = python_with_tests()
    run_tests(tests_of(sys.modules[__name__]))
