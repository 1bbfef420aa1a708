"""The proof: train from scratch many times and lay the runs on the forecast, which never saw them."""

import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..checks import as_positive
from ..dynamics import sgd
from ..errors import InputError
from ..lab.running import simulate
from ..lab.verdict import Equal, judge, judge_mutations
from ..problems import from_arrays
from ..theory.least_squares_forecast import least_squares_sgd
from ..theory.spectrum import Spectrum
from .advice import steps_per_epoch
from .curves import as_record
from .options import LEAST_SEEDS

POINTS = 8
LOOSEST = 0.1  # a closure that states a larger error is judged at this one
CLAIMS = (Equal("train_loss", rates=()), Equal("test_loss", rates=()))
WRONG = {"step_size": 0.8}  # lines on which the verdict should fail
DIVERGED = 10.0  # times the loss at the start
TIMED_STEPS = 5000  # of a longer run, when one run is timed


class Verification(NamedTuple):
    """Verdict, the runs (dims seed, step), and the line they were laid on (dim step)."""

    report: dict[str, Any]
    dots: xr.Dataset
    line: xr.Dataset


def verify(
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    *,
    batch: int,
    step_size: float,
    epochs: float,
    shuffle: str = "epochs",
    ridge: float = 0.0,
    seeds: int = 32,
    seed: int = 0,
    covariance: str = "auto",
    rows: int | None = None,
    diverges: bool = False,
    spectrum: Spectrum | None = None,
    line: xr.Dataset | None = None,
    progress=None,
) -> Verification:
    """Train `seeds` times from scratch and judge whether the mean losses are the forecast ones, at 8 points of the run.

    Args:
      X, y, X_test, y_test: training and held-out rows, as the forecast was given them.
      batch, step_size, epochs, shuffle, ridge: the setting, as in `riron.forecast.sgd`.
      seeds: number of runs, at least 16.
      seed: root of their randomness.
      covariance, rows: closure of the forecast.
      diverges: the step size is above the edge, so the claim is that runs diverge, and the loss is not compared.
      spectrum: of these rows, and line: the forecast at this setting (over `line_record`), if they are at hand.
      progress: True, or a function (done, total, label).

    Returns: Verification. The report is that of `riron.lab.verdict.judge`, with `mutations` (the verdict on lines that
      are wrong on purpose), `complete` (False if it was interrupted: then only the points reached are judged) and
      `seconds`.
    Raises: InputError for fewer than 16 runs, or a setting out of range.
    """
    if seeds < LEAST_SEEDS:
        raise InputError(f"verify={seeds} runs cannot decide anything", do=f"use at least {LEAST_SEEDS}")
    as_positive(step_size, "step_size")
    spectrum = Spectrum.of(X, y, X_test, y_test) if spectrum is None else spectrum
    steps = number_of_steps(spectrum.n, batch, epochs, shuffle)
    record = record_points(steps)
    problem = from_arrays(X, y, X_test=X_test, y_test=y_test, ridge=ridge)
    dynamics = sgd(step_size=step_size, batch=batch, sampling=shuffle)  # type: ignore[arg-type]
    started = time.monotonic()
    if diverges:
        record = xr.concat([xr.zeros_like(record[:1]).assign_coords(step=[0]), record], "step")
    dots = simulate(problem, dynamics, record=record, seeds=seeds, seed=seed, progress=progress)
    seconds = time.monotonic() - started
    complete = bool(dots.attrs["complete"])
    if not complete:
        reached = np.isfinite(dots.gradient_evaluations).all("seed")
        dots = dots.isel(step=reached.values)
    if diverges:
        report, judged = _judge_divergence(dots, steps, shuffle), xr.Dataset(coords={"step": dots.step.values})
    else:
        prediction = partial(
            least_squares_sgd,
            spectrum,
            batch=batch,
            step_size=step_size,
            record=line_record(steps),
            sampling=shuffle,
            ridge=ridge,
            covariance=covariance,
            rows=rows,
        )
        report, judged = _judge(dots, prediction, line, spectrum.n)
    report |= {
        "complete": complete,
        "seconds": round(seconds, 3),
        "batch": batch,
        "step_size": step_size,
        "steps": steps,
    }
    return Verification(report, dots, judged)


