"""What all tests share."""

import gc

import equinox as eqx
import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
    """Drops a file's compiled functions at its end.

    Each holds a few memory maps for good, and a process may have 65 530 of them on Linux: beyond that XLA aborts.
    """
    yield
    jax.clear_caches()
    eqx.clear_caches()
    gc.collect()
