"""How much more data will help: held-out loss and error of tuned ridge regression at up to four times the rows.

The forecast is the kappa-collapse of `riron.theory.learning_curve`: leave-one-out errors at the rows at hand, carried
to larger samples by theory, nothing fitted. A power law stands beside it as a check, and a backtest (a quarter and a
half of the rows forecast all of them) as another. What each is worth on real tables: docs/learning-curve-backtest.md.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.stats import norm

from ..checks import as_matrix, as_targets, as_vector
from ..errors import InputError
from ..lab.progress import Progress
from ..theory.learning_curve import collapse
from .extrapolation import FEW, FRACTIONS, Extrapolation, extrapolate, learnable

SUBSETS = (8, 6, 4, 4)  # random subsets of each
DRAWS = 4  # random quarters and halves in the backtest
STEEP, LUCK = 0.1, 0.08  # fall of log loss to 4 n, and relative standard error of the loss, above which it is said
EFFORT = 3e11  # floating-point operations; a longer plan gets fewer subsets and draws (never fewer than one)


def learning_curve(
    X: ArrayLike,
    y: ArrayLike,
    *,
    sizes: ArrayLike | None = None,
    level: float = 0.9,
    ridges: ArrayLike | None = None,
    seed: int = 0,
    draws: int | None = None,
    subsets: Sequence[int] | None = None,
    standardize: bool = False,
    progress: bool | Callable | None = None,
) -> xr.Dataset:
    """Forecast held-out loss and error of tuned ridge regression (intercept free) at n and more rows.

    Rows that are exact copies of one another, features and target, are left out together (leave-one-group-out), since
    a copy in the training rows would make the left-out error optimistic; a warning says how many there are.
    The interval holds the luck of the rows at hand, the distance extrapolated and the disagreement with the power law:
    sd of log loss = sqrt((1.2 se)^2 + (drop/2)^2 + (gap/2)^2), calibrated on real tables.
    The work is counted beforehand and kept near 3e11 operations, where that is possible, by fewer subsets and draws.

    Args:
      X: (n, p) features, n >= 10.
      y: (n,) or (n, K) targets; K >= 2 one-hot columns, or one of -1 and +1, also give the classification error.
      sizes: increasing numbers of rows, >= n; default n times 1, 1.4, 2, 2.8, 4. Beyond 4 n nothing was ever checked.
      level: of the intervals, in (0, 1).
      ridges: grid of lam in (1/n)|y - b - X theta|^2 + lam |theta|^2, > 0, units of feature^2; default 33 values.
      seed: of the random subsets.
      draws: backtest draws for each of n/4 and n/2; default 4, or fewer for large tables.
      subsets: numbers of random subsets of n times 1/8, 1/4, 1/2, 0.7 for the power law; default 8, 6, 4, 4, or fewer.
      standardize: divide every column by its standard deviation first (constant columns stay).
      progress: True, or a function (done, total, label).

    Returns:
      Dataset. Over `n_samples`: test_loss (squared error / 2, summed over outputs), test_loss_low, test_loss_high,
      power_law (the check), ridge (the best lam there), at_cap (True: an upper estimate), and for classes test_error,
      test_error_low, test_error_high. Over `backtest`: backtest_from, backtest_to (rows), backtest_forecast,
      backtest_low, backtest_high, backtest_power_law, backtest_truth (the leave-one-out loss of all rows), for classes
      backtest_error, backtest_error_low, backtest_error_high, backtest_error_truth. Attributes: warnings (a JSON list
      of sentences), ridge and loss_at_hand (the leave-one-out optimum at n), at_cap (0 or 1), power_law
      (floor, scale and exponent of the fit before it is made to pass through the loss at hand), level, kind.

    Raises:
      InputError: values that are not finite, shapes that differ, n < 10, constant targets or features, sizes, level,
        ridges, draws or subsets out of range.

    Source: `riron.theory.learning_curve`; the power law: Viering & Loog, IEEE TPAMI 2023.
    """
    X = as_matrix(X, "X")
    n, Y = len(X), as_targets(y, "y", len(X))
    kind = _check(X, Y)
    sizes = _sizes(sizes, n)
    if not 0 < level < 1:
        raise InputError(f"level={level} must lie between 0 and 1", do="0.9 asks for a 90 % interval")
    lam = None if ridges is None else _ridges(ridges)
    if standardize:
        X = X / np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)
    subsets, draws = _plan(n, X.shape[1], Y.shape[1], subsets, draws)

    rng = np.random.default_rng(seed)
    groups = _group_copies(X, Y)
    origins = [origin for origin in (n // 4, n // 2) if origin >= 10 for _ in range(draws)]
    with Progress((1 + len(origins)) * (1 + sum(subsets)), "learning curve", show=progress) as bar:
        common: dict[str, Any] = {"kind": kind, "ridges": lam, "subsets": subsets, "rng": rng, "advance": bar.advance}
        whole = extrapolate(X, Y, sizes, groups=groups, **common)
        back = []
        for origin in origins:
            rows = rng.permutation(n)[:origin]
            if learnable(X[rows], Y[rows]):
                back.append((origin, extrapolate(X[rows], Y[rows], np.array([n]), groups=groups[rows], **common)))
            else:
                bar.advance(1 + sum(subsets))

    wide = norm.ppf((1 + level) / 2)
    data = _variables(whole, "n_samples", wide, "test_loss", "test_error", kind)
    data |= {name: ("n_samples", getattr(whole, name)) for name in ("power_law", "ridge", "at_cap")}
    data |= _backtest(back, whole.path, wide, kind)
    warnings = _warnings(X, Y, kind, groups, sizes, whole, back)
    attrs = {
        "kind": kind,
        "level": level,
        "ridge": float(whole.path.ridge[whole.path.best]),
        "loss_at_hand": float(whole.path.loss[whole.path.best]),
        "at_cap": int(whole.at_cap.any()),
        "power_law": [np.nan] * 3 if whole.law is None else list(whole.law),
        "warnings": json.dumps(warnings, ensure_ascii=False),
    }
    return xr.Dataset(data, {"n_samples": sizes}, attrs)


def _variables(found, dim, wide, loss, error, kind) -> dict:
    """Forecasts with their intervals under the names given."""
    data = {loss: (dim, found.loss)}
    for side, name in ((-wide, "low"), (wide, "high")):
        data[f"{loss}_{name}"] = (dim, found.loss * np.exp(side * found.sd))
    if kind != "regression":
        data[error] = (dim, found.error)
        for side, name in ((-wide, "low"), (wide, "high")):
            data[f"{error}_{name}"] = (dim, np.minimum(found.error * np.exp(side * found.error_sd), 1.0))
    return data


def _backtest(back, path, wide, kind) -> dict:
    """The backtest's variables: each draw forecasts the loss of all rows."""
    first = {name: np.array([getattr(found, name)[0] for _, found in back]) for name in Extrapolation._fields[:-2]}
    stacked = Extrapolation(**first, law=None, path=path)
    data = _variables(stacked, "backtest", wide, "backtest_forecast", "backtest_error", kind)
    data = {name.replace("backtest_forecast_", "backtest_"): value for name, value in data.items()}
    data["backtest_power_law"] = ("backtest", stacked.power_law)
    data["backtest_from"] = ("backtest", np.array([origin for origin, _ in back], dtype=int))
    data["backtest_to"] = ("backtest", np.full(len(back), path.n))
    data["backtest_truth"] = ("backtest", np.full(len(back), path.loss[path.best]))
    if kind != "regression":
        data["backtest_error_truth"] = ("backtest", np.full(len(back), path.error[path.best]))
    return data


