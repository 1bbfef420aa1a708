"""Ridge regression with a convex loss by Newton's method, in the span of the rows."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, get_lapack_funcs

from ..errors import InputError
from .alo_losses import RowLoss

NEWTON_STEPS = 100
SMALL_STEP = 1e-2  # change of the scores after which the Hessian is kept; two more steps with it leave about 1e-6


class Design(NamedTuple):
    """Rows in coordinates of their own span, with weights.

    Attributes:
      Z: (n, d) centred rows; in the eigenbasis of their Gram matrix if there are fewer rows than columns. The last
        column is 1 if there is an intercept.
      penalised: (d,) 1, and 0 for the intercept.
      share: (n,) weight of each row in the loss; they sum to one.
      mean: (p,) what was taken from the columns.
      basis: (p, r) coordinates to columns, or None.
    """

    Z: np.ndarray
    penalised: np.ndarray
    share: np.ndarray
    mean: np.ndarray
    basis: np.ndarray | None

    def coefficients(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (p, m) and intercepts (m,) in the columns that were given."""
        free = self.penalised[-1] == 0
        weights, b = (W[:-1], W[-1]) if free else (W, np.zeros(W.shape[1]))
        weights = weights if self.basis is None else self.basis @ weights
        return weights, b - self.mean @ weights


def make_design(X: np.ndarray, *, weights: np.ndarray | None = None, intercept: bool = True) -> Design:
    """Prepare (n, p) features, with (n,) weights > 0 of the rows if they are not all alike."""
    n, p = X.shape
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    mean = share @ X if intercept else np.zeros(p)
    Z, basis = X - mean, None
    if p > n:
        h, V = np.linalg.eigh(Z @ Z.T)
        keep = h > max(h[-1], 1e-300) * 1e-12 * p**0.5
        keep[-1] = True
        root = np.sqrt(np.maximum(h[keep], 1e-200))
        Z, basis = V[:, keep] * root, Z.T @ (V[:, keep] / root)
    penalised = np.ones(Z.shape[1] + intercept)
    if intercept:
        Z = np.column_stack([Z, np.ones(n)])
        penalised[-1] = 0
    return Design(Z, penalised, share, mean, basis)


def merge_copies(X: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first of each set of rows equal in features and label, and the number (n,) of each row's set.

    A copy in the training rows makes a left-out score optimistic: copies belong together, as one row of their weight.
    """
    seen: dict[bytes, int] = {}
    table = np.ascontiguousarray(np.column_stack([X, labels]) + 0.0)  # -0.0 becomes 0.0: equal rows have equal bytes
    of = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in table])
    return np.unique(of, return_index=True)[1], of


def objective(rows: Design, Y: np.ndarray, loss: RowLoss, lam: float, W: np.ndarray) -> float:
    """sum_i share_i loss_i + (lam/2) |w|^2 for (d, m) weights."""
    return float(rows.share @ loss.value(rows.Z @ W, Y) + lam / 2 * (rows.penalised @ W**2).sum())


def newton(rows: Design, Y: np.ndarray, loss: RowLoss, lam: float, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (d, m) at the minimum, and the inverse Hessian (m d, m d), outputs slow and coordinates fast.

    Newton steps, halved until the objective falls. After one that moves no score by more than 0.01 come two with the
    same Hessian.

    Raises:
      InputError: after 100 steps.
    """
    value = objective(rows, Y, loss, lam, W)
    for _ in range(NEWTON_STEPS):
        U = rows.Z @ W
        inverse = _inverse_hessian(rows, loss.curvature(U, Y), lam)
        step = -times(inverse, _gradient(rows, Y, loss, lam, W, U))
        moved, size = rows.Z @ step, 1.0
        if np.abs(moved).max() < SMALL_STEP:
            W = W + step
            for _ in range(2):
                W = W - times(inverse, _gradient(rows, Y, loss, lam, W, rows.Z @ W))
            return W, inverse
        slack = 1e-13 * abs(value)
        while (ahead := objective(rows, Y, loss, lam, W + size * step)) > value + slack and size > 1e-6:
            size /= 2
        W, value = W + size * step, ahead
    raise InputError(f"the fit at ridge {lam:.3g} did not converge in {NEWTON_STEPS} steps", do="use a larger ridge")


def times(inverse: np.ndarray, G: np.ndarray) -> np.ndarray:
    """The inverse Hessian times (d, m) weights."""
    return (inverse @ G.T.ravel()).reshape(G.T.shape).T


def _gradient(rows, Y, loss, lam, W, U):
    return rows.Z.T @ (rows.share[:, None] * loss.slope(U, Y)) + lam * rows.penalised[:, None] * W


def _inverse_hessian(rows: Design, curvature: np.ndarray, lam: float) -> np.ndarray:
    """Inverse of the Hessian whose blocks are Z^T diag(share loss''_ab) Z + lam penalised on the diagonal."""
    d, m = rows.Z.shape[1], curvature.shape[-1]
    H = np.empty((m, d, m, d))
    for a in range(m):
        for b in range(a + 1):
            weights = rows.share * curvature[:, a, b]
            if a == b:
                half = rows.Z * np.sqrt(np.maximum(weights, 0))[:, None]  # rounding may leave -1e-17
                H[a, :, a, :] = half.T @ half
            else:
                H[a, :, b, :] = rows.Z.T @ (weights[:, None] * rows.Z)
                H[b, :, a, :] = H[a, :, b, :].T
    H = H.reshape(m * d, m * d)
    diagonal = np.einsum("ii->i", H)
    diagonal += lam * np.tile(rows.penalised, m)
    for jitter in (1e-14, 1e-11, 1e-8):  # an intercept whose rows are all certain has no curvature of its own
        diagonal += jitter * diagonal.max()
        try:
            factor, lower = cho_factor(H, lower=True, check_finite=False)
            break
        except np.linalg.LinAlgError:
            continue
    else:
        raise InputError(f"the Hessian at ridge {lam:.3g} is singular", do="use a larger ridge")
    (invert,) = get_lapack_funcs(("potri",), (factor,))
    inverse = invert(factor, lower=lower, overwrite_c=True)[0]
    lower_half = np.tril(inverse)
    return lower_half + np.tril(inverse, -1).T
