"""SGD on a smooth convex loss in shuffled epochs: the Gaussian closure with a cavity.

As in `shuffled_sgd`: the row about to be visited has not been visited in this epoch, so it is kicked at the output that
it would have without itself; D_i is the expected contribution of row i to the parameters so far in this epoch; at its
end every row has given its contribution, and the spread of the D_i leaves the covariance. Here the output without the
row itself is Gaussian, D_i decays with the mean Hessian (less the row's own share), and is kept in full: memory n p K.

A closure, not a theorem: `least_squares_forecast.closure_tolerance` states its error.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import output_covariance as structure
from .gaussian_closure import Gaussian, Interval, Table, initial, moved, sum_over
from .marching import march
from .output_covariance import Covariance
from .output_moments import Moments
from .problem_arrays import Setting


class Epoch(NamedTuple):
    """Parameters, the rows' own share yet to be taken from their covariance; given (m, c, p, K): D_i in chunks."""

    parameters: Gaussian
    given: jax.Array


class Averages(NamedTuple):
    """As in `gaussian_closure`, of rows not yet visited; and what the rows' own contributions add.

    value: loss of rows without themselves; amplitude (m, c, K): what drives D_i; kick: source of the covariance
    per eta; visited: spread of the contributions.
    """

    mean: jax.Array
    value: jax.Array
    slope: jax.Array
    curvature: Covariance
    noise: Covariance
    amplitude: jax.Array
    kick: Covariance
    visited: Covariance


def averages(table: Table, moments: Moments, steps_per_epoch, order, time, at: Epoch) -> Averages:
    """The slow averages, up to an order (2, 1 or 0) in a row's own contribution; 0 is sampling with replacement."""
    mean, covariance, given = at.parameters.mean, at.parameters.covariance, at.given
    second_order = (order > 1).astype(mean.dtype)
    k, dtype = structure.leading(covariance), mean.dtype
    # Just before an epoch ends all of it is done (1), not none (0); where it begins D = 0 and nothing depends on it.
    done = (jnp.mod(time - 1, steps_per_epoch) + 1).astype(dtype) / steps_per_epoch.astype(dtype)
    real = (table.train.weights > 0).astype(dtype)[..., None, None]
    given = jnp.where(order > 0, real * given, 0)
    mean_given = jnp.sum(given, axis=(0, 1)) / table.n
    centred = real * (given - mean_given)
    visited = sum_over(table.train, lambda z, y, w, D: structure.gram(D, k), centred)
    free = covariance.map(jnp.subtract, visited)

    def chunk(z, y, w, D):
        own = jnp.einsum("np,npk->nk", z, D)
        # A row not yet visited finds the others visited a little more often than on average, n / (n - 1) times.
        left_out = (own - z @ mean_given) * (table.n / jnp.maximum(table.n - 1, 1))
        spread = structure.along(z, free)
        # Not knowing whether the row was visited is no part of its spread when it has not been.
        without = spread - second_order * (1 / done - 1) * own[:, :, None] * own[:, None, :]
        seen = moments(y, z @ mean + left_out, without)
        blocks = w[:, None, None]
        pull = jnp.einsum("nkl,nl->nk", seen.curvature, own)
        sums = (
            w @ seen.value,
            z.T @ (w[:, None] * seen.slope),
            structure.scatter(z, blocks * seen.curvature, k),
            structure.scatter(z, blocks * seen.square, k),
            structure.gram((w[:, None] * z)[:, :, None] * pull[:, None, :], k, D),
        )
        return sums, seen.slope + second_order * pull

    sums, amplitude = _sum_and_stack(table, chunk, given)
    value, slope, curvature, square, kick = sums
    noise = square.map(jnp.subtract, structure.gram(slope[None], k))
    kick = kick.map(lambda a, b: second_order / done * (a + b), structure.transpose(kick))
    return Averages(mean, value, slope, curvature, noise, amplitude, kick, visited)


def _sum_and_stack(table: Table, function, given):
    chunks = (*table.train, given)
    shapes = jax.eval_shape(function, *(chunk[0] for chunk in chunks))[0]
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total, chunk):
        sums, stacked = function(*chunk)
        return jax.tree.map(jnp.add, total, sums), stacked

    return jax.lax.scan(add, start, chunks)


def propagate(table: Table, setting: Setting, time, d, at: Epoch, source: Averages, slope: Averages) -> Epoch:
    """d steps inside one epoch with the averages linear in time (the amplitudes at their mean)."""
    interval = Interval.over(setting, time, d, source.curvature, slope.curvature)
    eta, scale = interval.eta, interval.eta_squared * setting.noise
    mean = interval.mean(at.parameters.mean, source.slope, slope.slope, slope.mean)
    drive, change = (a.noise.map(lambda N, M: scale * N + eta * M, a.kick) for a in (source, slope))
    covariance = interval.covariance(at.parameters.covariance, drive, change)
    middle = (d.astype(eta.dtype) - 1) / 2
    amplitude = (eta / table.n) * (source.amplitude + middle * slope.amplitude)
    advance = lambda chunk: interval.contributions(chunk[0], chunk[1][:, :, None] * chunk[2][:, None, :])
    given = jax.lax.map(advance, (at.given, table.train.rows, amplitude))
    return Epoch(Gaussian(mean, covariance), given)


def run(table: Table, moments: Moments, setting: Setting, k, steps_per_epoch, stops, epoch_ends, rtol, order):
    """Mean and covariance at each stop; `epoch_ends` marks the stops where an epoch begins."""

    def settled(at: Epoch, seen: Averages) -> Gaussian:
        return Gaussian(at.parameters.mean, at.parameters.covariance.map(jnp.subtract, seen.visited))

    def distance(predicted: Epoch, corrected: Epoch, there: Averages):
        before, after = settled(predicted, there), settled(corrected, there)
        return moved(table, moments, before, after, there.slope, there.curvature, there.value)

    start = initial(table, k)
    m, c, p = table.train.rows.shape
    given = jnp.zeros((m, c, p, start.mean.shape[1]), start.mean.dtype)
    return march(
        Epoch(start, given),
        stops=stops,
        restarts=epoch_ends,
        sources=partial(averages, table, moments, steps_per_epoch, order),
        propagate=partial(propagate, table, setting),
        distance=distance,
        measure=lambda time, at, seen: settled(at, seen),
        restart=lambda at, seen: Epoch(settled(at, seen), jnp.zeros_like(at.given)),
        limit=setting.steps.limit,
        rtol=rtol,
    )
