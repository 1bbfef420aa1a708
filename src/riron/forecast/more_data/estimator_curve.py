"""How much more data will help any scikit-learn estimator: cross-validated scores and the power law through them.

Where no theory is at hand the forecast is a + b n^-c, fitted to the scores at nested numbers of training rows and made
to pass through the last of them, which is measured best. The interval holds what that of tuned ridge holds: the luck of
the rows, the fall and the distance extrapolated, and the disagreement with a second law, the power law without a floor;
its constants were chosen for neighbours, trees and linear models on the tables of the backtest that are not fresh.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import norm

from ...checks import as_targets
from ...errors import InputError
from ...lab.progress import Progress
from .arguments import features_of, holds_labels, one_hot, whole_number
from .curve_targets import check_targets, copies_of
from .curve_warnings import LUCK, STEEP, about_groups, smaller_class, two_numbers
from .estimator_scores import FRACTIONS, SMALLEST, Fit, Task, checked, score_all
from .named_estimators import named_estimator
from .power_law import PowerLaw, fit_power_law
from .splits import folds as make_folds
from .splits import group_rows, nearest_cut, subset

DRAWS, FOLDS = 2, 5
LEAST = 40  # rows, of the table and of a backtest's part
SPREAD = (1.4, 0.7, 0.3, 0.07)  # in the sd of log loss: of luck, fall, disagreement and log distance


class Measured(NamedTuple):
    """Scores of one sample at numbers of training rows, in increasing order; `se` of the logarithm of the last."""

    rows: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    se: float
    error_se: float


class Forecast(NamedTuple):
    """Losses (or errors) at the sizes asked for, and the standard deviation of their logarithm."""

    value: np.ndarray
    sd: np.ndarray
    law: PowerLaw


def estimator_curve(
    X: Any,
    y: Any,
    estimator: Any,
    *,
    sizes: Callable[[int], np.ndarray],
    level: float,
    groups: Any,
    folds: int,
    draws: int | None,
    n_jobs: int | None,
    seed: int,
    progress: bool | Callable | None,
) -> xr.Dataset:
    """The learning curve of an estimator; arguments and Dataset as `learning_curve` documents them."""
    folds = whole_number(folds, "folds", 2, "5 leaves a fifth of the rows out each time")
    draws = DRAWS if draws is None else whole_number(draws, "draws", 0, "0 leaves the backtest out")
    if n_jobs is not None and n_jobs != -1:
        n_jobs = whole_number(n_jobs, "n_jobs", 1, "-1 uses all cores")
    task, Y, copies = _task(X, y, estimator)
    n, classes = len(Y), task.kind != "regression"
    if n < LEAST:
        raise InputError(f"X has {n} rows", why=f"an estimator's curve needs at least {LEAST}", do="give more rows")
    sizes_asked, together = sizes(n), group_rows(groups, copies, n)

    rng = np.random.default_rng(seed)
    origins = [origin for origin in (n // 4, n // 2) if origin >= LEAST for _ in range(draws)]
    samples = [np.arange(n), *(subset(together, origin, rng) for origin in origins)]
    fits = [fit for k, rows in enumerate(samples) for fit in _fits(k, rows, together, folds, rng)]
    with Progress(len(fits), "learning curve", show=progress) as bar:
        scores = list(score_all(task, fits, n_jobs, bar.advance))

    name = type(task.estimator).__name__ if not isinstance(estimator, str) else estimator
    whole, said = _measured(fits, scores, 0, together)
    if whole is None:
        failed = next(s.failure for f, s in zip(fits, scores, strict=True) if f.sample == 0 and s.failure)
        raise InputError(f"{name} could not be trained and scored on this table: {failed}", do="correct that first")
    loss = _forecast(whole.rows, whole.loss, whole.se, sizes_asked)
    data = {"test_loss": ("n_samples", loss.value), **_bounds("test_loss", "n_samples", loss, level)}
    if classes:
        error = _forecast(whole.rows, whole.error, whole.error_se, sizes_asked)
        data |= {"test_error": ("n_samples", error.value), **_bounds("test_error", "n_samples", error, level, 1.0)}
    data |= {"power_law": ("n_samples", loss.value), "at_cap": ("n_samples", np.zeros(len(sizes_asked), dtype=bool))}
    data |= {"measured_rows": ("measured", whole.rows), "measured_loss": ("measured", whole.loss)}
    back = [
        (origin, found)
        for k, origin in enumerate(origins, start=1)
        if (found := _measured(fits, scores, k, together)[0]) is not None
    ]
    data |= _backtest(back, whole, level, classes)
    warnings = [*_warnings(Y, task, copies, together, sizes_asked, whole, loss, data), *said, *_warned(name, scores)]
    attrs = {
        "kind": task.kind,
        "estimator": name,
        "loss": task.loss,
        "level": level,
        "loss_at_hand": float(whole.loss[-1]),
        "rows_at_hand": int(whole.rows[-1]),
        "at_cap": 0,
        "power_law": list(loss.law),
        "warnings": json.dumps(warnings, ensure_ascii=False),
    }
    return xr.Dataset(data, {"n_samples": sizes_asked}, attrs)


def _task(X: Any, y: Any, estimator: Any) -> tuple[Task, np.ndarray, np.ndarray]:
    """What is to be trained, its targets as numbers (n, K), and the numbers of equal rows."""
    from sklearn.base import is_classifier

    values = np.asarray(y)
    frame = hasattr(X, "iloc")
    features: Any = X if frame else features_of(X, gaps=True)
    n = len(features)
    text = holds_labels(values)
    named = isinstance(estimator, str)
    classifier = not named and is_classifier(checked(estimator))
    if text and len(values) == n and not (named or classifier):
        raise InputError("y holds labels and the estimator is a regressor", do="pass a classifier, or numbers")
    if (text or classifier or estimator == "logistic-regression" or estimator == "naive-bayes") and values.ndim == 1:
        if len(values) != n:
            raise InputError(f"y has {len(values)} rows and X has {n}", do="pass one target for each row")
        if values.dtype.kind == "f" and np.any(values[np.isfinite(values)] % 1):
            raise InputError("y holds fractions and the estimator is a classifier", do="pass a regressor, or labels")
        Y = one_hot(values)
    else:
        Y = as_targets(y, "y", n)
    kind = check_targets(Y)
    if named:
        estimator = named_estimator(estimator, classes=kind != "regression")
        classifier = kind != "regression"
    elif classifier and kind == "regression":
        raise InputError(
            "y has several columns of numbers and the estimator is a classifier", do="pass one label a row"
        )
    if classifier:
        if smaller_class(Y) == 1:
            raise InputError("the smaller class of y has 1 row", do="give more rows of it")
        target = Y.argmax(axis=1) if kind == "one-hot" else (Y[:, 0] > 0).astype(int)
        loss, kind = ("log loss" if hasattr(estimator, "predict_proba") else "error"), "labels"
    else:
        target, loss = (Y[:, 0] if Y.shape[1] == 1 else Y), "squared error / 2"
    if frame:
        from pandas import util

        features = features.reset_index(drop=True)
        hashing: Any = util
        hashed = hashing.hash_pandas_object(features, index=False).to_numpy()
        copies = copies_of(np.unique(hashed, return_inverse=True)[1][:, None].astype(float), Y)
    else:
        copies = copies_of(features, Y)
    return Task(estimator, features, target, kind, loss), Y, copies


def _fits(sample: int, rows: np.ndarray, together: np.ndarray, folds: int, rng: np.random.Generator) -> list[Fit]:
    """Every training for one sample: in each fold, on nested parts of the training rows that grow by whole groups."""
    own = np.unique(together[rows], return_inverse=True)[1]
    if own.max() == 0:
        return []
    out = []
    for fold, (train, test) in enumerate(make_folds(own, folds, rng)):
        for level, fraction in enumerate(FRACTIONS):
            if fraction == 1 or fraction * len(train) >= SMALLEST:
                part = train[: nearest_cut(own[train], round(fraction * len(train)))]
                out.append(Fit(sample, level, fold, rows[part], rows[test], int(rng.integers(2**31 - 1))))
    return out


def _measured(fits, scores, sample: int, together: np.ndarray) -> tuple[Measured | None, list[str]]:
    """Mean scores by level, those at which every training went well; None if the last of them did not."""
    rows, loss, error, said = [], [], [], []
    last = None
    for level in range(len(FRACTIONS)):
        found = [(f, s) for f, s in zip(fits, scores, strict=True) if f.sample == sample and f.level == level]
        if not found:
            continue
        size = np.mean([len(f.train) for f, _ in found])
        failures = [s.failure for _, s in found if s.failure]
        if failures:
            said.append(f"Trainings on {size:.0f} rows are left out, as some failed ({failures[0]}).")
            continue
        test = np.concatenate([f.test for f, _ in found])
        last = level, test, np.concatenate([s.loss for _, s in found]), np.concatenate([s.error for _, s in found])
        rows.append(size)
        loss.append(max(last[2].mean(), np.finfo(float).tiny))
        error.append((last[3].sum() + 0.5) / (len(test) + 1))  # half an error: none seen is not none forecast
    if last is None or last[0] != len(FRACTIONS) - 1:
        return None, said
    _, test, losses, errors = last
    group, n = np.unique(together[test], return_inverse=True)[1], len(test)

    def relative(values, mean):
        return np.sqrt((np.bincount(group, values - values.mean()) ** 2).sum()) / n / mean

    error_se = max(relative(errors, error[-1]), np.sqrt(0.5) / n / error[-1])
    found = Measured(np.array(rows), np.array(loss), np.array(error), relative(losses, loss[-1]), error_se)
    return found, said


def _forecast(rows: np.ndarray, values: np.ndarray, se: float, sizes: np.ndarray) -> Forecast:
    """The anchored power law, and the standard deviation of its logarithm."""
    law = fit_power_law(rows, values) if len(rows) >= 3 else PowerLaw(float(values[-1]), 0.0, 1.0)
    value = values[-1] * law(sizes) / law(rows[-1])
    drop = np.log(values[-1] / value)
    gap = np.log(value / (values[-1] * (sizes / rows[-1]) ** -_slope(rows, values)))
    parts = np.stack([np.full(len(sizes), se), drop, gap, np.log(sizes / rows[-1])])
    return Forecast(value, np.sqrt((np.square(SPREAD)[:, None] * parts**2).sum(axis=0)), law)


def _slope(rows: np.ndarray, values: np.ndarray) -> float:
    """The exponent of the power law without a floor through the larger half of the sizes; 1/4 if it is unknown."""
    large = rows >= rows[-1] / 2.2
    if np.count_nonzero(large) < 2:
        return 0.25
    return float(max(-np.polyfit(np.log(rows[large]), np.log(values[large]), 1)[0], 0.0))


def _bounds(name: str, dim: str, found: Forecast, level: float, most: float = np.inf) -> dict:
    wide = norm.ppf((1 + level) / 2)
    return {
        f"{name}_{side}": (dim, np.minimum(found.value * np.exp(sign * wide * found.sd), most))
        for sign, side in ((-1, "low"), (1, "high"))
    }


def _backtest(back, whole: Measured, level: float, classes: bool) -> dict:
    """Each part of the rows forecasts the score at as many training rows as all rows were measured with."""
    target = whole.rows[-1:]
    loss = [_forecast(m.rows, m.loss, m.se, target) for _, m in back]
    stack = lambda found: Forecast(*(np.array([f[k][0] for f in found]) for k in (0, 1)), law=PowerLaw(0.0, 0.0, 0.0))
    dim = "backtest"
    data = {"backtest_forecast": (dim, stack(loss).value), "backtest_power_law": (dim, stack(loss).value)}
    bounds = _bounds("backtest", dim, stack(loss), level)
    data |= bounds | {"backtest_from": (dim, np.array([origin for origin, _ in back], dtype=int))}
    data |= {"backtest_to": (dim, np.full(len(back), round(target[0])))}
    data |= {"backtest_truth": (dim, np.full(len(back), whole.loss[-1]))}
    if classes:
        error = [_forecast(m.rows, m.error, m.error_se, target) for _, m in back]
        data |= {"backtest_error": (dim, stack(error).value)}
        data |= _bounds("backtest_error", dim, stack(error), level, 1.0)
        data |= {"backtest_error_truth": (dim, np.full(len(back), whole.error[-1]))}
    return data


def _warnings(Y, task: Task, copies, together, sizes, whole: Measured, loss: Forecast, data) -> list[str]:
    """Where forecasts are known to be poor."""
    n, said = len(Y), [*two_numbers(Y), *about_groups(copies, together)]
    if sizes[-1] > 4 * n + 1:
        said.append(f"{sizes[-1]} rows are over 4 times the {n} at hand; forecasts were never checked that far out.")
    if len(whole.rows) < 3:
        said.append("Too few sizes could be measured for a power law; the score at hand is carried forward.")
    if n < 200 and np.log(loss.law(n) / max(loss.law(4 * n), np.finfo(float).tiny)) > STEEP:
        said.append(f"With {n} rows the curve still falls steeply; forecasts from so few are often 20 % off.")
    few = smaller_class(Y)
    if few is not None and few < 10:
        said.append(f"The smaller class has {few} rows (under 10); the forecast hangs on these few.")
    if whole.se > LUCK:
        said.append(f"The loss at hand is itself only known to {whole.se:.0%}: the luck of these {n} rows.")
    truth, low, high = (data[f"backtest_{name}"][1] for name in ("truth", "low", "high"))
    missed = (truth < low) | (truth > high)
    if missed.size and missed.mean() > 0.5:
        said.append(
            f"In the backtest {missed.sum()} of {missed.size} intervals miss the loss at hand; do not rely on this."
        )
    return said


def _warned(name: str, scores) -> list[str]:
    """What the estimator itself warned of, counted."""
    kinds = [kind for score in scores for kind in score.warned if kind not in ("FutureWarning", "DeprecationWarning")]
    return [f"{name} gave a {k} in {kinds.count(k)} of {len(scores)} trainings." for k in sorted(set(kinds))]
