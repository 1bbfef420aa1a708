"""From mean and covariance of the parameters to what one run shows: losses, their distribution between runs, errors.

The loss is a quadratic form of nearly Gaussian parameters: its first three cumulants are closed forms, and a shifted
log-normal with these cumulants gives its quantiles. The covariance is known summed over outputs (V); how it is shared
between outputs comes from the rows that make the noise. For classes the noise is drawn as it arises, as the sum of the
kicks of as many random rows as the parameters remember: few rows in the first steps, many later.

Where to trust the band: up to 0.2 of the stability edge 90 % of the runs lie between the 5 % and the 95 % quantile
(87-93 % at single points); at 0.4, 87-92 %, the standard deviation 10 to 20 % too small. Nearer to the edge rare runs
carry mean and variance, and parameters are far from Gaussian: at 0.6 of the edge 84 to 90 % lie there (70 % on letter),
at 0.8 it is 64 %; the standard deviation is then too small by a factor of 2 and more. At the end of a shuffled epoch,
where the kicks of its rows nearly cancel, the band can be 1.6 times too wide.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import block
from .block import Block
from .problem_arrays import DRAWS, Arrays, losses

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
NORMAL = (-1.6448536269514722, -0.6744897501960817, 0.0, 0.6744897501960817, 1.6448536269514722)  # at these levels
KICKS = 256  # rows in a draw at most
PAIRED = 256  # rows that tell how far kicks align
ROUNDING = 1e-5  # of the largest output, within which outputs are equal
STRAIGHT = 1e-3  # skewness below which the log-normal is its limit, the normal


class Observables(NamedTuple):
    """Losses, their standard deviation and quantiles (at LEVELS) between runs, expected share misclassified."""

    train_loss: jax.Array
    test_loss: jax.Array
    train_loss_sd: jax.Array
    test_loss_sd: jax.Array
    train_loss_quantile: jax.Array
    test_loss_quantile: jax.Array
    test_error: jax.Array


class Kicks(NamedTuple):
    """What the rows do to the parameters: residuals (s, K) and the variance (s,) of a run about them, rho (K, K) of
    trace 1, scale (p,), by which a direction amplifies the kicks of one step into its standard deviation, and
    alignment: mean squared cosine between the kicks of two rows in the space of outputs, 1 for one output."""

    residual: jax.Array
    wander: jax.Array
    rho: jax.Array
    scale: jax.Array
    alignment: jax.Array


def observe(data: Arrays, mean: jax.Array, covariance: Block) -> Observables:
    """Everything that is forecast about parameters of this mean and covariance."""
    train, test = losses(data, mean, covariance)
    kicks = kicks_of(data, mean, covariance)
    k = len(covariance.full)
    g = data.h[:, None] * mean - data.correlation
    train_variance, train_third = cumulants(data, data.curvature(k), g, covariance, kicks, diagonal=True)
    misfit = data.test_rows @ mean - data.test_targets
    g = data.test_rows.T @ misfit / len(misfit)
    test_variance, test_third = cumulants(data, data.test_curvature, g, covariance, kicks)
    return Observables(
        train,
        test,
        jnp.sqrt(train_variance),
        jnp.sqrt(test_variance),
        quantiles(train, train_variance, train_third),
        quantiles(test, test_variance, test_third),
        error_rate(data, mean, covariance, kicks),
    )


def kicks_of(data: Arrays, mean: jax.Array, covariance: Block) -> Kicks:
    """The rows' residuals and what follows from them. Rows move the parameters in proportion to their length."""
    residual = data.rows @ mean - data.targets
    wander = jnp.maximum(block.quadratic(data.rows, covariance), 0)
    tiny = jnp.finfo(mean.dtype).tiny
    rho = jnp.einsum("s,sk,sl->kl", data.weights * jnp.sum(data.rows**2, axis=1), residual, residual)
    rho = rho / jnp.maximum(jnp.trace(rho), tiny)
    f = jnp.sum(residual**2, axis=1) + wander
    g = data.h[:, None] * mean - data.correlation
    scale = amplification(data, covariance, f, g)
    return Kicks(residual, wander, rho, scale, aligned(data, residual, wander, f, rho, scale))


def amplification(data: Arrays, covariance: Block, f: jax.Array, g: jax.Array) -> jax.Array:
    """(p,) standard deviation of each direction over that of the kick (f, mean g) of one random row."""
    one_step = (data.rows**2).T @ (data.weights * f) - jnp.sum(g**2, axis=1)
    floor = 1e-12 * jnp.max(one_step) + jnp.finfo(f.dtype).tiny
    return jnp.sqrt(jnp.maximum(covariance.diag(), 0) / jnp.maximum(one_step, floor))


