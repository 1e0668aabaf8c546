# SPDX-License-Identifier: MIT
"""What dz trace costs the program: counting (-c), beside fio without it; and while
nobody looks, beside a library that was built without it (untraced.h)."""
import os
import statistics
import subprocess

import rows_apps
import side

UNTRACED = os.path.join(side.WORK, "untraced")
# Not open + close: two copies of the same library differ by 90 ns of 2,600, each time.
CALLS = (("pread", "pread 4 KiB"), ("read", "read 64 B"), ("fstat", "fstat"), ("stat", "stat"))


def counted(spec, env, runs):
    fio = rows_apps.fio("4k")
    plain = [side.DZ, "run", "-m", spec, "--"]
    traced = [side.DZ, "trace", "-c", "-o", os.devnull, "-m", spec, "--"]

    def rates():
        return tuple(fio(lambda argv: prefix + argv, side.AT, env) for prefix in (plain, traced))

    rates()
    return side.compare("fio randread 4 KiB, under dz trace -c", "without dz trace",
                        [rates() for _ in range(runs)], 0.97, "reads/s")


def build():
    """The library without dz trace: its doors are compiled anew, the rest is that of ours."""
    os.makedirs(UNTRACED, exist_ok=True)
    for name in ("cache", "libdeltazero-fetch.so"):
        if not os.path.lexists(os.path.join(UNTRACED, name)):
            os.symlink(os.path.join(side.BUILD, name), os.path.join(UNTRACED, name))
    lib = os.path.join(UNTRACED, "libdeltazero.so")
    flags = f"-O2 -g -w -include {side.TOP}/tests/bench/untraced.h"
    subprocess.run(["make", "-s", "-C", side.TOP, f"-j{os.cpu_count()}", f"B={UNTRACED}",
                    f"CFLAGS={flags}", lib], stdout=subprocess.DEVNULL, check=True)
    return lib


def unlooked(spec, env, runs):
    """Both libraries in one process, in turn; warm: the first run does not count."""
    pair, took = [build(), side.LIB], {}
    for run in range(runs + 1):
        got = side.run_program([side.ONE, "libraries", side.AT + "/medium", *pair], dict(env, DELTAZERO_MOUNT=spec))
        for name, ns in got.items() if run else ():
            took.setdefault(name, []).append(ns)
    rows = []
    for name, title in CALLS:
        without, more = (statistics.median(took[f"{name}-{what}-ns"]) for what in ("first", "more"))
        rows.append(side.Row(f"{title}, dz trace off", "built without it: ns; ns more", without,
                             without + more, more, 5, "ns", True))
    return rows


def rows(spec, env, runs):
    return [counted(spec, env, runs)] + unlooked(spec, env, runs)
