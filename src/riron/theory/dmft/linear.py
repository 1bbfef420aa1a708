"""Small symmetric matrices of the sweep: roots and inverses that a loss of rank does not break."""

import jax
import jax.numpy as jnp


def inverse(matrix: jax.Array, cutoff: float = 1e-12) -> jax.Array:
    """Pseudo-inverse of a positive semidefinite matrix: directions without variance count as absent."""
    if matrix.shape == (1, 1):
        return jnp.where(matrix > 0, 1 / jnp.where(matrix > 0, matrix, 1), 0)
    values, vectors = jnp.linalg.eigh(matrix)
    kept = values > cutoff * jnp.maximum(values[-1], 1e-290)
    return (vectors * jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)) @ vectors.T


def root(matrix: jax.Array, least: jax.Array | float = 0.0) -> jax.Array:
    """Symmetric root, eigenvalues below `least` raised to it."""
    if matrix.shape == (1, 1):
        return jnp.sqrt(jnp.maximum(matrix, least))
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * jnp.sqrt(jnp.maximum(values, least))) @ vectors.T


def solve_rows(factor: jax.Array, rows: jax.Array) -> jax.Array:
    """rows @ S^-1 for S with the Cholesky factor given."""
    return jax.scipy.linalg.cho_solve((factor, True), rows.T).T
