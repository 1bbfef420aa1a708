"""Tempered sequential Monte Carlo against closed forms: a Gaussian tilt, and two modes that no local chain connects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from riron.dynamics.tempered_smc import adapt_ladder, local_chains, tempered_smc
from riron.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def linear_plus_quadratic(args, W):
    """U = a.w + k |w|^2 / 2."""
    a, k = args
    return W @ a + k * jnp.sum(W**2, axis=1) / 2


def two_wells(args, W):
    """Minus the logarithm of a mixture: exp(-U) = e^depth N(w; m, s^2 I) + N(w; -m, s^2 I), up to a constant."""
    m, s, depth = args
    left, right = (jnp.sum((W - sign * m) ** 2, axis=1) / (2 * s**2) for sign in (-1.0, 1.0))
    return -jnp.logaddexp(depth - right, -left)


def run(potential, args, dim, *, key=0, sd=1.0, dtype=jnp.float32, **size):
    ladder = adapt_ladder(potential, args, jax.random.key(key), dim=dim, reference_sd=sd, particles=500, dtype=dtype)
    sample = tempered_smc(
        potential, args, jax.random.key(key + 1000), ladder, dim=dim, reference_sd=sd, dtype=dtype, **size
    )
    return ladder, sample


def test_a_gaussian_is_tilted_as_the_closed_form_says():
    """N(0, s^2 I) exp(-a.w - k|w|^2/2) is N(-v a, v I), 1/v = 1/s^2 + k; log Z = p log(v/s^2)/2 + v |a|^2 / 2."""
    sd, k, a = 1.5, 3.0, np.array([2.0, -1.0, 0.5])
    ladder, sample = run(linear_plus_quadratic, (a, k), 3, sd=sd, groups=32, particles=400, moves=8)
    assert ladder.complete
    assert ladder.rungs >= 3
    v = 1 / (1 / sd**2 + k)
    z = np.exp(sample.log_z - (1.5 * np.log(v / sd**2) + v * a @ a / 2))
    critical = stats.t.ppf(1 - 1e-5, 31)
    assert abs(z.mean() - 1) < critical * z.std(ddof=1) / 32**0.5
    means = sample.points.astype(np.float64).mean(axis=1)
    error = means.std(axis=0, ddof=1) / 32**0.5
    assert np.all(np.abs(means.mean(axis=0) + v * a) < critical * error + 0.003)  # the groups' weights are nearly equal
    spread = (sample.points.astype(np.float64) + v * a).var(axis=(0, 1))
    assert np.allclose(spread, v, rtol=0.08)
    # A wrong constant would be seen: a move that forgets the temperature leaves the reference's spread.
    assert not np.allclose(spread, sd**2, rtol=0.08)


def test_the_weights_of_two_far_modes_are_right():
    """The modes are 12 widths apart; their weights are e^depth : 1, times the reference's, which is symmetric."""
    m, s, depth = np.array([1.5, 0.0]), 0.25, 1.0
    ladder, sample = run(two_wells, (m, s, depth), 2, groups=32, particles=500, moves=6)
    assert ladder.complete
    right = (sample.points[:, :, 0] > 0).mean(axis=1)
    v = sample.weights
    share = v @ right
    error = np.sqrt(32 / 31 * np.sum(v**2 * (right - share) ** 2))
    exact = np.e / (1 + np.e)
    assert abs(share - exact) < stats.t.ppf(1 - 1e-5, 31) * error
    assert error < 0.02
    assert sample.ess.min() > 0.5
    assert 0.3 < sample.acceptance.min() < 1


def test_the_normaliser_is_unbiased_with_few_particles_and_moves():
    """10 particles and one move: log Z is badly low, Z itself has the right mean."""
    a, k = np.array([1.0, 1.0]), 1.0
    _, sample = run(linear_plus_quadratic, (a, k), 2, groups=4000, particles=10, moves=1, dtype=jnp.float32)
    v = 0.5
    z = np.exp(sample.log_z - (np.log(v) + v * a @ a / 2))
    error = z.std(ddof=1) / 4000**0.5
    assert abs(z.mean() - 1) < 4.5 * error
    assert np.log(z).mean() < -3 * np.log(z).std() / 4000**0.5


def test_local_chains_are_exact_within_a_mode_and_never_leave_it():
    m, s = np.array([1.5, 0.0]), 0.25
    start = np.broadcast_to(-m, (8, 500, 2)).astype(np.float32)
    told = {"reference_sd": 1.0, "step": 0.15, "moves": 60}
    ends, acceptance = local_chains(two_wells, (m, s, 1.0), jax.random.key(0), start, **told)
    assert 0.3 < acceptance < 1
    assert np.all(ends[..., 0] < 0)  # though the other mode has e times the weight
    # Times the reference N(0, I), the mode is N(-m v / s^2, v I) with 1/v = 1/s^2 + 1.
    v = 1 / (1 / s**2 + 1)
    error = np.sqrt(v / (8 * 500))
    assert np.all(np.abs(ends.mean(axis=(0, 1)) + m * v / s**2) < 5 * error)
    assert np.allclose(ends.var(axis=(0, 1)), v, rtol=5 * np.sqrt(2 / 4000))


def test_new_arguments_ladders_and_numbers_of_moves_compile_nothing():
    size = {"groups": 8, "particles": 100}
    run(linear_plus_quadratic, (np.ones(2), 1.0), 2, moves=4, **size)
    events = []
    listen = lambda name, *_, **__: events.append(name) if name.endswith("backend_compile_duration") else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    run(linear_plus_quadratic, (3 * np.ones(2), 5.0), 2, key=5, sd=2.0, moves=9, **size)
    assert not events


def test_groups_are_the_same_whatever_runs_beside_them():
    """Row counts change how many groups run at one time, not what they do."""
    args = (np.ones(2), 1.0)
    size = {"groups": 8, "particles": 200, "moves": 3}
    one, two = (run(linear_plus_quadratic, args, 2, rows=rows, **size)[1] for rows in (1, 10**6))
    np.testing.assert_allclose(one.log_z, two.log_z, rtol=1e-9)


def test_bad_input():
    with pytest.raises(InputError, match="ess=1"):
        adapt_ladder(two_wells, (np.ones(2), 1.0, 0.0), jax.random.key(0), dim=2, reference_sd=1.0, ess=1.0)
    with pytest.raises(InputError, match="reference_sd=0"):
        adapt_ladder(two_wells, (np.ones(2), 1.0, 0.0), jax.random.key(0), dim=2, reference_sd=0.0)
