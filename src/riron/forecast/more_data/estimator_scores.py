"""What any scikit-learn estimator scores on rows left out, when trained on nested parts of the others."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ...errors import InputError

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 0.7, 1.0)  # of the training part of a fold
SMALLEST = 16  # rows to train on
CLIP = 1e-3  # smallest probability of the true class that the log loss believes


class Task(NamedTuple):
    """What is trained, on what, and how it is scored.

    Attributes:
      estimator: with fit and predict; cloned for each fit.
      X: features, an array or a data frame.
      target: what it is fitted to: class numbers (n,), or numbers (n,) or (n, K).
      kind: "labels" (a classifier), "one-hot" or "sign" (a regressor of such targets), "regression".
      loss: "log loss", "error" or "squared error / 2".
    """

    estimator: Any
    X: Any
    target: np.ndarray
    kind: str
    loss: str


class Fit(NamedTuple):
    """One training: on rows `train`, scored on rows `test`; `sample`, `level` and `fold` say what for."""

    sample: int
    level: int
    fold: int
    train: np.ndarray
    test: np.ndarray
    seed: int


class Score(NamedTuple):
    """Losses and errors of the rows left out, or what went wrong; the kinds of warnings that were given."""

    loss: np.ndarray
    error: np.ndarray
    failure: str
    warned: tuple[str, ...]


def score_all(task: Task, fits: list[Fit], n_jobs: int | None, advance: Callable[..., object]) -> Iterable[Score]:
    """Train and score each of `fits`, in joblib's workers if n_jobs asks for more than one; in order."""
    from joblib import Parallel, delayed

    work: Any = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(_score)(task, fit) for fit in fits)
    try:
        for score in work:
            advance()
            yield score
    except BaseException:  # Ctrl-C: no further trainings, and no word of those that were under way
        with warnings.catch_warnings(action="ignore"):
            work.close()
        raise


def _score(task: Task, fit: Fit) -> Score:
    from sklearn.base import clone

    y = task.target
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            estimator = seeded(clone(task.estimator), fit.seed)
            estimator.fit(take(task.X, fit.train), y[fit.train])
            loss, error = _losses(task, estimator, take(task.X, fit.test), y[fit.test])
            failure = "" if np.all(np.isfinite(loss)) else "its predictions are not finite"
        except Exception as problem:  # the estimator is somebody else's: whatever it raises is its answer
            loss = error = np.full(len(fit.test), np.nan)
            text = (str(problem).strip() or "no message").splitlines()[0][:200]
            failure = f"{type(problem).__name__}: {text}"
    return Score(loss, error, failure, tuple({warning.category.__name__ for warning in caught}))


def _losses(task: Task, estimator: Any, X: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss and the error of each row."""
    if task.kind == "labels":
        if task.loss == "error":
            error = (np.asarray(estimator.predict(X)) != y) * 1.0
            return error, error
        chances, known = np.asarray(estimator.predict_proba(X)), np.asarray(estimator.classes_)
        place = np.minimum(np.searchsorted(known, y), len(known) - 1)
        true = np.where(known[place] == y, chances[np.arange(len(y)), place], 0.0)
        return -np.log(np.maximum(true, CLIP)), (known[chances.argmax(axis=1)] != y) * 1.0
    Y = y.reshape(len(y), -1)
    output = np.asarray(estimator.predict(X), dtype=float).reshape(Y.shape)
    loss = ((output - Y) ** 2).sum(axis=1) / 2
    if task.kind == "one-hot":
        return loss, (output.argmax(axis=1) != Y.argmax(axis=1)) * 1.0
    return loss, (np.sign(output[:, 0]) != Y[:, 0]) * 1.0


def take(X: Any, rows: np.ndarray) -> Any:
    """Rows of an array or a data frame."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def seeded(estimator: Any, seed: int) -> Any:
    """The estimator with every random_state that was left open set."""
    open_ = [k for k, v in estimator.get_params().items() if k.split("__")[-1] == "random_state" and v is None]
    return estimator.set_params(**dict.fromkeys(open_, seed)) if open_ else estimator


def checked(estimator: Any) -> Any:
    """An object with scikit-learn's fit, predict and get_params, or one sentence."""
    if isinstance(estimator, type):
        raise InputError(f"estimator is the class {estimator.__name__}", do=f"pass {estimator.__name__}(), an object")
    missing = [name for name in ("fit", "predict", "get_params") if not hasattr(estimator, name)]
    if missing:
        raise InputError(
            f"estimator ({type(estimator).__name__}) has no {' and no '.join(missing)}",
            do="pass a scikit-learn estimator, or the name of one",
        )
    return estimator
