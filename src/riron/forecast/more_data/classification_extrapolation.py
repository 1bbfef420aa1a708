"""One forecast of the error of ridge-logistic regression at more rows: leave-one-out, carried by two theories."""

from typing import NamedTuple

import numpy as np

from ...theory.alo import Fit, alo_path
from ...theory.alo_losses import LOGISTIC
from ...theory.alo_newton import Design, make_design, merge_copies
from ...theory.learning_curve import RidgePath, collapse, ridge_path
from ...theory.semi_parametric import carry, measure, smooth_error
from .power_law import PowerLaw, fit_power_law

RIDGES, DECADES = 19, 6
REFITS = 0.08  # of the rows, at every penalty
FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 0.7)
FEWEST = 20  # rows of a subset
ELASTICITY, SHRINKAGE = 2.0, 0.1  # of the error in the loss, and the weight of that prior value
LADDER = 2 ** np.linspace(0, 2, 5)  # multiples of n0 at which the line of the loss must have fallen before


class ClassExtrapolation(NamedTuple):
    """Forecasts at the sizes asked for (arrays over sizes), and what they were made of.

    Attributes:
      loss, loss_sd: held-out log loss, and standard deviation of its logarithm.
      error, error_sd: the same of the error rate.
      ridge_line, semi_parametric_line: the two losses whose geometric mean `loss` is; the second NaN where lost.
      power_law_loss, power_law_error: the checks, made to pass through the values at hand.
      at_end: where the best penalty is the smallest that could be measured, so that the forecast is too high.
      law: power law of the error before that, or None.
      loss_at_hand, error_at_hand: leave-one-out.
      ridge: best penalty at hand.
      end: -1 or 1 if that is the smallest or the largest of its grid, or else 0.
      heaviest, top_share, luck: of a row in the Hessian (not refitted); of 1 % of the rows in the loss; relative
        standard error of the loss.
    """

    loss: np.ndarray
    loss_sd: np.ndarray
    error: np.ndarray
    error_sd: np.ndarray
    ridge_line: np.ndarray
    semi_parametric_line: np.ndarray
    power_law_loss: np.ndarray
    power_law_error: np.ndarray
    at_end: np.ndarray
    law: PowerLaw | None
    loss_at_hand: float
    error_at_hand: float
    ridge: float
    end: int
    heaviest: float
    top_share: float
    luck: float


class _Tuned(NamedTuple):
    rows: Design
    y: np.ndarray
    fits: list[Fit]
    best: int
    error: float

    @property
    def fit(self) -> Fit:
        return self.fits[self.best]


