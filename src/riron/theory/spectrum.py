"""Least squares in the eigenbasis of its data: what every prediction of this room about SGD starts from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from ..checks import as_matrix, as_positive, as_targets
from ..errors import InputError

# An eigenvalue below this share of the largest is rounding: SGD started at 0 never moves along its direction.
NULL = 1e-13


@dataclass(frozen=True)
class Spectrum:
    """Rows, targets and curvature of (1/2n) |F theta - Y|^2, rotated so that the curvature F^T F / n is diagonal.

    One eigendecomposition serves every step size, batch, schedule, stopping time and seed.

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
        return np.einsum("np,np->n", self.rows, self.rows)

    @classmethod
    def of(
        cls, X: ArrayLike, y: ArrayLike, X_test: ArrayLike | None = None, y_test: ArrayLike | None = None
    ) -> "Spectrum":
        """The spectrum of a table.

        Args:
          X: (n, features), used as given: no hidden scaling, no intercept.
          y: (n,) or (n, K) targets.
          X_test, y_test: held-out rows, both or neither.
        Raises: InputError if a shape differs, a value is not finite, or X is zero.
        """
        X = as_matrix(X, "X")
        y = as_targets(y, "y", len(X))
        if (X_test is None) != (y_test is None):
            raise InputError("only one of X_test and y_test is given", do="pass both or neither")
        h, U = _eigenbasis(X)
        rows = X @ U
        if X_test is None or y_test is None:
            return cls(h, rows, y, rows.T @ y / len(X), None, None, U)
        X_test = as_matrix(X_test, "X_test")
        if X_test.shape[1] != X.shape[1]:
            raise InputError(f"X_test has {X_test.shape[1]} columns and X has {X.shape[1]}")
        y_test = as_targets(y_test, "y_test", len(X_test))
        if y_test.shape[1] != y.shape[1]:
            raise InputError(f"y_test has {y_test.shape[1]} outputs and y has {y.shape[1]}")
        return cls(h, rows, y, rows.T @ y / len(X), X_test @ U, y_test, U)


def _eigenbasis(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (descending, without null ones) and eigenvectors of X^T X / n, through the smaller Gram matrix."""
    n, p = X.shape
    if p <= n:
        h, U = eigh(X.T @ X / n)
    else:
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