def _warnings(X, Y, kind, groups, sizes, whole, back) -> list[str]:
    """Sentences that say where forecasts are known to be poor; thresholds from the backtest on real tables."""
    n, path, said = len(X), whole.path, []
    loss, far = path.loss[path.best], collapse(path, np.array([4.0 * n])).loss[0]
    rest = min(far / loss, 1.0 if whole.law is None else whole.law(4 * n) / whole.law(n))
    luck = path.loss_sd[path.best] / np.sqrt(n) / loss
    copies = n - len(np.unique(groups))
    if copies:
        said.append(f"{copies} of the {n} rows are exact copies of others; copies were left out together.")
    if n < FEW:
        said.append(f"{n} rows are too few (under {FEW}) for a power law; the theory stands alone, unchecked.")
    if sizes[-1] > 4 * n + 1:
        said.append(f"{sizes[-1]} rows are over 4 times the {n} at hand; forecasts were never checked that far out.")
    if n < 200 and -np.log(rest) > STEEP:
        said.append(f"With {n} rows the curve still falls steeply; forecasts from so few are often 20 % off.")
    smaller = _smaller_class(Y, kind)
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


def _smaller_class(Y, kind) -> int | None:
    """Rows of the rarer of two classes; None with more classes, where small ones were not seen to do harm."""
    if kind == "sign" or (kind == "one-hot" and np.count_nonzero(Y.any(axis=0)) == 2):
        return int(min(np.count_nonzero(column > 0) for column in (*Y.T[Y.any(axis=0)], *-Y.T) if np.any(column > 0)))
    return None


