# SPDX-License-Identifier: MIT
"""One tree, twice: as files, and served by dz serve below a mount.  A command is
run on both; what it says has to be the same once the two roots are one word.
"""
import contextlib
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "cli"))
import libblob  # noqa: E402

MOUNT = "/mnt/dz-test"
TIME = 1700000000
# What follows runs where the directory, its first argument, is mounted read-only.
READ_ONLY = ["unshare", "-rm", "sh", "-c",
             'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"']


def make_tree(served):
    content = random.Random(3)
    write = lambda name, data: served.write("data/" + name, data)
    write("text/lines.txt", b"".join(b"line %d of the file\n" % i for i in range(4000)))
    write("text/other.txt", b"another\nfile\n")
    write("text/no newline", b"the end")
    write("text/empty", b"")
    write("text/unicode", "gr\u00fc\u00dfe \u4f60\u597d\n\u00e9 17 \u20ac\n".encode())
    write("data/large.bin", content.randbytes(3 * 1024 * 1024 + 4321))
    write("data/words.csv", b"".join(b"%d,%d\n" % (i, content.randrange(10**9)) for i in range(30000)))
    for i in range(300):
        write(f"many/{i}", b"%d\n" % i)
    write("tree/deep/y.json", b'{"a": 1}\n')
    write("tree/deep/er/x.py", b"print('x')\n")
    write("tree/z.html", b"<p>z</p>\n")
    root = os.path.join(served.root, "data")
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            os.utime(os.path.join(folder, name), (TIME, TIME))
            os.chmod(os.path.join(folder, name), 0o444)
        for name in folders:
            os.chmod(os.path.join(folder, name), 0o555)
    return root


def assert_same(what, local, mount):
    if local != mount:
        lines = [b.decode("utf-8", "backslashreplace").splitlines(True) for b in (local, mount)]
        diff = list(difflib.unified_diff(*lines, "local", "mount", n=1))
        raise AssertionError(f"{what}\n" + "".join(diff[:60]))


class Trees:
    def __init__(self, local, mount, env, tmp):
        self.local, self.mount, self.env, self.tmp = local, mount, env, tmp
        self.root = None
        trial = subprocess.run([*READ_ONLY, local, "true"], stderr=subprocess.DEVNULL)
        self.can_bind = trial.returncode == 0

    def run(self, command, root, read_only=False, **options):
        """The command, a list or a line for bash, with {} for the root of the tree;
        read_only: the local tree is a read-only mount for it."""
        scratch = tempfile.mkdtemp(dir=self.tmp)
        if isinstance(command, str):
            command = ["bash", "-c", command.replace("{}", root)]
        else:
            command = [word.replace("{}", root) for word in command]
        if root == self.mount:
            command = [libblob.dz(), "run", "--", *command]
        elif read_only:
            command = [*READ_ONLY, root, *command]
        done = subprocess.run(command, cwd=scratch, env={**self.env, "OUT": scratch},
                              stdin=options.pop("stdin", subprocess.DEVNULL), timeout=options.pop("timeout", 100),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        said = done.stdout + b"--- stderr\n" + done.stderr
        said = said.replace(root.encode(), b"ROOT").replace(scratch.encode(), b"OUT")
        return said + b"--- status %d\n" % done.returncode

    def same(self, command, status=0, read_only=False, **options):
        local, mount = (self.run(command, root, read_only, **options)
                        for root in (self.local, self.mount))
        assert status is None or local.endswith(b"--- status %d\n" % status), local[-1000:]
        assert_same(command, local, mount)


@contextlib.contextmanager
def trees(make=make_tree):
    """make(served) writes the tree as the container data."""
    with libblob.serve() as served, tempfile.TemporaryDirectory() as tmp:
        make(served)
        # Another copy: what a test does to it, the mount must not see.
        local = os.path.join(tmp, "local")
        shutil.copytree(os.path.join(served.root, "data"), local)
        env = dict(os.environ, DELTAZERO_MOUNT=f"{MOUNT}={served.url}/data",
                   DELTAZERO_DRAM_SIZE="64M", DELTAZERO_DISK_SIZE="0", LC_ALL="C.UTF-8",
                   AZURE_STORAGE_ACCOUNT=libblob.ACCOUNT, AZURE_STORAGE_KEY=libblob.KEY)
        try:
            both = Trees(local, MOUNT, env, tmp)
            both.root = served.root
            yield both
        finally:
            subprocess.run([libblob.dz(), "purge"], env=env, stdout=subprocess.DEVNULL)


def program(name):
    return os.path.join(os.environ["DZ_BUILD"], "tests", "shim", name)
