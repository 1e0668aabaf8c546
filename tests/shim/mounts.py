#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""What a mount is to a program that no local tree can show: a mount point that does
not exist as a directory, a library that is loaded from it, a call that it refuses.
"""
import json
import os
import shutil
import subprocess
import sys

import libshim
from libblob import Skip, run_tests, test, tests_of


def says(trees, command, expected, status=0):
    said = trees.run(command, trees.mount).decode()
    want = f"{expected}--- stderr\n--- status {status}\n"
    assert said == want, f"{command}\n{said}\nwanted\n{want}"


class Below:
    """The same trees, mounted at a directory that does not exist, in one that does."""

    def __init__(self, trees):
        self.parent = os.path.join(trees.tmp, "parent")
        self.point = os.path.join(self.parent, "blob")
        os.makedirs(os.path.join(self.parent, "real"), exist_ok=True)
        env = dict(trees.env)
        env["DELTAZERO_MOUNT"] = self.point + "=" + env["DELTAZERO_MOUNT"].split("=", 1)[1]
        self.trees = libshim.Trees(trees.local, self.point, env, trees.tmp)

    def says(self, command, expected):
        says(self.trees, command.replace("PARENT", self.parent), expected)


@test
def the_parent_lists_a_mount_point_that_does_not_exist(trees):
    below = Below(trees)
    below.says("ls PARENT", "blob\nreal\n")
    below.says("cd PARENT && ls -a", ".\n..\nblob\nreal\n")
    below.says("cd PARENT && echo *", "blob real\n")
    below.says("find PARENT -maxdepth 1 -mindepth 1 -printf '%f %y\\n' | sort", "blob d\nreal d\n")
    below.says("find PARENT -name x.py -printf '%P\\n'", "blob/tree/deep/er/x.py\n")
    below.says("du -a PARENT | grep -c many/", "300\n")
    below.says("grep -rl '\"a\"' PARENT | grep -c y.json", "1\n")


@test
def python_sees_the_mount_point_in_its_parent(trees):
    below = Below(trees)
    below.says("""python3 -c 'if True:
        import glob, os, sys
        p = sys.argv[1]
        print(sorted(os.listdir(p)), sorted(e.name for e in os.scandir(p) if e.is_dir()))
        print(sorted(os.listdir(os.open(p, os.O_RDONLY))), len(glob.glob(p + "/*/text/*.txt")))
        print(sum(len(f) for _, _, f in os.walk(p)) == sum(len(f) for _, _, f in os.walk(p + "/blob")))
    ' PARENT""", "['blob', 'real'] ['blob', 'real']\n['blob', 'real'] 2\nTrue\n")


@test
def a_mount_point_that_exists_is_listed_once(trees):
    below = Below(trees)
    os.mkdir(below.point)
    with open(os.path.join(below.point, "hidden"), "w"):
        pass
    try:
        below.says("ls PARENT; ls PARENT/blob; test -e PARENT/blob/hidden || echo hidden",
                   "blob\nreal\ndata\nmany\ntext\ntree\nhidden\n")
    finally:
        shutil.rmtree(below.point)


@test
def a_path_wanders_into_the_mount_and_out_again(trees):
    below = Below(trees)
    text, there = "another\nfile\n", os.path.join(below.parent, "real", "there")
    with open(there, "w") as f:
        f.write("there\n")
    try:
        below.says("cat PARENT/real/../blob/text/other.txt PARENT//blob/./text/other.txt", text * 2)
        below.says("cd PARENT && cat real/../blob/text/other.txt ./blob/text/../text/other.txt", text * 2)
        below.says("cat PARENT/blob/../real/there PARENT/real/../blob/../real/there PARENT/real/.././real//there",
                   "there\n" * 3)
        below.says("cd PARENT/real && cat ../blob/text/other.txt && cat ../blob/../real/there", text + "there\n")
        below.says("cat PARENT/real/../blob/none 2>&1 | grep -c 'No such file'; stat -c %F PARENT/real/../blob/",
                   "1\ndirectory\n")
        below.says("cd PARENT; test -d blob && test -r real/../blob/text/other.txt && ! test -e real/../blob/no; echo $?",
                   "0\n")
    finally:
        os.unlink(there)


@test
def nothing_is_created_in_the_place_of_a_mount_point(trees):
    below = Below(trees)
    for path in ("blob", "PARENT/blob", "PARENT/real/../blob", "./blob", "real/../blob"):
        below.says(f"cd PARENT; (echo x > {path}) 2>&1 | grep -c 'Is a directory'", "1\n")
        assert os.listdir(below.parent) == ["real"], path


