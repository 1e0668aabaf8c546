# SPDX-License-Identifier: MIT
"""The tree that the programs here read, and what their tests have in common: a
program is run on it as files and below a mount, and has to say the same.
"""
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402
from libblob import Skip  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.join(os.environ["DZ_BUILD"], "libdeltazero.so")


def here(name):
    """A program that is read as it is."""
    return os.path.join(HERE, name)


def built(name):
    """A program that make has built."""
    return os.path.join(os.environ["DZ_BUILD"], "tests", "apps-more", name)


def need_command(*names):
    for name in names:
        if not shutil.which(name):
            raise Skip(f"no {name}")


def need_module(*names):
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise Skip(f"no python module {name}")


def fetch_module(name, version):
    """One that Debian has not comes from PyPI, into build/python and once; without it, no matter."""
    home = os.environ.get("DZ_PYTHON_DIR") or os.path.join(os.environ["DZ_TOP"], "build", "python")
    if importlib.util.find_spec(name) is None and not os.path.isdir(os.path.join(home, name)):
        os.makedirs(home, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as tmp:
            if subprocess.call(["timeout", "100", sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target",
                                tmp, f"{name}=={version}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
                os.rename(os.path.join(tmp, name), os.path.join(home, name))
    # Behind what is installed, here and in the programs that are started.
    sys.path.append(home)
    os.environ["PYTHONPATH"] = ":".join(filter(None, (os.environ.get("PYTHONPATH"), home)))


def need_python(text, why):
    """Whether the modules that are there have it."""
    try:
        exec(text, {})
    except Exception:
        raise Skip(why) from None


def settle(served):
    """Times and modes as the mount gives them, for what was made below data."""
    root = os.path.join(served.root, "data")
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            os.utime(os.path.join(folder, name), (libshim.TIME, libshim.TIME))
            os.chmod(os.path.join(folder, name), 0o444)
        for name in folders:
            os.chmod(os.path.join(folder, name), 0o555)


def plain_tree(served):
    """Files of all sizes, and one of which each 8 bytes say where they stand."""
    content = random.Random(5)
    for i in range(40):
        served.write(f"data/small/{i:02}", content.randbytes(content.randrange(1, 60000)))
    served.write("data/large", b"".join(i.to_bytes(8, "little") for i in range(600_000)))
    served.write("data/lines.txt", b"".join(b"line %d of the file\n" % i for i in range(4000)))
    served.write("data/other.txt", b"another\nfile\n")
    served.write("data/empty", b"")
    settle(served)
