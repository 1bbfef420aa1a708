"""What is asked of a learning curve, checked: whole numbers, level, sizes, features as a matrix, labels as classes."""

from typing import Any

import numpy as np

from ...checks import as_matrix, as_vector
from ...errors import InputError


def whole_number(value: Any, name: str, least: int, do: str) -> int:
    """An integer >= least, or one sentence with what to do."""
    try:
        sound = int(value) == value and value >= least
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise InputError(f"{name}={value} must be a whole number >= {least}", do=do)
    return int(value)


def check_level(level: Any) -> None:
    """The level of intervals lies strictly between 0 and 1."""
    try:
        sound = 0 < level < 1
    except TypeError:
        sound = False
    if not sound:
        raise InputError(f"level={level} must lie between 0 and 1", do="0.9 asks for a 90 % interval")


def sizes_asked(sizes: Any, n: int) -> np.ndarray:
    """(S,) increasing numbers of rows >= n; by default n times 1, 1.4, 2, 2.8, 4."""
    if sizes is None:
        return np.round(n * 2 ** np.linspace(0, 2, 5)).astype(int)
    asked = as_vector(np.atleast_1d(sizes), "sizes")
    whole = np.round(asked).astype(int)
    if np.any(whole != asked):
        raise InputError(f"sizes holds {asked[whole != asked][0]:g}", do="give whole numbers of rows")
    if whole[0] < n:
        raise InputError(f"sizes starts at {whole[0]} and X has {n} rows", do="ask for n rows or more")
    if np.any(np.diff(whole) <= 0):
        raise InputError("sizes must increase", do="sort them and drop what is double")
    return whole


def ridge_grid(ridges: Any) -> np.ndarray:
    """(L,) increasing ridges > 0."""
    grid = np.unique(as_vector(np.atleast_1d(ridges), "ridges"))
    if grid[0] <= 0:
        raise InputError(f"ridges holds {grid[0]:g}", do="give values > 0")
    return grid


def features_of(X: Any, *, gaps: bool = False) -> np.ndarray:
    """(n, p) float64 features; NaN passes where `gaps` are an estimator's own affair.

    Raises:
      InputError: sparse features, columns of text, values that are not finite or whose squares are not.
    """
    if hasattr(X, "toarray"):
        raise InputError("X is sparse", do="pass X.toarray()")
    if hasattr(X, "dtypes") and hasattr(X, "columns"):
        text = [name for name, kind in zip(X.columns, X.dtypes, strict=True) if getattr(kind, "kind", "O") in "OUSMm"]
        if text:
            raise InputError(f"column {text[0]!r} of X holds no numbers", do="encode it first, as Forecaster does")
    if gaps:
        values = np.asarray(X)
        if values.dtype.kind == "f" and np.isnan(values).any() and not np.isnan(values).all():
            as_matrix(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf), "X")
            return values.astype(float)
    matrix = as_matrix(X, "X")
    with np.errstate(all="ignore"):
        power = float(((matrix - matrix.mean(axis=0)) ** 2).sum())
    if not np.isfinite(power) or (power == 0 and np.any(np.ptp(matrix, axis=0))):
        size = "large" if not np.isfinite(power) else "small"
        raise InputError(f"the values of X are too {size} to be squared", do="give the columns other units")
    return matrix


def holds_labels(values: np.ndarray) -> bool:
    """Whether targets are labels by their type: one column of text, objects or booleans."""
    return values.ndim == 1 and values.dtype.kind in "OUSb"


def check_labels(labels: np.ndarray) -> None:
    """No row of one column of labels is without one."""
    if labels.dtype.kind == "f":
        missing = ~np.isfinite(labels)
    else:
        missing = np.array([label is None or label != label for label in labels.tolist()])
    if missing.any():
        raise InputError(f"y has no label at row {int(np.argmax(missing))}", do="leave out the rows without one")


def one_hot(labels: np.ndarray) -> np.ndarray:
    """(n, K) indicators of one column of labels.

    Raises:
      InputError: a row without label, one class only, or more classes than half the rows.
    """
    check_labels(labels)
    known, code = np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)
    if len(known) < 2:
        raise InputError("y is constant", why="there is nothing to learn", do="check which column is the target")
    if len(known) > max(len(labels) / 2, 2):
        raise InputError(
            f"y holds {len(known)} different labels in {len(labels)} rows",
            why="these are no classes",
            do="check which column is the target, or pass numbers and a regressor",
        )
    return np.eye(len(known))[code]
