"""How far dynamical mean-field theory is from direct simulation, over models and kinds of batches.

    python benchmarks/dmft_accuracy.py --d 1024 --seeds 64            # the table of docs/dmft-accuracy.md
    python benchmarks/dmft_accuracy.py --d 256 --seeds 16 --models tanh relu --clocks poisson

Each row is one run of SGD (mean and standard error over seeds) beside its line, both at the same finite step and batch.
The line is of infinite d, so a gap of order 1/d belongs to the theory. The last line is the share of all points within
2.5 combined errors, as they are and with a finite-size term of 1/d of the value granted.
"""

import argparse
import sys
import time
import warnings

import numpy as np

from riron.lab.compiling import use_persistent_cache
from riron.studies.proportional import MODELS, ProportionalRun
from riron.theory.dmft import solve

CLOCKS = ("none", "bernoulli", "poisson", "shuffle")
FINITE_SIZE = 2.0  # of the value over d


def main(arguments=None) -> None:
    asked = parser().parse_args(arguments)
    use_persistent_cache()
    shares, rows = [], []
    print(f"d={asked.d}, {asked.seeds} seeds, {asked.paths} paths, time {asked.horizon:g}", file=sys.stderr)
    for model in asked.models:
        for clock in asked.clocks:
            rows.append(compare(model, clock, asked))
            shares.append(rows[-1].pop("points"))
            print(sentence(rows[-1]), flush=True)
    points = np.concatenate(shares)
    plain, granted = (np.mean(np.abs(points[:, column]) < 2.5) for column in (0, 1))
    print(f"\n{len(points)} points: {plain:.1%} within 2.5 combined errors, {granted:.1%} with a finite-size term.")


def compare(model: str, clock: str, asked: argparse.Namespace) -> dict:
    """One model and clock: losses at the end, and all points as deviations in combined errors."""
    run = ProportionalRun(model, clock, 2.0, asked.dt, asked.horizon, asked.batch_fraction, 0.09, points=asked.points)
    begun = time.process_time()
    dots = run.simulate(asked.d, seeds=asked.seeds, seed=1)
    simulated = time.process_time() - begun
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.process_time()
        line = solve(**run.theory(asked.d), paths=asked.paths, groups=16, key=1)
    spent = time.process_time() - begun
    points, row = [], {"model": model, "clock": clock, "simulated": simulated, "spent": spent}
    for name in ("train_loss", "test_loss", "test_error"):
        if name not in line:
            continue
        mean, error = dots[name].mean("seed").values, dots[name].std("seed", ddof=1).values / asked.seeds**0.5
        combined = np.hypot(error, line[f"{name}_stderr"].values)
        gap = line[name].values - mean
        rest = np.sign(gap) * np.maximum(np.abs(gap) - FINITE_SIZE * np.abs(mean) / asked.d, 0)
        points += [np.stack([gap / combined, rest / combined], axis=1)]
        row[name] = (float(line[name][-1]), float(line[f"{name}_stderr"][-1]), mean[-1], error[-1])
    return row | {"points": np.concatenate(points)}


def sentence(row: dict) -> str:
    """A row of the table."""
    pair = lambda value, error: f"{value:.4f} ± {error:.4f}"
    cells = [f"| {row['model']} | {row['clock']} "]
    for name in ("train_loss", "test_loss"):
        line, line_error, dots, dots_error = row[name]
        cells.append(f"| {pair(line, line_error)} | {pair(dots, dots_error)} ")
    return "".join(cells) + f"| {row['spent']:.1f} | {row['simulated']:.1f} |"


def parser() -> argparse.ArgumentParser:
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("--d", type=int, default=1024)
    known.add_argument("--seeds", type=int, default=64)
    known.add_argument("--paths", type=int, default=32768)
    known.add_argument("--horizon", type=float, default=4.0)
    known.add_argument("--dt", type=float, default=0.1)
    known.add_argument("--batch-fraction", type=float, default=0.0625)
    known.add_argument("--points", type=int, default=5)
    known.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    known.add_argument("--clocks", nargs="+", choices=CLOCKS, default=list(CLOCKS))
    return known


if __name__ == "__main__":
    main()
