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


@pytest.fixture(scope="module")
def quick_compilation():
    """For short runs: compiling them with few optimisations takes a quarter of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def float64():
    """64-bit numbers in JAX."""
    with jax.enable_x64(True):
        yield
