"""Covariances of pairs of eigendirections under a linear optimiser, many steps at a time, and of sums of iterates.

One step is C_ab <- M_a C_ab M_b^T + Q_ab with Q the covariance of the kicks. The part of Q that depends on C_ab itself
(-H V H / B) counts among the slowly changing sources: with it, each pair would need powers of its own 4 x 4 matrix (by
repeated squaring over a hundred times dearer at 300 directions); without it they are products of powers of single
directions. The march controls what this costs in accuracy, as it does for the residuals of the rows; one step at a time
it costs nothing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .block import Block
from .linear_optimiser import Optimiser, below, reciprocal, sums

# Sums over sums are quotients by the decay of an interval: they lose digits below this decay, and it takes its place.
LEAST_DECAY = 1e-4


class Covariance(NamedTuple):
    """parts: blocks (0,0), (0,1), (1,1) of the state's covariance, or (0,0) alone; if the iterates are summed up,
    cross: covariance of the sum (first index) with each part of the state, own: covariance of the sum."""

    parts: tuple[Block, ...]
    cross: tuple[Block, ...] = ()
    own: Block | None = None


class Kicks(NamedTuple):
    """Sources of covariance in one step: noise of the gradient (already divided by the batch), and for shuffled epochs
    what correlates each part of the state (first index) with the gradient; last of them the sum of iterates, if any."""

    noise: Block
    correlated: tuple[Block, ...] = ()


def advance(
    optimiser: Optimiser, eta: jax.Array, damped: jax.Array, d: jax.Array, at: Covariance, source: Kicks, slope: Kicks
) -> Covariance:
    """d steps with the sources linear in time; `at.own` None: the iterates are not summed up."""
    modes = optimiser.modes(eta, damped)
    lost = modes.lost(d)
    k = len(source.noise.full)
    side = (modes, lost)

    def pick(part: str):
        one = lambda block: getattr(block, part)
        return jax.tree.map(one, (at, source, slope), is_leaf=lambda x: isinstance(x, Block))

    left = jax.tree.map(lambda v: v[:k, None], side)
    right = jax.tree.map(lambda v: v[None, :k], side)
    full = _entries(optimiser, eta, jnp.transpose, left, right, d, *pick("full"))
    tail = jax.tree.map(lambda v: v[k:], side)
    diagonal = _entries(optimiser, eta, lambda x: x, tail, tail, d, *pick("diagonal"))
    dtype = source.noise.full.dtype
    return jax.tree.map(lambda a, b: Block(a.astype(dtype), b.astype(dtype)), full, diagonal)


def _entries(optimiser: Optimiser, eta, transpose, left, right, d, at, source, slope) -> Covariance:
    """The same for arrays of entries, `left` and `right` the modes of their two indices."""
    (a, lost_a), (b, lost_b) = left, right
    size = optimiser.size
    every = range(size)
    parts = _square(at.parts, size, transpose)

    def kicks(given: Kicks) -> list[list]:
        """Coefficients of pairs of eigenvectors in the covariance of one step's kicks."""
        ahead = optimiser.coast(eta, list(given.correlated[:size])) if given.correlated else None

        def one(s, t):
            total = a.kicked[s] * b.kicked[t] * given.noise
            if ahead is not None:
                total += sum(a.reads[s][u] * ahead[u] for u in every) * b.kicked[t]
                total += sum(b.reads[t][u] * transpose(ahead[u]) for u in every) * a.kicked[s]
            return total

        return [[one(s, t) for t in every] for s in every]

    start = [[sum(a.reads[s][u] * b.reads[t][v] * parts[u][v] for u in every for v in every) for t in every]
             for s in every]  # fmt: skip
    fresh, drift = kicks(source), kicks(slope)
    both = lambda x, y: x + y - x * y  # what two decays lose together
    pairs = [[sums(both(a.loss[s], b.loss[t]), both(lost_a[s], lost_b[t]), d) for t in every] for s in every]

    def end(s, t):
        kept = 1 - both(lost_a[s], lost_b[t])
        return kept * start[s][t] + pairs[s][t].first * fresh[s][t] + pairs[s][t].second * drift[s][t]

    ends = [[end(s, t) for t in every] for s in every]
    wanted = [(u, v) for u in every for v in every if u <= v]
    table = lambda u, v: sum(a.writes[s][u] * b.writes[t][v] * ends[s][t] for s in every for t in every).real
    new: Any = tuple(table(u, v) for u, v in wanted)  # arrays of entries in place of blocks
    if at.own is None:
        return Covariance(new)
    return Covariance(new, *_sums(transpose, left, right, d, at, start, fresh, drift, source, slope))


