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
from . import block, linear_moments, sgd_moments, shuffled_linear, shuffled_sgd
from .fluctuations import LEVELS, observe
from .linear_moments import Method
from .linear_optimiser import optimiser_of
from .problem_arrays import DRAWS, Setting, prepare
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
    momentum: float = 0.0,
    nesterov: bool = False,
    average_from: int | None = None,
    covariance: str = "auto",
    rows: int | None = None,
    rtol: float = 3e-4,
    errors: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Expected losses of SGD on least squares, started at 0, with their spread between runs.

    Memory: n p for the rows, about 12 p^2 for the covariance (3 times that with momentum), and for shuffled epochs
    80 n K more (rows in place of n).

    Args:
      spectrum: the data, see `Spectrum.of`.
      batch: rows per step, in [1, n]; real numbers are understood (a mutation needs them).
      step_size: number, array (one value a step) or function of the step; units of 1/feature^2.
      record: increasing whole steps at which to report, with their axis.
      sampling: "epochs" (shuffled, left-over rows dropped: the cavity closure), "with-replacement" (exact second
        moments) or "without-replacement" (a fresh batch of distinct rows each step).
      ridge: penalty ridge/2 |theta|^2, trained against, not part of the losses.
      momentum: m in [0, 1) of v <- m v + g, theta <- theta - step_size v (PyTorch's convention).
      nesterov: step along g + m v in place of v.
      average_from: step T0 from which the losses are those of the average of the iterates T0 to t; before it, of the
        iterate.
      covariance: "full", "diagonal", "block:K" (full on the K leading directions), or "auto": full up to 2 000.
      rows: how many training rows stand for all of them in the noise (a weighted sample with control variates).
      rtol: largest relative difference of prediction and correction accepted in one interval of the integrator.
      errors: add *_stderr and *_tolerance, for about as much work again.
      seed: of the sample of rows.
    Returns: Dataset on the record's axis: train_loss, test_loss (squared error / 2, summed over outputs), *_sd between
      runs and *_quantile (dim `quantile`; trusted up to half of the stability edge, see `fluctuations`), *_stderr
      (numerical error of the solver), *_tolerance (relative error of the closure for shuffled epochs), test_error if
      K >= 2; attrs sampling, covariance (the closure used) and rows.
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
    optimiser = optimiser_of(momentum, nesterov)
    if average_from is not None and (int(average_from) != average_from or average_from < 0):
        raise InputError(f"average_from={average_from} must be a whole step >= 0")
    p = len(spectrum.eigenvalues)
    k = leading(covariance, p)
    dtype = precision(spectrum, k, rows)
    with jax.enable_x64(True):
        data = prepare(spectrum, k=k, dtype=dtype, rows=rows, seed=seed)
        noise = jnp.asarray(noise_factor(sampling, batch, spectrum.n), dtype)
        setting = Setting(StepSizes.of(step_size, int(steps[-1])), noise, jnp.asarray(ridge, dtype))
        epoch = max(int(spectrum.n // batch), 1) if sampling == "epochs" else None
        stops, ends = stops_of(steps, epoch, average_from)
        begin = None if average_from is None else jnp.asarray(average_from, jnp.int64)
        method = None if optimiser.size == 1 and begin is None else Method(optimiser, begin)
        arrays = (method, setting, jnp.asarray(epoch or 0, jnp.int64), jnp.asarray(stops), jnp.asarray(ends))
        at = np.searchsorted(stops, steps)

        def solve(tolerance: float, second_order: float = 1.0, draws: int = DRAWS) -> dict[str, np.ndarray]:
            accuracy = (jnp.asarray(tolerance), jnp.asarray(second_order, dtype))
            seen = _solve(data._replace(draws=draws), *arrays, *accuracy, epoch is not None)
            return {name: np.asarray(value, float)[at] for name, value in seen._asdict().items()}

        variables = solve(as_positive(rtol, "rtol"))
        if errors:
            others = [solve(COARSE * rtol, draws=0)]
            if epoch is not None:
                others.append(solve(COARSE * rtol, second_order=0.0, draws=0))
            variables |= stated_errors(variables, *others)
    attrs = {"sampling": sampling, "covariance": covariance_name(k, p), "rows": min(rows or spectrum.n, spectrum.n)}
    return _describe(variables, spectrum, record, attrs)


def stated_errors(
    variables: Mapping[str, np.ndarray], coarse: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """*_stderr from a solution COARSE times coarser; *_tolerance from one as coarse of the closure of first order."""
    with np.errstate(invalid="ignore"):  # a diverged loss is infinite in both, and so is its error
        numerical = {f"{name}_stderr": np.abs(coarse[name] - variables[name]) / GAIN for name in LOSSES}
    return numerical | (closure_tolerance(coarse, first) if first is not None else {})


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


def noise_factor(sampling: str, batch: float, n: int) -> float:
    """Variance of the mean of a batch over that of one row."""
    return 1 / batch * ((n - batch) / max(n - 1, 1) if sampling == "without-replacement" else 1)


def precision(spectrum: Spectrum, k: int, rows: int | None) -> np.dtype:
    """Of the matrices: single where they are LARGE."""
    return np.dtype(np.float32 if min(rows or spectrum.n, spectrum.n) * k * k > LARGE else np.float64)


def leading(covariance: str, p: int) -> int:
    """How many directions keep their full covariance."""
    return block.leading(covariance, p, auto=p if p <= 2000 else 500)


def covariance_name(k: int, p: int) -> str:
    """What `leading` was asked for, "auto" resolved."""
    return "full" if k == p else f"block:{k}" if k else "diagonal"


def stops_of(steps: np.ndarray, epoch: int | None, average_from: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where the march stops: the record, where averaging begins, and the end of each epoch before the last record
    (there an epoch restarts).

    The last stop is repeated up to a multiple of 16, so that runs of similar length share a compilation.
    """
    ends = np.arange(epoch, steps[-1] + 1, epoch) if epoch else np.empty(0, np.int64)
    stops = np.union1d(steps, ends).astype(np.int64)
    if average_from is not None and average_from < steps[-1]:
        stops = np.union1d(stops, [int(average_from)])
    padding = -len(stops) % 16
    restarts = np.append(np.isin(stops, ends), np.zeros(padding, bool))
    return np.append(stops, np.full(padding, stops[-1])), restarts


@partial(jax.jit, static_argnames="shuffled")
def _solve(data, method: Method | None, setting, epoch, stops, ends, rtol, second_order, shuffled: bool):
    measure = partial(observe, data)
    if method is not None:
        if shuffled:
            return shuffled_linear.run(data, setting, method, epoch, stops, ends, measure, rtol, second_order)
        return linear_moments.run(data, setting, method, stops, measure, rtol)
    if shuffled:
        return shuffled_sgd.run(data, setting, epoch, stops, ends, measure, rtol, second_order)
    return sgd_moments.run(data, setting, stops, measure, rtol)


def _describe(variables: Mapping[str, np.ndarray], spectrum: Spectrum, record: xr.DataArray, attrs: dict) -> xr.Dataset:
    held_out = spectrum.test_rows is not None
    keep = {
        name: ((*record.dims, "quantile")[: value.ndim], value)
        for name, value in variables.items()
        if (held_out or not name.startswith("test")) and (name != "test_error" or spectrum.outputs > 1)
    }
    coords = dict(record.coords) or {record.dims[0]: record.values}
    return xr.Dataset(keep, coords=coords | {"quantile": list(LEVELS)}, attrs=attrs)
