"""Mean-field networks as scikit-learn estimators that say how far they are from the global optimum."""

import warnings
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import as_positive
from ..errors import InputError
from ..models.neurons import Neuron, to_neuron
from ..problems.mean_field import MeanFieldProblem
from .mean_field_fit import Fitted, fit_mean_field

ROWS = 256  # rows predicted at one time


class _MeanField(BaseEstimator):
    """What regressor and classifier share: standardisation, one fitted network for each output, averages over it."""

    _loss: ClassVar[str]

    def __init__(
        self,
        *,
        neuron: str | Neuron = "tanh",
        scale: float = 5.0,
        lam1: float = 0.01,
        lam2: float = 0.01,
        width: int = 1000,
        steps: int = 2000,
        tol: float = 0.05,
        budget: float = 6e10,
        level: float = 0.95,
        certify: bool = True,
        standardise: bool = True,
        verbose: bool = False,
        random_state: Any = None,
    ):
        self.neuron = neuron
        self.scale = scale
        self.lam1 = lam1
        self.lam2 = lam2
        self.width = width
        self.steps = steps
        self.tol = tol
        self.budget = budget
        self.level = level
        self.certify = certify
        self.standardise = standardise
        self.verbose = verbose
        self.random_state = random_state

    def _fit_outputs(self, X: np.ndarray, targets: list[np.ndarray], names: list[str]) -> None:
        """Fits one network for each target, sharing the budget equally."""
        _check_options(self)
        self._set_scaling(X)
        features, neuron = self._features(X), to_neuron(self.neuron, scale=self.scale)
        key = jax.random.key(check_random_state(self.random_state).randint(2**31 - 1))
        self.fits_: list[Fitted] = []
        for k, y in enumerate(targets):
            told = {"lam1": self.lam1, "lam2": self.lam2, "width": self.width, "loss": self._the_loss()}
            problem = MeanFieldProblem(features, y, neuron=neuron, **told)
            fitted = fit_mean_field(
                problem,
                jax.random.fold_in(key, k),
                steps=self.steps,
                tol=self.tol,
                budget=self.budget / len(targets),
                level=self.level,
                certify=self.certify,
                report=partial(print, names[k]) if self.verbose else None,
            )
            self.fits_.append(fitted)
        self._neuron = problem.neuron
        self.n_iter_ = max(fit.steps for fit in self.fits_)
        certificates = [fit.certificate for fit in self.fits_]
        self.certificate_ = certificates[0] if len(certificates) == 1 else certificates
        self._say(names)

    def _the_loss(self) -> str:
        return self._loss

    def _set_scaling(self, X: np.ndarray) -> None:
        one = np.ones(X.shape[1])
        self.mean_, self.sd_ = (X.mean(axis=0), X.std(axis=0)) if self.standardise else (0 * one, one)
        self.sd_ = np.where(self.sd_ > 1e-12 * (1 + np.abs(self.mean_)), self.sd_, 1.0)

    def _features(self, X: np.ndarray) -> np.ndarray:
        """Columns of mean 0 and variance 1 over the number of columns, so that rows have norm about 1."""
        return (X - self.mean_) / (self.sd_ * (X.shape[1] ** 0.5 if self.standardise else 1.0))

    def _moments(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """(n, K) averages and standard deviations of the neurons' outputs over each fitted law."""
        check_is_fitted(self)
        checked: Any = validate_data(self, X, dtype=np.float64, reset=False)
        features = self._features(checked)
        pairs = [_averages(self._neuron, fit.sample.points, fit.sample.weights, features) for fit in self.fits_]
        first, second = (np.stack(part, axis=1) for part in zip(*pairs, strict=True))
        return first, np.sqrt(np.maximum(second - first**2, 0))

    def _say(self, names: list[str]) -> None:
        for name, fit in zip(names, self.fits_, strict=True):
            certificate, where = fit.certificate, f" for {name}" if name else ""
            if certificate is None or certificate.relative <= self.tol:
                continue
            if certificate.status != "certified":
                said = f"nothing is certified{where}: {certificate.reason}"
            else:
                said = (
                    f"the certified gap{where} is {certificate.relative:.1%} of the objective, over tol={self.tol:.1%}"
                )
            warnings.warn(f"{said}; raise budget, lam2 or tol", ConvergenceWarning, stacklevel=4)


class MeanFieldRegressor(RegressorMixin, _MeanField):
    """Regression by a mean-field network with a certificate of its distance to the global optimum.

    The law mu of neurons w minimises (1/n) sum_i loss(E h_w(x_i), y_i) + lam1 E|w|^2 + lam2 E log mu. Mean-field
    Langevin dynamics trains `width` particles; predictions averaged over the second half give a Gibbs measure, whose
    gap to the global optimum is certified and whose sample is the predictor. Columns are standardised and divided by
    the square root of their number, targets are standardised: the certificate speaks of the problem in those units.

    Args:
      neuron: "tanh", "sigmoid", "relu-clipped", ..., or a Neuron. scale: sup of its output, in sd of y.
      lam1, lam2: L2 regulariser and temperature, > 0.
      width, steps: particles, and steps of the first round of training (fewer if they took over a quarter of the
        budget); later rounds double them.
      tol: certified gap over objective at which training stops.
      budget: neuron-rows (particles x rows x steps or moves) in all; about 2 to 5 ns each and core.
      level: confidence of the certificate. certify: False to train one round without a certificate.
      standardise: False to take columns and targets as they are.
      loss: "squared" or "huber".
      verbose: print a line a certificate. random_state: seed.

    Attributes:
      certificate_: `riron.guarantees.Certificate`; None with certify=False. Its `relative` is gap over objective.
      n_iter_: steps of Langevin dynamics. n_features_in_, feature_names_in_: of the columns.

    Source: Nitanda, Wu & Suzuki, AISTATS 2022 (nitanda2022mfld); Oko, Suzuki, Nitanda & Wu, ICLR 2022 (oko2022psdca).
      Measured in docs/certificates.md.
    """

    def __init__(
        self,
        *,
        neuron: str | Neuron = "tanh",
        scale: float = 5.0,
        lam1: float = 0.01,
        lam2: float = 0.01,
        loss: str = "squared",
        width: int = 1000,
        steps: int = 2000,
        tol: float = 0.05,
        budget: float = 6e10,
        level: float = 0.95,
        certify: bool = True,
        standardise: bool = True,
        verbose: bool = False,
        random_state: Any = None,
    ):
        told = {"neuron": neuron, "scale": scale, "lam1": lam1, "lam2": lam2, "width": width, "steps": steps}
        told |= {"tol": tol, "budget": budget, "level": level, "certify": certify, "standardise": standardise}
        super().__init__(**told, verbose=verbose, random_state=random_state)
        self.loss = loss

    def fit(self, X, y):
        """Trains and certifies.

        Args:
          X: (n, d) features. y: (n,) targets.

        Raises:
          InputError (a ValueError): bad input, or an option out of range.
        """
        checked: Any = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        X, y = checked
        y = np.asarray(y, np.float64)
        self.y_mean_, self.y_sd_ = (y.mean(), y.std()) if self.standardise else (0.0, 1.0)
        self.y_sd_ = self.y_sd_ if self.y_sd_ > 1e-12 * (1 + abs(self.y_mean_)) else 1.0
        self._fit_outputs(X, [(y - self.y_mean_) / self.y_sd_], [""])
        return self

    def _the_loss(self) -> str:
        if self.loss not in ("squared", "huber"):
            raise InputError(f"loss={self.loss!r} must be 'squared' or 'huber'")
        return self.loss

    def predict(self, X):
        """(n,) averages of the neurons over the fitted law."""
        average = self._moments(X)[0][:, 0]
        return self.y_mean_ + self.y_sd_ * average

    def predict_std(self, X):
        """(n,) standard deviations of one neuron over the fitted law; N of them err by this over sqrt N."""
        return self._moments(X)[1][:, 0] * self.y_sd_


class MeanFieldClassifier(ClassifierMixin, _MeanField):
    """Classification by mean-field networks with certificates; more than two classes one against the rest.

    Arguments as in `MeanFieldRegressor`; the loss is logistic, of the average of the neurons as log odds.

    Attributes:
      classes_: (K,) labels.
      certificate_: a `riron.guarantees.Certificate`, or a list of K of them, one a class against the rest.
      n_iter_: steps of Langevin dynamics, the most of any class.

    Source: as `MeanFieldRegressor`.
    """

    _loss = "logistic"

    def fit(self, X, y):
        """Trains and certifies.

        Args:
          X: (n, d) features. y: (n,) labels of two classes or more.

        Raises:
          InputError (a ValueError): bad input, one class, or an option out of range.
        """
        checked: Any = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        X, y = checked
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise InputError(f"y holds one class ({self.classes_[0]})", do="give rows of two classes or more")
        chosen = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        names = [""] if len(chosen) == 1 else [f"class {label}" for label in chosen]
        self._fit_outputs(X, [np.where(y == label, 1.0, -1.0) for label in chosen], names)
        return self

    def decision_function(self, X):
        """(n,) log odds of the second of two classes, or (n, K) of each class against the rest."""
        scores = self._moments(X)[0]
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """(n,) labels of largest probability."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def predict_proba(self, X):
        """(n, K) probabilities; of more than two classes, each against the rest and divided by their sum."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.column_stack([expit(-scores), expit(scores)])
        logs = log_expit(scores)
        p = np.exp(logs - logs.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)

    def predict_std(self, X):
        """(n,) or (n, K) standard deviations of one neuron's log odds over the fitted law."""
        spread = self._moments(X)[1]
        return spread[:, 0] if len(self.classes_) == 2 else spread


def _averages(neuron: Neuron, W: np.ndarray, weights: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) first and second moments of h over weighted points, in float64; rows in pieces of one shape."""
    pieces = -(-len(X) // ROWS)
    padded = np.zeros((pieces * ROWS, X.shape[1]))
    padded[: len(X)] = X
    with jax.enable_x64(True):
        points, v = jnp.asarray(W, jnp.float64), jnp.asarray(weights, jnp.float64)
        parts = [_piece(neuron, points, v, jnp.asarray(x)) for x in padded.reshape(pieces, ROWS, -1)]
        first, second = (np.concatenate([np.asarray(part[k]) for part in parts])[: len(X)] for k in (0, 1))
    return first, second


@jax.jit
def _piece(neuron, W, v, X):
    def block(total, part):
        H = neuron.features(part[0], X)
        return (total[0] + part[1] @ H, total[1] + part[1] @ H**2), None

    size = 500
    blocks = -(-len(W) // size)
    pad = blocks * size - len(W)
    points = jnp.concatenate([W, jnp.zeros((pad, W.shape[1]))]).reshape(blocks, size, -1)
    weights = jnp.concatenate([v, jnp.zeros(pad)]).reshape(blocks, size)
    zero = jnp.zeros(len(X))
    return jax.lax.scan(block, (zero, zero), (points, weights))[0]


def _check_options(self) -> None:
    for name in ("lam1", "lam2", "scale", "tol", "budget"):
        as_positive(getattr(self, name), name)
    for name in ("width", "steps"):
        value = getattr(self, name)
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise InputError(f"{name}={value} must be a whole number >= 1")
    if not 0.5 < self.level < 1:
        raise InputError(f"level={self.level} must lie between 0.5 and 1")
