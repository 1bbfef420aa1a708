"""SGD on least squares in shuffled epochs: a cavity closure.

A new permutation each epoch, n // batch steps, left-over rows dropped. The row about to be visited has not been
visited in this epoch and, once visited, does not return in it: its residual is the leave-one-out one, and its kick
travels without itself. D_i is the expected contribution of row i to the parameters so far in this epoch; at an epoch's
end every row has given its contribution, so the spread of the D_i leaves the covariance.

Every D_i is its row times a smooth function of the curvature, D_i = z_i g_i(h): the decay of what a row has given
depends on the direction only through h. So g_i is kept at a few values of h and interpolated (`spectral_memory`):
memory and work grow with n K times those few, not with n K p.

A closure, not a theorem: `least_squares_forecast.closure_tolerance` states its error.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import block
from .block import Block
from .marching import march, powers
from .problem_arrays import Arrays, Setting, losses
from .spectral_memory import Memory, memory_of


class Epoch(NamedTuple):
    """Mean (p, K); covariance (p, p), the rows' own share yet to be taken from it; given (s, Q, K): g_i at nodes."""

    mean: jax.Array
    covariance: Block
    given: jax.Array


class Averages(NamedTuple):
    """What changes slowly inside an epoch.

    amplitude (s, K): a_i = R_i + z_i D_i; pull (p, K): what leaving one out adds to the gradient; noise and kick
    (p, p): sources of the covariance per eta^2/B and per eta; visited (p, p): spread of the contributions.
    """

    amplitude: jax.Array
    pull: jax.Array
    noise: Block
    kick: Block
    visited: Block


def initial(data: Arrays, memory: Memory) -> Epoch:
    p, k = len(data.h), len(data.test_curvature.full)
    rows, outputs = data.targets.shape
    # The contributions are a correction of relative size 1/n: float32 is plenty.
    given = jnp.zeros((rows, len(memory.nodes), outputs), jnp.float32)
    return Epoch(jnp.zeros_like(data.correlation), block.zeros(k, p, data.h.dtype), given)


def averages(data: Arrays, memory: Memory, steps_per_epoch, second_order, time, at: Epoch) -> Averages:
    """The slow averages; `second_order` 0 leaves out what is of second order in a row's own contribution."""
    rows, weights, given = data.rows, data.weights, at.given
    k = len(at.covariance.full)
    # Just before an epoch ends all of it is done (1), not none (0); where it begins D = 0 and nothing depends on it.
    done = (jnp.mod(time - 1, steps_per_epoch) + 1).astype(rows.dtype) / steps_per_epoch.astype(rows.dtype)

    own = memory.along_rows(given).astype(rows.dtype)
    mean_given = memory.mean(data, given)
    r = rows @ at.mean - data.targets
    # A row not yet visited finds the others visited a little more often than on average, n / (n - 1) times.
    left_out = (own - rows @ mean_given) * (data.n / jnp.maximum(data.n - 1, 1))
    R = r + left_out
    visited = memory.spread(data, given, mean_given, k)
    covariance = at.covariance.map(jnp.subtract, visited)
    wander = block.quadratic(rows, covariance)
    free = jnp.maximum(0, wander - second_order * jnp.sum(own**2, axis=1) * (1 / done - 1))
    F = jnp.sum(R**2, axis=1) + free
    mean_F = (
        data.mean_square_residual(at.mean) + data.h @ covariance.diag() + weights @ (F - jnp.sum(r**2, axis=1) - wander)
    )
    pull = rows.T @ (weights[:, None] * left_out)
    G = data.h[:, None] * at.mean - data.correlation + pull

    scatter = block.gram(rows, k, weights * (F - mean_F))
    noise = scatter.map(lambda a, b, c: a + mean_F * b - c, data.curvature(k), block.gram(G.T, k))
    kick = block.gram(rows, k, second_order * weights, memory.in_direction(data, given, own) / done)
    kick = Block(kick.full + kick.full.T, 2 * kick.diagonal)
    return Averages(R + second_order * own, pull, noise, kick, visited)


def propagate(data: Arrays, memory: Memory, setting: Setting, time, d, at: Epoch, source: Averages, slope: Averages):
    """d steps inside one epoch with the averages linear in time."""
    k = len(at.covariance.full)
    eta, eta_squared = setting.over(time, d, data.h.dtype)
    mean = setting.mean_path(data, eta, d, at.mean, source.pull, slope.pull)

    w = powers(eta * (memory.nodes + setting.ridge), d)
    decay, first, second = (x.astype(at.given.dtype)[:, None] for x in (w.decay, w.first, w.second))
    amplitude, change = (x.astype(at.given.dtype)[:, None, :] for x in (source.amplitude, slope.amplitude))
    step = (eta / data.n).astype(at.given.dtype)
    given = decay * at.given + step * (first * amplitude + second * change)

    L = setting.covariance_rates(data, eta, eta_squared, k)

    def advance(rate, V, noise, kick, dnoise, dkick):
        w = powers(rate, d)
        c = eta_squared * setting.noise
        return w.decay * V + w.first * (c * noise + eta * kick) + w.second * (c * dnoise + eta * dkick)

    covariance = L.map(advance, at.covariance, source.noise, source.kick, slope.noise, slope.kick)
    return Epoch(mean, covariance, given)


def run(data: Arrays, setting: Setting, steps_per_epoch, stops, epoch_ends, measure, rtol, second_order):
    """What `measure(mean, covariance)` gives at each stop; `epoch_ends` marks the stops where a new epoch begins."""
    memory = memory_of(data, setting.steps.largest().astype(data.h.dtype), steps_per_epoch)

    def distance(predicted: Epoch, corrected: Epoch, there: Averages):
        change = corrected.covariance.map(jnp.subtract, predicted.covariance)
        drift = corrected.mean - predicted.mean
        train, test = losses(data, corrected.mean, corrected.covariance.map(jnp.subtract, there.visited))
        g = data.h[:, None] * corrected.mean - data.correlation
        moved = jnp.abs(data.h @ change.diag() / 2 + jnp.sum(g * drift)) / train
        residual = data.test_rows @ corrected.mean - data.test_targets
        shifted = jnp.mean(jnp.sum(residual * (data.test_rows @ drift), axis=1))
        return jnp.maximum(moved, jnp.abs(block.trace_product(change, data.test_curvature) / 2 + shifted) / test)

    def settle(at: Epoch, seen: Averages) -> Epoch:
        return Epoch(at.mean, at.covariance.map(jnp.subtract, seen.visited), jnp.zeros_like(at.given))

    return march(
        initial(data, memory),
        stops=stops,
        restarts=epoch_ends,
        sources=partial(averages, data, memory, steps_per_epoch, second_order),
        propagate=partial(propagate, data, memory, setting),
        distance=distance,
        measure=lambda time, at, seen: measure(at.mean, at.covariance.map(jnp.subtract, seen.visited)),
        restart=settle,
        limit=setting.steps.limit,
        rtol=rtol,
    )