@test
def a_link_to_a_mount_point_that_exists_leads_to_the_mount(trees):
    """The kernel finds the real directory there, which is empty."""
    below = Below(trees)
    os.mkdir(below.point)
    link = os.path.join(below.parent, "link")
    os.symlink(below.point, link)
    try:
        below.says("ls PARENT/link; ls PARENT/link/ | wc -l", "data\nmany\ntext\ntree\n4\n")
        below.says("cat PARENT/link/text/other.txt; cd PARENT/link/tree && cat z.html",
                   "another\nfile\n<p>z</p>\n")
        below.says("cd PARENT/link && echo *; cat $(echo text/oth*)", "data many text tree\nanother\nfile\n")
        below.says("cd PARENT && find link/ | wc -l; find -L link -name x.py; stat -Lc %i link blob | uniq | wc -l",
                   "317\nlink/tree/deep/er/x.py\n1\n")
        below.says("touch PARENT/link/new 2>&1 | grep -c Read-only; mkdir PARENT/link/d 2>&1 | grep -c Read-only",
                   "1\n1\n")
        below.says("""python3 -c 'if True:
            import os, sys
            p = sys.argv[1]
            fd = os.open(p, os.O_RDONLY)
            print(sorted(os.listdir(p)), sorted(os.listdir(fd)), len(list(os.walk(p))))
            print(os.path.getsize(p + "/text/other.txt"), os.stat(p).st_ino == os.fstat(fd).st_ino)
            os.fchdir(os.open(p, os.O_RDONLY))
            print(open("text/other.txt").read())
        ' PARENT/link""", "['data', 'many', 'text', 'tree'] ['data', 'many', 'text', 'tree'] 7\n13 True\nanother\nfile\n\n")
        assert os.listdir(below.point) == []
    finally:
        os.unlink(link)
        os.rmdir(below.point)


@test
def a_link_that_appears_is_followed_at_once_by_who_made_it(trees):
    """A path that was not there a moment ago is not asked for again for a while."""
    says(trees, """python3 -c 'if True:
        import os, sys
        print(os.path.exists("x/lines.txt"), os.path.exists("x"), os.path.exists("y"))
        os.symlink(sys.argv[1] + "/text", "x")
        os.system("ln -s {}/text/empty y")
        print(os.path.exists("x/lines.txt"), os.path.exists("x"), os.path.exists("y"))
    ' {}""", "False False False\nTrue True True\n")


@test
def a_cleared_environment_has_no_credentials_and_reads_all_the_same(trees):
    says(trees, "env -i cat {}/text/other.txt; env -i env | grep -c AZURE_STORAGE_KEY", "another\nfile\n0\n", 1)
    says(trees, "env -i sh -c 'cd {}/text && env -i head -1 lines.txt; env -u PATH /bin/ls no*'",
         "line 0 of the file\nno newline\n")
    says(trees, """python3 -c 'if True:
        import subprocess, sys
        print(subprocess.check_output(["tail", "-1", sys.argv[1]], env=dict()))
    ' {}/text/other.txt""", "b'file\\n'\n")
    # Without an agent the child fetches itself.
    says(trees, "DELTAZERO_FETCH=inline exec env -i bash -c 'env -i cat {}/text/other.txt'", "another\nfile\n")


@test
def other_credentials_are_another_identity(trees):
    refused = ("deltazero: error: list", "Permission denied")
    for command in ("AZURE_STORAGE_KEY=YmFk cat {}/text/other.txt",
                    "env -i sh -c 'AZURE_STORAGE_KEY=YmFk cat {}/text/other.txt'"):
        said = trees.run("cat {}/text/other.txt; " + command, trees.mount).decode()
        assert all(word in said for word in refused) and said.startswith("another\nfile\n---"), said


@test
def libc_walks_from_the_parent_into_the_mount(trees):
    below = Below(trees)
    below.says(f"{libshim.program('call_walks')} PARENT | sort | grep -c x.py", "4\n")


@test
def a_library_on_the_mount_is_loaded(trees):
    if not shutil.which("gcc"):
        raise Skip("no gcc")
    source = os.path.join(trees.tmp, "lib.c")
    with open(source, "w") as f:
        f.write("int answer(void) { return 42; }\n")
    library = os.path.join(trees.root, "data", "lib", "libanswer.so")
    os.makedirs(os.path.dirname(library))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    subprocess.run([os.environ["DZ_BUILD"] + "/dz", "purge"], env=trees.env, check=True,
                   stdout=subprocess.DEVNULL)
    says(trees, "python3 -c 'import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).answer())' "
         "{}/lib/libanswer.so", "42\n")
    says(trees, "cd {}/lib && python3 -c 'import ctypes; print(ctypes.CDLL(\"./libanswer.so\").answer())'",
         "42\n")


def make_library(folder, name, source, *options):
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", name, "-xc", "-", "-xnone", *options], input=source.encode(),
                   cwd=folder, check=True)


