#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz warm, dz verify and dz refresh, against dz serve."""
import contextlib
import fcntl
import glob
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import libblob

MOUNT = "/mnt/dz-test"
MIB = 1 << 20
FILES = {"big.bin": 5 * MIB + 123, "dir/a.bin": 3 * MIB, "dir/sub/b.bin": 70000, "dir/empty": 0}


class Cache:
    """A cache of its own over the server."""

    def __init__(self, server, dram="64M", disk="256M"):
        self.server, self.top = server, tempfile.mkdtemp(prefix="warm.")
        self.env = dict(os.environ, DELTAZERO_MOUNT=f"{MOUNT}={server.url}/data",
                        DELTAZERO_SHM_DIR=os.path.join(self.top, "shm"),
                        DELTAZERO_CACHE_DIR=os.path.join(self.top, "cache"),
                        DELTAZERO_DRAM_SIZE=dram, DELTAZERO_DISK_SIZE=disk,
                        AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY)
        self.env.pop("LD_PRELOAD", None)

    def dz(self, *args, stdin=None):
        return subprocess.run([libblob.dz(), *args], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, input=stdin, timeout=60)

    def events(self, *args, stdin=None):
        done = self.dz(*args, stdin=stdin)
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode

    def gets(self):
        return sum(e["op"] == "get" and e["status"] in (200, 206) for e in self.server.log())

    def wait_for_disk(self, blocks):
        libblob.eventually(lambda: self.events("verify", "--json")[0][-1]["disk"]["good"] >= blocks, 20)


@contextlib.contextmanager
def cache(server, **sizes):
    c = Cache(server, **sizes)
    try:
        yield c
    finally:
        c.dz("purge", "--disk")
        shutil.rmtree(c.top, ignore_errors=True)


@libblob.test
def a_dry_run_counts_and_fetches_nothing(server):
    with cache(server) as c:
        before = c.gets()
        events, status = c.events("warm", "--dry-run", MOUNT)
        plan = events[-1]
        assert status == 0 and plan["event"] == "plan", events
        assert plan["files"] == len(FILES) and plan["bytes"] == sum(FILES.values()), plan
        # 6 blocks of big.bin, 3 of a.bin, 1 of b.bin.
        assert plan["gets"] == 10 and plan["lists"] == 3 and plan["cached_bytes"] == 0, plan
        assert abs(plan["price_usd"] - (10 * 0.005 + 3 * 0.05) / 10000) < 1e-6, plan
        assert c.gets() == before


@libblob.test
def warming_twice_fetches_once(server):
    with cache(server) as c:
        before = c.gets()
        events, status = c.events("warm", MOUNT)
        done = events[-1]
        assert status == 0 and done["event"] == "done", events
        assert done["fetched_bytes"] == sum(FILES.values()) and done["cached_bytes"] == 0, done
        assert done["requests"] >= 10, done
        assert c.gets() - before == 10, c.gets() - before
        before = c.gets()
        done = c.events("warm", MOUNT)[0][-1]
        assert done["fetched_bytes"] == 0 and done["cached_bytes"] == sum(FILES.values()), done
        assert c.gets() == before
        # And a program that reads asks for nothing more.
        read = c.dz("run", "--", "sha256sum", MOUNT + "/big.bin")
        want = subprocess.run(["sha256sum", os.path.join(server.root, "data/big.bin")],
                              stdout=subprocess.PIPE, text=True).stdout
        assert read.stdout.split()[0] == want.split()[0], read
        assert c.gets() == before


@libblob.test
def a_prefix_warms_what_is_below_it_only(server):
    with cache(server) as c:
        done = c.events("warm", MOUNT + "/dir/")[0][-1]
        assert done["files"] == 3 and done["fetched_bytes"] == 3 * MIB + 70000, done
        plan = c.events("warm", "-n", MOUNT)[0][-1]
        assert plan["cached_bytes"] == 3 * MIB + 70000 and plan["gets"] == 6, plan


@libblob.test
def a_url_warms_for_a_mount_of_the_same_container(server):
    with cache(server) as c:
        assert c.events("warm", server.url + "/data/dir")[1] == 0
        assert c.events("warm", "-n", MOUNT + "/dir")[0][-1]["gets"] == 0


