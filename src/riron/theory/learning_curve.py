"""The learning curve of tuned ridge regression, read off one sample: the kappa-collapse.

In the proportional limit the risk of ridge regression at n samples is T(kappa) / (1 - df2(kappa)/n), where T and df2
are functions of the effective ridge kappa alone. The exact leave-one-out errors along one ridge path at n0 samples give
T, the sample's eigenvalues give df2, and the risk at any n > n0 follows with nothing fitted.

Source: Hastie, Montanari, Rosset & Tibshirani, Surprises in high-dimensional ridgeless least squares interpolation,
Annals of Statistics 2022 (hastie2022surprises), for the risk. That leave-one-out and the sample's own degrees of
freedom estimate its parts: Patil, Wei, Rinaldo & Tibshirani, Uniform consistency of cross-validation estimators for
high-dimensional ridge regression, AISTATS 2021.
"""

from typing import NamedTuple

import numpy as np

from ..errors import InputError

CAP, CAP_OF_NUMBERS = 0.3, 0.6  # largest df2/n0 believed: beyond, T hangs on a small 1 - df2/n0 that is badly known
BLOCK = 4_000_000  # leave-one-out residuals held at once
SINGULAR = 1e-9  # of I - H, for a row or a group: below, it is fitted whatever its target


class RidgePath(NamedTuple):
    """Ridge regression with a free intercept on one sample, along a grid of L ridges; losses are squared errors / 2.

    Attributes:
      n: number of rows.
      trained: rows from which a left-out row was forecast, plus one: n, or less where whole groups were left out.
      ridge: (L,) lam of (1/n)|y - b - X theta|^2 + lam |theta|^2, decreasing.
      kappa: (L,) effective ridge.
      df1, df2: (L,) tr S/(S + kappa) and tr (S/(S + kappa))^2 of the population covariance S, without the intercept.
      loss: (L,) leave-one-out loss, mean over the rows, summed over the outputs.
      loss_sd: (L,) sqrt(n) times the standard error of that mean: the standard deviation of the rows' losses, larger
        where losses within a group are alike.
      top_share: (L,) share of the loss that the 1 % of rows of largest loss carry.
      error: (L,) leave-one-out classification error, or None in regression.
      error_sd: (L,) sqrt(n) times its standard error, or None in regression.
    """

    n: int
    trained: float
    ridge: np.ndarray
    kappa: np.ndarray
    df1: np.ndarray
    df2: np.ndarray
    loss: np.ndarray
    loss_sd: np.ndarray
    top_share: np.ndarray
    error: np.ndarray | None
    error_sd: np.ndarray | None

    @property
    def best(self) -> int:
        """Index of the ridge of least leave-one-out loss."""
        return int(np.argmin(self.loss))


class Collapse(NamedTuple):
    """Forecast of tuned ridge at the sizes asked for: arrays over sizes.

    Attributes:
      loss: forecast loss.
      ridge: the lam that is forecast to be best there.
      index: its place on the path.
      at_cap: True where the best effective ridge is the smallest that could be measured, so that loss is too high.
    """

    loss: np.ndarray
    ridge: np.ndarray
    index: np.ndarray
    at_cap: np.ndarray


