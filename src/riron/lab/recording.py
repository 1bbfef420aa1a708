"""The record: at which steps observables are measured, on a labelled axis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..errors import InputError


@dataclass(frozen=True)
class Record:
    """Steps to record (in order, repetitions allowed), the name of their axis and its coordinates."""

    steps: np.ndarray
    dim: str
    coords: dict[str, Any]

    @property
    def unique(self) -> np.ndarray:
        """The different steps; each is measured once."""
        return np.unique(self.steps)

    def expand(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Values at the unique steps, as values on the record's axis."""
        return np.take(values, np.searchsorted(self.unique, self.steps), axis=axis)


def as_record(record: ArrayLike | xr.DataArray, horizon: int | None = None) -> Record:
    """Check a record: whole numbers >= 0 in order, at most `horizon`. A plain array gets the dim `step`."""
    steps = np.asarray(record)
    if steps.ndim != 1 or steps.size == 0:
        raise InputError(
            f"record must be a list of steps and has shape {steps.shape}", do="pass for example [0, 10, 100]"
        )
    if not np.issubdtype(steps.dtype, np.number) or not (np.isfinite(steps) & (steps == np.round(steps))).all():
        raise InputError(
            "record must hold whole numbers of steps", do="round it, for example with np.round(...).astype(int)"
        )
    steps = steps.astype(np.int64)
    if steps[0] < 0 or (steps < 0).any():
        raise InputError(f"record holds the negative step {steps.min()}", do="steps count from 0, the start")
    if (np.diff(steps) < 0).any():
        place = int(np.argmax(np.diff(steps) < 0))
        raise InputError(f"record is not sorted: step {steps[place]} stands before {steps[place + 1]}", do="sort it")
    if steps[-1] >= 2**31:
        raise InputError(f"record asks for step {steps[-1]}, beyond the limit of 2^31 - 1")
    if horizon is not None and steps[-1] > horizon:
        raise InputError(
            f"record asks for step {steps[-1]} and the schedule ends after {horizon}", do="lengthen the schedule"
        )
    if isinstance(record, xr.DataArray):
        dim = str(record.dims[0])
        coords: dict[str, Any] = {
            str(name): (c.dims, c.values) for name, c in record.coords.items() if c.dims in ((), (dim,))
        }
        return Record(steps, dim, {**coords, **({} if "step" in coords else {"step": (dim, steps)})})
    return Record(steps, "step", {"step": ("step", steps)})
