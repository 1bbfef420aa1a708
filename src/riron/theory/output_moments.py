"""What a loss and its derivatives are on average when the outputs of a row are Gaussian.

The Gaussian closure of SGD needs of a loss nothing else. Losses of one output are integrated by Gauss-Hermite points,
the softmax over draws that all rows share, with exactly zero mean and unit covariance.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from ..problems.losses import Loss, huber, logistic, smoothed_hinge, softmax, squared

SMOOTH = {loss.__name__: loss for loss in (squared, logistic, huber, smoothed_hinge)}
POINTS = 21  # of the Gauss-Hermite rule
LEAST_PAIRS = 16  # of antithetic draws for the softmax


class RowMoments(NamedTuple):
    """Means over Gaussian outputs of the loss (n,), its gradient (n, K), its Hessian and g g^T (n, K, K)."""

    value: jax.Array
    slope: jax.Array
    curvature: jax.Array
    square: jax.Array


Moments = Callable[[jax.Array, jax.Array, jax.Array], RowMoments]


def moments_of(name: str) -> Moments:
    """(targets (n, K), mean (n, K), covariance (n, K, K)) -> RowMoments for a loss by name."""
    return softmax_moments if name == "softmax" else partial(scalar_moments, SMOOTH[name])


def loss_of(name: str) -> Loss:
    return softmax if name == "softmax" else SMOOTH[name]


def scalar_moments(loss: Loss, targets: jax.Array, mean: jax.Array, covariance: jax.Array) -> RowMoments:
    """For a smooth loss of one output; the mean second derivative by Stein's identity, E l'' = E[l' x] / sd."""
    points, weights = (jnp.asarray(a, mean.dtype) for a in np.polynomial.hermite_e.hermegauss(POINTS))
    weights = weights / jnp.sum(weights)
    y, m, variance = targets[:, 0], mean[:, 0], jnp.maximum(covariance[:, 0, 0], 0)
    narrow = variance < jnp.finfo(mean.dtype).eps ** 0.5
    sd = jnp.sqrt(jnp.where(narrow, 1.0, variance))
    spread = jnp.where(narrow, jnp.sqrt(jnp.maximum(variance, jnp.finfo(mean.dtype).tiny)), sd)
    over = jax.vmap(jax.vmap(jax.value_and_grad(loss), (0, 0)), (1, None), 1)
    value, slope = over(m[:, None] + spread[:, None] * points, y)
    second = jax.vmap(jax.grad(jax.grad(loss)))(m, y)
    curvature = jnp.where(narrow, second, (slope * points) @ weights / sd)
    square = slope**2 @ weights
    return RowMoments(value @ weights, (slope @ weights)[:, None], curvature[:, None, None], square[:, None, None])


def softmax_moments(targets: jax.Array, mean: jax.Array, covariance: jax.Array) -> RowMoments:
    """For the cross entropy of K classes: all moments follow from those of the probabilities."""
    K = mean.shape[1]
    draws = jnp.asarray(shared_draws(K), mean.dtype)
    logits = mean[:, None, :] + jnp.einsum("sl,nkl->nsk", draws, _root(covariance))
    top = jnp.max(logits, axis=2, keepdims=True)
    raised = jnp.exp(logits - top)
    total = jnp.sum(raised, axis=2, keepdims=True)
    value = jnp.mean(jnp.log(total) + top, axis=(1, 2)) - jnp.sum(targets * mean, axis=1)
    probability = raised / total
    first = jnp.mean(probability, axis=1)
    second = jnp.einsum("nsk,nsl->nkl", probability, probability) / len(draws)
    curvature = first[:, :, None] * jnp.eye(K, dtype=mean.dtype) - second
    cross = first[:, :, None] * targets[:, None, :]
    square = second - cross - jnp.swapaxes(cross, 1, 2) + targets[:, :, None] * targets[:, None, :]
    return RowMoments(value, first - targets, curvature, square)


def shared_draws(outputs: int) -> np.ndarray:
    """(S, K) quasi-random antithetic Gaussian draws, transformed to exactly zero mean and unit covariance."""
    pairs = max(LEAST_PAIRS, 2 ** int(np.ceil(np.log2(2 * outputs))))
    half = qmc.MultivariateNormalQMC(np.zeros(outputs), rng=np.random.default_rng(0)).random(pairs)
    half = half @ np.linalg.inv(np.linalg.cholesky(half.T @ half / pairs)).T
    return np.concatenate([half, -half])


def _root(covariance: jax.Array) -> jax.Array:
    """(n, K, K) lower triangular roots, column by column; a direction without positive spread is left out."""
    n, K = covariance.shape[:2]
    least = 30 * jnp.finfo(covariance.dtype).eps * jnp.max(jnp.abs(covariance), axis=(1, 2))
    index = jnp.arange(K)

    def column(j, state):
        root, rest = state
        pivot = rest[:, j, j]
        positive = pivot > least
        size = jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, pivot, 1)), 0)
        new = jnp.where(index >= j, rest[:, :, j] * size[:, None], 0)
        return root.at[:, :, j].set(new), rest - new[:, :, None] * new[:, None, :]

    return jax.lax.fori_loop(0, K, column, (jnp.zeros((n, K, K), covariance.dtype), covariance))[0]
