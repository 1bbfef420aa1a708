"""How much more data will help a classifier: error and log loss of tuned logistic regression at four times the rows.

The forecast starts from approximate leave-one-out with exact refits of the rows where that would fail, and is carried
to larger samples by theory: the kappa-collapse of ridge regression on the same rows, and for the loss the
semi-parametric line of logistic regression itself. A power law stands beside it as a check, and a backtest (a quarter
and a half of the rows forecast all of them) as another. Measured: docs/classification-error-backtest.md.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.stats import norm

from ...errors import InputError
from ...lab.progress import Progress
from ...theory.alo import HEAVY
from ...theory.alo_newton import merge_copies
from .arguments import check_labels, check_level, features_of, ridge_grid, sizes_asked, whole_number
from .classification_extrapolation import FRACTIONS, ClassExtrapolation, extrapolate_classes, learnable

SUBSETS, DRAWS = (8, 6, 4, 4), 4
EFFORT = 2e11  # floating-point operations; a longer plan gets fewer subsets and draws
LUCK, TOP_SHARE, SMALL_CLASS = 0.1, 0.2, 10  # beyond which it is said
NAMES = ("power_law_loss", "power_law_error", "ridge_line", "semi_parametric_line", "at_end")


def classification_curve(
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
    """Forecast held-out error and log loss of tuned ridge-logistic regression (intercept free) at n and more rows.

    With three classes and more the question is answered for two: the largest against the rest, and a warning says so.
    Rows that are exact copies are left out together; the semi-parametric line is then left out.

    Args:
      X: (n, p) features, n >= 20.
      y: (n,) labels, or (n, K) one-hot columns; each of the two classes needs 2 rows.
      sizes: increasing numbers of rows, >= n; default n times 1, 1.4, 2, 2.8, 4. Beyond 4 n nothing was ever checked.
      level: of the intervals, in (0, 1).
      ridges: grid of lam in mean loss + (lam/2)|w|^2, > 0; default 19 values from tr S down to 1e-6 tr S, S the
        covariance of the columns.
      seed: of the random subsets.
      draws: backtest draws for each of n/4 and n/2; default 4, or fewer for large tables.
      subsets: numbers of random subsets of n times 1/8, 1/4, 1/2, 0.7 for the power law; default 8, 6, 4, 4, or fewer.
      standardize: divide every column by its standard deviation first.
      progress: True, or a function (done, total, label).

    Returns:
      Dataset. Over `n_samples`: test_error, test_loss (log loss, nats), both with _low and _high; power_law_error and
      power_law_loss (the checks); ridge_line and semi_parametric_line (the two losses that test_loss is made of);
      at_end (True: an upper estimate). Over `backtest`: backtest_from, backtest_to (rows), backtest_error and
      backtest_loss with _low and _high, backtest_power_law_error, backtest_error_truth and backtest_loss_truth (of all
      rows, by leave-one-out). Attributes: warnings (a JSON list of sentences), error_at_hand, loss_at_hand, ridge
      (leave-one-out at n), positive (the class called positive), power_law (floor, scale, exponent of the error's,
      before it is made to pass through the value at hand), level.

    Raises:
      InputError: values that are not finite, shapes that differ, too few rows or classes, constant features, sizes,
        level, ridges, draws or subsets out of range.

    Source: `riron.theory.alo`, `riron.theory.learning_curve`, `riron.theory.semi_parametric`.
    """
    check_level(level)
    seed = whole_number(seed, "seed", 0, "give one such as 0")
    X = features_of(X)
    signs, positive, said = _two_classes(y, X)
    n = len(X)
    sizes = sizes_asked(sizes, n)
    grid = None if ridges is None else ridge_grid(ridges)
    if standardize:
        X = X / np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)
    subsets, draws = _plan(n, X.shape[1], subsets, draws)

    rng = np.random.default_rng(seed)
    origins = [origin for origin in (n // 4, n // 2) if origin >= 20 for _ in range(draws)]
    back: list[tuple[int, ClassExtrapolation]] = []
    with Progress((1 + len(origins)) * (1 + sum(subsets)), "classification error", show=progress) as bar:
        common = {"ridges": grid, "subsets": subsets, "rng": rng, "advance": bar.advance}
        whole = extrapolate_classes(X, signs, sizes, **common)
        for origin in origins:
            rows = rng.permutation(n)[:origin]
            if learnable(X[rows], signs[rows]):
                back.append((origin, extrapolate_classes(X[rows], signs[rows], np.array([n]), **common)))
            else:
                bar.advance(1 + sum(subsets))

    wide = float(norm.ppf((1 + level) / 2))
    data = _variables(whole, "n_samples", wide, "test")
    data |= {name: ("n_samples", getattr(whole, name)) for name in NAMES}
    data |= _backtest(back, whole, n, wide)
    attrs = {
        "level": level,
        "positive": positive,
        "ridge": whole.ridge,
        "loss_at_hand": whole.loss_at_hand,
        "error_at_hand": whole.error_at_hand,
        "power_law": [np.nan] * 3 if whole.law is None else list(whole.law),
        "warnings": json.dumps([*said, *_warnings(X, signs, sizes, whole, back)], ensure_ascii=False),
    }
    return xr.Dataset(data, {"n_samples": sizes}, attrs)


def _variables(found, dim: str, wide: float, name: str) -> dict:
    """Error and loss with their intervals."""
    data = {}
    for what, most in (("error", 1.0), ("loss", np.inf)):
        middle, sd = getattr(found, what), getattr(found, f"{what}_sd")
        data[f"{name}_{what}"] = (dim, middle)
        for side, end in ((-wide, "low"), (wide, "high")):
            data[f"{name}_{what}_{end}"] = (dim, np.minimum(middle * np.exp(side * sd), most))
    return data


def _backtest(back: list, whole: ClassExtrapolation, n: int, wide: float) -> dict:
    """Each draw's forecast for all rows."""
    first = {
        name: np.array([getattr(found, name)[0] for _, found in back])
        for name in ("loss", "loss_sd", "error", "error_sd", "power_law_error")
    }
    data = _variables(whole._replace(**first), "backtest", wide, "backtest")
    data["backtest_power_law_error"] = ("backtest", first["power_law_error"])
    data["backtest_from"] = ("backtest", np.array([origin for origin, _ in back], dtype=int))
    for name, value in (("to", n), ("error_truth", whole.error_at_hand), ("loss_truth", whole.loss_at_hand)):
        data[f"backtest_{name}"] = ("backtest", np.full(len(back), value))
    return data


