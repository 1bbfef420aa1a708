"""Least squares in the eigenbasis of its data: what every prediction of this room about SGD starts from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh, get_blas_funcs

from ..checks import as_matrix, as_positive, as_targets
from ..errors import InputError

# An eigenvalue below this share of the largest is rounding: SGD started at 0 never moves along its direction.
NULL = 1e-13
PIECE = 5e6  # entries of the rows that are held in double precision at once


@dataclass(frozen=True)
class Spectrum:
    """Rows, targets and curvature of (1/2n) |F theta - Y|^2, rotated so that the curvature F^T F / n is diagonal.

    One eigendecomposition serves every step size, batch, schedule, stopping time and seed. Rows given in float32 stay
    float32 (the sums over rows are float64 in any case), so that a large table is held once as given and once rotated;
    beside that, four (p, p) matrices.

    Attributes:
      eigenvalues: (p,) of F^T F / n, descending; null directions are left out, so p is the rank.
      rows: (n, p) training features in the eigenbasis.
      targets: (n, K).
      correlation: (p, K), rows^T targets / n.
      test_rows: (n_t, p) held-out features in the eigenbasis, or None.
      test_targets: (n_t, K), or None.
      basis: (features, p) eigenvectors; theta = basis @ mu.
    """

    eigenvalues: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    correlation: np.ndarray
    test_rows: np.ndarray | None
    test_targets: np.ndarray | None
    basis: np.ndarray

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def outputs(self) -> int:
        return self.targets.shape[1]

    @property
    def leverage(self) -> np.ndarray:
        """(n,) squared length of each row, which bounds the step it can take."""
        return np.einsum("np,np->n", self.rows, self.rows, dtype=np.float64)

    @classmethod
    def of(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        X_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        *,
        overwrite: bool = False,
    ) -> "Spectrum":
        """The spectrum of a table.

        Args:
          X: (n, features), used as given: no hidden scaling, no intercept.
          y: (n,) or (n, K) targets.
          X_test, y_test: held-out rows, both or neither.
          overwrite: rotate X and X_test where they stand (arrays of floats), which halves the memory.
        Raises: InputError if a shape differs, a value is not finite, or X is zero.
        """
        X = _as_rows(X, "X")
        y = as_targets(y, "y", len(X))
        if (X_test is None) != (y_test is None):
            raise InputError("only one of X_test and y_test is given", do="pass both or neither")
        test_rows = test_targets = None
        if X_test is not None and y_test is not None:
            test_rows = _as_rows(X_test, "X_test")
            if test_rows.shape[1] != X.shape[1]:
                raise InputError(f"X_test has {test_rows.shape[1]} columns and X has {X.shape[1]}")
            test_targets = as_targets(y_test, "y_test", len(test_rows))
            if test_targets.shape[1] != y.shape[1]:
                raise InputError(f"y_test has {test_targets.shape[1]} outputs and y has {y.shape[1]}")
        h, U = _eigenbasis(X)
        rows = _rotated(X, U, overwrite)
        correlation = np.zeros((len(h), y.shape[1]))
        for piece in _pieces(rows):
            correlation += rows[piece].astype(float, copy=False).T @ y[piece] / len(rows)
        if test_rows is not None:
            test_rows = _rotated(test_rows, U, overwrite)
        return cls(h, rows, y, correlation, test_rows, test_targets, U)


def _as_rows(X: ArrayLike, name: str) -> np.ndarray:
    """A finite matrix; float32 as it is, everything else in float64."""
    if isinstance(X, np.ndarray) and X.dtype == np.float32 and X.ndim == 2 and X.size > 0:
        finite = np.isfinite(X.min()) and np.isfinite(X.max())  # without a mask as large as the rows
        return X if finite else as_matrix(X, name)
    return as_matrix(X, name)


def _pieces(X: np.ndarray) -> list[slice]:
    """Runs of rows small enough to be held once more, in double precision."""
    length = max(1, int(PIECE / X.shape[1]))
    return [slice(start, start + length) for start in range(0, len(X), length)]


def _rotated(X: np.ndarray, U: np.ndarray, overwrite: bool) -> np.ndarray:
    """X U in the precision of X, where X stands if that is wanted and U is square."""
    U = U.astype(X.dtype, copy=False)
    if not (overwrite and U.shape[0] == U.shape[1] and X.flags.writeable):
        return X @ U
    for piece in _pieces(X):
        X[piece] = X[piece] @ U
    return X


def _eigenbasis(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (descending, without null ones) and eigenvectors of X^T X / n, through the smaller Gram matrix."""
    n, p = X.shape
    if p <= n:
        gram = np.zeros((p, p), order="F")
        (add,) = get_blas_funcs(("syrk",), (gram,))
        for piece in _pieces(X):  # the upper triangle, half the work
            gram = add(1 / n, X[piece].astype(float, copy=False).T, beta=1.0, c=gram, overwrite_c=True)
        h, U = eigh(gram, lower=False, overwrite_a=True, check_finite=False, driver="evd")
    else:
        X = X.astype(float, copy=False)
        h, Q = eigh(X @ X.T / n)
        U = X.T @ (Q / np.sqrt(np.maximum(n * h, np.finfo(float).tiny)))
    keep = np.flatnonzero(h > NULL * max(h[-1], 0) * max(n, p))[::-1]
    if not keep.size or h[-1] <= 0:
        raise InputError("X is zero everywhere", do="SGD has nothing to learn from it")
    return h[keep], U[:, keep]


def check_setting(spectrum: Spectrum, *, batch: float, ridge: float) -> None:
    """InputError if the batch size or the ridge makes no sense for these rows."""
    if not 1 <= batch <= spectrum.n:
        raise InputError(f"batch={batch} is outside [1, {spectrum.n}]", do=f"the data have {spectrum.n} training rows")
    as_positive(ridge, "ridge", zero=True)
