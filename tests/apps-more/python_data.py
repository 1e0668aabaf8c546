#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 400
"""Python reads through the libraries that training jobs use: the same values from a
mount as from files.
"""
import os
import subprocess
import sys

from libmore import Skip, fetch_module, here, libshim, need_module, need_python, plain_tree, settle
from libblob import run_tests, test, tests_of


def make(served):
    plain_tree(served)
    os.chmod(os.path.join(served.root, "data"), 0o755)
    formats = os.path.join(served.root, "data", "formats")
    subprocess.run([sys.executable, here("make_formats.py"), formats], check=True)
    settle(served)


def reads(trees, what):
    trees.same([sys.executable, here("read_formats.py"), what, "{}/formats"])


def loads(trees, method, *workers):
    need_module("torch")
    for number in workers:
        # Python's tracker of semaphores may find them gone, on a busy machine.
        trees.same(["env", "PYTHONWARNINGS=ignore:resource_tracker:UserWarning", sys.executable, here("dataset.py"),
                    "{}", method, str(number)])


@test
def torch_DataLoader_without_workers_reads_a_mount(trees):
    loads(trees, "", 0)


@test
def torch_DataLoader_with_2_and_4_forked_workers_reads_a_mount(trees):
    loads(trees, "fork", 2, 4)


@test
def torch_DataLoader_with_2_and_4_spawned_workers_reads_a_mount(trees):
    loads(trees, "spawn", 2, 4)


@test
def torch_DataLoader_with_2_and_4_workers_of_a_forkserver_reads_a_mount(trees):
    loads(trees, "forkserver", 2, 4)


@test
def torch_load_reads_both_formats(trees):
    need_module("torch")
    reads(trees, "torch_load")


@test
def torch_load_with_mmap_reads_a_mount(trees):
    need_python("import inspect, torch; inspect.signature(torch.load).parameters['mmap']",
                "torch is older than 2.1: its load has no mmap")
    reads(trees, "torch_mmap")


@test
def torch_maps_a_file_as_a_storage(trees):
    need_module("torch", "numpy")
    reads(trees, "torch_from_file")


@test
def numpy_loads_maps_and_unpacks_arrays(trees):
    need_module("numpy")
    if not trees.can_bind:
        raise Skip("no mount namespaces here")
    trees.same([sys.executable, here("read_formats.py"), "numpy_files", "{}/formats"], read_only=True)


@test
def h5py_reads_with_each_driver(trees):
    need_module("h5py")
    reads(trees, "h5")


@test
def PIL_decodes_images(trees):
    need_module("PIL", "numpy")
    reads(trees, "images")


@test
def lmdb_maps_a_database(trees):
    need_module("lmdb")
    reads(trees, "maps_of_lmdb")


@test
def safetensors_maps_a_model(trees):
    need_module("safetensors")
    reads(trees, "safe")


@test
def zipfile_tarfile_and_zipimport_read_archives(trees):
    reads(trees, "archives")


@test
def sqlite3_reads_a_database_with_and_without_mmap(trees):
    reads(trees, "database")


@test
def pickle_loads_objects(trees):
    reads(trees, "pickles")


@test
def shutil_copies_a_tree_and_sendfile_a_file(trees):
    reads(trees, "copies")


@test
def pathlib_glob_and_walk_find_the_same(trees):
    reads(trees, "paths")


if __name__ == "__main__":
    fetch_module("safetensors", "0.5.3")
    with libshim.trees(make) as both:
        run_tests(tests_of(sys.modules[__name__]), both)
