"""Cures tried against the luck of the rows in leave-one-out, for the backtest: none of them is in riron.

Each gives T(kappa) of the collapse in another way, or averages collapses: random half-splits, repeated five-fold
splits, both multiplied with leave-one-out, and bagged subsets of the rows.
"""

import numpy as np

from riron.theory.learning_curve import collapse, ridge_path

CURES = {
    "half": "T from 20 half-splits",
    "folds": "T from 20 splits 80:20",
    "loo and half": "sqrt of C and half-splits",
    "loo and folds": "sqrt of C and splits 80:20",
    "bagged": "mean of C on 8 subsets of 85 %",
}


def cures(X, Y, path, sizes, kind, rng):
    """Forecasts at `sizes` by each cure, from the rows at hand and their leave-one-out path."""
    here = collapse(path, sizes).loss
    found = {"half": _split(X, Y, path, sizes, 0.5, rng), "folds": _split(X, Y, path, sizes, 0.8, rng)}
    found |= {f"loo and {name}": np.sqrt(here * found[name]) for name in ("half", "folds")}
    subsets = (rng.permutation(len(X))[: round(0.85 * len(X))] for _ in range(8))
    bagged = [np.log(collapse(ridge_path(X[r], Y[r], kind=kind), sizes).loss) for r in subsets if varies(Y[r])]
    found["bagged"] = np.exp(np.mean(bagged, axis=0)) if bagged else here
    return found


def varies(Y):
    """Whether any column of targets takes two values."""
    return bool(np.any(np.ptp(Y, axis=0)))


def _split(X, Y, path, sizes, share, rng, times=20):
    """The collapse with T measured on the rows left out of random splits, at the same effective ridges."""
    n, logs = len(X), []
    for _ in range(times):
        order = rng.permutation(n)
        train, test = np.split(order, [round(share * n)])
        if not varies(Y[train]):
            continue
        kappa, T = _held_out(X, Y, train, test)
        logs.append(np.interp(-np.log(path.kappa), -np.log(kappa), np.log(T), right=np.nan))
    T = np.exp(np.mean(logs, axis=0)) if logs else np.full(len(path.kappa), np.nan)
    T = np.where(np.isfinite(T), T, path.loss * (1 - (path.df2 + 1) / n))
    return collapse(path._replace(loss=T / (1 - (path.df2 + 1) / n)), sizes).loss


def _held_out(X, Y, train, test):
    """Effective ridges and T there, from one split; ridges that nearly interpolate left out."""
    path = ridge_path(X[train], Y[train])
    mean, b, m = X[train].mean(axis=0), Y[train].mean(axis=0), len(train)
    A, T = X[train] - mean, Y[train] - b
    h, V = np.linalg.eigh(A @ A.T / m if m < A.shape[1] else A.T @ A / m)
    if m < A.shape[1]:  # theta = A' V (h + lam)^-1 V' T / m
        left, right = (X[test] - mean) @ A.T @ V, V.T @ T / m
    else:
        left, right = (X[test] - mean) @ V, V.T @ (A.T @ T) / m
    output = np.einsum("tr,lr,rk->ltk", left, 1 / (np.maximum(h, 0) + path.ridge[:, None]), right, optimize=True)
    loss = ((output + b - Y[test]) ** 2).sum(axis=2).mean(axis=1) / 2
    sound = path.df2 / m < 0.75
    sound[0] = True
    return path.kappa[sound], (loss * (1 - (path.df2 + 1) / m))[sound]
