#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 400
"""Shells redirect from a mount, compilers build from sources in it, git and rsync
copy out of it: what they say and make is what they would of files.
"""
import os
import subprocess
import sys

from libmore import libshim, need_command, plain_tree, settle
from libblob import run_tests, test, tests_of

MAKEFILE = """
objects = main.o one.o two.o
program: $(objects) $(SRC)/lib/libthree.a
	$(CC) -o $@ $(objects) -L$(SRC)/lib -lthree -l:four.so
%.o: $(SRC)/src/%.c $(SRC)/Makefile
	$(CC) -O1 -MMD -I$(SRC)/include -c -o $@ $<
include $(SRC)/rules.mk
-include $(objects:.o=.d)
"""
SOURCES = {
    "Makefile": MAKEFILE,
    "rules.mk": "clean:\n\trm -f program *.o *.d\n",
    "include/all.h": "#pragma once\n#include \"deep/values.h\"\nint one(void), two(void), three(void), four(void);\n",
    "include/deep/values.h": "#define ANSWER 42\n" + "/* long */\n" * 20000,
    "src/main.c": "#include <stdio.h>\n#include \"all.h\"\n"
                  "int main(void) { printf(\"%d\\n\", one() + two() + three() + four()); return 0; }\n",
    "src/one.c": "#include \"all.h\"\nint one(void) { return ANSWER; }\n",
    "src/two.c": "#include <all.h>\n#include \"../include/deep/values.h\"\nint two(void) { return ANSWER / 2; }\n",
    "src/three.c": "int three(void) { return 3; }\n",
    "src/wrong.c": "#include \"all.h\"\n#include \"none.h\"\n",
    "src/x.cc": "#include <iostream>\nint main() { std::cout << \"x\" << std::endl; }\n",
}
# Where lines are broken depends on the length of the root.
WORDS = "grep -o '[^ \\\\]*'"
SCRIPT = """#!/bin/bash
cd "$(dirname "$0")" || exit
# The rest is long, so that a shell reads it in parts.
""" + "".join(f"v{i}={i} # {'.' * 90}\n" for i in range(200)) + "echo $v199 $(wc -l < other.txt)\nexit 3\n"


def make(served):
    root = os.path.join(served.root, "data")
    served.write("data/script.sh", SCRIPT.encode())
    served.write("data/stdin.sh", SCRIPT.replace('cd "$(dirname "$0")" || exit', 'cd "$1" || exit').encode())
    for name, text in SOURCES.items():
        served.write("data/project/" + name, text.encode())
    make_libraries(os.path.join(root, "project"))
    make_repository(root)
    plain_tree(served)


def make_libraries(project):
    lib = os.path.join(project, "lib")
    os.mkdir(lib)
    subprocess.run("""gcc -c -o three.o ../src/three.c && ar rcs libthree.a three.o && rm three.o
        echo 'int four(void) { return 4; }' | gcc -shared -fPIC -o four.so -xc -""",
                   shell=True, cwd=lib, check=True)


def make_repository(root):
    subprocess.run("""set -e
        export GIT_AUTHOR_DATE='2024-01-01 00:00 +0000' GIT_COMMITTER_DATE='2024-01-01 00:00 +0000'
        git init -q -b main work
        cd work
        git config user.name n
        git config user.email e@example.org
        for i in $(seq 30); do
            mkdir -p d$((i % 4))
            seq $((i * 300)) > d$((i % 4))/$i
            git add . && git commit -qm "change $i"
        done
        git tag -a -m v1 v1 HEAD~5
        git clone -q --bare . ../packed.git
        git -C ../packed.git gc -q
        # Blob has no empty directories, and refs has to be one.
        git -C ../packed.git branch other v1
        rm -rf .git/hooks ../packed.git/hooks
        """, shell=True, cwd=root, check=True)


def shells(trees, line):
    """bash and sh: the line has to be for both."""
    for shell in ("bash", "sh"):
        trees.same([shell, "-c", line])


