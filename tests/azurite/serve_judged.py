#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Azurite passes the tests of the protocol that dz serve passes (tests/cli), so
what they claim is Blob's behaviour, and not only ours."""

import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../cli"))

import libprotocol  # noqa: E402
from libblob import Client, run_tests, tests_of  # noqa: E402

START = os.path.join(HERE, "start.sh")

with tempfile.TemporaryDirectory() as state:
    started = subprocess.run([START, state], stdout=subprocess.PIPE, text=True, check=False)
    if started.returncode != 0:
        # 77: neither node nor npm here, which start.sh has said.
        sys.exit(started.returncode)
    try:
        judge = Client(started.stdout.strip())
        libprotocol.prepare(judge)
        run_tests(tests_of(libprotocol), judge)
    finally:
        subprocess.run([START, "--stop", state], check=True)
