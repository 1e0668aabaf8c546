#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 120
"""Large mappings are filled when they are touched: little of a blob is fetched, its
bytes are right however they are looked at, and they stay right when what fills them
is killed.
"""
import os
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402
from libblob import eventually  # noqa: E402

MOUNT = "/mnt/dz-test"
READER = os.path.join(os.environ["DZ_BUILD"], "tests", "apps", "lazy_reader")
MIB, GIB = 1 << 20, 1 << 30
PLACES = [i * 4 * GIB + 77 * MIB for i in range(5)]
SMALL = 100 * MIB


class Node:
    def __init__(self, served, top, **env):
        self.served = served
        self.shm = top + "/shm"
        self.env = dict(os.environ, AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY,
                        DELTAZERO_SHM_DIR=self.shm, DELTAZERO_CACHE_DIR=top + "/cache",
                        DELTAZERO_DISK_SIZE="0", DELTAZERO_LOG="error:" + top + "/log",
                        DELTAZERO_MOUNT=f"{MOUNT}={served.url}/data", **{"DELTAZERO_DRAM_SIZE": "256M", **env})
        self.top = top

    def start(self, name, *steps):
        return subprocess.Popen([libblob.dz(), "run", "--", READER, "read", f"{MOUNT}/{name}", name, *steps],
                                env=self.env, cwd=self.top, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, name, *steps):
        with self.start(name, *steps) as job:
            assert job.wait(60) == 0, (job.returncode, steps)

    def pagers(self):
        """(pager, keeper): the younger of two processes is the pager."""
        mine = ("DELTAZERO_SHM_DIR=" + self.shm).encode()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if words[3:4] == [b"pager"] and mine in f.read().split(b"\0"):
                        found.append((len(os.listdir(f"/proc/{pid}/task")), int(pid)))
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                pass
        # The pager has threads.
        return [pid for threads, pid in sorted(found, reverse=True)]

    def both(self):
        return eventually_is(lambda: (lambda p: p if len(p) == 2 else None)(self.pagers()), 10)

    def sent(self):
        return sum(r["bytes"] for r in self.served.log() if r["op"] == "get")

    def purge(self):
        subprocess.run([libblob.dz(), "purge", "--disk"], env=self.env, check=True)


def eventually_is(value, seconds):
    found = []

    def look():
        found[:] = [value()]
        return found[0]

    eventually(look, seconds)
    return found[0]


def can_be_lazy():
    with open("/proc/self/status") as f:
        effective = next(int(line.split()[1], 16) for line in f if line.startswith("CapEff"))
    return effective >> 19 & 1  # CAP_SYS_PTRACE


def with_node(faults=None, needs=True, **env):
    def decorate(test):
        def wrapped(_):
            if needs and not can_be_lazy():
                raise libblob.Skip("userfaultfd with fork events needs CAP_SYS_PTRACE")
            with tempfile.TemporaryDirectory() as top, libblob.serve(faults=faults) as served:
                data = os.path.join(served.root, "data")
                for name in ("huge", "small"):
                    os.link(os.path.join(CONTENT.name, name), os.path.join(data, name))
                node = Node(served, top, **env)
                try:
                    test(node)
                finally:
                    node.purge()

        wrapped.__name__ = test.__name__
        wrapped.__module__ = test.__module__
        return libblob.test(wrapped)

    return decorate


def touches(places=PLACES, n=70000):
    return [f"read:{at + 500}:{n}" for at in places]


@with_node()
def a_blob_of_20_GB_touched_in_places_is_fetched_there_only(node):
    node.read("huge", "map", *touches(n=100), "rss:40")
    assert node.sent() <= len(PLACES) * 256 * 1024, node.sent()
    # A process more asks Blob for nothing more.
    node.read("huge", "prot:1:1", "map", *touches(n=100), "rss:40")
    assert node.sent() <= len(PLACES) * 256 * 1024, node.sent()


@with_node()
def all_of_a_blob_is_right_in_sequence_from_the_middle_and_by_threads(node):
    node.read("small", "map", f"read:0:{SMALL + 1234}")
    node.read("small", f"map:{7 * 4096}:{90 * MIB}", f"read:{50 * MIB}:{40 * MIB}", f"threads:0:{30 * MIB}:8")
    assert node.sent() <= 1.1 * SMALL + 4 * MIB, node.sent()


