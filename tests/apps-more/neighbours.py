#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 300
"""Programs in which other things live: allocators that are preloaded too, sanitizers,
libraries of their own; and programs that the library cannot enter: they get the
right bytes or an error.
"""
import os
import shutil
import subprocess
import sys

from libmore import built, here, libshim, need_command, plain_tree
from libblob import Skip, dz, run_tests, test, tests_of

ALLOCATORS = ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2")
PLUGIN = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int read_first(const char *path)
{
	char b[12] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, b, 11);
	if (n < 0) { printf("no: %m\n"); fflush(stdout); return 3; }
	printf("%s\n", b);
	fflush(stdout);
	return close(fd);
}
"""
STATIC = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	char b[12] = "";
	long n = read(argc > 1 ? atoi(argv[1]) : 0, b, 11);
	if (n < 0) { perror("read"); return 1; }
	printf("%ld %s\n", n, b);
	return 0;
}
"""
GOOD = b"11 line 0 of t\n--- stderr\n--- status 0\n"


def find_library(name):
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"):
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise Skip(f"no {name}")


def compile(trees, name, text, *options):
    need_command("gcc")
    source, out = (os.path.join(trees.tmp, name + end) for end in (".c", ""))
    with open(source, "w") as f:
        f.write(text)
    if subprocess.run(["gcc", "-D_GNU_SOURCE", "-w", "-o", out, source, *options], stderr=subprocess.DEVNULL).returncode:
        raise Skip("gcc cannot link " + " ".join(options))
    return out


def forget_all(trees):
    subprocess.run([dz(), "purge"], env=trees.env, check=True, stdout=subprocess.DEVNULL)


def with_allocator(trees, name):
    """Behind us and before us, cold and inline too: what is loaded then allocates as well."""
    library = find_library(name)
    for order in (f"$LD_PRELOAD:{library}", f"{library}:$LD_PRELOAD"):
        forget_all(trees)
        for line in (f"{built('strain')} threads {{}}", f"{built('strain')} forks {{}}",
                     "sort {}/lines.txt | md5sum; grep -c 77 {}/lines.txt; cp -r {} $OUT/c && ls $OUT/c; perl -pe 1 {}/other.txt",
                     "python3 -c 'import hashlib; print(hashlib.md5(open(\"{}/large\", \"rb\").read()).hexdigest())'"):
            trees.same(f"export LD_PRELOAD={order}; {line}")
    forget_all(trees)
    trees.same(f"export DELTAZERO_FETCH=inline LD_PRELOAD=$LD_PRELOAD:{library}; {built('strain')} forks {{}}")


@test
def jemalloc_preloaded_too(trees):
    with_allocator(trees, ALLOCATORS[0])


@test
def tcmalloc_preloaded_too(trees):
    with_allocator(trees, ALLOCATORS[1])


@test
def mimalloc_preloaded_too(trees):
    with_allocator(trees, ALLOCATORS[2])


def with_sanitizer(trees, compiler, *options, before="", ways=("threads", "timer", "forks")):
    need_command(compiler)
    program = os.path.join(trees.tmp, "strain" + str(abs(hash((compiler, options)))))
    if subprocess.run([compiler, "-D_GNU_SOURCE", "-w", "-g", "-O1", "-pthread", "-o", program, here("strain.c"), *options],
                      stderr=subprocess.DEVNULL).returncode:
        raise Skip(f"{compiler} cannot link {options[0]}")
    for way in ways:
        trees.same(f"{before} {program} {way} {{}}")


@test
def programs_under_AddressSanitizer(trees):
    with_sanitizer(trees, "gcc", "-fsanitize=address", before="ASAN_OPTIONS=verify_asan_link_order=0")
    with_sanitizer(trees, "gcc", "-fsanitize=address", "-static-libasan")
    with_sanitizer(trees, "clang", "-fsanitize=address,undefined", ways=["threads"])


@test
def programs_under_ThreadSanitizer(trees):
    with_sanitizer(trees, "gcc", "-fsanitize=thread", ways=["threads", "timer"])
    with_sanitizer(trees, "clang", "-fsanitize=thread", ways=["threads"])


def make_own_libraries(trees):
    folder = os.path.join(trees.tmp, "own")
    os.makedirs(folder, exist_ok=True)
    for name in ("libcurl.so.4", "libssl.so.3", "libcrypto.so.3"):
        built_at = compile(trees, "own.so", "int curl_easy_init(void) { return 40; }\nint SSL_new(void) { return 2; }\n",
                           "-shared", "-fPIC", f"-Wl,-soname,{name}")
        shutil.copy(built_at, os.path.join(folder, name))
    return folder


@test
def a_program_with_its_own_libcurl_and_libssl(trees):
    """As conda and environment modules bring them: by LD_LIBRARY_PATH, and loaded already."""
    folder = make_own_libraries(trees)
    for fetch in ("agent", "inline"):
        for path in ("/none", folder):
            forget_all(trees)
            trees.same(f"export DELTAZERO_FETCH={fetch} LD_LIBRARY_PATH={path}; {built('neighbours')} own {{}}/lines.txt {folder}")
    forget_all(trees)
    trees.same(f"export DELTAZERO_FETCH=inline LD_PRELOAD=$LD_PRELOAD:{folder}/libcurl.so.4:{folder}/libssl.so.3; "
               f"{built('strain')} forks {{}}")


