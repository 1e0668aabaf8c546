# SPDX-License-Identifier: MIT
"""Programs on a warm mount, beside rclone mount and its warm VFS cache."""
import json
import os
import subprocess
import sys
import time

import side

LOADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "loader.py")


def fio(block):
    def measure(wrap, root, env):
        out = subprocess.run(wrap(["fio", "--name=x", f"--filename={root}/large", "--readonly", "--rw=randread",
                                   f"--bs={block}", "--ioengine=psync", "--invalidate=0", "--time_based",
                                   "--runtime=1", "--output-format=json"]), env=env, stdout=subprocess.PIPE, check=True)
        return json.loads(out.stdout)["jobs"][0]["read"]["iops"]
    return measure


def tar(wrap, root, env):
    """GNU tar reads nothing when it writes to /dev/null: a pipe."""
    start = time.monotonic()
    subprocess.run(wrap(["sh", "-c", f"tar cf - -C {root} small | cat >/dev/null"]), env=env, check=True)
    return 500 * 110e3 / (time.monotonic() - start) / (1 << 20)


def loader(wrap, root, env):
    return side.run_program(wrap([sys.executable, LOADER, f"{root}/small", "4", "2"]), env)["loader"]


PROGRAMS = (("fio randread 4 KiB, psync", fio("4k"), "reads/s"),
            ("fio randread 128 KiB, psync", fio("128k"), "reads/s"),
            ("tar of 500 files of 110 KB", tar, "MiB/s"),
            ("ImageFolder loader, 2 workers, 4 epochs", loader, "files/s"))


def rows(systems, env, runs):
    out = []
    for title, measure, unit in PROGRAMS:
        pairs = {name: [] for name in systems if name != "deltazero"}
        for wrap, root in systems.values():
            measure(wrap, root, env)
        for _ in range(runs):
            got = {name: measure(wrap, root, env) for name, (wrap, root) in systems.items()}
            for name, of in pairs.items():
                of.append((got[name], got["deltazero"]))
        for name, of in pairs.items():
            out.append(side.compare(title, "ext4 in the page cache" if name == "ext4" else "rclone mount, warm", of,
                                    10 if name == "rclone" else 0, unit))
    return out
