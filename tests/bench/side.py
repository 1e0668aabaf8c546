# SPDX-License-Identifier: MIT
"""What the rows of the budget table share: a server, a cache of their own, and how
a row is printed.  Runs of two sides alternate; a ratio is the median of the ratios
within each run."""
import base64
import dataclasses
import datetime
import functools
import hashlib
import hmac
import os
import shutil
import statistics
import subprocess
import tempfile
import urllib.parse

TOP = os.environ.get("DZ_TOP") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("DZ_BUILD") or os.path.join(TOP, "build")
WORK = os.path.join(BUILD, "bench")
DZ = os.path.join(BUILD, "dz")
LIB = os.path.join(BUILD, "libdeltazero.so")
PROGRAMS = os.path.join(BUILD, "tests", "bench")
ONE = os.path.join(PROGRAMS, "bench_one")
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AT = "/mnt/blob"
# Where the DRAM tier lies; DZ_BENCH_SHM: another tmpfs, with huge= for instance.
SHM = os.environ.get("DZ_BENCH_SHM") or "/dev/shm"


def fill(path, size):
    with open("/dev/urandom", "rb") as source, open(path, "wb") as f:
        while size:
            n = min(size, 1 << 20)
            f.write(source.read(n))
            size -= n


def run_program(command, env=None):
    """Lines "NAME NUMBER", as a dictionary."""
    out = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[0]: float(line.split()[1]) for line in out.splitlines()}


@functools.lru_cache
def sas(container):
    """A service SAS for the container: what rclone's sas_url takes.  Always the same one:
    other credentials are another identity, with an agent of its own."""
    end = (datetime.datetime.utcnow() + datetime.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sp": "rl", "se": end, "sv": "2020-10-02", "sr": "c"}
    text = "\n".join(["rl", "", end, f"/blob/{ACCOUNT}/{container}", "", "", "", "2020-10-02", "c"] + [""] * 6)
    mac = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return urllib.parse.urlencode(dict(fields, sig=base64.b64encode(mac).decode()))


@dataclasses.dataclass
class Row:
    """A ratio of rates (ours to theirs, at least `budget`), or a number (at most)."""
    title: str
    against: str
    theirs: float
    ours: float
    value: float
    budget: float
    unit: str = ""
    is_limit: bool = False

    def is_met(self):
        # A ratio is printed with two digits, and judged by them.
        value = round(self.value, 2)
        return not self.budget or (value <= self.budget if self.is_limit else value >= self.budget)

    def line(self):
        def number(x):
            return "" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"

        end = "" if self.is_limit else "x"
        budget = ("" if not self.budget else f"<= {self.budget:g}" if self.is_limit
                  else f"{self.budget:g}x")
        return (f"{self.title:44}{self.against:35}{number(self.theirs):>9}{number(self.ours):>9} "
                f"{self.unit:8}{self.value:7.2f}{end:1}{budget:>9}{'' if self.is_met() else '  missed'}")


def compare(title, against, pairs, budget, unit, scale=1.0):
    """pairs: (theirs, ours) of each run; both are rates: more is better."""
    return Row(title, against, statistics.median(t for t, _ in pairs) / scale,
               statistics.median(o for _, o in pairs) / scale,
               statistics.median(o / t for t, o in pairs), budget, unit)


class Node:
    """`dz serve` over a folder, and a cache that only this one uses."""

    def __init__(self, root, dram, disk="0", latency=0, **settings):
        self.root, self.log = root, os.path.join(WORK, f"serve-{os.getpid()}-{os.path.basename(root)}.log")
        self.shm = tempfile.mkdtemp(prefix="dz-bench.", dir=SHM)
        self.cache = tempfile.mkdtemp(prefix="cache.", dir=WORK)
        self.env = dict(os.environ, DELTAZERO_SHM_DIR=self.shm, DELTAZERO_CACHE_DIR=self.cache,
                        DELTAZERO_DRAM_SIZE=dram, DELTAZERO_DISK_SIZE=disk,
                        DELTAZERO_METADATA_TTL="inf", AZURE_STORAGE_ACCOUNT=ACCOUNT,
                        AZURE_STORAGE_KEY=KEY, **settings)
        self.server = subprocess.Popen([DZ, "serve", "--root", root, "--log", self.log, "--latency", str(latency)],
                                       env=self.env, stdout=subprocess.PIPE, text=True)
        self.url = self.server.stdout.readline().split()[1]

    def spec(self, container):
        """With a SAS, as the others have it: nobody signs requests."""
        return f"{AT}={self.url}/{container}?{sas(container)}"

    def command(self, container, *argv):
        return [DZ, "run", "-m", self.spec(container), "--", *argv]

    def run(self, container, *argv):
        return run_program(self.command(container, *argv), self.env)

    def purge(self):
        """Cold again: memory and disk."""
        subprocess.run([DZ, "purge", "--disk"], env=self.env, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.purge()
        self.server.terminate()
        self.server.wait()
        for folder in (self.shm, self.cache):
            shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(self.log):
            os.unlink(self.log)
