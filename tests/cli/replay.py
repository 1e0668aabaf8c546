#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz record and dz replay: a job's calls on a mount, again there and on a local copy."""
import collections
import json
import os
import re
import signal
import subprocess
import sys

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

JOB = """
import mmap, os, sys, threading, time
root = sys.argv[1]
def worker(n):
    for i in range(n, 60, 3):
        with open(f"{root}/many/{i}", "rb", buffering=0) as f: f.read()
        time.sleep(0.05)
    f = os.open(f"{root}/data/large.bin", os.O_RDONLY)
    for i in range(40): os.pread(f, 10000, i * 50000 + n)
    os.lseek(f, 3000000, 0)
    os.read(f, 4096)
    os.close(f)
threads = [threading.Thread(target=worker, args=(n,)) for n in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not os.path.exists(root + "/text/nothing")
os.listdir(root + "/tree")
if os.fork() == 0:
    f = open(root + "/text/lines.txt", "rb")
    mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)[1000:2000]
    os._exit(0)
os.wait()
"""


def dz(trees, *args):
    return subprocess.run([libblob.dz(), *args], env=trees.env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)


def recording(trees):
    path = os.path.join(trees.tmp, "job.rec")
    done = dz(trees, "record", "-o", path, "/usr/bin/python3", "-c", JOB, trees.mount)
    assert done.returncode == 0 and done.stderr == "", done
    return path


def replayed(trees, path, directory, *options):
    run = ["run", "--", libblob.dz()] if directory == trees.mount else []
    done = dz(trees, *run, "replay", "--json", *options, path, directory)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@libblob.test
def a_recording_has_names_and_places_and_no_content(trees):
    text = open(recording(trees), "rb").read()
    assert text.startswith(b"dz-record 1\n")
    assert b"of the file" not in text and trees.env["AZURE_STORAGE_KEY"].encode() not in text
    for name in (b" many/17\n", b" data/large.bin\n", b" text/lines.txt\n", b" tree\n", b" text/nothing\n"):
        assert name in text, name
    large = next(line.split()[1] for line in text.splitlines() if line.endswith(b" data/large.bin"))
    reads = [line.split() for line in text.splitlines() if line.split()[2:4] == [b"r", large]]
    assert {int(r[4]) for r in reads} == {i * 50000 + n for n in range(3) for i in range(40)} | {3000000}
    assert len(text.splitlines()) > 200 and sum(line.startswith(b"T ") for line in text.splitlines()) == 5


@libblob.test
def what_was_recorded_is_json_too(trees):
    path = os.path.join(trees.tmp, "json.rec")
    done = dz(trees, "record", "--json", "-o", path, "/usr/bin/python3", "-c", "print('its own')\n" + JOB, trees.mount)
    assert done.returncode == 0 and done.stderr == "", done
    own, answer = done.stdout.splitlines()
    answer = json.loads(answer)
    assert own == "its own" and answer["file"] == path and answer["missed"] == 0, done.stdout
    again = replayed(trees, path, trees.local, "--no-think")
    for key in ("threads", "calls", "bytes"):
        assert answer[key] == again[key], (key, answer, again)
    assert answer["paths"] == sum(line.startswith("P ") for line in open(path))
    # Beside the recording itself there is no place for it.
    done = dz(trees, "record", "--json", "true")
    assert done.returncode == 125 and "needs -o" in done.stderr, done


@libblob.test
def a_replay_reads_the_same_bytes_below_any_directory(trees):
    path = recording(trees)
    local, mount = (replayed(trees, path, d) for d in (trees.local, trees.mount))
    for key in ("threads", "calls", "bytes", "differ"):
        assert local[key] == mount[key], (key, local, mount)
    content = sum(os.path.getsize(f"{trees.local}/many/{i}") for i in range(60))
    mapped = os.path.getsize(trees.local + "/text/lines.txt")
    assert local["bytes"] == content + 3 * 40 * 10000 + 3 * 4096 + mapped, (local, content, mapped)


@libblob.test
def threads_think_as_long_as_the_job_did(trees):
    path = recording(trees)
    seconds = replayed(trees, path, trees.local)["seconds"]
    # Each of three has slept for a second; one after the other they would take three.
    assert 20 * 0.05 <= seconds < 3 * 20 * 0.05, seconds
    assert replayed(trees, path, trees.local, "--no-think")["seconds"] < 20 * 0.05


@libblob.test
def a_replay_has_the_threads_of_the_job(trees):
    path = recording(trees)
    out = os.path.join(trees.tmp, "replay.trace")
    done = dz(trees, "trace", "-qq", "-e", "trace=openat", "-o", out, libblob.dz(), "replay", "--no-think", path,
              trees.mount)
    assert done.returncode == 0, done
    opens = collections.Counter(re.findall(r'^(\d+) +openat\(.*many/\d+"', open(out).read(), re.M))
    # each of the three opened its own twenty
    assert list(opens.values()) == [20, 20, 20], opens


