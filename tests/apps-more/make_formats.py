# SPDX-License-Identifier: MIT
"""make_formats.py DIRECTORY: a file of each format whose library is here."""
import contextlib
import os
import pickle
import sqlite3
import sys
import tarfile
import zipfile


def make_numpy():
    import numpy as np
    values = np.random.RandomState(1).rand(400, 500).astype("f4")
    np.save("array.npy", values)
    np.savez("arrays.npz", a=values[:50], b=np.arange(9000))
    np.savez_compressed("packed.npz", a=values[:50] > 0.5)


def make_torch():
    import torch
    torch.manual_seed(1)
    state = {"weight": torch.rand(300, 700), "bias": torch.rand(300), "step": 7}
    torch.save(state, "model.pt")
    torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)


def make_h5():
    import h5py
    import numpy as np
    with h5py.File("data.h5", "w") as f:
        f["plain"] = np.arange(100_000).reshape(1000, 100)
        f.create_dataset("packed", data=np.arange(200_000) % 1000, chunks=(4096,), compression="gzip")
        f["plain"].attrs["unit"] = "m"


def make_images():
    import numpy as np
    from PIL import Image
    pixels = np.random.RandomState(2).randint(0, 255, (200, 300, 3), "u1")
    for kind in ("png", "jpeg", "bmp", "tiff"):
        Image.fromarray(pixels).save("image." + kind)


def make_safetensors():
    import numpy as np
    import safetensors.numpy
    tensors = {"a": np.arange(60_000, dtype="f4").reshape(300, 200), "b": np.ones(7, "i8")}
    safetensors.numpy.save_file(tensors, "model.safetensors", {"format": "pt"})


def make_lmdb():
    import lmdb
    with lmdb.open("words.lmdb", map_size=1 << 26) as env, env.begin(write=True) as txn:
        for i in range(20000):
            txn.put(b"%05d" % i, b"word %d " % (i * 7919 % 10007) * (i % 7 + 1))


def make_archives():
    data = bytes(range(256)) * 3000
    with zipfile.ZipFile("archive.zip", "w") as z:
        for i in range(30):
            z.writestr(f"d{i % 3}/{i}", data[i * 100:], (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[i % 2])
    with zipfile.ZipFile("package.zip", "w") as z:
        z.writestr("inside/__init__.py", "answer = 42\n")
    os.mkdir("folder")
    for i in range(20):
        with open(f"folder/{i}", "wb") as f:
            f.write(data[i * 10:])
    for mode, name in (("w", "archive.tar"), ("w:gz", "archive.tar.gz"), ("w:xz", "archive.tar.xz")):
        with tarfile.open(name, mode) as t:
            t.add("folder")


def make_database():
    with contextlib.closing(sqlite3.connect("words.db")) as db, db:
        db.execute("create table w (n integer primary key, word text)")
        db.executemany("insert into w values (?, ?)", ((i, f"word {i * 7919 % 10007}") for i in range(20000)))
        db.execute("create index by_word on w (word)")


def make_pickle():
    with open("object.pickle", "wb") as f:
        pickle.dump([{"n": i, "text": "x" * (i % 50)} for i in range(5000)], f)


os.makedirs(sys.argv[1])
os.chdir(sys.argv[1])
make_archives()
make_database()
make_pickle()
for make in (make_numpy, make_torch, make_h5, make_images, make_safetensors, make_lmdb):
    with contextlib.suppress(ImportError):
        make()
