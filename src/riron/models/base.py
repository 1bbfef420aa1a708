"""What every model must offer: parameters are a pytree apart from the model, so that seeds are a leading axis."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

Params = Any
"""A pytree of arrays: what a model learns."""


def is_known(value: ArrayLike) -> bool:
    """Whether the values are at hand: inside a traced function they are not, and cannot be checked."""
    return not isinstance(value, Tracer)


def to_real(value: ArrayLike) -> jax.Array:
    """A strongly typed real array; a Python float in a Module is static under jit and recompiles for every value."""
    real = jnp.result_type(float)
    if isinstance(value, jax.Array) and value.dtype == real and not value.weak_type:
        return value
    # A copy put on the device as it is: jnp.asarray would compile once for every shape.
    return jax.device_put(np.array(value, real)) if is_known(value) else jnp.asarray(value, real)


class Model(eqx.Module):
    """A function of parameters and inputs, with the penalty that a ridge multiplies."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Parameters at the start, random where the model says so."""

    @abc.abstractmethod
    def __call__(self, params: Params, X: jax.Array) -> jax.Array:
        """Outputs (n,) or (n, K) for the rows of X (n, d)."""

    def penalty(self, params: Params) -> jax.Array:
        """|params|^2 / 2 over all leaves; a ridge multiplies it."""
        return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)), jnp.zeros(())) / 2

    @property
    def mobility(self) -> float:
        """Factor on the gradient: the number of particles in mean-field scaling (first variation), else 1."""
        return 1.0
