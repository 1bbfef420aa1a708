"""What large tables and many settings cost: time and memory by part, and what the cheaper closures leave out.

    python benchmarks/forecast_scale.py [--n 60000] [--p 5000] [--settings 1000] [--data FOLDER] [--page [FILE]]

Large: synthetic rows with a power-law spectrum and heavy-tailed leverages, ten classes, float32; each part is timed
once, compilation included, with the peak memory of the process so far. Many: settings side by side (`sgd_many`), one
after the other, and one compiled training run of each. Closures: differences from full covariance and all rows, median
and largest over a curve, and the error that the forecast measures of itself, on the real sets that FOLDER has.
"""

import argparse
import os
import resource
import time
from functools import partial
from pathlib import Path

import numpy as np

from riron.dynamics import sgd as train_by_sgd
from riron.forecast import sgd_many
from riron.forecast.advising.advice import advise
from riron.forecast.choices import closure
from riron.forecast.closure_error import with_closure_error
from riron.forecast.curves import as_record
from riron.forecast.edge_table import edge_table
from riron.forecast.verification import record_points
from riron.lab.running import simulate
from riron.problems import from_arrays
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

CLASSES, HELD_OUT = 10, 2000
EDGES = (1, 16, 64)
SAMPLINGS = ("with-replacement", "epochs")
CLOSURES = {"diagonal": {"covariance": "diagonal"}, "block:10": {"covariance": "block:10"},
            "block:30": {"covariance": "block:30"}, "300 rows": {"rows": 300},
            "block:30, 300 rows": {"covariance": "block:30", "rows": 300}}  # fmt: skip
TITLES = {"large": "A large table", "many": "Many settings", "closures": "What cheaper closures leave out"}
SETS = ("digits", "spam", "letter", "dna")


class Parts:
    """Wall time, processor time and peak memory of each part."""

    def __init__(self):
        self.lines = ["| part | seconds | processor seconds | peak memory, GB |", "|---|---|---|---|"]
        self.processor: dict[str, float] = {}

    def run(self, name: str, function):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.processor[name] = cpu
        self.lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} | {peak:.2f} |")
        print(self.lines[-1], flush=True)
        return result


