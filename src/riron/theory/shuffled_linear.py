"""Linear optimisers (momentum, Nesterov) in shuffled epochs, and averages of iterates: the cavity closure of
`shuffled_sgd` for a state (parameter, velocity), with the sum of the iterates as one more part.

What row i has given so far in the epoch, D_i, is then a pair (parameter, velocity) in each direction: its kick enters
both and travels through M. At an epoch's end every row has been seen once: the spread of the D_i leaves the covariance
of the whole state, and D_i starts again from 0. What the rows gave to the velocity lives on in its mean and covariance;
it needs no memory by rows, because the next permutation is drawn without looking at the state.

The order of the terms follows one exact step, x <- M_0 x + b g with M_0 = M at h = 0: a row's own contribution to the
state coasts by M_0 while its next kick arrives.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import block, linear_covariance, linear_moments
from .block import Block
from .linear_covariance import Covariance, Kicks
from .linear_moments import Method, State, averaged, own_curvature
from .linear_optimiser import advance
from .marching import march
from .problem_arrays import Arrays, Setting, losses
from .spectral_memory import Memory, memory_of


class Epoch(NamedTuple):
    """State as with replacement, the rows' own share yet to be taken from its covariance; given (s, Q, parts, K): what
    each row has taken from each part of the state (minus its contribution) at nodes of curvature; summed (s, Q, K):
    the same for the sum of the iterates, or None."""

    state: State
    given: jax.Array
    summed: jax.Array | None


class Averages(NamedTuple):
    """amplitude (s, K), pull (p, K), as in `shuffled_sgd`; kicks: sources of covariance; visited: spread of what the
    rows gave to the parameter."""

    amplitude: jax.Array
    pull: jax.Array
    kicks: Kicks
    visited: Block


def initial(data: Arrays, memory: Memory, method: Method) -> Epoch:
    rows, outputs = data.targets.shape
    # The contributions are a correction of relative size 1/n: float32 is plenty.
    given = jnp.zeros((rows, len(memory.nodes), method.optimiser.size, outputs), jnp.float32)
    return Epoch(linear_moments.initial(data, method), given, None if method.begin is None else given[:, :, 0])


def averages(
    data: Arrays, setting: Setting, memory: Memory, method: Method, steps_per_epoch, second_order, time, at: Epoch
) -> Averages:
    """The slow averages; `second_order` 0 leaves out what is of second order in a row's own contribution."""
    rows, weights = data.rows, data.weights
    mean, own_part = at.state.mean[:, 0], at.given[:, :, 0]
    total = at.state.covariance.parts[0]
    k = len(total.full)
    # Just before an epoch ends all of it is done (1), not none (0); where it begins D = 0 and nothing depends on it.
    done = (jnp.mod(time - 1, steps_per_epoch) + 1).astype(rows.dtype) / steps_per_epoch.astype(rows.dtype)

    own = memory.along_rows(own_part).astype(rows.dtype)
    mean_given = memory.mean(data, own_part)
    r = rows @ mean - data.targets
    # A row not yet visited finds the others visited a little more often than on average, n / (n - 1) times.
    left_out = (own - rows @ mean_given) * (data.n / jnp.maximum(data.n - 1, 1))
    R = r + left_out
    visited = memory.spread(data, own_part, mean_given, k)
    V = total.map(jnp.subtract, visited)
    wander = block.quadratic(rows, V)
    free = jnp.maximum(0, wander - second_order * jnp.sum(own**2, axis=1) * (1 / done - 1))
    F = jnp.sum(R**2, axis=1) + free
    mean_F = data.mean_square_residual(mean) + data.h @ V.diag() + weights @ (F - jnp.sum(r**2, axis=1) - wander)
    pull = rows.T @ (weights[:, None] * left_out)
    G = data.h[:, None] * mean - data.correlation + pull

    scatter = block.gram(rows, k, weights * (F - mean_F))
    noise = scatter.map(
        lambda a, b, c, v: setting.noise * (a + mean_F * b - c - v),
        data.curvature(k), block.gram(G.T, k), own_curvature(data, total),
    )  # fmt: skip

    def correlated(part):
        """Covariance of a part of the state with the gradient: the rows in it do not come again."""
        return block.gram(memory.in_direction(data, part, own), k, -second_order * weights / done, rows)

    kicks = [correlated(at.given[:, :, u]) for u in range(at.given.shape[2])]
    if at.summed is not None:
        kicks.append(correlated(at.summed + own_part))
    return Averages(R + second_order * own, pull, Kicks(noise, tuple(kicks)), visited)


