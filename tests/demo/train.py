#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""train.py DATA: trains a small CNN on the images in DATA/train/CLASS.

An ordinary PyTorch script: it opens files and knows of nothing else.  After each
epoch it tests on DATA/t10k-*.gz and prints one line.
"""
import argparse
import gzip
import os
import sys
import time

import numpy
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


class ImageFolders(Dataset):
    """One folder a class, one file an image."""

    def __init__(self, root):
        self.root = root
        self.classes = sorted(self.names("train"))
        self.items = [(f"train/{name}/{file}", label)
                      for label, name in enumerate(self.classes)
                      for file in sorted(self.names(f"train/{name}"))]

    def names(self, folder):
        return [entry.name for entry in os.scandir(os.path.join(self.root, folder))]

    def open(self, name):
        return open(os.path.join(self.root, name), "rb")

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        name, label = self.items[i]
        with self.open(name) as f:
            pixels = numpy.asarray(Image.open(f), dtype=numpy.float32)
        return torch.from_numpy(pixels / 255).unsqueeze(0), label

    def test_set(self):
        with gzip.open(self.open("t10k-images-idx3-ubyte.gz")) as f:
            images = numpy.frombuffer(f.read(), numpy.uint8, offset=16)
        with gzip.open(self.open("t10k-labels-idx1-ubyte.gz")) as f:
            labels = numpy.frombuffer(f.read(), numpy.uint8, offset=8)
        images = images.reshape(-1, 1, 28, 28).astype(numpy.float32) / 255
        return torch.from_numpy(images), torch.from_numpy(labels.astype(numpy.int64))


# The numbers of the original, so that the labels of the test set agree.
NUMBERS = {"t-shirt": 0, "trouser": 1, "pullover": 2, "dress": 3, "coat": 4,
           "sandal": 5, "shirt": 6, "sneaker": 7, "bag": 8, "boot": 9}


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 10))


def progress(epoch, seen, total, start):
    if sys.stderr.isatty():
        rate = seen / max(time.monotonic() - start, 1e-9)
        end = "\n" if seen == total else ""
        print(f"\r  epoch {epoch}: {seen}/{total} images, {rate:.0f}/s ", end=end,
              file=sys.stderr, flush=True)


def train_epoch(epoch, model, loader, optimizer, numbers):
    start, seen, total = time.monotonic(), 0, len(loader.dataset)
    for images, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), numbers[labels])
        loss.backward()
        optimizer.step()
        seen += len(labels)
        progress(epoch, seen, total, start)
    return seen, time.monotonic() - start


def main(make_dataset=ImageFolders):
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--limit", type=int, help="images at most")
    args = parser.parse_args()

    torch.manual_seed(1)
    torch.set_num_threads(1)
    data = make_dataset(args.data)
    if args.limit:
        data.items = data.items[::max(1, len(data.items) // args.limit)][:args.limit]
    numbers = torch.tensor([NUMBERS[name] for name in data.classes])
    loader = DataLoader(data, batch_size=100, shuffle=True, num_workers=args.workers)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(1, args.epochs + 1):
        seen, seconds = train_epoch(epoch, model, loader, optimizer, numbers)
        images, labels = data.test_set()
        with torch.no_grad():
            correct = (model(images).argmax(1) == labels).float().mean().item()
        print(f"epoch {epoch}: {seen} images in {seconds:.2f} s, {seen / seconds:.0f} images/s, "
              f"test accuracy {correct:.3f}", flush=True)


if __name__ == "__main__":
    main()
