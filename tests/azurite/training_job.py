#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""The training job of the demo, smaller, on Azurite: with SharedKey, with a SAS and
with a connection string.  What programs read is compared with the source.
"""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ["DZ_TOP"]
sys.path.insert(0, os.path.join(TOP, "tests", "cli"))
import libblob  # noqa: E402

PYTHON = "/usr/bin/python3"  # Debian's, which has python3-torch
MOUNT = "/mnt/dz-test"
PUT = os.path.join(TOP, "tests", "tools", "putblob.py")
IMAGES_A_CLASS = 20


def skip(why):
    print(why)
    sys.exit(77)


def make_dataset(root):
    """A few images of each class, and the test set."""
    full = os.path.join(root, "full")
    subprocess.run([PYTHON, os.path.join(TOP, "tests", "demo", "prepare.py"), full], check=True,
                   stdout=subprocess.DEVNULL)
    data = os.path.join(root, "data")
    for name in os.listdir(os.path.join(full, "train")):
        os.makedirs(os.path.join(data, "train", name))
        for image in sorted(os.listdir(os.path.join(full, "train", name)))[:IMAGES_A_CLASS]:
            shutil.copy(os.path.join(full, "train", name, image), os.path.join(data, "train", name))
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        shutil.copy(os.path.join(full, name), data)
    shutil.rmtree(full)
    return data


class Job:
    """Runs commands on the container, with one way of credentials and a cache of its own."""

    def __init__(self, mount_url, credentials):
        self.url = mount_url
        self.shm = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="dz-test.")
        self.cache = tempfile.TemporaryDirectory()
        self.env = dict(os.environ, DELTAZERO_SHM_DIR=self.shm.name,
                        DELTAZERO_CACHE_DIR=self.cache.name, DELTAZERO_DRAM_SIZE="128M",
                        DELTAZERO_DISK_SIZE="128M", PYTHONWARNINGS="ignore:This DataLoader",
                        **credentials)

    def run(self, *command):
        return subprocess.run([libblob.dz(), "run", "-m", f"{MOUNT}={self.url}", "--", *command],
                              env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120)

    def close(self):
        subprocess.run([libblob.dz(), "purge"], env=self.env, check=True)
        self.shm.cleanup()
        self.cache.cleanup()


def check_job(data, mount_url, credentials):
    job = Job(mount_url, credentials)
    try:
        trained = job.run(PYTHON, os.path.join(TOP, "tests", "demo", "train.py"), MOUNT)
        assert trained.returncode == 0, trained.stdout
        assert trained.stdout.count(f" {10 * IMAGES_A_CLASS} images in ") == 2, trained.stdout
        compared = job.run("diff", "-r", MOUNT, data)
        assert compared.returncode == 0 and compared.stdout == "", compared.stdout
    finally:
        job.close()


@libblob.test
def with_a_shared_key(data, url):
    check_job(data, url + "/data", {"AZURE_STORAGE_ACCOUNT": libblob.ACCOUNT,
                                    "AZURE_STORAGE_KEY": libblob.KEY})


@libblob.test
def with_a_sas_in_the_url(data, url):
    sas = subprocess.run([PUT, "--url", url, "sas", "data"], stdout=subprocess.PIPE, text=True,
                         check=True).stdout.strip()
    check_job(data, f"{url}/data?{sas}", {})


@libblob.test
def with_a_connection_string(data, url):
    check_job(data, "az://data", {
        "AZURE_STORAGE_CONNECTION_STRING":
            f"DefaultEndpointsProtocol=http;AccountName={libblob.ACCOUNT};"
            f"AccountKey={libblob.KEY};BlobEndpoint={url};"})


@libblob.test
def a_wrong_key_is_an_error_and_one_line(data, url):
    job = Job(url + "/data", {"AZURE_STORAGE_ACCOUNT": libblob.ACCOUNT,
                              "AZURE_STORAGE_KEY": libblob.KEY.replace("Eby", "Abc")})
    try:
        answer = job.run("cat", MOUNT + "/t10k-labels-idx1-ubyte.gz")
        assert answer.returncode == 1 and "Permission denied" in answer.stdout, answer.stdout
    finally:
        job.close()


def main():
    if subprocess.run([PYTHON, "-c", "import torch, PIL"], stderr=subprocess.DEVNULL).returncode:
        skip("no python3-torch or python3-pil")
    if not os.path.isdir("/usr/share/datasets/fashion-mnist"):
        skip("no dataset-fashion-mnist")
    with tempfile.TemporaryDirectory() as tmp:
        start = os.path.join(TOP, "tests", "azurite", "start.sh")
        started = subprocess.run([start, tmp], stdout=subprocess.PIPE, text=True)
        if started.returncode == 77:
            skip("no Azurite here")
        assert started.returncode == 0, started.returncode
        url = started.stdout.strip()
        try:
            data = make_dataset(tmp)
            subprocess.run([PUT, "--url", url, "create", "data"], check=True)
            subprocess.run([PUT, "--url", url, "put-tree", "data", data], check=True,
                           stdout=subprocess.DEVNULL)
            libblob.run_tests(libblob.tests_of(sys.modules[__name__]), data, url)
        finally:
            subprocess.run([start, "--stop", tmp])


main()
