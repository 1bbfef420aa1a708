"""The whole forecast of SGD on given rows: losses, band and error over the steps of a record."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_positive
from ..errors import InputError
from . import sgd_moments, shuffled_sgd
from .fluctuations import observe
from .problem_arrays import Setting, prepare
from .spectrum import Spectrum, check_setting
from .step_sizes import StepSizes

SAMPLING = ("epochs", "with-replacement", "without-replacement")
LARGE = 5e8  # n p^2 above which the matrices are float32 (< 0.01 % of the losses)


def least_squares_sgd(
    spectrum: Spectrum,
    *,
    batch: float,
    step_size: ArrayLike | Callable[[int], float],
    record: xr.DataArray,
    sampling: str = "epochs",
    ridge: float = 0.0,
    covariance: str = "auto",
    rows: int | None = None,
    rtol: float = 1e-3,
    seed: int = 0,
) -> xr.Dataset:
    """Expected losses of SGD on least squares, started at 0, with their spread between runs.

    Memory: n p for the rows, about 12 p^2 for the covariance, and for shuffled epochs 3 n p K (rows in place of n).

    Args:
      spectrum: the data, see `Spectrum.of`.
      batch: rows per step, in [1, n]; real numbers are understood (a mutation needs them).
      step_size: number, array (one value a step) or function of the step; units of 1/feature^2.
      record: increasing whole steps at which to report, with their axis.
      sampling: "epochs" (shuffled, left-over rows dropped: the cavity closure), "with-replacement" (exact second
        moments) or "without-replacement" (a fresh batch of distinct rows each step).
      ridge: penalty ridge/2 |theta|^2, trained against, not part of the losses.
      covariance: "full", "diagonal", "block:K" (full on the K leading directions), or "auto": full up to 2 000.
      rows: how many training rows stand for all of them in the noise (a weighted sample with control variates).
      rtol: tolerance of the integrator, in units of the losses, per interval (its sum stays below 0.1 %).
      seed: of the sample of rows.
    Returns: Dataset on the record's axis: train_loss, test_loss (squared error / 2, summed over outputs), *_sd between
      runs, *_stderr (numerical error of the solver), *_tolerance (relative error of the closure), test_error if K >= 2.
    Raises: InputError for values out of range.
    Source: exact second moments of SGD through the leverages of the rows; for epochs a leave-one-out closure. Both
      checked against simulation in docs/forecast-errors.md.
    """
    check_setting(spectrum, batch=batch, ridge=ridge)
    if sampling not in SAMPLING:
        raise InputError(f"sampling={sampling!r} is unknown", do=f"use one of {', '.join(SAMPLING)}")
    steps = np.asarray(record.values)
    if steps.ndim != 1 or not len(steps) or not np.issubdtype(steps.dtype, np.integer) or steps[0] < 0 or np.any(np.diff(steps) < 0):
        raise InputError("record must hold whole steps >= 0 in increasing order")
    p = len(spectrum.eigenvalues)
    k = leading(covariance, p)
    dtype = jnp.float32 if min(rows or spectrum.n, spectrum.n) * k * k > LARGE else jnp.float64
    with jax.enable_x64(True):
        data = prepare(spectrum, k=k, dtype=dtype, rows=rows, seed=seed)
        noise = 1 / batch
        if sampling == "without-replacement":
            noise *= (spectrum.n - batch) / max(spectrum.n - 1, 1)
        setting = Setting(
            StepSizes.of(step_size, int(steps[-1])), jnp.asarray(noise, dtype), jnp.asarray(ridge, dtype)
        )
        epoch = max(int(spectrum.n // batch), 1) if sampling == "epochs" else None
        stops, ends = stops_of(steps, epoch)
        solve = _epochs if epoch else _independent
        args = (data, setting, jnp.asarray(epoch or 0, jnp.int64), jnp.asarray(stops), jnp.asarray(ends))
        seen = solve(*args, jnp.asarray(as_positive(rtol, "rtol")))
    at = np.searchsorted(stops, steps)
    variables = {name: np.asarray(value, float)[at] for name, value in seen._asdict().items()}
    return describe(variables, spectrum, record, dict(sampling=sampling, covariance=covariance))


def leading(covariance: str, p: int) -> int:
    """How many directions keep their full covariance."""
    if covariance == "auto":
        return p if p <= 2000 else 500
    if covariance == "full":
        return p
    if covariance == "diagonal":
        return 0
    if covariance.startswith("block:") and covariance[6:].isdecimal():
        return min(int(covariance[6:]), p)
    raise InputError(f"covariance={covariance!r} is unknown", do="use auto, full, diagonal or block:K")


def stops_of(steps: np.ndarray, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Where the march stops: the record, and the end of each epoch before the last record (there an epoch restarts)."""
    ends = np.arange(epoch, steps[-1] + 1, epoch) if epoch else np.empty(0, np.int64)
    stops = np.union1d(steps, ends).astype(np.int64)
    return stops, np.isin(stops, ends)


@partial(jax.jit, static_argnames=())
def _independent(data, setting, epoch, stops, ends, rtol):
    return sgd_moments.run(data, setting, stops, partial(observe, data), rtol)


@jax.jit
def _epochs(data, setting, epoch, stops, ends, rtol):
    return shuffled_sgd.run(data, setting, epoch, stops, ends, partial(observe, data), rtol)


def describe(variables: Mapping[str, np.ndarray], spectrum: Spectrum, record: xr.DataArray, attrs: dict) -> xr.Dataset:
    held_out = spectrum.test_rows is not None
    keep = {
        name: (record.dims, value)
        for name, value in variables.items()
        if (held_out or not name.startswith("test")) and (name != "test_error" or spectrum.outputs > 1)
    }
    return xr.Dataset(keep, coords=dict(record.coords) or {record.dims[0]: record.values}, attrs=attrs)
