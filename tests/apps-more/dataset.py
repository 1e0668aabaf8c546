# SPDX-License-Identifier: MIT
"""dataset.py ROOT METHOD WORKERS: two epochs of a DataLoader over the files of ROOT/small,
and over ranges of ROOT/large that one descriptor per process is read for.
"""
import hashlib
import os
import sys

import torch
import torch.utils.data


class Files(torch.utils.data.Dataset):
    def __init__(self, root):
        self.folder = os.path.join(root, "small")
        self.names = sorted(os.listdir(self.folder))
        self.large = open(os.path.join(root, "large"), "rb")

    def __len__(self):
        return len(self.names)

    def __getstate__(self):
        return {"folder": self.folder, "names": self.names, "large": None, "path": self.large.name}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.large = open(state["path"], "rb")

    def __getitem__(self, i):
        with open(os.path.join(self.folder, self.names[i]), "rb") as f:
            data = f.read()
        data += os.pread(self.large.fileno(), 5000, i * 7777)
        return i, int.from_bytes(hashlib.md5(data).digest()[:7], "big")


def main(root, method, workers):
    context = method if workers else None
    loader = torch.utils.data.DataLoader(Files(root), batch_size=4, shuffle=True, num_workers=workers,
                                         multiprocessing_context=context, persistent_workers=workers > 0)
    for _ in range(2):
        pairs = sorted((int(i), int(s)) for batch in loader for i, s in zip(*batch))
        print(len(pairs), hashlib.md5(repr(pairs).encode()).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
