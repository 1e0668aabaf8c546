#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz trace beside the real strace: the same program on a local tree and on a mount
has to give the same lines but for addresses and the root."""
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import libblob

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402

TRACED = os.path.join(os.environ["DZ_BUILD"], "tests", "cli", "traced")


def trace(trees, *args, command=("lines",), check=True):
    """Lines of dz trace -o on `traced lines MOUNT`."""
    out = os.path.join(trees.tmp, "out")
    done = subprocess.run([libblob.dz(), "trace", "-qq", "-o", out, *args, TRACED, command[0], trees.mount,
                           *command[1:]],
                          env=trees.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert not check or done.returncode == 0, done
    return open(out, encoding="utf-8").read().splitlines()


def strace(trees, *args):
    out = os.path.join(trees.tmp, "strace")
    subprocess.run(["strace", "-f", "-o", out, *args, TRACED, "lines", trees.local], check=True,
                   stdout=subprocess.DEVNULL)
    return open(out, encoding="utf-8").read().splitlines()


def normal(lines, root):
    """Between the two accesses, without numbers of processes, addresses, tiers."""
    text = []
    for line in lines:
        line = re.sub(r"^\d+ +", "", line.replace(root, "ROOT"))
        line = re.sub(r" <[^<>]*>$", "", line)
        line = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", line)
        # what readv has filled is shown by strace only; the column of the result moves with paths
        line = re.sub(r"\[\{.*\}\]", "ADDRESS", line)
        text.append(re.sub(r" += ", " = ", line))
    first, last = (next(i for i, line in enumerate(text) if f'"ROOT/{name}"' in line)
                   for name in ("begin", "end"))
    return text[first:last + 1]


def needs_strace():
    if not shutil.which("strace"):
        raise libblob.Skip("no strace")


@libblob.test
def lines_are_those_of_strace(trees):
    needs_strace()
    theirs = normal(strace(trees), trees.local)
    ours = normal(trace(trees, "-s", "32"), trees.mount)
    assert len(ours) > 50
    diff = list(difflib.unified_diff(theirs, ours, "strace", "dz trace", n=0, lineterm=""))
    assert not diff, "\n".join(diff)


@libblob.test
def results_stand_in_the_same_column(trees):
    needs_strace()
    line = next(l for l in trace(trees) if "close(3)" in l)
    theirs = next(l for l in strace(trees) if "close(3)" in l)
    assert line.index("= ") == theirs.index("= "), (line, theirs)


@libblob.test
def the_first_read_comes_from_blob_and_says_what_it_waited_for(trees):
    subprocess.run([libblob.dz(), "purge"], env=trees.env, check=True)
    lines = trace(trees, "-T", "-e", "trace=read")
    assert re.search(r"= 100 <0\.\d{6} blob: 1 GET(, (queue|net|copy) 0\.\d{6})+>$", lines[1]), lines[1]
    took, *parts = (int(us) for us in re.findall(r"0\.(\d{6})", lines[1].split("= 100 ")[1]))
    assert abs(sum(parts) - took) <= 5 + took // 50, lines[1]
    again = trace(trees, "-T", "-e", "trace=read")
    assert re.search(r"= 100 <0\.\d{6} dram>$", again[1]), again[1]


@libblob.test
def paths_of_descriptors(trees):
    lines = "\n".join(trace(trees, "-y"))
    path = re.escape(trees.mount + "/text/lines.txt")
    assert re.search(rf"read\(3<{path}>, 0x[0-9a-f]+, 100\)", lines), lines
    assert re.search(rf"O_CLOEXEC\) = 3<{path}>", lines), lines
    assert re.search(rf"close\(3<{path}>\)", lines), lines
    assert re.search(rf"PROT_READ, MAP_PRIVATE, 3<{path}>, 0\)", lines), lines


def names(lines):
    return {re.sub(r"^\d+ +", "", l).split("(")[0] for l in lines}


@libblob.test
def calls_are_chosen_as_strace_chooses_them(trees):
    assert names(trace(trees, "-e", "trace=read,pread64")) == {"read", "pread64"}
    assert names(trace(trees, "-e", "read,openat")) == {"read", "openat"}
    assert "read" not in names(trace(trees, "-e", "trace=!read")) >= {"openat", "lseek"}
    file = names(trace(trees, "-e", "trace=%file"))
    assert file == {"newfstatat", "openat", "access", "readlink"}, file
    assert "access" not in names(trace(trees, "-e", "trace=%desc")) >= {"read", "close", "mmap"}
    assert names(trace(trees, "-e", "trace=%memory")) == {"mmap"}
    assert names(trace(trees, "-f", "-e", "trace=?none,read")) == {"read"}


@libblob.test
def calls_are_chosen_by_their_result(trees):
    failed = trace(trees, "-e", "status=failed")
    assert failed and all("= -1 E" in l for l in failed)
    assert trace(trees, "-Z") and all("= -1 E" in l for l in trace(trees, "-Z"))
    for option in (["-e", "status=successful"], ["-z"]):
        good = trace(trees, *option)
        assert len(good) > 30 and not any("= -1" in l for l in good)
    assert len(failed) + len(good) == len(trace(trees)) == len(trace(trees, "-e", "status=successful,failed"))


@libblob.test
def calls_are_chosen_by_path_tier_and_time(trees):
    other = trace(trees, "-P", trees.mount + "/text/other.txt")
    assert len(other) >= 2 and all("lines.txt" not in l for l in other), other
    below = trace(trees, "-P", trees.mount + "/text")
    assert any("other.txt" in l for l in below) and trace(trees, "-P", trees.mount + "/te") == []
    assert not any('/begin"' in l for l in below) and sum("lines.txt" in l for l in below) > 5, below
    assert trace(trees, "-e", "tier=blob") == []
    assert trace(trees, "-e", "origin") == []
    dram = trace(trees, "-e", "tier=dram", "-e", "trace=read")
    assert dram and all(l.endswith("<dram>") for l in dram), dram
    assert trace(trees, "-e", "slower=100s") == []


@libblob.test
def what_blob_had_to_answer_is_chosen_when_it_had_to(trees):
    for option in ("tier=blob", "origin", "tier=!dram", "slower=20us"):
        subprocess.run([libblob.dz(), "purge"], env=trees.env, check=True)
        lines = trace(trees, "-T", "-e", "trace=read", "-e", option)
        assert len([l for l in lines if "= 100 <" in l and " blob: 1 GET" in l]) == 1, (option, lines)
        if option == "slower=20us":
            assert all(int(re.search(r"<0\.(\d{6})", l)[1]) >= 20 for l in lines), lines
        else:
            assert all(" blob: " in l for l in lines) and len(lines) < len(trace(trees, "-e", "trace=read")), lines


@libblob.test
def what_is_on_disk_says_how_long_the_disk_took(trees):
    env = dict(trees.env, DELTAZERO_SHM_DIR=os.path.join(trees.tmp, "shm"), DELTAZERO_DISK_SIZE="64M",
               DELTAZERO_CACHE_DIR=os.path.join(trees.tmp, "disk"))
    dz = lambda *args: subprocess.run([libblob.dz(), *args], env=env, check=True, stdout=subprocess.PIPE).stdout
    name = trees.mount + "/text/lines.txt"
    out = os.path.join(trees.tmp, "from-disk")
    try:
        dz("warm", name)
        libblob.eventually(lambda: json.loads(dz("verify", "--json").splitlines()[-1])["disk"]["good"] == 1, 20)
        dz("purge")
        dz("trace", "-qq", "-T", "-e", "tier=disk", "-o", out, "head", "-c", "10", name)
        lines = open(out, encoding="utf-8").read().splitlines()
        assert len(lines) == 1 and re.search(
            r"read\(3, .*<0\.\d{6} disk: ((queue|copy) 0\.\d{6}, )?disk 0\.\d{6}", lines[0]), lines
    finally:
        dz("purge", "--disk")


@libblob.test
def times_have_the_forms_of_strace(trees):
    line = r"^\d+ +{}access\("
    for options, stamp in ((["-t"], r"\d\d:\d\d:\d\d "), (["-tt"], r"\d\d:\d\d:\d\d\.\d{6} "),
                           (["-t", "-t", "-t"], r"\d{10}\.\d{6} "), (["-r"], r" +\d+\.\d{6} ")):
        text = trace(trees, *options)[0]
        assert re.match(line.format(stamp), text), text
    both = [line.split()[1:3] for line in trace(trees, "-r", "-ttt")]
    times = [float(at) for _, at in both]
    assert times == sorted(times) and abs(times[0] - time.time()) < 100, times[0]
    for since, before, at in zip(both[1:], times, times[1:]):
        assert abs(float(since[0]) - (at - before)) < 3e-6, (since, before)


@libblob.test
def the_table_begins_with_the_columns_of_strace(trees):
    needs_strace()
    theirs, ours = (lines[:2] + lines[-1:] for lines in (strace(trees, "-c"), trace(trees, "-c")))
    for their, our in zip(theirs[:2], ours):
        columns = their.rsplit(" ", 1)[0]
        assert our.startswith(columns) and our.split()[-1] == their.split()[-1], (their, our)
    for total in (theirs[2], ours[2]):
        assert total.startswith("100.00 ") and total.split()[-1] == "total", total
        assert int(total[32:41]) > int(total[42:51]) > 0, total


@libblob.test
def a_pipe_gets_the_lines(trees):
    out = os.path.join(trees.tmp, "sorted")
    subprocess.run([libblob.dz(), "trace", "-o", f"|grep -c openat >{out}", TRACED, "lines", trees.mount],
                   env=trees.env, check=True)
    assert int(open(out).read()) == sum("openat(" in l for l in trace(trees))


def assert_complete_event(e):
    """What the importers of Perfetto and of DFTracer's analyzer look for, and as what."""
    assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= set(e), e
    assert e["ph"] == "X" and e["cat"] == "POSIX" and isinstance(e["name"], str) and e["name"], e
    assert e["ts"] >= 0 and e["dur"] >= 0 and e["pid"] > 0 and e["tid"] > 0, e
    assert isinstance(e["args"], dict) and isinstance(e["args"]["ret"], int), e


