"""Every bound of one network on MNIST, over three splits; writes the table of docs/bounds.md to stdout.

    python benchmarks/bounds.py --data DIR [--splits 3] [--random-labels]

DIR (or the environment variable RIRON_DATA) holds mnist5k.npz. A multilayer perceptron 784-256-128-10 without biases is
trained on 4 000 images by Adam; the other 1 000 are held out. With --random-labels the bounds of a network trained on
permuted labels are divided by those of the first.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import riron.torch as rt

NAMES = ("parameter-count", "neyshabur-2015", "golowich-2018", "bartlett-2017", "neyshabur-2018", "arora-2018")


def network(seed):
    """The network at its start."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(784, 256, bias=False), nn.ReLU(), nn.Linear(256, 128, bias=False), nn.ReLU(),
        nn.Linear(128, 10, bias=False),
    )  # fmt: skip


def train(model, X, y, *, seed, enough, most=300):
    """Adam, batches of 64, until the training error is `enough`, at least 15 epochs."""
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for epoch in range(most):
        for rows in torch.randperm(len(X)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            if epoch >= 14 and float((model(X).argmax(1) != y).double().mean()) <= enough:
                break
    return model.eval()


def main():
    """Trains, bounds, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("RIRON_DATA"))
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--random-labels", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(Path(options.data) / "mnist5k.npz") as file:
        X, y = torch.tensor(file["X"] / 255.0, dtype=torch.float32), torch.tensor(file["y"]).long()
    columns = []
    for split in range(options.splits):
        order = torch.tensor(np.random.default_rng(split).permutation(len(X)))
        (train_X, new_X), (train_y, new_y) = (v[order].split([4000, 1000]) for v in (X, y))
        start, began = network(split), time.process_time()
        model = train(network(split), train_X, train_y, seed=split, enough=1.0)
        told = {"heldout": (new_X, new_y), "init": start, "progress": False, "seed": split}
        if options.random_labels:
            permuted = train_y[torch.tensor(np.random.default_rng(split + 100).permutation(4000))]
            other = train(network(split), train_X, permuted, seed=split, enough=0.01)
            pairs = ((model, train_y), (other, permuted))
            true, random = (rt.bounds(m, (train_X, v), which=NAMES, **told) for m, v in pairs)
            columns.append({b.name: random[b.name].value / b.value for b in true.bounds})
            continue
        half = train(network(split + 50), train_X[:2000], train_y[:2000], seed=split, enough=1.0)
        found = rt.bounds(model, (train_X, train_y), prior=(half, torch.arange(2000)), **told)
        print(f"split {split}: training error {found.train_error:.4f}, test error {found.heldout_error:.3f}, "
              f"{time.process_time() - began:.0f} processor seconds")  # fmt: skip
        columns.append({f"{b.name} [{b.of}]": b.value for b in found.bounds})
    for name in dict.fromkeys(name for column in columns for name in column):
        print(f"| {name} | {' / '.join(f'{column[name]:.3g}' if name in column else '-' for column in columns)} |")


if __name__ == "__main__":
    main()
