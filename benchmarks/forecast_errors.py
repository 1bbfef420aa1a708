"""How far are forecasts of SGD from training, on real tables? Every case, failures included, in one table.

    python benchmarks/forecast_errors.py --data FOLDER [--results FILE] [--page docs/forecast-errors.md]

Sets: digits (scikit-learn) and, where FOLDER has them, spam, letter, satellite, dna, ijcnn1, mnist5k (`X`, `y` in NPZ).
2 000 training rows or all there are, 1 000 held out; raw columns and relu:300; batch 1, 8, 64; 0.1, 0.3, 0.6 of the
edge; 4 epochs, 8 points a curve; 32 runs, 64 at 0.6. Cases are kept as they come (JSON lines): a second start goes on.
"""

import argparse
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
import xarray as xr

from riron.dynamics import sgd
from riron.forecast.features import make_features
from riron.forecast.tables.table import Table
from riron.lab.compiling import use_persistent_cache
from riron.lab.running import simulate
from riron.problems import from_arrays
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import growth_factor, stability_edge

SETS = ("digits", "spam", "letter", "satellite", "dna", "ijcnn1", "mnist5k")
FEATURES = ("raw", "relu:300")
BATCHES = (1, 8, 64)
FRACTIONS = (0.1, 0.3, 0.6)
SAMPLINGS = ("with-replacement", "epochs")
SEEDS = {0.1: 32, 0.3: 32, 0.6: 64}
EPOCHS, POINTS, TRAIN, HELD_OUT = 4, 8, 2000, 1000
BEYOND = 1.5  # times the edge, where runs should diverge


