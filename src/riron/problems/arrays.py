"""The caller's own table as a problem: a linear model (or any other) on rows X, y, judged on held-out rows."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..checks import as_array, as_matrix, as_positive
from ..errors import InputError
from ..models.base import Model, Params, to_real
from ..models.linear import Linear
from .base import Data, Law, Problem
from .losses import MARGIN_LOSSES, Loss, to_loss
from .sampling import uniform_index

Mistakes = Callable[[jax.Array, jax.Array], jax.Array]


class Rows(Law):
    """The empirical law of a table: rows drawn with replacement."""

    X: jax.Array
    y: jax.Array

    def sample(self, key: jax.Array, n: int) -> Data:
        index = uniform_index(key, self.X.shape[0], (n,))
        return Data(self.X[index], self.y[index])


class Table(Problem):
    """A problem on given arrays; made by `from_arrays`."""

    data: Data
    test: Data | None
    model: Model
    loss: Loss = eqx.field(static=True)
    ridge: jax.Array
    mistakes: Mistakes | None = eqx.field(static=True)

    def __init__(
        self, data: Data, test: Data | None, model: Model, loss: Loss, ridge: ArrayLike, mistakes: Mistakes | None
    ):
        self.data, self.test, self.model, self.loss = data, test, model, loss
        self.ridge, self.mistakes = to_real(ridge), mistakes

    @property
    def law(self) -> Rows:
        return Rows(*self.data)

    def measure_fresh(self, params: Params) -> dict[str, jax.Array]:
        if self.test is None:
            return {}
        outputs = self.model(params, self.test.X)
        measured = {"test_loss": jnp.mean(jax.vmap(self.loss)(outputs, self.test.y))}
        if self.mistakes is not None:
            measured["test_error"] = jnp.mean(self.mistakes(outputs, self.test.y))
        return measured


def wrong_class(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """1 where the largest of K outputs is not the class of the one-hot target (or is not a number)."""
    wrong = jnp.argmax(outputs, axis=-1) != jnp.argmax(y, axis=-1)
    return (wrong | jnp.isnan(outputs).any(axis=-1)).astype(outputs.dtype)


def wrong_sign(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """1 where the output does not have the sign of the label -1 or 1."""
    return (~(outputs * y > 0)).astype(outputs.dtype)


def mistakes_for(y: np.ndarray, loss: Loss) -> Mistakes | None:
    """How to count mistakes: by class for one-hot targets, by sign for -1 and 1 under a margin loss, else not."""
    if y.ndim == 2 and y.shape[1] >= 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        return wrong_class
    if y.ndim == 1 and loss in MARGIN_LOSSES:
        return wrong_sign
    return None


def from_arrays(
    X: ArrayLike,
    y: ArrayLike,
    *,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    loss: str | Loss = "squared",
    ridge: float = 0.0,
    model: Model | None = None,
) -> Table:
    """A problem on your own arrays, taken as they are: no scaling, no intercept.

    It measures train_loss, and with held-out rows test_loss, and test_error where the targets are classes (one-hot
    rows, or labels -1 and 1 under a margin loss); all without the ridge term. Pass it to `simulate` with neither n nor
    data to train on these rows; `n=` draws rows with replacement for each seed (the bootstrap).

    Args:
      X: (n, p) features, finite; units of feature.
      y: (n,) or (n, K) targets.
      X_test: (m, p) held-out features, or None.
      y_test: (m,) or (m, K) held-out targets.
      loss: a name (squared, logistic, softmax, huber, absolute, hinge, smoothed_hinge) or a function loss(f, y) of
        one sample.
      ridge: penalty ridge |params|^2 / 2 in the training objective.
      model: linear in the features, started at 0, unless another is given.

    Raises:
      InputError: values that are not finite (how many, where), shapes that do not fit, ridge < 0.
    """
    loss = to_loss(loss)
    features, targets = _rows(X, y, "X", "y")
    if (X_test is None) != (y_test is None):
        raise InputError("of X_test and y_test only one is given", do="pass both or neither")
    test = None
    if X_test is not None and y_test is not None:
        held_out, held_targets = _rows(X_test, y_test, "X_test", "y_test")
        if held_out.shape[1] != features.shape[1] or held_targets.shape[1:] != targets.shape[1:]:
            raise InputError(
                f"X_test and y_test have rows of shape {held_out.shape[1:]} and {held_targets.shape[1:]}, "
                f"X and y of {features.shape[1:]} and {targets.shape[1:]}"
            )
        test = Data(to_real(held_out), to_real(held_targets))
    outputs = targets.shape[1] if targets.ndim == 2 else None
    return Table(
        data=Data(to_real(features), to_real(targets)),
        test=test,
        model=Linear(features.shape[1], outputs) if model is None else model,
        loss=loss,
        ridge=as_positive(ridge, "ridge", zero=True),
        mistakes=mistakes_for(targets, loss),
    )


def _rows(X: ArrayLike, y: ArrayLike, X_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    features, targets = as_matrix(X, X_name), as_array(y, y_name, ndim=(1, 2))
    if len(features) != len(targets):
        raise InputError(
            f"{y_name} has {len(targets)} rows and {X_name} has {len(features)}", do="pass one target a row"
        )
    return features, targets