def _square(parts, size: int, transpose):
    """The blocks of a symmetric matrix by row and column, from those on and above the diagonal."""
    if size == 1:
        return [[parts[0]]]
    return [[parts[0], parts[1]], [transpose(parts[1]), parts[2]]]


def _sums(transpose, left, right, d, at, start, fresh, drift, source, slope) -> tuple[Any, Any]:
    """cross and own of the sum of iterates after d steps.

    An eigenvector kicked k steps ago has given A(k) = 1 + lambda + ... + lambda^(k - 1) to the sum and is lambda^k now.
    """
    (a, lost_a), (b, lost_b) = left, right
    every = range(len(a.loss))
    real = d.astype(jnp.float64)
    least = LEAST_DECAY / real

    def slowed(loss, lost):
        """Decays not below LEAST_DECAY an interval, with their sums."""
        tiny = below(loss, least)
        loss, lost = jnp.where(tiny, least, loss), jnp.where(tiny, -jnp.expm1(real * jnp.log1p(-least)), lost)
        return loss, lost, sums(loss, lost, d)

    given_a = [sums(l, lost, d).first for l, lost in zip(a.loss, lost_a, strict=True)]
    single = [sums(l, lost, d) for l, lost in zip(b.loss, lost_b, strict=True)]
    slow_a = [slowed(l, lost) for l, lost in zip(a.loss, lost_a, strict=True)]
    slow_b = [slowed(l, lost) for l, lost in zip(b.loss, lost_b, strict=True)]
    inverse_a, inverse_b = ([reciprocal(loss) for loss, *_ in slow] for slow in (slow_a, slow_b))
    cross = [sum(b.reads[t][u] * at.cross[u] for u in every) for t in every]
    one_way = sum(single[t].first * cross[t] for t in every)
    if source.correlated:
        kicked, drifted = source.correlated[-1], slope.correlated[-1]
        one_way += sum((single[t].second * kicked + single[t].third * drifted) * b.kicked[t] for t in every)
    own = at.own + one_way.real + transpose(one_way.real)
    ends = []
    for t in every:
        loss_t, lost_t, sums_t = slow_b[t]
        end = (1 - lost_b[t]) * (cross[t] + sum(given_a[s] * start[s][t] for s in every))
        if source.correlated:
            end += (single[t].first * kicked + single[t].second * drifted) * b.kicked[t]
        for s in every:
            loss_s, lost_s, sums_s = slow_a[s]
            pair = sums(loss_s + loss_t - loss_s * loss_t, lost_s + lost_t - lost_s * lost_t, d)
            end += (
                (sums_t.first - pair.first) * fresh[s][t] + (sums_t.second - pair.second) * drift[s][t]
            ) * inverse_a[s]
            level = real - sums_s.first - sums_t.first + pair.first
            trend = real * (real - 1) / 2 - sums_s.second - sums_t.second + pair.second
            given = (level * fresh[s][t] + trend * drift[s][t]) * (inverse_a[s] * inverse_b[t])
            own += (given + given_a[s] * single[t].first * start[s][t]).real
        ends.append(end)
    new = tuple(sum(b.writes[t][u] * ends[t] for t in every).real for u in every)
    return new, own
