"""Does advice made before training pay? The whole grid trained, against what the forecast advises; and schedules.

    python benchmarks/forecast_advice.py --data FOLDER [--results FILE] [--page docs/forecast-advice.md]

Sets: digits (scikit-learn) and, where FOLDER has them, spam, letter, satellite, dna, ijcnn1, mnist5k (`X`, `y` in NPZ),
raw columns, up to 2 000 training and 1 000 held-out rows, shuffled epochs. Every cell of 7 step sizes x batch 1, 4, 16,
64 is trained to 20 epochs from several seeds and seen at every stopping time; the advice for 4 and for 20 epochs
chooses on one half of the held-out rows and is judged by the training on the other, for several halves. Then constant,
linear and cosine schedules at many peaks are trained beside the schedule that the forecast found best.
Results are kept as they come (JSON lines): a second start goes on.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from forecast_errors import SETS, features

from riron.dynamics import sgd
from riron.forecast.advising.choice import choose
from riron.forecast.advising.grid import square_grid, stopping_times
from riron.forecast.advising.schedules import best_schedule
from riron.lab.compiling import use_persistent_cache
from riron.lab.running import simulate
from riron.problems import from_arrays
from riron.problems.arrays import Table
from riron.theory.schedule_tables import SCHEDULES, schedule_table
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)  # of the edge
BATCHES = (1, 4, 16, 64)
BUDGETS = (4, 20)  # epochs
SEEDS, SCHEDULE_SEEDS, FINAL_SEEDS = 32, 16, 64
SPLITS = 4  # ways of halving the held-out rows
SCHEDULE_SETTINGS = ((16, 20), (4, 2))  # batch, epochs
PEAKS = (0.02, 0.035, 0.06, 0.1, 0.17, 0.3, 0.5, 0.7, 0.9)  # of the edge


class Halves(Table):
    """A table that measures the held-out loss on several halves of its held-out rows."""

    halves: jax.Array  # (2 splits, rows), each row averages

    def __init__(self, table: Table):
        assert table.test is not None
        super().__init__(table.data, table.test, table.model, table.loss, table.ridge, table.mistakes)
        count = len(table.test.X)
        weights = np.zeros((2 * SPLITS, count), np.float32)
        for split in range(SPLITS):  # the halves that `advise(seed=split)` takes
            for half, rows in enumerate(np.array_split(np.random.default_rng(split).permutation(count), 2)):
                weights[2 * split + half, rows] = 1 / len(rows)
        self.halves = jnp.asarray(weights)

    def measure_fresh(self, params):
        assert self.test is not None
        rows = jax.vmap(self.loss)(self.model(params, self.test.X), self.test.y)
        return {"half_losses": self.halves @ rows}


def stops(n: int, batch: int) -> np.ndarray:
    """All stopping times that the advice for any of the budgets may name."""
    return np.unique(np.concatenate([stopping_times(n, batch, budget, "epochs") for budget in BUDGETS]))


def train_grid(problem: Halves, spectrum: Spectrum, batch: int) -> dict:
    """Every step size of one batch size, at every stop."""
    edge = stability_edge(spectrum, batch=batch).step_size
    steps = stops(spectrum.n, batch)
    dynamics = sgd(step_size=edge, batch=batch, sampling="epochs")
    sweep = {"dynamics.step_size": [fraction * edge for fraction in FRACTIONS]}
    runs = simulate(problem, dynamics, record=steps, seeds=SEEDS, seed=1, sweep=sweep)
    losses = runs.half_losses.values.astype(float)  # (fractions, seeds, stops, halves)
    case = {"edge": edge, "steps": steps.tolist(), "mean": rounded(losses.mean(1)), "single": rounded(losses[:, 0]),
            "stderr": rounded(losses.std(1, ddof=1) / np.sqrt(SEEDS))}  # fmt: skip
    return case


def train_schedules(problem: Halves, tables: np.ndarray, batch: int, seeds: int, seed: int) -> np.ndarray:
    """(tables, seeds, halves) losses at the end; seeds see the same batches under every table."""
    steps = tables.shape[1]
    dynamics = sgd(step_size=tables[0], batch=batch, sampling="epochs")
    sweep = {"dynamics.step_size.values": tables}
    runs = simulate(problem, dynamics, record=[steps], seeds=seeds, seed=seed, sweep=sweep)
    last = runs.half_losses.isel(step=-1)
    return last.transpose("point", "seed", ...).values.astype(float)


def rounded(values: np.ndarray) -> list:
    return np.vectorize(lambda x: float(f"{x:.7g}"))(values).tolist()


def train_named(problem: Halves, spectrum: Spectrum, batch: int, epochs: int) -> dict:
    """Constant, linear and cosine at every peak: (schedules, peaks, seeds, halves)."""
    edge = stability_edge(spectrum, batch=batch).step_size
    steps = epochs * (spectrum.n // batch)
    tables = np.stack([schedule_table(kind, peak * edge, steps) for kind in SCHEDULES for peak in PEAKS])
    losses = train_schedules(problem, tables, batch, SCHEDULE_SEEDS, seed=3)
    return {"edge": edge, "losses": rounded(losses.reshape(len(SCHEDULES), len(PEAKS), *losses.shape[1:]))}


def advise_cells(problem: Halves, spectrum: Spectrum, edges: dict[int, float], budget: int) -> dict:
    """What the forecast advises from each half of the held-out rows (batch, fraction, steps), and what it costs."""
    forecast = partial(square_grid, spectrum, budget=budget, edges=edges, fractions=FRACTIONS, shuffle="epochs")
    grid, forecast_seconds = cost(forecast)
    run_seconds = [cost(partial(train_once, problem, b, edge, budget))[1] for b, edge in edges.items()]
    assert spectrum.test_rows is not None
    cells = []
    for split in range(SPLITS):
        for rows in np.array_split(np.random.default_rng(split).permutation(len(spectrum.test_rows)), 2):
            s, t = choose(grid, rows).best
            cells.append([int(grid.batches[s]), float(grid.fractions[s]), int(grid.steps[s, t])])
    return {"cells": cells, "forecast_seconds": forecast_seconds, "run_seconds": run_seconds}


def train_once(problem: Halves, batch: int, edge: float, budget: int):
    """One run of every cell of one batch size."""
    sweep = {"dynamics.step_size": [fraction * edge for fraction in FRACTIONS]}
    dynamics = sgd(step_size=edge, batch=batch, sampling="epochs")
    record = np.unique(stopping_times(len(problem.data.X), batch, budget, "epochs"))
    return simulate(problem, dynamics, record=record, seeds=1, seed=1, sweep=sweep)


def cost(function):
    """What a function returns, and the seconds of a processor that its second call takes (the first compiles it)."""
    function()
    started = time.process_time()
    made = function()
    return made, time.process_time() - started


def train_best(problem: Halves, spectrum: Spectrum, batch: int, epochs: int, split: int, named: dict) -> dict:
    """The optimised schedule beside the named ones at the peaks that trained best on the half that chooses."""
    started = time.perf_counter()
    found = best_schedule(spectrum, batch=batch, budget_epochs=epochs, seed=split, edge=named["edge"])
    seconds = time.perf_counter() - started
    chosen = np.array(named["losses"])[..., 2 * split].mean(-1)  # (schedules, peaks)
    peaks = np.array(PEAKS)[np.nanargmin(chosen, axis=1)]
    steps = len(found.step_sizes)
    tables = [schedule_table(kind, peak * named["edge"], steps) for kind, peak in zip(SCHEDULES, peaks, strict=True)]
    losses = train_schedules(problem, np.stack([found.step_sizes, *tables]), batch, FINAL_SEEDS, seed=5)
    losses = losses[..., 2 * split : 2 * split + 2]  # (4, seeds, halves)
    return {
        "kind": found.kind, "forecasts": found.forecasts, "grid_error": found.grid_error, "seconds": seconds,
        "peaks": peaks.tolist(), "step_sizes": rounded(found.step_sizes[:: max(1, steps // 64)]),
        "mean": rounded(losses.mean(1)), "stderr": rounded(losses.std(1, ddof=1) / np.sqrt(FINAL_SEEDS)),
        "ahead": rounded((losses[1:] - losses[:1]).mean(1)),
        "ahead_stderr": rounded((losses[1:] - losses[:1]).std(1, ddof=1) / np.sqrt(FINAL_SEEDS)),
    }  # fmt: skip


class Results:
    """Cases as JSON lines, each under its key."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.cases = {self.key(case): case for case in map(json.loads, lines)}

    @staticmethod
    def key(case: dict) -> tuple:
        return tuple(case.get(name) for name in ("set", "part", "batch", "epochs", "split"))

    def get(self, label: dict, make) -> dict:
        """The case of this label, made and written if it is not there."""
        if self.key(label) not in self.cases:
            started = time.perf_counter()
            case = label | make()
            case["wall"] = round(time.perf_counter() - started, 2)
            self.cases[self.key(label)] = case
            with self.path.open("a") as file:
                file.write(json.dumps(case) + "\n")
            print(label, case["wall"], "s", flush=True)
        return self.cases[self.key(label)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RIRON_DATA"), help="folder of NPZ files")
    parser.add_argument("--results", type=Path, default=Path("forecast-advice.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/forecast-advice.md"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--only-page", action="store_true", help="write the page from the results there are")
    options = parser.parse_args()
    use_persistent_cache()
    folder = Path(options.data) if options.data else None
    results = Results(options.results)
    sets = {} if options.only_page else load_sets(options.sets.split(","), folder)
    for name, (problem, spectrum) in sets.items():
        measure_advice(name, problem, spectrum, results)
    for batch, epochs in SCHEDULE_SETTINGS:
        for name, (problem, spectrum) in sets.items():
            label = {"set": name, "batch": batch, "epochs": epochs}
            named = results.get(label | {"part": "named"}, partial(train_named, problem, spectrum, batch, epochs))
            make = partial(train_best, problem, spectrum, batch, epochs, 0, named)
            results.get(label | {"part": "best", "split": 0}, make)
    options.page.write_text(page(results))


def load_sets(names: list[str], folder: Path | None) -> dict[str, tuple[Halves, Spectrum]]:
    sets = {}
    for name in names:
        data = features(name, "raw", folder)
        if data is None:
            print(f"{name}: no such file, left out")
            continue
        table = from_arrays(data.F, data.Y, X_test=data.F_test, y_test=data.Y_test)
        sets[name] = Halves(table), Spectrum.of(data.F, data.Y, data.F_test, data.Y_test)
    return sets


def measure_advice(name: str, problem: Halves, spectrum: Spectrum, results: Results) -> None:
    """The grid trained and the grid forecast."""
    edges = {}
    for batch in BATCHES:
        label = {"set": name, "part": "grid", "batch": batch}
        edges[batch] = results.get(label, partial(train_grid, problem, spectrum, batch))["edge"]
    for budget in BUDGETS:
        label = {"set": name, "part": "advice", "epochs": budget}
        results.get(label, partial(advise_cells, problem, spectrum, edges, budget))


def regrets(results: Results, name: str, budget: int) -> dict[str, list[float]]:
    """Held-out loss of the chosen cell over that of the best cell, on the halves that did not choose, minus 1."""
    own = {case["batch"]: case for case in results.cases.values() if (case["set"], case["part"]) == (name, "grid")}
    advice = results.cases[Results.key({"set": name, "part": "advice", "epochs": budget})]
    n = own[1]["steps"][-1] // max(BUDGETS)  # a step a row at batch 1
    allowed = {b: np.isin(case["steps"], stopping_times(n, b, budget, "epochs")) for b, case in own.items()}
    found = {"advice": [], "single": []}
    for half in range(2 * SPLITS):
        judge = half ^ 1
        judged = {b: np.array(case["mean"])[..., judge][:, allowed[b]] for b, case in own.items()}
        least = min(np.nanmin(losses) for losses in judged.values())
        batch, fraction, steps = advice["cells"][half]
        at = list(np.array(own[batch]["steps"])[allowed[batch]]).index(steps)
        found["advice"].append(judged[batch][FRACTIONS.index(fraction), at] / least - 1)
        single = {b: np.array(case["single"])[..., half][:, allowed[b]] for b, case in own.items()}
        picked = min(single, key=lambda b: np.nanmin(single[b]))
        place = np.unravel_index(np.nanargmin(single[picked]), single[picked].shape)
        found["single"].append(judged[picked][place] / least - 1)
    return found


def page(results: Results) -> str:
    """The Markdown page."""
    lines = [
        "# Advice and schedules, trained",
        "",
        "Made by `python benchmarks/forecast_advice.py`. Raw columns, squared loss, shuffled epochs, up to 2 000",
        "training rows; one half of the (up to 1 000) held-out rows chooses, the other judges.",
        "",
        "## Regret",
        "",
        f"Every cell of {len(FRACTIONS)} step sizes x batch {', '.join(map(str, BATCHES))} x stopping time, trained",
        f"from {SEEDS} seeds. Regret: the trained held-out loss of the cell that the forecast advises over that of the",
        "best cell, minus 1, on the rows that did not choose;",
        f"{SPLITS} ways of halving the rows, both ways round. *One run each*: the regret of choosing",
        "by a single run of every cell. *Noise*: standard error of the mean trained loss, median over cells near the",
        "best. Times: processor seconds of the forecast of the grid and of one run of every cell, both compiled, the",
        "runs of one batch size together; *ratio*: that of the runs over that of the forecast (below 1 it loses).",
        "",
        "| set | epochs | regret: median, worst | one run each: median, worst | noise | forecast, runs (s) | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    pooled = {"advice": [], "single": []}
    for name, budget in ((name, budget) for budget in BUDGETS for name in SETS):
        advice = results.cases.get(Results.key({"set": name, "part": "advice", "epochs": budget}))
        if advice is None:
            continue
        found = regrets(results, name, budget)
        for each, values in found.items():
            pooled[each] += values
        grid = [case for case in results.cases.values() if (case["set"], case["part"]) == (name, "grid")]
        ours, runs = advice["forecast_seconds"], sum(advice["run_seconds"])
        cells = [f"{np.median(v):.2%}, {max(v):.2%}" for v in found.values()]
        lines.append(
            f"| {name} | {budget} | {cells[0]} | {cells[1]} | {noise(grid):.2%} | {ours:.2f}, {runs:.2f} "
            f"| {runs / ours:.1f} |"
        )
    if pooled["advice"]:
        cells = [f"{np.median(v):.2%}, {max(v):.2%}" for v in pooled.values()]
        lines.append(f"| all | | {cells[0]} | {cells[1]} | | | |")
    lines += schedule_lines(results)
    return "\n".join(lines) + "\n"


def noise(grid: list[dict]) -> float:
    """Relative standard error of the trained losses, median over the cells within 5 % of the best."""
    means = np.concatenate([np.array(case["mean"]).ravel() for case in grid])
    errors = np.concatenate([np.array(case["stderr"]).ravel() for case in grid])
    near = means < 1.05 * np.nanmin(means)
    return float(np.median(errors[near] / means[near]))


def schedule_lines(results: Results) -> list[str]:
    lines = [
        "",
        "## Schedules",
        "",
        f"The optimised schedule (8 knots) and, at the peak out of {len(PEAKS)} that trained best on the rows that",
        f"choose, constant, linear and cosine; held-out loss on the rows that judge, {FINAL_SEEDS} seeds, the same",
        "batches under every schedule, all step sizes at most 0.9 of the edge.",
        "*Ahead*: by how much the optimised one is below the best of the three, with the standard error of this",
        "paired difference; *where chosen*: the same on the rows that chose. *Forecast*: that of the optimised",
        "schedule minus training. In long runs every decay ends near the minimum: where the optimised schedule is",
        "hardly ahead even on the rows that chose it, which one is ahead on the others is the luck of the rows, and",
        "the rival is the best of three in hindsight.",
        "",
        "| set | batch, epochs | optimised | constant | linear | cosine | ahead | where chosen | forecast | wins |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    summary = []
    for batch, epochs in SCHEDULE_SETTINGS:
        wins = []
        for name in SETS:
            label = {"set": name, "part": "best", "batch": batch, "epochs": epochs, "split": 0}
            case = results.cases.get(Results.key(label))
            if case is None:
                continue
            judged = np.array(case["mean"])[:, 1]
            rival = int(np.argmin(judged[1:]))
            ahead, error = case["ahead"][rival][1] / judged[0], case["ahead_stderr"][rival][1] / judged[0]
            chose = np.array(case["mean"])[:, 0]
            before = chose[1:].min() / chose[0] - 1
            promised = case["forecasts"][case["kind"]]["test_loss"] / judged[0] - 1
            losses = " | ".join(f"{loss:.5f}" for loss in judged)
            wins.append(ahead > 0)
            lines.append(
                f"| {name} | {batch}, {epochs} | {losses} | {ahead:+.3%} ({error:.3%}) | {before:+.3%} "
                f"| {promised:+.2%} | {'yes' if ahead > 0 else 'no'} |"
            )
        if wins:
            summary.append(f"Batch {batch}, {epochs} epochs: ahead of all three on {sum(wins)} of {len(wins)} sets.")
    return [*lines, "", *summary]


if __name__ == "__main__":
    main()