def _judge(dots: xr.Dataset, prediction: partial, line: xr.Dataset | None, n: int) -> tuple[dict, xr.Dataset]:
    """Verdict on the line, and on a line with a wrong step size."""
    line = (prediction() if line is None else line).sel(step=dots.step.values)
    stated = {name: line[name].clip(max=LOOSEST) for name in map(str, line) if name.endswith("_tolerance")}
    line = line.assign(stated)
    report = judge(CLAIMS, {n: dots}, {n: line})
    wrong = partial(_changed, step_size=prediction.keywords["step_size"], prediction=prediction, line=line)
    report["mutations"] = judge_mutations(CLAIMS, {n: dots}, {n: wrong}, WRONG)
    return report, line


def _changed(step_size: float, prediction: partial, line: xr.Dataset) -> xr.Dataset:
    """The losses at another step size, with the errors that the line states."""
    other = prediction(step_size=step_size, errors=False).sel(step=line.step.values)
    return line.assign({name: other[name] for name in ("train_loss", "test_loss")})


def _judge_divergence(dots: xr.Dataset, steps: int, shuffle: str) -> dict:
    """Above the edge: how many runs leave their start far behind. The mean diverges even where few runs carry it."""
    away = ~(dots.train_loss <= DIVERGED * dots.train_loss.isel(step=0)).all("step")  # true for what is not finite
    count, seeds = int(away.sum()), int(dots.sizes["seed"])
    few = f"{count} of {seeds} runs pass {DIVERGED:g} times their first loss within {steps} steps"
    cure = ""
    if count < seeds / 2:
        cure = "; close to the edge rare runs carry the mean, and a longer run or a larger step shows it"
        if shuffle == "epochs":
            cure = "; the edge is that of batches with replacement, and shuffled epochs meet a heavy row once an epoch"
    return {
        "verdict": "inconclusive" if cure else "holds",
        "reason": few + cure,
        "claim": "diverges",
        "seeds": seeds,
        "diverged": count,
        "diverged_seeds": [int(s) for s in dots.seed.values[away.values]],
        "comparisons": [],
        "mutations": {},
    }


def number_of_steps(n: int, batch: int, epochs: float, shuffle: str) -> int:
    """Steps in so many passes over the rows (at least one)."""
    return max(1, round(epochs * steps_per_epoch(n, batch, shuffle)))


def record_points(steps: int, points: int = POINTS) -> xr.DataArray:
    """Steps at which runs are compared: logarithmic inside the run, its end included."""
    places = np.unique(np.round(np.geomspace(max(1, steps / 64), steps, points)).astype(int))
    return xr.DataArray(places, {"step": places}, "step")


def line_record(steps: int) -> xr.DataArray:
    """Where the line is drawn: dense, the points of comparison among them; curve and verdict share one compilation."""
    places = np.union1d(as_record(None, steps).values, record_points(steps).values)
    return xr.DataArray(places, {"step": places}, "step")


def seconds_of_one_run(X, y, X_test, y_test, *, batch, step_size, steps, shuffle, ridge) -> float:
    """Seconds that one compiled training run of so many steps takes here, compilation not counted."""
    problem = from_arrays(X, y, X_test=X_test, y_test=y_test, ridge=ridge)
    dynamics = sgd(step_size=step_size, batch=batch, sampling=shuffle)
    timed = min(steps, TIMED_STEPS)
    simulate(problem, dynamics, record=[timed], seeds=1)  # compiles
    started = time.perf_counter()
    simulate(problem, dynamics, record=[timed], seeds=1)
    return (time.perf_counter() - started) * steps / timed