@test
def each_library_on_the_mount_is_itself_with_what_it_needs(trees):
    """Descriptors' numbers come again; what a library needs, its RUNPATH or the environment finds."""
    if not shutil.which("gcc"):
        raise Skip("no gcc")
    folder = os.path.join(trees.root, "data", "libs")
    os.makedirs(os.path.join(folder, "deep", "more"))
    make_library(folder, "libone.so", "int one(void) { return 1; }", "-Wl,-soname,libone.so")
    make_library(folder, "deep/more/libtwo.so.1", "int two(void) { return 2; }", "-Wl,-soname,libtwo.so.1")
    make_library(folder, "deep/libthree.so", "int one(void), two(void); int three(void) { return one() + two(); }",
                 "libone.so", "deep/more/libtwo.so.1", "-Wl,-soname,libthree.so",
                 "-Wl,--enable-new-dtags,-rpath,$ORIGIN/more:${ORIGIN}/..")
    make_library(folder, "libfour.so", "int three(void); int four(void) { return three() + 1; }", "-Wl,--no-as-needed",
                 "deep/libthree.so", "-Wl,--disable-new-dtags,-rpath,/none:$ORIGIN/deep", "-Wl,--allow-shlib-undefined")
    subprocess.run([os.environ["DZ_BUILD"] + "/dz", "purge"], env=trees.env, check=True, stdout=subprocess.DEVNULL)
    says(trees, """python3 -c 'if True:
        from ctypes import CDLL
        one, four, two = (CDLL("{}/libs/" + n) for n in ("libone.so", "libfour.so", "deep/more/libtwo.so.1"))
        again = CDLL("{}/libs/libone.so")
        print(one.one(), two.two(), four.four(), CDLL("libthree.so").three(), again.one())
        print(one._handle == again._handle, one._handle == two._handle)
    '""", "1 2 4 3 1\nTrue False\n")
    says(trees, "LD_LIBRARY_PATH=/none:{}/libs:{}/libs/deep python3 -c 'import ctypes; "
         "print(ctypes.CDLL(\"libfour.so\").four())'", "4\n")
    says(trees, "python3 -c 'import ctypes; ctypes.CDLL(\"libfour.so\")' 2>&1 | tail -n 1",
         "OSError: libfour.so: cannot open shared object file: No such file or directory\n")


