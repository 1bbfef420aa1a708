"""From mean and covariance of the parameters to what one run shows: losses, the band between runs, and errors.

Parameters are taken as Gaussian; their covariance over outputs k, l is V rho_kl with V the sum over outputs and rho the
correlation of the outputs' residuals (rows weighted by their leverage: what drives the noise), of trace 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from . import block
from .block import Block
from .problem_arrays import Arrays, losses

DRAWS = 128


class Observables(NamedTuple):
    """Losses with their standard deviation between runs, and the expected share of held-out rows misclassified."""

    train_loss: jax.Array
    test_loss: jax.Array
    train_loss_sd: jax.Array
    test_loss_sd: jax.Array
    test_error: jax.Array


def observe(data: Arrays, mean: jax.Array, covariance: Block) -> Observables:
    """Everything that is forecast about the parameters N(mean, covariance)."""
    train, test = losses(data, mean, covariance)
    residual = data.rows @ mean - data.targets
    kick = data.weights * jnp.sum(data.rows**2, axis=1)  # a row moves the parameters in proportion to its length
    rho = jnp.einsum("s,sk,sl->kl", kick, residual, residual)
    rho = rho / jnp.maximum(jnp.trace(rho), jnp.finfo(rho.dtype).tiny)
    k = len(covariance.full)

    g = data.h[:, None] * mean - data.correlation
    train_sd = between_runs(data.curvature(k), g, covariance, rho)
    misfit = data.test_rows @ mean - data.test_targets
    g = data.test_rows.T @ misfit / len(misfit)
    test_sd = between_runs(data.test_curvature, g, covariance, rho)
    return Observables(train, test, train_sd, test_sd, error_rate(data, mean, covariance, rho))


def between_runs(curvature: Block, gradient: jax.Array, covariance: Block, rho: jax.Array) -> jax.Array:
    """Standard deviation of a quadratic loss of Gaussian parameters: sqrt(g^T V g + tr(A V A V) / 2)."""
    k = len(covariance.full)
    head, tail = gradient[:k], gradient[k:]
    moved = Block(covariance.full @ head, covariance.diagonal[:, None] * tail)
    linear = jnp.sum((head.T @ moved.full + tail.T @ moved.diagonal) * rho)
    product = curvature.full @ covariance.full
    squared = jnp.sum(product * product.T) + jnp.sum((curvature.diagonal * covariance.diagonal) ** 2)
    return jnp.sqrt(jnp.maximum(linear + squared * jnp.sum(rho**2) / 2, 0))


def error_rate(data: Arrays, mean: jax.Array, covariance: Block, rho: jax.Array) -> jax.Array:
    """Expected share of held-out rows whose largest output is not their class; nan if there is one output."""
    outputs = data.targets.shape[1]
    if outputs == 1:
        return jnp.full((), jnp.nan, mean.dtype)
    logits = data.test_rows @ mean
    sd = jnp.sqrt(jnp.maximum(block.quadratic(data.test_rows, covariance), 0))
    label = jnp.argmax(data.test_targets, axis=1)
    if outputs == 2:
        sign = 2 * label - 1
        margin = sign * (logits[:, 1] - logits[:, 0])
        width = sd * jnp.sqrt(jnp.maximum(rho[0, 0] + rho[1, 1] - 2 * rho[0, 1], 0))
        lost = (margin < 0) | ((margin == 0) & (label == 1))  # a tie goes to the first class
        wrong = jnp.where(width > 0, jax.scipy.stats.norm.cdf(-margin / jnp.where(width > 0, width, 1)), lost)
        return jnp.mean(wrong.astype(mean.dtype))
    values, vectors = jnp.linalg.eigh(rho)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))
    # Antithetic quasi-random directions, the same for all rows, one at a time: memory n_t x K.
    draws = jnp.asarray(directions(outputs), mean.dtype)

    def miss(total, direction):
        return total + jnp.mean(jnp.argmax(logits + sd[:, None] * (root @ direction), axis=1) != label), None

    total, _ = jax.lax.scan(miss, jnp.zeros((), mean.dtype), draws)
    return total / len(draws)


def directions(outputs: int) -> np.ndarray:
    """(DRAWS, outputs) standard Gaussian vectors of exactly zero mean (antithetic, scrambled Sobol, fixed seed)."""
    half = qmc.MultivariateNormalQMC(np.zeros(outputs), rng=np.random.default_rng(0)).random(DRAWS // 2)
    return np.concatenate([half, -half])
