"""Logistic regression that chooses its ridge penalty by leave-one-out, from one fit a penalty."""

import warnings
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..errors import InputError
from ..theory.alo import HEAVY, Fit, alo_path
from ..theory.alo_losses import LOGISTIC, contrasts, softmax_loss
from ..theory.alo_newton import Design, make_design, merge_copies

LARGEST = 1500  # unknowns of softmax regression, whose Hessian is full; beyond, one class against the rest


class _Chosen(NamedTuple):
    """What a path of penalties gave: L penalties, rows n, K classes."""

    best: int
    losses: np.ndarray  # (L,) leave-one-out
    errors: np.ndarray  # (L,)
    probabilities: np.ndarray  # (n, K) leave-one-out, at the best
    refitted: np.ndarray  # (n,)
    heaviest: float
    coef: np.ndarray
    intercept: np.ndarray


class LogisticRegressionALO(ClassifierMixin, BaseEstimator):
    """Ridge-logistic regression with its penalty chosen by approximate leave-one-out, exact where that would fail.

    Minimises (1/N) sum_i c_i loss_i + (lam/2) |w|^2, the intercept not penalised, N the sum of the row weights c_i (the
    number of rows, without weights). In scikit-learn's `LogisticRegression` that is C = 1 / (N lam). Two classes:
    logistic loss; more: softmax. Newton's method takes one path of penalties; at each, one formula gives every row's
    score had it been left out. Near the penalty of least loss, rows where the formula fails silently are refitted.
    Rows that are copies of one another, label included, are one row of their joint weight, and are left out together.

    Args:
      ridges: number of penalties, from lam = tr S down to 1e-6 tr S, S the covariance of the columns; or the penalties.
      fit_intercept: whether there is an intercept.
      class_weight: None, "balanced", or a dictionary from label to weight.
      multi_class: three classes and more. "multinomial": softmax. "one-vs-rest": one logistic regression a class, at a
        common penalty, their probabilities divided by their sum. "auto": softmax where its (K - 1)(min(n, p) + 1)
        unknowns are at most 1500 (it takes their full Hessian), or else one-vs-rest, with a warning.
      refits: "near-best" (of the penalty chosen: all rows if cheap, or as many as still change the loss), "every" (of
        every penalty), "none", or a share of the rows, refitted at every penalty.

    Attributes:
      classes_: (K,) labels.
      coef_, intercept_: (1 or K, p) and (1 or K,).
      ridge_, C_: the penalty chosen, as lam and as scikit-learn's C.
      ridges_: (L,) penalties tried, decreasing.
      scores_: (L,) minus the leave-one-out log loss at each; errors_: (L,) leave-one-out error rate.
      alo_loss_, alo_error_: leave-one-out log loss and error rate at the penalty chosen.
      alo_proba_: (n, K) leave-one-out probabilities of the rows.
      refitted_rows_: indices of the rows whose leave-one-out score there is exact.
      multi_class_: "binary", "multinomial" or "one-vs-rest".
      n_features_in_, feature_names_in_: of the columns.

    Source: Rahnama Rad & Maleki, JRSS B 2020 (rahnamarad2020), for approximate leave-one-out. Measured in
      docs/logistic-alo.md.
    """

    def __init__(
        self,
        *,
        ridges: int | Any = 19,
        fit_intercept: bool = True,
        class_weight: str | dict | None = None,
        multi_class: str = "auto",
        refits: str | float = "near-best",
    ):
        self.ridges = ridges
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.multi_class = multi_class
        self.refits = refits

    def fit(self, X, y, sample_weight=None):
        """Choose the penalty and fit.

        Args:
          X: (n, p) features.
          y: (n,) labels of two classes or more.
          sample_weight: (n,) weights >= 0 of the rows' losses; a weight of 2 is the row twice.

        Raises:
          InputError (a ValueError): bad input, fewer than two classes, or an option out of range.
        """
        checked: Any = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        X, y = checked
        check_classification_targets(y)
        _check_options(self)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = np.flatnonzero(weights > 0)
        self.classes_ = np.unique(y[kept])
        if len(self.classes_) < 2:
            raise InputError(f"y holds one class ({self.classes_[0]})", do="give rows of two classes or more")
        labels = np.searchsorted(self.classes_, y[kept])
        weights = weights[kept] * self._class_weights(y[kept])[labels]
        first, of = merge_copies(X[kept], labels)  # of: number of the merged row that each kept row is in
        weights = np.bincount(of, weights)
        rows, labels, total = X[kept][first], labels[first], weights.sum()

        design = make_design(rows, weights=weights, intercept=self.fit_intercept)
        scale = design.share @ ((rows - design.mean) ** 2).sum(axis=1)
        self.ridges_ = _grid(self.ridges, scale)
        self.multi_class_ = self._kind(design)
        solve = {"binary": _binary, "multinomial": _multinomial, "one-vs-rest": _one_vs_rest}[self.multi_class_]
        found = solve(design, labels, len(self.classes_), self.ridges_, self.refits)

        self.coef_, self.intercept_ = found.coef, found.intercept
        self.ridge_ = float(self.ridges_[found.best])
        self.C_ = float(1 / (total * self.ridge_))
        self.scores_, self.errors_ = -found.losses, found.errors
        self.alo_loss_, self.alo_error_ = float(found.losses[found.best]), float(found.errors[found.best])
        self.alo_proba_ = np.full((len(X), len(self.classes_)), np.nan)
        self.alo_proba_[kept] = found.probabilities[of]
        self.refitted_rows_ = kept[found.refitted[of]]
        _warn(found, len(self.ridges_), np.bincount(labels), self.classes_)
        return self

    def decision_function(self, X):
        """(n,) log odds of the second of two classes, or (n, K) scores, of softmax or of class against rest."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """(n,) labels of largest probability."""
        scores = self.decision_function(X)
        index = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[index]

    def predict_proba(self, X):
        """(n, K) probabilities."""
        return _probabilities(self.decision_function(X), self.multi_class_)

    def predict_log_proba(self, X):
        """(n, K) logarithms of the probabilities."""
        scores = self.decision_function(X)
        if self.multi_class_ == "binary":
            return np.column_stack([log_expit(-scores), log_expit(scores)])
        return log_softmax(scores if self.multi_class_ == "multinomial" else log_expit(scores), axis=1)

    def _class_weights(self, y) -> np.ndarray:
        return compute_class_weight(self.class_weight, classes=self.classes_, y=y)

    def _kind(self, design: Design) -> str:
        if len(self.classes_) == 2:
            return "binary"
        if self.multi_class != "auto":
            return self.multi_class
        unknowns = (len(self.classes_) - 1) * design.Z.shape[1]
        if unknowns <= LARGEST:
            return "multinomial"
        warnings.warn(
            f"softmax regression would have {unknowns} unknowns (over {LARGEST}): fitted one class against the rest; "
            "multi_class='multinomial' insists",
            stacklevel=3,
        )
        return "one-vs-rest"


def _binary(design, labels, classes, ridges, refits) -> _Chosen:
    y = 2.0 * labels[:, None] - 1
    fits = alo_path(design, y, ridges, LOGISTIC, refits=refits)
    errors = np.array([design.share @ ((fit.left_out[:, 0] > 0) != labels) for fit in fits])
    W, b = design.coefficients(fits[_best(fits)].W)
    return _chosen(fits, errors, _probabilities(fits[_best(fits)].left_out[:, 0], "binary"), W.T, b)


def _multinomial(design, labels, classes, ridges, refits) -> _Chosen:
    Q = contrasts(classes)
    fits = alo_path(design, np.eye(classes)[labels], ridges, softmax_loss(classes), refits=refits)
    errors = np.array([design.share @ ((fit.left_out @ Q.T).argmax(axis=1) != labels) for fit in fits])
    W, b = design.coefficients(fits[_best(fits)].W)
    return _chosen(fits, errors, _probabilities(fits[_best(fits)].left_out @ Q.T, "multinomial"), Q @ W.T, Q @ b)


def _one_vs_rest(design, labels, classes, ridges, refits) -> _Chosen:
    """Each class with its own refits; the penalty is the one of least leave-one-out log loss of all together."""
    targets = 2 * np.eye(classes)[labels] - 1
    paths = [alo_path(design, targets[:, [k]], ridges, LOGISTIC, refits=refits) for k in range(classes)]
    scores = [np.column_stack([fit.left_out[:, 0] for fit in fits]) for fits in zip(*paths, strict=True)]
    rows = np.arange(len(labels))
    losses = np.array([-design.share @ log_softmax(log_expit(s), axis=1)[rows, labels] for s in scores])
    errors = np.array([design.share @ (s.argmax(axis=1) != labels) for s in scores])
    best = int(np.argmin(losses))
    at = [path[best] for path in paths]
    found = [design.coefficients(fit.W) for fit in at]
    return _Chosen(
        best,
        losses,
        errors,
        _probabilities(scores[best], "one-vs-rest"),
        np.all([fit.refitted for fit in at], axis=0),
        max(fit.heaviest for fit in at),
        np.vstack([W.T for W, _ in found]),
        np.concatenate([b for _, b in found]),
    )


def _best(fits: list[Fit]) -> int:
    return int(np.argmin([fit.loss for fit in fits]))


def _chosen(fits, errors, probabilities, coef, intercept) -> _Chosen:
    best = _best(fits)
    losses = np.array([fit.loss for fit in fits])
    return _Chosen(best, losses, errors, probabilities, fits[best].refitted, fits[best].heaviest, coef, intercept)


def _probabilities(scores: np.ndarray, kind: str) -> np.ndarray:
    if kind == "binary":
        return np.column_stack([expit(-scores), expit(scores)])
    return softmax(scores if kind == "multinomial" else log_expit(scores), axis=1)


def _grid(ridges, scale: float) -> np.ndarray:
    if isinstance(ridges, Integral) and not isinstance(ridges, bool):
        return (scale if scale > 0 else 1.0) * np.geomspace(1, 1e-6, int(ridges))
    return np.unique(np.asarray(ridges, dtype=float))[::-1]


def _check_options(self) -> None:
    grid, refits = self.ridges, self.refits
    if isinstance(grid, Real):
        if not isinstance(grid, Integral) or grid < 1:
            raise InputError(f"ridges={grid!r} must be a whole number >= 1, or the penalties themselves")
    else:
        values = np.asarray(grid, dtype=float)
        if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values) & (values > 0)):
            raise InputError("ridges must be a list of finite numbers > 0")
    if self.multi_class not in ("auto", "multinomial", "one-vs-rest"):
        raise InputError(f"multi_class={self.multi_class!r} must be 'auto', 'multinomial' or 'one-vs-rest'")
    share = isinstance(refits, Real) and 0 <= float(refits) <= 1
    if not share and refits not in ("near-best", "every", "none"):
        raise InputError(f"refits={refits!r} must be 'near-best', 'every', 'none' or a share of the rows in [0, 1]")


def _warn(found: _Chosen, count: int, sizes: np.ndarray, classes: np.ndarray) -> None:
    said = []
    if count > 1 and found.best == count - 1:
        said.append("the leave-one-out loss is least at the smallest penalty tried: give smaller ones")
    if count > 1 and found.best == 0:
        said.append("the leave-one-out loss is least at the largest penalty tried: the columns may say nothing of y")
    if found.heaviest > HEAVY:
        said.append(f"a row that was not refitted has {found.heaviest:.2f} of the Hessian at its score: refits='every'")
    if sizes.min() == 1:
        said.append(f"class {classes[sizes.argmin()]!r} has one row, which cannot be left out: its score is a guess")
    for sentence in said:
        warnings.warn(sentence, stacklevel=4)
