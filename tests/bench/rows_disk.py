# SPDX-License-Identifier: MIT
"""Reads from the disk tier, the DRAM tier being an eighth of the data: beside fio
with io_uring and O_DIRECT on the slab files, and beside ext4 with nothing cached."""
import glob
import json
import os
import subprocess

import side

THREADS = (1, 16)


def fio(node, mib, *job):
    """
    Bytes and operations a second of fio on the files that hold the cached blocks: on
    the front of each, as far as it was written.  What was only allocated costs nothing.
    """
    files = ":".join(sorted(glob.glob(os.path.join(node.cache, "**", "slab.*"), recursive=True)))
    out = subprocess.run(["fio", "--name=x", f"--filename={files}", "--ioengine=io_uring", "--direct=1",
                          "--readonly", "--output-format=json",
                          "--group_reporting", "--thread", f"--size={mib}M", *job], stdout=subprocess.PIPE, check=True)
    read = json.loads(out.stdout)["jobs"][0]["read"]
    return read["bw_bytes"], read["iops"]


def forget(path):
    """The file is not in the page cache any more."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def warm(node, at, mib):
    """Until every block lies on the disk: one that came faster than it writes is left out."""
    for _ in range(12):
        node.run("bench", side.ONE, "sequential", at)
        out = subprocess.run([side.DZ, "stat", "--json"], env=node.env, stdout=subprocess.PIPE, check=True)
        if json.loads(out.stdout)["disk"]["used"] >= mib << 20:
            return
    raise RuntimeError("the disk tier does not take all of the file")


def rows(runs, root, mib):
    large, at = os.path.join(root, "bench", "large"), side.AT + "/large"
    fast, ext4, random = [], [], {n: [] for n in THREADS}
    with side.Node(root, f"{max(64, mib // 8)}M", f"{mib + mib // 16 + 32}M") as node:
        warm(node, at, mib)
        for _ in range(runs):
            raw, _ = fio(node, mib, "--bs=1M", "--rw=read", "--file_service_type=sequential")
            forget(large)
            cold = side.run_program([side.ONE, "sequential", large])["sequential"]
            ours = node.run("bench", side.ONE, "sequential", at)["sequential"]
            fast.append((raw, ours))
            ext4.append((cold, ours))
        for _ in range(runs):
            for n in THREADS:
                _, raw = fio(node, mib, "--bs=4k", "--rw=randread", "--iodepth=1", f"--numjobs={n}",
                             "--time_based", "--runtime=1", "--file_service_type=random")
                random[n].append((raw, node.run("bench", side.ONE, "random", at, str(n))["random"]))
    return ([side.compare("disk tier, in sequence, 1 MiB", "fio io_uring O_DIRECT, same files", fast, 0.9, "MiB/s",
                          1 << 20),
             side.compare("disk tier, in sequence, 1 MiB", "ext4, nothing cached", ext4, 2.0, "MiB/s", 1 << 20)] +
            [side.compare(f"disk tier, 4 KiB at random, {n} thread{'s' * (n > 1)}",
                          "fio io_uring O_DIRECT, the same", pairs, 0.8, "reads/s") for n, pairs in random.items()])
