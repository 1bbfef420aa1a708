"""Noise that is added to a step, apart from that of the samples."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..models.base import Params, to_real


class Noise(eqx.Module):
    """A random displacement of all parameters."""

    @abc.abstractmethod
    def draw(self, key: jax.Array, shape: Params) -> Any:
        """Standard random numbers for one step."""

    @abc.abstractmethod
    def __call__(self, draw: Any, step_size: jax.Array) -> Params | None:
        """The displacement, or None."""


class NoNoise(Noise):
    def draw(self, key: jax.Array, shape: Params) -> tuple:
        return ()

    def __call__(self, draw: tuple, step_size: jax.Array) -> None:
        return None


class Gaussian(Noise):
    """sqrt(2 step_size temperature) N(0, I): Langevin dynamics, whose law tends to exp(-objective / temperature).

    Two fine draws make a coarse one (`coarsen`), so that runs at steps h and h/2 can be coupled.
    """

    temperature: jax.Array = eqx.field(converter=to_real)

    def draw(self, key: jax.Array, shape: Params) -> Params:
        leaves, structure = jax.tree.flatten(shape)
        keys = jax.random.split(key, len(leaves))
        numbers = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, numbers)

    def __call__(self, draw: Params, step_size: jax.Array) -> Params:
        return jax.tree.map(lambda x: jnp.sqrt(2 * step_size * self.temperature) * x, draw)

    def coarsen(self, first: Params, second: Params) -> Params:
        """The draw of one step of size h from those of two steps of size h/2."""
        return jax.tree.map(lambda a, b: (a + b) / jnp.sqrt(2.0), first, second)