@libblob.test
def a_process_that_runs_already_is_recorded(trees):
    path = os.path.join(trees.tmp, "attached.rec")
    loop = subprocess.Popen([libblob.dz(), "run", "--", os.path.join(os.environ["DZ_BUILD"], "tests", "cli", "traced"),
                             "loop", trees.mount], env=trees.env, stdout=subprocess.PIPE)
    try:
        assert loop.stdout.readline() == b"ready\n"
        tracer = subprocess.Popen([libblob.dz(), "record", "-o", path, "-p", str(loop.pid)], env=trees.env)
        libblob.eventually(lambda: os.path.exists(path) and open(path).read().count(" r ") > 20)
        tracer.send_signal(signal.SIGINT)
        assert tracer.wait(20) == 0 and loop.poll() is None
    finally:
        loop.kill()
        loop.wait()
    again = replayed(trees, path, trees.local, "--no-think")
    assert again["threads"] == 1 and again["differ"] == 0 and again["bytes"] >= 20 * 1000, again


@libblob.test
def a_tree_that_differs_is_said(trees):
    path = recording(trees)
    done = dz(trees, "replay", path, "/tmp")
    assert done.returncode == 1 and "ended otherwise" in done.stdout, done


@libblob.test
def what_is_no_recording_is_refused(trees):
    path = os.path.join(trees.tmp, "bad")
    for text in ("", "hello\n", "dz-record 1\nP 1 x\n", "dz-record 1\n0 0 r 0 0 0 0\n",
                 "dz-record 1\nP 0 x\nT 0 1 0\n0 0 z 0 0 0 0\n"):
        open(path, "w").write(text)
        assert dz(trees, "replay", path, "/tmp").returncode == 125, text
    assert dz(trees, "replay", path + ".none", "/tmp").returncode == 125


EPOCHS = """
import os, random, sys
files = [os.open(f"{sys.argv[1]}/many/{i}", os.O_RDONLY) for i in range(50)]
large = os.open(sys.argv[1] + "/data/large.bin", os.O_RDONLY)
rnd = random.Random(7)
for epoch in range(6):
    rnd.shuffle(files)
    for f in files: os.pread(f, 100, 0)
    for off in range(0, 1 << 20, 4096): os.pread(large, 4096, off)
"""
BLOCK = 65536


def accesses_of(path):
    """The blocks that a recording reads, by the format's own description."""
    last, out = {}, []
    for line in open(path):
        word = line.split()
        if word[0].isdigit() and word[2] in "rm" and int(word[5]):
            first, end = int(word[4]) // BLOCK, (int(word[4]) + int(word[5]) - 1) // BLOCK
            for block in range(first, end + 1):
                if last.get(word[0]) != (word[3], block):
                    out.append((word[3], block))
                last[word[0]] = (word[3], block)
    return out


def lru_share(accesses, capacity):
    there, hits = {}, 0
    for block in accesses:
        hits += block in there
        there.pop(block, None)
        there[block] = True
        if len(there) > capacity:
            del there[next(iter(there))]
    return 100 * hits / len(accesses)


@libblob.test
def the_eviction_bench_reads_a_recording(trees):
    sim = os.path.join(os.environ["DZ_BUILD"], "tests", "bench", "evict_sim")
    path = trees.tmp + "/epochs.rec"
    done = dz(trees, "record", "-o", path, "/usr/bin/python3", "-c", EPOCHS, trees.mount)
    assert done.returncode == 0 and done.stderr == "", done
    accesses = accesses_of(path)
    assert len(accesses) == 6 * (50 + 16) and len(set(accesses)) == 50 + 16, accesses
    done = subprocess.run([sim, path, str(BLOCK)], stdout=subprocess.PIPE, text=True, timeout=60,
                          check=True)
    assert f"are {len(accesses)} accesses of {len(set(accesses))} blocks" in done.stdout, done.stdout
    lines = done.stdout.splitlines()
    names = next(line.split() for line in lines if line.split()[:2] == ["OPT", "LRU"])[:-2]
    rows = [line.replace(",", " ").split() for line in lines if " blocks, c=" in line]
    assert len(rows) == 6 and names[-1] == "ours", done.stdout
    for row in rows:
        share = dict(zip(names, map(float, row[3:])))
        assert len(share) == 8 and max(share.values()) == share["OPT"], row
        lru = lru_share(accesses, int(row[0]))
        assert abs(share["LRU"] - lru) < 0.06, (row, lru)
    assert share["OPT"] == share["LRU"] == round(100 * 5 / 6, 1), share
    bad = subprocess.run([sim, os.environ["DZ_TOP"] + "/LICENSE"], stderr=subprocess.PIPE,
                         text=True)
    assert bad.returncode == 2 and "line 1: not of a recording" in bad.stderr, bad


with libshim.trees() as both:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
