#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz top as text, as JSON, and on a real terminal (tmux)."""
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

TRACED = os.path.join(os.environ["DZ_BUILD"], "tests", "cli", "traced")
READER = """
import os
f = os.open("%s/data/large.bin", os.O_RDONLY)
print("ready", flush=True)
while True:
    if not os.read(f, 100000): os.lseek(f, 0, 0)
"""


class Reader:
    def __init__(self, trees):
        self.process = subprocess.Popen([libblob.dz(), "run", "--", "/usr/bin/python3", "-c",
                                         READER % trees.mount], env=trees.env, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self.process.pid

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def top(trees, *args):
    return subprocess.run([libblob.dz(), "top", *args], env=trees.env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30)


@libblob.test
def without_a_cache_it_says_so_and_makes_none(trees):
    done = top(trees, "-b", "-n", "1", "-d", "0.1")
    assert done.stdout.startswith("no cache") and done.returncode == 0, done
    assert os.listdir(trees.env["DELTAZERO_SHM_DIR"]) == []


@libblob.test
def a_reader_is_shown_with_its_rate_tiers_and_file(trees):
    with Reader(trees) as pid:
        blocks = top(trees, "-b", "-n", "2", "-d", "0.5").stdout.split("\n\ndz top - ")
        assert len(blocks) == 2, blocks
        row = re.search(rf"^ +{pid} +(\S+) +([0-9.]+) (\S+)/s +100\.0 .* 1 python3$", blocks[1], re.M)
        assert row and row[3] in ("MiB", "GiB"), blocks[1]
        file = re.search(r"^ +[0-9.]+ (\S+)/s +3\.0 MiB +\d+\.\d +1 data/large\.bin$", blocks[1], re.M)
        assert file and file[1] in ("MiB", "GiB"), blocks[1]


@libblob.test
def what_it_shows_is_what_stat_counts(trees):
    stat = lambda: json.loads(subprocess.run([libblob.dz(), "stat", "--json"], env=trees.env,
                                             stdout=subprocess.PIPE).stdout)["calls"]
    with Reader(trees) as pid:
        # The reader is as fast as the machine lets it be: what top saw in its second is a part,
        # and no small one, of what stat sees around it.
        before = stat()
        line = json.loads(top(trees, "--json", "-n", "1", "-d", "1").stdout)
        seen, between = line["calls_per_s"] * line["seconds"], stat() - before
        assert between / 10 < seen < between * 1.01, (seen, between)
        process = next(p for p in line["processes"] if p["pid"] == pid)
        assert process["bytes_per_s_by_tier"]["dram"] > 1e6 and process["comm"] == "python3", process
        assert line["files"][0]["name"] == "data/large.bin", line["files"]


# Twice as much of one as of the other: in small reads, in large ones, of files that stay open
# and of one that does not.
TWO_FILES = """
import os
root = "%s"
a, b = (os.open(root + name, os.O_RDONLY) for name in ("/data/large.bin", "/data/words.csv"))
os.pread(a, 1 << 22, 0), os.pread(b, 1 << 22, 0)
print("ready", flush=True)
size = %d
while True:
    for i in range(4000):
        os.pread(a, size, i %% 8 * size)
        i %% 2 or os.pread(b, size, i %% 4 * size)
    c = os.open(root + "/text/lines.txt", os.O_RDONLY)
    os.read(c, 80000)
    os.close(c)
"""


def is_fair(line):
    """Twice as much, and all files together are what the process has read."""
    rates = {f["name"]: f["bytes_per_s"] for f in line["files"]}
    # what the descriptions of a file that was closed have counted was not lost
    return (rates.get("text/lines.txt", 0) > 0 and
            1.6 < rates["data/large.bin"] / rates["data/words.csv"] < 2.5 and
            0.6 < sum(rates.values()) / line["bytes_per_s"] < 1.1)


@libblob.test
def files_are_in_the_order_of_their_bytes(trees):
    for size in (1000, 10000, 70000):
        job = subprocess.Popen([libblob.dz(), "run", "--", "/usr/bin/python3", "-c",
                                TWO_FILES % (trees.mount, size)], env=trees.env, stdout=subprocess.PIPE)
        try:
            assert job.stdout.readline() == b"ready\n"
            # The counters are read one after the other: in between, the machine may be busy elsewhere.
            for _ in range(5):
                line = json.loads(top(trees, "--json", "-n", "1", "-d", "1").stdout)
                if is_fair(line):
                    break
        finally:
            job.kill()
            job.wait()
        assert is_fair(line), (size, line["files"], line["bytes_per_s"])
        assert line["files"] == sorted(line["files"], key=lambda f: -f["bytes_per_s"]), line["files"]


WORKERS = """
import os, time
f = os.open("%s/text/lines.txt", os.O_RDONLY)
for _ in range(2):
    if os.fork() == 0: break
else: print("ready", flush=True)
while True:
    os.pread(f, 10, 0)
    time.sleep(0.01)
"""


@libblob.test
def workers_appear_under_their_parent(trees):
    job = subprocess.Popen([libblob.dz(), "run", "--", "/usr/bin/python3", "-c", WORKERS % trees.mount],
                           env=trees.env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert job.stdout.readline() == "ready\n"
        with Reader(trees) as other:
            libblob.eventually(lambda: len(parents(trees)) == 4)
            of = parents(trees)
            workers = {pid for pid, parent in of.items() if parent == job.pid}
            assert len(workers) == 2 and of[job.pid] == 0 and of[other] == 0, (of, job.pid)
            text = top(trees, "-b", "-n", "1", "-d", "0.2").stdout
            rows = re.findall(r"^ +(\d+) .* \d+ +(\\_ )?python3$", text, re.M)
            place = rows.index((str(job.pid), ""))
            assert {int(pid) for pid, mark in rows[place + 1:place + 3] if mark} == workers, text
    finally:
        os.killpg(job.pid, 9)
        job.wait()


def parents(trees):
    line = json.loads(top(trees, "--json", "-n", "1", "-d", "0.1").stdout)
    return {p["pid"]: p["parent"] for p in line["processes"] if p["comm"] == "python3"}


LARGE = 24 << 20  # three times what there is memory for
FAULTS = """
match=*/large.bin op=get nth=2 count=2 action=status:503
match=*/refused.bin op=get action=status:403
"""


@libblob.test
def what_comes_from_blob_is_shown_with_its_waiting_errors_and_evictions(trees):
    with libblob.serve("--latency", "10", faults=FAULTS) as served:
        served.write("data/data/large.bin", bytes(LARGE))
        served.write("data/refused.bin", bytes(1 << 20))
        other = copy.copy(trees)
        other.env = dict(trees.env, DELTAZERO_MOUNT=f"{trees.mount}={served.url}/data", DELTAZERO_DRAM_SIZE="8M",
                         DELTAZERO_DISK_SIZE="0", DELTAZERO_SHM_DIR=os.path.join(trees.tmp, "shm-of-blob"))
        try:
            refused = subprocess.run([libblob.dz(), "run", "--", "cat", trees.mount + "/refused.bin"], env=other.env,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert refused.returncode != 0
            with Reader(other) as pid:
                libblob.eventually(lambda: json.loads(
                    top(other, "--json", "-n", "1", "-d", "0.1").stdout)["origin"]["retries"] == 2, 30)
                line = json.loads(top(other, "--json", "-n", "1", "-d", "1").stdout)
                text = top(other, "-b", "-n", "1", "-d", "1").stdout
        finally:
            subprocess.run([libblob.dz(), "purge"], env=other.env, check=True)
    assert line["origin"]["requests_per_s"] > 1 and line["origin"]["errors"] > 0, line
    assert line["origin"]["bytes_per_s"] > 1e6 and line["evictions_per_s"] > 1, line
    process = next(p for p in line["processes"] if p["pid"] == pid)
    assert 0 < process["waiting"] < 1.5 and process["bytes_per_s_by_tier"]["blob"] > 0, process
    head = re.search(r"evictions ([1-9]\d*)/s\n.*blob ([0-9.]+) %; waiting ([0-9.]+) %\n"
                     r"Blob  (\S+) requests/s, \S+ [KMG]iB/s, errors [1-9]\d*, retries 2; ", text)
    assert head and float(head[2]) > 0 and float(head[3]) > 0 and head[4] != "0", text


@libblob.test
def orders_and_mistakes(trees):
    with Reader(trees):
        assert "(by calls)" in top(trees, "-b", "-n", "1", "-d", "0.1", "-o", "calls").stdout
    for args in (["-o", "size"], ["-n", "0"], ["-d", "x"], ["extra"], ["--nonsense"]):
        assert top(trees, *args).returncode == 125, args


def tmux(trees, *args):
    return subprocess.run(["tmux", "-S", os.path.join(trees.tmp, "tmux"), *args], env=trees.env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def wait_for(trees, pattern):
    for _ in range(300):
        screen = tmux(trees, "capture-pane", "-p")
        if re.search(pattern, screen):
            return screen
        time.sleep(0.1)
    raise AssertionError(f"{pattern}\n{screen}")


@libblob.test
def on_a_terminal_it_follows_the_size_and_the_keys(trees):
    if not shutil.which("tmux"):
        raise libblob.Skip("no tmux")
    with Reader(trees) as pid:
        try:
            tmux(trees, "new-session", "-d", "-x", "110", "-y", "20", "sh")
            tmux(trees, "send-keys", "PS1=prompt_; clear", "Enter")
            tmux(trees, "send-keys", f"{libblob.dz()} top -d 0.3", "Enter")
            screen = wait_for(trees, rf"{pid} .* 100\.0 .*python3")
            assert "data/large.bin" in screen and "(by read)" in screen, screen
            tmux(trees, "send-keys", "s")
            wait_for(trees, r"\(by calls\)")
            tmux(trees, "resize-window", "-x", "60", "-y", "10")
            # No line goes on in the next one, and the first one is not scrolled away.
            wait_for(trees, r"\Adz top - .*\nDRAM .*\ncalls .*\nBlob .*\n\n +PID  CALLS/S .*\n *\d+ ")
            tmux(trees, "resize-window", "-x", "120", "-y", "30")
            wait_for(trees, rf"{pid} .*python3")
            tmux(trees, "send-keys", "q")
            screen = wait_for(trees, r"prompt_")
            assert "CALLS/S" not in screen, screen
            tmux(trees, "send-keys", "echo it $((40 + 2)) echoes", "Enter")
            wait_for(trees, r"it 42 echoes")
        finally:
            tmux(trees, "kill-server")


with libshim.trees() as both:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
