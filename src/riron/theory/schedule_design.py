"""A forecast of SGD on least squares that can be differentiated through its step sizes and batch sizes.

The moments march over a fixed grid of times (the adaptive march of `marching` chooses its times as it goes, which
reverse differentiation does not allow) with the same formulas. One reverse sweep gives the derivative of the last loss
with respect to the step size and the batch size in every interval. How far the grid is from the adaptive march is for
the caller to measure: `least_squares_sgd` on the schedule that was found.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import sgd_moments, shuffled_sgd
from .problem_arrays import Arrays, Setting, losses
from .spectral_memory import memory_of

WITHIN = (0.08, 0.25, 0.5, 0.75)  # nodes inside an epoch: its first part is where contributions build up
EARLY, EVEN, LATE = 28, 32, 14  # nodes spread from the start, evenly, and towards the end


class Grid(NamedTuple):
    """Times from 0 to the last step, and at which of the later ones an epoch ends (none with replacement)."""

    times: Any  # (M + 1,) NumPy, or JAX inside a compiled function
    ends: Any  # (M,) bool


class Intervals(NamedTuple):
    """Of each interval of a grid: mean and mean square of the step size, and 1 / batch. All (M,)."""

    mean: jax.Array
    square: jax.Array
    noise: jax.Array

    def over(self, time, d):
        """The interval this is the slice of: stands in for `StepSizes` in a `Setting`."""
        return self.mean, self.square


def make_grid(steps: int, epoch: int | None = None, *, finer: int = 1) -> Grid:
    """Times close together at the start, within each epoch's start, and towards the end; `finer` multiplies them."""
    early = np.geomspace(1, steps, EARLY * finer)
    even = np.linspace(0, steps, EVEN * finer + 1)
    late = steps - np.geomspace(1, steps, LATE * finer)
    parts = [early, even, late, [0, steps]]
    ends = np.empty(0)
    if epoch is not None:
        ends = np.arange(epoch, steps + 1, epoch)
        inner = np.interp(np.linspace(0, 1, finer * (len(WITHIN) + 1) + 1), np.linspace(0, 1, 6), [0, *WITHIN, 1])
        starts = np.arange(0, steps, epoch)
        parts = [early[early <= epoch], late[late > steps - epoch], [steps], ends]
        parts.append(np.add.outer(starts, inner * epoch).ravel())
    times = np.unique(np.round(np.concatenate(parts)).astype(np.int64))
    times = times[(times >= 0) & (times <= steps)]
    # No restart at the very end: nothing follows, and the losses are those just before it.
    return Grid(times, np.isin(times[1:], ends) & (times[1:] < steps))


def intervals_of(grid: Grid, step_sizes: np.ndarray, batch: float | np.ndarray, dtype=np.float64) -> Intervals:
    """The intervals of a table of step sizes (steps,), with one batch size or one for each step."""
    start, d = grid.times[:-1], np.diff(grid.times)
    mean = np.add.reduceat(step_sizes, start) / d
    square = np.add.reduceat(step_sizes**2, start) / d
    if np.ndim(batch) == 0:
        noise = np.full(len(d), 1 / batch)
    else:
        weighted = np.add.reduceat(step_sizes**2 / batch, start) / d
        noise = np.where(square > 0, weighted / np.where(square > 0, square, 1), 1.0)
    return Intervals(*(jnp.asarray(x, dtype) for x in (mean, square, noise)))


def end_losses(data: Arrays, ridge, grid: Grid, intervals: Intervals, epoch: int | None) -> jax.Array:
    """(2,) expected train and held-out loss at the end of the grid; differentiable in `intervals`."""
    model = _with_replacement(data) if epoch is None else _shuffled(data, intervals, grid, epoch)
    return _march(data, ridge, model, grid, intervals)


class Model(NamedTuple):
    """One way of sampling: its state at the start, what drives it, its step, an epoch's end, and its losses."""

    state: Any
    sources: Callable
    propagate: Callable
    restart: Callable
    moments: Callable


def _with_replacement(data: Arrays) -> Model:
    return Model(
        sgd_moments.initial(data),
        lambda time, at: sgd_moments.noise(data, at),
        partial(sgd_moments.propagate, data),
        lambda at, seen: at,
        lambda at, seen: (at.mean, at.covariance),
    )


def _shuffled(data: Arrays, intervals: Intervals, grid: Grid, epoch: int) -> Model:
    length = jnp.asarray(epoch, jnp.int64)
    d = jnp.diff(jnp.asarray(grid.times)).astype(intervals.mean.dtype)
    typical = jax.lax.stop_gradient(jnp.sum(intervals.mean * d) / jnp.sum(d))
    memory = memory_of(data, typical, length)
    spread = lambda at, seen: at.covariance.map(jnp.subtract, seen.visited)
    return Model(
        shuffled_sgd.initial(data, memory),
        partial(shuffled_sgd.averages, data, memory, length, 1.0),
        partial(shuffled_sgd.propagate, data, memory),
        lambda at, seen: at._replace(covariance=spread(at, seen), given=jnp.zeros_like(at.given)),
        lambda at, seen: (at.mean, spread(at, seen)),
    )


def _march(data: Arrays, ridge, model: Model, grid: Grid, intervals: Intervals) -> jax.Array:
    """Predict with sources extrapolated from the last two nodes, correct with sources interpolated."""

    def interval(carry, inputs):
        state, before, previous, gap = carry
        time, d, ends, own = inputs
        setting = Setting(own, own.noise, ridge)
        width = d.astype(gap.dtype)
        slope = jax.tree.map(
            lambda a, b: jnp.where(gap > 0, (a - b) / jnp.maximum(gap, 1), 0).astype(a.dtype), before, previous
        )
        predicted = model.propagate(setting, time, d, state, before, slope)
        there = model.sources(time + d, predicted)
        slope = jax.tree.map(lambda a, b: (a - b) / width.astype(a.dtype), there, before)
        corrected = model.propagate(setting, time, d, state, before, slope)

        def renew():
            fresh = model.restart(corrected, there)
            sources = model.sources(time + d, fresh)
            return fresh, sources, sources, jnp.zeros_like(gap)

        carry = jax.lax.cond(ends, renew, lambda: (corrected, there, before, width))
        return carry, None

    times = jnp.asarray(grid.times)
    start = model.sources(times[0], model.state)
    carry = model.state, start, start, jnp.zeros((), intervals.mean.dtype)
    inputs = times[:-1], jnp.diff(times), jnp.asarray(grid.ends), intervals
    # Only the states at the nodes are kept for the reverse sweep; what happens between them is computed again.
    (state, last, _, _), _ = jax.lax.scan(jax.checkpoint(interval), carry, inputs)
    return jnp.stack(losses(data, *model.moments(state, last)))
