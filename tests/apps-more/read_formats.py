# SPDX-License-Identifier: MIT
"""read_formats.py FORMAT DIRECTORY: reads what make_formats.py made and prints what was in it."""
import contextlib
import glob
import hashlib
import os
import pathlib
import pickle
import shutil
import sqlite3
import sys
import tarfile
import zipfile


def md5(data):
    return hashlib.md5(data).hexdigest()


def torch_load():
    import torch
    for name in ("model.pt", "legacy.pt"):
        state = torch.load(name)
        print(name, state["step"], {k: md5(v.numpy().tobytes()) for k, v in state.items() if k != "step"})
    with open("model.pt", "rb") as f:
        print(md5(torch.load(f, map_location="cpu")["weight"].numpy().tobytes()))
    print(md5(pickle.dumps(torch.load(pathlib.Path("legacy.pt"))["bias"].tolist())))


def torch_mmap():
    import torch
    state = torch.load("model.pt", mmap=True)
    print(md5(state["weight"].numpy().tobytes()))


def torch_from_file():
    import torch
    storage = torch.FloatStorage.from_file("array.npy", False, 50_000)
    print(md5(torch.FloatTensor(storage).numpy().tobytes()))
    values = torch.from_file("array.npy", shared=False, size=50_000)
    values += 1  # a private copy
    print(md5(values.numpy().tobytes()))


def numpy_files():
    import numpy as np
    a = np.load("array.npy")
    m = np.load("array.npy", mmap_mode="r")
    c = np.load("array.npy", mmap_mode="c")
    c[3, 4] = 5
    print(md5(a.tobytes()), md5(m.tobytes()), md5(c.tobytes()), md5(m[100:103, ::7].tobytes()))
    with np.load("arrays.npz") as z:
        print({k: md5(z[k].tobytes()) for k in z.files})
    print(np.load("packed.npz")["a"].sum())
    raw = np.memmap("array.npy", "u1", "r", offset=1000, shape=(5000,))
    print(md5(raw.tobytes()), md5(np.fromfile("array.npy", "u1", 5000, offset=1000).tobytes()))
    for mode in ("r+", "w+"):
        try:
            np.load("array.npy", mmap_mode=mode) if mode == "r+" else np.memmap("new", "u1", mode, shape=3)
        except OSError as e:
            print(mode, e.strerror)


def h5():
    import h5py
    for options in ({}, {"driver": "core"}, {"driver": "stdio"}, {"driver": "sec2"}):
        with h5py.File("data.h5", "r", **options) as f:
            print(options, list(f), f["plain"].attrs["unit"], md5(f["plain"][200:300, 5].tobytes()),
                  md5(f["packed"][()].tobytes()))
    with open("data.h5", "rb") as raw, h5py.File(raw, "r") as f:
        print(f["packed"][123])


def images():
    from PIL import Image
    for kind in ("png", "jpeg", "bmp", "tiff"):
        with Image.open("image." + kind) as image:
            print(kind, image.size, md5(image.convert("RGB").tobytes()))
        with open("image." + kind, "rb") as f:
            print(md5(Image.open(f).resize((20, 30)).tobytes()))


def safe():
    import safetensors
    import safetensors.numpy
    print({k: md5(v.tobytes()) for k, v in sorted(safetensors.numpy.load_file("model.safetensors").items())})
    with safetensors.safe_open("model.safetensors", "np") as f:
        print(sorted(f.keys()), f.metadata(), md5(f.get_slice("a")[10:20].tobytes()))


def maps_of_lmdb():
    import lmdb
    for options in ({"lock": False}, {"lock": True}, {"lock": False, "readahead": False}, {"lock": False, "map_size": 1 << 30}):
        with lmdb.open("words.lmdb", readonly=True, **options) as env, env.begin() as txn:
            print(options, env.stat()["entries"], txn.get(b"00077"), txn.get(b"none"),
                  md5(b"".join(k + v for k, v in txn.cursor())))
            with txn.cursor() as c:
                print(c.set_range(b"19990"), [bytes(k) for k in c.iternext(values=False)], c.last(), c.value())
    with lmdb.open("words.lmdb", readonly=True, lock=False) as env:
        os.mkdir(os.environ["OUT"] + "/copy.lmdb")
        env.copy(os.environ["OUT"] + "/copy.lmdb")
        print(os.path.getsize(os.environ["OUT"] + "/copy.lmdb/data.mdb"))
        pid = os.fork()
        if pid == 0:
            with lmdb.open("words.lmdb/data.mdb", subdir=False, readonly=True, lock=False) as e, e.begin(buffers=True) as t:
                print(md5(t.get(b"12345")), flush=True)
            os._exit(0)
        print(os.waitpid(pid, 0)[1])


