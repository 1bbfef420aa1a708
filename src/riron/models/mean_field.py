"""Mean-field network: the average of many neurons, whose parameters are particles."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ..errors import InputError
from .base import Model, to_real
from .neurons import Neuron, to_neuron


class MeanField(Model):
    """f(x) = (1/N) sum_j h_{w_j}(x); the parameters are the particles W (N, p).

    The gradient is multiplied by the width (`mobility`) and the penalty is the average over the particles, so that
    dynamics move each particle along the first variation of the objective.

    Args:
      neuron: a `Neuron`, a name ("tanh", ...) or a function h(w, x).
      inputs: number of features d.
      width: number of particles N.
      start_sd: standard deviation of the particles' entries at the start.

    Source: Mei, Montanari & Nguyen, PNAS 2018.
    """

    neuron: Neuron = eqx.field(converter=to_neuron)
    inputs: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    start_sd: jax.Array = eqx.field(converter=to_real, default=1.0)

    def __check_init__(self):
        if isinstance(self.width, bool) or not isinstance(self.width, int) or self.width < 1:
            raise InputError(f"width={self.width!r} must be a whole number of particles >= 1")

    @property
    def mobility(self) -> float:
        return float(self.width)

    def init(self, key: jax.Array) -> jax.Array:
        return self.start_sd * jax.random.normal(key, (self.width, self.neuron.dim(self.inputs)))

    def __call__(self, params: jax.Array, X: jax.Array) -> jax.Array:
        return jnp.mean(self.neuron.features(params, X), axis=0)

    def penalty(self, params: jax.Array) -> jax.Array:
        """mean_j |w_j|^2 / 2, over the particles there are."""
        return jnp.sum(params**2) / (2 * len(params))