@test
def bash_opens_moves_and_closes_descriptors(trees):
    shells(trees, "exec 3< {}/lines.txt 4<&3; read a <&3; read b <&4; echo $a, $b; exec 3<&-; head -n 1 <&4; "
                  "exec 5<&4 4<&-; cat <&5 | wc -l; cat <&4; echo $?")
    trees.same("exec {fd}< {}/lines.txt; read -r -u $fd a; exec 9<&$fd-; read -r -N 20 b <&9; echo \"$a\" \"$b\" "
               "$(readlink /proc/self/fd/9); read -u $fd c; echo $?")
    trees.same("exec 3<> /dev/null 4< {}/other.txt 3<&4 4<&-; cat <&3; cat 5< {}/other.txt 0<&5 5<&-")


@test
def bash_loops_share_the_position_with_children(trees):
    shells(trees, "while read -r a b c; do [ $b -ge 3 ] && break; head -c 5; echo; done < {}/lines.txt")
    shells(trees, "{ read -r a; (read -r b; echo $b); sed -n 1q; cat; } < {}/other.txt; echo $?")
    trees.same("exec < {}/lines.txt; read -r a; read -r -t 5 -n 4 b; mapfile -n 3 -t c; echo $a $b \"${c[@]}\"; tail -n 1")


@test
def bash_substitutes_processes(trees):
    trees.same("diff <(cat {}/other.txt) <(sed s/file/pile/ {}/other.txt); comm -12 <(sort {}/lines.txt) "
               "<(sort -r {}/lines.txt | sort) | wc -l; cat {}/large | tee >(md5sum >&2) | wc -c; sleep 0.3")
    trees.same("while read -r -u 3 a && read -r -u 4 b; do echo $a $b; done 3< {}/other.txt 4< <(tac {}/other.txt)")


@test
def bash_coprocesses_read_a_mount(trees):
    trees.same("coproc { sed s/line/LINE/ < {}/lines.txt; }; read -r -u ${COPROC[0]} a; echo $a; exec 5<&${COPROC[0]}; "
               "tail -n 1 <&5; wait")
    trees.same("coproc tr a-z A-Z; cat {}/other.txt >&${COPROC[1]}; exec {COPROC[1]}>&-; cat <&${COPROC[0]}")


@test
def bash_here_documents_and_strings_hold_files(trees):
    shells(trees, "cat <<. ; cat <<'.'\n$(cat {}/other.txt) `wc -l < {}/lines.txt`\n.\n$(cat {}/other.txt)\n.")
    trees.same("wc -c <<< \"$(< {}/lines.txt)\"; md5sum <<< \"$(< {}/large)\" 2>/dev/null; read -r -d '' x < {}/other.txt; echo \"$x\"")


@test
def shells_run_scripts_from_a_mount(trees):
    for line in ("bash {}/script.sh", "sh {}/script.sh", "bash {}/stdin.sh {}", "bash -s {} < {}/stdin.sh",
                 "sh -s {} < {}/stdin.sh", "cd {} && bash script.sh", "bash -c '. {}/script.sh' {}/x"):
        trees.same(line, status=3)
    trees.same("bash -n {}/script.sh; export BASH_ENV={}/other.txt; bash -c 'echo go' 2>/dev/null")


@test
def shells_test_and_match_files(trees):
    trees.same("cd {}; for f in * none; do [ -f $f ]; a=$?; [ -d $f ]; b=$?; [[ -r $f ]]; c=$?; [[ -s $f ]]; d=$?; "
               "echo $f $a $b $c $d; done; [ large -nt other.txt ]; echo $?; shopt -s globstar nullglob; echo **/*.c d*/; "
               "printf '%s ' {}/project/*/*.h; compgen -f {}/sm; cd -- small; echo [01]?; pushd ../project >/dev/null; dirs -l; popd")


@test
def bash_with_64_descriptors_opens_and_closes(trees):
    trees.same("ulimit -n 64; for i in $(seq 300); do exec {fd}< {}/small/$(printf %02d $((i % 40))); read -r -n 3 <&$fd; "
               "exec {fd}<&-; done; cat {}/other.txt; for i in $(seq 70); do exec {fd}< {}/other.txt || break; done 2>/dev/null; "
               "[ $i -gt 45 ] && [ $i -lt 60 ]; echo $?; read -r a <&$fd; echo $a")


@test
def signals_end_a_shell_that_waits_for_a_reader(trees):
    trees.same("trap 'echo got; trap - USR1' USR1; (sleep 0.2; kill -USR1 $$) & while :; do read -r a < {}/lines.txt; "
               "trap | grep -q USR1 || break; done; echo $a; wait")


