"""Held-out losses row by row along SGD on a smooth convex loss, cheaply: for comparing many settings.

The Gaussian closure (`gaussian_closure`) with K x K blocks for its covariance, batches drawn with replacement, and a
weighted sample of the training rows. What the sample misses is nearly all in the gradient at the mean, which is
evaluated on all rows (a control variate): so the mean runs to the optimum of all rows, and only what the spread of the
parameters adds is sampled.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import gaussian_closure
from . import output_covariance as structure
from .gaussian_closure import Averages, Gaussian, Rows, Table, sum_over
from .marching import march
from .output_moments import loss_of, moments_of
from .problem_arrays import Setting, sample_rows
from .spectrum import Spectrum
from .step_sizes import StepSizes

SAMPLED = {1: 1000, 2: 400}  # training rows that stand for all, with one and with more outputs
PROBE = 64  # held-out rows on which intervals are judged
RTOL = 5e-3


class Problem(NamedTuple):
    """A sample of the training rows with the held-out ones, and all training rows (None if they are the sample)."""

    table: Table
    everyone: Rows | None


class RowLosses(NamedTuple):
    """Expected losses at each stop: held_out (stops, rows), train (stops,), and the share of noise in it (stops,)."""

    held_out: np.ndarray
    train: np.ndarray
    noise: np.ndarray


def problem_of(spectrum: Spectrum, *, seed: int = 0) -> Problem:
    """The arrays that all settings share; the spectrum has held-out rows."""
    assert spectrum.test_rows is not None
    assert spectrum.test_targets is not None
    chosen, weights = sample_rows(spectrum.leverage, SAMPLED[min(spectrum.outputs, 2)], seed)
    held_out = spectrum.test_rows, spectrum.test_targets
    probe = (part[:: -(-len(held_out[0]) // PROBE)] for part in held_out)
    sample = _rows(spectrum.rows[chosen], spectrum.targets[chosen], weights)
    table = Table(sample, _rows(*held_out), _rows(*probe), jnp.asarray(spectrum.n, jnp.float32))
    return Problem(table, None if len(chosen) == spectrum.n else _rows(spectrum.rows, spectrum.targets))


def row_losses(
    problem: Problem, *, loss: str, batch: float, step_size: float, stops: np.ndarray, ridge: float = 0.0
) -> RowLosses:
    """The losses of one constant step size, drawn with replacement.

    Args:
      problem: see `problem_of`; made, as this is called, with 64-bit JAX enabled.
      loss: logistic, huber, smoothed_hinge, squared or softmax.
      batch: rows per step. step_size: units of 1/feature^2. stops: increasing whole steps.
      ridge: penalty ridge/2 |theta|^2, trained against, not part of the losses.
    """
    number = lambda value: jnp.asarray(value, jnp.float32)
    setting = Setting(StepSizes(jnp.asarray(step_size, jnp.float64)), number(1 / batch), number(ridge))
    line = _solve(problem, setting, jnp.asarray(stops), loss)
    # Judged outside of the march: XLA's threads on a CPU lock up on nested loops.
    return RowLosses(*jax.device_get(_judge(problem, line, loss)))


@partial(jax.jit, static_argnames="loss")
def _solve(problem: Problem, setting: Setting, stops: jax.Array, loss: str) -> Gaussian:
    table, moments = problem.table, moments_of(loss)

    def sources(time, at: Gaussian) -> Averages:
        return averages(problem, loss, at)

    def distance(predicted: Gaussian, corrected: Gaussian, there: Averages):
        return gaussian_closure.moved(table, moments, predicted, corrected, there.slope, there.curvature, there.value)

    return march(
        gaussian_closure.initial(table, 0),
        stops=stops,
        restarts=jnp.zeros(len(stops), bool),
        sources=sources,
        propagate=partial(gaussian_closure.propagate, setting),
        distance=distance,
        measure=lambda time, at, seen: at,
        restart=lambda at, _: at,
        limit=setting.steps.limit,
        rtol=jnp.asarray(RTOL),
    )


def averages(problem: Problem, loss: str, at: Gaussian) -> Averages:
    """Those of the sample, with the gradient at the mean taken over all rows."""
    seen = gaussian_closure.averages(problem.table, moments_of(loss), at)
    if problem.everyone is None:
        return seen
    all_rows, sampled = (at_mean(loss, rows, at.mean) for rows in (problem.everyone, problem.table.train))
    missed = jax.tree.map(jnp.subtract, all_rows, sampled)
    slope = seen.slope + missed[1]
    squares = [structure.gram(g[None], 0) for g in (seen.slope, slope)]
    noise = seen.noise.map(lambda N, before, after: N + before - after, *squares)
    return seen._replace(value=seen.value + missed[0], slope=slope, noise=noise)


def at_mean(loss: str, rows: Rows, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Loss and gradient (p, K) at fixed parameters."""
    one_row = jax.vmap(loss_of(loss))

    def total(mean: jax.Array) -> jax.Array:
        return sum_over(rows, lambda z, y, w: w @ one_row(z @ mean, y).reshape(w.shape))

    return jax.value_and_grad(total)(mean)


@partial(jax.jit, static_argnames="loss")
def _judge(problem: Problem, line: Gaussian, loss: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    moments = moments_of(loss)

    def one(at: Gaussian):
        z, y, _ = (part[0] for part in problem.table.test)
        held_out = moments(y, z @ at.mean, structure.along(z, at.covariance)).value
        train = averages(problem, loss, at).value
        return held_out, train, 1 - at_mean(loss, problem.everyone or problem.table.train, at.mean)[0] / train

    return jax.lax.map(one, line)


def _rows(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> Rows:
    weights = np.full(len(rows), 1 / len(rows)) if weights is None else weights
    one_chunk = lambda part: jnp.asarray(part[None], jnp.float32)
    return Rows(one_chunk(rows), one_chunk(targets), one_chunk(weights))
