#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 240
"""Errors are answers: each trouble gives the program the right errno and the log one
clear line, never a crash, a hang or a wrong byte; where only the cache cannot
work, the job still gets its bytes.
"""
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
CONTENT = random.Random(3).randbytes(3_000_000)
KEY_ENV = {"AZURE_STORAGE_ACCOUNT": libblob.ACCOUNT, "AZURE_STORAGE_KEY": libblob.KEY}
# Prints the errno of opening and reading, or the digest of the bytes.
READER = r"""
import errno, hashlib, sys
try:
    with open(sys.argv[1], "rb") as f:
        print(hashlib.md5(f.read()).hexdigest())
except OSError as e:
    print(errno.errorcode[e.errno])
"""


class Result:
    def __init__(self, answer, log):
        self.status, self.log = answer.returncode, log
        self.out = answer.stdout.strip()

    def __repr__(self):
        return f"status {self.status}, output {self.out!r}, log {self.log!r}"


def read(url, name="file", wrapper=(), **settings):
    """What a program gets that reads `name` below a mount of `url`; an empty cache."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="dz-test.") as shm, \
            tempfile.TemporaryDirectory() as cache:
        log = os.path.join(cache, "log")
        env = dict(os.environ, DELTAZERO_SHM_DIR=shm, DELTAZERO_CACHE_DIR=os.path.join(cache, "c"),
                   DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="64M", DELTAZERO_MOUNT=f"{MOUNT}={url}",
                   DELTAZERO_LOG=f"warn:{log}", **KEY_ENV)
        env.update(settings)
        env = {k: v for k, v in env.items() if v is not None}
        command = [sys.executable, "-c", READER, os.path.join(MOUNT, name)]
        preload = f"LD_PRELOAD={os.path.join(os.environ['DZ_BUILD'], 'libdeltazero.so')}"
        answer = subprocess.run([*wrapper, "env", preload, *command], env=env, stdout=subprocess.PIPE,
                                text=True, timeout=100)
        lines = open(log).read() if os.path.exists(log) else ""
        subprocess.run([libblob.dz(), "purge"], env=env)
        return Result(answer, lines)


def expect_error(result, error, *words, lines=3):
    assert result.status == 0 and result.out == error, result
    assert 1 <= len(result.log.splitlines()) <= lines, result
    for word in words:
        assert word in result.log, result
    assert libblob.KEY not in result.log, "the key is in the log"


def expect_bytes(result):
    assert result.status == 0 and result.out == hashlib.md5(CONTENT).hexdigest(), result


def kill_after_the_listing(served):
    libblob.eventually(lambda: any(e["op"] == "list" for e in served.log()), 20)
    time.sleep(0.5)
    served.process.kill()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@libblob.test
def a_blob_that_is_not_there_is_ENOENT(served):
    result = read(served.url + "/data", "nothing")
    assert result.out == "ENOENT" and result.log == "", result


@libblob.test
def a_container_that_is_not_there_is_ENOENT(served):
    expect_error(read(served.url + "/nothing"), "ENOENT", "nothing")


@libblob.test
def a_wrong_key_is_EACCES(served):
    wrong = libblob.KEY.replace("Eby", "Abc")
    expect_error(read(served.url + "/data", AZURE_STORAGE_KEY=wrong), "EACCES", "403")


@libblob.test
def an_expired_sas_is_EACCES(served):
    sas = served.client.service_sas("data", sp="rl", se=libblob.utc(-60))
    result = read(f"{served.url}/data?{sas}", AZURE_STORAGE_KEY=None, AZURE_STORAGE_ACCOUNT=None)
    expect_error(result, "EACCES", "403")
    assert sas.split("sig=")[1] not in result.log, "the signature is in the log"


@libblob.test
def a_host_that_does_not_answer_is_EIO(served):
    port = free_port()
    expect_error(read(f"http://127.0.0.1:{port}/{libblob.ACCOUNT}/data"), "EIO", str(port))


@libblob.test
def a_server_that_goes_away_in_the_middle_is_EIO(_):
    # Each GET takes six seconds; the server goes half a second after the listing.
    with libblob.serve(faults="op=get action=drip:500000\n") as served:
        served.write("data/file", CONTENT)
        killer = threading.Thread(target=kill_after_the_listing, args=(served,))
        killer.start()
        result = read(served.url + "/data")
        killer.join()
        assert served.process.wait() == -signal.SIGKILL
        # One for each of the three blocks that were on their way, and one for the read.
        expect_error(result, "EIO", lines=4)


@libblob.test
def a_malformed_mount_leaves_the_program_alone(served):
    result = read("x", DELTAZERO_MOUNT="nonsense")
    expect_error(result, "ENOENT", "DELTAZERO_MOUNT", "nonsense")


@libblob.test
def a_cache_directory_that_cannot_be_written_does_not_stop_the_job(served):
    result = read(served.url + "/data", DELTAZERO_CACHE_DIR="/dev/null/cache")
    expect_bytes(result)
    assert "/dev/null/cache" in result.log, result


@libblob.test
def no_shared_memory_does_not_stop_the_job(served):
    expect_bytes(read(served.url + "/data", DELTAZERO_SHM_DIR="/dev/null/shm",
                      DELTAZERO_CACHE_DIR="/dev/null/cache"))


@libblob.test
def shared_memory_of_16_MiB_does_not_stop_the_job(served):
    with tempfile.TemporaryDirectory() as small:
        mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16m none "$0" && exec "$@"', small]
        if subprocess.run([*mount, "true"], stderr=subprocess.DEVNULL).returncode:
            raise libblob.Skip("no namespace of our own")
        expect_bytes(read(served.url + "/data", wrapper=mount, DELTAZERO_SHM_DIR=small))


@libblob.test
def without_io_uring_the_job_goes_on(served):
    here = os.path.dirname(os.path.abspath(__file__))
    expect_bytes(read(served.url + "/data", DELTAZERO_DRAM_SIZE="32M",
                      wrapper=[sys.executable, os.path.join(here, "libseccomp.py"), "425", "426", "427"]))


@libblob.test
def without_an_agent_the_job_fetches_itself(served):
    expect_bytes(read(served.url + "/data", DELTAZERO_FETCH="inline"))


with libblob.serve() as server:
    server.write("data/file", CONTENT)
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), server)
