"""The compiled core of the lab: beginning, one block of steps, and how long a block is.

The compiled functions stand at module level: a closure made inside `simulate` would compile anew at each call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .keys import DATA, INITIAL, STEPS, seed_keys

DRAW_BYTES = 2**21  # of random draws in a block: shorter blocks pay for calls, longer ones leave the cache
WORK_BYTES = 2**32  # of states read in a block: bounds the time until progress is shown and Ctrl-C is heard


@dataclass(frozen=True)
class Layout:
    """Which axes a run has; hashable, since the compiled functions are chosen by it."""

    axes: tuple[int | None, ...]
    """For each leaf of (problem, dynamics): 0 if it is swept, else None."""
    swept: bool
    n: int | None
    """Samples that each seed draws, or None if the data are shared."""
    data_by_point: bool
    """Whether data are drawn for each point too, because the problem is swept."""

    def each_lane(self, function: Callable, values: list, table: Any, keys: jax.Array, *rest: Any) -> Any:
        """`function(values, table, key, *rest)` for every seed, and every point if there are any."""
        own = self.n is not None
        by_seed = jax.vmap(function, in_axes=(None, 0 if own else None, 0, *(0 for _ in rest)))
        if not self.swept:
            return by_seed(values, table, keys, *rest)
        axes = (list(self.axes), 0 if own and self.data_by_point else None, None, *(0 for _ in rest))
        return jax.vmap(by_seed, in_axes=axes)(values, table, keys, *rest)


def split(pair: Any) -> tuple[list, Callable[[list], Any]]:
    """The array leaves of a pytree, and what puts them back."""
    arrays, static = eqx.partition(pair, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    return leaves, lambda values: eqx.combine(jax.tree.unflatten(structure, values), static)


@eqx.filter_jit
def begin(pair: Any, given: Any, keys: jax.Array, layout: Layout) -> tuple[Any, Any]:
    """The data (given, or drawn) and the states at the start."""
    values, join = split(pair)
    table = given
    if layout.n is not None:
        sample = lambda values, key: join(values)[0].sample(jax.random.fold_in(key, DATA), layout.n)
        by_seed = jax.vmap(sample, in_axes=(None, 0))
        by_point = jax.vmap(by_seed, in_axes=(list(layout.axes), None))
        table = by_point(values, keys) if layout.data_by_point else by_seed(values, keys)

    def state(values, table, key):
        problem, dynamics = join(values)
        return dynamics.init(problem.objective(table), problem.initial(jax.random.fold_in(key, INITIAL)))

    states = layout.each_lane(state, values, table, keys)
    return table, jax.tree.map(jnp.array, states)  # copies, for a state that is an input could not be donated


class Span(NamedTuple):
    """Steps start .. stop - 1 of a block; the first `records` of `targets` are recorded, and all others are `stop`."""

    start: jax.Array
    stop: jax.Array
    records: jax.Array
    targets: jax.Array


@eqx.filter_jit(donate="all-except-first")
def advance(fixed: tuple[Any, Any, jax.Array, Span], states: Any, layout: Layout, length: int) -> tuple:
    """One block: the new states, the observables and the counts at its records, and its gradient evaluations.

    All randomness of the block is drawn at once; then the steps run from one record to the next. `t` and the record
    are shared by all lanes, so that a condition on them stays a condition under vmap.
    """
    pair, table, keys, span = fixed
    values, join = split(pair)

    def lane(values, table, key, state):
        problem, dynamics = join(values)
        objective = problem.objective(table)
        key = jax.random.fold_in(key, STEPS)
        shape = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), dynamics.params(state))
        draw = lambda t: dynamics.draw(jax.random.fold_in(key, t), objective, shape)
        draws = jax.vmap(draw)(span.start + jnp.arange(length, dtype=jnp.int32))

        def step(t, carry):
            state, spent = carry
            state, more = dynamics.step(objective, state, jax.tree.map(lambda d: d[t - span.start], draws), t)
            return state, spent + more

        def measure(state):
            seen = problem.measure(objective, dynamics.params(state))
            return {**seen, **dynamics.measure(objective, state)}

        nothing = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), jax.eval_shape(measure, state))

        def visit(j, carry):
            t, state, spent, seen, counts = carry
            state, spent = jax.lax.fori_loop(t, span.targets[j], step, (state, spent))
            now = jax.lax.cond(j < span.records, lambda: measure(state), lambda: nothing)
            seen = jax.tree.map(lambda buffer, v: buffer.at[j].set(v), seen, now)
            return span.targets[j], state, spent, seen, counts.at[j].set(spent)

        slots = len(span.targets)
        seen = jax.tree.map(lambda v: jnp.zeros((slots, *v.shape), v.dtype), nothing)
        counts = jnp.zeros(slots, jnp.int32)
        carry = (span.start, state, jnp.zeros((), jnp.int32), seen, counts)
        _, state, spent, seen, counts = jax.lax.fori_loop(0, span.records + 1, visit, carry)
        return state, seen, counts, spent

    return layout.each_lane(lane, values, table, keys, states)


@eqx.filter_jit
def trial_block(function: Callable, keys: jax.Array, arguments: dict[str, Any]) -> Any:
    """A function for each of some keys."""
    return jax.vmap(lambda key: function(key, **arguments))(keys)


class Shapes(NamedTuple):
    """What one lane holds, by shape only."""

    objective: Any
    draw_bytes: int
    state_bytes: int


def shapes(problem: Any, dynamics: Any, given: Any, n: int | None) -> Shapes:
    """The objective as shapes, and the bytes of one step's draw and of the state."""
    key = jax.eval_shape(lambda: seed_keys(0, 1)[0])

    def one(pair, given, key):
        problem, _ = pair
        objective = problem.objective(given if n is None else problem.sample(key, n))
        return objective, problem.initial(key)

    objective, params = eqx.filter_eval_shape(one, (problem, dynamics), given, key)
    if hasattr(dynamics, "check"):
        dynamics.check(objective)
    state = eqx.filter_eval_shape(lambda d, o, p: d.init(o, p), dynamics, objective, params)
    draw = eqx.filter_eval_shape(lambda d, o, k: d.draw(k, o, params), dynamics, objective, key)
    return Shapes(objective, _bytes(draw), _bytes(state))


