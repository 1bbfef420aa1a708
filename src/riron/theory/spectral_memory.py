"""What each row has given to the parameters so far in an epoch, kept as a smooth function of the curvature.

The contribution of row i in the direction of eigenvalue h is z_i(h) g_i(h), where g_i sums its kicks, each decayed by
(1 - eta h) a step since. g_i is smooth in u = log(h + h0), with h0 the curvature that hardly decays within an epoch, so
its values at a few Chebyshev points of u give all directions by interpolation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import block
from .block import Block
from .problem_arrays import Arrays

NODES = 20
HARDLY = 0.3  # eta h0 x steps of an epoch


class Memory(NamedTuple):
    """nodes (Q,): curvatures at which g is kept; basis (p, Q): interpolation to all directions; reach (s, Q)."""

    nodes: jax.Array
    basis: jax.Array
    reach: jax.Array

    def along_rows(self, given: jax.Array) -> jax.Array:
        """(s, K) z_i D_i: what each row's own contribution changes in its outputs."""
        return jnp.einsum("sq,sqk->sk", self.reach, given)

    def mean(self, data: Arrays, given: jax.Array) -> jax.Array:
        """(p, K) mean of the contributions over all rows."""
        rows, nodes, outputs = given.shape
        weighted = data.weights.astype(given.dtype)[:, None] * given.reshape(rows, nodes * outputs)
        sums = (data.rows.astype(given.dtype).T @ weighted).reshape(-1, nodes, outputs)
        return jnp.einsum("pq,pqk->pk", self.basis, sums).astype(data.h.dtype)

    def in_direction(self, data: Arrays, given: jax.Array, direction: jax.Array) -> jax.Array:
        """(s, p) sum over outputs of D_i times direction_i (s, K)."""
        along = jnp.einsum("sqk,sk->sq", given, direction.astype(given.dtype))
        return data.rows * (along @ self.basis.T).astype(data.rows.dtype)

    def spread(self, data: Arrays, given: jax.Array, mean: jax.Array, k: int) -> Block:
        """sum_i (D_i - mean D)(D_i - mean D)^T over all n rows and all outputs."""
        return self._centred(data, given, given, mean, mean, k)

    def joint_spread(self, data: Arrays, given: jax.Array, other: jax.Array, k: int) -> Block:
        """The same of two contributions, the first in the first index."""
        return self._centred(data, given, other, self.mean(data, given), self.mean(data, other), k)

    def _centred(self, data: Arrays, given, other, mean, other_mean, k: int) -> Block:
        rows, weights = data.rows.astype(given.dtype), data.weights.astype(given.dtype)
        leading, tail = self.basis[:k], self.basis[k:]

        def add(total, one_output):
            left, right = (rows[:, :k] * (each @ leading.T) for each in one_output)
            return total + (weights[:, None] * left).T @ right, None

        outputs = (jnp.moveaxis(given, 2, 0), jnp.moveaxis(other, 2, 0))
        full, _ = jax.lax.scan(add, jnp.zeros((k, k), given.dtype), outputs)
        # The product of two g, summed over outputs, is as smooth as g: it is interpolated itself.
        squared = weights[:, None] * jnp.sum(given * other, axis=2)
        diagonal = jnp.sum(tail * ((rows[:, k:] ** 2).T @ squared), axis=1)
        scatter = Block(full, diagonal).map(lambda x: x.astype(data.h.dtype))
        return scatter.map(lambda a, b: data.n * (a - b), block.gram(mean.T, k, other=other_mean.T))


def memory_of(data: Arrays, step_size: jax.Array, steps_per_epoch: jax.Array) -> Memory:
    """Nodes and interpolation for a run; all eigenvalues are nodes where they are few."""
    h = data.h
    if len(h) <= NODES:
        nodes, basis = h, jnp.eye(len(h), dtype=h.dtype)
    else:
        h0 = HARDLY / (step_size * steps_per_epoch.astype(h.dtype))
        u = jnp.log(h + h0)
        angles = jnp.arange(NODES, dtype=h.dtype) * jnp.pi / (NODES - 1)
        points = u[-1] + (u[0] - u[-1]) * (1 - jnp.cos(angles)) / 2
        nodes, basis = jnp.exp(points) - h0, _barycentric(u, points)
    reach = data.rows**2 @ basis
    return Memory(nodes, basis.astype(jnp.float32), reach.astype(jnp.float32))


def _barycentric(u: jax.Array, points: jax.Array) -> jax.Array:
    """(p, Q) values at u of the Lagrange polynomials of Chebyshev points (Berrut & Trefethen, SIAM Review 2004)."""
    count = len(points)
    signs = jnp.where(jnp.arange(count) % 2 == 0, 1.0, -1.0).astype(u.dtype).at[jnp.array([0, count - 1])].mul(0.5)
    gap = u[:, None] - points
    close = jnp.abs(gap) < 1e-6 * (points[-1] - points[0])
    terms = signs / jnp.where(close, 1, gap)
    values = terms / jnp.sum(terms, axis=1, keepdims=True)
    return jnp.where(close.any(axis=1, keepdims=True), close.astype(u.dtype), values)