FIRST = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char b[7];
    int fd = argc < 2 ? 0 : open(argv[1], O_RDONLY);
    if (argc > 2 && strcmp(argv[1], "run") == 0) { execv(argv[2], argv + 2); perror("exec"); return 9; }
    if (fd < 0 || read(fd, b, 7) != 7) { perror("read"); return 1; }
    printf("%.6s\n", b);
    return 5;
}
"""


def make_programs(trees, folder):
    """The same program, linked in two ways; where there is only one, a skip."""
    for name, *options in (("dynamic",), ("static", "-static")):
        if not shutil.which("gcc") or subprocess.run(["gcc", *options, "-o", f"{folder}/{name}", "-xc", "-"],
                                                     input=FIRST.encode()).returncode:
            raise Skip("no gcc " + " ".join(options))


@test
def a_library_that_a_program_loads_itself_serves_who_calls_it(trees):
    """It stands behind libc then; with and without an agent."""
    python = ("import ctypes, os; our = ctypes.CDLL(os.environ['DZ_LIB']); data = ctypes.create_string_buffer(6)\n"
              "fd = our.open((os.environ['AT'] + '/text/other.txt').encode(), 0)\n"
              "print(our.read(fd, data, 6), data.value, our.close(fd))\n")
    for fetch in ("agent", "inline"):
        env = {**trees.env, "DELTAZERO_FETCH": fetch, "AT": trees.mount,
               "DZ_LIB": os.path.join(os.environ["DZ_BUILD"], "libdeltazero.so")}
        subprocess.run([libshim.libblob.dz(), "purge"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done = subprocess.run([sys.executable, "-c", python], env=env, stdout=subprocess.PIPE, text=True, timeout=60)
        assert done.stdout == "6 b'anothe' 0\n" and done.returncode == 0, (fetch, done)


@test
def a_static_program_gets_a_real_descriptor_at_its_start(trees):
    """The library cannot enter it; the kernel will not read a marker."""
    make_programs(trees, trees.tmp)
    static = trees.tmp + "/static"
    for line in (f"{static} < {{}}/text/lines.txt", f"{static} /dev/stdin < {{}}/text/lines.txt",
                 f"{static} /proc/self/fd/0 < {{}}/text/lines.txt", f"exec 7< {{}}/text/lines.txt; {static} /dev/fd/7",
                 f"exec 7< {{}}/text/lines.txt; {static} /proc/$$/fd/7"):
        says(trees, line, "line 0\n", 5)


@test
def a_program_that_a_static_one_started_is_where_its_grandparent_was(trees):
    make_programs(trees, trees.tmp)
    static = trees.tmp + "/static"
    says(trees, f"cd {{}}/tree && {static} run /bin/pwd -L; {static} run /bin/ls deep; {static} run /bin/cat z.html",
         "ROOT/tree\ner\ny.json\n<p>z</p>\n")
    says(trees, f"{static} run /usr/bin/head -n 1 < {{}}/text/other.txt", "another\n")


@test
def programs_and_scripts_on_the_mount_are_run(trees):
    folder = os.path.join(trees.root, "data", "bin")
    os.makedirs(folder)
    make_programs(trees, folder)
    for name, text in (("by_shell", "#!/bin/sh -e\nhead -n 1 $1; exit 4\n"),
                       ("by_ours", f"#!{trees.mount}/bin/dynamic\n"), ("no_line", "head -n 1 $1; exit 3\n")):
        with open(f"{folder}/{name}", "w") as f:
            f.write(text)
    subprocess.run([os.environ["DZ_BUILD"] + "/dz", "purge"], env=trees.env, check=True, stdout=subprocess.DEVNULL)
    lines = "{}/text/lines.txt"
    for program, said, status in (("dynamic", "line 0\n", 5), ("by_shell", "line 0 of the file\n", 4),
                                  ("by_ours", "#!/mnt\n", 5), ("no_line", "line 0 of the file\n", 3)):
        path = "{}/bin/" + program
        says(trees, f"{path} {lines}", said, status)
        says(trees, f"cd {{}}/bin; ./{program} ../text/lines.txt", said, status)
        says(trees, f"PATH=$PATH:{{}}/bin; env {program} {lines}", said, status)
        says(trees, f"exec sh -c '{path} {lines}'", said, status)
    says(trees, "{}/bin/static < {}/text/lines.txt", "line 0\n", 5)
    says(trees, "{}/bin/static {}/text/lines.txt 2>&1", "read: No such file or directory\n", 1)
    says(trees, """python3 -uc 'if True:
        import os, subprocess, sys
        argv = [sys.argv[1] + "/bin/dynamic", sys.argv[1] + "/text/lines.txt"]
        print(subprocess.run(argv, capture_output=True), subprocess.run(argv, capture_output=True, env=dict()).stdout)
        print(os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)[1], os.popen(" ".join(argv)).read())
        pid = os.fork()
        if pid == 0: os.execve(os.open(argv[0], os.O_RDONLY), argv, dict())
        print(os.waitpid(pid, 0)[1])
    ' {}""", "CompletedProcess(args=['ROOT/bin/dynamic', 'ROOT/text/lines.txt'], returncode=5, stdout=b'line 0\\n', "
         "stderr=b'') b'line 0\\n'\nline 0\n1280 line 0\n\nline 0\n1280\n")


@test
def processes_map_the_same_pages(trees):
    """What the kernel shows of the mappings of one file: not memory of the process, and the same place."""
    script = """if True:
        import mmap, sys
        def maps(): return [line.split() for line in open("/proc/self/maps")]
        old = maps()
        with open(sys.argv[1] + "/data/large.bin") as f: m = mmap.mmap(f.fileno(), 2 << 20, access=mmap.ACCESS_READ)
        m[::4096]
        print([w[1:5] for w in maps() if w[1].startswith("r--") and "deltazero" in " ".join(w[5:]) and w not in old])
    """
    first, second = (trees.run([sys.executable, "-c", script, "{}"], trees.mount) for _ in range(2))
    assert first.count(b"r--s") >= 1 and first == second, (first, second)


@test
def a_large_fread_takes_64_KiB_at_a_time(trees):
    """Libc's streams over functions take a buffer at a time, by itself of 8 KiB."""
    table = os.path.join(trees.tmp, "table")
    subprocess.run([os.environ["DZ_BUILD"] + "/dz", "trace", "-c", "--json", "-o", table, libshim.program("call_streams"),
                    trees.mount, "mebibytes"], env=trees.env, check=True)
    with open(table) as f:
        read = next(row for row in json.load(f)["calls"] if row["name"] == "read")
    assert read["calls"] <= 48 and read["bytes"] == 3 << 20, read


@test
def a_descriptor_that_libc_closes_is_forgotten(trees):
    """fclose of a stream that libc made, over a number that became ours."""
    says(trees, [libshim.program("call_stale"), "{}"], "ok\n")


@test
def a_duplicate_past_the_hooks_never_becomes_another_file(trees):
    """Kept over the close of its original, and over exec, spawn, vfork or a socket."""
    says(trees, [libshim.program("call_handed"), "{}"], "ok\n")


if __name__ == "__main__":
    with libshim.trees() as both:
        run_tests(tests_of(sys.modules[__name__]), both)
