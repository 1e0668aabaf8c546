#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""bench.py [--runs N] [--size MIB] [--only GROUP,...]: the budgets, as ratios.


The same program (bench_io.c) with the same pattern on the same files: on ext4 in
the page cache, through the library from its DRAM tier, and through rclone mount
with its VFS cache.  `dz serve` has the files; both caches read from it, and ext4
is the folder that it serves.  Everything is read once before the first run; the
runs alternate.  A cell is the median of them, a ratio is the median of the ratios
within each run, so that what else the machine does weighs on both sides of it.
The other rows are in rows_*.py.  The table also goes to build/bench.txt.
"""
import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

import rows_apps
import rows_cold
import rows_disk
import rows_memory
import rows_trace
import side
from side import BUILD, WORK, fill, run_program, sas

DATA = os.path.join(WORK, "blobs", "bench")
PROGRAM = os.path.join(side.PROGRAMS, "bench_io")

# name, what it is, budget against ext4 (design.md 10)
ROWS = [
    ("pread-4k", "pread 4 KiB at random, whole file", 2.0),
    ("pread-4k-hot", "pread 4 KiB at random, hot 16 MiB", 4.0),
    ("read-64", "read 64 B in sequence", 6.0),
    ("read-256", "read 256 B in sequence", 6.0),
    ("read-1024", "read 1 KiB in sequence", 6.0),
    ("pread-128k", "pread 128 KiB at random", 1.2),
    ("pread-1m", "pread 1 MiB at random", 1.1),
    ("open-fstat-read-close", "open+fstat+read+close, 110 KB files", 1.3),
    ("stat", "stat of a known name", 3.0),
    ("readdir", "opendir+readdir+closedir, 10,000 entries", 1.5),
]


def prepare(mib):
    """The files, made once for each size."""
    done = os.path.join(WORK, f".prepared-{mib}")
    if os.path.exists(done):
        return
    print("making the files", flush=True)
    shutil.rmtree(os.path.join(WORK, "blobs"), ignore_errors=True)
    for folder in ("small", "names"):
        os.makedirs(os.path.join(DATA, folder))
    fill(os.path.join(DATA, "large"), mib << 20)
    fill(os.path.join(DATA, "medium"), 16 << 20)
    for i in range(500):
        fill(os.path.join(DATA, "small", f"{i:05}.jpg"), 110 * 1000)
    for i in range(10000):
        fill(os.path.join(DATA, "names", f"entry-{i:05}"), 16)
    open(done, "w").close()


class Rclone:
    """rclone mount --vfs-cache-mode full, or nothing where FUSE is not to be had."""

    def __init__(self, url):
        self.dir, self.process, self.why = os.path.join(WORK, "rclone"), None, ""
        if not shutil.which("rclone") or not os.access("/dev/fuse", os.W_OK):
            self.why = "no rclone or no /dev/fuse"
            return
        os.makedirs(self.dir, exist_ok=True)
        config = os.path.join(WORK, "rclone.conf")
        with open(config, "w") as f:
            f.write(f"[blob]\ntype = azureblob\nsas_url = {url}?{sas('bench')}\n")
        self.process = subprocess.Popen(
            ["rclone", "--config", config, "mount", "blob:bench", self.dir, "--read-only",
             "--vfs-cache-mode", "full", "--vfs-cache-max-size", "8G", "--dir-cache-time", "1h",
             "--cache-dir", os.path.join(WORK, "rclone-cache")], stderr=subprocess.DEVNULL)
        for _ in range(100):
            if os.path.ismount(self.dir) and os.path.exists(os.path.join(self.dir, "large")):
                return
            time.sleep(0.1)
        self.close()
        self.why = "rclone mount did not come up"

    def close(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None
            subprocess.run(["fusermount3", "-u", "-z", self.dir], stderr=subprocess.DEVNULL)
        shutil.rmtree(os.path.join(WORK, "rclone-cache"), ignore_errors=True)


def measure(systems, copy_command, env, runs):
    results = {name: [] for name in systems}
    copies = []
    for name, command in systems.items():
        print(f"warming {name}", flush=True)
        run_program(command, env)
    for run in range(runs):
        for name, command in systems.items():
            results[name].append(run_program(command, env))
        copies.append(run_program(copy_command, env)["copy-4k"])
        print(f"run {run + 1} of {runs}", flush=True)
    return results, copies


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) // (1 << 20)
    fs = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", DATA], stdout=subprocess.PIPE, text=True)
    return (f"{cpu}, {os.cpu_count()} CPUs, {memory} GiB, Linux {platform.release()}, "
            f"files on {fs.stdout.strip()}{read_ahead()}, {side.SHM} {shm_pages()}")


def shm_pages():
    out = subprocess.run(["findmnt", "-n", "-o", "OPTIONS", "-T", side.SHM], stdout=subprocess.PIPE, text=True)
    return next((o for o in out.stdout.strip().split(",") if o.startswith("huge=")), "in pages of 4 KiB")


def read_ahead():
    """Of the disk that the files are on: what a cold read of ext4 lives on."""
    dev = os.stat(DATA).st_dev
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}"))
    for path in (f"/sys/class/block/{name}/queue", f"/sys/class/block/{name}/../queue"):
        if os.path.exists(f"{path}/read_ahead_kb"):
            with open(f"{path}/read_ahead_kb") as f:
                return f", read-ahead {f.read().strip()} KiB"
    return ""


def cell(value):
    return f"{value / 1e6:9.2f}M" if value >= 1e6 else f"{value / 1e3:9.2f}k"


def table(results, copies, runs, mib, rclone_note):
    def median(system, row):
        return statistics.median(run[row] for run in results[system])

    def ratio(row, system):
        return statistics.median(ours[row] / theirs[row] for ours, theirs in
                                 zip(results["deltazero"], results[system]))

    def spread(row):
        """Between the quartiles, of the ratio to ext4."""
        ratios = [ours[row] / ext4[row] for ours, ext4 in zip(results["deltazero"], results["ext4"])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return 100 * (high - low) / middle

    yield f"{machine()}.\n{mib} MiB, medians of {runs} alternating runs, operations a second."
    yield ""
    yield (f"{'':42}{'ext4':>10}{'deltazero':>11}{'rclone':>11}{'/ext4':>8}{'/rclone':>9}"
           f"{'budget':>8}{'spread':>8}")
    has_rclone = "rclone" in results
    for row, title, budget in ROWS:
        theirs = ratio(row, "rclone") if has_rclone else None
        yield (f"{title:42}{cell(median('ext4', row))}{cell(median('deltazero', row)):>11}"
               f"{cell(median('rclone', row)) if has_rclone else '-':>11}{ratio(row, 'ext4'):7.2f}x"
               f"{f'{theirs:8.2f}x' if theirs else '-':>9}"
               f"{budget:7.1f}x{spread(row):7.0f}%{'' if ratio(row, 'ext4') >= budget else '  below'}")
    share = statistics.median(run["pread-4k"] / copy for run, copy in zip(results["deltazero"], copies))
    yield (f"{'4 KiB at random: against a bare memcpy':42}{cell(statistics.median(copies))}"
           f"{cell(median('deltazero', 'pread-4k')):>11}{'':11}{share:7.2f}x{'':9}{0.85:7.2f}x{'':8}"
           f"{'' if share >= 0.85 else '  below'}")
    if rclone_note:
        yield f"\nwithout rclone: {rclone_note}"


GROUPS = ("warm", "memory", "trace", "apps", "disk", "cold")


def more(args, node, systems):
    """The rows that have an own file each: (heading, rows)."""
    def after(prefix):
        return lambda argv: prefix + argv

    # Without dz run, whose start (9 ms: it is linked with libcurl) is that of many a program here.
    preload = ["env", f"LD_PRELOAD={side.LIB}", f"DELTAZERO_MOUNT={node.spec('bench')}"]
    wraps = {"ext4": (after([]), DATA), "deltazero": (after(preload), side.AT)}
    if "rclone" in systems:
        wraps["rclone"] = (after([]), systems["rclone"][1])
    if "memory" in args.only:
        print("measuring mappings, readers, and what the library costs", flush=True)
        yield "Warm, and what the library costs a program", rows_memory.rows(
            wraps, node.env, node.spec("bench"), DATA, args.runs)
    if "trace" in args.only:
        print("measuring what dz trace costs", flush=True)
        yield "dz trace", rows_trace.rows(node.spec("bench"), node.env, args.runs)
    if "apps" in args.only:
        print("measuring programs", flush=True)
        yield "Programs, warm", rows_apps.rows(wraps, node.env, args.short)
    if "disk" in args.only:
        print("measuring the disk tier", flush=True)
        yield "The disk tier; DRAM holds an eighth", rows_disk.rows(args.short, node.root, args.size)
    if "cold" in args.only:
        print("measuring cold reads", flush=True)
        yield "Cold", rows_cold.rows(args.short)


def load():
    with open("/proc/loadavg") as f:
        return float(f.read().split()[0])


def bench(args, node):
    before = load()
    rclone = Rclone(f"{node.url}/bench")
    lines = []
    try:
        systems = {"ext4": [PROGRAM, DATA], "deltazero": node.command("bench", PROGRAM, side.AT)}
        if rclone.process:
            systems["rclone"] = [PROGRAM, rclone.dir]
        if "warm" in args.only:
            memory = os.path.join(node.shm, f"deltazero.{os.geteuid()}.1", "dram")
            results, copies = measure(systems, [PROGRAM, DATA, memory], node.env, args.runs)
            lines += table(results, copies, args.runs, args.size, rclone.why)
        for heading, rows in more(args, node, systems):
            lines += ["", f"{heading + ':':79}{'theirs':>9}{'ours':>9}{'':9}{'':8}{'budget':>9}"]
            lines += [row.line() for row in rows]
    finally:
        rclone.close()
    lines += ["", f"The rows after the first table: medians of {args.short} or {args.runs} alternating runs.",
              f"Load average of the machine before: {before}; the ratios of a busy one say little.",
              "Shuffled epochs and Zipf against the optimum: make bench-eviction."]
    print("\n" + "\n".join(lines))
    with open(os.path.join(BUILD, "bench.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--short", type=int, default=5, help="runs of what takes long")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--only", type=lambda s: s.split(","), default=list(GROUPS), help="groups of rows, by commas")
    args = parser.parse_args()
    os.makedirs(WORK, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prepare(args.size)
    # Both caches get their data from here.
    with side.Node(os.path.join(WORK, "blobs"), f"{2 * args.size + 256}M") as node:
        bench(args, node)


if __name__ == "__main__":
    main()
