"""Random features: a frozen random first layer and a trained linear readout, started at zero."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .activations import Activation, to_activation
from .base import Model, to_real


class RandomFeatures(Model):
    """f(x) = a . sigma(W x) / sqrt(P); only a is trained.

    Args:
      weights: (P, d) the frozen layer W; `random_features` draws one.
      activation: a name or a function of an array.
      outputs: number of outputs K, or None for outputs (n,).

    Source: Rahimi & Recht, NIPS 2007.
    """

    weights: jax.Array = eqx.field(converter=to_real)
    activation: Activation = eqx.field(static=True, converter=to_activation, default="relu")
    outputs: int | None = eqx.field(static=True, default=None)

    def init(self, key: jax.Array) -> jax.Array:
        features = len(self.weights)
        return jnp.zeros((features,) if self.outputs is None else (self.outputs, features))

    def features(self, X: jax.Array) -> jax.Array:
        """sigma(W x) / sqrt(P) for the rows of X: (n, P)."""
        return self.activation(X @ self.weights.T) / len(self.weights) ** 0.5

    def __call__(self, params: jax.Array, X: jax.Array) -> jax.Array:
        return self.features(X) @ params.T


def random_features(
    key: jax.Array, inputs: int, features: int, *, activation: str | Activation = "relu", outputs: int | None = None
) -> RandomFeatures:
    """`RandomFeatures` with W ~ N(0, I / inputs), for inputs with entries of order 1.

    Args:
      key: a JAX key.
      inputs: number of features d of X.
      features: number of random features P.
      activation: a name or a function of an array.
      outputs: number of outputs K, or None.
    """
    weights = jax.random.normal(key, (features, inputs)) / inputs**0.5
    return RandomFeatures(weights, activation, outputs)
