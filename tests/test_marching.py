"""Many steps of a linear recursion at once against the same steps one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riron.theory.marching import march, powers


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 1001])
@pytest.mark.parametrize("rate", [0.0, 1e-12, 1e-7, 3e-6, 1e-3, 0.3, 0.999, 1.0, 1.4, 1.97])
def test_powers_are_the_steps_one_by_one(rate, steps):
    x, s0, s1 = 1.3, 0.7, -0.02
    stepped = x
    for j in range(steps):
        stepped = (1 - rate) * stepped + s0 + s1 * j
    with jax.enable_x64(True):
        decay, first, second = map(float, powers(jnp.asarray(rate, jnp.float64), jnp.asarray(steps)))
    assert decay * x + first * s0 + second * s1 == pytest.approx(stepped, rel=1e-9, abs=1e-12)


def test_powers_in_single_precision():
    rate = np.geomspace(1e-8, 1.9, 60)
    with jax.enable_x64(True):
        exact, single = (powers(jnp.asarray(rate, kind), jnp.asarray(37)) for kind in (jnp.float64, jnp.float32))
    for wanted, found in zip(exact, single, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-5)


def test_a_march_restarts_where_it_is_told_and_keeps_its_tolerance():
    """x <- 0.99 x + cos-like feedback of x itself, halved at step 300."""

    def source(_, x):
        return 0.02 * jnp.cos(x)

    def step(time, d, x, s, slope):
        w = powers(jnp.asarray(0.01, jnp.float64), d)
        return w.decay * x + w.first * s + w.second * slope

    x, seen = 0.5, {}
    for k in range(601):
        if k in (0, 10, 300, 600):
            seen[k] = x
        if k == 300:
            x /= 2
        x = 0.99 * x + 0.02 * np.cos(x)
    with jax.enable_x64(True):
        stops = jnp.asarray([0, 10, 300, 600])
        values = march(
            jnp.asarray(0.5),
            stops=stops,
            restarts=stops == 300,
            sources=source,
            propagate=step,
            distance=lambda a, b, _: jnp.abs(a - b) / jnp.abs(b),
            measure=lambda time, x, _: x,
            restart=lambda x, _: x / 2,
            limit=lambda time: jnp.asarray(2**30),
            rtol=1e-5,
        )
    np.testing.assert_allclose(values, list(seen.values()), rtol=2e-5)
