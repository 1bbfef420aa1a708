"""simulate: dynamics on a problem, many seeds and swept points at once; trials: anything that maps a key to numbers.

The lab owns keys, time, blocks, counts, progress and interruption, and knows no problem and no dynamics.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_array
from ..errors import InputError
from . import blocks
from .keys import seed_keys
from .progress import Progress, Show
from .recording import Record, as_record
from .sweeping import Sweep


def simulate(
    problem: Any,
    dynamics: Any,
    *,
    record: ArrayLike | xr.DataArray,
    n: int | None = None,
    data: Any = None,
    seeds: int,
    seed: int = 0,
    sweep: Mapping[str, ArrayLike] | None = None,
    block: int | None = None,
    progress: Show = None,
) -> xr.Dataset:
    """Run dynamics on a problem from `seeds` independent seeds.

    Args:
      problem: offers sample, objective, initial and measure (see `riron.problems`).
      dynamics: offers init, draw, step, params and measure (see `riron.dynamics`).
      record: steps at which to measure, 0 being the start: a list, or an `xr.DataArray` of steps whose coordinates
        label the axis, such as `xr.DataArray(steps, {"epoch": epochs}, "epoch")`.
      n: draw a fresh sample of n for each seed. Seeds then differ in data, start and noise.
      data: one sample (X, y) that all seeds share; they differ in start and noise. With neither n nor data, the
        problem's own `data`, where it has one.
      seeds: number of seeds. A seed is the same run however many there are.
      seed: the root of all keys.
      sweep: values by path, `{"dynamics.step_size": [...]}`; several lists are zipped. Other values of the same shape
        need no compilation.
      block: steps in one compiled call; chosen from memory unless given. The numbers do not depend on it.
      progress: True for a bar, or a function of (done, total, label).

    Returns:
      Dataset with dims (point if swept, seed, axis of the record) and `gradient_evaluations` (per-sample gradients)
      beside the observables; attrs complete (0 if interrupted: what was not reached is NaN) and seconds.

    Raises:
      InputError: before anything is compiled; see the message. A diverging seed is data, not an error.
    """
    begun = time.monotonic()
    seeds, block = _whole(seeds, "seeds"), None if block is None else _whole(block, "block")
    horizon = getattr(dynamics, "horizon", None)
    axis = as_record(record, horizon)
    swept = Sweep(problem, dynamics, sweep)
    given = _given_data(problem, n, data)
    size = None if n is None else _whole(n, "n")
    shapes = blocks.shapes(problem, dynamics, given, size)

    keys = seed_keys(seed, seeds)
    layout = blocks.Layout(swept.axes, swept.points is not None, size, swept.touches_problem)
    lanes = (swept.points or 1, seeds)
    steps = axis.unique
    plan = blocks.plan(steps, shapes, lanes=lanes[0] * lanes[1], length=block)
    observed: dict[str, np.ndarray] = {}
    spent_at = np.zeros((*lanes, len(steps)), np.int64)
    spent = np.zeros(lanes, np.int64)
    reached = 0
    try:
        table, states = blocks.begin(swept.pair, given, keys, layout)
        with Progress(plan.horizon, "simulating", progress) as bar:
            for part in plan.blocks:
                start, stop, first, last = part
                fixed = (swept.pair, table, keys, blocks.span(part, steps, plan.records))
                states, values, counts, total = blocks.advance(fixed, states, layout, plan.length)
                for name, value in values.items():
                    block_values = np.asarray(value) if layout.swept else np.asarray(value)[None]
                    _keep(observed, name, block_values, slice(first, last), len(steps))
                spent_at[..., first:last] = (
                    spent[..., None] + np.asarray(counts).reshape(*lanes, -1)[..., : last - first]
                )
                spent += np.asarray(total).reshape(lanes)  # NumPy: JAX would add in 32 bits
                reached = last
                bar.advance(stop - start)
    except KeyboardInterrupt:
        if reached == 0:
            raise
    return _dataset(observed, spent_at, axis, swept, reached, getattr(problem, "dims", {}), time.monotonic() - begun)


def trials(
    function: Callable[..., Mapping[str, Any]],
    *,
    seeds: int,
    seed: int = 0,
    block: int | None = None,
    progress: Show = None,
    **arguments: Any,
) -> xr.Dataset:
    """Run `function(key, **arguments)` for independent keys.

    Args:
      function: traceable by JAX; returns numbers or arrays by name. Pass one and the same function again to compile
        nothing anew.
      seeds: number of keys; `seed` is their root.
      block: keys in one compiled call (their results, and what they need, lie in memory together); 32 unless given.
      progress: True for a bar, or a function of (done, total, label).
      arguments: floats and arrays are passed as values (other values need no compilation), whole numbers and the rest
        as they are (a whole number may be a shape; another one compiles anew).

    Returns: Dataset with dim `seed` first; attrs complete and seconds, as for `simulate`.
    """
    begun = time.monotonic()
    seeds = _whole(seeds, "seeds")
    width = min(seeds, 32 if block is None else _whole(block, "block"))
    keys = seed_keys(seed, seeds)
    values = {name: jnp.asarray(v) if _is_value(v) else v for name, v in arguments.items()}
    parts: list[dict[str, np.ndarray]] = []
    try:
        with Progress(seeds, "trials", progress) as bar:
            for start in range(0, seeds, width):
                chosen = np.minimum(np.arange(start, start + width), seeds - 1)
                result = blocks.trial_block(function, keys[chosen], values)
                parts.append({name: np.asarray(v)[: seeds - start] for name, v in result.items()})
                bar.advance(min(width, seeds - start))
    except KeyboardInterrupt:
        if not parts:
            raise
    done = sum(len(next(iter(part.values()))) for part in parts)
    variables = {}
    for name in parts[0]:
        joined = np.concatenate([part[name] for part in parts])
        if done < seeds:
            missing = np.full((seeds - done, *joined.shape[1:]), np.nan)
            joined = np.concatenate([joined.astype(float), missing])
        variables[name] = (("seed", *(f"{name}_{k}" for k in range(joined.ndim - 1))), joined)
    attrs = {"complete": int(done == seeds), "seconds": time.monotonic() - begun}
    return xr.Dataset(variables, {"seed": np.arange(seeds)}, attrs)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number >= 1")
    return int(value)


def _is_value(value: Any) -> bool:
    return isinstance(value, float | np.ndarray | np.floating)


def _given_data(problem: Any, n: int | None, data: Any) -> Any:
    """The shared data, finite and of matching lengths, as the default real type; None if each seed draws its own."""
    if n is not None and data is not None:
        raise InputError("both n and data are given", do="pass n for a fresh sample a seed, or data for a shared one")
    if n is not None:
        return None
    if data is None:
        data = getattr(problem, "data", None)
        if data is None:
            raise InputError(
                "neither n nor data is given", do="pass n for a fresh sample a seed, or data for a shared one"
            )
        return data
    if not isinstance(data, tuple) or len(data) != 2:
        raise InputError("data is not a pair (X, y)")
    arrays = [as_array(part, name, ndim=(1, 2)) for part, name in zip(data, ("X", "y"), strict=True)]
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(f"X has {len(arrays[0])} rows and y has {len(arrays[1])}", do="pass one target a row")
    return tuple(jax.device_put(array.astype(jnp.result_type(float))) for array in arrays)


def _keep(observed: dict[str, np.ndarray], name: str, block: np.ndarray, where: slice, records: int) -> None:
    """Write a block's records of one observable, (points, seeds, records, ...), into its place, NaN until then."""
    if name not in observed:
        shape = (*block.shape[:2], records, *block.shape[3:])
        observed[name] = np.full(shape, np.nan, np.result_type(block, np.float32))
    observed[name][:, :, where] = block[:, :, : where.stop - where.start]


def _dataset(observed, spent_at, axis: Record, swept: Sweep, reached: int, dims, seconds: float) -> xr.Dataset:
    complete = reached == len(axis.unique)
    if not complete:
        spent_at = np.where(np.arange(len(axis.unique)) < reached, spent_at, np.nan)
    lead = ("point", "seed", axis.dim) if swept.points is not None else ("seed", axis.dim)
    variables = {}
    for name, array in {**observed, "gradient_evaluations": spent_at}.items():
        extra = dims.get(name, tuple(f"{name}_{k}" for k in range(array.ndim - 3)))
        array = axis.expand(array, axis=2)
        variables[name] = ((*lead, *extra), array if swept.points is not None else array[0])
    coords = {"seed": np.arange(spent_at.shape[1]), **axis.coords, **swept.coords}
    return xr.Dataset(variables, coords, {"complete": int(complete), "seconds": seconds})