def load(name: str, folder: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    path = folder / f"{name}.npz" if folder else None
    if path is None or not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        return file["X"].astype(float), file["y"]


def features(name: str, spec: str, folder: Path | None):
    """Training and held-out rows as the forecast sees them, drawn at random with a fixed seed."""
    loaded = load(name, folder)
    if loaded is None:
        return None
    X, y = loaded
    rows = np.random.default_rng(0).permutation(len(X))
    n = min(TRAIN, len(X) - min(HELD_OUT, len(X) // 4))
    train, test = rows[:n], rows[n : n + HELD_OUT]
    classes, codes = np.unique(y, return_inverse=True)
    columns = [f"x{j}" for j in range(X.shape[1])]
    table = Table(
        X=X[train], X_test=X[test], y=codes[train], y_test=codes[test], classes=list(classes), task="classification",
        columns=columns, target="y", source=name, train_rows=train, test_rows=test, total_rows=len(X),
    )  # fmt: skip
    return make_features(table, spec)


def train(data, *, step_sizes: list[float], batch: int, sampling: str, record: xr.DataArray) -> xr.Dataset:
    """Runs at all step sizes at once (one compilation), dims (point, seed, step)."""
    problem = from_arrays(data.F, data.Y, X_test=data.F_test, y_test=data.Y_test)
    dynamics = sgd(step_size=step_sizes[0], batch=batch, sampling=sampling)
    return simulate(
        problem, dynamics, record=record, seeds=max(SEEDS.values()), seed=1, sweep={"dynamics.step_size": step_sizes}
    )


def compare(spectrum: Spectrum, dots: xr.Dataset, *, batch: int, step_size: float, sampling: str, record) -> dict:
    """Forecast and training of one setting, at every point."""
    started = time.perf_counter()
    line = least_squares_sgd(spectrum, batch=batch, step_size=step_size, record=record, sampling=sampling)
    seconds = time.perf_counter() - started
    seeds = dots.sizes["seed"]
    case = {"n": spectrum.n, "p": len(spectrum.eigenvalues), "seeds": seeds, "step_size": step_size,
            "steps": record.values.tolist(), "forecast_seconds": seconds, "training_seconds": dots.attrs["seconds"],
            "diverged": int((~np.isfinite(dots.test_loss)).any("step").sum())}  # fmt: skip
    for variable in ("train_loss", "test_loss"):
        runs = dots[variable].values.astype(float)
        expected, own = line[variable].values, line[f"{variable}_stderr"].values
        tolerance = f"{variable}_tolerance"
        first, second = runs[: seeds // 2], runs[seeds // 2 :]
        between = np.hypot(standard_error(first), standard_error(second))
        case[variable] = {
            "line": expected.tolist(),
            "dots": runs.mean(0).tolist(),
            "stderr": standard_error(runs).tolist(),
            "line_stderr": own.tolist(),
            "tolerance": (line[tolerance].values if tolerance in line else np.zeros(len(own))).tolist(),
            "z": ((runs.mean(0) - expected) / np.hypot(standard_error(runs), own)).tolist(),
            "z_halves": ((first.mean(0) - second.mean(0)) / between).tolist(),
            "sd_ratio": (line[f"{variable}_sd"].values / runs.std(0, ddof=1)).tolist(),
        }
    case["test_error"] = {"line": line.test_error.values.tolist(), "dots": dots.test_error.values.mean(0).tolist()}
    return case


def points(n: int, batch: int) -> xr.DataArray:
    steps = EPOCHS * (n // batch)
    places = np.unique(np.round(np.geomspace(max(1, steps / 64), steps, POINTS)).astype(int))
    return xr.DataArray(places, {"step": places}, "step")


def standard_error(runs: np.ndarray) -> np.ndarray:
    return np.maximum(runs.std(0, ddof=1) / np.sqrt(len(runs)), 1e-300)


def beyond_edge(data, spectrum: Spectrum, edge: float, batch: int, factor: float = BEYOND, seeds: int = 32) -> dict:
    """What runs do above the edge: how many diverge within 20 000 steps."""
    problem = from_arrays(data.F, data.Y, X_test=data.F_test, y_test=data.Y_test)
    dynamics = sgd(step_size=factor * edge, batch=batch, sampling="with-replacement")
    dots = simulate(problem, dynamics, record=[0, 20_000], seeds=seeds, seed=2)
    start, end = dots.train_loss.values[:, 0], dots.train_loss.values[:, 1]
    growth = growth_factor(spectrum, batch=batch, step_size=factor * edge)
    return {
        "batch": batch,
        "factor": factor,
        "seeds": seeds,
        "growth": growth,
        "diverged": int((~(end < 10 * start)).sum()),
    }


def key(case: dict) -> tuple:
    return tuple(case.get(k) for k in ("set", "features", "sampling", "batch", "fraction", "factor"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RIRON_DATA"), help="folder of NPZ files")
    parser.add_argument("--results", type=Path, default=Path("forecast-errors.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/forecast-errors.md"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--only-page", action="store_true", help="write the page from the results that are there")
    options = parser.parse_args()
    use_persistent_cache()
    folder = Path(options.data) if options.data else None
    done = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    known = {key(case) for case in done}

    def keep(case: dict) -> None:
        done.append(case)
        with options.results.open("a") as file:
            file.write(json.dumps(case) + "\n")
        print(sentence(case), flush=True)

    for name, spec in itertools.product([] if options.only_page else options.sets.split(","), FEATURES):
        data = features(name, spec, folder)
        if data is None:
            print(f"{name}: no such file, left out")
            continue
        spectrum = Spectrum.of(data.F, data.Y, data.F_test, data.Y_test)
        for batch in BATCHES:
            label = {"set": name, "features": spec, "batch": batch}
            edge = stability_edge(spectrum, batch=batch).step_size
            record = points(spectrum.n, batch)
            for sampling in SAMPLINGS:
                if all(key(label | {"sampling": sampling, "fraction": f}) in known for f in FRACTIONS):
                    continue
                setting = {"batch": batch, "sampling": sampling, "record": record}
                step_sizes = [fraction * edge for fraction in FRACTIONS]
                runs = train(data, step_sizes=step_sizes, **setting)
                for i, fraction in enumerate(FRACTIONS):
                    dots = runs.isel(point=i, seed=slice(SEEDS[fraction]))
                    case = compare(spectrum, dots, step_size=step_sizes[i], **setting)
                    keep(label | {"sampling": sampling, "fraction": fraction, "edge": edge} | case)
            if key(label | {"factor": BEYOND}) not in known:
                keep(label | {"edge": edge} | beyond_edge(data, spectrum, edge, batch))
    options.page.write_text(page(done))


def relative(case: dict, variable: str) -> np.ndarray:
    values = case[variable]
    return np.array(values["line"]) / np.array(values["dots"]) - 1


def within(case: dict, variable: str, name: str = "z", limit: float = 2.5) -> np.ndarray:
    return np.abs(np.array(case[variable][name])) <= limit


def sentence(case: dict) -> str:
    place = f"{case['set']:9} {case['features']:8} B={case['batch']:<2}"
    if "factor" in case:
        diverged = f"{case['diverged']} of {case['seeds']} runs diverge"
        return f"{place} at {case['factor']} x edge: {diverged}, growth {case['growth']:.4f}"
    parts = []
    for variable in ("train_loss", "test_loss"):
        error = relative(case, variable)
        worst = error[np.argmax(np.abs(error))]
        parts.append(
            f"{np.median(np.abs(error)):.2%} (worst {worst:+.2%}), {within(case, variable).sum()}/{len(error)}"
        )
    times = f"{case['forecast_seconds']:.1f} s, training {case['training_seconds']:.1f} s"
    return f"{place} {case['fraction']} edge {case['sampling']:16} train {parts[0]}; test {parts[1]}; {times}"


def page(cases: list[dict]) -> str:
    """The Markdown page: pooled numbers, then every case."""
    curves = [case for case in cases if "factor" not in case]
    beyond = [case for case in cases if "factor" in case]
    lines = [
        "# Forecast errors",
        "",
        "Made by `python benchmarks/forecast_errors.py`: forecasts of SGD beside training, on real tables.",
        f"{len(curves)} curves of up to {POINTS} points, train and held-out loss at each; runs share nothing with the",
        "forecast but the data.",
        "*Within*: share of points at which the mean of the runs is within 2.5 standard errors of the forecast (the",
        "solver's own error added, the stated error of the closure not). *Halves*: the same share when one half of the",
        "runs serves as the line of the other, which is what a perfect forecast would reach. *Stated*: share within",
        "the tolerance that the closure states (plus 2.5 standard errors). *Band*: median ratio of the forecast to the",
        "measured standard deviation between runs.",
        "",
        "| sampling | curves | within | halves | stated | median error | 90 % | worst | error rate, end | band |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for sampling in SAMPLINGS:
        family = [case for case in curves if case["sampling"] == sampling]
        if family:
            lines.append(summary(sampling, family))
    lines += [
        "",
        "## Every case",
        "",
        "Errors in per cent: median and worst over the points of a curve, forecast minus runs; *w*: points within",
        "2.5 standard errors; *noise*: the runs' own standard error, train and held-out.",
        "",
    ]
    lines += [
        "| set | features | n, p | sampling | B | of the edge | train: median, worst, w "
        "| held-out: median, worst, w | noise | stated | diverged |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in sorted(
        curves,
        key=lambda c: (SETS.index(c["set"]), c["features"], SAMPLINGS.index(c["sampling"]), c["batch"], c["fraction"]),
    ):
        lines.append(row(case))
    lines += [
        "",
        "## Above the edge",
        "",
        "Runs with replacement at 1.5 times the edge, 20 000 steps: how many end above ten times their first loss.",
        "",
    ]
    lines += ["| set | features | B | edge | growth of the mean loss a step | diverged |", "|---|---|---|---|---|---|"]
    for case in beyond:
        lines.append(
            f"| {case['set']} | {case['features']} | {case['batch']} | {case['edge']:.4g} | {case['growth']:.4f} "
            f"| {case['diverged']} of {case['seeds']} |"
        )
    return "\n".join(lines) + "\n"


def summary(sampling: str, family: list[dict]) -> str:
    both = [(case, variable) for case in family for variable in ("train_loss", "test_loss")]
    errors = np.abs(np.concatenate([relative(*each) for each in both]))
    inside = np.concatenate([within(*each) for each in both]).mean()
    halves = np.concatenate([within(*each, name="z_halves") for each in both]).mean()
    excess = [
        np.abs(np.array(c[v]["dots"]) - c[v]["line"]) - np.array(c[v]["tolerance"]) * np.array(c[v]["line"])
        <= 2.5 * np.hypot(c[v]["stderr"], c[v]["line_stderr"])
        for c, v in both
    ]
    wrong = max(abs(c["test_error"]["line"][-1] - c["test_error"]["dots"][-1]) for c in family)
    band = np.median(np.concatenate([c[v]["sd_ratio"] for c, v in both]))
    return (
        f"| {sampling} | {len(family)} | {inside:.1%} | {halves:.1%} | {np.concatenate(excess).mean():.1%} "
        f"| {np.median(errors):.2%} | {np.quantile(errors, 0.9):.2%} | {errors.max():.1%} | {wrong:.3f} | {band:.2f} |"
    )


def row(case: dict) -> str:
    cells = [
        case["set"],
        case["features"],
        f"{case['n']}, {case['p']}",
        case["sampling"],
        str(case["batch"]),
        f"{case['fraction']:g}",
    ]
    for variable in ("train_loss", "test_loss"):
        error = 100 * relative(case, variable)
        inside = within(case, variable)
        cells.append(
            f"{np.median(np.abs(error)):.2f}, {error[np.argmax(np.abs(error))]:+.2f}, {inside.sum()}/{len(inside)}"
        )
    noise = [
        100 * np.median(np.array(case[v]["stderr"]) / np.array(case[v]["dots"])) for v in ("train_loss", "test_loss")
    ]
    stated = 100 * max(max(case[v]["tolerance"]) for v in ("train_loss", "test_loss"))
    cells += [f"{noise[0]:.2f}, {noise[1]:.2f}", f"{stated:.1f}", str(case["diverged"])]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
