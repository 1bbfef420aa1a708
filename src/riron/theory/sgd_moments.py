"""Exact second moments of SGD on least squares, batches drawn with replacement.

The noise of one step has covariance (1/B) [(1/n) sum_i f_i z_i z_i^T - g g^T - H V H] with f_i the expected squared
residual of row i: nothing is averaged away, so heavy rows count in full. V is the sum over outputs of the covariances
of the parameters; K outputs cost one V.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import block
from .block import Block
from .marching import march, powers
from .problem_arrays import Arrays, Setting, losses


class Moments(NamedTuple):
    """Mean (p, K) and covariance of the parameters in the eigenbasis, summed over outputs."""

    mean: jax.Array
    covariance: Block


def initial(data: Arrays) -> Moments:
    p, k = len(data.h), len(data.test_curvature.full)
    return Moments(jnp.zeros_like(data.correlation), block.zeros(k, p, data.h.dtype))


def noise(data: Arrays, at: Moments) -> Block:
    """(1/n) sum_i f_i z_i z_i^T - g g^T, rows weighted around the exact mean of f (a control variate)."""
    k = len(at.covariance.full)
    residual = data.rows @ at.mean - data.targets
    f = jnp.sum(residual**2, axis=1) + block.quadratic(data.rows, at.covariance)
    mean_f = data.mean_square_residual(at.mean) + data.h @ at.covariance.diag()
    g = data.h[:, None] * at.mean - data.correlation
    spread = block.gram(data.rows, k, data.weights * (f - mean_f))
    return spread.map(lambda a, b, c: a + mean_f * b - c, data.curvature(k), block.gram(g.T, k))


def propagate(data: Arrays, setting: Setting, time, d, at: Moments, source: Block, slope: Block) -> Moments:
    """d steps with the bracket `noise` linear in time."""
    k = len(at.covariance.full)
    eta, eta_squared = setting.over(time, d, data.h.dtype)
    mean = setting.mean_path(data, eta, d, at.mean)
    L = setting.covariance_rates(data, eta, eta_squared, k)
    advance = L.map(lambda rate: powers(rate, d))
    scale = eta_squared * setting.noise

    def step(w, V, N, dN):
        return w.decay * V + scale * (w.first * N + w.second * dN)

    covariance = Block(
        step(advance.full, at.covariance.full, source.full, slope.full),
        step(advance.diagonal, at.covariance.diagonal, source.diagonal, slope.diagonal),
    )
    return Moments(mean, covariance)


def run(data: Arrays, setting: Setting, stops, measure, rtol):
    """What `measure(moments)` gives at each stop."""

    def distance(predicted: Moments, corrected: Moments, _):
        change = corrected.covariance.map(jnp.subtract, predicted.covariance)
        train, test = losses(data, corrected.mean, corrected.covariance)
        moved = jnp.abs(data.h @ change.diag()) / (2 * train)
        return jnp.maximum(moved, jnp.abs(block.trace_product(change, data.test_curvature)) / (2 * test))

    return march(
        initial(data),
        stops=stops,
        restarts=jnp.zeros(len(stops), bool),
        sources=lambda time, at: noise(data, at),
        propagate=partial(propagate, data, setting),
        distance=distance,
        measure=lambda time, at, _: measure(at.mean, at.covariance),
        restart=lambda at, _: at,
        limit=setting.steps.limit,
        rtol=rtol,
    )