def propagate(
    data: Arrays,
    setting: Setting,
    memory: Memory,
    method: Method,
    time,
    d,
    at: Epoch,
    source: Averages,
    slope: Averages,
) -> Epoch:
    """d steps inside one epoch with the averages linear in time."""
    eta = setting.over(time, d, data.h.dtype)[0]
    summing = None if method.begin is None else time >= method.begin
    optimiser = method.optimiser
    by = advance(optimiser.modes(eta, data.h + setting.ridge), d)
    by = jax.tree.map(lambda x: x.astype(data.h.dtype), by)
    mean, total = linear_moments.move(
        by, at.state.mean, at.state.total, (source.pull - data.correlation)[:, None], slope.pull[:, None], summing
    )
    # Minus a contribution: the kick of amplitude a, visited with chance 1/n a step, is b z a / n in the state.
    by = advance(optimiser.modes(eta, memory.nodes + setting.ridge), d)
    by = jax.tree.map(lambda x: x.astype(at.given.dtype), by)
    gradient, change = (
        (-x / data.n).astype(at.given.dtype)[:, None, None] for x in (source.amplitude, slope.amplitude)
    )
    given, summed = jax.vmap(partial(linear_moments.move, by), in_axes=(0, 0, 0, 0, None))(
        at.given, at.summed, gradient, change, summing
    )
    covariance = linear_covariance.advance(
        optimiser, eta, data.h + setting.ridge, d, at.state.covariance, source.kicks, slope.kicks
    )
    covariance = linear_moments.keep_unless(summing, covariance, at.state.covariance)
    return Epoch(State(mean, total, covariance), given, summed)


def settled(data: Arrays, memory: Memory, at: Epoch) -> State:
    """The state with the spread of the rows' contributions taken from all of its covariance."""
    covariance = at.state.covariance
    k = len(covariance.parts[0].full)
    give = [at.given[:, :, u] for u in range(at.given.shape[2])]
    spread = partial(memory.joint_spread, data, k=k)
    size = len(give)
    pairs = [(u, v) for u in range(size) for v in range(size) if u <= v]
    parts = tuple(
        part.map(jnp.subtract, spread(give[u], give[v])) for part, (u, v) in zip(covariance.parts, pairs, strict=True)
    )
    if at.summed is None or covariance.own is None:
        return at.state._replace(covariance=Covariance(parts))
    cross = tuple(c.map(jnp.subtract, spread(at.summed, one)) for c, one in zip(covariance.cross, give, strict=True))
    own = covariance.own.map(jnp.subtract, spread(at.summed, at.summed))
    return at.state._replace(covariance=Covariance(parts, cross, own))


def run(
    data: Arrays, setting: Setting, method: Method, steps_per_epoch, stops, epoch_ends, measure, rtol, second_order
):
    """What `measure(mean, covariance)` gives at each stop; `epoch_ends` marks the stops where a new epoch begins."""
    largest = setting.steps.largest().astype(data.h.dtype) * method.optimiser.stretch
    memory = memory_of(data, largest, steps_per_epoch)

    def distance(predicted: Epoch, corrected: Epoch, there: Averages):
        V, mean = corrected.state.covariance.parts[0], corrected.state.mean[:, 0]
        change = V.map(jnp.subtract, predicted.state.covariance.parts[0])
        drift = mean - predicted.state.mean[:, 0]
        train, test = losses(data, mean, V.map(jnp.subtract, there.visited))
        g = data.h[:, None] * mean - data.correlation
        moved = jnp.abs(data.h @ change.diag() / 2 + jnp.sum(g * drift)) / train
        residual = data.test_rows @ mean - data.test_targets
        shifted = jnp.mean(jnp.sum(residual * (data.test_rows @ drift), axis=1))
        return jnp.maximum(moved, jnp.abs(block.trace_product(change, data.test_curvature) / 2 + shifted) / test)

    def look(time, at: Epoch, _):
        return measure(*averaged(method, time, settled(data, memory, at)))

    def settle(at: Epoch, _) -> Epoch:
        return jax.tree.map(jnp.zeros_like, at)._replace(state=settled(data, memory, at))

    return march(
        initial(data, memory, method),
        stops=stops,
        restarts=epoch_ends,
        sources=partial(averages, data, setting, memory, method, steps_per_epoch, second_order),
        propagate=partial(propagate, data, setting, memory, method),
        distance=distance,
        measure=look,
        restart=settle,
        limit=setting.steps.limit,
        rtol=rtol,
    )
