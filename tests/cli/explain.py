#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz explain: where the blocks of a file are, and who has it open."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import libblob

MOUNT = "/mnt/dz-test"
MIB = 1 << 20


@contextlib.contextmanager
def cache(server):
    top = tempfile.mkdtemp(prefix="explain.")
    env = dict(os.environ, DELTAZERO_MOUNT=f"{MOUNT}={server.url}/data", DELTAZERO_DRAM_SIZE="64M",
               DELTAZERO_SHM_DIR=os.path.join(top, "shm"), DELTAZERO_DISK_SIZE="64M",
               DELTAZERO_CACHE_DIR=os.path.join(top, "cache"),
               AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY)
    try:
        yield env
    finally:
        dz(env, "purge", "--disk")
        shutil.rmtree(top, ignore_errors=True)


def dz(env, *args):
    return subprocess.run([libblob.dz(), *args], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)


def explain(env, what):
    done = dz(env, "explain", "--json", what)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@libblob.test
def nothing_is_cached_at_first_and_looking_fetches_nothing(server):
    with cache(server) as env:
        for _ in range(2):
            x = explain(env, MOUNT + "/big.bin")
            assert x["size"] == 5 * MIB + 123 and x["bytes"] == {
                "dram": 0, "disk": 0, "nowhere": x["size"]}, x
            assert x["is_current"] is True and x["etag"] == x["blob_etag"], x
            assert x["url"] == server.url + "/data/big.bin", x
            assert [(b["first"], b["last"]) for b in x["blocks"]] == [(0, 5)], x
        assert x["known_seconds"] is not None and x["open"] == []


@libblob.test
def it_says_since_when_a_block_is_there(server):
    with cache(server) as env:
        assert all(b["since_seconds"] is None for b in explain(env, MOUNT + "/big.bin")["blocks"])
        start = time.monotonic()
        assert dz(env, "run", "--", "cksum", MOUNT + "/big.bin").returncode == 0
        time.sleep(1.2)
        blocks = explain(env, MOUNT + "/big.bin")["blocks"]
        # The clock of the cache goes in steps of 4 ms.
        assert all(1.1 < b["since_seconds"] < time.monotonic() - start + 0.1 for b in blocks), blocks
        assert " s ago " in dz(env, "explain", MOUNT + "/big.bin").stdout


@libblob.test
def a_small_read_shows_its_pieces(server):
    with cache(server) as env:
        read = f"import os; f = os.open('{MOUNT}/big.bin', 0); os.pread(f, 100, 2 * {MIB} + 3 * 65536)"
        assert dz(env, "run", "--", sys.executable, "-c", read).returncode == 0
        x = explain(env, MOUNT + "/big.bin")
        block = [b for b in x["blocks"] if b["first"] == 2][0]
        assert block["last"] == 2 and block["dram_pieces"] >> 3 & 1, x
        assert not block["dram_whole"] and not block["disk"], x
        assert 0 < x["bytes"]["dram"] < MIB, x
        text = dz(env, "explain", MOUNT + "/big.bin").stdout
        assert "...#" in text and "the next reader of these waits for Blob" in text, text


@libblob.test
def what_is_read_more_often_is_shown_as_used_more(server):
    with cache(server) as env:
        for blk in (1, 3, 1, 1, 1):
            read = f"import os; f = os.open('{MOUNT}/big.bin', 0); os.pread(f, 100, {blk} * {MIB})"
            assert dz(env, "run", "--", sys.executable, "-c", read).returncode == 0
        used = {b["first"]: b["used"] for b in explain(env, MOUNT + "/big.bin")["blocks"]}
        assert used[1] > used[3] > 0 and used[0] == 0, used


@libblob.test
def a_warmed_file_is_in_memory_and_on_disk(server):
    with cache(server) as env:
        assert dz(env, "warm", MOUNT + "/big.bin").returncode == 0
        libblob.eventually(lambda: explain(env, MOUNT + "/big.bin")["bytes"]["disk"] == 5 * MIB + 123, 20)
        x = explain(env, MOUNT + "/big.bin")
        assert x["bytes"] == {"dram": x["size"], "disk": x["size"], "nowhere": 0}, x
        assert all(b["used"] > 0 for b in x["blocks"]), x
        # Without the memory tier it is on disk, not yet checked.
        dz(env, "purge")
        x = explain(env, MOUNT + "/big.bin")
        assert x["bytes"]["dram"] == 0 and x["bytes"]["disk"] == x["size"], x
        assert x["blocks"][0]["unverified"], x


@libblob.test
def a_process_that_has_it_open_is_named_and_its_descriptor_explained(server):
    with cache(server) as env:
        code = (f"import os, sys; f = os.open('{MOUNT}/big.bin', 0); os.read(f, 77); "
                "print(f, flush=True); sys.stdin.read()")
        p = subprocess.Popen([libblob.dz(), "run", "--", sys.executable, "-c", code], env=env,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        fd = int(p.stdout.readline())
        try:
            x = explain(env, MOUNT + "/big.bin")
            assert [(o["pid"], o["offset"]) for o in x["open"]] == [(p.pid, 77)], x
            y = explain(env, f"{p.pid}:{fd}")
            assert y["path"] == MOUNT + "/big.bin", y
            # A piece that nobody waited for may still be on its way.
            blocks = lambda what: [{**b, "since_seconds": 0} for b in explain(env, what)["blocks"]]
            libblob.eventually(lambda: blocks(f"{p.pid}:{fd}") == blocks(MOUNT + "/big.bin"))
            assert f"[{p.pid}] at offset 77" in dz(env, "explain", f"{p.pid}:{fd}").stdout
            other = dz(env, "explain", f"{p.pid}:1")
            assert other.returncode == 125 and "not a file of a mount" in other.stderr, other
        finally:
            p.stdin.close()
            p.wait()
        assert explain(env, MOUNT + "/big.bin")["open"] == []
        assert dz(env, "explain", f"{p.pid}:{fd}").returncode in (1, 125)


@libblob.test
def a_blob_that_changed_is_told(server):
    with cache(server) as env:
        server.write("data/changing", b"one")
        assert explain(env, MOUNT + "/changing")["is_current"] is True
        time.sleep(0.02)
        server.write("data/changing", b"three")
        x = explain(env, MOUNT + "/changing")
        assert x["is_current"] is False and x["etag"] != x["blob_etag"], x
        assert "dz refresh" in dz(env, "explain", MOUNT + "/changing").stdout


@libblob.test
def what_is_no_file(server):
    with cache(server) as env:
        assert dz(env, "explain", MOUNT + "/none").returncode == 1
        assert "directory" in dz(env, "explain", MOUNT).stderr
        assert dz(env, "explain", "/etc/passwd").returncode == 125
        assert dz(env, "explain").returncode == 125


with libblob.serve() as served:
    served.write("data/big.bin", os.urandom(5 * MIB + 123))
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), served)
