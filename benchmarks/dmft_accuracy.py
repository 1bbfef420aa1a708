"""How far dynamical mean-field theory is from direct simulation, over models and kinds of batches.

    python benchmarks/dmft_accuracy.py                                # the table of docs/dmft-accuracy.md
    python benchmarks/dmft_accuracy.py --d 256 --seeds 16 --models tanh relu --clocks poisson-1

Each row is one run of SGD (mean and standard error over seeds) beside its line, both at the same finite step and batch.
The line is of infinite d, so a gap of order 1/d belongs to the theory. A row ends with its resolution: the deviation
that the verdict of a study would notice at one size, as the median over the points. The last lines pool all rows.
"""

import argparse
import sys
import time
import warnings

import numpy as np
from scipy.stats import t as student

from riron.lab.compiling import use_persistent_cache
from riron.studies.proportional import MODELS, ProportionalRun
from riron.theory.dmft import solve

DELTA, DT, LEVEL = 2.0, 0.125, 1e-4
CLOCKS = {
    "none": ("none", 1.0),
    "bernoulli": ("bernoulli", 0.25),
    "poisson-half": ("poisson", DT / (0.5 * DELTA)),  # at temperature 1/2
    "poisson-1": ("poisson", DT / (1.0 * DELTA)),
    "shuffle": ("shuffle", DT / (1.0 * DELTA)),
}
"""Clock, and batch size over number of samples."""


def main(arguments=None) -> None:
    asked = parser().parse_args(arguments)
    use_persistent_cache()
    deviations, resolutions = [], []
    print(f"d={asked.d}, {asked.seeds} seeds, {asked.paths} paths, time {asked.horizon:g}", file=sys.stderr)
    for model in asked.models:
        for clock in asked.clocks:
            row = compare(model, clock, asked)
            deviations.append(row["deviations"])
            resolutions.append(row["resolution"])
            print(sentence(row), flush=True)
    points = np.concatenate(deviations)
    within = np.mean(np.abs(points) < 2.5)
    print(
        f"\n{len(points)} points: {within:.1%} within 2.5 combined errors, rms {np.sqrt(np.mean(points**2)):.2f}; ",
        end="",
    )
    print(f"resolution: median {np.median(resolutions):.1%}, largest {np.max(resolutions):.1%}.")


def compare(model: str, clock: str, asked: argparse.Namespace) -> dict:
    """One model and clock: losses at the end, and the deviations of all points in combined errors."""
    name, share = CLOCKS[clock]
    run = ProportionalRun(model, name, DELTA, DT, asked.horizon, share, 0.09, points=asked.points)
    begun = time.process_time()
    dots = run.simulate(asked.d, seeds=asked.seeds, seed=1)
    simulated = time.process_time() - begun
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.process_time()
        record = run.axis(run.dt * run.steps)
        line = solve(
            run.problem(asked.d), delta=DELTA, record=record, paths=asked.paths, groups=asked.groups, key=1, **run.told
        )
    spent = time.process_time() - begun
    deviations, relative, row = [], [], {"model": model, "clock": clock, "simulated": simulated, "spent": spent}
    for variable in ("train_loss", "test_loss", "test_error"):
        if variable not in line:
            continue
        mean, error = dots[variable].mean("seed").values, dots[variable].std("seed", ddof=1).values / asked.seeds**0.5
        own = line[f"{variable}_stderr"].values
        freedom = (error**2 + own**2) ** 2 / (error**4 / (asked.seeds - 1) + own**4 / (asked.groups - 1))
        combined = np.hypot(error, own)
        deviations.append((line[variable].values - mean) / combined)
        critical = student.isf(LEVEL / (2 * len(mean)), freedom)
        relative.append(critical * combined / line[variable].values)
        row[variable] = (float(line[variable][-1]), float(own[-1]), mean[-1], error[-1])
    return row | {"deviations": np.concatenate(deviations), "resolution": np.median(np.concatenate(relative))}


def sentence(row: dict) -> str:
    """A row of the table."""
    pair = lambda value, error: f"{value:.4f} ± {error:.4f}"
    cells = [f"| {row['model']} | {row['clock']} "]
    for name in ("train_loss", "test_loss"):
        line, line_error, dots, dots_error = row[name]
        cells.append(f"| {pair(line, line_error)} | {pair(dots, dots_error)} ")
    end = f"| {np.max(np.abs(row['deviations'])):.1f} | {row['resolution']:.1%} "
    return "".join(cells) + end + f"| {row['spent']:.1f} | {row['simulated']:.1f} |"


def parser() -> argparse.ArgumentParser:
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("--d", type=int, default=1024)
    known.add_argument("--seeds", type=int, default=64)
    known.add_argument("--paths", type=int, default=131072)
    known.add_argument("--groups", type=int, default=32)
    known.add_argument("--horizon", type=float, default=4.0)
    known.add_argument("--points", type=int, default=5)
    presets = [model for model in MODELS if model not in ("steep", "hermite")]
    known.add_argument("--models", nargs="+", choices=list(MODELS), default=presets)
    known.add_argument("--clocks", nargs="+", choices=list(CLOCKS), default=list(CLOCKS))
    return known


if __name__ == "__main__":
    main()
