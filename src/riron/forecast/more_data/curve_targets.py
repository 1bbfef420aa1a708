"""What the targets of a learning curve are, and which rows are copies of one another."""

import numpy as np

from ...errors import InputError


def check_targets(Y: np.ndarray) -> str:
    """The kind of target, if it is not constant."""
    if not np.any(np.ptp(Y, axis=0)):
        raise InputError("y is constant", why="there is nothing to learn", do="check which column is the target")
    return target_kind(Y)


def target_kind(Y: np.ndarray) -> str:
    """What the columns of Y are: "one-hot", "sign" (one column of -1 and +1) or "regression"."""
    if Y.shape[1] >= 2 and np.all((Y == 0) | (Y == 1)) and np.all(Y.sum(axis=1) == 1):
        return "one-hot"
    return "sign" if Y.shape[1] == 1 and np.all(np.abs(Y) == 1) else "regression"


def copies_of(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(n,) integers, equal for rows whose features and targets are exact copies."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(np.hstack([X, Y]) + 0.0)  # -0.0 becomes 0.0: the bytes of equal rows are equal
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows])
