"""What single runs show when parameters are N(mean, covariance): spread and quantiles of the losses, and mistakes."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import output_covariance as structure
from .fluctuations import LEVELS
from .gaussian_closure import Gaussian, Rows, sum_over
from .output_covariance import Basis
from .output_moments import loss_of, moments_of

RUNS = 256
JUDGED = 2000  # rows on which drawn runs are judged


class Spread(NamedTuple):
    """Standard deviation of a loss between runs, and its quantiles around the mean."""

    sd: jax.Array
    quantiles: jax.Array


@partial(jax.jit, static_argnames="loss")
def expected_loss(loss: str, rows: Rows, at: Gaussian) -> jax.Array:
    """Mean loss of the rows over the law of the parameters."""
    moments = moments_of(loss)
    chunk = lambda z, y, w: w @ moments(y, z @ at.mean, structure.along(z, at.covariance)).value
    return sum_over(rows, chunk)


@partial(jax.jit, static_argnames="loss")
def spread(loss: str, rows: Rows, thetas: jax.Array) -> Spread:
    """How the loss differs between drawn runs (RUNS, p, K), on the first chunks of the rows.

    Around their own mean: `expected_loss` knows the mean better.
    """
    one_row = jax.vmap(loss_of(loss))

    def chunk(z, y, w):
        outputs = jnp.einsum("np,rpk->rnk", z, thetas)
        return jax.lax.map(lambda f: w @ one_row(f, y), outputs), jnp.sum(w)

    few = Rows(*(part[: max(1, JUDGED // rows.rows.shape[1])] for part in rows))
    total, weight = sum_over(few, chunk)
    around = total / weight - jnp.mean(total / weight)
    return Spread(jnp.sqrt(jnp.mean(around**2)), jnp.quantile(around, jnp.asarray(LEVELS, around.dtype)))


def normal_draws(p: int, outputs: int, seed: int) -> np.ndarray:
    """(RUNS, p, K) standard Gaussian numbers, in antithetic pairs."""
    half = np.random.default_rng(seed).standard_normal((RUNS // 2, p, outputs))
    return np.concatenate([half, -half])


@jax.jit
def draw(at: Gaussian, normal: jax.Array) -> jax.Array:
    """(RUNS, p, K) parameters of runs; normal: standard Gaussian draws, the same at all moments."""
    basis = Basis.of(at.covariance)
    head, tail = basis.into(normal)
    return at.mean + basis.back(head * jnp.sqrt(basis.head), tail * jnp.sqrt(basis.tail))


@jax.jit
def margin_error(rows: Rows, at: Gaussian) -> jax.Array:
    """Expected share of rows whose output has not the sign of the label -1 or 1; an output of 0 counts as wrong."""

    def chunk(z, y, w):
        sd = jnp.sqrt(jnp.maximum(structure.along(z, at.covariance)[:, 0, 0], 0))
        margin = (y * (z @ at.mean))[:, 0]
        wrong = jax.scipy.stats.norm.cdf(-margin / jnp.where(sd > 0, sd, 1))
        return w @ jnp.where(sd > 0, wrong, (margin <= 0).astype(sd.dtype))

    return sum_over(rows, chunk)


@jax.jit
def class_error(rows: Rows, thetas: jax.Array) -> jax.Array:
    """Expected share of rows whose largest output is not their class."""

    def chunk(z, y, w):
        label = jnp.argmax(y, axis=1)
        miss = lambda theta: w @ (jnp.argmax(z @ theta, axis=1) != label).astype(w.dtype)
        return jnp.mean(jax.lax.map(miss, thetas))

    return sum_over(rows, chunk)
