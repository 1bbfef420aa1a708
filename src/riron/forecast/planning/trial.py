"""One setting of mean-field Langevin dynamics, run from several seeds: how the outputs spread, drift and settle."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ...dynamics.mean_field_langevin import mfld
from ...lab.progress import Show
from ...lab.running import simulate
from ...problems.mean_field import MeanFieldProblem, Watched

POINTS = 96  # recorded over a run
DROPPED = 1 / 3  # share of the run before things count as settled


def with_width(problem: MeanFieldProblem, width: int) -> Watched:
    """The same problem for networks of `width` neurons, which records their predictions."""
    return Watched(
        problem.X,
        problem.y,
        neuron=problem.neuron,
        loss=problem.loss,
        lam1=problem.lam1,
        lam2=problem.lam2,
        width=width,
        start_sd=problem.model.start_sd,
    )


class Trial(NamedTuple):
    """What the runs of one setting showed; weights are the losses' curvatures at the mean predictions."""

    width: int
    step_size: float
    batch: int
    seeds: int
    variance: float
    """(1/2n) sum_i loss''_i Var f(x_i) between runs, averaged over the settled part."""
    stderr: float
    mean: np.ndarray
    """(n,) predictions, averaged over runs and the settled part."""
    mean_variance: float
    """(1/2n) sum_i loss''_i Var of `mean`: its own error."""
    times: np.ndarray
    distance: np.ndarray
    """(1/2n) sum_i loss''_i (mean over runs of f(x_i) at each time - `mean`)^2."""
    spread: np.ndarray
    """`variance` at each time."""
    curvatures: np.ndarray


class Outcome(NamedTuple):
    """What training at a plan gave."""

    excess: float
    """E (1/2n) sum_i loss''_i (f_N(x_i) - f_*(x_i))^2 at the last step, the error of f_* taken off."""
    stderr: float
    ratio: float
    """`excess` over the plan's target."""
    seeds: int


def tried(
    problem: MeanFieldProblem,
    *,
    width: int,
    step_size: float,
    batch: int | None = None,
    time: float,
    seeds: int,
    seed: int = 0,
    progress: Show = None,
) -> Trial:
    """Run a setting for a time (steps x step size) and measure how its predictions spread.

    Args:
      problem: the problem.
      width, step_size, batch: the setting; batch None or n for full gradients.
      time: length of the runs; the first third does not count as settled.
      seeds: number of independent runs, >= 2.
      seed: the root of their keys.
    """
    sized, n = with_width(problem, width), problem.X.shape[0]
    size = n if batch is None else batch
    steps = max(int(np.ceil(time / step_size)), POINTS)
    places = np.unique(np.linspace(0, steps, POINTS).round().astype(int))
    record = xr.DataArray(places, {"step": places}, "step")
    dynamics = mfld(sized, step_size=step_size, batch=None if size == n else size)
    seen = simulate(sized, dynamics, record=record, seeds=seeds, seed=seed, progress=progress)
    f = seen.prediction.values.astype(np.float64)  # (seeds, points, n)
    settled = places > DROPPED * steps
    mean = f[:, settled].mean(axis=(0, 1))
    curvature = np.asarray(_curvatures(problem, jnp.asarray(mean)), np.float64)
    weigh = lambda square: (curvature * square).mean(axis=-1) / 2
    # Deviations from the mean over runs at the same time: a drift that all share is no spread.
    spread = weigh((f - f.mean(axis=0)) ** 2) * seeds / (seeds - 1)  # (seeds, points)
    of_runs = spread[:, settled].mean(axis=1)
    of_means = f[:, settled].mean(axis=1)
    return Trial(
        width=width,
        step_size=step_size,
        batch=size,
        seeds=seeds,
        variance=float(of_runs.mean()),
        stderr=float(of_runs.std(ddof=1) / seeds**0.5),
        mean=mean,
        mean_variance=float(weigh(of_means.var(axis=0, ddof=1)) / seeds),
        times=places * step_size,
        distance=weigh((f.mean(axis=0) - mean) ** 2),
        spread=spread.mean(axis=0),
        curvatures=curvature,
    )


def outcome(
    problem: MeanFieldProblem,
    *,
    width: int,
    step_size: float,
    batch: int,
    steps: int,
    target: float,
    reference: np.ndarray,
    reference_variance: float,
    seeds: int,
    seed: int,
) -> Outcome:
    """Train at a setting and compare the last predictions with those of the optimum."""
    sized, n = with_width(problem, width), problem.X.shape[0]
    dynamics = mfld(sized, step_size=step_size, batch=None if batch == n else batch)
    seen = simulate(sized, dynamics, record=[steps], seeds=seeds, seed=seed)
    f = seen.prediction.values[:, 0].astype(np.float64)
    curvature = np.asarray(_curvatures(problem, jnp.asarray(reference)), np.float64)
    each = (curvature * (f - reference) ** 2).mean(axis=1) / 2 - reference_variance
    excess = float(each.mean())
    return Outcome(excess, float(each.std(ddof=1) / seeds**0.5), excess / target, seeds)


@eqx.filter_jit
def _curvatures(problem: MeanFieldProblem, z: jax.Array) -> jax.Array:
    return problem.curvatures(z)