def reads_or_says_no(trees, command):
    said = trees.run(command, trees.mount)
    assert said in (b"line 0 of t\n--- stderr\n--- status 0\n",
                    b"no: No such file or directory\n--- stderr\n--- status 3\n"), said
    return said.startswith(b"line")


@test
def a_library_that_was_loaded_as_usual_reads(trees):
    library = compile(trees, "plugin.so", PLUGIN, "-shared", "-fPIC")
    assert reads_or_says_no(trees, [built("neighbours"), "usual", "{}/lines.txt", library])


@test
def a_library_under_RTLD_DEEPBIND_reads_or_is_told_that_nothing_is_there(trees):
    library = compile(trees, "plugin.so", PLUGIN, "-shared", "-fPIC")
    reads_or_says_no(trees, [built("neighbours"), "deepbind", "{}/lines.txt", library])


@test
def a_library_in_a_namespace_of_dlmopen_reads_or_is_told_that_nothing_is_there(trees):
    library = compile(trees, "plugin.so", PLUGIN, "-shared", "-fPIC")
    reads_or_says_no(trees, [built("neighbours"), "dlmopen", "{}/lines.txt", library])


@test
def libc_by_ctypes_reads_or_is_told_that_nothing_is_there(trees):
    script = ("import ctypes, os; c = ctypes.CDLL('libc.so.6', use_errno=True); fd = c.open(b'{}/lines.txt', 0)\n"
              "b = ctypes.create_string_buffer(11)\n"
              "n = c.read(fd if fd >= 0 else os.open('{}/lines.txt', 0), b, 11)\n"
              "print(b.raw if n == 11 else os.strerror(ctypes.get_errno()))")
    said = trees.run(["python3", "-c", script], trees.mount)
    assert said.split(b"\n")[0] in (b"b'line 0 of t'", b"Bad file descriptor"), said


@test
def descriptors_sent_to_another_process_share_their_position(trees):
    trees.same([sys.executable, here("pass_descriptor.py"), "{}"])


@test
def descriptors_sent_to_a_program_without_the_library_are_EBADF(trees):
    said = trees.run([sys.executable, here("pass_descriptor.py"), "{}", "env", "-u", "LD_PRELOAD"], trees.mount)
    right = trees.run([sys.executable, here("pass_descriptor.py"), "{}", "env"], trees.local)
    assert said == b"Bad file descriptor\n" * 3 + b" 0\n--- stderr\n--- status 0\n" or said == right, said


@test
def a_static_program_gets_a_real_descriptor_however_it_is_started(trees):
    static = compile(trees, "static", STATIC, "-static")
    for line in (f"{static} < {{}}/lines.txt", f"exec 7< {{}}/lines.txt; {static} 7", f"exec {static} < {{}}/lines.txt",
                 f"env -i {static} < {{}}/lines.txt", f"xargs -a /dev/null {static} < {{}}/lines.txt || {static} < {{}}/lines.txt",
                 f"(exec 5< {{}}/lines.txt; {static} 5 & wait $!)",
                 f"python3 -c 'import subprocess, sys; sys.exit(subprocess.call([\"{static}\"], stdin=open(\"{{}}/lines.txt\")))'",
                 f"python3 -c 'import os; f = os.open(\"{{}}/lines.txt\", 0); os.dup2(f, 0); os.execv(\"{static}\", [\"x\"])'",
                 f"python3 -c 'import os, sys; f = os.open(\"{{}}/lines.txt\", 0); os.dup2(f, 0); "
                 f"sys.exit(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(\"{static}\", [\"x\"], dict()), 0)[1]))'",
                 f"perl -e 'open STDIN, \"<\", \"{{}}/lines.txt\"; system \"{static}\"; exit $? >> 8'"):
        said = trees.run(line, trees.mount)
        assert said == GOOD, (line, said)


@test
def a_set_user_id_program_is_left_alone(trees):
    if os.getuid() != 0:
        raise Skip("not root: cannot make one")
    program = os.path.join(trees.tmp, "setuid-cat")
    shutil.copy("/bin/cat", program)
    os.chmod(trees.tmp, 0o755)
    os.chown(program, 65534, 65534)
    os.chmod(program, 0o4755)
    trees.same(f"{program} /etc/passwd | md5sum")
    said = trees.run(f"{program} {{}}/other.txt", trees.mount)
    assert b"No such file or directory" in said and said.endswith(b"--- status 1\n"), said
    said = trees.run(f"{program} < {{}}/other.txt", trees.mount)
    assert said.startswith(b"another\nfile\n") or b"Bad file descriptor" in said, said


if __name__ == "__main__":
    with libshim.trees(plain_tree) as both:
        run_tests(tests_of(sys.modules[__name__]), both)