@libblob.test
def a_list_names_files_absolutely_or_below_a_prefix(server):
    with cache(server) as c:
        done = c.events("warm", "-f", "-", stdin=f"{MOUNT}/dir/a.bin\n")[0][-1]
        assert done["files"] == 1 and done["fetched_bytes"] == 3 * MIB, done
        with open(os.path.join(c.top, "list"), "w") as f:
            f.write("sub/b.bin\n\na.bin\n")
        done = c.events("warm", "-f", os.path.join(c.top, "list"), MOUNT + "/dir")[0][-1]
        assert done["files"] == 2 and done["fetched_bytes"] == 70000, done
        assert c.dz("warm", "-f", "-", stdin="a.bin\n").returncode == 125


@libblob.test
def a_name_that_is_not_there_fails_and_the_others_are_fetched(server):
    with cache(server) as c:
        events, status = c.events("warm", "-f", "-", stdin=f"{MOUNT}/none\n{MOUNT}/dir/a.bin\n")
        assert status == 1 and events[-1]["failed_files"] == 1, events
        assert events[-1]["fetched_bytes"] == 3 * MIB, events
        assert c.dz("warm", MOUNT + "/none").returncode == 1
        assert c.dz("warm", "/etc").returncode == 125
        assert c.dz("warm").returncode == 125


@libblob.test
def verifying_looks_for_every_block_again(server):
    with cache(server) as c:
        done = c.events("warm", "--verify", MOUNT)[0][-1]
        assert done["missing_bytes"] == 0 and done["bad_blocks"] == 0, done
    # A cache that has no room for it says so.
    with cache(server, dram="8M", disk="0") as c:
        done = c.dz("warm", "--verify", MOUNT)
        end = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == 1 and end["missing_bytes"] > 0, done
        assert "more than the cache can hold" in done.stderr, done.stderr


@libblob.test
def a_terminal_gets_a_bar_with_rate_and_time_to_go(server):
    # One file after the other, each several looks at the bar long.
    with libblob.serve("--latency", "500", root=server.root) as slow, cache(slow) as c:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        p = subprocess.Popen([libblob.dz(), "warm", "-j", "1", MOUNT], env=c.env, stdout=slave, stderr=slave)
        os.close(slave)
        out = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 4096):
                out += chunk
        os.close(master)
        assert p.wait() == 0
        text = out.decode()
        assert "files: 8.1 MiB fetched" in text and "{" not in text, text
        for line in text.replace("\r", "\n").splitlines():
            assert len(line) <= 100 + 3, line
        bars = re.findall(r"\r\[(=*) *\] +(\d+) %  .+? of 8\.1 MiB  (\S+) (\S+)/s  ETA (\S.*?)  (\d)/4 files", text)
        shares = [int(bar[1]) for bar in bars]
        assert shares == sorted(shares) and 0 < shares[-1] <= 100, text
        assert all(bar[0] == "=" * len(bar[0]) and bool(bar[0]) == (int(bar[1]) > 5) for bar in bars), bars
        moving = [bar for bar in bars if 0 < int(bar[1]) < 100]
        assert moving and all(float(bar[2]) > 0 and bar[4][0].isdigit() for bar in moving), bars


@libblob.test
def elsewhere_there_are_lines_of_json_with_rate_and_time_to_go(server):
    with libblob.serve("--latency", "700", root=server.root) as slow, cache(slow) as c:
        *lines, done = c.events("warm", "-j", "1", MOUNT)[0]
        lines = [line for line in lines if line["event"] == "progress"]
        assert lines and done["event"] == "done", (lines, done)
        seen = [line["bytes"] for line in lines]
        assert seen == sorted(seen) and lines[-1]["bytes_total"] == sum(FILES.values()), lines
        for line in lines:
            if line["bytes"]:
                left = (line["bytes_total"] - line["bytes"]) / line["bytes_per_second"]
                assert abs(line["eta_seconds"] - left) < 0.2, line
        assert lines[-1]["bytes"] > 0, lines


@libblob.test
def an_interrupted_run_says_so_and_is_taken_up_again(server):
    with libblob.serve("--latency", "300", root=server.root) as slow, cache(slow) as c:
        p = subprocess.Popen([libblob.dz(), "warm", "-j", "1", MOUNT], env=c.env, text=True,
                             stdout=subprocess.PIPE)
        libblob.eventually(lambda: c.gets() > 0)
        p.send_signal(signal.SIGINT)
        out = p.communicate(timeout=20)[0]
        done = json.loads(out.splitlines()[-1])
        assert p.returncode == 130 and done["interrupted"], (p.returncode, out)
        before = done["fetched_bytes"]
        done = c.events("warm", MOUNT)[0][-1]
        assert done["fetched_bytes"] + done["cached_bytes"] == sum(FILES.values()), done
        assert done["cached_bytes"] >= before, (before, done)


