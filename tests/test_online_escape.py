"""One-pass SGD: when it leaves the plateau of its start, and the step sizes with the least loss at the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riron.problems import TeacherStudent
from riron.theory.online_escape import escape_time
from riron.theory.online_schedule import Knots, best_schedule
from riron.theory.online_sgd import one_pass_sgd

pytestmark = pytest.mark.usefixtures("quick_compilation")

CORRELATION = {"loss": lambda f, y: -f * y}  # learns by growing along the teacher, norm kept


def hermite_problem(k):
    """Teacher and student are the Hermite polynomial of degree k: information exponent k."""
    he = {1: lambda x: x, 2: lambda x: x**2 - 1, 3: lambda x: x**3 - 3 * x}[k]
    return TeacherStudent(40, link=lambda s: he(s[0]), activation=he, **CORRELATION)


def test_each_seed_escapes_when_its_own_start_says():
    """Information exponent 2, spherical SGD with small steps, so that the start is most of the chance.

    A step x enters by its parts along student and teacher and by its length: runs in law those in all d dimensions.
    """
    rng, d, eta, seeds = np.random.default_rng(0), 400, 0.005, 24
    overlap = rng.normal(size=seeds) / np.sqrt(d)
    q, escaped = overlap.copy(), np.full(seeds, np.inf)
    for step in range(round(1.6 * d / eta)):
        escaped[(np.abs(q) >= 0.5) & np.isinf(escaped)] = step * eta / d
        if step % 1000 == 0 and np.isfinite(escaped).all():
            break
        w, u = rng.normal(size=(2, seeds))
        s, length = q * w + np.sqrt(1 - q**2) * u, (w**2 + u**2 + rng.chisquare(d - 2, size=seeds)) / d
        gain = eta * (s**2 - 1) * 2 * w
        q = (q + gain * s / d) / np.sqrt(1 + (2 * gain * w + gain**2 * length) / d)
    options = {"horizon": 3.0, "spherical": True, "averages": "hermite"}
    line = escape_time(hermite_problem(2), sgd_temperature=eta, overlap=overlap, **options)
    assert line.escape_time.dims == ("seed",)
    ratio = escaped / line.escape_time.values
    assert abs(np.log(ratio).mean()) < 4.5 * np.log(ratio).std(ddof=1) / np.sqrt(seeds) + 0.01
    typical = escape_time(hermite_problem(2), sgd_temperature=eta, overlap=np.abs(overlap).mean(), **options)
    # Seeds that start with hardly any overlap live by the chance of their steps, the others by their start.
    missed = lambda times: np.median(np.abs(np.log(escaped / times)))
    assert missed(line.escape_time.values) < 0.08
    assert missed(line.escape_time.values) < 0.4 * missed(float(typical.escape_time))


def test_escape_times_grow_with_the_information_exponent():
    times = {
        k: escape_time(
            hermite_problem(k), sgd_temperature=0.0, horizon=1e4, overlap=np.array([1e-2, 1e-3, 1e-4]),
            spherical=True, averages="hermite",
        ).escape_time.values
        for k in (1, 2, 3)
    }  # fmt: skip
    np.testing.assert_allclose(times[1], np.arctanh(0.5), atol=0.02)
    np.testing.assert_allclose(np.diff(times[2]), np.log(10) / 4, rtol=1e-3)
    np.testing.assert_allclose(times[3][1:] / times[3][:-1], 10, rtol=0.1)


def test_a_start_beyond_the_level_and_one_that_never_gets_there():
    found = escape_time(hermite_problem(1), sgd_temperature=0.0, horizon=0.1, overlap=np.array([0.7, 0.01]))
    np.testing.assert_array_equal(found.escape_time, [0.0, np.inf])


def test_the_best_schedule_beats_every_constant_step():
    problem = TeacherStudent(40, link="erf", activation="erf", overlap=0.1, label_noise=0.2)
    best = best_schedule(problem, sgd_temperature=1.0, horizon=10.0, knots=4)
    assert best.test_loss < best.constant_test_loss
    assert best.step_factor[-1] < best.step_factor[0]  # noise is averaged away at the end
    with jax.enable_x64(True):
        knots = Knots(jnp.asarray(best.t.values), jnp.log(jnp.asarray(best.step_factor.values)))
        line = one_pass_sgd(problem, sgd_temperature=1.0, horizon=10.0, record=[10.0], step_schedule=knots)
    np.testing.assert_allclose(line.test_loss[-1], best.test_loss, rtol=1e-4)
    for factor in (0.3, 1.0, 3.0):
        constant = one_pass_sgd(
            problem, sgd_temperature=1.0, horizon=10.0, record=[10.0], step_schedule=lambda t, f=factor: f + 0 * t
        )
        assert constant.test_loss[-1] >= best.constant_test_loss * (1 - 1e-5)
