# SPDX-License-Identifier: MIT
"""Random kills: readers that check every byte, and what is done to them.

A storm ends with the count of kills it was asked for, or with its time.  Afterwards a
new process reads every byte of every file, and check_segment looks at what is left in
shared memory.
"""
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

BUILD = os.environ["DZ_BUILD"]
READER = os.path.join(BUILD, "tests", "kill", "reader")
CHECK = os.path.join(BUILD, "tests", "kill", "check_segment")


def processes():
    """pid -> command line of everything that can be seen."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    found[int(entry)] = f.read()
    return found


def environment_has(pid, text):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/environ", "rb") as f:
            return text.encode() in f.read()
    return False


class Storm:
    def __init__(self, served, shm, cache, files, readers, seed, **settings):
        self.random = random.Random(seed)
        self.mount = f"/mnt/storm-{os.getpid()}"
        self.shm, self.files, self.n_readers = shm, files, readers
        self.env = {**os.environ, "DELTAZERO_SHM_DIR": shm, "DELTAZERO_CACHE_DIR": cache,
                    "DELTAZERO_DRAM_SIZE": "32M", "DELTAZERO_DISK_SIZE": "48M",
                    "DELTAZERO_METADATA_TTL": "2",
                    "DELTAZERO_MOUNT": f"{self.mount}={served.url}/data/set",
                    "AZURE_STORAGE_ACCOUNT": libblob.ACCOUNT, "AZURE_STORAGE_KEY": libblob.KEY,
                    "LD_PRELOAD": os.path.join(BUILD, "libdeltazero.so"), **settings}
        self.readers, self.is_over = {}, False
        self.counts = dict.fromkeys(["kills", "stops", "agent kills", "agent stops"], 0)
        self.next_seed = seed * 1000

    def start_reader(self):
        self.next_seed += 1
        command = [READER, "storm", self.mount, str(self.files), str(self.next_seed)]
        process = subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True)
        self.readers[process.pid] = process

    def reader_failed(self, process):
        """Killed by us, or by an end that it chose itself."""
        err = process.stderr.read()
        process.stderr.close()
        lines = [line for line in err.splitlines() if "deltazero" not in line or "error" in line]
        if process.returncode != -signal.SIGKILL and not self.is_over:
            self.is_over = True
            print("#", self.check("dump").stdout.replace("\n", "\n# "))
            raise AssertionError((process.returncode, lines[-20:]))

    def tend_readers(self):
        for pid, process in list(self.readers.items()):
            if process.poll() is not None:
                del self.readers[pid]
                self.reader_failed(process)
        while len(self.readers) < self.n_readers:
            self.start_reader()

    def victims(self):
        """All reading processes, children and images after exec among them; agents."""
        readers, agents = [], []
        for pid, command in processes().items():
            if command.startswith(READER.encode() + b"\0") and self.mount.encode() in command:
                readers.append(pid)
            elif b"dz\0agent\0" in command and environment_has(pid, self.shm):
                agents.append(pid)
        return readers, agents

    def hit(self, pid, what, seconds=0.0):
        with contextlib.suppress(ProcessLookupError):
            if not seconds:
                os.kill(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(seconds)
                os.kill(pid, signal.SIGCONT)
            self.counts[what] += 1

    def strike(self, stop_agents):
        readers, agents = self.victims()
        dice = self.random.random()
        if dice < 0.12 and agents:
            self.hit(self.random.choice(agents), "agent kills")
        elif dice < 0.13 and agents and stop_agents:
            self.hit(self.random.choice(agents), "agent stops", self.random.uniform(0.1, 6))
        elif dice < 0.30 and readers:
            self.hit(self.random.choice(readers), "stops", self.random.uniform(0.01, 0.6))
        elif readers:
            self.hit(self.random.choice(readers), "kills")

    def run(self, kills, seconds, pause=0.05, stop_agents=True):
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and self.counts["kills"] + self.counts["agent kills"] < kills:
                self.tend_readers()
                time.sleep(self.random.expovariate(1 / pause))
                self.strike(stop_agents)
            self.tend_readers()
        finally:
            self.end()

    def end(self):
        for _ in range(3):
            readers, agents = self.victims()
            for pid in readers + agents:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.readers.values():
                # One that has just been started is no reader by its name yet.
                process.kill()
                process.wait()
                self.reader_failed(process)
            self.readers = {}

    def check(self, *args):
        env = {k: v for k, v in self.env.items() if k != "LD_PRELOAD"}
        return subprocess.run([CHECK, *args], env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)

    def survivors_go_on(self):
        """A new process, right after: every byte, in bounded time."""
        done = subprocess.run([READER, "all", self.mount, str(self.files)], env=self.env,
                              stderr=subprocess.PIPE, text=True, timeout=100, check=False)
        assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
        self.end()
        done = self.check()
        assert done.returncode == 0, done.stdout[-3000:]
        print("#", done.stdout.strip().replace("\n", "\n# "))


@contextlib.contextmanager
def storm(files=60, readers=4, seed=1, serve=("--latency", "1"), **settings):
    shm_base = os.environ.get("DELTAZERO_SHM_DIR") or "/dev/shm"
    with libblob.serve(*serve) as served, \
            tempfile.TemporaryDirectory(dir=shm_base, prefix="storm.") as shm, \
            tempfile.TemporaryDirectory(prefix="storm.") as cache:
        where = os.path.join(served.root, "data", "set")
        os.makedirs(where)
        subprocess.run([READER, "make", where, str(files)], check=True)
        s = Storm(served, shm, cache, files, readers, seed, **settings)
        try:
            yield s
        finally:
            s.end()
            print("#", s.counts)