def power_law_table(n: int, p: int, seed: int = 0):
    """Rows with eigenvalues ~ 1/j and lengths spread as a log-normal; classes are the largest of ten noisy scores."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((n, p), dtype=np.float32)
    X *= np.arange(1, p + 1, dtype=np.float32) ** -0.5
    X *= random.lognormal(0, 0.5, (n, 1)).astype(np.float32)
    scores = X @ random.standard_normal((p, CLASSES), dtype=np.float32)
    label = np.argmax(scores + scores.std() * random.standard_normal(scores.shape), axis=1)
    return X, np.eye(CLASSES)[label]


def large(n: int, p: int) -> list[str]:
    """The parts of a forecast of 2 epochs, and one training run for each sampling, which they are compared with."""
    parts = Parts()
    X, Y = parts.run("make the rows", lambda: power_law_table(n + HELD_OUT, p))
    spectrum = parts.run("spectrum", lambda: Spectrum.of(X[:n], Y[:n], X[n:], Y[n:], overwrite=True))
    batches = ", ".join(map(str, EDGES))
    table, _ = parts.run(f"hybrid edges, batches {batches}", lambda: edge_table(spectrum, list(EDGES)))
    edges = {row["batch"]: row["exact"] for row in table}
    step_size, steps = 0.2 * edges[64], 2 * (n // 64)
    curves = {}
    for sampling in SAMPLINGS:
        covariance, rows = closure(spectrum, sampling, [])
        name = f"curve, {sampling}: {covariance}, {rows or n} rows"
        setting = {"record": record_points(steps), "sampling": sampling, "covariance": covariance, "rows": rows}
        forecast = partial(least_squares_sgd, spectrum, batch=64, step_size=step_size)
        curve = parts.run(name, partial(forecast, **setting))
        again = partial(forecast, record=setting["record"], sampling=sampling, errors=False)
        name_of_error = f"its error, {sampling}: the same with half of each"
        curve = parts.run(name_of_error, partial(with_closure_error, curve, again, covariance, rows, n))
        curves[sampling] = name, curve
    parts.run("advice", lambda: advise(spectrum, budget_epochs=2, edges=edges))
    compared = ["| sampling | curve | with spectrum and edge | held-out loss | stated error | run - forecast |",
                "|---|---|---|---|---|---|"]  # fmt: skip
    shared = parts.processor["spectrum"] + parts.processor[f"hybrid edges, batches {batches}"] / len(EDGES)
    for sampling, (name, curve) in curves.items():
        dots = parts.run(
            f"one training run, {sampling}",
            lambda sampling=sampling: simulate(
                from_arrays(spectrum.rows, Y[:n], X_test=spectrum.test_rows, y_test=Y[n:]),
                train_by_sgd(step_size=step_size, batch=64, sampling=sampling),
                record=record_points(steps), seeds=1,
            ),
        )  # fmt: skip
        seconds, run = parts.processor[name], parts.processor[f"one training run, {sampling}"]
        off = np.abs(dots.test_loss.values[0] - curve.test_loss.values)
        ends = f"{float(curve.test_loss[0]):.4f} to {float(curve.test_loss[-1]):.4f}"
        stated = float(curve.test_loss_tolerance.max()) if "test_loss_tolerance" in curve else 0.0
        compared.append(
            f"| {sampling} | {seconds / run:.1f} | {(shared + seconds) / run:.1f} | {ends} | {stated:.1%} | "
            f"{np.max(off / curve.test_loss.values):.2%}; {np.max(off / curve.test_loss_sd.values):.1f} sd |"
        )
        print(compared[-1], flush=True)
    return [*parts.lines, "", *compared]


def many(count: int, n: int = 1000, p: int = 60) -> list[str]:
    """`sgd_many` for `count` settings beside a loop and beside training, in processor seconds."""
    X, Y = power_law_table(n + 300, p)
    data = (X[:n], Y[:n], X[n:], Y[n:])
    spectrum = Spectrum.of(*data)
    edge = stability_edge(spectrum, batch=16).step_size
    step_sizes = (edge * np.geomspace(0.02, 0.9, count)).tolist()
    settings = [{"batch": 16, "step_size": step_size} for step_size in step_sizes]
    steps, few = 10 * (n // 16), settings[:: max(1, count // 8)][:8]
    lines = ["| sampling | side by side | one after the other | training, one run each |", "|---|---|---|---|"]
    for shuffle in SAMPLINGS:
        single = lambda setting, shuffle=shuffle: least_squares_sgd(
            spectrum, **setting, record=as_record(None, steps), sampling=shuffle
        )
        single(few[0])  # compiles
        loop = seconds(lambda single=single: [single(setting) for setting in few]) / len(few)
        chunk = seconds(lambda shuffle=shuffle: sgd_many(spectrum, settings=settings, steps=steps, shuffle=shuffle))
        problem = from_arrays(data[0], data[1], X_test=data[2], y_test=data[3])
        dynamics = train_by_sgd(step_size=step_sizes[0], batch=16, sampling=shuffle)
        sweep = {"dynamics.step_size": step_sizes}
        trained = seconds(
            lambda problem=problem, dynamics=dynamics, sweep=sweep: simulate(
                problem, dynamics, record=as_record(None, steps), seeds=1, seed=1, sweep=sweep
            )
        )
        lines.append(f"| {shuffle} | 1 ({chunk:.0f} s) | {loop * count / chunk:.1f} | {trained / chunk:.2f} |")
        print(lines[-1], flush=True)
    return lines


def seconds(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def closures(folder: Path | None, n: int) -> list[str]:
    """Differences of the cheaper closures from full covariance and all rows, and what each says of itself."""
    from forecast_errors import load

    from riron.forecast.features import make_features
    from riron.forecast.tables.table import Table

    lines = ["| set | n, p | sampling | of the edge | " + " | ".join(CLOSURES) + " |"]
    lines.append("|" + "---|" * (4 + len(CLOSURES)))
    for name in SETS:
        loaded = load(name, folder)
        if loaded is None:
            continue
        X, y = loaded
        order = np.random.default_rng(0).permutation(len(X))
        size = min(n, len(X) * 3 // 4)
        train, test = order[:size], order[size : size + 500]
        labels, codes = np.unique(y, return_inverse=True)
        table = Table(
            X=X[train], X_test=X[test], y=codes[train], y_test=codes[test], classes=list(labels),
            task="classification", columns=[f"x{j}" for j in range(X.shape[1])], target="y", source=name,
            train_rows=train, test_rows=test, total_rows=len(X),
        )  # fmt: skip
        data = make_features(table, "raw" if X.shape[1] > 100 else "relu:100")
        spectrum = Spectrum.of(data.F, data.Y, data.F_test, data.Y_test)
        edge = stability_edge(spectrum, batch=8).step_size
        for shuffle in SAMPLINGS:
            for fraction in (0.1, 0.5):
                setting = {"batch": 8, "step_size": fraction * edge, "record": as_record(None, 3 * (size // 8)),
                           "sampling": shuffle, "errors": False}  # fmt: skip
                whole = least_squares_sgd(spectrum, **setting, covariance="full")
                cells = []
                for how in CLOSURES.values():
                    cheap = least_squares_sgd(spectrum, **setting, **how)
                    off = np.abs(cheap.test_loss.values / whole.test_loss.values - 1)
                    closure_used = how.get("covariance", "full"), how.get("rows")
                    said = with_closure_error(
                        cheap, partial(least_squares_sgd, spectrum, **setting), *closure_used, size
                    )
                    own = f"; {float(said.test_loss_tolerance.max()):.2%}" if "test_loss_tolerance" in said else ""
                    cells.append(f"{np.median(off):.2%}; {off.max():.2%}{own}")
                place = f"{name} | {size}, {len(spectrum.eigenvalues)} | {shuffle} | {fraction}"
                lines.append(f"| {place} | " + " | ".join(cells) + " |")
                print(lines[-1], flush=True)
    return lines


def write(page: Path, sections: dict[str, list[str]]) -> None:
    """The page with these sections made anew; those of parts that were not run stay as they are."""
    old = page.read_text().split("\n## ")[1:] if page.exists() else []
    kept = {title: body.strip() for title, _, body in (section.partition("\n") for section in old)}
    kept |= {title: "\n".join(lines) for title, lines in sections.items()}
    text = "# Large tables and many settings\n\nMade by `python benchmarks/forecast_scale.py --page`.\n"
    page.write_text(text + "".join(f"\n## {title}\n\n{kept[title]}\n" for title in TITLES.values() if title in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--p", type=int, default=5_000)
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--closure-rows", type=int, default=2000)
    parser.add_argument("--data", type=Path, default=os.environ.get("RIRON_DATA"), help="folder of NPZ files")
    parser.add_argument("--only", choices=tuple(TITLES), help="one part of the three; the page keeps the others")
    parser.add_argument("--page", type=Path, nargs="?", const=Path("docs/forecast-scale.md"))
    options = parser.parse_args()
    folder = Path(options.data) if options.data else None
    parts = {
        "large": lambda: [
            f"{options.n} float32 rows of {options.p} features with a power-law spectrum, {CLASSES} classes; batch 64,",
            f"2 epochs, 0.2 of the edge; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f} at start (wall",
            "time counts on a free machine only). Each part once, compilation included; peak memory of",
            "the process so far. In the second table: processor time relative to one compiled training run; the",
            "largest error that the forecast states for its closure; the largest difference of that run from the",
            "forecast, relative and in standard deviations between runs.", "", *large(options.n, options.p)],
        "many": lambda: [
            f"Processor time of {options.settings} settings relative to `sgd_many` (n = 1000, p = 60, batch 16, 10",
            "epochs, 10 classes; its own compilation included); the loop is measured on 8 settings. A forecast is of",
            "the mean, band and error of all runs, training is of one run a setting.", "", *many(options.settings)],
        "closures": lambda: [
            "Held-out loss against full covariance and all rows, three epochs at batch 8: median and largest",
            "difference over the curve, and the largest that the forecast measures of itself (where half of it is at",
            "hand: twice what half of the directions and rows would change).", "",
            *closures(folder, options.closure_rows)],
    }  # fmt: skip
    for part, lines in parts.items():
        if options.only in (None, part):
            section = lines()
            if options.page:
                write(options.page, {TITLES[part]: section})


if __name__ == "__main__":
    main()
