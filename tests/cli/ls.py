#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz ls and dz purge, against dz serve."""
import json
import os
import subprocess
import sys

import libblob

MOUNT = "/mnt/dz-test"


def dz(served, *args):
    env = dict(os.environ, DELTAZERO_MOUNT=f"{MOUNT}={served.url}/data", DELTAZERO_DRAM_SIZE="64M",
               DELTAZERO_DISK_SIZE="64M", AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT,
               AZURE_STORAGE_KEY=libblob.KEY)
    return subprocess.run([libblob.dz(), *args], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)


@libblob.test
def a_directory_lists_its_entries(served):
    assert dz(served, "ls", MOUNT).stdout == "a.txt\nsub/\n"
    assert dz(served, "ls", MOUNT + "/sub/").stdout == "b \"q\".txt\n"


@libblob.test
def a_file_lists_itself_with_its_size(served):
    line = dz(served, "ls", "-l", MOUNT + "/a.txt").stdout.split()
    assert line[0] == "-r--r--r--" and line[1] == "5" and line[3] == "a.txt", line


@libblob.test
def json_is_an_array_of_objects(served):
    entries = json.loads(dz(served, "ls", "--json", MOUNT + "/sub").stdout)
    assert [(e["name"], e["type"], e["size"]) for e in entries] == [('b "q".txt', "file", 7)], entries


@libblob.test
def a_url_needs_no_mount(served):
    assert dz(served, "ls", served.url + "/data/sub").stdout == 'b "q".txt\n'


@libblob.test
def without_an_argument_the_mounts_are_listed(served):
    assert dz(served, "ls").stdout.startswith(f"{MOUNT} = {served.url}/data"), dz(served, "ls").stdout


@libblob.test
def a_name_that_is_not_there_is_a_no(served):
    answer = dz(served, "ls", MOUNT + "/nothing")
    assert answer.returncode == 1 and "nothing" in answer.stderr, answer


@libblob.test
def a_path_below_no_mount_is_an_error(served):
    assert dz(served, "ls", "/etc").returncode == 125


@libblob.test
def what_was_listed_is_in_the_cache_until_it_is_purged(served):
    dz(served, "ls", MOUNT)
    before = len(served.log())
    dz(served, "ls", MOUNT)
    assert len(served.log()) == before
    assert dz(served, "purge", "--disk").returncode == 0
    assert json.loads(dz(served, "stat", "--json").stdout)["dram"]["size"] == 0
    dz(served, "ls", MOUNT)
    assert len(served.log()) > before


@libblob.test
def what_a_purge_removes_is_json_too(served):
    dz(served, "ls", MOUNT)
    slabs = json.loads(dz(served, "stat", "--json").stdout)["disk"]["size"] > 0
    assert dz(served, "purge").stdout == ""
    dz(served, "ls", MOUNT)
    gone = json.loads(dz(served, "purge", "--json").stdout)
    assert gone["dram"]["bytes"] > 0 and gone["disk"] is None, gone
    gone = json.loads(dz(served, "purge", "--disk", "--json").stdout)
    # What was there is gone once, and then there is nothing.
    assert gone["dram"] is None and (gone["disk"]["files"] > 0) == slabs, gone
    gone = json.loads(dz(served, "purge", "--json", "--disk").stdout)
    assert gone == {"dram": None, "disk": {"files": 0, "bytes": 0}}, gone


with libblob.serve() as server:
    server.write("data/a.txt", b"hello")
    server.write('data/sub/b "q".txt', b"goodbye")
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), server)
