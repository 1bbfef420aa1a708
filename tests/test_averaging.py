"""The average of iterates as a dynamics: the running mean by hand, and the iterate before it begins."""

import numpy as np
import pytest

from riron.dynamics import average, sgd
from riron.errors import InputError
from riron.lab.running import simulate
from riron.problems import from_arrays

RECORD = [0, 1, 5, 6, 7, 30]


def problem():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 3))
    return X, rng.standard_normal((20, 1))


def by_hand(X, Y, start, step_size, steps):
    theta = np.zeros((3, 1))
    path = [theta]
    for _ in range(steps):
        theta = theta - step_size * X.T @ (X @ theta - Y) / len(X)
        path.append(theta)
    averages = [np.mean(path[start : t + 1], 0) if t >= start else path[t] for t in RECORD]
    return np.array([np.mean((X @ a - Y) ** 2) / 2 for a in averages])


@pytest.mark.parametrize("start", [0, 5, 100])
def test_the_average_is_that_of_the_iterates(start):
    X, Y = problem()
    dynamics = average(sgd(step_size=0.3, batch=20, sampling="epochs"), start)
    dots = simulate(from_arrays(X, Y), dynamics, record=RECORD, seeds=2, seed=0)
    exact = by_hand(X, Y, start, 0.3, 30)
    np.testing.assert_allclose(dots.train_loss[0], exact, rtol=2e-5)
    if start == 5:  # one iterate more or less is seen
        for wrong in (4, 6):
            assert np.max(np.abs(dots.train_loss[0].values / by_hand(X, Y, wrong, 0.3, 30) - 1)) > 1e-3


def test_learning_does_not_see_the_averaging_and_starts_can_be_swept():
    X, Y = problem()
    plain = sgd(step_size=0.1, batch=2, momentum=0.5)
    runs = simulate(from_arrays(X, Y), plain, record=RECORD, seeds=3, seed=4)
    swept = simulate(
        from_arrays(X, Y), average(plain, 0), record=RECORD, seeds=3, seed=4, sweep={"dynamics.start": [100, 3]}
    )
    np.testing.assert_allclose(swept.train_loss.isel(point=0), runs.train_loss, rtol=1e-6)
    assert np.abs(swept.train_loss.isel(point=1, step=-1) / runs.train_loss.isel(step=-1) - 1).max() > 1e-3
    assert swept.gradient_evaluations.max() == 60


def test_a_negative_start_is_refused():
    with pytest.raises(InputError, match="start=-1"):
        average(sgd(step_size=0.1), -1)
