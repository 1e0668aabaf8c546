#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""Every name of hooks.def is called by a test.  The programs whose answers calls.py
and files.py compare run again with the library that counts (tests/hits.mk: the same
code, with a stub in front of each door); a name without a hit fails.
"""
import os
import re
import subprocess
import sys

os.environ["DZ_BUILD"] += "/hits"
import libshim  # noqa: E402
from libblob import run_tests, test, tests_of  # noqa: E402

COMMANDS = [
    "call_files {}", "call_names {}", "call_names_more {}", "call_names_more wide < {}/text/lines.txt",
    "call_dirs {}", "call_streams {}", "call_maps {}", "call_copies {}", "call_beside {}",
    "call_beside wide < {}/text/lines.txt", "call_changes {}", "call_processes {}", "call_programs {}", "call_locks {}",
]


def names():
    with open(os.path.join(os.environ["DZ_TOP"], "shim", "hooks.def")) as f:
        return re.findall(r"^(?:HOOK|ALIAS)\((\w+),", f.read(), re.M)


def never_hit(hits):
    with open(hits, "rb") as f:
        counted = f.read()
    return [name for name, hit in zip(names(), counted) if not hit]


def new_hits(trees, name):
    """Where a process counts: a page with a byte a name."""
    path = os.path.join(trees.tmp, name)
    with open(path, "wb") as f:
        f.write(bytes(4096))
    trees.env["DELTAZERO_HITS"] = path
    return path


@test
def a_name_that_is_called_is_counted_and_no_other(trees):
    hits = new_hits(trees, "few")
    trees.run(["cat", "{}/text/other.txt"], trees.mount)
    missing = never_hit(hits)
    assert not {"open", "read", "close"} & set(missing), missing
    assert len(missing) > len(names()) * 3 // 4, missing


@test
def every_name_of_the_list_is_called_by_a_test(trees):
    hits = new_hits(trees, "all")
    for command in COMMANDS:
        said = trees.run(libshim.program(command), trees.mount)
        assert said.endswith(b"--- status 0\n"), said[-2000:]
    missing = never_hit(hits)
    assert not missing, f"never called: {' '.join(missing)}"


@test
def the_library_that_counts_has_the_same_names(trees):
    def exported(lib):
        said = subprocess.run(["nm", "-D", "--defined-only", lib], check=True, capture_output=True, text=True)
        return sorted(line.split()[2] for line in said.stdout.splitlines())

    counting = os.path.join(os.environ["DZ_BUILD"], "libdeltazero.so")
    assert exported(counting) == exported(os.path.join(os.environ["DZ_BUILD"], "..", "libdeltazero.so"))


if __name__ == "__main__":
    with libshim.trees() as both:
        run_tests(tests_of(sys.modules[__name__]), both)