@libblob.test
def verify_finds_a_flipped_byte_and_drops_its_block(server):
    with cache(server) as c:
        assert c.dz("warm", MOUNT + "/big.bin").returncode == 0
        c.wait_for_disk(6)
        assert c.dz("verify").returncode == 0
        flip_one_byte(c, server)
        events, status = c.events("verify", "--json")
        assert status == 1 and events[-1]["disk"]["bad"] == 1, events
        events, status = c.events("verify", "--json")
        assert status == 0 and events[-1]["disk"] == dict(events[-1]["disk"], bad=0), events
        # The memory tier is gone: what is read now comes from disk, and the bad block from Blob.
        c.dz("purge")
        read = c.dz("run", "--", "cmp", MOUNT + "/big.bin", os.path.join(server.root, "data/big.bin"))
        assert read.returncode == 0, read


def flip_one_byte(c, server):
    """Of the third block of big.bin, wherever it lies in the slab files."""
    with open(os.path.join(server.root, "data/big.bin"), "rb") as f:
        f.seek(2 * MIB)
        block = f.read(MIB)
    for path in glob.glob(os.path.join(c.top, "cache", "*", "slab.*")):
        with open(path, "r+b") as f:
            at = f.read().find(block)
            if at >= 0:
                f.seek(at + 777)
                f.write(bytes([block[777] ^ 1]))
                f.flush()
                os.fsync(f.fileno())
                return
    raise AssertionError("the block is in no slab file")


@libblob.test
def verify_without_a_cache_makes_none(server):
    with cache(server) as c:
        assert c.dz("verify").returncode == 0
        assert not os.path.exists(c.env["DELTAZERO_SHM_DIR"])


@libblob.test
def refresh_sees_a_change_and_a_removal(server):
    with cache(server) as c:
        server.write("data/changing", b"one")
        assert c.dz("run", "--", "cat", MOUNT + "/changing").stdout == "one"
        assert "unchanged" in c.dz("refresh", MOUNT + "/changing").stdout
        time.sleep(0.02)
        server.write("data/changing", b"three")
        assert c.dz("run", "--", "cat", MOUNT + "/changing").stdout == "one"  # within its time to live
        out = c.dz("refresh", MOUNT + "/changing").stdout
        assert "changed: ETag" in out and "3 -> 5 bytes" in out, out
        assert c.dz("run", "--", "cat", MOUNT + "/changing").stdout == "three"
        os.unlink(os.path.join(server.root, "data/changing"))
        gone = c.dz("refresh", MOUNT + "/changing")
        assert gone.returncode == 1 and "it was there before" in gone.stderr, gone
        assert "listed again" in c.dz("refresh", MOUNT).stdout


@libblob.test
def what_refresh_finds_is_json_too(server):
    with cache(server) as c:
        path, data = MOUNT + '/a "quoted" name', 'data/a "quoted" name'
        server.write(data, b"one")
        (first,) = json.loads(c.dz("refresh", "--json", path).stdout)
        assert (first["name"], first["state"], first["size"]) == (path, "unchanged", 3), first
        time.sleep(0.02)
        server.write(data, b"three")
        done = c.dz("refresh", "--json", path, MOUNT, MOUNT + "/nothing")
        changed, listed, missing = json.loads(done.stdout)
        assert done.returncode == 1 and "nothing" in done.stderr, done
        assert changed["state"] == "changed" and changed["size"] == 5, changed
        assert changed["before"] == {"etag": first["etag"], "size": 3}, (first, changed)
        assert changed["etag"] != first["etag"] and "before" not in first, (first, changed)
        assert listed == {"name": MOUNT, "state": "listed"}, listed
        assert missing["state"] == "missing" and missing["error"] and "etag" not in missing, missing
        os.unlink(os.path.join(server.root, data))
        done = c.dz("refresh", "--json", path)
        assert done.returncode == 1 and json.loads(done.stdout)[0]["state"] == "gone", done
        server.write(data, b"again")
        assert json.loads(c.dz("refresh", "--json", path).stdout)[0]["state"] == "new"
        os.unlink(os.path.join(server.root, data))
        # A mistake is no answer.
        done = c.dz("refresh", "--json", "/etc")
        assert done.returncode == 125 and done.stdout == "", done


with libblob.serve() as served:
    for file_name, size in FILES.items():
        served.write("data/" + file_name, os.urandom(size))
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), served)
