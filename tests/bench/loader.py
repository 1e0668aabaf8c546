#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""loader.py DIR EPOCHS WORKERS: what torchvision's ImageFolder behind a DataLoader
does with its files, without decoding them: a scan of the classes, then each epoch
all files in a new order, whole, by worker processes.  Prints files a second."""
import multiprocessing
import os
import random
import sys
import time


def scan(root):
    return [os.path.join(base, name) for base, _, names in sorted(os.walk(root)) for name in sorted(names)]


def load(path):
    with open(path, "rb") as f:
        return len(f.read())


def main():
    root, epochs, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start = time.monotonic()
    files = scan(root)
    with multiprocessing.Pool(workers) as pool:
        for epoch in range(epochs):
            random.Random(epoch).shuffle(files)
            if sum(pool.imap_unordered(load, files, chunksize=32)) == 0:
                raise SystemExit("no bytes")
    print("loader", len(files) * epochs / (time.monotonic() - start))


if __name__ == "__main__":
    main()
