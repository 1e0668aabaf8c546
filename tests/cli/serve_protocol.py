#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz serve speaks the protocol of Blob; tests/azurite judges the same tests."""

import sys

import libprotocol
from libblob import Client, run_tests, serve, tests_of

if len(sys.argv) > 1:
    # Another server: the URL of its account.
    judge = Client(sys.argv[1])
    libprotocol.prepare(judge)
    run_tests(tests_of(libprotocol), judge)
with serve() as served:
    libprotocol.prepare(served.client)
    run_tests(tests_of(libprotocol), served.client)
