"""Gaussian averages of products of g(u) = erf(u / sqrt 2) and its derivative, in closed form.

u ~ N(0, S) with N components; arrays hold all combinations of indices at once.

Source: Saad & Solla, Phys. Rev. E 1995.
"""

import jax
import jax.numpy as jnp


def two(S: jax.Array) -> jax.Array:
    """E[g(u_a) g(u_b)], (N, N)."""
    one = 1 + jnp.diag(S)
    return 2 / jnp.pi * jnp.arcsin(S / jnp.sqrt(one[:, None] * one))


def slopes(S: jax.Array) -> jax.Array:
    """E[g'(u_a) g'(u_b)], (N, N)."""
    one = 1 + jnp.diag(S)
    return 2 / jnp.pi / jnp.sqrt(one[:, None] * one - S**2)


def three(S: jax.Array, m: int) -> jax.Array:
    """E[g'(u_a) u_b g(u_c)] for the first m components a, (m, N, N)."""
    one = 1 + jnp.diag(S)
    to, own = S[:m], one[:m, None, None]
    determinant = own[..., 0] * one - to**2
    above = S * own - to[:, :, None] * to[:, None, :]
    return 2 / jnp.pi * above / (own * jnp.sqrt(determinant)[:, None, :])


def four(S: jax.Array, m: int) -> jax.Array:
    """E[g'(u_a) g'(u_b) g(u_c) g(u_d)] for the first m components a, b, (m, m, N, N)."""
    A, B = (1 + jnp.diag(S)[:m])[:, None], (1 + jnp.diag(S)[:m])[None, :]
    ab = S[:m, :m]
    L4 = A * B - ab**2
    a, b = S[:m, None, :], S[None, :m, :]  # S_ac, S_bc
    wide = lambda x: x[..., None]
    # Conditional covariance of (u_c, u_d) under the weight g'(u_a) g'(u_b), times L4.
    pair = lambda x: x[..., :, None] * x[..., None, :]
    cross = a[..., :, None] * b[..., None, :]
    L0 = wide(wide(L4)) * S - pair(b) * wide(wide(A)) - pair(a) * wide(wide(B))
    L0 += wide(wide(ab)) * (cross + jnp.swapaxes(cross, -1, -2))
    L1 = jnp.diagonal(L0, axis1=-2, axis2=-1) + wide(L4)
    angle = jnp.arcsin(L0 / jnp.sqrt(pair(L1)))
    return 4 / jnp.pi**2 * angle / wide(wide(jnp.sqrt(L4)))
