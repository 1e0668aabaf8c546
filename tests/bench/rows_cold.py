# SPDX-License-Identifier: MIT
"""Cold reads, beside a client written straight on libcurl (cold_client.c): the same
server, 64 connections, 1 MiB ranges, the same order.  Both keep in memory what they
get, and both know names and sizes: the agent runs, and another file of the folder
was read before."""
import json
import os
import shutil
import subprocess
import sys

import side

ROOT = os.path.join(side.WORK, "cold")
DATA = os.path.join(ROOT, "cold")
CLIENT = os.path.join(side.PROGRAMS, "cold_client")
N_SMALL, SMALL = 10000, 16 << 10
LARGE = 512 << 20
READERS = 64
PROCESSES = 32
USERFAULTFD = "323"  # its number, on x86-64
AWAY_MS = 10  # to the first byte: what a Blob account in the same region takes


def prepare():
    done = os.path.join(ROOT, ".prepared-2")
    if os.path.exists(done):
        return
    shutil.rmtree(ROOT, ignore_errors=True)
    os.makedirs(os.path.join(DATA, "small"))
    side.fill(os.path.join(DATA, "large"), LARGE)
    for folder in (DATA, os.path.join(DATA, "small")):
        side.fill(os.path.join(folder, "first"), 4096)
    for i in range(N_SMALL):
        side.fill(os.path.join(DATA, "small", f"{i:05}.jpg"), SMALL)
    for name, blobs in (("large", [("large", LARGE)]),
                        ("small", [(f"small/{i:05}.jpg", SMALL) for i in range(N_SMALL)])):
        with open(os.path.join(ROOT, name + ".client"), "w") as f:
            f.writelines(f"{blob} {size}\n" for blob, size in blobs)
        with open(os.path.join(ROOT, name + ".reader"), "w") as f:
            f.writelines(f"{side.AT}/{blob}\n" for blob, _ in blobs)
    with open(os.path.join(ROOT, "first.reader"), "w") as f:
        f.write(f"{side.AT}/first\n{side.AT}/small/first\n")
    open(done, "w").close()


def names(kind):
    return os.path.join(ROOT, kind)


def measure(node, what, readers, runs, query):
    """(theirs, ours) in bytes a second, of each run."""
    pairs = []
    for _ in range(runs):
        client = side.run_program([CLIENT, f"{node.url}/cold", query, names(what + ".client"), "64"])
        node.purge()
        node.run("cold", side.ONE, "list", names("first.reader"), "1")
        ours = node.run("cold", side.ONE, "list", names(what + ".reader"), str(readers))
        assert ours["bytes"] == client["bytes"], (ours, client)
        pairs.append((client["bytes"] / client["seconds"], ours["bytes"] / ours["seconds"]))
    return pairs


def sent(log):
    """Bytes of data and connections, of the requests that `log` has."""
    total, conns = 0, set()
    with open(log) as f:
        for line in f:
            r = json.loads(line)
            conns.add(r["conn"])
            if r["op"] == "get":
                total += r["bytes"]
    return total, len(conns)


def many(node):
    """Processes that start cold at once, each reading all: what the server sent."""
    node.purge()
    open(node.log, "w").close()
    readers = [subprocess.Popen(node.command("cold", side.ONE, "list", names(what + ".reader"), "1"),
                                env=node.env, stdout=subprocess.DEVNULL)
               for what in ["small", "large"] * (PROCESSES // 2)]
    for reader in readers:
        if reader.wait():
            raise RuntimeError("a reader failed")
    total, conns = sent(node.log)
    return total / (LARGE + N_SMALL * SMALL), conns


def fetches(node, runs, query, where):
    """One large blob, small ones for many threads, and for one that takes them in order."""
    pairs = measure(node, "large", 1, runs, query)
    yield side.compare(f"cold, one blob of 512 MiB{where}", "libcurl, 64 connections", pairs, 0.9, "MiB/s", 1 << 20)
    pairs = measure(node, "small", READERS, runs, query)
    yield side.compare(f"cold, 10,000 of 16 KiB, 64 threads{where}", "libcurl, 64 connections", pairs, 0.9, "blobs/s",
                       SMALL)
    pairs = measure(node, "small", 1, max(1, runs // 2), query)
    yield side.compare(f"cold, 10,000 of 16 KiB, 1 thread{where}", "libcurl, 64 connections", pairs, 0, "blobs/s",
                       SMALL)


def mapped(node, runs, query, where):
    """
    The blob mapped, each page touched: where the system lets a mapping be filled on a touch, and
    where that is denied and mmap fills it.
    """
    deny = [sys.executable, os.path.join(side.TOP, "tests", "apps", "libseccomp.py"), USERFAULTFD]
    touch = [side.ONE, "touch", side.AT + "/large", "once"]
    for title, command, budget in (("by mmap", deny + touch, 0), ("by touches", touch, 0)):
        pairs = []
        for _ in range(runs):
            client = side.run_program([CLIENT, f"{node.url}/cold", query, names("large.client"), "64"])
            node.purge()
            node.run("cold", side.ONE, "list", names("first.reader"), "1")
            pairs.append((client["bytes"] / client["seconds"], node.run("cold", *command)["touch"]))
        yield side.compare(f"cold, 512 MiB mapped, {title}{where}", "libcurl, 64 connections", pairs, budget, "MiB/s", 1 << 20)


def rows(runs):
    query = side.sas("cold")
    prepare()
    out = []
    # As far as Blob is: connections are what both have too few of.
    with side.Node(ROOT, "1G", latency=AWAY_MS) as node:
        out += fetches(node, runs, query, f", {AWAY_MS} ms")
        out += mapped(node, runs, query, f", {AWAY_MS} ms")
    # On loopback processors are: server, agent and reader have those of server and client.
    with side.Node(ROOT, "1G") as node:
        out += fetches(node, runs, query, "")
        share, conns = many(node)
    out.append(side.Row(f"{PROCESSES} processes, cold: bytes that were sent", "the dataset", None, None, share, 1.0, "",
                        True))
    out.append(side.Row(f"{PROCESSES} processes, cold: connections", "", None, None, conns, 64, "", True))
    return out
