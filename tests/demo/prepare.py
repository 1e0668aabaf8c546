#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""prepare.py DIR: Debian's Fashion-MNIST as a dataset of files, once.

DIR/train/CLASS/NNNNN.png are the first 10,000 training images; the four
original .gz files lie in DIR itself.
"""
import gzip
import os
import shutil
import sys

import numpy
from PIL import Image

SOURCE = "/usr/share/datasets/fashion-mnist"
CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat",
           "sandal", "shirt", "sneaker", "bag", "boot"]
COUNT = 10000


def read_idx(name, header):
    with gzip.open(os.path.join(SOURCE, name)) as f:
        return numpy.frombuffer(f.read(), numpy.uint8, offset=header)


def main(target):
    done = os.path.join(os.path.dirname(target), ".prepared")
    if os.path.exists(done):
        return
    print(f"unpacking {COUNT} images of Fashion-MNIST", flush=True)
    images = read_idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx("train-labels-idx1-ubyte.gz", 8)
    for name in CLASSES:
        os.makedirs(os.path.join(target, "train", name), exist_ok=True)
    for i in range(COUNT):
        path = os.path.join(target, "train", CLASSES[labels[i]], f"{i:05}.png")
        Image.fromarray(images[i]).save(path)
    for name in sorted(os.listdir(SOURCE)):
        shutil.copyfile(os.path.join(SOURCE, name), os.path.join(target, name))
    open(done, "w").close()


if __name__ == "__main__":
    main(sys.argv[1])