@test
def make_and_gcc_build_a_project_out_of_its_tree(trees):
    need_command("gcc", "make")
    line = "make -rs -j2 -f {}/project/Makefile CC=gcc SRC={}/project"
    # What a program is linked with is loaded before us: that cannot come from a mount.
    trees.same(f"cp {{}}/project/lib/four.so . && export LD_LIBRARY_PATH=. && {line} && ./program && ls && "
               f"cat *.d | {WORDS} && {line} && touch one.o && {line} -n && {line} clean && ls")
    trees.same("cd $OUT; gcc -O2 -flto -I{}/project/include {}/project/src/[mot]*.c {}/project/lib/four.so -o p "
               "-Wl,-rpath,. && readelf -d p | grep -c four")
    trees.same("gcc -I{}/project/include -c {}/project/src/wrong.c", status=1)


@test
def compilers_read_headers_archives_and_mapped_sources(trees):
    need_command("g++", "clang")
    trees.same("gcc -E -I{}/project/include {}/project/src/two.c | grep -v ^# | md5sum; "
               f"gcc -MM -I{{}}/project/include {{}}/project/src/*o*.c | {WORDS}; "
               "ar t {}/project/lib/libthree.a; nm {}/project/lib/four.so | grep four; size {}/project/lib/four.so; "
               "objdump -d {}/project/lib/four.so | grep -c ret; readelf -Ws {}/project/lib/libthree.a | grep -c three")
    trees.same("g++ -o x {}/project/src/x.cc && ./x; clang -fsyntax-only -I{}/project/include {}/project/src/one.c && "
               "clang -I{}/project/include -c {}/project/src/two.c && nm two.o; cd {}/project/src && gcc -I../include -c two.c -o $OUT/o")


@test
def git_clones_from_a_repository_in_a_mount(trees):
    need_command("git")
    for source in ("{}/packed.git", "{}/work", "file://{}/packed.git", "--no-local {}/work", "--depth 3 file://{}/work"):
        trees.same(f"git clone -q {source} $OUT/copy && cd copy && git log --format=%h%s%d | sed 's/origin.HEAD, //' | md5sum && "
                   "git ls-files -s | md5sum && git fsck --no-progress && git status --short && ls")


@test
def git_reads_a_repository_in_a_mount(trees):
    need_command("git")
    trees.same("cd {}/work && export GIT_OPTIONAL_LOCKS=0 && git status --short && git log --stat -3 && git show v1:d1/5 | md5sum && "
               "git grep -c 77 d2 && git blame d1/5 | wc -l && git archive HEAD | md5sum && git diff HEAD~3 --stat && git branch -av")
    trees.same("git --git-dir={}/packed.git rev-list --objects --all | sort | md5sum; git -C {}/packed.git cat-file --batch-all-objects "
               "--batch-check | md5sum; git -C {}/packed.git verify-pack -v $(cd {}/packed.git; ls objects/pack/*.idx) | md5sum; git ls-remote {}/packed.git")
    trees.same("git init -q && git remote add o {}/packed.git && git fetch -q o && git log --oneline o/main | wc -l; "
               "git bundle create -q $OUT/b o/main && git bundle list-heads b")


@test
def rsync_copies_compares_and_sends_differences(trees):
    need_command("rsync")
    trees.same("rsync -a --exclude=.git {}/ $OUT/a/ && diff -r -x .git {} $OUT/a && rsync -acni --exclude=.git {}/ $OUT/a/ | grep -v /$; "
               "printf xyz | dd of=$OUT/a/large bs=1 seek=99999 conv=notrunc status=none && rsync -aI --no-W --inplace --stats {}/large $OUT/a/ "
               "| grep 'Literal' ; cmp {}/large $OUT/a/large; rsync -aW {}/small $OUT/b --compare-dest=$OUT/a && ls $OUT/b/small")
    trees.same("rsync --list-only {}/ | grep txt; find {}/small -type f -printf '%f\\n' | sort | rsync -a --files-from=- {}/small/ $OUT/c && ls $OUT/c | wc -l")


if __name__ == "__main__":
    with libshim.trees(make) as both:
        run_tests(tests_of(sys.modules[__name__]), both)
