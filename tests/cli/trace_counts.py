#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 200
"""dz trace counts every call: a program counts its own, in six threads and three
children that return, _exit, are killed or exec, and the sums have to be equal."""
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

TRACED = os.path.join(os.environ["DZ_BUILD"], "tests", "cli", "traced")
SHOWN = {"open": "openat", "stat": "newfstatat", "pread": "pread64"}


def table(text):
    """Rows of -c: name -> its columns as in strace's, then what is behind them."""
    rows = {}
    for line in text.splitlines():
        if re.match(r" *\d+\.\d\d ", line):
            rows[line.split()[-1]] = {"calls": int(line[32:41]), "errors": int(line[42:51].strip() or 0),
                                      "dram": int(line[52:60].strip() or 0),
                                      "blob": int(line[79:87].strip() or 0),
                                      "bytes": int(line[88:101].strip() or 0), "seconds": float(line.split()[1])}
    return rows


def counted(trees, how, *options):
    """What the program counted, and what the trace says."""
    out = os.path.join(trees.tmp, "out")
    done = subprocess.run([libblob.dz(), "trace", "-o", out, *options, TRACED, "count", trees.mount, how],
                          env=trees.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0, done
    made = {SHOWN.get(k, k): int(n) for k, n in (line.split() for line in done.stdout.splitlines())}
    return made, open(out).read(), done.stderr


def assert_counts(made, rows):
    for name, n in made.items():
        # a thread's own stat of the program's start does not count: it is of no mount
        assert rows[name]["calls"] == n, (name, n, rows[name])


@libblob.test
def counts_equal_what_the_program_counted(trees):
    for how in ("return", "_exit", "kill", "exec"):
        made, text, _ = counted(trees, how, "-c")
        rows = table(text)
        assert_counts(made, rows)
        assert rows["total"]["calls"] == sum(made.values()), (how, rows["total"], made)
        assert rows["newfstatat"]["errors"] == made["newfstatat"]


@libblob.test
def lines_equal_what_the_program_counted(trees):
    for how in ("_exit", "kill", "exec"):
        made, text, said = counted(trees, how)
        # On a busy machine a ring may fill: then what is missing is said, to the call.
        dropped = re.search(r"(\d+) calls were not seen", said)
        lines = {name: len(re.findall(rf"^\d+ +{name}\(", text, re.M)) for name in made}
        assert all(lines[name] <= n for name, n in made.items()), (how, made, lines)
        assert sum(lines.values()) + (int(dropped[1]) if dropped else 0) == sum(made.values()), (how, made, lines, said)


@libblob.test
def counts_from_lines_are_the_same(trees):
    made, text, _ = counted(trees, "_exit", "-C", "-e", "status=successful,failed")
    assert_counts(made, table(text))
    # and -C shows the lines as well
    assert len(re.findall(r"^\d+ +close\(", text, re.M)) == made["close"], text[-3000:]


@libblob.test
def bytes_and_tiers_are_counted(trees):
    made, text, _ = counted(trees, "return", "-c")
    row = table(text)["pread64"]
    assert row["bytes"] == 512 * made["pread64"], row
    assert row["dram"] + row["blob"] == made["pread64"], row


@libblob.test
def the_table_is_json_too(trees):
    made, text, _ = counted(trees, "return", "-c", "--json")
    answer = json.loads(text)
    rows = {row["name"]: row for row in answer["calls"]}
    assert {name: row["calls"] for name, row in rows.items()} == made and answer["lost"] == 0
    assert answer["bypass"] == [], answer["bypass"]
    pread = rows["pread64"]
    assert pread["bytes"] == 512 * made["pread64"] == 512 * sum(pread["tiers"].values()), pread
    assert pread["p50_ns"] <= pread["p99_ns"] <= pread["p999_ns"] <= pread["max_ns"], pread
    done = subprocess.run([libblob.dz(), "trace", "--json", "true"], stderr=subprocess.DEVNULL)
    assert done.returncode == 125


@libblob.test
def rows_are_sorted_as_wanted(trees):
    for order, column in (("time", "seconds"), ("calls", "calls"), ("count", "calls"),
                          ("errors", "errors"), ("bytes", "bytes")):
        _, text, _ = counted(trees, "return", "-c", "-S", order)
        keys = [row[column] for name, row in table(text).items() if name != "total"]
        assert len(keys) > 3 and keys == sorted(keys, reverse=True), (order, text)
    average = lambda row: row["seconds"] / row["calls"]
    for order, key in (("max-time", lambda row: row["max_ns"]), ("avg-time", average)):
        _, text, _ = counted(trees, "return", "-c", "--json", "-S", order)
        keys = [key(row) for row in json.loads(text)["calls"]]
        assert len(keys) > 3 and keys == sorted(keys, reverse=True), (order, text)
    _, text, _ = counted(trees, "return", "-c", "-S", "name")
    names = [name for name in table(text) if name != "total"]
    assert names == sorted(names), text
    done = subprocess.run([libblob.dz(), "trace", "-S", "moon", "true"], stderr=subprocess.DEVNULL)
    assert done.returncode == 125


@libblob.test
def children_appear_under_their_own_numbers(trees):
    _, text, _ = counted(trees, "_exit")
    # six threads, three children
    assert len(set(re.findall(r"^(\d+) +\w+\(", text, re.M))) == 9
    made, text, _ = counted(trees, "_exit", "--no-follow", "-tt")
    # of the six threads, not of the children, which are no less busy
    assert len(re.findall(r" openat\(AT_FDCWD", text)) * 9 == made["openat"] * 6, text[:300]
    assert len(set(re.findall(r"^\[pid +(\d+)\].*\(", text, re.M))) <= 6, text[:300]


def start_loop(trees):
    loop = subprocess.Popen([libblob.dz(), "run", "--", TRACED, "loop", trees.mount], env=trees.env,
                            stdout=subprocess.PIPE, text=True)
    assert loop.stdout.readline() == "ready\n"
    return loop


def traces_of(pid):
    maps = open(f"/proc/{pid}/maps").read()
    seen = maps.split()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            seen.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return [w for w in seen if "/trace." in w]


def switches(pid):
    """How often a process has gone to sleep: `traced loop` does after each read."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M)[1])


def wait_for_reads(pid):
    before = switches(pid)
    libblob.eventually(lambda: switches(pid) > before + 40, 60)


@libblob.test
def a_running_process_is_attached_to_and_let_go(trees):
    loop = start_loop(trees)
    try:
        for _ in range(2):
            out = os.path.join(trees.tmp, "attached")
            tracer = subprocess.Popen([libblob.dz(), "trace", "-y", "-o", out, "-p", str(loop.pid)],
                                      env=trees.env)
            libblob.eventually(lambda: traces_of(loop.pid), 20)
            wait_for_reads(loop.pid)
            second = subprocess.run([libblob.dz(), "trace", "-p", str(loop.pid)], env=trees.env,
                                    stderr=subprocess.PIPE, text=True)
            assert second.returncode == 125 and "another dz trace" in second.stderr, second
            tracer.send_signal(signal.SIGINT)
            assert tracer.wait(10) == 0
            text = open(out).read()
            path = re.escape(trees.mount + "/text/lines.txt")
            assert len(re.findall(rf"read\(3<{path}>, 0x[0-9a-f]+, 1000\) = 1000 <dram>", text)) > 20, text[:500]
            libblob.eventually(lambda: traces_of(loop.pid) == [], 20)
        assert loop.poll() is None
    finally:
        loop.kill()
        loop.wait()


FAMILY = """
import os, select, subprocess, sys
name = sys.argv[1] + "/text/lines.txt"
f = open(name, "rb", buffering=0)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]: f.seek(0)
if os.fork() == 0: os.execv("/bin/cat", ["cat", name])
os.wait()
subprocess.run(["head", "-c", "5", name])
os.execv("/usr/bin/wc", ["wc", "-l", name])
"""


@libblob.test
def children_and_successors_of_an_attached_process_are_followed(trees):
    out = os.path.join(trees.tmp, "family")
    job = subprocess.Popen([libblob.dz(), "run", "--", "/usr/bin/python3", "-c", FAMILY, trees.mount],
                           env=trees.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "ready\n"
    tracer = subprocess.Popen([libblob.dz(), "trace", "-o", out, "-e", "trace=openat", "-p", str(job.pid)],
                              env=trees.env)
    libblob.eventually(lambda: traces_of(job.pid), 20)
    job.communicate("go\n", timeout=60)
    assert tracer.wait(20) == 0
    pids = re.findall(r'^(\d+) +openat\(AT_FDCWD, ".*/text/lines.txt"', open(out).read(), re.M)
    # cat after a fork, head after a spawn, wc in the place of the process itself
    assert len(pids) == 3 and len(set(pids)) == 3 and pids[2] == str(job.pid), (pids, job.pid)


@libblob.test
def a_tracer_that_was_killed_leaves_nothing_in_the_way(trees):
    loop = start_loop(trees)
    try:
        tracer = subprocess.Popen([libblob.dz(), "trace", "-o", "/dev/null", "-p", str(loop.pid)],
                                  env=trees.env)
        libblob.eventually(lambda: traces_of(loop.pid), 20)
        tracer.kill()
        tracer.wait()
        first = traces_of(loop.pid)
        out = os.path.join(trees.tmp, "next")
        tracer = subprocess.Popen([libblob.dz(), "trace", "-c", "-o", out, "-p", str(loop.pid)],
                                  env=trees.env)
        libblob.eventually(lambda: set(traces_of(loop.pid)) - set(first), 20)
        wait_for_reads(loop.pid)
        loop.kill()
        assert tracer.wait(20) == 0
        assert table(open(out).read())["read"]["calls"] > 20
    finally:
        loop.kill()
        loop.wait()


@libblob.test
def two_processes_are_attached_to_at_once(trees):
    one, two = start_loop(trees), start_loop(trees)
    out = os.path.join(trees.tmp, "two")
    try:
        # As strace takes them; the second time -p is written out.
        for options in (["-p", f"{one.pid},{two.pid}"], ["-p", str(one.pid), "--attach", str(two.pid)]):
            tracer = subprocess.Popen([libblob.dz(), "trace", "-z", "-o", out, *options], env=trees.env)
            for loop in (one, two):
                libblob.eventually(lambda pid=loop.pid: traces_of(pid))
                wait_for_reads(loop.pid)
            tracer.send_signal(signal.SIGINT)
            assert tracer.wait(20) == 0
            text = open(out).read()
            assert set(re.findall(r"^(\d+) +read\(", text, re.M)) == {str(one.pid), str(two.pid)}, text[:500]
            libblob.eventually(lambda: traces_of(one.pid) == traces_of(two.pid) == [])
    finally:
        for loop in (one, two):
            loop.kill()
            loop.wait()


@libblob.test
def a_process_that_is_not_there_is_an_error(trees):
    done = subprocess.run([libblob.dz(), "trace", "-p", "999999999"], env=trees.env,
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == 125 and "no such process" in done.stderr, done


FLOOD = """
import os, sys
f = os.open(sys.argv[1] + "/text/lines.txt", 0)
print("ready", flush=True)
sys.stdin.readline()
for i in range(50000): os.lseek(f, i, 0)
print("done", flush=True)
"""


@libblob.test
def a_flood_is_dropped_and_said_and_does_not_hold_the_program_up(trees):
    out = os.path.join(trees.tmp, "flood")
    tracer = subprocess.Popen([libblob.dz(), "trace", "-o", out, "/usr/bin/python3", "-c", FLOOD, trees.mount],
                              env=trees.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)
    try:
        assert tracer.stdout.readline() == "ready\n"
        # Nobody reads the rings now, and the program ends its work all the same.
        tracer.send_signal(signal.SIGSTOP)
        tracer.stdin.write("go\n")
        tracer.stdin.flush()
        assert tracer.stdout.readline() == "done\n"
    finally:
        tracer.send_signal(signal.SIGCONT)
    said = tracer.communicate(timeout=60)[1]
    assert tracer.returncode == 0, said
    text = open(out, encoding="utf-8").read()
    lines, dropped = text.count("lseek("), int(re.search(r"(\d+) calls were not seen", said)[1])
    assert 5000 < lines < 20000 and lines + dropped == 50000, (lines, said)
    assert sum(int(n) for n in re.findall(r"--- (\d+) calls not shown", text)) == dropped, text[-300:]


@libblob.test
def what_was_not_served_is_said_with_symbol_and_reason(trees):
    out = os.path.join(trees.tmp, "bypass")
    python = f"import os\nos.listdir({trees.mount!r})\ntry: os.chroot({trees.mount!r})\nexcept OSError as e: print(e.errno)"
    done = subprocess.run([libblob.dz(), "trace", "-c", "-o", out, "/usr/bin/python3", "-c", python],
                          env=trees.env, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == "1\n", done
    text = open(out).read()
    assert re.search(r"^ +1 chroot +python3\S* +EPERM ", text, re.M), text
    done = subprocess.run([libblob.dz(), "trace", "-c", "--json", "/usr/bin/python3", "-c", python],
                          env=trees.env, stdout=subprocess.PIPE, text=True, timeout=60)
    (missed,) = json.loads(done.stdout.split("\n", 1)[1])["bypass"]
    assert missed["calls"] == 1 and "chroot" in missed.values() and "EPERM" in missed.values(), missed
    assert any("python3" in str(v) for v in missed.values()), missed


# Each refused, of a path below the mount and of one that is not: of names that the kernel
# does not find nothing can come.  The path of a descriptor is of the mount as well.
REFUSED = """
import ctypes, os, sys
libc, mount = ctypes.CDLL(None, use_errno=True), sys.argv[1].encode()
calls = {
    "mount": lambda p: libc.mount(p, p, b"none", 4096, None),
    "umount": lambda p: libc.umount(p),
    "umount2": lambda p: libc.umount2(p, 2),
    "pivot_root": lambda p: libc.pivot_root(p, p),
    "swapon": lambda p: libc.swapon(p, 0),
    "acct": lambda p: libc.acct(p),
    "quotactl": lambda p: libc.quotactl(0, p, 0, None),
    "syscall": lambda p: libc.syscall(%d, p, 2),
}
file, (out, into) = os.open(mount + b"/text/lines.txt", os.O_RDONLY), os.pipe()
calls["fd path"] = lambda p: libc.umount2(b"/proc/self/fd/%%d" %% (file if p.startswith(mount) else out), 2)
calls["tee"] = lambda p: libc.tee(file if p.startswith(mount) else out, into, 10, 2)
calls["fanotify_mark"] = lambda p: libc.fanotify_mark(997, 1, ctypes.c_uint64(32), file if p.startswith(mount) else out, None)
for name, call in calls.items():
    for path in (mount + b"/text/none", b"/nowhere/none"):
        assert call(path) == -1, (name, path)
        print(name, os.strerror(ctypes.get_errno()), path.startswith(mount), sep=":")
"""


@libblob.test
def what_the_kernel_refuses_of_paths_and_descriptors_of_a_mount_is_counted(trees):
    number = {"x86_64": 166}.get(os.uname().machine, 39)  # of umount2
    out = os.path.join(trees.tmp, "refused")
    done = subprocess.run([libblob.dz(), "trace", "-c", "--json", "-o", out, "/usr/bin/python3", "-c",
                           REFUSED % number, trees.mount], env=trees.env, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done
    made = {}
    for line in done.stdout.splitlines():
        name, reason, is_ours = line.split(":")
        key = {"syscall": "umount2", "fd path": "umount2"}.get(name, name), reason
        made[key] = made.get(key, 0) + (is_ours == "True")
    counted_calls = {}
    for row in json.load(open(out))["bypass"]:
        key = row["symbol"], os.strerror(getattr(errno, row["error"]))
        counted_calls[key] = counted_calls.get(key, 0) + row["calls"]
    assert counted_calls == {key: n for key, n in made.items() if n}, (counted_calls, made)
    assert sum(counted_calls.values()) == 11, counted_calls


with libshim.trees() as both:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
