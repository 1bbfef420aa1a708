"""Geometries: what direction a gradient stands for, and what shape the noise has that belongs to it."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ..models.base import Params, to_real


class Geometry(eqx.Module):
    """A metric on the parameters."""

    @abc.abstractmethod
    def direction(self, gradient: Params) -> Params:
        """The gradient in this metric."""

    @abc.abstractmethod
    def spread(self, noise: Params) -> Params:
        """Standard noise with the covariance of this metric."""


class Euclidean(Geometry):
    def direction(self, gradient: Params) -> Params:
        return gradient

    def spread(self, noise: Params) -> Params:
        return noise


class Preconditioned(Geometry):
    """Every parameter has its own positive factor: the direction is P g and the noise sqrt(P) times normal.

    Args:
      factors: the parameters' tree with a positive factor each (or broadcastable to them).
    """

    factors: Params = eqx.field(converter=lambda tree: jax.tree.map(to_real, tree))

    def direction(self, gradient: Params) -> Params:
        return jax.tree.map(lambda p, g: p * g, self.factors, gradient)

    def spread(self, noise: Params) -> Params:
        return jax.tree.map(lambda p, x: jnp.sqrt(p) * x, self.factors, noise)
