"""Uniform row numbers from raw random words: one hash a number, half of what a general-purpose routine takes."""

import jax
import jax.numpy as jnp


def scaled_words(words: jax.Array, n: jax.Array | int) -> jax.Array:
    """floor(words * n / 2^32) for words uniform on 0 .. 2^32 - 1: uniform on 0 .. n - 1, biased by less than n / 2^32.

    The 64-bit product is put together from 16-bit halves, since JAX has no 64-bit integers by default.
    """
    n = jnp.asarray(n).astype(jnp.uint32)
    low, high = words & 0xFFFF, words >> 16
    n_low, n_high = n & 0xFFFF, n >> 16
    middle = high * n_low + (low * n_low >> 16)
    carry = (low * n_high + (middle & 0xFFFF)) >> 16
    return (high * n_high + (middle >> 16) + carry).astype(jnp.int32)


def uniform_index(key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
    """Independent uniform row numbers 0 .. n - 1, drawn with replacement."""
    return scaled_words(jax.random.bits(key, shape, jnp.uint32), n)
