"""How far are forecasts of SGD from training, on real tables? Every case, failures included, in one table.

    python benchmarks/forecast_errors.py --data FOLDER [--results FILE] [--page docs/forecast-errors.md]

Sets: digits (scikit-learn) and, where FOLDER has them, spam, letter, satellite, dna, ijcnn1, mnist5k (`X`, `y` in NPZ).
2 000 training rows or all there are, 1 000 held out; raw columns and relu:300; 4 epochs, 8 points a curve. Families of
training: see FAMILIES. Cases are kept as they come (JSON lines): a second start goes on.
"""

import argparse
import itertools
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from riron.dynamics import sgd
from riron.forecast.features import make_features
from riron.forecast.tables.table import Table
from riron.forecast.training import Training, number_of_steps, targets
from riron.lab.compiling import use_persistent_cache
from riron.lab.running import simulate
from riron.problems import from_arrays
from riron.theory.spectrum import Spectrum
from riron.theory.stability import growth_factor, stability_edge

SETS = ("digits", "spam", "letter", "satellite", "dna", "ijcnn1", "mnist5k")
FEATURES = ("raw", "relu:300")
EPOCHS, POINTS, TRAIN, HELD_OUT = 4, 8, 2000, 1000
BEYOND = 1.5  # times the edge, where runs should diverge
SEEDS, MANY_SEEDS = 32, 64  # the second at the largest step
WARMUP = 0.1  # share of the run


@dataclass(frozen=True)
class Family:
    """A way of training, and the step sizes at which it is tried.

    Attributes:
      title: as the page has it.
      setting: of `Training`.
      steps: step sizes by batch size: multiples of the stability edge, or of batch-free 1 / mean |x|^2 for losses that
        have no edge.
    """

    title: str
    setting: dict[str, Any] = field(default_factory=dict)
    steps: dict[int, tuple[float, ...]] = field(default_factory=lambda: dict.fromkeys((1, 8, 64), (0.1, 0.3, 0.6)))


FEWER = dict.fromkeys((1, 8), (0.1, 0.6))
LIPSCHITZ = {1: (0.1, 0.5, 2.0), 8: (0.5, 2.0, 4.0), 64: (2.0, 8.0)}
FEWER_LIPSCHITZ = {1: (0.5, 2.0), 8: (0.5, 4.0)}
FAMILIES = {
    "sgd": Family("SGD", {"shuffle": "with-replacement"}),
    "shuffled": Family("SGD, shuffled", {}),
    "momentum": Family("momentum 0.9", {"shuffle": "with-replacement", "momentum": 0.9}),
    "nesterov": Family("Nesterov 0.9", {"shuffle": "with-replacement", "momentum": 0.9, "nesterov": True}),
    "cosine": Family("warm-up + cosine", {"shuffle": "with-replacement", "schedule": "cosine", "warmup": WARMUP}),
    "logistic": Family("logistic", {"shuffle": "with-replacement", "loss": "logistic"}, LIPSCHITZ),
    "softmax": Family("softmax", {"shuffle": "with-replacement", "loss": "softmax"}, FEWER_LIPSCHITZ),
    "average": Family("average of the second half", {"shuffle": "with-replacement", "average_from": 0.5}, FEWER),
    "shuffled-momentum": Family("momentum 0.9, shuffled", {"momentum": 0.9}, FEWER),
    "shuffled-nesterov": Family("Nesterov 0.9, shuffled", {"momentum": 0.9, "nesterov": True}, FEWER),
    "shuffled-cosine": Family("warm-up + cosine, shuffled", {"schedule": "cosine", "warmup": WARMUP}, FEWER),
    "shuffled-average": Family("average of the second half, shuffled", {"average_from": 0.5}, FEWER),
    "shuffled-logistic": Family("logistic, shuffled", {"loss": "logistic"}, FEWER_LIPSCHITZ),
    "shuffled-softmax": Family("softmax, shuffled", {"loss": "softmax"}, FEWER_LIPSCHITZ),
}


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


