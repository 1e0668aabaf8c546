#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz stat --prometheus of a cache that has worked: the figures of dz stat --json, in the
text format that Prometheus and node_exporter's textfile collector read."""
import json
import os
import re
import subprocess
import sys

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

WORK = """
import os, sys
for name in ("/text/lines.txt", "/text/lines.txt", "/data/words.csv"): open(sys.argv[1] + name, "rb").read()
try: os.chroot(sys.argv[1])
except OSError: pass
"""


def dz(trees, *args):
    return subprocess.run([libblob.dz(), *args], env=trees.env, check=True, stdout=subprocess.PIPE, text=True).stdout


def parsed(text):
    """name -> {labels: value}, and the type of each, which must stand before its samples."""
    samples, types, helps = {}, {}, set()
    for line in text.splitlines():
        told = re.fullmatch(r"# (TYPE|HELP) ([a-z_]+) (.+)", line)
        if told and told[1] == "TYPE":
            assert told[2] not in types and told[3] in ("counter", "gauge"), line
            types[told[2]] = told[3]
        elif told:
            helps.add(told[2])
        else:
            name, labels, value = re.fullmatch(
                r'([a-z_]+)(?:\{((?:[a-z]+="[^"\\\n]*",?)+)\})? (-?[0-9.e+]+)', line).groups()
            assert name in types and name in helps and labels not in samples.setdefault(name, {}), line
            samples[name][labels] = float(value)
    assert text.endswith("\n") and set(types) == set(samples), set(types) ^ set(samples)
    return samples, types


@libblob.test
def the_metrics_are_the_figures_of_the_json(trees):
    dz(trees, "run", "--", "/usr/bin/python3", "-c", WORK, trees.mount)
    for _ in range(50):
        # What nobody waited for may still be on its way.
        stat = json.loads(dz(trees, "stat", "--json"))
        samples, types = parsed(dz(trees, "stat", "--prometheus"))
        if json.loads(dz(trees, "stat", "--json")) == stat:
            break
    assert stat["calls"] > 5 and stat["origin"]["requests"] > 2 and sum(stat["bypass"].values()) == 1, stat
    for metric, value in (("calls", stat["calls"]), ("bytes", stat["bytes"]), ("misses", stat["misses"]),
                          ("origin_requests", stat["origin"]["requests"]), ("origin_bytes", stat["origin"]["bytes"]),
                          ("evictions", stat["evictions"])):
        assert samples[f"deltazero_{metric}_total"] == {None: value}, (metric, stat)
    for tier, value in stat["hit_bytes"].items():
        assert samples["deltazero_hit_bytes_total"][f'tier="{tier}"'] == value, (tier, stat)
    assert samples["deltazero_bypass_total"] == {'symbol="chroot"': 1}, samples
    assert all((kind == "counter") == name.endswith("_total") for name, kind in types.items()), types


with libshim.trees() as both:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