def aligned(data: Arrays, residual, wander, f, rho, scale) -> jax.Array:
    """Squared cosine between what two rows do to the outputs, averaged as in tr(AVAV): weighted by the square of what
    one row's kick does to the other's loss. Rows that interact are alike, so their kicks align more than on average."""
    if residual.shape[1] == 1:
        return jnp.ones((), rho.dtype)
    reach = jnp.sum((scale * data.rows) ** 2, axis=1)
    share = jnp.cumsum(data.weights * f * reach)
    points = (jnp.arange(PAIRED) + 0.5) / PAIRED
    i = jnp.minimum(jnp.searchsorted(share, share[-1] * points), len(share) - 1)
    r, free, size, rows = residual[i], wander[i], f[i], data.rows[i]
    touched = ((rows * (scale**2 * data.h)) @ rows.T) ** 2 / jnp.outer(reach[i], reach[i])
    touched = jnp.where(i[:, None] == i, 0, touched)
    along = free[:, None] * jnp.sum((r @ rho) * r, axis=1)
    squared = (r @ r.T) ** 2 + along + along.T + jnp.outer(free, free) * jnp.sum(rho**2)
    total = jnp.sum(touched)
    cosine = jnp.sum(touched * squared / jnp.outer(size, size)) / total
    return jnp.where(total > 0, jnp.clip(cosine, 0, 1), jnp.sum(rho**2))


def cumulants(data: Arrays, curvature: Block, gradient, covariance: Block, kicks: Kicks, diagonal: bool = False):
    """Variance and third cumulant of a quadratic loss g x + x^T A x / 2 of Gaussian x with covariance V (x) rho:
    g^T V g + tr(AVAV) / 2 and 3 g^T V A V g + tr(AVAVAV)."""
    k = len(covariance.full)
    times = lambda matrix, x: jnp.concatenate([matrix.full @ x[:k], matrix.diagonal[:, None] * x[k:]])
    moved = times(covariance, gradient)
    shared = along(data, gradient, kicks)  # of the outputs in the linear terms
    product = curvature.full.diagonal()[:, None] * covariance.full if diagonal else curvature.full @ covariance.full
    tail = curvature.diagonal * covariance.diagonal
    variance = shared * jnp.sum(gradient * moved) + kicks.alignment / 2 * (
        jnp.sum(product * product.T) + jnp.sum(tail**2)
    )
    cubed = jnp.sum((product @ product) * product.T) + jnp.sum(tail**3)
    third = jnp.trace(kicks.rho @ kicks.rho @ kicks.rho) * cubed
    third = third + 3 * kicks.alignment * shared * jnp.sum(moved * times(curvature, moved))
    return jnp.maximum(variance, 0), third


def along(data: Arrays, gradient: jax.Array, kicks: Kicks) -> jax.Array:
    """Variance of g x, x with the kicks' own covariance between outputs, over that if outputs shared all of it.

    1 for one output. Along slow directions outputs move together in other ways than `rho` says on average.
    """
    steered = kicks.scale[:, None] * gradient
    reach = data.rows @ steered
    length = jnp.sum(reach**2, axis=1)
    push = jnp.sum(reach * kicks.residual, axis=1)
    own = push**2 + kicks.wander * jnp.sum((reach @ kicks.rho) * reach, axis=1)
    all_of_it = (jnp.sum(kicks.residual**2, axis=1) + kicks.wander) * length
    pull = jnp.einsum("s,sp,sk->pk", data.weights, data.rows, kicks.residual)
    own = data.weights @ own - (data.weights @ push) ** 2
    all_of_it = data.weights @ all_of_it - jnp.sum((steered.T @ pull) ** 2)
    return jnp.clip(own / jnp.maximum(all_of_it, jnp.finfo(own.dtype).tiny), 0, 1)


def quantiles(mean: jax.Array, variance: jax.Array, third: jax.Array) -> jax.Array:
    """At LEVELS, of the shifted log-normal with these cumulants."""
    z = jnp.asarray(NORMAL, mean.dtype)
    sd = jnp.sqrt(variance)
    skew = third / jnp.maximum(sd**3, jnp.finfo(mean.dtype).tiny)
    size = jnp.clip(jnp.abs(skew), STRAIGHT, 10)
    root = jnp.cbrt(1 + size**2 / 2 + size * jnp.sqrt(1 + size**2 / 4))
    w = root + 1 / root - 1  # exp(s^2) of the log-normal: skewness (w + 2) sqrt(w - 1)
    s = jnp.sqrt(jnp.log(w))
    sign = jnp.where(skew < 0, -1, 1)
    standard = sign * (jnp.exp(s * sign * z) - jnp.sqrt(w)) / jnp.sqrt(w * (w - 1))
    return mean + sd * jnp.where(jnp.abs(skew) > STRAIGHT, standard, z)


