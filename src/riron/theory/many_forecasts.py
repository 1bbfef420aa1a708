"""The forecasts of many settings at once: one compilation, the settings of a chunk side by side in every product.

Settings of similar length go together, since the march of a chunk lasts as long as its longest.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import as_positive
from . import sgd_moments, shuffled_sgd
from .fluctuations import Observables, observe
from .least_squares_forecast import COARSE, leading, noise_factor, precision, stated_errors, stops_of
from .problem_arrays import DRAWS, Arrays, Setting, prepare
from .spectral_memory import NODES
from .spectrum import Spectrum, check_setting
from .step_sizes import StepSizes

MATRICES = 14  # (k, k) matrices that one setting holds, and four times its contributions of rows
SIDE_BY_SIDE = 64  # settings at most where there is no accelerator: more gains nothing there
MEMORY = 2e9  # bytes


class Chunk(NamedTuple):
    """Settings side by side, along the first axis of every array: their marches and the steps of an epoch."""

    setting: Setting
    epoch: jax.Array
    stops: jax.Array
    restarts: jax.Array


def least_squares_many(
    spectrum: Spectrum,
    *,
    batches: Sequence[float],
    step_sizes: Sequence[float],
    records: Sequence[np.ndarray],
    sampling: str = "epochs",
    ridge: float = 0.0,
    covariance: str = "auto",
    rows: int | None = None,
    rtol: float = 3e-4,
    errors: bool = True,
    seed: int = 0,
    memory: float = MEMORY,
) -> dict[str, np.ndarray]:
    """What `least_squares_sgd` gives for each setting, stacked: arrays (settings, record, ...).

    Args:
      spectrum, sampling, ridge, covariance, rows, rtol, errors, seed: as for `least_squares_sgd`.
      batches, step_sizes: one number for each setting.
      records: for each setting the steps to report at, all of the same number.
      memory: bytes that the settings of one chunk may take together (on an accelerator its own memory counts).
    Raises: InputError for values out of range.
    """
    for batch, step_size in zip(batches, step_sizes, strict=True):
        check_setting(spectrum, batch=batch, ridge=ridge)
        as_positive(step_size, "step_size")
    k = leading(covariance, len(spectrum.eigenvalues))
    dtype = precision(spectrum, k, rows)
    noise = np.array([noise_factor(sampling, batch, spectrum.n) for batch in batches])
    shuffled = sampling == "epochs"
    epochs = np.array([max(int(spectrum.n // batch), 1) if shuffled else 0 for batch in batches])
    marches = [stops_of(record, epoch) for record, epoch in zip(records, epochs.tolist(), strict=True)]
    order = sorted(range(len(marches)), key=lambda s: (len(marches[s][0]), marches[s][0][-1], step_sizes[s]))
    forecasts: list[dict[str, np.ndarray]] = [{} for _ in order]
    with jax.enable_x64(True):
        data = prepare(spectrum, k=k, dtype=dtype, rows=rows, seed=seed)
        width = min(len(order), at_once(data, k, shuffled, memory))
        for start in range(0, len(order), width):
            chosen = order[start : start + width]
            lanes = np.array(chosen + chosen[-1:] * (width - len(chosen)))  # every chunk as wide: one compilation
            setting = Setting(
                StepSizes(jnp.asarray(np.asarray(step_sizes, float)[lanes])),
                jnp.asarray(noise[lanes], dtype),
                jnp.full(width, ridge, dtype),
            )
            chunk = Chunk(setting, jnp.asarray(epochs[lanes]), *_padded([marches[s] for s in lanes]))
            solutions = _solutions(data, chunk, shuffled, rtol, errors)
            for lane, s in enumerate(chosen):
                at = np.searchsorted(marches[s][0], records[s])
                first, *others = (
                    {name: np.asarray(value[lane], float)[at] for name, value in solution._asdict().items()}
                    for solution in solutions
                )
                forecasts[s] = first | (stated_errors(first, *others) if others else {})
    return {name: np.stack([one[name] for one in forecasts]) for name in forecasts[0]}


def at_once(data: Arrays, k: int, shuffled: bool, memory: float) -> int:
    """How many settings fit side by side in this much memory, or in that of the accelerator."""
    outputs, size = data.targets.shape[1], data.h.dtype.itemsize
    need = MATRICES * size * (k * k + len(data.h) * outputs) + 4 * size * len(data.rows) * (k + outputs)
    if shuffled:
        need += 4 * 4 * len(data.rows) * NODES * outputs + 2 * size * data.rows.size
    device = jax.devices()[0]
    if device.platform == "cpu":
        return max(1, min(SIDE_BY_SIDE, int(memory / need)))
    free = (device.memory_stats() or {}).get("bytes_limit", memory)
    return max(1, int(0.6 * free / need))


def _padded(marches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[jax.Array, jax.Array]:
    """Stops and restarts of one length; a march waits at its last stop."""
    length = max(len(stops) for stops, _ in marches)
    stops = [np.append(stops, np.full(length - len(stops), stops[-1])) for stops, _ in marches]
    restarts = [np.append(again, np.zeros(length - len(again), bool)) for _, again in marches]
    return jnp.asarray(np.stack(stops)), jnp.asarray(np.stack(restarts))


def _solutions(data: Arrays, chunk: Chunk, shuffled: bool, rtol: float, errors: bool) -> list[Observables]:
    """The solution; and if errors are wanted, a coarser one, and for shuffled epochs one of first order."""
    coarse = data._replace(draws=0)  # the error rate is not asked of them
    accuracies = [(data._replace(draws=DRAWS), rtol, 1.0)]
    if errors:
        accuracies.append((coarse, COARSE * rtol, 1.0))
    if errors and shuffled:
        accuracies.append((coarse, COARSE * rtol, 0.0))
    return [
        _solve_chunk(arrays, chunk, tolerance, jnp.asarray(second_order, data.h.dtype), shuffled=shuffled)
        for arrays, tolerance, second_order in accuracies
    ]


@partial(jax.jit, static_argnames="shuffled")
def _solve_chunk(data: Arrays, chunk: Chunk, rtol, second_order, shuffled: bool) -> Observables:
    def one(setting, epoch, stops, restarts):
        measure = partial(observe, data)
        if shuffled:
            return shuffled_sgd.run(data, setting, epoch, stops, restarts, measure, rtol, second_order)
        return sgd_moments.run(data, setting, stops, measure, rtol)

    return jax.vmap(one)(*chunk)
