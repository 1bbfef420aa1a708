"""The proof: train from scratch many times and lay the runs on the forecast, which never saw them."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xarray as xr

from ..checks import as_positive
from ..errors import InputError
from ..lab.running import simulate
from ..lab.verdict import Equal, judge, judge_mutations
from ..models.base import Model
from ..theory.spectrum import Spectrum, check_setting
from .curves import as_record
from .options import LEAST_SEEDS
from .training import Training, number_of_steps, targets

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

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
    seeds: int = 32,
    seed: int = 0,
    epochs: float,
    diverges: bool = False,
    progress=None,
    **setting: Any,
) -> Verification:
    """Train `seeds` times from scratch and judge whether the mean losses are the forecast ones, at 8 points of the run.

    Args:
      X, y, X_test, y_test: training and held-out rows, as the forecast was given them (y one-hot for classes).
      seeds: number of runs, at least 16.
      seed: root of their randomness.
      epochs: length of a run, passes over the rows.
      diverges: the step size is above the edge, so the claim is that runs diverge, and the loss is not compared.
      progress: True, or a function (done, total, label).
      **setting: batch and step_size, and what else `riron.forecast.training.Training` has: loss, shuffle, ridge,
        momentum, nesterov, schedule, warmup, average_from (a step).

    Returns: Verification. The report is that of `riron.lab.verdict.judge`, with `mutations` (the verdict on lines that
      are wrong on purpose), `complete` (False if it was interrupted: then only the points reached are judged) and
      `seconds`.
    Raises: InputError for fewer than 16 runs, or a setting out of range.
    """
    as_positive(setting["step_size"], "step_size")
    steps = number_of_steps(len(X), setting["batch"], epochs, setting.get("shuffle", "epochs"))
    training = Training(steps=steps, **setting)
    y, y_test = targets(y, training.loss), targets(y_test, training.loss)
    spectrum = Spectrum.of(X, y, X_test, y_test)
    check_setting(spectrum, batch=training.batch, ridge=training.ridge)
    line = None if diverges else training.forecast(spectrum, line_record(steps))
    arrays = (X, y, X_test, y_test)
    return prove(training, arrays, spectrum, line, seeds=seeds, seed=seed, progress=progress)


def prove(
    training: Training,
    arrays: Arrays,
    spectrum: Spectrum,
    line: xr.Dataset | None,
    *,
    seeds: int,
    seed: int = 0,
    covariance: str = "auto",
    rows: int | None = None,
    model: Model | None = None,
    progress=None,
) -> Verification:
    """`verify`, with the forecast at hand.

    Args:
      arrays: X, y, X_test, y_test with targets as `training.targets` makes them; spectrum: of them.
      line: the forecast over `line_record`; None if the step size is above the edge: the claim is that runs diverge.
      covariance, rows: its closure, for the lines that are wrong on purpose.
      model: what is trained on `arrays` in place of the linear model (then X are its inputs).
    """
    if seeds < LEAST_SEEDS:
        raise InputError(f"verify={seeds} runs cannot decide anything", do=f"use at least {LEAST_SEEDS}")
    record = record_points(training.steps)
    started = time.monotonic()
    if line is None:
        record = xr.concat([xr.zeros_like(record[:1]).assign_coords(step=[0]), record], "step")
    dots = simulate(
        training.problem(*arrays, model=model),
        training.dynamics(),
        record=record,
        seeds=seeds,
        seed=seed,
        progress=progress,
    )
    seconds = time.monotonic() - started
    complete = bool(dots.attrs["complete"])
    if not complete:
        reached = np.isfinite(dots.gradient_evaluations).all("seed")
        dots = dots.isel(step=reached.values)
    if line is None:
        report = _judge_divergence(dots, training.steps, training.shuffle)
        judged = xr.Dataset(coords={"step": dots.step.values})
    else:
        wrong = lambda factor: training.scaled(factor).forecast(
            spectrum, line_record(training.steps), covariance=covariance, rows=rows, errors=False
        )
        report, judged = _judge(dots, line, wrong, spectrum.n)
    report |= {
        "complete": complete,
        "seconds": round(seconds, 3),
        "batch": training.batch,
        "step_size": training.step_size,
        "steps": training.steps,
    }
    return Verification(report, dots, judged)


def _judge(dots: xr.Dataset, line: xr.Dataset, forecast: Callable, n: int) -> tuple[dict, xr.Dataset]:
    """Verdict on the line, and on a line with wrong step sizes, `forecast(factor)`."""
    line = line.sel(step=dots.step.values)
    stated = {name: line[name].clip(max=LOOSEST) for name in map(str, line) if name.endswith("_tolerance")}
    line = line.assign(stated)
    report = judge(CLAIMS, {n: dots}, {n: line})
    wrong = partial(_changed, step_size=1.0, forecast=forecast, line=line)
    report["mutations"] = judge_mutations(CLAIMS, {n: dots}, {n: wrong}, WRONG)
    return report, line


def _changed(step_size: float, forecast: Callable, line: xr.Dataset) -> xr.Dataset:
    """The losses at other step sizes (times a factor), with the errors that the line states."""
    other = forecast(step_size).sel(step=line.step.values)
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


def record_points(steps: int, points: int = POINTS) -> xr.DataArray:
    """Steps at which runs are compared: logarithmic inside the run, its end included."""
    places = np.unique(np.round(np.geomspace(max(1, steps / 64), steps, points)).astype(int))
    return xr.DataArray(places, {"step": places}, "step")


def line_record(steps: int) -> xr.DataArray:
    """Where the line is drawn: dense, the points of comparison among them; curve and verdict share one compilation."""
    places = np.union1d(as_record(None, steps).values, record_points(steps).values)
    return xr.DataArray(places, {"step": places}, "step")


def seconds_of_one_run(training: Training, arrays: Arrays, model: Model | None = None) -> float:
    """Seconds that one compiled training run takes here, compilation not counted."""
    problem, dynamics = training.problem(*arrays, model=model), training.dynamics()
    timed = min(training.steps, TIMED_STEPS)
    simulate(problem, dynamics, record=[timed], seeds=1)  # compiles
    started = time.perf_counter()
    simulate(problem, dynamics, record=[timed], seeds=1)
    return (time.perf_counter() - started) * training.steps / timed