@libblob.test
def dftracer_gets_a_line_of_json_for_each_event(trees):
    out = os.path.join(trees.tmp, "trace.pfw")
    subprocess.run([libblob.dz(), "trace", "--format", "dftracer", "-o", out, TRACED, "lines",
                    trees.mount], env=trees.env, check=True)
    # Its analyzer parses by itself every line that is not empty and begins with no bracket.
    lines = [line for line in open(out, encoding="ascii") if line[0] not in "[]\n"]
    assert open(out).readline() == "[\n"
    every = [json.loads(line) for line in lines]
    events = [e for e in every if e["ph"] == "X"]
    assert len(events) == len(trace(trees)) and {e["ph"] for e in every} == {"X", "M"}
    told = [e for e in every if e["ph"] == "M"]
    hashes = {e["args"]["value"]: e["args"]["name"] for e in told if e["name"] == "FH"}
    hosts = [e["args"]["value"] for e in told if e["name"] == "HH"]
    assert len(hosts) == 1 and all(0 <= int(h, 16) < 1 << 64 for h in [*hosts, *hashes])
    for e in events:
        assert_complete_event(e)
        assert e["ts"] > 1e15 and isinstance(e["ts"], int) and isinstance(e["dur"], int), e
        assert e["args"]["hhash"] == hosts[0], e
        assert hashes.get(e["args"].get("fhash")) == e["args"].get("fname"), e
    assert trees.mount + "/text/lines.txt" in hashes.values()
    # Perfetto skips commas and white space between the events alike.
    assert json.loads("[" + ",".join(lines) + "]") == every


