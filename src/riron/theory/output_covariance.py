"""Covariances of parameters with K outputs: full on the k leading directions, K x K blocks on each other direction.

A parameter is (a, l): direction a of the rows' eigenbasis, output l. k = p is the full (K p, K p) matrix; a direction
beyond k keeps the covariance of its K outputs and none with other directions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Covariance(NamedTuple):
    """`full` (k K, k K) on the leading directions (row a K + l) and `tail` (p - k, K, K) on the others."""

    full: jax.Array
    tail: jax.Array

    def map(self, function, *others: "Covariance") -> "Covariance":
        return jax.tree.map(function, self, *others)


def zeros(k: int, p: int, outputs: int, dtype) -> Covariance:
    return Covariance(jnp.zeros((k * outputs, k * outputs), dtype), jnp.zeros((p - k, outputs, outputs), dtype))


def leading(matrix: Covariance) -> int:
    """k, the number of leading directions."""
    return len(matrix.full) // matrix.tail.shape[1]


def along(rows: jax.Array, matrix: Covariance) -> jax.Array:
    """(n, K, K) covariances of the outputs of the rows, z_i^T V_lm z_i."""
    n, k, K = len(rows), leading(matrix), matrix.tail.shape[1]
    head, tail = rows[:, :k], rows[:, k:]
    half = (head @ matrix.full.reshape(k, K * k * K)).reshape(n, K, k, K)
    full = jnp.einsum("nlbm,nb->nlm", half, head)
    return full + jnp.einsum("nt,tlm->nlm", tail * tail, matrix.tail)


def scatter(rows: jax.Array, weights: jax.Array, k: int) -> Covariance:
    """sum_i (z_i z_i^T) x weights_i, weights (n, K, K)."""
    n, K = len(rows), weights.shape[1]
    head, tail = rows[:, :k], rows[:, k:]
    spread = (head[:, None, :, None] * weights[:, :, None, :]).reshape(n, K * k * K)
    full = (head.T @ spread).reshape(k * K, k * K)
    return Covariance(full, jnp.einsum("nt,nlm->tlm", tail * tail, weights))


def gram(left: jax.Array, k: int, right: jax.Array | None = None) -> Covariance:
    """sum_i left_i right_i^T for parameters left, right (n, p, K); right = left unless given."""
    right = left if right is None else right
    n, _, K = left.shape
    full = left[:, :k].reshape(n, k * K).T @ right[:, :k].reshape(n, k * K)
    return Covariance(full, jnp.einsum("ntl,ntm->tlm", left[:, k:], right[:, k:]))


def trace_product(a: Covariance, b: Covariance) -> jax.Array:
    """tr(a b) of symmetric matrices."""
    return jnp.sum(a.full * b.full) + jnp.sum(a.tail * b.tail)


def transpose(a: Covariance) -> Covariance:
    return Covariance(a.full.T, jnp.swapaxes(a.tail, 1, 2))


class Basis(NamedTuple):
    """Eigenvalues and eigenvectors of a symmetric matrix of this structure: of `full`, and of each block of `tail`."""

    head: jax.Array
    head_vectors: jax.Array
    tail: jax.Array
    tail_vectors: jax.Array

    @classmethod
    def of(cls, matrix: Covariance) -> "Basis":
        """Of a positive semidefinite matrix: rounding below 0 is cut off."""
        head, head_vectors = jnp.linalg.eigh(matrix.full)
        if matrix.tail.shape[1] == 1:  # blocks of one number are their own eigenvalues
            values, vectors = matrix.tail[:, 0], jnp.ones_like(matrix.tail)
        else:
            # One decomposition after the other: two at once can lock up XLA's threads on a CPU.
            after = jnp.sum(head) * 0
            values, vectors = jax.lax.map(jnp.linalg.eigh, matrix.tail + after)
        return cls(jnp.maximum(head, 0), head_vectors, jnp.maximum(values, 0), vectors)

    def into(self, parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Coordinates of parameters (n, p, K): (n, k K) and (n, p - k, K)."""
        n, _, K = parameters.shape
        k = len(self.head) // K
        head = parameters[:, :k].reshape(n, k * K) @ self.head_vectors
        return head, jnp.einsum("ntl,tlm->ntm", parameters[:, k:], self.tail_vectors)

    def back(self, head: jax.Array, tail: jax.Array) -> jax.Array:
        """Parameters (n, p, K) of coordinates."""
        n, K = len(head), tail.shape[2]
        full = (head @ self.head_vectors.T).reshape(n, -1, K)
        return jnp.concatenate([full, jnp.einsum("ntm,tlm->ntl", tail, self.tail_vectors)], axis=1)

    def rotate(self, matrix: Covariance) -> Covariance:
        """The matrix in this basis."""
        tail = jnp.einsum("tlm,tlj,tmk->tjk", matrix.tail, self.tail_vectors, self.tail_vectors)
        return Covariance(self.head_vectors.T @ matrix.full @ self.head_vectors, tail)

    def rotate_back(self, matrix: Covariance) -> Covariance:
        tail = jnp.einsum("tjk,tlj,tmk->tlm", matrix.tail, self.tail_vectors, self.tail_vectors)
        return Covariance(self.head_vectors @ matrix.full @ self.head_vectors.T, tail)

    def pairs(self, function) -> Covariance:
        """The matrix with entries function(eigenvalue a, eigenvalue b)."""
        full = function(self.head[:, None], self.head[None, :])
        return Covariance(full, function(self.tail[:, :, None], self.tail[:, None, :]))