class Plan(NamedTuple):
    """Blocks (start, stop, first record, last record + 1), their length, and the most records in one of them."""

    blocks: list[tuple[int, int, int, int]]
    length: int
    records: int
    horizon: int


def plan(steps: np.ndarray, shapes: Shapes, *, lanes: int, length: int | None) -> Plan:
    """Cut a run into blocks; a record at the end of a block belongs to it, and step 0 to the first."""
    horizon = int(steps[-1])
    if length is None:
        longest = min(DRAW_BYTES // (lanes * shapes.draw_bytes + 1), WORK_BYTES // (lanes * shapes.state_bytes + 1))
        count = -(-horizon // max(longest, 1))
        length = _rounded(-(-horizon // max(count, 1)))
    starts = range(0, max(horizon, 1), length)
    blocks = []
    for start in starts:
        stop = min(start + length, horizon)
        first = 0 if start == 0 else int(np.searchsorted(steps, start, side="right"))
        blocks.append((start, stop, first, int(np.searchsorted(steps, stop, side="right"))))
    return Plan(blocks, length, max(last - first for _, _, first, last in blocks), horizon)


def span(block: tuple[int, int, int, int], steps: np.ndarray, slots: int) -> Span:
    """A block of a plan as the values that `advance` takes; one slot more than records, for the way to the end."""
    start, stop, first, last = block
    targets = np.full(slots + 1, stop, np.int32)
    targets[: last - first] = steps[first:last]
    return Span(*(jnp.asarray(v, jnp.int32) for v in (start, stop, last - first, targets)))


def _rounded(length: int) -> int:
    """Upwards to three binary digits: few different lengths, so few compilations, and at most 1/4 drawn in vain."""
    unit = 1 << max(length.bit_length() - 3, 0)
    return max(-(-length // unit) * unit, 1)


def _bytes(tree: Any) -> int:
    # A key counts as the two words that it holds.
    sizes = (leaf.size * (8 if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize)
             for leaf in jax.tree.leaves(tree))  # fmt: skip
    return int(sum(sizes))
