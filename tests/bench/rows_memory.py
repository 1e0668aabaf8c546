# SPDX-License-Identifier: MIT
"""Warm rows beside those of bench_io.c: mappings, two readers, and what the library
costs a program that does not use it."""
import os
import statistics
import subprocess

import side

TRUE = "/bin/true"
STARTS = 200


def touch(systems, env, runs):
    pairs = {name: [] for name in systems if name != "deltazero"}
    for name, (wrap, root) in systems.items():
        side.run_program(wrap([side.ONE, "touch", f"{root}/large"]), env)
    for _ in range(runs):
        got = {name: side.run_program(wrap([side.ONE, "touch", f"{root}/large"]), env)["touch"]
               for name, (wrap, root) in systems.items()}
        for name, of in pairs.items():
            of.append((got[name], got["deltazero"]))
    against = {"ext4": ("ext4 in the page cache", 1.0), "rclone": ("rclone mount, warm", 0)}
    return [side.compare("mmap + touch every page", against[name][0], of, against[name][1], "GiB/s", 1 << 30)
            for name, of in pairs.items()]


def total(commands, env):
    """Operations a second of programs that run at the same time."""
    running = [subprocess.Popen(c, env=env, stdout=subprocess.PIPE, text=True) for c in commands]
    return sum(float(p.communicate()[0].split()[1]) for p in running)


def scaling(wrap, env, runs):
    one = wrap([side.ONE, "random", side.AT + "/large", "1"])
    two = wrap([side.ONE, "random", side.AT + "/large", "2"])
    threads, processes = [], []
    for _ in range(runs):
        single = total([one], env)
        threads.append((single, total([two], env)))
        processes.append((single, total([one, one], env)))
    return [side.compare("2 threads, 4 KiB at random", "1 thread", threads, 1.8, "M/s", 1e6),
            side.compare("2 processes, 4 KiB at random", "1 process", processes, 1.8, "M/s", 1e6)]


def limit(title, against, theirs, ours, budget, unit, scale=1.0):
    return side.Row(title, against, theirs, ours, (ours - theirs) / scale, budget, unit, True)


def library(env, spec, runs):
    """Start, as differences of medians."""
    out, kinds = [], {}
    for _ in range(runs):
        got = side.run_program([side.ONE, "start", str(STARTS // runs + 1), side.LIB, spec, TRUE], env)
        for kind, us in got.items():
            kinds.setdefault(kind, []).append(us)
    took = {kind: statistics.median(us) for kind, us in kinds.items()}
    for kind, title in (("preloaded-us", "start of a program, library preloaded"),
                        ("mounted-us", "the same, a mount set but not used")):
        out.append(limit(title, "without the library: us; ms more", took["plain-us"], took[kind], 0.5, "ms", 1e3))
    return out


def calls(wrap, env, runs):
    """
    Calls on files that are not ours, in a process that has one of ours open: against libc's
    own functions in the same process, in turn.
    """
    path, took = os.path.join(side.WORK, "other"), {}
    side.fill(path, 1 << 20)
    for _ in range(runs):
        for name, ns in side.run_program(wrap([side.ONE, "calls", path, f"{side.AT}/large"]), env).items():
            took.setdefault(name, []).append(ns)
    os.unlink(path)
    out = []
    for name, title in (("pread", "pread 4 KiB"), ("read", "read 64 B"), ("fstat", "fstat"), ("stat", "stat"),
                        ("open-close", "open + close")):
        libc, more = (statistics.median(took[f"{name}-{what}-ns"]) for what in ("libc", "more"))
        # Two calls: each may cost its 10 ns.
        budget = 20 if name == "open-close" else 10
        out.append(limit(f"{title} on a file that is not ours", "libc's function: ns; ns more", libc, libc + more,
                         budget, "ns"))
    return out


def memory(wrap, env, data, runs):
    files = ["large"] + [f"small/{i:05}.jpg" for i in range(100)]
    plain, ours = [], []
    for _ in range(runs):
        plain.append(side.run_program([side.ONE, "memory"] + [f"{data}/{f}" for f in files], env)["own-kib"])
        ours.append(side.run_program(wrap([side.ONE, "memory"] + [f"{side.AT}/{f}" for f in files]), env)["own-kib"])
    return [limit("memory of a process, but for the segment", "without the library: KiB; MiB more",
                  statistics.median(plain), statistics.median(ours), 4, "MiB", 1024)]


def rows(systems, env, spec, data, runs):
    wrap = systems["deltazero"][0]
    return (touch(systems, env, runs) + scaling(wrap, env, runs) + library(env, spec, runs) + calls(wrap, env, runs) +
            memory(wrap, env, data, runs))
