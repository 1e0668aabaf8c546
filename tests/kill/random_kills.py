#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# timeout: 150
"""SIGKILL, SIGSTOP, fork and exec at random among readers and their agent: no wrong
byte, nobody waits for long, nothing is lost.  `make soak` does it for long.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "kill"))
import libstorm  # noqa: E402

SECONDS = float(os.environ.get("KILL_SECONDS", "9"))
KILLS = int(os.environ.get("KILLS", "1000000"))
SEED = int(os.environ.get("KILL_SEED", "1"))


@libstorm.libblob.test
def readers_and_agents_are_killed_and_stopped():
    with libstorm.storm(seed=SEED) as s:
        s.run(KILLS, SECONDS)
        s.survivors_go_on()


@libstorm.libblob.test
def readers_that_fetch_for_themselves_are_killed():
    with libstorm.storm(seed=SEED + 1, DELTAZERO_FETCH="inline") as s:
        s.run(KILLS, SECONDS)
        s.survivors_go_on()


@libstorm.libblob.test
def a_cache_without_a_disk_tier_survives_it_too():
    with libstorm.storm(seed=SEED + 2, DELTAZERO_DISK_SIZE="0") as s:
        s.run(KILLS, SECONDS)
        s.survivors_go_on()


libstorm.libblob.run_tests(libstorm.libblob.tests_of(sys.modules[__name__]))
