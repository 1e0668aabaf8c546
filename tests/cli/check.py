#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""dz check, on programs that are built here: one for each way to be seen or not."""
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tempfile

import libblob

WORK = tempfile.mkdtemp(prefix="check.")
MAIN = "#include <fcntl.h>\nint main(int c, char **v){ return open(v[0], O_RDONLY); }"
RAW = """#include <sys/syscall.h>
static long raw(long nr, long a, long b, long c){ long r;
__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
return r; }
"""


def build(name, source=MAIN, *flags):
    path = os.path.join(WORK, name)
    with open(path + ".c", "w") as f:
        f.write(source)
    made = subprocess.run(["gcc", "-O2", "-o", path, path + ".c", *flags], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise libblob.Skip("gcc " + " ".join(flags) + ": " + made.stderr.strip().splitlines()[-1])
    return path


def check(path, want=None, **env):
    done = subprocess.run([libblob.dz(), "check", "--json", path], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=dict(os.environ, **env), timeout=60)
    if want is None:
        return done
    answer = json.loads(done.stdout)[0]
    assert answer["verdict"] == want, answer
    assert done.returncode == {"seen": 0, "not": 1, "partly": 2}[want], done.returncode
    return " ".join(f["object"] + " " + f["text"] for f in answer["findings"]
                    if f["weight"] == ("note" if want == "seen" else want))


def changed(path, name, at, data):
    other = os.path.join(WORK, name)
    with open(path, "rb") as f:
        image = bytearray(f.read())
    image[at:at + len(data)] = data
    with open(other, "wb") as f:
        f.write(image)
    os.chmod(other, 0o755)
    return other


@libblob.test
def an_ordinary_program_is_seen():
    check(build("plain"), "seen")
    check(shutil.which("cat"), "seen")
    assert check("cat", "seen") == ""  # found in PATH, and nothing to say


@libblob.test
def a_static_program_is_not_seen():
    assert "statically linked" in check(build("static", MAIN, "-static"), "not")
    assert "statically linked" in check(build("static-pie", MAIN, "-static-pie"), "not")


@libblob.test
def a_go_program_is_not_seen():
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.path.exists(go):
        raise libblob.Skip("no go")
    assert "Go program" in check(go, "not")


@libblob.test
def what_the_linker_of_go_writes_tells_a_go_program():
    """As in each Go program: here there may be no go to make one."""
    mark = 'const char mark[] __attribute__((used)) = "\\xff Go buildinf:";\n'
    assert "Go program" in check(build("go-static", mark + MAIN, "-static"), "not")
    assert "Go program" in check(build("go-cgo", mark + MAIN), "not")


@libblob.test
def what_is_loaded_past_the_library_is_told():
    text = check(build("deep", "#include <dlfcn.h>\n#include <string.h>\nint main(int c, char **v){ return c > 1 && "
                       "dlopen(v[1], strcmp(v[2], \"RTLD_DEEPBIND\") ? RTLD_NOW : RTLD_NOW | 8) != 0; }"), "seen")
    assert "RTLD_DEEPBIND" in text, text
    # The word alone: which mode it is shows when it runs.
    text = check(build("words", "#include <dlfcn.h>\n#include <string.h>\nint main(int c, char **v){ return c > 1 && "
                       "dlopen(v[1], c + 7 + !strcmp(v[2], \"RTLD_DEEPBIND\")) != 0; }"), "seen")
    assert "knows RTLD_DEEPBIND" in text, text
    assert "DEEPBIND" not in check(build("shallow", "#include <dlfcn.h>\nint main(int c, char **v){ "
                                         "return dlopen(v[1], RTLD_NOW) != 0; }"), "seen")


@libblob.test
def a_mode_that_is_written_into_a_call_of_dlopen_is_told():
    if os.uname().machine != "x86_64":
        raise libblob.Skip("told from the code of x86_64")
    head = "#include <dlfcn.h>\n__attribute__((noinline)) int other(const char *p, int n){ __asm__(\"\" : \"+r\"(n)); " \
        "return n + *p; }\n"
    main = head + "int main(int c, char **v){ return dlopen(v[1], %s) != 0; }"
    loader = "#include <dlfcn.h>\nvoid *load(const char *p){ return dlopen(p, %s); }"
    ways = {"plain": (), "slow": ("-O0",), "small": ("-Os",), "old": ("-fcf-protection=none", "-Wl,-z,lazy"),
            "noplt": ("-fno-plt",), "fixed": ("-no-pie", "-fno-pie"), "now": ("-Wl,-z,now", "-fcf-protection=full")}
    for way, flags in ways.items():
        text = check(build("deep-" + way, main % "RTLD_NOW | 8", *flags), "seen")
        assert "has 1 calls of dlopen with RTLD_DEEPBIND" in text, (way, text)
        assert "DEEPBIND" not in check(build("flat-" + way, main % "RTLD_NOW | RTLD_GLOBAL", *flags), "seen"), way
        # A jump at the end of a function, in a library.
        lib = build(f"lib{way}.so", loader % "RTLD_LAZY | 8", "-shared", "-fPIC", *(f for f in flags if "pie" not in f))
        assert "has 1 calls of dlopen with RTLD_DEEPBIND" in check(lib, "seen"), way
    # The number is another call's; the mode is not known, or has no such bit.
    for source in ("int n = other(v[0], 10); return dlopen(v[1], c) != (void *)(long)n;",
                   "return dlopen(v[1], other(v[0], 10)) != 0;", "return dlopen(v[1], c + 8) != 0;",
                   "other(v[0], 9); return dlopen(v[1], 2) != 0;"):
        path = build("not-deep", head + "int main(int c, char **v){ " + source + " }")
        assert "DEEPBIND" not in check(path, "seen"), source


@libblob.test
def names_of_libc_that_the_list_lacks_are_told():
    text = check(build("names", "int open_tree(int, const char *, unsigned);\n"
                       "int main(int c, char **v){ return open_tree(-1, v[0], 0); }"), "seen")
    assert "does not know: open_tree" in text, text


@libblob.test
def a_program_for_musl_is_not_seen():
    path = build("musl", MAIN, "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    assert "musl" in check(path, "not")


@libblob.test
def another_machine_is_not_seen():
    plain = build("other")
    assert "machine" in check(changed(plain, "arm32", 18, struct.pack("<H", 40)), "not")
    assert "machine" in check(changed(plain, "bits32", 4, b"\1"), "not")


@libblob.test
def set_user_id_of_another_is_not_seen():
    if os.geteuid() != 0:
        raise libblob.Skip("only root can make one")
    path = build("suid")
    os.chown(path, 65534, 65534)
    os.chmod(path, 0o4755)
    assert "setuid" in check(path, "not")
    os.chmod(path, 0o2755)
    assert "setgid" in check(path, "not")
    os.chmod(path, 0o755)
    check(path, "seen")


@libblob.test
def system_calls_of_its_own_on_files_are_partly_seen():
    if os.uname().machine != "x86_64":
        raise libblob.Skip("the test program is for x86_64")
    text = check(build("raw", RAW + "int main(){ return (int)raw(SYS_openat, -100, (long)\"/etc/passwd\", 0); }"),
                 "partly")
    assert "openat" in text and "1 system call" in text, text
    # A futex is no matter.
    text = check(build("futex", RAW + "int x; int main(){ return (int)raw(SYS_futex, (long)&x, 1, 0); }"), "seen")
    assert "touch no file" in text, text


@libblob.test
def raw_calls_of_a_library_that_it_needs_count():
    if os.uname().machine != "x86_64":
        raise libblob.Skip("the test program is for x86_64")
    build("libraw.so", RAW + "long f(void){ return raw(SYS_getdents64, 0, 0, 0); }", "-shared", "-fPIC")
    path = build("user", "long f(void); int main(){ return (int)f(); }", "-L" + WORK, "-l:libraw.so",
                 "-Wl,-rpath,$ORIGIN")
    text = check(path, "partly")
    assert "libraw.so" in text and "getdents64" in text, text
    path = build("lost", "long f(void); int main(){ return (int)f(); }", "-L" + WORK, "-l:libraw.so")
    assert "libraw.so, which is not there" in check(path, "seen")
    check(path, "partly", LD_LIBRARY_PATH=WORK)


@libblob.test
def io_uring_is_partly_seen():
    text = check(build("uring", "#include <liburing.h>\nint main(){ struct io_uring r; "
                       "return io_uring_queue_init(4, &r, 0); }", "-luring"), "partly")
    assert "io_uring_queue_init" in text, text


@libblob.test
def its_own_open_goes_before_the_librarys():
    text = check(build("own", "int open(const char *p, int f, ...){ return p ? f : -1; }\n"
                       "int main(int c, char **v){ return open(v[0], 0); }", "-rdynamic"), "partly")
    assert "defines open itself" in text, text


@libblob.test
def a_script_is_judged_by_its_interpreter():
    def script(name, line):
        path = os.path.join(WORK, name)
        with open(path, "w") as f:
            f.write(line + "\necho\n")
        os.chmod(path, 0o755)
        return path
    assert "script of /bin/sh" in check(script("a.sh", "#!/bin/sh"), "seen")
    assert "script of perl" in check(script("b.pl", "#!/usr/bin/env perl"), "seen")
    static = build("interp", MAIN, "-static")
    assert "statically" in check(script("c", f"#! {static} -x"), "not")
    assert check(script("d", "#!/no/such/interpreter")).returncode == 125
    loop = os.path.join(WORK, "loop")
    assert check(script("loop", "#!" + loop)).returncode == 125


@libblob.test
def what_is_no_program_is_an_error():
    text = os.path.join(WORK, "text")
    with open(text, "w") as f:
        f.write("hello")
    assert check(text).returncode == 125 and "neither" in check(text).stderr
    assert check("no-such-program").returncode == 125
    assert check(WORK).returncode == 125


@libblob.test
def of_several_the_worst_decides():
    done = subprocess.run([libblob.dz(), "check", "cat", build("s", MAIN, "-static")],
                          stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "cat: seen" in done.stdout and "not seen" in done.stdout, done


@libblob.test
def damaged_files_end_in_an_answer_and_never_in_a_signal():
    with open(build("whole"), "rb") as f:
        image = f.read()
    path = os.path.join(WORK, "damaged")
    rnd = random.Random(7)
    for i in range(400):
        broken = bytearray(image)
        if i % 4 == 0:
            broken = broken[:rnd.randrange(len(broken))]
        else:
            # Headers first: they lead to everything else.
            for _ in range(rnd.randrange(1, 12)):
                broken[rnd.randrange(min(len(broken), 1024 if i % 4 == 1 else len(broken)))] = rnd.randrange(256)
        with open(path, "wb") as f:
            f.write(broken)
        done = subprocess.run([libblob.dz(), "check", path], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=20)
        assert done.returncode in (0, 1, 2, 125), (i, done.returncode)


if not shutil.which("gcc"):
    print("no gcc")
    sys.exit(77)
try:
    libblob.run_tests(libblob.tests_of(sys.modules[__name__]))
finally:
    shutil.rmtree(WORK, ignore_errors=True)