def error_rate(data: Arrays, mean: jax.Array, covariance: Block, kicks: Kicks) -> jax.Array:
    """Expected share of held-out rows whose largest output is not their class; nan if there is one output."""
    outputs = data.targets.shape[1]
    if outputs == 1:
        return jnp.full((), jnp.nan, mean.dtype)
    label = jnp.argmax(data.test_targets, axis=1)
    if outputs == 2:
        logits = data.test_rows @ mean
        sd = jnp.sqrt(jnp.maximum(block.quadratic(data.test_rows, covariance), 0))
        rho = kicks.rho
        sign = 2 * label - 1
        margin = sign * (logits[:, 1] - logits[:, 0])
        width = sd * jnp.sqrt(jnp.maximum(rho[0, 0] + rho[1, 1] - 2 * rho[0, 1], 0))
        lost = (margin < 0) | ((margin == 0) & (label == 1))  # a tie goes to the first class
        wrong = jnp.where(width > 0, jax.scipy.stats.norm.cdf(-margin / jnp.where(width > 0, width, 1)), lost)
        return jnp.mean(wrong.astype(mean.dtype))

    remembered = rows_remembered(data, mean, covariance, kicks)
    taken = jnp.arange(KICKS) < remembered
    # A run's first kick saw the parameters at 0, the second the mean after one step, and so on.
    past = 1 - 1 / remembered
    residual = past * (kicks.residual + data.targets) - data.targets
    pull = past * data.h[:, None] * mean - data.correlation
    wander = past * kicks.wander
    scale = amplification(data, covariance, jnp.sum(residual**2, axis=1) + wander, pull)
    values, vectors = jnp.linalg.eigh(kicks.rho)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))
    share = jnp.cumsum(data.weights)
    visits = jnp.minimum(jnp.searchsorted(share, share[-1] * jnp.asarray(places(), share.dtype)), len(share) - 1)
    test_rows = data.test_rows.astype(jnp.float32)  # the draws need no more
    own, before = jax.nn.one_hot(label, outputs, dtype=bool), jnp.arange(outputs) < label[:, None]

    def miss(draw, total):
        i = visits[draw]
        free = jax.random.normal(keys[draw], (KICKS, outputs), mean.dtype) @ root.T
        kick = jnp.where(taken[:, None], residual[i] + jnp.sqrt(wander[i])[:, None] * free, 0)
        moved = scale[:, None] * (remembered * pull - data.rows[i].T @ kick) / jnp.sqrt(remembered)
        output = test_rows @ (mean + moved).astype(jnp.float32)
        ahead = output - jnp.sum(jnp.where(own, output, 0), axis=1, keepdims=True)
        # A tie goes to the first class: before a class was ever visited its output is 0, here up to rounding.
        equal = ROUNDING * jnp.max(jnp.abs(output), axis=1, keepdims=True)
        lost = jnp.any((ahead > equal) | (before & (ahead >= -equal)), axis=1)
        return total + jnp.mean(lost, dtype=mean.dtype)

    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.lax.fori_loop(0, data.draws, miss, jnp.zeros((), mean.dtype)) / jnp.maximum(data.draws, 1)


def places() -> np.ndarray:
    """(DRAWS, KICKS) numbers in (0, 1), each column spread evenly over the draws (a Latin hypercube, fixed seed)."""
    random = np.random.default_rng(0)
    order = random.permuted(np.tile(np.arange(DRAWS)[:, None], KICKS), axis=0)
    return (order + random.uniform(size=order.shape)) / DRAWS


def rows_remembered(data: Arrays, mean: jax.Array, covariance: Block, kicks: Kicks) -> jax.Array:
    """How many rows the noise in the parameters is made of, in [1, KICKS].

    After m rows of equal weight the mean has moved by m and the variance by m times what one row does: their ratio,
    weighted by the curvature, counts the rows visited at first, and later those not yet forgotten.
    """
    tiny = jnp.finfo(mean.dtype).tiny
    moved = jnp.sum(data.h[:, None] * mean**2) / jnp.maximum(jnp.sum(data.h[:, None] * data.correlation**2), tiny)
    f = jnp.sum(kicks.residual**2, axis=1) + kicks.wander
    g = data.h[:, None] * mean - data.correlation
    one_step = data.weights @ (f * (data.rows**2 @ data.h)) - jnp.sum(data.h[:, None] * g**2)
    return jnp.clip(jnp.round(moved * one_step / jnp.maximum(data.h @ covariance.diag(), tiny)), 1, KICKS)
