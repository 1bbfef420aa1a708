"""One forecast of the learning curve, with the spread of its logarithm: the kappa-collapse, checked by a power law."""

from typing import Any, NamedTuple

import numpy as np

from ...theory.learning_curve import RidgePath, collapse, ridge_path
from .power_law import PowerLaw, fit_power_law
from .splits import subset

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 0.7)  # of the rows, beside all of them, through which the power law goes
FEW = 40  # rows under which no power law is fitted
ELASTICITY, SHRINKAGE = 1.5, 0.02  # of the classification error in the loss, and the weight of that prior value


class Extrapolation(NamedTuple):
    """Forecasts at the sizes asked for (arrays over sizes), and the ridge path they were made of."""

    loss: np.ndarray
    sd: np.ndarray  # of log loss
    power_law: np.ndarray
    error: np.ndarray
    error_sd: np.ndarray  # of log error
    ridge: np.ndarray
    at_cap: np.ndarray
    law: PowerLaw | None  # before it is made to pass through the loss at hand
    path: RidgePath
    measured: tuple[np.ndarray, np.ndarray]  # rows and mean tuned losses that the power law goes through


def extrapolate(X, Y, sizes, *, kind, groups, ridges, subsets, rng, advance=lambda k=1: None) -> Extrapolation:
    """The forecast itself, without checks and backtest; arguments as prepared by `learning_curve`.

    Classification error at n: the left-out error at the effective ridge that is best at n, times
    ((1 - df2/n0) / (1 - df2/n))^b, the collapse's own change of the loss at that ridge. The elasticity b of error in
    loss is read off the subsets, shrunk to 1.5 (measured at four times 100 to 400 rows: a mean |difference| of 0.026,
    against 0.041 when the error is taken to be proportional to the loss).
    """
    n = len(X)
    path = ridge_path(X, Y, ridges=ridges, groups=groups, kind=kind)
    advance()
    ahead = collapse(path, sizes)
    best = path.best
    at_hand, drop = path.loss[best], np.log(path.loss[best] / ahead.loss)
    se = path.loss_sd[best] / np.sqrt(n) / at_hand

    measured = np.array([float(n)]), np.array([at_hand])
    law, elasticity, anchored = None, ELASTICITY, np.full(len(sizes), np.nan)
    gap = drop  # what stands in for the disagreement where no power law can be fitted
    if n < FEW:
        advance(sum(subsets))
    else:
        tried, losses, errors = _subset_losses(X, Y, kind, groups, ridges, subsets, rng, advance)
        if len(tried) >= 2:
            tried, losses, errors = (
                np.append(tried, n),
                np.append(losses, at_hand),
                np.append(errors, _error(path, best)),
            )
            law, measured = fit_power_law(tried, losses), (tried, losses)
            anchored = at_hand * law(sizes) / law(n)
            gap = np.log(ahead.loss / anchored)
            elasticity = _elasticity(losses, np.maximum(errors, 0.5 / n))

    df2 = path.df2[ahead.index] + 1
    gain = np.log((1 - df2 / n) / (1 - df2 / sizes))
    error = np.minimum(_error(path, ahead.index) * np.exp(elasticity * gain), _error(path, best))
    error_se = np.sqrt((1 - error) / (n * error)) * _together(path, ahead.index)
    sd = np.sqrt((1.2 * se) ** 2 + (drop / 2) ** 2 + (gap / 2) ** 2)
    error_sd = np.sqrt((1.3 * error_se) ** 2 + (elasticity * gain / 2) ** 2 + (elasticity * gap / 2) ** 2)
    return Extrapolation(ahead.loss, sd, anchored, error, error_sd, ahead.ridge, ahead.at_cap, law, path, measured)


def learnable(X: np.ndarray, Y: np.ndarray, groups: np.ndarray) -> bool:
    """Whether neither the features nor the targets are the same in all rows, and some can be left out."""
    return bool(np.any(np.ptp(X, axis=0)) and np.any(np.ptp(Y, axis=0)) and np.any(groups != groups[0]))


def _subset_losses(X, Y, kind, groups, ridges, subsets, rng, advance):
    """Mean tuned leave-one-out loss and error over random subsets of each fraction of the rows."""
    n, out = len(X), []
    for fraction, count in zip(FRACTIONS, subsets, strict=True):
        size, found = round(fraction * n), []
        for _ in range(count):
            rows = subset(groups, size, rng)
            advance()
            if learnable(X[rows], Y[rows], groups[rows]):
                path = ridge_path(X[rows], Y[rows], ridges=ridges, groups=groups[rows], kind=kind)
                found.append((len(rows), path.loss[path.best], _error(path, path.best)))
        if found:
            out.append(np.mean(found, axis=0))
    return (np.array(column) for column in zip(*out, strict=True)) if out else (np.empty(0),) * 3


def _error(path: RidgePath, index) -> Any:
    """Left-out classification error with half an error added, so that none seen is not none forecast."""
    return np.nan if path.error is None else (path.error[index] * path.n + 0.5) / (path.n + 1)


def _together(path: RidgePath, index) -> Any:
    """How much wider the error's luck is where rows of one group err together (1 if each errs for itself)."""
    if path.error is None or path.error_sd is None:
        return 1.0
    alone = np.sqrt(path.error[index] * (1 - path.error[index]))
    return np.where(alone > 0, path.error_sd[index] / np.where(alone > 0, alone, 1.0), 1.0)


def _elasticity(losses: np.ndarray, errors: np.ndarray) -> float:
    """d log error / d log loss between the subset sizes: a regression shrunk towards ELASTICITY."""
    u, v = np.log(losses), np.log(errors)
    u, v = u - u.mean(), v - v.mean()
    slope = (u @ v + SHRINKAGE * ELASTICITY) / (u @ u + SHRINKAGE)
    return float(max(slope, 0.0)) if np.isfinite(slope) else ELASTICITY
