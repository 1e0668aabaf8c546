#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 400
"""OpenJDK, node and perl read a tree in each way that they have: the same from a
mount as from files.
"""
import os
import shutil
import subprocess
import sys
import tempfile

from libmore import here, libshim, need_command, plain_tree, settle
from libblob import Skip, run_tests, test, tests_of

# One compiler, few threads: a short run on a busy machine.
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp"]


def make(served):
    served.write("data/script.pm", b"package Script; sub answer { 42 } 1;\n")
    served.write("data/module/index.js", b"exports.answer = require('./answer');\n")
    served.write("data/module/answer.js", b"module.exports = 42;\n")
    served.write("data/module/data.json", b'{"list": [1, 2, 3]}\n')
    served.write("data/module/other.mjs", b"export default 'other';\n")
    if CLASSES:
        packed = os.path.join(served.root, "data", "packed.jar")
        subprocess.run(["jar", "cf", packed, "-C", CLASSES, "."], check=True)
    plain_tree(served)


def compile_java(folder):
    """Where the classes are; None where there is no compiler."""
    if not shutil.which("javac") or not shutil.which("jar"):
        return None
    subprocess.run(["javac", "-d", folder, here("ReadFiles.java")], check=True)
    return folder


def java(trees, *ways):
    if not CLASSES:
        raise Skip("no javac: apt install default-jdk-headless")
    for way in ways:
        trees.same([*JAVA, CLASSES, "ReadFiles", way, "{}"])


def node(trees, *ways):
    need_command("node")
    for way in ways:
        trees.same(["node", here("read_files.js"), way, "{}"])


@test
def java_FileChannel_reads_gathers_and_positions(trees):
    java(trees, "channel")


@test
def java_FileChannel_maps(trees):
    java(trees, "map")


@test
def java_FileChannel_transfers_and_Files_copy(trees):
    java(trees, "transfer")


@test
def java_RandomAccessFile_and_streams(trees):
    java(trees, "random", "streams")


@test
def java_Files_walk_lists_and_tells_attributes(trees):
    java(trees, "walk")


@test
def java_WatchService_watches_a_directory(trees):
    java(trees, "watch")


@test
def java_AsynchronousFileChannel_reads(trees):
    java(trees, "async")


@test
def java_starts_processes_on_a_mount(trees):
    java(trees, "process")


@test
def java_runs_classes_and_a_jar_from_a_mount(trees):
    java(trees, "jar")
    trees.same([*JAVA, "{}/packed.jar", "ReadFiles", "streams", "{}"])


@test
def node_fs_sync_calls(trees):
    node(trees, "sync")


@test
def node_fs_callbacks_and_promises(trees):
    node(trees, "callbacks", "promises")


@test
def node_fs_streams(trees):
    node(trees, "streams")


@test
def node_starts_processes_and_loads_modules_from_a_mount(trees):
    node(trees, "child", "modules")


@test
def perl_reads_lists_finds_and_forks(trees):
    need_command("perl")
    trees.same(["perl", here("read_files.pl"), "{}"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as tmp:
        CLASSES = compile_java(tmp)
        with libshim.trees(make) as both:
            run_tests(tests_of(sys.modules[__name__]), both)