def extrapolate_classes(X, y, sizes, *, ridges, subsets, rng, advance=lambda k=1: None) -> ClassExtrapolation:
    """The forecast itself, without checks and backtest; y is -1 or 1, other arguments as in `classification_curve`.

    Loss: the leave-one-out loss at hand times the geometric mean of two ratios of what it will be to what it is: of
    tuned RIDGE regression on the same rows (kappa-collapse), and of the semi-parametric line. Error: the leave-one-out
    error at hand, counted smoothly, times the first ratio to a power: the elasticity of the error in the loss, read off
    subsets and shrunk to 2.
    """
    n = len(y)
    tuned, of = _tune(X, y, ridges, REFITS)
    copied = len(tuned.y) < n
    path = ridge_path(X, y[:, None], groups=of if copied else None, kind="sign")
    advance()
    ahead = collapse(path, sizes)
    ratio = ahead.loss / path.loss[path.best]
    at_hand, error_at_hand = tuned.fit.loss, max(tuned.error, 0.5 / n)

    line, lost = (np.full(len(sizes), np.nan), ahead.at_cap) if copied else _line(tuned, path, sizes)
    believed = np.isfinite(line)
    loss = np.where(believed, at_hand * np.sqrt(ratio * np.where(believed, line, 1.0)), at_hand * ratio)

    tried, losses, errors = _subsets(X, y, ridges, subsets, rng, advance)
    tried, losses = np.append(tried, n), np.append(losses, at_hand)
    errors = np.maximum(np.append(errors, error_at_hand), 0.5 / tried)
    law, anchored, anchored_error, elasticity = None, *np.full((2, len(sizes)), np.nan), ELASTICITY
    if len(tried) >= 3:
        of_loss, law = fit_power_law(tried, losses), fit_power_law(tried, errors)
        anchored, anchored_error = (at * f(sizes) / f(n) for at, f in ((at_hand, of_loss), (error_at_hand, law)))
        elasticity = _elasticity(losses, errors)
    error = np.maximum(error_at_hand * ratio**elasticity, 0.25 / n)

    rows = LOGISTIC.value(tuned.fit.left_out, tuned.y[:, None]) * tuned.rows.share
    luck = float(np.sqrt(np.sum((rows - tuned.rows.share * at_hand) ** 2)) / at_hand)
    few = max(1, n // 100)
    gap, error_gap = (
        np.nan_to_num(np.log(a / b)) for a, b in ((loss, anchored), (error, law(sizes) if law else anchored_error))
    )
    error_luck = np.sqrt((1 - error_at_hand) / (n * error_at_hand))
    return ClassExtrapolation(
        loss,
        np.sqrt((1.4 * luck) ** 2 + (np.log(loss / at_hand) / 2) ** 2 + (gap / 2) ** 2),
        error,
        np.sqrt((1.15 * error_luck) ** 2 + (elasticity * np.log(ratio) / 2) ** 2 + (error_gap / 2) ** 2),
        at_hand * ratio,
        at_hand * line,
        anchored,
        anchored_error,
        ahead.at_cap | lost,
        law,
        at_hand,
        error_at_hand,
        tuned.fit.ridge,
        int(tuned.best == 0) - int(tuned.best == len(tuned.fits) - 1),
        tuned.fit.heaviest,
        float(np.sort(rows)[-few:].sum() / rows.sum()),
        luck,
    )


def learnable(X: np.ndarray, y: np.ndarray) -> bool:
    """Whether the features vary and each class has two rows."""
    return bool(np.any(np.ptp(X, axis=0)) and min(np.sum(y > 0), np.sum(y < 0)) >= 2)


def _tune(X, y, ridges, refits) -> tuple[_Tuned, np.ndarray]:
    """Leave-one-out along a grid of penalties, copies merged, and the number of each row's set of copies."""
    first, of = merge_copies(X, y)
    rows = make_design(X[first], weights=np.bincount(of).astype(float))
    scale = rows.share @ (rows.Z[:, :-1] ** 2).sum(axis=1)
    grid = scale * np.geomspace(1, 10.0**-DECADES, RIDGES) if ridges is None else ridges
    fits = alo_path(rows, y[first, None], grid, LOGISTIC, refits=refits)
    best = int(np.argmin([fit.loss for fit in fits]))
    return _Tuned(rows, y[first], fits, best, smooth_error(fits[best].left_out[:, 0], y[first], rows.share)), of


def _line(tuned: _Tuned, path: RidgePath, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss over loss at hand by the semi-parametric line, NaN where lost; and where its penalty is its smallest.

    At each size the least over the penalties; and, since each is seen over a limited range only, over smaller sizes.
    """
    ladder = np.unique(np.concatenate([len(tuned.y) * LADDER, sizes]))
    losses = np.full((len(tuned.fits), len(ladder)), np.nan)
    for row, fit in zip(losses, tuned.fits, strict=True):
        measured = measure(fit, tuned.y, fit.W[-1, 0], path.kappa, path.df2)
        if measured is not None:
            for k, found in enumerate(carry(measured, ladder)):
                if found is not None:
                    row[k] = np.logaddexp(0, -tuned.y * found[0]).mean()
    seen = np.isfinite(losses)
    if not seen.any():
        return np.full(len(sizes), np.nan), np.zeros(len(sizes), dtype=bool)
    least = np.where(seen.any(axis=0), np.min(losses, axis=0, where=seen, initial=np.inf), np.nan)
    fallen = np.fmin.accumulate(np.fmin(least, tuned.fit.loss)) / tuned.fit.loss
    chosen = np.argmin(np.where(seen, losses, np.inf), axis=0)
    last = np.where(seen.any(axis=0), len(losses) - 1 - np.argmax(seen[::-1], axis=0), -1)
    at = np.searchsorted(ladder, sizes)
    return np.where(seen.any(axis=0), fallen, np.nan)[at], (chosen == last)[at]


def _subsets(X, y, ridges, subsets, rng, advance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean tuned leave-one-out loss and smooth error over random subsets of each fraction of the rows."""
    n, out = len(y), []
    for fraction, count in zip(FRACTIONS, subsets, strict=True):
        size, found = round(fraction * n), []
        for _ in range(count):
            rows = rng.permutation(n)[:size]
            advance()
            if size >= FEWEST and learnable(X[rows], y[rows]):
                tuned, _ = _tune(X[rows], y[rows], ridges, "none")
                found.append((tuned.fit.loss, tuned.error))
        if found:
            out.append((size, *np.mean(found, axis=0)))
    sizes, losses, errors = np.array(out).reshape(-1, 3).T
    return sizes, losses, errors


def _elasticity(losses: np.ndarray, errors: np.ndarray) -> float:
    """d log error / d log loss between the subset sizes: a regression shrunk towards ELASTICITY."""
    u, v = np.log(losses), np.log(errors)
    u, v = u - u.mean(), v - v.mean()
    slope = (u @ v + SHRINKAGE * ELASTICITY) / (u @ u + SHRINKAGE)
    return float(np.clip(slope, 0.0, 2 * ELASTICITY))