def _rare_columns(X: np.ndarray) -> int:
    """How many columns have two values of which one stands in fewer than 1 % of the rows."""
    low, high = X.min(axis=0), X.max(axis=0)
    at_low, at_high = np.equal(X, low).sum(axis=0), np.equal(X, high).sum(axis=0)
    return int(np.count_nonzero((at_low + at_high == len(X)) & (np.minimum(at_low, at_high) < 0.01 * len(X))))


def _check(X: np.ndarray, Y: np.ndarray) -> str:
    """The kind of target, once rows, features and targets are fit to be forecast from."""
    n = len(X)
    if n < 10:
        raise InputError(f"X has {n} rows", why="a learning curve needs at least 10", do="give more rows")
    if not np.any(np.ptp(X, axis=0)):
        raise InputError("every column of X is constant", do="give features that differ between the rows")
    if not np.any(np.ptp(Y, axis=0)):
        raise InputError("y is constant", why="there is nothing to learn", do="check which column is the target")
    if Y.shape[1] >= 2 and np.all((Y == 0) | (Y == 1)) and np.all(Y.sum(axis=1) == 1):
        return "one-hot"
    return "sign" if Y.shape[1] == 1 and np.all(np.abs(Y) == 1) else "regression"


def _sizes(sizes: ArrayLike | None, n: int) -> np.ndarray:
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


def _ridges(ridges: ArrayLike) -> np.ndarray:
    grid = np.unique(as_vector(np.atleast_1d(ridges), "ridges"))
    if grid[0] <= 0:
        raise InputError(f"ridges holds {grid[0]:g}", do="give values > 0")
    return grid


def _plan(n: int, p: int, outputs: int, subsets, draws) -> tuple[tuple[int, ...], int]:
    """Numbers of subsets and of backtest draws, given or scaled down until the work predicted is about EFFORT."""
    if subsets is not None and (len(subsets) != len(FRACTIONS) or any(int(k) != k or k < 0 for k in subsets)):
        raise InputError(f"subsets={subsets} must be {len(FRACTIONS)} whole numbers >= 0", do="leave it out")
    if draws is not None and (int(draws) != draws or draws < 0):
        raise InputError(f"draws={draws} must be a whole number >= 0", do="0 leaves the backtest out")

    def work(rows, counts):
        size = rows * np.array([*FRACTIONS, 1.0])
        small, large = np.minimum(size, p), np.maximum(size, p)
        return (*counts, 1) @ (4 * small**2 * large + 20 * small**3 + 66 * small * size * outputs)

    def total(counts, repeats):
        return work(n, counts) + repeats * (work(n / 2, counts) + work(n / 4, counts))

    share = min(1.0, EFFORT / total(SUBSETS, DRAWS))
    fewer = tuple(max(1, round(k * share)) for k in SUBSETS)
    counts = tuple(int(k) for k in subsets) if subsets is not None else fewer
    return counts, int(draws) if draws is not None else max(1, round(DRAWS * share))


def _group_copies(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(n,) integers, equal for rows whose features and targets are exact copies."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(np.hstack([X, Y]) + 0.0)  # -0.0 becomes 0.0: the bytes of equal rows are equal
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows])
