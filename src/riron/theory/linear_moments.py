"""Second moments of linear optimisers (momentum, Nesterov) on least squares, batches with replacement, and of averages.

As `sgd_moments`, for a state (parameter, velocity) in each direction; and, from step `begin` on, for the sum of the
iterates, which is one more linear part of the state. Plain SGD is included: it serves when its iterates are averaged.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import block, linear_covariance, sgd_moments
from .block import Block
from .linear_covariance import Covariance, Kicks
from .linear_optimiser import Advance, Modes, Optimiser, advance
from .marching import march
from .problem_arrays import Arrays, Setting, losses


class Method(NamedTuple):
    """An optimiser, and the step from which its iterates are summed up (beyond the run: never)."""

    optimiser: Optimiser
    begin: jax.Array | None = None

    def counted(self, time: jax.Array) -> jax.Array:
        """How many iterates the average at `time` is made of: `begin` to `time`, or the iterate itself before."""
        assert self.begin is not None
        return jnp.maximum(time - self.begin, 0) + 1


class State(NamedTuple):
    """mean (p, parts, K) of the state; total (p, K): mean sum of the iterates before this one, or None."""

    mean: jax.Array
    total: jax.Array | None
    covariance: Covariance


def initial(data: Arrays, method: Method) -> State:
    p, k = len(data.h), len(data.test_curvature.full)
    size = method.optimiser.size
    zero = block.zeros(k, p, data.h.dtype)
    mean = jnp.zeros((p, size, data.correlation.shape[1]), data.h.dtype)
    parts = (zero,) * (size * (size + 1) // 2)
    if method.begin is None:
        return State(mean, None, Covariance(parts))
    return State(mean, mean[:, 0], Covariance(parts, (zero,) * size, zero))


def move(by: Advance, x, total, gradient, slope, summing):
    """A mean (or a row's contribution) d steps on, with its sum if there is one; gradient and slope (..., K)."""
    new = jnp.einsum("puv,pvk->puk", by.power, x) + by.kicked[..., None] * gradient + by.drifted[..., None] * slope
    if total is None:
        return new, None
    more = jnp.einsum("pv,pvk->pk", by.total, x)
    more += by.kicked_sum[:, None] * gradient[:, 0] + by.drifted_sum[:, None] * slope[:, 0]
    return new, jnp.where(summing, total + more, total)


def keep_unless(summing, new: Covariance, old: Covariance) -> Covariance:
    """Before the averaging begins nothing is summed up."""
    if old.own is None:
        return new
    kept = jax.tree.map(lambda a, b: jnp.where(summing, a, b), (new.cross, new.own), (old.cross, old.own))
    return Covariance(new.parts, *kept)


def averaged(method: Method, time, at: State) -> tuple[jax.Array, Block]:
    """Mean and covariance of what is reported: the average of the iterates, or the iterate."""
    if method.begin is None:
        return at.mean[:, 0], at.covariance.parts[0]
    assert at.total is not None
    assert at.covariance.own is not None
    count = method.counted(time).astype(at.mean.dtype)
    covariance = at.covariance.own.map(
        lambda own, cross, turned, now: (own + cross + turned + now) / count**2,
        at.covariance.cross[0],
        turn(at.covariance.cross[0]),
        at.covariance.parts[0],
    )
    return (at.total + at.mean[:, 0]) / count, covariance


def turn(matrix: Block) -> Block:
    return Block(matrix.full.T, matrix.diagonal)


def own_curvature(data: Arrays, V: Block) -> Block:
    """H V H: what the noise of a mean of rows lacks against the mean of their squares."""
    return V.map(lambda v, hh: v * hh, block.pairs(jnp.multiply, len(V.full), data.h))


def sources(data: Arrays, setting: Setting, at: State) -> Kicks:
    V = at.covariance.parts[0]
    spread = sgd_moments.noise(data, sgd_moments.Moments(at.mean[:, 0], V))
    return Kicks(spread.map(lambda a, b: setting.noise * (a - b), own_curvature(data, V)))


def mean_modes(data: Arrays, setting: Setting, optimiser: Optimiser, eta) -> Modes:
    return optimiser.modes(eta, data.h + setting.ridge)


def propagate(data: Arrays, setting: Setting, method: Method, time, d, at: State, source: Kicks, slope: Kicks) -> State:
    eta = setting.over(time, d, data.h.dtype)[0]
    by = advance(mean_modes(data, setting, method.optimiser, eta), d)
    by = jax.tree.map(lambda x: x.astype(data.h.dtype), by)
    gradient = -data.correlation[:, None]
    summing = None if method.begin is None else time >= method.begin
    mean, total = move(by, at.mean, at.total, gradient, jnp.zeros_like(gradient), summing)
    covariance = linear_covariance.advance(
        method.optimiser, eta, data.h + setting.ridge, d, at.covariance, source, slope
    )
    return State(mean, total, keep_unless(summing, covariance, at.covariance))


def run(data: Arrays, setting: Setting, method: Method, stops, measure, rtol):
    """What `measure(mean, covariance)` gives at each stop, among them `method.begin` if the run is longer."""

    def distance(predicted: State, corrected: State, _):
        V = corrected.covariance.parts[0]
        change = V.map(jnp.subtract, predicted.covariance.parts[0])
        train, test = losses(data, corrected.mean[:, 0], V)
        moved = jnp.abs(data.h @ change.diag()) / (2 * train)
        return jnp.maximum(moved, jnp.abs(block.trace_product(change, data.test_curvature)) / (2 * test))

    return march(
        initial(data, method),
        stops=stops,
        restarts=jnp.zeros(len(stops), bool),
        sources=lambda time, at: sources(data, setting, at),
        propagate=partial(propagate, data, setting, method),
        distance=distance,
        measure=lambda time, at, _: measure(*averaged(method, time, at)),
        restart=lambda at, _: at,
        limit=setting.steps.limit,
        rtol=rtol,
    )
