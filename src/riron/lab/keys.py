"""The key tree: root, then the seed, then the purpose, then the step; so seed 7 is the same run among 8 or 800."""

import jax

DATA, INITIAL, STEPS = 0, 1, 2


def seed_keys(seed: int, seeds: int) -> jax.Array:
    """(seeds,) keys; threefry, whose numbers do not depend on which seeds share a batch."""
    root = jax.random.key(seed, impl="threefry2x32")
    return jax.vmap(lambda s: jax.random.fold_in(root, s))(jax.numpy.arange(seeds))
