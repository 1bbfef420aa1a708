"""What the moment recursions see: a spectrum on the device, its sampled rows, and the setting of one run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from . import block
from .block import Block
from .marching import powers
from .spectrum import Spectrum
from .step_sizes import StepSizes

DRAWS = 64


class Arrays(NamedTuple):
    """A `Spectrum` with the rows that the recursion visits, weighted to stand for all of them.

    h (p,), rows (s, p), targets (s, K), weights (s,) with sum_s weights_s x_s ~ (1/n) sum_i x_i, correlation (p, K),
    power: mean |y|^2, test_rows (n_t, p), test_targets (n_t, K), test_curvature (p, p) of the held-out rows; draws: how
    many times the parameters are drawn for the error rate of three or more classes (0 where it is not wanted).
    """

    h: jax.Array
    rows: jax.Array
    targets: jax.Array
    weights: jax.Array
    correlation: jax.Array
    power: jax.Array
    test_rows: jax.Array
    test_targets: jax.Array
    test_curvature: Block
    n: jax.Array
    draws: jax.Array | int = DRAWS

    def curvature(self, k: int) -> Block:
        return Block(jnp.diag(self.h[:k]), self.h[k:])

    def mean_square_residual(self, mean: jax.Array) -> jax.Array:
        """(1/n) sum_i |y_i - z_i mean|^2 over all rows, without touching them."""
        return self.power + jnp.sum(mean * (self.h[:, None] * mean - 2 * self.correlation))


class Setting(NamedTuple):
    """One run: step sizes, noise = 1/batch (times (n-B)/(n-1) for a fresh batch without replacement), ridge."""

    steps: StepSizes
    noise: jax.Array
    ridge: jax.Array

    def over(self, time, d, dtype):
        return tuple(x.astype(dtype) for x in self.steps.over(time, d))

    def mean_path(self, data: Arrays, eta, d, mean, pull: ArrayLike = 0.0, slope: ArrayLike = 0.0) -> jax.Array:
        """d steps of mean <- (1 - eta (h + ridge)) mean + eta (correlation - pull(t)), pull linear in time."""
        w = powers(eta * (data.h + self.ridge), d)
        first, second = w.first[:, None], w.second[:, None]
        return w.decay[:, None] * mean + eta * (first * (data.correlation - pull) - second * slope)

    def covariance_rates(self, data: Arrays, eta, eta_squared, k: int) -> Block:
        """L = 1 - w, w_ab = (1 - eta h_a)(1 - eta h_b) - (eta^2/B) h_a h_b, with h + ridge in the first two factors."""
        h, damped = data.h, data.h + self.ridge
        rate = lambda a, b, ra, rb: eta * (ra + rb) - eta_squared * (ra * rb - self.noise * a * b)
        return block.pairs(rate, k, h, damped)


def losses(data: Arrays, mean: jax.Array, covariance: Block) -> tuple[jax.Array, jax.Array]:
    """Expected train and held-out loss, |f - y|^2 / 2 summed over outputs, without the ridge term."""
    train = (data.mean_square_residual(mean) + data.h @ covariance.diag()) / 2
    residual = data.test_rows @ mean - data.test_targets
    test = (jnp.mean(jnp.sum(residual**2, axis=1)) + block.trace_product(covariance, data.test_curvature)) / 2
    return train, test


def prepare(spectrum: Spectrum, *, k: int, dtype, rows: int | None = None, seed: int = 0) -> Arrays:
    """The arrays of a run. `rows`: how many training rows stand for all, drawn in proportion to 1/2n + leverage/2."""
    chosen, weights = sample_rows(spectrum.leverage, rows, seed)
    test_rows, test_targets = spectrum.test_rows, spectrum.test_targets
    if (
        test_rows is None or test_targets is None
    ):  # no held-out rows: the training rows stand in, nobody reads the result
        test_rows, test_targets = spectrum.rows, spectrum.targets

    def put(a):
        return jnp.asarray(a, dtype)

    test = put(test_rows)
    return Arrays(
        h=put(spectrum.eigenvalues),
        rows=put(spectrum.rows[chosen] if len(chosen) < spectrum.n else spectrum.rows),
        targets=put(spectrum.targets[chosen]),
        weights=put(weights),
        correlation=put(spectrum.correlation),
        power=put(np.mean(np.sum(spectrum.targets**2, axis=1))),
        test_rows=test,
        test_targets=put(test_targets),
        test_curvature=block.gram(test, k, jnp.full(len(test), 1 / len(test), dtype)),
        n=put(spectrum.n),
    )


def sample_rows(leverage: np.ndarray, rows: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights of a sample that keeps its heaviest rows for certain; all rows, each 1/n, if rows is None."""
    n = len(leverage)
    if rows is None or rows >= n:
        return np.arange(n), np.full(n, 1 / n)
    sure = np.argsort(leverage)[::-1][: rows // 4]
    rest = np.setdiff1d(np.arange(n), sure)
    chance = 0.5 / len(rest) + 0.5 * leverage[rest] / leverage[rest].sum()
    drawn = rows - len(sure)
    # Systematic sampling: one uniform number, so that no row with a large share is missed by bad luck.
    points = (np.arange(drawn) + np.random.default_rng(seed).uniform()) / drawn
    order = np.random.default_rng(seed + 1).permutation(len(rest))
    picked = order[np.searchsorted(np.cumsum(chance[order]), points, side="left").clip(max=len(rest) - 1)]
    weights = np.concatenate([np.full(len(sure), 1 / n), 1 / (n * drawn * chance[picked])])
    return np.concatenate([sure, rest[picked]]), weights