def outcomes(data, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets of the loss; for the logistic one the commonest class against the rest, -1 and +1."""
    if loss != "logistic":
        return data.Y, data.Y_test
    commonest = np.argmax(data.Y.sum(0))
    two = [np.stack([1 - Y[:, commonest], Y[:, commonest]], 1) for Y in (data.Y, data.Y_test)]
    return targets(two[0], loss), targets(two[1], loss)


def compare(data, spectrum: Spectrum, training: Training, seeds: int) -> dict:
    """Forecast and training of one setting, at every point."""
    record = points(training.steps)
    started = time.perf_counter()
    line = training.forecast(spectrum, record)
    seconds = time.perf_counter() - started
    Y, Y_test = outcomes(data, training.loss)
    problem = training.problem(data.F, Y, data.F_test, Y_test)
    dots = simulate(problem, training.dynamics(), record=record, seeds=seeds, seed=1)
    case = {"n": spectrum.n, "p": len(spectrum.eigenvalues), "seeds": seeds, "step_size": training.step_size,
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
    if "test_error" in line:
        case["test_error"] = {"line": line.test_error.values.tolist(), "dots": dots.test_error.values.mean(0).tolist()}
    return case


def points(steps: int) -> xr.DataArray:
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
    return tuple(case.get(k) for k in ("set", "features", "family", "batch", "fraction", "factor"))


def read(results: Path) -> list[dict]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def cases(name: str, spec: str, data, family: str, known: set):
    """All cases of a family on one set of features that are not known yet."""
    wanted = FAMILIES[family]
    square = wanted.setting.get("loss", "square") == "square"
    Y, Y_test = outcomes(data, wanted.setting.get("loss", "square"))
    spectrum = Spectrum.of(data.F, Y, data.F_test, Y_test)
    optimiser = {k: v for k, v in wanted.setting.items() if k in ("momentum", "nesterov")}
    for batch, fractions in wanted.steps.items():
        label = {"set": name, "features": spec, "family": family, "batch": batch}
        if all(key(label | {"fraction": f}) in known for f in fractions):
            continue
        unit = stability_edge(spectrum, batch=batch, **optimiser).step_size if square else 1 / spectrum.leverage.mean()
        steps = number_of_steps(spectrum.n, batch, EPOCHS, wanted.setting.get("shuffle", "epochs"))
        setting = {"batch": batch, "steps": steps, **wanted.setting}
        for place in ("warmup", "average_from"):
            if place in setting:
                setting[place] = round(setting[place] * steps)
        for fraction in fractions:
            if key(label | {"fraction": fraction}) not in known:
                training = Training(step_size=fraction * unit, **setting)
                seeds = MANY_SEEDS if fraction == max(fractions) else SEEDS
                yield label | {"fraction": fraction, "unit": unit} | compare(data, spectrum, training, seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RIRON_DATA"), help="folder of NPZ files")
    parser.add_argument("--results", type=Path, default=Path("forecast-errors.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/forecast-errors.md"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--features", default=",".join(FEATURES))
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--only-page", action="store_true", help="write the page from the results that are there")
    options = parser.parse_args()
    use_persistent_cache()
    folder = Path(options.data) if options.data else None
    done = read(options.results)
    known = {key(case) for case in done}

    def keep(case: dict) -> None:
        done.append(case)
        with options.results.open("a") as file:
            file.write(json.dumps(case) + "\n")
        print(sentence(case), flush=True)

    chosen = (
        []
        if options.only_page
        else itertools.product(options.families.split(","), options.sets.split(","), options.features.split(","))
    )
    for family, name, spec in chosen:
        data = features(name, spec, folder)
        if data is None:
            print(f"{name}: no such file, left out")
            continue
        for case in cases(name, spec, data, family, known):
            keep(case)
        if family == "sgd":
            spectrum = Spectrum.of(data.F, data.Y, data.F_test, data.Y_test)
            for batch in FAMILIES["sgd"].steps:
                label = {"set": name, "features": spec, "batch": batch}
                if key(label | {"factor": BEYOND}) not in known:
                    edge = stability_edge(spectrum, batch=batch).step_size
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
    return f"{case['family']:17} {place} {case['fraction']:<4} train {parts[0]}; test {parts[1]}; {times}"


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
        "measured standard deviation between runs. Step sizes are multiples of the stability edge of the same",
        "optimiser (the peak, for a schedule); for the logistic and the softmax loss, which have none, of 1 / mean",
        "|x|^2. The logistic loss: the commonest class against the others. Other combinations were tried at fewer",
        "settings and on raw columns first: what was tried is listed.",
        "",
        "| training | curves | within | halves | stated | median error | 90 % | worst | error rate, end | band |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, family in FAMILIES.items():
        of = [case for case in curves if case["family"] == name]
        if of:
            lines.append(summary(family.title, of))
    lines += [
        "",
        "## Every case",
        "",
        "Errors in per cent: median and worst over the points of a curve, forecast minus runs; *w*: points within",
        "2.5 standard errors; *noise*: the runs' own standard error, train and held-out.",
        "",
    ]
    lines += [
        "| set | features | n, p | training | B | step | train: median, worst, w "
        "| held-out: median, worst, w | noise | stated | diverged |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in sorted(
        curves,
        key=lambda c: (
            list(FAMILIES).index(c["family"]),
            SETS.index(c["set"]),
            c["features"],
            c["batch"],
            c["fraction"],
        ),
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


def summary(title: str, family: list[dict]) -> str:
    both = [(case, variable) for case in family for variable in ("train_loss", "test_loss")]
    errors = np.abs(np.concatenate([relative(*each) for each in both]))
    inside = np.concatenate([within(*each) for each in both]).mean()
    halves = np.concatenate([within(*each, name="z_halves") for each in both]).mean()
    excess = [
        np.abs(np.array(c[v]["dots"]) - c[v]["line"]) - np.array(c[v]["tolerance"]) * np.array(c[v]["line"])
        <= 2.5 * np.hypot(c[v]["stderr"], c[v]["line_stderr"])
        for c, v in both
    ]
    wrong = [abs(c["test_error"]["line"][-1] - c["test_error"]["dots"][-1]) for c in family if "test_error" in c]
    ratios = [c[v]["sd_ratio"] for c, v in both if "sd_ratio" in c[v]]
    end = f"{max(wrong):.3f}" if wrong else "not measured"
    band = f"{np.median(np.concatenate(ratios)):.2f}" if ratios else "not measured"
    return (
        f"| {title} | {len(family)} | {inside:.1%} | {halves:.1%} | {np.concatenate(excess).mean():.1%} "
        f"| {np.median(errors):.2%} | {np.quantile(errors, 0.9):.2%} | {errors.max():.1%} | {end} | {band} |"
    )


def row(case: dict) -> str:
    cells = [
        case["set"],
        case["features"],
        f"{case['n']}, {case['p']}",
        FAMILIES[case["family"]].title,
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
