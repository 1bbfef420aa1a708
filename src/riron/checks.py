"""Checks shared by all rooms: arrays that arrive from outside become float64, or one sentence says why not."""

import difflib
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError


def as_array(value: ArrayLike, name: str, *, ndim: tuple[int, ...]) -> np.ndarray:
    """A finite float64 array of one of the dimensions `ndim`; InputError names the first value that is not finite."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} is not an array of numbers", do="pass one as NumPy understands it") from None
    if array.ndim not in ndim:
        wanted = " or ".join(str(k) for k in ndim)
        raise InputError(f"{name} must have {wanted} dimensions and has {array.ndim} (shape {array.shape})")
    if array.size == 0:
        raise InputError(f"{name} is empty (shape {array.shape})")
    bad = ~np.isfinite(array)
    if bad.any():
        first = np.argwhere(bad)[0]
        place = f"row {first[0]}, column {first[1]}" if array.ndim == 2 else f"position {', '.join(map(str, first))}"
        count = int(bad.sum())
        verb = "1 value that is not finite; it" if count == 1 else f"{count} values that are not finite; the first"
        raise InputError(f"{name} holds {verb} is at {place}")
    return array


def as_matrix(value: ArrayLike, name: str) -> np.ndarray:
    """A finite (rows, columns) float64 matrix."""
    return as_array(value, name, ndim=(2,))


def as_vector(value: ArrayLike, name: str) -> np.ndarray:
    """A finite float64 vector."""
    return as_array(value, name, ndim=(1,))


def as_targets(value: ArrayLike, name: str, rows: int) -> np.ndarray:
    """Targets as (rows, K): a vector becomes one column."""
    array = as_array(value, name, ndim=(1, 2))
    if len(array) != rows:
        raise InputError(
            f"{name} has {len(array)} rows and its features have {rows}", do="pass one target for each row"
        )
    return array.reshape(rows, -1)


def as_positive(value: float, name: str, *, zero: bool = False) -> float:
    """A finite number > 0 (>= 0 with `zero`)."""
    number = float(value)
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise InputError(f"{name}={value} must be a finite number {'>= 0' if zero else '> 0'}")
    return number


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name closest to `name` (equal but for case first), or nothing."""
    known = list(known)
    same = [k for k in known if k.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""
