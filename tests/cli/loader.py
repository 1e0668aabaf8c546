#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 400
"""A DataLoader of PyTorch with worker processes, as dz top and dz trace show it: the
workers stand under the process that runs the loop, however they were started."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

FILES, WORKERS = 300, 3
LOADER = """
import os, sys
from torch.utils.data import DataLoader, Dataset

class Files(Dataset):
    def __init__(self, root):
        self.names = ["%%s/many/%%d" %% (root, i) for i in range(%d)]
    def __len__(self):
        return len(self.names)
    def __getitem__(self, i):
        with open(self.names[i], "rb") as f:
            return len(f.read())

def main(root, how, epochs):
    print(os.getpid(), flush=True)
    loader = DataLoader(Files(root), batch_size=10, shuffle=True, num_workers=%d,
                        persistent_workers=True, multiprocessing_context=how)
    for epoch in range(epochs):
        assert sum(int(b.sum()) for b in loader) == 1090
        if epoch == 0:
            print("ready", flush=True)

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
""" % (FILES, WORKERS)


def command(trees, how, epochs):
    path = os.path.join(trees.tmp, "loader.py")
    with open(path, "w", encoding="ascii") as f:
        f.write(LOADER)
    return ["/usr/bin/python3", "-W", "ignore", path, trees.mount, how, str(epochs)]


class Job:
    """A loop over the loader that goes on until it is ended, with what it has started."""

    def __init__(self, trees, how):
        self.process = subprocess.Popen([libblob.dz(), "run", "--", *command(trees, how, 1 << 30)], env=trees.env,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        start_new_session=True)
        assert int(self.process.stdout.readline()) == self.process.pid
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self.process.pid

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def top(trees, *args):
    return subprocess.run([libblob.dz(), "top", "-n", "1", "-d", "1", *args], env=trees.env, check=True,
                          stdout=subprocess.PIPE, text=True, timeout=30).stdout


@libblob.test
def dz_top_shows_workers_under_the_loop(trees):
    for how in ("fork", "spawn", "forkserver"):
        with Job(trees, how) as pid:
            # A second of a busy machine may be none of a worker's.
            for _ in range(5):
                text = top(trees, "-b")
                rows = re.findall(r"^ +(\d+) +(\S+) .* \d+ +(\\_ )?(?:python3|pt_\S+)$", text, re.M)
                place = [int(row[0]) for row in rows].index(pid)
                below = rows[place + 1:place + 1 + WORKERS]
                if all(calls != "0" for _, calls, _ in below):
                    break
            assert not rows[place][2], (how, text)
            assert len(below) == WORKERS and all(mark and calls != "0" for _, calls, mark in below), (how, text)
            line = json.loads(top(trees, "--json"))
            parents = {p["pid"]: p["parent"] for p in line["processes"]}
            assert all(parents[int(worker)] == pid for worker, _, _ in below), (how, parents)
            assert line["bytes_per_s"] > 0 and any(f["name"].startswith("many/") for f in line["files"]), line


def opens(text):
    return re.findall(r'^(\d+) +openat\(AT_FDCWD, "[^"]*/many/\d+", O_RDONLY\|O_CLOEXEC\) += \d+', text, re.M)


@libblob.test
def dz_trace_shows_each_call_of_the_workers(trees):
    out = os.path.join(trees.tmp, "lines")
    for how in ("fork", "forkserver"):
        done = subprocess.run([libblob.dz(), "trace", "-f", "-o", out, *command(trees, how, 2)], env=trees.env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
        assert done.returncode == 0, done
        of = opens(open(out, encoding="utf-8").read())
        # On a busy machine a ring may fill: then what is missing is said.
        assert (len(of) == 2 * FILES or "not seen" in done.stderr) and len(set(of)) == WORKERS, (how, len(of), set(of))
        assert done.stdout.splitlines()[0] not in of, how


@libblob.test
def dz_trace_counts_each_call_of_the_workers(trees):
    table = os.path.join(trees.tmp, "table")
    done = subprocess.run([libblob.dz(), "trace", "-c", "--json", "-o", table, *command(trees, "fork", 2)],
                          env=trees.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=100)
    assert done.returncode == 0, done
    answer = json.load(open(table, encoding="utf-8"))
    rows = {row["name"]: row for row in answer["calls"]}
    # Python reads a file until it is told the end: two reads a file.
    assert rows["openat"]["calls"] == 2 * FILES and rows["close"]["calls"] == 2 * FILES, rows
    assert rows["read"]["calls"] == 4 * FILES and rows["read"]["bytes"] == 2 * 1090 and answer["lost"] == 0, rows


@libblob.test
def dz_trace_attached_to_the_loop_shows_its_workers(trees):
    out = os.path.join(trees.tmp, "attached")
    for how in ("fork", "spawn"):
        with Job(trees, how) as pid:
            open(out, "w").close()
            tracer = subprocess.Popen([libblob.dz(), "trace", "-o", out, "-p", str(pid)], env=trees.env,
                                      stderr=subprocess.PIPE, text=True)
            libblob.eventually(lambda: len(set(opens(open(out, encoding="utf-8").read()))) == WORKERS)
            tracer.send_signal(signal.SIGINT)
            _, said = tracer.communicate(timeout=20)
            assert tracer.returncode == 0, said
            # The loop of fork has touched no mount.
            assert how != "fork" or "looking at what it has started" in said, said


@libblob.test
def workers_that_start_later_are_followed_from_their_first_call(trees):
    # The loop touches no mount, waits for a line, and only then starts its workers.
    waits = LOADER.replace("    loader = ", "    sys.stdin.readline()\n    loader = ")
    out = os.path.join(trees.tmp, "later")
    for how in ("fork", "forkserver"):
        argv = command(trees, how, 2)
        with open(argv[3], "w", encoding="ascii") as f:
            f.write(waits)
        job = subprocess.Popen([libblob.dz(), "run", "--", *argv], env=trees.env, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        job.stdout.readline()
        tracer = subprocess.Popen([libblob.dz(), "trace", "-o", out, "-p", str(job.pid)], env=trees.env,
                                  stderr=subprocess.PIPE, text=True)
        assert "waiting for it" in tracer.stderr.readline()
        job.communicate("go\n", timeout=60)
        assert job.returncode == 0 and tracer.wait(20) == 0
        of = opens(open(out, encoding="utf-8").read())
        assert len(of) == 2 * FILES and len(set(of)) == WORKERS, (how, len(of), set(of))


if subprocess.run(["/usr/bin/python3", "-c", "import torch"], stderr=subprocess.DEVNULL).returncode != 0:
    print("no torch")
    sys.exit(77)
with libshim.trees() as both:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
