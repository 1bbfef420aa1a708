"""Losses of one sample: loss(f, y) with f the model's output, a number or a vector of K outputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..checks import nearest
from ..errors import InputError

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def squared(f: jax.Array, y: jax.Array) -> jax.Array:
    """|f - y|^2 / 2, summed over the outputs."""
    return jnp.sum((f - y) ** 2) / 2


def absolute(f: jax.Array, y: jax.Array) -> jax.Array:
    """|f - y|, summed over the outputs."""
    return jnp.sum(jnp.abs(f - y))


def huber(f: jax.Array, y: jax.Array) -> jax.Array:
    """(f - y)^2 / 2 within 1 of the target, |f - y| - 1/2 beyond, summed over the outputs."""
    gap = jnp.abs(f - y)
    return jnp.sum(jnp.where(gap < 1, gap**2 / 2, gap - 0.5))


def logistic(f: jax.Array, y: jax.Array) -> jax.Array:
    """log(1 + exp(-y f)) for labels y = -1 or 1, summed over the outputs."""
    return jnp.sum(jax.nn.softplus(-y * f))


def hinge(f: jax.Array, y: jax.Array) -> jax.Array:
    """max(0, 1 - y f) for labels y = -1 or 1, summed over the outputs."""
    return jnp.sum(jax.nn.relu(1 - y * f))


def smoothed_hinge(f: jax.Array, y: jax.Array) -> jax.Array:
    """The hinge made smooth: (1 - y f)^2 / 2 for 0 < y f < 1, 1/2 - y f below, 0 above; summed over the outputs."""
    margin = y * f
    return jnp.sum(jnp.where(margin > 0, jax.nn.relu(1 - margin) ** 2 / 2, 0.5 - margin))


def softmax(f: jax.Array, y: jax.Array) -> jax.Array:
    """Cross entropy of the softmax of K outputs against a one-hot (or any) distribution y (K,)."""
    return jax.scipy.special.logsumexp(f) - jnp.sum(y * f)


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (squared, logistic, softmax, huber, absolute, hinge, smoothed_hinge)
}
MARGIN_LOSSES = (logistic, hinge, smoothed_hinge)


def to_loss(value: str | Loss) -> Loss:
    """The function that a name stands for; a function loss(f, y) is taken as it is."""
    if callable(value):
        return value
    if value not in LOSSES:
        raise InputError(
            f"no loss is called '{value}'", why=nearest(value, LOSSES), do=f"known are {', '.join(LOSSES)}"
        )
    return LOSSES[value]
