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

from ...checks import as_targets
from ...errors import InputError
from ...lab.progress import Progress
from .arguments import check_level, features_of, holds_labels, one_hot, ridge_grid, sizes_asked, whole_number
from .curve_targets import check_targets, copies_of
from .curve_warnings import ridge_warnings
from .estimator_curve import FOLDS, estimator_curve
from .extrapolation import FRACTIONS, Extrapolation, extrapolate, learnable
from .splits import group_rows, subset

SUBSETS = (8, 6, 4, 4)  # random subsets of each
DRAWS = 4  # random quarters and halves in the backtest
EFFORT = 3e11  # floating-point operations; a longer plan gets fewer subsets and draws (never fewer than one)


def learning_curve(
    X: ArrayLike,
    y: ArrayLike,
    *,
    estimator: Any = None,
    groups: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    level: float = 0.9,
    ridges: ArrayLike | None = None,
    seed: int = 0,
    draws: int | None = None,
    subsets: Sequence[int] | None = None,
    standardize: bool = False,
    folds: int = FOLDS,
    n_jobs: int | None = None,
    progress: bool | Callable | None = None,
) -> xr.Dataset:
    """Forecast held-out loss and error at n and more rows: of tuned ridge regression, or of any scikit-learn estimator.

    Ridge regression (no estimator named; intercept free) is forecast by theory from exact leave-one-out errors. The
    interval holds the luck of the rows at hand, the distance extrapolated and the disagreement with the power law:
    sd of log loss = sqrt((1.2 se)^2 + (drop/2)^2 + (gap/2)^2), calibrated on real tables. The work is counted
    beforehand and kept near 3e11 operations, where that is possible, by fewer subsets and draws.

    For an estimator no theory is at hand: it is trained on nested parts (1/8, 1/4, 1/2, 0.7, all) of the training rows
    of K folds, and the power law a + b n^-c through its mean scores, made to pass through the last, is carried on
    (`riron.forecast.more_data.estimator_curve`). Its trainings number 5 K (1 + 2 draws) at most, 125 by default.

    Rows of one group, and rows that are exact copies of one another, features and target, are kept together: left out
    together, and in or out of a subset together.

    Args:
      X: (n, p) features, n >= 10; p may exceed n. With an estimator n >= 40; NaN, and a data frame as it is, are
        handed on to it.
      y: (n,) or (n, K) targets. K >= 2 one-hot columns, or one of -1 and +1, are classes and also give the
        classification error; so are text, booleans and, for a classifier, numbers. Other numbers are numbers.
      estimator: None, an object with scikit-learn's fit and predict (never changed: clones are trained), or a name
        such as "hist-gradient-boosting", "random-forest", "logistic-regression", "knn", "svm" or "mlp", whose task
        the target decides. A regressor is scored by squared error / 2 (of one-hot columns or -1/+1 too), a classifier
        by log loss in nats, with probabilities under 0.001 taken as 0.001, or by its error if it has no probabilities.
      groups: (n,) labels, equal for rows that belong together (of one patient, place or day).
      sizes: increasing numbers of rows, >= n; default n times 1, 1.4, 2, 2.8, 4. Beyond 4 n nothing was ever checked.
      level: of the intervals, in (0, 1).
      ridges: grid of lam in (1/n)|y - b - X theta|^2 + lam |theta|^2, > 0, units of feature^2; default 33 values.
      seed: of the random subsets, folds, and an estimator's random_state where that is left open.
      draws: backtest draws for each of n/4 and n/2; default 4, or fewer for large tables; 2 with an estimator.
      subsets: numbers of random subsets of n times 1/8, 1/4, 1/2, 0.7 for the power law; default 8, 6, 4, 4, or fewer.
      standardize: divide every column by its standard deviation first (constant columns stay).
      folds: K, with an estimator.
      n_jobs: processes that train estimators (joblib); None for one, -1 for all cores.
      progress: True, or a function (done, total, label).

    Returns:
      Dataset. Over `n_samples`: test_loss (squared error / 2, summed over outputs; or what the attribute `loss` says),
      test_loss_low, test_loss_high, power_law (the check; with an estimator the forecast itself), ridge (the best lam
      there; not with an estimator), at_cap (True: an upper estimate), and for classes test_error, test_error_low,
      test_error_high. Over `backtest`: backtest_from, backtest_to (rows), backtest_forecast, backtest_low,
      backtest_high, backtest_power_law, backtest_truth (the left-out loss of all rows), for classes backtest_error,
      backtest_error_low, backtest_error_high, backtest_error_truth. Over `measured`: measured_rows (trained on) and
      measured_loss, through which the power law goes. Attributes: warnings (a JSON list of sentences), loss_at_hand
      (left out, at n; with an estimator at `rows_at_hand` training rows), at_cap (0 or 1), power_law (floor, scale and
      exponent of the fit before it is made to pass through the loss at hand), level, loss, kind ("regression",
      "one-hot", "sign" or, for a classifier, "labels"), and ridge or estimator.

    Raises:
      InputError: values that are not finite, shapes that differ, too few rows, constant targets or features, sizes,
        level, ridges, draws, subsets or folds out of range; an estimator unknown or unfit for the target, or one that
        fails.

    Source: `riron.theory.learning_curve`; the power law: Viering & Loog, IEEE TPAMI 2023 (viering2023).
    """
    check_level(level)
    seed = whole_number(seed, "seed", 0, "give one such as 0")
    if estimator is not None:
        if ridges is not None or subsets is not None or standardize:
            raise InputError("ridges, subsets and standardize belong to ridge regression", do="leave them or estimator")
        return estimator_curve(
            X, y, estimator, sizes=lambda n: sizes_asked(sizes, n), level=level, groups=groups, folds=folds,
            draws=draws, n_jobs=n_jobs, seed=seed, progress=progress,
        )  # fmt: skip
    X, values = features_of(X), np.asarray(y)
    n = len(X)
    Y = as_targets(one_hot(values) if holds_labels(values) and len(values) == n else y, "y", n)
    kind = _check(X, Y)
    sizes = sizes_asked(sizes, n)
    lam = None if ridges is None else ridge_grid(ridges)
    if standardize:
        X = X / np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)
    subsets, draws = _plan(n, X.shape[1], Y.shape[1], subsets, draws)

    rng = np.random.default_rng(seed)
    copies = copies_of(X, Y)
    groups = group_rows(groups, copies, n)
    origins = [origin for origin in (n // 4, n // 2) if origin >= 10 for _ in range(draws)]
    with Progress((1 + len(origins)) * (1 + sum(subsets)), "learning curve", show=progress) as bar:
        common: dict[str, Any] = {"kind": kind, "ridges": lam, "subsets": subsets, "rng": rng, "advance": bar.advance}
        whole = extrapolate(X, Y, sizes, groups=groups, **common)
        back = []
        for origin in origins:
            rows = subset(groups, origin, rng)
            if learnable(X[rows], Y[rows], groups[rows]):
                back.append((origin, extrapolate(X[rows], Y[rows], np.array([n]), groups=groups[rows], **common)))
            else:
                bar.advance(1 + sum(subsets))

    wide = norm.ppf((1 + level) / 2)
    data = _variables(whole, "n_samples", wide, "test_loss", "test_error", kind)
    data |= {name: ("n_samples", getattr(whole, name)) for name in ("power_law", "ridge", "at_cap")}
    data |= _backtest(back, whole.path, wide, kind)
    data |= {"measured_rows": ("measured", whole.measured[0]), "measured_loss": ("measured", whole.measured[1])}
    warnings = ridge_warnings(X, Y, copies, groups, sizes, whole, back)
    attrs = {
        "kind": kind,
        "loss": "squared error / 2",
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
    first = {name: np.array([getattr(found, name)[0] for _, found in back]) for name in Extrapolation._fields[:-3]}
    stacked = Extrapolation(**first, law=None, path=path, measured=(np.empty(0), np.empty(0)))
    data = _variables(stacked, "backtest", wide, "backtest_forecast", "backtest_error", kind)
    data = {name.replace("backtest_forecast_", "backtest_"): value for name, value in data.items()}
    data["backtest_power_law"] = ("backtest", stacked.power_law)
    data["backtest_from"] = ("backtest", np.array([origin for origin, _ in back], dtype=int))
    data["backtest_to"] = ("backtest", np.full(len(back), path.n))
    data["backtest_truth"] = ("backtest", np.full(len(back), path.loss[path.best]))
    if kind != "regression":
        data["backtest_error_truth"] = ("backtest", np.full(len(back), path.error[path.best]))
    return data


def _check(X: np.ndarray, Y: np.ndarray) -> str:
    """The kind of target, once rows, features and targets are fit to be forecast from."""
    n = len(X)
    if n < 10:
        raise InputError(f"X has {n} rows", why="a learning curve needs at least 10", do="give more rows")
    if not np.any(np.ptp(X, axis=0)):
        raise InputError("every column of X is constant", do="give features that differ between the rows")
    return check_targets(Y)


def _plan(n: int, p: int, outputs: int, subsets, draws) -> tuple[tuple[int, ...], int]:
    """Numbers of subsets and of backtest draws, given or scaled down until the work predicted is about EFFORT."""
    if subsets is not None and (len(subsets) != len(FRACTIONS) or any(int(k) != k or k < 0 for k in subsets)):
        raise InputError(f"subsets={subsets} must be {len(FRACTIONS)} whole numbers >= 0", do="leave it out")
    draws = None if draws is None else whole_number(draws, "draws", 0, "0 leaves the backtest out")

    def work(rows, counts):
        size = rows * np.array([*FRACTIONS, 1.0])
        small, large = np.minimum(size, p), np.maximum(size, p)
        return (*counts, 1) @ (4 * small**2 * large + 20 * small**3 + 66 * small * size * outputs)

    def total(counts, repeats):
        return work(n, counts) + repeats * (work(n / 2, counts) + work(n / 4, counts))

    share = min(1.0, EFFORT / total(SUBSETS, DRAWS))
    fewer = tuple(max(1, round(k * share)) for k in SUBSETS)
    counts = tuple(int(k) for k in subsets) if subsets is not None else fewer
    return counts, draws if draws is not None else max(1, round(DRAWS * share))
