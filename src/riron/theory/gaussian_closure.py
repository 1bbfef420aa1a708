"""SGD on a smooth convex loss with Gaussian parameters: mean and covariance, batches drawn with replacement.

theta ~ N(mu, V), so the outputs of a row are Gaussian and the loss enters through four averages only
(`output_moments`). The mean gradient g moves mu; by Stein's identity Cov(theta, gradient) = V H with H the mean
Hessian, so that V contracts as on least squares with curvature H, and one step adds the noise
(1/B) [(1/n) sum_i E(l_i' l_i'^T) x z_i z_i^T - g g^T - H V H]. With the squared loss it is `sgd_moments`, exactly.

It leaves out that a heavy row visited with a large step makes its own output skew: see `convex_forecast`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import output_covariance as structure
from .marching import march, powers
from .output_covariance import Basis, Covariance
from .output_moments import Moments
from .problem_arrays import Setting


class Rows(NamedTuple):
    """Rows (m, c, p) in m chunks of c, targets (m, c, K) and weights (m, c) of sum 1 (0 for padding)."""

    rows: jax.Array
    targets: jax.Array
    weights: jax.Array


class Table(NamedTuple):
    """Training and held-out rows, a few held-out rows on which intervals are judged, and the number of rows."""

    train: Rows
    test: Rows
    probe: Rows
    n: jax.Array


class Gaussian(NamedTuple):
    """Mean (p, K) and covariance of the parameters in the eigenbasis of the rows."""

    mean: jax.Array
    covariance: Covariance


class Averages(NamedTuple):
    """What changes slowly: where it was taken (p, K), loss, mean gradient (p, K), Hessian, noise of one row."""

    mean: jax.Array
    value: jax.Array
    slope: jax.Array
    curvature: Covariance
    noise: Covariance


def sum_over(rows: Rows, function: Callable, *more: jax.Array):
    """The sum over chunks of function(rows, targets, weights, *more), a pytree; memory of one chunk."""
    chunks = (*rows, *more)
    if len(rows.rows) == 1:
        return function(*(chunk[0] for chunk in chunks))
    shapes = jax.eval_shape(function, *(chunk[0] for chunk in chunks))
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    add = lambda total, chunk: (jax.tree.map(jnp.add, total, function(*chunk)), None)
    return jax.lax.scan(add, start, chunks)[0]


def initial(table: Table, k: int) -> Gaussian:
    p, K = table.train.rows.shape[2], table.train.targets.shape[2]
    dtype = table.train.rows.dtype
    return Gaussian(jnp.zeros((p, K), dtype), structure.zeros(k, p, K, dtype))


def averages(table: Table, moments: Moments, at: Gaussian) -> Averages:
    k = structure.leading(at.covariance)

    def chunk(z, y, w):
        seen = moments(y, z @ at.mean, structure.along(z, at.covariance))
        blocks = w[:, None, None]
        return (
            w @ seen.value,
            z.T @ (w[:, None] * seen.slope),
            structure.scatter(z, blocks * seen.curvature, k),
            structure.scatter(z, blocks * seen.square, k),
        )

    value, slope, curvature, square = sum_over(table.train, chunk)
    noise = square.map(jnp.subtract, structure.gram(slope[None], k))
    return Averages(at.mean, value, slope, curvature, noise)


class Interval(NamedTuple):
    """d steps over which the Hessian is held at its mean, in the basis where it is diagonal."""

    basis: Basis
    d: jax.Array
    eta: jax.Array
    eta_squared: jax.Array
    ridge: jax.Array
    noise: jax.Array

    @classmethod
    def over(cls, setting: Setting, time, d, curvature: Covariance, change: Covariance) -> "Interval":
        eta, eta_squared = setting.over(time, d, curvature.full.dtype)
        middle = (d.astype(eta.dtype) - 1) / 2
        basis = Basis.of(curvature.map(lambda a, b: a + middle * b, change))
        return cls(basis, d, eta, eta_squared, setting.ridge, setting.noise)

    def mean(self, mean, slope, change, moved) -> jax.Array:
        """mu <- mu - eta (g + ridge mu), what g differs from H mu by linear in time.

        slope: gradient at the start; change and moved: per step, of gradient and of mu.
        """
        starts, slopes, changes, moves = (self.basis.into(x[None]) for x in (mean, slope, change, moved))
        ends = []
        for h, mu, g, dg, dmu in zip((self.basis.head, self.basis.tail), starts, slopes, changes, moves, strict=True):
            w = powers(self.eta * (h + self.ridge), self.d)
            ends.append(w.decay * mu - self.eta * (w.first * (g - h * mu) + w.second * (dg - h * dmu)))
        return self.basis.back(*ends)[0]

    def covariance(self, covariance: Covariance, source: Covariance, change: Covariance) -> Covariance:
        """V <- w o V + source, w_ab = (1 - eta hr_a)(1 - eta hr_b) - (eta^2/B) h_a h_b, the source linear in time."""

        def rate(a, b):
            ra, rb = a + self.ridge, b + self.ridge
            return self.eta * (ra + rb) - self.eta_squared * (ra * rb - self.noise * a * b)

        def step(L, V, N, dN):
            w = powers(L, self.d)
            return w.decay * V + w.first * N + w.second * dN

        rotated = (self.basis.rotate(x) for x in (covariance, source, change))
        return self.basis.rotate_back(self.basis.pairs(rate).map(step, *rotated))

    def contributions(self, given: jax.Array, kicks: jax.Array) -> jax.Array:
        """(n, p, K) D <- (1 - eta (H + ridge)) D + kicks, the kicks constant."""
        ends = []
        for h, D, kick in zip(
            (self.basis.head, self.basis.tail), self.basis.into(given), self.basis.into(kicks), strict=True
        ):
            w = powers(self.eta * (h + self.ridge), self.d)
            ends.append(w.decay * D + w.first * kick)
        return self.basis.back(*ends)


def propagate(setting: Setting, time, d, at: Gaussian, source: Averages, slope: Averages) -> Gaussian:
    """d steps with the noise linear in time."""
    interval = Interval.over(setting, time, d, source.curvature, slope.curvature)
    mean = interval.mean(at.mean, source.slope, slope.slope, slope.mean)
    scale = interval.eta_squared * setting.noise
    noise, change = (x.map(lambda v: scale * v) for x in (source.noise, slope.noise))
    return Gaussian(mean, interval.covariance(at.covariance, noise, change))


def moved(table: Table, moments: Moments, before: Gaussian, after: Gaussian, slope, curvature, value) -> jax.Array:
    """Largest relative change of train and held-out loss between two states close to each other."""
    drift = after.mean - before.mean
    change = after.covariance.map(jnp.subtract, before.covariance)
    train = jnp.abs(jnp.sum(slope * drift) + structure.trace_product(curvature, change) / 2) / value

    def chunk(z, y, w):
        seen = moments(y, z @ after.mean, structure.along(z, after.covariance))
        shift = jnp.sum(seen.slope * (z @ drift), axis=1)
        widened = jnp.sum(seen.curvature * structure.along(z, change), axis=(1, 2))
        return w @ seen.value, w @ (shift + widened / 2)

    held_out, shifted = sum_over(table.probe, chunk)
    largest = jnp.maximum(train, jnp.abs(shifted) / held_out)
    return jnp.where(jnp.isfinite(largest), largest, 1e3)  # an interval that went astray is to be halved


def run(table: Table, moments: Moments, setting: Setting, k: int, stops, rtol):
    """Mean and covariance at each stop."""

    def distance(predicted: Gaussian, corrected: Gaussian, there: Averages):
        return moved(table, moments, predicted, corrected, there.slope, there.curvature, there.value)

    return march(
        initial(table, k),
        stops=stops,
        restarts=jnp.zeros(len(stops), bool),
        sources=lambda time, at: averages(table, moments, at),
        propagate=partial(propagate, setting),
        distance=distance,
        measure=lambda time, at, seen: at,
        restart=lambda at, _: at,
        limit=setting.steps.limit,
        rtol=rtol,
    )
