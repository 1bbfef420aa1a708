"""Symmetric matrices that are full on the leading k directions and diagonal on the rest.

k = p is the full matrix, k = 0 the diagonal closure. They are pytrees: functions act entry by entry.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..errors import InputError


def leading(covariance: str, p: int, *, auto: int) -> int:
    """k of a closure by name: "full", "diagonal", "block:k", or "auto", which is k = `auto`."""
    known = {"auto": auto, "full": p, "diagonal": 0}
    if covariance in known:
        return known[covariance]
    if covariance.startswith("block:") and covariance[6:].isdecimal():
        return min(int(covariance[6:]), p)
    raise InputError(f"covariance={covariance!r} is unknown", do="use auto, full, diagonal or block:K")


class Block(NamedTuple):
    """`full` (k, k) on the first k directions and `diagonal` (p - k,) on the others."""

    full: jax.Array
    diagonal: jax.Array

    def map(self, function, *others: "Block") -> "Block":
        return jax.tree.map(function, self, *others)

    def diag(self) -> jax.Array:
        return jnp.concatenate([jnp.diagonal(self.full), self.diagonal])


def zeros(k: int, p: int, dtype) -> Block:
    return Block(jnp.zeros((k, k), dtype), jnp.zeros(p - k, dtype))


def pairs(function, k: int, *vectors: jax.Array) -> Block:
    """The matrix with entries function(u_a, u_b, v_a, v_b, ...) for vectors u, v, ..."""
    rows = [entry for v in vectors for entry in (v[:k, None], v[None, :k])]
    same = [entry for v in vectors for entry in (v[k:], v[k:])]
    return Block(function(*rows), function(*same))


def gram(rows: jax.Array, k: int, weights: jax.Array | None = None, other: jax.Array | None = None) -> Block:
    """sum_i weights_i rows_i other_i^T (other = rows unless given)."""
    left = rows if weights is None else weights[:, None] * rows
    other = rows if other is None else other
    return Block(left[:, :k].T @ other[:, :k], jnp.sum(left[:, k:] * other[:, k:], axis=0))


def quadratic(rows: jax.Array, matrix: Block) -> jax.Array:
    """(n,) rows_i^T matrix rows_i."""
    k = len(matrix.full)
    head, tail = rows[:, :k], rows[:, k:]
    return jnp.sum((head @ matrix.full) * head, axis=1) + (tail * tail) @ matrix.diagonal


def trace_product(a: Block, b: Block) -> jax.Array:
    """tr(a b)."""
    return jnp.sum(a.full * b.full) + jnp.sum(a.diagonal * b.diagonal)
