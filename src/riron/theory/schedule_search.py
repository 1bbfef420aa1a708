"""The step sizes, and the batch sizes, that make the forecast loss at the end of a run smallest.

Step sizes are straight lines between knots, positive at the knots; their logarithms there are what is searched, by
L-BFGS-B with the derivative of the forecast (`schedule_design`). With batch sizes searched too, these are straight
lines between knots as well, at least 1, of a given mean: the same number of steps and of passes over the rows.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from .problem_arrays import Arrays
from .schedule_design import Grid, Intervals, end_losses, intervals_of

LEAST = 3e-3  # of the largest allowed step size: where a decay to 0 starts from on the logarithmic scale
ITERATIONS = 40
SETTLED = 1e-6  # relative change of the loss at which the search ends
TOGETHER = 12  # tables whose losses are found in one call
MILD = 8.0  # largest factor between a batch size and the mean one


class Basis(NamedTuple):
    """Straight lines between knots: hats at every step, and their means and products over the intervals of a grid."""

    hats: Any  # (steps, knots) NumPy; left out inside compiled functions
    means: jax.Array  # (M, knots)
    products: jax.Array  # (M, knots, knots)

    @classmethod
    def of(cls, grid: Grid, knots: int) -> "Basis":
        """Knots denser at both ends, where good schedules change fastest."""
        steps = int(grid.times[-1])
        last = max(steps - 1, 1)
        places = np.unique(np.round(last * (1 - np.cos(np.pi * np.arange(knots) / (knots - 1))) / 2))
        hats = np.stack([np.interp(np.arange(steps), places, e) for e in np.eye(len(places))], axis=1)
        start, d = grid.times[:-1], np.diff(grid.times)
        means = np.add.reduceat(hats, start) / d[:, None]
        products = np.add.reduceat(hats[:, :, None] * hats[:, None, :], start) / d[:, None, None]
        return cls(hats, jnp.asarray(means), jnp.asarray(products))

    def places(self) -> np.ndarray:
        """The steps at which the knots lie."""
        return np.argmax(self.hats, axis=0)


class Limits(NamedTuple):
    """The largest step size allowed at each batch size: log batch and log step size, for interpolation."""

    log_batches: jax.Array
    log_steps: jax.Array

    def at(self, batch) -> jax.Array:
        return jnp.exp(jnp.interp(jnp.log(batch), self.log_batches, self.log_steps))


class Found(NamedTuple):
    """A schedule and its forecast loss on the rows that chose it."""

    step_sizes: np.ndarray  # (steps,)
    batches: np.ndarray  # (steps,) real numbers
    loss: float
    evaluations: int


def search(
    data: Arrays, ridge: float, grid: Grid, epoch: int | None, basis: Basis, limits: Limits, batch: float, start, vary
) -> Found:
    """The best schedule that descent finds from the table of step sizes `start`.

    Args:
      data: training rows, and the held-out rows whose loss is made small (float64).
      grid, epoch: times of the march and steps of an epoch (None: drawn with replacement).
      limits: largest step size by batch size.
      batch: rows a step, on average.
      start: (steps,) step sizes.
      vary: search the batch sizes too.
    """
    knots = basis.hats.shape[1]
    largest = float(limits.at(batch))
    log_steps = np.log(np.clip(start[basis.places()] / largest, LEAST, 1.0))
    fixed = (data, jnp.asarray(ridge), grid_arrays(grid), basis._replace(hats=()), limits, jnp.asarray(float(batch)))
    best, count = [np.inf, log_steps], [0]

    def function(x):
        count[0] += 1
        value, slope = value_and_slope(*fixed, _both(jnp.asarray(x), knots), epoch)
        value, slope = float(value), np.asarray(slope, float)
        if not np.isfinite(value) or not np.isfinite(slope).all():
            return 1e3, np.zeros_like(x)  # a diverging schedule: the line search comes back
        if value < best[0]:
            best[:] = value, np.array(x)
        return value, slope[: len(x)]

    bounds = [(np.log(LEAST / 10), 0.0)] * knots
    if vary:
        log_steps = np.concatenate([log_steps, np.zeros(knots)])
        bounds += [(-np.log(MILD), np.log(MILD))] * knots
    minimize(
        function, log_steps, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": ITERATIONS, "ftol": SETTLED, "gtol": 1e-7},
    )  # fmt: skip
    x = _both(jnp.asarray(best[1]), knots)
    batches = np.asarray(_batches(basis.hats, basis.hats.mean(axis=0), batch, x[knots:]), float)
    steps = basis.hats @ np.exp(np.asarray(x[:knots], float)) * np.asarray(limits.at(batches), float)
    return Found(steps, batches, float(np.exp(best[0])), count[0])


def _both(x: jax.Array, knots: int) -> jax.Array:
    return x if len(x) == 2 * knots else jnp.concatenate([x, jnp.zeros(knots, x.dtype)])


def _batches(hats, mean_hats, batch, logs):
    """Batch sizes >= 1 of mean `batch`."""
    shape = jnp.exp(logs)
    return 1 + (batch - 1) * (hats @ shape) / (mean_hats @ shape)


@partial(jax.jit, static_argnames="epoch")
def value_and_slope(data, ridge, grid, basis, limits, batch, x, epoch):
    """The logarithm of the held-out loss at the end, and its derivative by x: logarithms at the knots, of step sizes
    (over the largest allowed) and of the shape of the batch sizes."""

    def log_loss(x):
        knots = basis.means.shape[1]
        d = jnp.diff(grid.times).astype(x.dtype)
        mean_hats = d @ basis.means / jnp.sum(d)
        batches = _batches(basis.means, mean_hats, batch, x[knots:])
        scale = limits.at(batches)
        heights = jnp.exp(x[:knots])
        mean = basis.means @ heights
        square = jnp.einsum("mab,a,b->m", basis.products, heights, heights)
        intervals = Intervals(scale * mean, scale**2 * square, 1 / batches)
        return jnp.log(end_losses(data, ridge, grid, intervals, epoch)[1])

    return jax.value_and_grad(log_loss)(x)


def table_losses(data: Arrays, ridge: float, grid: Grid, epoch: int | None, tables, batch) -> np.ndarray:
    """(tables, 2) train and held-out loss at the end, of tables of step sizes at one batch size or one for each."""
    each = [intervals_of(grid, table, batch) for table in tables]
    each += each[-1:] * (-len(each) % TOGETHER)  # padded: one length, one compilation
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *each)
    return np.array(_many(data, jnp.asarray(ridge), grid_arrays(grid), stacked, epoch), float)[: len(tables)]


@partial(jax.jit, static_argnames="epoch")
def _many(data, ridge, grid, intervals, epoch):
    return jax.lax.map(lambda one: end_losses(data, ridge, grid, one, epoch), intervals)


def grid_arrays(grid: Grid) -> Grid:
    """The grid as arguments of a compiled function: grids of one length share the compilation."""
    return Grid(jnp.asarray(grid.times), jnp.asarray(grid.ends))