@libblob.test
def chrome_events_are_json_that_says_where_and_how_long(trees):
    out = os.path.join(trees.tmp, "json")
    subprocess.run([libblob.dz(), "trace", "--format", "chrome", "-o", out, TRACED, "lines", trees.mount],
                   env=trees.env, check=True)
    # An array, which Perfetto takes as {"traceEvents": array}.
    events = json.load(open(out))
    assert isinstance(events, list) and len(events) == len(trace(trees))
    for e in events:
        assert_complete_event(e)
    assert [e["id"] for e in events] == list(range(len(events)))
    read = next(e for e in events if e["name"] == "read" and e["args"]["ret"] == 100)
    assert read["args"]["fname"].endswith("/text/lines.txt") and read["args"]["tier"] == "dram", read


@libblob.test
def the_exit_status_is_that_of_the_command(trees):
    run = lambda *args: subprocess.run([libblob.dz(), "trace", "-o", "/dev/null", *args], env=trees.env,
                                       stderr=subprocess.PIPE).returncode
    assert run("sh", "-c", "exit 7") == 7
    assert run("sh", "-c", "kill -9 $$") == -9
    assert run("no-such-command") == 127
    assert run() == 125
    assert run("-e", "trace=nonsense", "true") == 125
    assert run("-e", "tier=moon", "true") == 125


