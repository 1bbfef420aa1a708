"""What a cheaper closure leaves out, measured on the problem at hand: the same with half of everything."""

from collections.abc import Callable
from itertools import product

import numpy as np
import xarray as xr

from ..theory.least_squares_forecast import LOSSES

SAFETY = 2.0  # times the change: the two draws are few


def with_closure_error(
    line: xr.Dataset, forecast: Callable[..., xr.Dataset], covariance: str, rows: int | None, n: int
) -> xr.Dataset:
    """The curve with twice what half of its directions and rows change, so far in the run, added to its tolerance.

    Half of the directions loses more than all of them do. Half of the rows is a draw, which may by chance lie near the
    other: so two are drawn, and the larger change counts. Unchanged where nothing is left out.

    Args:
      line: forecast with this closure. forecast: (covariance, rows, seed) -> the same with another one.
      covariance, rows: as in `riron.forecast.sgd`; n: training rows.
    """
    less = cheaper(covariance, rows, n)
    if less is None:
        return line
    draws = [forecast(covariance=less[0], rows=less[1], seed=seed) for seed in ((1, 2) if less[1] else (1,))]
    missed = {name: np.zeros(line[name].size) for name in LOSSES}
    for name, coarse in product(LOSSES, draws):
        change = np.nan_to_num(np.abs(coarse[name].values / line[name].values - 1))
        missed[name] = np.maximum(missed[name], SAFETY * np.maximum.accumulate(change))
    zero = xr.zeros_like(line.train_loss)
    stated = {f"{name}_tolerance": line.get(f"{name}_tolerance", zero) + missed[name] for name in LOSSES}
    percent = 100 * max(each[-1] for each in missed.values())
    said = f"What is left out of the covariance and the rows can change the losses by {percent:.2g} % here."
    return line.assign(stated).assign_attrs(closure=said)


def cheaper(covariance: str, rows: int | None, n: int) -> tuple[str, int | None] | None:
    """Half of the directions, and half of the rows; None where nothing is left out."""
    block = covariance.startswith("block:")
    if not block and rows is None:
        return None
    halved = f"block:{max(1, int(covariance.partition(':')[2]) // 2)}" if block else covariance
    return halved, max(1, min(rows or n, n) // 2) if rows is not None else None
