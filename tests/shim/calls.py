#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""Each program makes the calls of one family on a local tree and on a mount:
results, errno and bytes have to be the same.
"""
import sys

import libshim
from libblob import Skip, run_tests, test, tests_of


@test
def streams_of_stdio(trees):
    trees.same([libshim.program("call_streams"), "{}"])


@test
def streams_of_cxx_and_filesystem_iterators(trees):
    trees.same([libshim.program("call_ifstream"), "{}"])


@test
def cin_from_a_redirection(trees):
    trees.same(libshim.program("call_ifstream") + " {} cin < {}/data/words.csv")


@test
def directories_walkers_and_patterns(trees):
    trees.same([libshim.program("call_dirs"), "{}"])


@test
def mappings(trees):
    trees.same([libshim.program("call_maps"), "{}"])


@test
def copies_hints_waiting_and_asynchronous_reads(trees):
    trees.same([libshim.program("call_copies"), "{}"])


@test
def calls_on_other_files_and_links_into_the_mount(trees):
    trees.same([libshim.program("call_beside"), "{}"])


@test
def wide_words_of_a_redirected_standard_input(trees):
    trees.same(libshim.program("call_beside") + " wide < {}/text/lines.txt")


@test
def changes_as_on_a_read_only_file_system(trees):
    if not trees.can_bind:
        raise Skip("no mount namespaces here")
    trees.same([libshim.program("call_changes"), "{}"], read_only=True)


@test
def the_names_of_large_files_and_of_old_programs(trees):
    trees.same([libshim.program("call_names"), "{}"])


@test
def numbers_of_system_calls(trees):
    trees.same([libshim.program("call_syscalls"), "{}"])


@test
def locks_between_descriptors_processes_and_after_a_kill(trees):
    trees.same([libshim.program("call_locks"), "{}"])


@test
def a_lock_that_a_program_took_for_its_shell_stays(trees):
    trees.same("exec 9< {}/text/lines.txt; flock -n 9 && echo mine; flock -n {}/text/lines.txt true; echo $?; "
               "flock -u 9; flock -n {}/text/lines.txt -c 'echo free'; flock {}/text/other.txt -c 'echo one' & "
               "flock {}/text/other.txt -c 'echo one'; wait")


@test
def names_of_walkers_asynchronous_calls_and_of_waiting(trees):
    trees.same([libshim.program("call_names_more"), "{}"])
    trees.same(libshim.program("call_names_more") + " wide < {}/text/lines.txt")


if __name__ == "__main__":
    with libshim.trees() as both:
        run_tests(tests_of(sys.modules[__name__]), both)
