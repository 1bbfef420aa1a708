"""Clipped gradients against a loop written by hand, and against the Huber loss that they amount to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riron.dynamics import Assembly, Epochs, Full, Minibatch, Momentum, sgd
from riron.dynamics.clipping import Clipped
from riron.errors import InputError
from riron.lab.running import simulate
from riron.models.two_layer import TwoLayer
from riron.problems import LeastSquares, OnePass, from_arrays

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)) * np.array([1, 3, 0.3]), RNG.normal(size=12)
RIDGE, STEP, THRESHOLD = 0.1, 0.05, 0.7


pytestmark = pytest.mark.usefixtures("float64")


def clipped_descent(steps, threshold=THRESHOLD):
    """Full-batch descent with clipped rows, in NumPy."""
    w = np.zeros(3)
    for _ in range(steps):
        g = (X @ w - Y)[:, None] * X
        g *= np.minimum(1, threshold / np.linalg.norm(g, axis=1))[:, None]
        w = w - STEP * (g.mean(axis=0) + RIDGE * w)
    return np.mean((X @ w - Y) ** 2) / 2


@pytest.mark.parametrize("estimator", [Full(), Epochs(12)])
def test_a_clipped_descent_is_that_of_the_loop(estimator):
    problem = from_arrays(X, Y, ridge=RIDGE)
    run = simulate(problem, Assembly(STEP, Clipped(estimator, THRESHOLD)), record=[7, 40], seeds=1)
    np.testing.assert_allclose(run.train_loss.values[0], [clipped_descent(7), clipped_descent(40)], rtol=1e-12)
    assert (
        abs(clipped_descent(40, threshold=1.05 * THRESHOLD) / clipped_descent(40) - 1) > 1e-4
    )  # the test would see it


def test_a_row_that_repeats_is_clipped_each_time():
    problem = from_arrays(X[:1], Y[:1])
    g = -Y[0] * X[0]
    small = 0.1 * np.linalg.norm(g)
    run = simulate(problem, Assembly(STEP, Clipped(Minibatch(1), small)), record=[1], seeds=2)
    w = -STEP * 0.1 * g
    np.testing.assert_allclose(run.train_loss.values, (X[0] @ w - Y[0]) ** 2 / 2, rtol=1e-12)


def test_a_large_threshold_changes_nothing():
    for problem in (from_arrays(X, Y, ridge=RIDGE), OnePass(LeastSquares(np.array([1.0, 2.0]), np.ones(2), 0.1))):
        plain = simulate(problem, sgd(step_size=STEP, batch=4, momentum=0.5), record=[20], seeds=3)
        clipped = Assembly(STEP, Momentum(Clipped(Minibatch(4), 1e6), 0.5, False))
        same = simulate(problem, clipped, record=[20], seeds=3)
        name = next(iter(plain.data_vars))
        np.testing.assert_allclose(same[name].values, plain[name].values, rtol=1e-12)


def test_the_norm_is_over_all_layers_and_a_zero_gradient_is_no_trouble():
    problem = from_arrays(X, np.zeros(12), model=TwoLayer(3, 8, "mean-field", second=np.zeros(8)))
    run = simulate(problem, Assembly(STEP, Clipped(Minibatch(2), 0.1)), record=[3], seeds=1)
    assert np.isfinite(run.train_loss.values).all()
    problem = from_arrays(X, Y, model=TwoLayer(3, 8))
    objective = problem.objective(problem.data)
    params = problem.initial(jax.random.key(0))
    threshold = 1e-3
    g, _, spent = Clipped(Minibatch(1), threshold)(objective, params, (), jnp.array([4]), jnp.array(0))
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(g)))
    assert norm == pytest.approx(threshold, rel=1e-12)
    assert int(spent) == 1


def test_bad_thresholds_are_refused():
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="threshold"):
            Clipped(Minibatch(1), bad)
    with pytest.raises(InputError, match="stream"):
        simulate(
            OnePass(LeastSquares(np.ones(1), np.ones(1))), Assembly(STEP, Clipped(Epochs(1), 1.0)), record=[1], seeds=1
        )
