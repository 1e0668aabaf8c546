#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 150
"""The agent: one a node, and nothing of it shows in the program that started it; it
is replaced when it is killed, and ends when nobody has been there for a while.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
DZ = os.path.join(os.environ["DZ_BUILD"], "dz")
# Reads a file, so that an agent is started, and says what it sees of it.
PROBE = r"""
import os, signal, sys
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append("SIGCHLD"))
marked = os.open("/dev/null", os.O_RDONLY)
os.set_inheritable(marked, True)
before = set(os.listdir("/proc/self/fd"))
assert len(open(sys.argv[1], "rb").read()) == 100000
if seen: print("a signal")
try:
    print("a child", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    pass
if os.listdir("/proc/self/task") != [str(os.getpid())]: print("a thread")
low = [fd for fd in os.listdir("/proc/self/fd") if fd not in before and int(fd) < 20]
# The listing itself has one.
if len(low) > 1: print("descriptors", low)
"""


class Node:
    def __init__(self, served, top, **env):
        self.served = served
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=top + "/shm", DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="0",
                        DELTAZERO_MOUNT=f"{MOUNT}={served.url}/data", **env)

    def start(self, *command):
        return subprocess.Popen([DZ, "run", "--", *command], env=self.env, stdout=subprocess.PIPE, text=True)

    def read(self, name):
        run = subprocess.run([DZ, "run", "--", sys.executable, "-c", PROBE, f"{MOUNT}/{name}"], env=self.env,
                             stdout=subprocess.PIPE, text=True, timeout=60)
        assert run.returncode == 0 and run.stdout == "", run.stdout

    def agents(self):
        """Processes `dz agent` of this cache."""
        found = []
        mine = ("DELTAZERO_SHM_DIR=" + self.env["DELTAZERO_SHM_DIR"]).encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if len(words) > 1 and words[1] == b"agent" and mine in f.read().split(b"\0"):
                        found.append(int(pid))
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                pass
        return found

    def purge(self):
        subprocess.run([DZ, "purge", "--disk"], env=self.env, check=True)


def with_node(**env):
    def decorate(test):
        def wrapped(_):
            with tempfile.TemporaryDirectory() as top, libblob.serve() as served:
                for i in range(40):
                    served.write(f"data/{i:02}", bytes([i]) * 100000)
                node = Node(served, top, **env)
                try:
                    test(node)
                finally:
                    node.purge()

        wrapped.__name__ = test.__name__
        wrapped.__module__ = test.__module__
        return libblob.test(wrapped)

    return decorate


def stat_field(pid, n):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[n - 3])


@with_node()
def nothing_of_it_shows_in_the_program(node):
    node.read("00")
    [agent] = node.agents()
    parent, group, session, terminal = (stat_field(agent, n) for n in (4, 5, 6, 7))
    assert parent != os.getpid() and session != os.getsid(0) and group != os.getpgid(0), (parent, group, session)
    assert terminal == 0
    targets = {os.readlink(f"/proc/{agent}/fd/{fd}") for fd in ("0", "1", "2")}
    assert targets == {"/dev/null"}, targets
    assert os.readlink(f"/proc/{agent}/cwd") == "/"
    with open(f"/proc/{agent}/environ", "rb") as f:
        assert b"LD_PRELOAD=" not in f.read()
    # The key is in its environment, which its user alone may read, not in its words.
    with open(f"/proc/{agent}/cmdline") as f:
        assert libblob.KEY not in f.read()


@with_node()
def thirty_two_cold_processes_have_one_and_each_byte_is_sent_once(node):
    code = f"import os\nfor i in range(40): assert open('{MOUNT}/%02d' % i, 'rb').read() == bytes([i]) * 100000\n"
    jobs = [node.start(sys.executable, "-c", code) for _ in range(32)]
    assert [j.wait(120) for j in jobs] == [0] * 32
    assert len(node.agents()) == 1, node.agents()
    gets = [r for r in node.served.log() if r["op"] == "get"]
    assert sum(r["bytes"] for r in gets) == 40 * 100000
    assert len({r["conn"] for r in node.served.log()}) <= 64


@libblob.test
def thirty_two_cold_processes_are_served_with_one_token(_):
    with tempfile.TemporaryDirectory() as top:
        token, asked = top + "/token", 0
        with open(token, "w") as f:
            f.write("none")
        tokens = subprocess.Popen([sys.executable, os.path.join(os.environ["DZ_TOP"], "tests", "tools", "tokens.py"),
                                   "--token-file", token], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        authority = tokens.stdout.readline().split()[1]
        with libblob.serve("--token-file", token) as served:
            for i in range(40):
                served.write(f"data/{i:02}", bytes([i]) * 1000)
            node = Node(served, top, AZURE_AUTHORITY_HOST=authority + "/", AZURE_TENANT_ID="tenant",
                        AZURE_CLIENT_ID="client", AZURE_CLIENT_SECRET="secret")
            for name in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT"):
                node.env.pop(name)
            code = f"for i in range(40): assert open('{MOUNT}/%02d' % i, 'rb').read() == bytes([i]) * 1000\n"
            jobs = [node.start(sys.executable, "-c", code) for _ in range(32)]
            assert [j.wait(120) for j in jobs] == [0] * 32
            with open(token) as f:
                # Each that is handed out has the next number.
                asked = f.read()
            node.purge()
        tokens.communicate("")
        assert asked == "TOKEN-1", asked


@with_node()
def a_killed_one_is_replaced(node):
    node.read("00")
    [first] = node.agents()
    os.kill(first, signal.SIGKILL)
    start = time.monotonic()
    node.read("01")
    assert time.monotonic() - start < 20
    [second] = node.agents()
    assert second != first


@with_node(DELTAZERO_KEEP_SECONDS="1")
def it_ends_and_frees_the_memory_when_nobody_is_there(node):
    node.read("00")
    assert len(node.agents()) == 1
    libblob.eventually(lambda: not node.agents(), 30)
    left = [n for _, _, names in os.walk(node.env["DELTAZERO_SHM_DIR"]) for n in names if n in ("meta", "dram")]
    assert not left, left
    node.read("01")


@with_node(DELTAZERO_KEEP_SECONDS="0")
def a_read_at_the_moment_when_it_ends_is_served(node):
    """It ends at each look that finds nobody; programs come and go beside that."""
    one = "import sys\nassert open(sys.argv[1], 'rb').read() == bytes([int(sys.argv[2])]) * 100000\n"
    for i in range(0, 40, 2):
        jobs = [node.start(sys.executable, "-c", one, f"{MOUNT}/{n:02}", str(n)) for n in (i, i + 1)]
        assert [j.wait(60) for j in jobs] == [0, 0]
        # so that it finds nobody at another moment of the next ones each time
        time.sleep(i / 40)


@with_node()
def a_purge_ends_it(node):
    node.read("00")
    node.purge()
    libblob.eventually(lambda: not node.agents(), 5)


libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