@with_node()
def the_kernel_reads_unfilled_pages_too(node):
    node.read("small", "map", f"write:{MIB + 5}:300000", f"direct:{10 * MIB}:{MIB}",
              f"write:{SMALL - 1000}:2234", f"uring:{20 * MIB}:{MIB}")


@with_node(needs=False)
def the_kernel_reads_pages_of_the_cache_too(node):
    """Below the size of those that are filled when they are touched."""
    for shared in (0, 1):
        node.read("small", f"prot:1:{shared}", f"map:{MIB}:{30 * MIB}", f"write:{MIB + 5}:300000",
                  f"direct:{10 * MIB}:{MIB}", f"uring:{20 * MIB}:{MIB}", f"fork:{5 * MIB}:{MIB}")
    assert not node.pagers()


@with_node()
def children_of_fork_read_unfilled_pages_however_they_were_made(node):
    node.read("small", "prot:3", "map", f"fork:{MIB}:100000", f"rawfork:{2 * MIB}:100000", "closeall",
              f"fork:{MIB}:{3 * MIB}", f"rawfork:{4 * MIB}:300000", f"read:{5 * MIB}:{MIB}",
              f"fork:{SMALL}:1234")


@with_node()
def written_pages_are_private_and_come_back_as_they_were(node):
    node.read("small", "prot:3", "map", f"poke:{3 * MIB}", f"poke:{3 * MIB + 4096}", f"read:{3 * MIB}:{MIB}",
              f"fork:{3 * MIB}:{MIB}")


@with_node()
def parts_are_unmapped_replaced_and_moved(node):
    node.read("small", "map", f"read:{MIB}:{MIB}", f"unmap:{4 * MIB}:{4 * MIB}", f"read:{8 * MIB}:{MIB}",
              f"over:{70 * MIB}:{20 * MIB}", f"read:{69 * MIB}:{30 * MIB}", f"fork:{20 * MIB}:{MIB}")
    node.read("small", f"map:0:{70 * MIB}", f"read:{MIB}:{MIB}", f"remap:{80 * MIB}", f"read:{MIB}:{79 * MIB}",
              f"remap:{90 * MIB}:1", f"read:0:{90 * MIB}", f"remap:{64 * MIB}", f"fork:0:{64 * MIB}")


@with_node()
def hints_fetch_and_fill_ahead(node):
    with node.start("small", "map", f"willneed:0:{20 * MIB}", "sync:1", f"read:0:{20 * MIB}") as job:
        assert job.stdout.readline() == "at 1\n"
        # Nothing is touched yet.
        eventually(lambda: node.sent() >= 20 * MIB, 20)
        job.stdin.write("\n")
        job.stdin.flush()
        assert job.wait(60) == 0
    node.read("small", "populate:1", f"map:0:{80 * MIB}", f"read:0:{80 * MIB}")
    assert node.sent() <= SMALL + MIB, node.sent()


SLOW = "match=/data/huge op=get every=1 action=delay:700\n"


def kill_while_one_waits(node, victims):
    """victims(pager, keeper): who is killed."""
    job = node.start("huge", "prot:3", "map", "sync:1", *touches(PLACES[:1]), "say:2",
                     *touches(PLACES[1:2]), f"fork:{PLACES[2]}:70000", "say:3")
    assert job.stdout.readline() == "at 1\n"
    both = node.both()
    job.stdin.write("\n")
    job.stdin.flush()
    for pid in victims(*both):
        os.kill(pid, signal.SIGKILL)
    assert job.wait(60) == 0
    assert job.stdout.read() == "at 2\nat 3\n"
    job.stdin.close()
    return both


@with_node(faults=SLOW)
def a_reader_goes_on_when_the_pager_is_killed(node):
    pager, keeper = kill_while_one_waits(node, lambda pager, keeper: [pager])
    assert pager not in node.pagers() and keeper in node.pagers()


@with_node(faults=SLOW)
def a_reader_goes_on_when_the_keeper_is_killed(node):
    _, keeper = kill_while_one_waits(node, lambda pager, keeper: [keeper])
    now = node.both()
    assert keeper not in now


@with_node(faults=SLOW)
def a_reader_goes_on_when_both_are_killed_at_once(node):
    both = kill_while_one_waits(node, lambda pager, keeper: [pager, keeper])
    assert not set(both) & set(node.both())