def archives():
    with zipfile.ZipFile("archive.zip") as z:
        print(z.testzip(), md5(b"".join(z.read(n) for n in z.namelist())))
        with z.open("d0/3") as f:
            f.seek(1000)
            print(md5(f.read(500)))
    sys.path.insert(0, os.path.abspath("package.zip"))
    import inside
    print(inside.answer)
    for name in sorted(glob.glob("archive.tar*")):
        with tarfile.open(name) as t:
            print(name, md5(b"".join(t.extractfile(m).read() for m in t if m.isfile())))
    with tarfile.open("archive.tar", "r|") as t:
        print(md5(b"".join(t.extractfile(m).read() for m in t if m.isfile())))
    shutil.unpack_archive("archive.tar.gz", os.environ["OUT"] + "/unpacked")
    print(len(os.listdir(os.environ["OUT"] + "/unpacked/folder")))


def database():
    for uri in ("file:words.db?immutable=1", "file:words.db?mode=ro"):
        for size in (0, 1 << 28):
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
                print(db.execute(f"pragma mmap_size={size}").fetchall(),
                      db.execute("select sum(n), count(distinct word) from w").fetchall(),
                      db.execute("select n from w where word = 'word 77'").fetchall(),
                      db.execute("pragma integrity_check").fetchall())
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.execute("attach 'words.db' as o")
        db.execute("create table t as select * from o.w where n % 100 = 0")
        print(db.execute("select count(*) from t").fetchall())
    with contextlib.closing(sqlite3.connect("file:words.db?mode=ro", uri=True)) as db, \
            contextlib.closing(sqlite3.connect(os.environ["OUT"] + "/copy")) as to:
        db.backup(to)
        print(to.execute("select count(*) from w").fetchall())


def pickles():
    with open("object.pickle", "rb") as f:
        print(md5(repr(pickle.load(f)).encode()), f.tell() == os.path.getsize("object.pickle"))
    with open("object.pickle", "rb", buffering=0) as f:
        print(md5(repr(pickle.Unpickler(f).load()).encode()))


def copies():
    out = os.environ["OUT"]
    # LMDB writes to its lock where that can be written.
    shutil.copytree(".", out + "/tree", ignore=shutil.ignore_patterns("lock.mdb"))
    print(sorted((p.relative_to(out).as_posix(), p.stat().st_size, md5(p.read_bytes()))
                 for p in pathlib.Path(out).rglob("*") if p.is_file()))
    for copy in (shutil.copy, shutil.copy2, shutil.copyfile):
        print(md5(pathlib.Path(copy("words.db", out + "/" + copy.__name__)).read_bytes()))
    with open("words.db", "rb") as f, open(out + "/sent", "wb") as to:
        while os.sendfile(to.fileno(), f.fileno(), to.tell() or None, 100_001):
            to.seek(0, 2)
            f.seek(to.tell())
    print(md5(pathlib.Path(out, "sent").read_bytes()))


def paths():
    here = pathlib.Path(".")
    print(sorted(map(str, here.rglob("*.t*"))), sorted(glob.glob("**/1*", recursive=True)))
    for p in sorted(here.iterdir()):
        print(p, p.is_dir(), p.is_file(), p.exists(), p.is_symlink(), p.stat().st_mode, p.owner() == here.owner())
    print((here / "none").exists(), here.resolve(), (here / "folder/../words.db").resolve(strict=True))
    print([sorted(x) for _, d, f in os.walk(".") for x in (d, f)], (here / "folder").samefile("./folder/../folder"))
    for call in (lambda: (here / "none").read_bytes(), lambda: (here / "folder").read_bytes(),
                 lambda: list((here / "words.db").iterdir())):
        try:
            call()
        except OSError as e:
            print(e)


os.chdir(sys.argv[2])
globals()[sys.argv[1]]()