def ridge_path(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    ridges: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    kind: str = "regression",
) -> RidgePath:
    """Exact leave-one-out errors and degrees of freedom of ridge regression along a grid, by one eigendecomposition.

    Costs min(n, p)^2 max(n, p) for the Gram matrix of the smaller side and its rotation, n p K L for the residuals, and
    L min(n, p) sum g^2 for groups of g > 1 rows.

    Args:
      X: (n, p) features.
      Y: (n, K) targets.
      ridges: (L,) grid, > 0, in units of feature^2; default 33 values from 1e-6 to 1e2 times the mean non-zero
        eigenvalue.
      groups: (n,) integers; rows that share one are left out together (leave-one-group-out).
      kind: "one-hot" (the largest output wins), "sign" (K = 1, targets +-1) or "regression" (no classification error).

    Returns:
      RidgePath, without the ridges at which the sample is interpolated (1 - df1/n < 1e-4).

    Raises:
      InputError: if that leaves no ridge.

    Source: Allen, The relationship between variable selection and data augmentation and a method for prediction,
      Technometrics 1974, for the leave-one-out residual (y - f)_i / (1 - H_ii); for a group it is the block
      (I - H_gg)^-1 (y - f)_g.
    """
    n = len(X)
    X, mean = X - X.mean(axis=0), Y.mean(axis=0)
    h, Z = _principal(X)
    m = n - 1  # rows left once the intercept has taken its own: the eigenvalues below are those of X^T X / m
    lam = np.geomspace(1e2, 1e-6, 33) * h.sum() / max(len(h), 1) if ridges is None else np.sort(ridges)[::-1] * n / m
    shrunk = 1 / (h + lam[:, None])  # (L, r)

    df1, q = shrunk @ h, (shrunk**2) @ h
    u = 1 - df1 / m
    with np.errstate(all="ignore"):
        kappa = lam / u
        df2 = df1 - kappa * q * u**2 / (u - lam * q / m)
    leverage = 1 / n + (Z**2) @ (shrunk.T / m)  # (n, L)
    of, blocks = _blocks(groups, n)
    left = 1 - leverage
    keep = np.flatnonzero((u >= 1e-4) & np.isfinite(df2) & (df2 >= 0) & (left.min(axis=0) > SINGULAR))

    moments = Z.T @ (Y - mean) / m
    loss, sd, top, error, error_sd = (np.empty(len(keep)) for _ in range(5))
    width = max(1, BLOCK // max(Y.size, 1))
    for start in range(0, len(keep), width):
        block = keep[start : start + width]
        coefficients = shrunk[block].T[:, :, None] * moments[:, None, :]  # (r, block, K)
        fitted = (Z @ coefficients.reshape(len(h), -1)).reshape(n, len(block), -1)
        residual = (Y - mean)[:, None, :] - fitted
        _leave_out(residual, left[:, block], Z, shrunk[block] / m, blocks)
        out = slice(start, start + len(block))
        losses = (residual**2).sum(axis=2) / 2
        loss[out], sd[out], top[out] = losses.mean(axis=0), _spread(losses, of), _top_share(losses)
        if kind != "regression":
            wrong = _wrong(Y, residual, kind)
            error[out], error_sd[out] = wrong.mean(axis=0), _spread(wrong, of)
    sound = np.isfinite(loss)
    if not np.any(sound):
        raise InputError("at every ridge given, ridge regression interpolates the rows", do="give larger ridges")
    keep, (loss, sd, top, error, error_sd) = keep[sound], (values[sound] for values in (loss, sd, top, error, error_sd))
    return RidgePath(
        n,
        n + 1 - (np.bincount(of).astype(float) ** 2).sum() / n,
        lam[keep] * m / n,
        kappa[keep],
        df1[keep],
        df2[keep],
        loss,
        sd,
        top,
        *((None, None) if kind == "regression" else (error, error_sd)),
    )


def collapse(path: RidgePath, sizes: np.ndarray, *, cap: float | None = None) -> Collapse:
    """Forecast the loss of tuned ridge at larger samples: min over kappa of T(kappa) / (1 - df2(kappa)/n).

    T(kappa) = loo(kappa) (1 - df2(kappa)/n0), where n0 is less if groups were left out whole. The free intercept is one
    more degree of freedom. At n0 this is the measured leave-one-out loss; the forecast never exceeds the best of those,
    also where its kappa lies beyond the cap.

    Args:
      path: of the n0 rows at hand.
      sizes: (S,) numbers of samples, >= n0.
      cap: largest df2/n0 at which the path is believed. Default 0.3 for classes; for numbers, whose noise is often
        low, the leave-one-out optimum's where that is larger, up to 0.6 (measured on columns of real tables forecast
        from the others, four times 100 to 400 rows: mean |log(forecast/truth)| 0.149, against 0.184 at 0.3; for
        classes this loses).
    """
    sizes = np.asarray(sizes, dtype=float)
    if cap is None:
        cap = CAP if path.error is not None else float(np.clip(path.df2[path.best] / path.n, CAP, CAP_OF_NUMBERS))
    believed = np.flatnonzero(path.df2 / path.n <= cap)
    believed = believed if len(believed) else np.array([0])  # all too small: the largest is the least bad
    df2 = path.df2[believed] + 1
    bare = path.loss[believed] * (1 - df2 / path.trained)
    risk = bare / (1 - df2 / sizes[:, None])
    index = believed[np.argmin(risk, axis=1)]
    loss = np.minimum(risk.min(axis=1), path.loss[path.best])
    ridge = path.kappa[index] * (1 - path.df1[index] / sizes)
    at_cap = (index == believed[-1]) & (believed[-1] < len(path.ridge) - 1)
    return Collapse(loss, ridge, index, at_cap)


def _principal(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-zero eigenvalues of X^T X / (n - 1) and the rows in its eigenbasis (n, r), by the smaller Gram matrix."""
    n, p = X.shape
    dual = n < p
    h, V = np.linalg.eigh((X @ X.T if dual else X.T @ X) / (n - 1))
    keep = h > h[-1] * 1e-12 * max(n, p) ** 0.5
    h, V = h[keep], V[:, keep]
    return h, V * np.sqrt((n - 1) * h) if dual else X @ V


def _blocks(groups: np.ndarray | None, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Each row's group, counted from 0; and the rows of groups larger than one, (groups, g) for each size g."""
    if groups is None:
        return np.arange(n), []
    of, count = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(of, kind="stable")
    starts = np.cumsum(count) - count
    larger = [g for g in np.unique(count) if g > 1]
    return of, [order[starts[count == g][:, None] + np.arange(g)] for g in larger]


def _leave_out(residual: np.ndarray, left: np.ndarray, Z: np.ndarray, weights: np.ndarray, blocks: list) -> None:
    """Turn residuals (n, L, K) into those of rows left out, in place; NaN at ridges where a group determines its fit.

    A row alone: r_i / (1 - H_ii), `left` (n, L). A group: (I - H_gg)^-1 r_g, H = 1/n + Z diag(weights) Z^T.
    """
    own = [residual[rows] for rows in blocks]
    residual /= left[:, :, None]
    for rows, before in zip(blocks, own, strict=True):
        at, unit = Z[rows], np.eye(rows.shape[1]) - 1 / len(Z)
        for L, weight in enumerate(weights):
            try:
                residual[rows, L] = np.linalg.solve(unit - (at * weight) @ at.swapaxes(1, 2), before[:, :, L])
            except np.linalg.LinAlgError:
                residual[:, L] = np.nan
            if np.abs(residual[rows, L]).max() * SINGULAR > np.abs(before[:, :, L]).max():
                residual[:, L] = np.nan


def _spread(losses: np.ndarray, of: np.ndarray) -> np.ndarray:
    """sqrt(n) times the standard error of the mean of each column, groups of rows being independent."""
    off = losses - losses.mean(axis=0)
    if of.max() + 1 < len(off):
        sums = np.zeros((of.max() + 1, off.shape[1]))
        np.add.at(sums, of, off)
        off = sums
    return np.sqrt((off**2).sum(axis=0) / len(losses))


def _top_share(losses: np.ndarray) -> np.ndarray:
    """Share of each column's sum that its largest 1 % carry (one row at least)."""
    few = max(1, len(losses) // 100)
    top = np.partition(losses, len(losses) - few, axis=0)[-few:].sum(axis=0)
    return top / np.maximum(losses.sum(axis=0), np.finfo(float).tiny)


def _wrong(Y: np.ndarray, residual: np.ndarray, kind: str) -> np.ndarray:
    """(n, L): 1 where the left-out prediction Y - residual names the wrong class."""
    prediction = Y[:, None, :] - residual
    if kind == "sign":
        return (np.sign(prediction[:, :, 0]) != Y) * 1.0
    return (prediction.argmax(axis=2) != Y.argmax(axis=1)[:, None]) * 1.0