@with_node()
def pager_and_keeper_replace_each_other_time_and_again(node):
    with node.start("small", "prot:3", "map", *(s for i in range(6) for s in (
            f"sync:{i}", f"read:{(1 + 10 * i) * MIB}:{MIB}", f"fork:{(5 + 10 * i) * MIB}:{MIB}",
            f"rawfork:{(7 + 10 * i) * MIB}:{MIB}"))) as job:
        for i in range(6):
            assert job.stdout.readline() == f"at {i}\n"
            both = node.both()
            victim = both[i % 2]
            os.kill(victim, signal.SIGKILL)
            if i >= 3:
                eventually(lambda: victim not in node.pagers(), 5)
                node.both()
            job.stdin.write("\n")
            job.stdin.flush()
        assert job.wait(60) == 0


@with_node()
def a_page_that_cannot_be_had_is_never_zeros(node):
    with node.start("small", "map", f"read:0:{MIB}", "sync:1", f"bus:{90 * MIB}") as job:
        assert job.stdout.readline() == "at 1\n"
        os.unlink(os.path.join(node.served.root, "data", "small"))
        job.stdin.write("\n")
        job.stdin.flush()
        assert job.wait(60) == 0


@with_node()
def a_purge_takes_nothing_from_a_mapping(node):
    with node.start("small", "map", f"read:0:{MIB}", "sync:1", f"read:{50 * MIB}:{MIB}", "sync:2",
                    f"fork:{60 * MIB}:{MIB}") as job:
        for i in (1, 2):
            assert job.stdout.readline() == f"at {i}\n"
            node.purge()
            job.stdin.write("\n")
            job.stdin.flush()
        assert job.wait(60) == 0


def read_past(node, times):
    """More than the memory holds, by another process."""
    for _ in range(times):
        subprocess.run([libblob.dz(), "run", "--", "cat", f"{MOUNT}/small"], env=node.env, check=True, timeout=60,
                       stdout=subprocess.DEVNULL)


@with_node(needs=False, DELTAZERO_DRAM_SIZE="64M")
def what_is_mapped_stays_while_others_read_more_than_fits(node):
    def asked():
        """Requests for what stays mapped."""
        ranges = [r["range"][len("bytes="):].split("-") for r in node.served.log() if r["op"] == "get"]
        return len([1 for first, last in ranges if int(first) < 44 * MIB and int(last) >= 28 * MIB])

    with node.start("small", "prot:1:1", f"map:{20 * MIB}:{24 * MIB}", f"read:0:{24 * MIB}", "sync:1",
                    f"unmap:0:{8 * MIB}", "sync:2", f"read:{8 * MIB}:{16 * MIB}", f"fork:{8 * MIB}:{16 * MIB}",
                    "sync:3") as job:
        for i in (1, 2):
            assert job.stdout.readline() == f"at {i}\n"
            before = asked()
            read_past(node, 2)
            assert asked() == before
            job.stdin.write("\n")
            job.stdin.flush()
        assert job.stdout.readline() == "at 3\n"
        job.kill()
    # Killed with its mapping: that goes as all else does.
    read_past(node, 3)
    assert asked() > before


@with_node(needs=False, DELTAZERO_DRAM_SIZE="64M")
def a_part_of_a_blob_is_copied_where_it_is_denied_and_does_not_fit(node):
    node.read("small", "deny", f"map:{30 * MIB}:{40 * MIB}", f"read:0:{40 * MIB}", f"fork:0:{MIB}",
              "prot:3", f"map:{4096}:{49 * MIB}", f"read:{MIB}:{MIB}")
    # The two parts, what is fetched ahead, and what of that was evicted before its turn came:
    # how much is a matter of time.  Not the whole blob twice.
    assert node.sent() < 180 * MIB, node.sent()


@with_node(needs=False)
def where_it_is_denied_the_mapping_is_filled_at_once(node):
    node.read("small", "deny", "map", "rss:20", f"read:{30 * MIB}:{MIB}", f"fork:{90 * MIB}:{MIB}",
              f"rawfork:{40 * MIB}:{MIB}")
    assert SMALL <= node.sent() <= SMALL + 2 * MIB, node.sent()
    assert not node.pagers()


def make_content():
    def make(name, size, *parts):
        subprocess.run([READER, "make", os.path.join(CONTENT.name, name), name, str(size), *map(str, parts)],
                       check=True)

    make("huge", 20 * GIB, *(n for at in PLACES for n in (at, MIB)))
    make("small", SMALL + 1234)


if __name__ == "__main__":
    CONTENT = tempfile.TemporaryDirectory()
    make_content()
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), None)
