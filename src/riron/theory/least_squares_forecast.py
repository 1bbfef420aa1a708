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
LOSSES = ("train_loss", "test_loss")
COARSE = 8.0  # a second solution at this multiple of rtol measures the error of the first,
LEFT_OUT = 1.5  # error of the shuffled closure, in units of the change that its last order makes
GAIN = 3.0  # which is that many times smaller than their difference (the error grows like rtol^(2/3))
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
    rtol: float = 3e-4,
    errors: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Expected losses of SGD on least squares, started at 0, with their spread between runs.

    Memory: n p for the rows, about 12 p^2 for the covariance, and for shuffled epochs 80 n K more (rows in place of n).

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
      rtol: largest relative difference of prediction and correction accepted in one interval of the integrator.
      errors: add *_stderr and *_tolerance, for about as much work again.
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
    if (
        steps.ndim != 1
        or not len(steps)
        or not np.issubdtype(steps.dtype, np.integer)
        or steps[0] < 0
        or np.any(np.diff(steps) < 0)
    ):
        raise InputError("record must hold whole steps >= 0 in increasing order")
    p = len(spectrum.eigenvalues)
    k = leading(covariance, p)
    dtype = jnp.float32 if min(rows or spectrum.n, spectrum.n) * k * k > LARGE else jnp.float64
    with jax.enable_x64(True):
        data = prepare(spectrum, k=k, dtype=dtype, rows=rows, seed=seed)
        noise = 1 / batch
        if sampling == "without-replacement":
            noise *= (spectrum.n - batch) / max(spectrum.n - 1, 1)
        setting = Setting(StepSizes.of(step_size, int(steps[-1])), jnp.asarray(noise, dtype), jnp.asarray(ridge, dtype))
        epoch = max(int(spectrum.n // batch), 1) if sampling == "epochs" else None
        stops, ends = stops_of(steps, epoch)
        arrays = (data, setting, jnp.asarray(epoch or 0, jnp.int64), jnp.asarray(stops), jnp.asarray(ends))
        at = np.searchsorted(stops, steps)

        def solve(tolerance: float, second_order: float = 1.0) -> dict[str, np.ndarray]:
            seen = _solve(*arrays, jnp.asarray(tolerance), jnp.asarray(second_order, dtype), epoch is not None)
            return {name: np.asarray(value, float)[at] for name, value in seen._asdict().items()}

        variables = solve(as_positive(rtol, "rtol"))
        if errors:
            coarse = solve(COARSE * rtol)
            with np.errstate(invalid="ignore"):  # a diverged loss is infinite in both, and so is its error
                variables |= {f"{name}_stderr": np.abs(coarse[name] - variables[name]) / GAIN for name in LOSSES}
            if epoch is not None:
                first = solve(COARSE * rtol, second_order=0.0)
                variables |= closure_tolerance(coarse, first)
    return _describe(variables, spectrum, record, {"sampling": sampling, "covariance": covariance})


def closure_tolerance(second: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Relative error of the shuffled closure, from what its last order changes so far in the run.

    The series is cut after the second order, so the change from first to second measures what is left out; the factor
    and the running maximum are set by docs/forecast-errors.md, where the error stays below this in nearly all cases.
    """

    def stated(name: str) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            change = np.abs(second[name] / first[name] - 1)
        return LEFT_OUT * np.maximum.accumulate(np.nan_to_num(change, nan=np.inf, posinf=np.inf))

    return {f"{name}_tolerance": stated(name) for name in LOSSES}


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
    """Where the march stops: the record, and the end of each epoch before the last record (there an epoch restarts).

    The last stop is repeated up to a multiple of 16, so that runs of similar length share a compilation.
    """
    ends = np.arange(epoch, steps[-1] + 1, epoch) if epoch else np.empty(0, np.int64)
    stops = np.union1d(steps, ends).astype(np.int64)
    padding = -len(stops) % 16
    restarts = np.append(np.isin(stops, ends), np.zeros(padding, bool))
    return np.append(stops, np.full(padding, stops[-1])), restarts


@partial(jax.jit, static_argnames="shuffled")
def _solve(data, setting, epoch, stops, ends, rtol, second_order, shuffled: bool):
    measure = partial(observe, data)
    if shuffled:
        return shuffled_sgd.run(data, setting, epoch, stops, ends, measure, rtol, second_order)
    return sgd_moments.run(data, setting, stops, measure, rtol)


def _describe(variables: Mapping[str, np.ndarray], spectrum: Spectrum, record: xr.DataArray, attrs: dict) -> xr.Dataset:
    held_out = spectrum.test_rows is not None
    keep = {
        name: (record.dims, value)
        for name, value in variables.items()
        if (held_out or not name.startswith("test")) and (name != "test_error" or spectrum.outputs > 1)
    }
    return xr.Dataset(keep, coords=dict(record.coords) or {record.dims[0]: record.values}, attrs=attrs)
