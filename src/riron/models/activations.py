"""Activations by name: functions of one pre-activation, applied entry by entry."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..checks import nearest
from ..errors import InputError

Activation = Callable[[jax.Array], jax.Array]


def identity(x: jax.Array) -> jax.Array:
    return x


def erf(x: jax.Array) -> jax.Array:
    """erf(x / sqrt 2), the activation of the exactly solvable committees."""
    return jax.scipy.special.erf(x / jnp.sqrt(2.0).astype(x.dtype))


ACTIVATIONS: dict[str, Activation] = {
    "identity": identity,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "erf": erf,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "cos": jnp.cos,
}


def to_activation(value: str | Activation) -> Activation:
    """The function that a name stands for; a function is taken as it is."""
    if callable(value):
        return value
    if value not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InputError(f"no activation is called '{value}'", why=nearest(value, ACTIVATIONS), do=f"known are {known}")
    return ACTIVATIONS[value]
