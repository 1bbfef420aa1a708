"""Clocks: how much a sample moves the parameters in one step. The only place where the algorithms differ.

A sample's gradient enters a step with the weight c; cbar is its mean given the past of that sample. The mean of c over
samples is dt. Coarse steps can be made of pairs of fine ones (`pairs`): runs at dt and dt/2 then share their chances.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

ClockName = Literal["none", "flow", "poisson", "bernoulli", "shuffle", "brownian"]
POISSON_TERMS = 25  # counts beyond have probability < 1e-25 at mean 1


class Rate(NamedTuple):
    """dt; fraction: share of the samples that a step visits; temperature: eta / B (for the Brownian clock)."""

    dt: jax.Array
    fraction: jax.Array
    temperature: jax.Array
    delta: jax.Array


class Place(NamedTuple):
    """A step: the sample paths' key, the number k of the step, paths, and whether it is a pair of fine steps."""

    key: jax.Array
    k: jax.Array
    paths: int
    pairs: bool


Weights = tuple[jax.Array, jax.Array]


def every_step(rate: Rate, place: Place) -> Weights:
    """Gradient descent: every sample in every step."""
    weight = jnp.broadcast_to(rate.dt, (place.paths,))
    return weight, weight


def bernoulli(rate: Rate, place: Place) -> Weights:
    """A batch drawn afresh in each step, without repetition: c = dt / b with probability b = B/n."""
    if place.pairs:
        fine = rate.fraction / 2
        first, second, third = uniforms(place, 3)
        # Two fine coins show a head less often than one coarse coin, by fine^2: the third makes up for it.
        visited = (first < fine) | (second < fine) | (third < (fine / (1 - fine)) ** 2)
    else:
        visited = uniforms(place, 1)[0] < rate.fraction
    return visited * (rate.dt / rate.fraction), every_step(rate, place)[1]


def poisson(rate: Rate, place: Place) -> Weights:
    """A batch drawn with replacement: c = (dt / b) Poisson(b)."""
    mean = rate.fraction / (2 if place.pairs else 1)
    counts = sum(poisson_count(u, mean) for u in uniforms(place, 2 if place.pairs else 1))
    return counts * (rate.dt / rate.fraction), every_step(rate, place)[1]


def shuffle(rate: Rate, place: Place) -> Weights:
    """Epochs: one visit to each sample in E = 1/b steps, in a fresh order each epoch."""
    steps = jnp.round(1 / rate.fraction)
    epoch = jnp.floor_divide(place.k, steps.astype(place.k.dtype))
    now = jnp.mod(place.k, steps.astype(place.k.dtype))
    chosen = jnp.floor(jax.random.uniform(jax.random.fold_in(place.key, epoch), (place.paths,), float) * steps)
    # The mean over the rest of the epoch stands in for the visit: few samples move in any one step.
    return rate.dt * steps * (chosen == now), rate.dt * steps / (steps - now) * (chosen >= now)


def brownian(rate: Rate, place: Place) -> Weights:
    """The stochastic differential equation with the same mean and variance, by Euler and Maruyama."""
    keys = fine_keys(place)
    noise = sum(jax.random.normal(key, (place.paths,), jnp.float32) for key in keys) / len(keys) ** 0.5
    mean = every_step(rate, place)[1]
    return mean + jnp.sqrt(rate.temperature * rate.delta * rate.dt) * noise, mean


def smoothed(rate: Rate, place: Place) -> Weights:
    """Batches without repetition with a normal law in place of the coin: it can be differentiated in the batch size."""
    noise = jax.random.normal(fine_keys(place)[0], (place.paths,), jnp.float32)
    mean = every_step(rate, place)[1]
    return mean * (1 + jnp.sqrt(jnp.maximum(1 / rate.fraction - 1, 1e-12)) * noise), mean


CLOCKS: dict[str, Callable[[Rate, Place], Weights]] = {
    "none": every_step,
    "bernoulli": bernoulli,
    "poisson": poisson,
    "shuffle": shuffle,
    "brownian": brownian,
    "smoothed": smoothed,
}


def fine_keys(place: Place) -> list[jax.Array]:
    if place.pairs:
        return [jax.random.fold_in(place.key, 2 * place.k + j) for j in range(2)]
    return [jax.random.fold_in(place.key, place.k)]


def uniforms(place: Place, count: int) -> list[jax.Array]:
    """Uniform numbers (paths,): those of the fine steps first, then further ones of the first fine step."""
    keys = fine_keys(place)
    keys += [jax.random.fold_in(keys[0], j) for j in range(count - len(keys))]
    return [jax.random.uniform(key, (place.paths,), jnp.float32) for key in keys]


def poisson_count(uniform: jax.Array, mean: jax.Array) -> jax.Array:
    """Poisson numbers by inversion, for means up to about 1."""
    term = total = jnp.exp(-mean)
    count = jnp.zeros_like(uniform)
    for j in range(1, POISSON_TERMS):
        count += uniform > total
        term *= mean / j
        total += term
    return count