def _warnings(X, signs, sizes, whole: ClassExtrapolation, back) -> list[str]:
    """Sentences that say where forecasts are known to be poor."""
    n, said = len(signs), []
    copies = n - len(merge_copies(X, signs)[0])
    smaller = int(min(np.sum(signs > 0), np.sum(signs < 0)))
    if copies:
        said.append(f"{copies} of the {n} rows are exact copies of others; copies were left out together.")
    if sizes[-1] > 4 * n + 1:
        said.append(f"{sizes[-1]} rows are over 4 times the {n} at hand; forecasts were never checked that far out.")
    if smaller < SMALL_CLASS:
        said.append(f"The smaller class has {smaller} rows (under {SMALL_CLASS}); the forecast hangs on these few.")
    if whole.end < 0:
        said.append("The left-out loss is least at the smallest penalty tried; give smaller ridges.")
    if whole.end > 0:
        said.append(
            "The left-out loss is least at the largest penalty tried; the columns may say nothing of the class."
        )
    if whole.at_end.any():
        said.append("More rows allow a smaller penalty than could be measured here; the forecast is an upper estimate.")
    if whole.heaviest > HEAVY:
        said.append(
            f"A row that was not refitted has {whole.heaviest:.2f} of the Hessian; left-out losses are too low."
        )
    if whole.top_share >= TOP_SHARE:
        said.append(
            f"1 % of the rows carry {whole.top_share:.0%} of the left-out loss; such tails make poor forecasts."
        )
    if whole.luck > LUCK:
        said.append(f"The loss at hand is itself only known to {whole.luck:.0%}: the luck of these {n} rows.")
    wrong = whole.error_at_hand * n
    if wrong < 20:
        said.append(
            f"About {wrong:.0f} of the {n} rows are wrong when left out; an error rate from so few is uncertain."
        )
    missed = [abs(np.log(f.error[0] / whole.error_at_hand)) > norm.ppf(0.95) * f.error_sd[0] for _, f in back]
    if missed and np.mean(missed) > 0.5:
        said.append(
            f"In the backtest {sum(missed)} of {len(missed)} forecasts miss the error at hand; do not rely on it."
        )
    return said


