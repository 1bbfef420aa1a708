"""The training curve of SGD on your own rows, before you train."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..errors import InputError
from ..lab import memory
from ..theory.fluctuations import LEVELS
from ..theory.least_squares_forecast import SAMPLING, covariance_name, leading, least_squares_sgd
from ..theory.many_forecasts import least_squares_many
from ..theory.spectrum import Spectrum

Shuffle = Literal["epochs", "with-replacement"]
POINTS = 48


def sgd(
    X: ArrayLike,
    y: ArrayLike,
    *,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    batch: float,
    step_size: ArrayLike | Callable[[int], float],
    steps: int,
    shuffle: Shuffle = "epochs",
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    average_from: int | None = None,
    record: ArrayLike | xr.DataArray | None = None,
    covariance: str = "auto",
    rows: int | None = None,
) -> xr.Dataset:
    """Expected losses of SGD on least squares, from 0, for the matrix as given: no hidden scaling or intercept.

    Args:
      X: (n, p) features. y: (n,) or (n, K) targets (one-hot for classes).
      X_test, y_test: held-out rows.
      batch: rows per step, in [1, n].
      step_size: a number, an array of `steps` numbers, or a function of the step.
      steps: length of the run.
      shuffle: "epochs" (a new permutation each epoch, left-over rows dropped) or "with-replacement".
      ridge: penalty ridge/2 |theta|^2, trained against and not part of the losses.
      momentum: m in [0, 1) of v <- m v + g, theta <- theta - step_size v (PyTorch's convention).
      nesterov: step along g + m v in place of v.
      average_from: step T0 from which the losses are those of the average of the iterates T0 to t.
      record: steps to report at (default: up to 48 spread logarithmically, with the start and the end).
      covariance, rows: cheaper closures for large tables, see `riron.theory.least_squares_forecast.least_squares_sgd`.
    Returns: Dataset over `step`: train_loss, test_loss (squared error / 2, summed over outputs), `*_sd` between runs,
      `*_quantile` (of single runs, trusted up to half of the stability edge), `*_stderr` (numerical error),
      `*_tolerance` (relative error of the closure), test_error (share, for K >= 2); attrs name the closure.
    Raises: InputError if data or setting make no sense. A step above the edge is forecast to diverge, not refused.
    Source: exact second moments of SGD, and a leave-one-out closure for shuffled epochs; see
      docs/how-the-forecast-works.md.
    """
    if average_from is not None and average_from >= steps:
        raise InputError(
            f"average_from={average_from} is not a step of the run, which ends at {steps}", do="average from earlier on"
        )
    spectrum = Spectrum.of(X, y, X_test, y_test)
    return least_squares_sgd(
        spectrum,
        batch=batch,
        step_size=step_size,
        record=as_record(record, steps),
        sampling=shuffle,
        ridge=ridge,
        momentum=momentum,
        nesterov=nesterov,
        average_from=average_from,
        covariance=covariance,
        rows=rows,
    )


def sgd_many(
    X: ArrayLike | Spectrum,
    y: ArrayLike | None = None,
    *,
    settings: Sequence[Mapping[str, float]],
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    steps: int,
    shuffle: Shuffle = "epochs",
    ridge: float = 0.0,
    record: ArrayLike | xr.DataArray | None = None,
    covariance: str = "auto",
    rows: int | None = None,
) -> xr.Dataset:
    """`sgd` for many settings, which share one eigendecomposition and one compilation and run side by side.

    Args: as for `sgd`; X may be a `Spectrum` already made (then y is None).
      settings: mappings with "batch" and "step_size" (a number), and "steps" where they differ: the record is then
        scaled to each setting's own length, so that its points are the same shares of the run.
    Returns: Dataset with dims (point, step); coordinates batch and step_size over `point`, and steps (point, step).
    """
    spectrum = X if isinstance(X, Spectrum) else Spectrum.of(X, _given(y), X_test, y_test)
    if shuffle not in SAMPLING:
        raise InputError(f"shuffle={shuffle!r} is unknown", do=f"use one of {', '.join(SAMPLING)}")
    if not settings:
        raise InputError("settings is empty", do="give at least one mapping with batch and step_size")
    base = as_record(record, steps)
    lengths = [int(setting.get("steps", steps)) for setting in settings]
    axes = [base.values if own == steps else np.round(base.values * (own / steps)).astype(int) for own in lengths]
    named = {name: np.asarray([s[name] for s in settings], float) for name in ("batch", "step_size")}
    seen = least_squares_many(
        spectrum,
        batches=named["batch"].tolist(),
        step_sizes=named["step_size"].tolist(),
        records=axes,
        sampling=shuffle,
        ridge=ridge,
        covariance=covariance,
        rows=rows,
        memory=memory.budget(),
    )
    held_out = spectrum.test_rows is not None
    dims = ("point", base.dims[0], "quantile")
    curves = {
        name: (dims[: value.ndim], value)
        for name, value in seen.items()
        if (held_out or not name.startswith("test")) and (name != "test_error" or spectrum.outputs > 1)
    }
    coords = {name: ("point", value) for name, value in named.items()}
    coords |= {"steps": (dims[:2], np.array(axes)), "quantile": list(LEVELS)}
    p = len(spectrum.eigenvalues)
    closure = {"covariance": covariance_name(leading(covariance, p), p), "rows": min(rows or spectrum.n, spectrum.n)}
    return xr.Dataset(curves, coords=coords, attrs={"sampling": shuffle, **closure})


def _given(y: ArrayLike | None) -> ArrayLike:
    if y is None:
        raise InputError("y is missing", do="pass the targets, or a Spectrum made from them")
    return y


def as_record(record: ArrayLike | xr.DataArray | None, steps: int) -> xr.DataArray:
    """Steps to report at, as a labelled array."""
    if int(steps) != steps or steps < 1:
        raise InputError(f"steps={steps} must be a whole number >= 1")
    if isinstance(record, xr.DataArray):
        return record
    if record is None:
        record = np.unique(np.round(np.geomspace(1, steps + 1, POINTS)).astype(int) - 1)
    values = np.asarray(record)
    if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.integer):
        raise InputError("record must be a list of whole steps")
    if values.min() < 0 or values.max() > steps:
        raise InputError(f"record reaches from {values.min()} to {values.max()}, outside [0, steps={steps}]")
    return xr.DataArray(values, {"step": values}, "step")