@libblob.test
def the_end_of_the_command_is_told_as_strace_tells_it(trees):
    needs_strace()
    out = os.path.join(trees.tmp, "end")
    for script in ("cat {}/text/other.txt", "cat {}/text/nothing; exit 7", "cat {}/text/other.txt; kill -9 $$",
                   "kill -TERM $$"):
        ends = []
        for tool, root in ((["strace", "-f"], trees.local), ([libblob.dz(), "trace"], trees.mount)):
            subprocess.run([*tool, "-o", out, "sh", "-c", script.format(root)], env=trees.env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            line = re.match(r"(\d+) +(\+\+\+ .* \+\+\+)$", open(out, encoding="utf-8").read().splitlines()[-1])
            ends.append(line and line[2])
        assert ends[0] and ends[0] == ends[1], (script, ends)
    assert not any("+++" in line for line in trace(trees))


def families(lines, root, wanted):
    """Between two programs: the calls that touch the tree, by name of the file or by descriptor."""
    calls, fds = [], set()
    for line in lines:
        call = re.sub(r"^\d+ +", "", line)
        fd = re.match(r"\w+\((\d+)[,)]", call)
        if root not in call and not (fd and fd[1] in fds):
            continue
        name = call.split("(")[0]
        opened = re.match(r"openat\(.* = (\d+)", call)
        if opened:
            fds.add(opened[1])
        if name == "close" and fd:
            fds.discard(fd[1])
        if name in wanted:
            calls.append(call.replace(root, "ROOT"))
    return calls


@libblob.test
def ordinary_programs_make_the_calls_that_strace_shows(trees):
    needs_strace()
    wanted = {"openat", "close", "newfstatat", "lseek", "access", "faccessat", "readlink", "statx", "fadvise64"}
    for argv in (["cat", "{}/text/lines.txt"], ["head", "-1", "{}/text/lines.txt"], ["wc", "-l", "{}/text/other.txt"],
                 ["cmp", "{}/text/lines.txt", "{}/text/empty"], ["tac", "{}/text/other.txt"],
                 ["stat", "{}/text/lines.txt"], ["/usr/bin/python3", "-c", "open('{}/text/other.txt').read()"]):
        seen = []
        for tool, root in ((["strace", "-f"], trees.local), ([libblob.dz(), "trace"], trees.mount)):
            out = os.path.join(trees.tmp, "calls")
            subprocess.run([*tool, "-o", out, *[word.format(root) for word in argv]], env=trees.env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seen.append(normal_calls(families(open(out, encoding="utf-8").read().splitlines(), root, wanted)))
        diff = list(difflib.unified_diff(*seen, "strace", "dz trace", n=0, lineterm=""))
        assert seen[0] and not diff, (argv, "\n".join(diff))


def normal_calls(calls):
    text = []
    for call in calls:
        call = re.sub(r" <[^<>]*>$", "", call)
        # What a file system tells more than Blob, and the kind of file system.
        call = re.sub(r"stx_mask=[^,]*, stx_attributes=[^,]*", "MASK", call)
        text.append(re.sub(r" += ", " = ", re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", call)))
    return text


@libblob.test
def nothing_is_left_behind(trees):
    trace(trees)
    left = [f for _, _, files in os.walk(trees.env["DELTAZERO_SHM_DIR"]) for f in files
            if f.startswith("trac")]
    assert left == [], left


with libshim.trees() as both:
    both.env["DELTAZERO_FETCH"] = "agent"
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]), both)