def _two_classes(y: ArrayLike, X: np.ndarray) -> tuple[np.ndarray, str, list[str]]:
    """Labels as -1 and 1, the name of the positive class, and what has to be said of it."""
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not (np.all((labels == 0) | (labels == 1)) and np.all(labels.sum(axis=1) == 1)):
            raise InputError("y has several columns that are not one-hot", do="give one label for each row")
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    if len(labels) != len(X):
        raise InputError(f"y has {len(labels)} rows and X has {len(X)}", do="pass one label for each row")
    check_labels(labels)
    labels = labels.astype(str) if labels.dtype == object else labels
    if len(X) < 20:
        raise InputError(
            f"X has {len(X)} rows", why="a learning curve of an error needs at least 20", do="give more rows"
        )
    if not np.any(np.ptp(X, axis=0)):
        raise InputError("every column of X is constant", do="give features that differ between the rows")
    names, count = np.unique(labels, return_counts=True)
    if len(names) > len(X) / 2:
        raise InputError(f"y has {len(names)} different values in {len(X)} rows", do="give classes, not numbers")
    if len(names) < 2:
        raise InputError("y holds one class", why="there is nothing to learn", do="check which column is the target")
    said, chosen = [], len(names) - 1
    if len(names) > 2:
        chosen = int(np.argmax(count))
        said.append(f"y has {len(names)} classes; this is the error of telling class {names[chosen]} from the rest.")
    signs = np.where(labels == names[chosen], 1.0, -1.0)
    if min(np.sum(signs > 0), np.sum(signs < 0)) < 2:
        raise InputError("a class has a single row", why="it cannot be left out", do="give more rows of it")
    return signs, str(names[chosen]), said


def _plan(n: int, p: int, subsets, draws) -> tuple[tuple[int, ...], int]:
    """Numbers of subsets and of backtest draws, given or scaled down until the work predicted is about EFFORT."""
    if subsets is not None and (len(subsets) != len(FRACTIONS) or any(int(k) != k or k < 0 for k in subsets)):
        raise InputError(f"subsets={subsets} must be {len(FRACTIONS)} whole numbers >= 0", do="leave it out")
    draws = None if draws is None else whole_number(draws, "draws", 0, "0 leaves the backtest out")

    def work(rows, counts):
        size = rows * np.array([*FRACTIONS, 1.0])
        small, large = np.minimum(size, p), np.maximum(size, p)
        return (*counts, 3) @ (200 * small**2 * np.minimum(large, size) + 4 * small**2 * large)

    full = work(n, SUBSETS) + DRAWS * (work(n / 2, SUBSETS) + work(n / 4, SUBSETS))
    share = min(1.0, EFFORT / full)
    fewer = tuple(max(1, round(k * share)) for k in SUBSETS)
    counts = tuple(int(k) for k in subsets) if subsets is not None else fewer
    return counts, draws if draws is not None else max(1, round(DRAWS * share))
