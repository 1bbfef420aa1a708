"""Sentences that say where a forecast of the learning curve is known to be poor; thresholds from the backtest."""

import numpy as np
from scipy.stats import norm

from ...theory.learning_curve import collapse
from .curve_targets import target_kind
from .extrapolation import FEW

STEEP, LUCK = 0.1, 0.08  # fall of log loss to 4 n, and relative standard error of the loss, above which it is said
FEW_GROUPS = 20


def ridge_warnings(X, Y, copies, groups, sizes, whole, back) -> list[str]:
    """Sentences that say where forecasts are known to be poor; thresholds from the backtest on real tables."""
    n, path, said = len(X), whole.path, []
    loss, far = path.loss[path.best], collapse(path, np.array([4.0 * n])).loss[0]
    rest = min(far / loss, 1.0 if whole.law is None else whole.law(4 * n) / whole.law(n))
    luck = path.loss_sd[path.best] / np.sqrt(n) / loss
    said += [*two_numbers(Y), *about_groups(copies, groups)]
    if n < FEW:
        said.append(f"{n} rows are too few (under {FEW}) for a power law; the theory stands alone, unchecked.")
    if sizes[-1] > 4 * n + 1:
        said.append(f"{sizes[-1]} rows are over 4 times the {n} at hand; forecasts were never checked that far out.")
    if n < 200 and -np.log(rest) > STEEP:
        said.append(f"With {n} rows the curve still falls steeply; forecasts from so few are often 20 % off.")
    smaller = smaller_class(Y)
    if smaller is not None and smaller < 10:
        said.append(f"The smaller class has {smaller} rows (under 10); the forecast hangs on these few.")
    if path.top_share[path.best] >= 0.2:
        share = path.top_share[path.best]
        said.append(f"1 % of the rows carry {share:.0%} of the left-out loss; with tails so heavy forecasts are poor.")
    if luck > LUCK:
        said.append(f"The loss at hand is itself only known to {luck:.0%}: the luck of these {n} rows.")
    rare = _rare_columns(X)
    if rare:
        said.append(
            f"{rare} of the two-valued columns hold one value in fewer than 1 % of rows, which can upset any fit."
        )
    if whole.at_cap.any():
        said.append("More rows allow a smaller ridge than could be measured here; the forecast is an upper estimate.")
    missed = [abs(np.log(f.loss[0] / loss)) > norm.ppf(0.95) * f.sd[0] for _, f in back]
    if missed and np.mean(missed) > 0.5:
        said.append(
            f"In the backtest {sum(missed)} of {len(missed)} forecasts miss the loss at hand; do not rely on this."
        )
    return said


def two_numbers(Y: np.ndarray) -> list[str]:
    """A sentence where a column of two numbers, such as 0 and 1, may be meant as classes."""
    if target_kind(Y) == "regression" and Y.shape[1] == 1 and len(np.unique(Y)) == 2:
        return ["y holds two numbers and was taken as a number; if they are classes, pass them as text or booleans."]
    return []


def smaller_class(Y: np.ndarray) -> int | None:
    """Rows of the rarer of two classes; None with more classes, where small ones were not seen to do harm."""
    kind = target_kind(Y)
    if kind == "sign" or (kind == "one-hot" and np.count_nonzero(Y.any(axis=0)) == 2):
        return int(min(np.count_nonzero(column > 0) for column in (*Y.T[Y.any(axis=0)], *-Y.T) if np.any(column > 0)))
    return None


def _rare_columns(X: np.ndarray) -> int:
    """How many columns have two values of which one stands in fewer than 1 % of the rows."""
    low, high = X.min(axis=0), X.max(axis=0)
    at_low, at_high = np.equal(X, low).sum(axis=0), np.equal(X, high).sum(axis=0)
    return int(np.count_nonzero((at_low + at_high == len(X)) & (np.minimum(at_low, at_high) < 0.01 * len(X))))


def about_groups(copies: np.ndarray, groups: np.ndarray) -> list[str]:
    """Sentences on rows kept together."""
    n, said = len(copies), []
    double, own = n - len(np.unique(copies)), int(groups.max()) + 1
    if double:
        said.append(f"{double} of the {n} rows are exact copies of others; copies were left out together.")
    if own < min(FEW_GROUPS, n - double):
        said.append(f"The rows fall into {own} groups (under {FEW_GROUPS}); their luck is badly known from so few.")
    return said
