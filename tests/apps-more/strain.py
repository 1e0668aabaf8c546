#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""Descriptors, threads, signals, forks, exits and cancellation under load: programs
that know each byte of the file that they read.
"""
import subprocess
import sys

from libmore import built, libshim, plain_tree
from libblob import dz, run_tests, test, tests_of


def strains(trees, what, *before):
    trees.same([*before, built("strain"), what, "{}"])


def forget_all(trees):
    subprocess.run([dz(), "purge"], env=trees.env, check=True, stdout=subprocess.DEVNULL)


INLINE = ["env", "DELTAZERO_FETCH=inline"]


@test
def a_million_opens_and_closes_with_64_descriptors(trees):
    strains(trees, "opens")


@test
def sixty_four_threads_on_one_descriptor_get_each_block_once(trees):
    strains(trees, "threads")


@test
def signal_handlers_read_at_1_kHz_during_reads(trees):
    strains(trees, "timer")


@test
def signal_handlers_read_and_jump_while_their_thread_fetches_itself(trees):
    for what in ("timer", "jumps"):
        forget_all(trees)
        strains(trees, what, *INLINE)


@test
def siglongjmp_out_of_reads_leaves_nothing_behind(trees):
    strains(trees, "jumps")


@test
def a_thread_forks_while_others_read(trees):
    strains(trees, "forks")


@test
def a_program_exits_while_its_threads_read(trees):
    strains(trees, "exits")


@test
def a_thread_that_reads_can_be_cancelled(trees):
    strains(trees, "cancellation")
    forget_all(trees)
    strains(trees, "cancellation", *INLINE)


if __name__ == "__main__":
    with libshim.trees(plain_tree) as both:
        run_tests(tests_of(sys.modules[__name__]), both)
