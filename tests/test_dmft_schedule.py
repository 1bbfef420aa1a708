"""The best schedule of step sizes: its derivatives, and that SGD itself does better with it."""

import jax
import numpy as np
import pytest

from riron.errors import InputError
from riron.problems import TeacherStudent
from riron.theory.dmft import best_schedule, drawing, schedule, solve
from riron.theory.dmft.past import plan
from riron.theory.dmft.reduced import reduced
from riron.theory.dmft.setting import settle
from riron.theory.dmft.solving import inputs_of_sweep

pytestmark = pytest.mark.usefixtures("quick_compilation")


def predicted(problem, *, second_knots=3, fraction=0.2):
    """The predicted test loss as a function of logarithms of factors."""
    setting, _, _ = settle(
        delta=2.0, horizon=2.0, dt=0.2, clock="bernoulli", temperature=0.0, fraction=fraction, ridge=0.1, momentum=0.0,
        schedule=None, record=[2.0], asked=(),
    )  # fmt: skip
    small = reduced(problem)
    m, K = small.start_overlap.shape
    chances = drawing.draws(jax.random.key(0), 2, 512, m, m + K)
    planned = plan(setting.steps + 1, (16, 4))
    law, group, rows = inputs_of_sweep(small, setting, chances, planned)
    knots = np.linspace(0, 2, second_knots)
    return schedule.TestLoss(small, law, group, rows, knots, law.rate.dt, "bernoulli", (planned.capacity, 0))


@pytest.mark.parametrize("m", [1, 2])
def test_derivatives_run_through_the_sweep(m):
    """Against differences; two equal units at the start, whose covariances have equal eigenvalues."""
    problem = TeacherStudent(50, activation="tanh", link="tanh", second=np.full(m, 0.7), label_noise=0.2)
    with jax.enable_x64(True):
        loss, logs = predicted(problem), np.log([1.0, 0.7, 0.4])
        value, slope = loss.objective(logs)
        np.testing.assert_allclose(value, np.log(loss.values(logs).mean()))
        step = 1e-4
        for k, row in enumerate(step * np.eye(3)):
            difference = (loss.objective(logs + row)[0] - loss.objective(logs - row)[0]) / (2 * step)
            np.testing.assert_allclose(slope[k], difference, rtol=1e-3, atol=1e-4)


def test_sgd_itself_does_better_with_the_schedule():
    """Noisy least squares: the step falls, so that the noise is averaged away; SGD written out, paired by seed."""
    d, n, batch, steps, dt = 150, 300, 15, 30, 0.2
    told = {"delta": 2.0, "horizon": steps * dt, "dt": dt, "batch_fraction": batch / n, "clock": "bernoulli"}
    problem = TeacherStudent(50, label_noise=1.0, ridge=1.0 / 50, start_gram=9.0)
    best = best_schedule(problem, knots=4, paths=2048, groups=4, **told)
    assert best.test_loss < best.constant_test_loss - 3 * best.gain_stderr
    assert best.step_factor[-1] < best.step_factor[1]
    times = dt * np.arange(steps)
    factors = np.exp(np.interp(times, best.t.values, np.log(best.step_factor.values)))
    rng, gain = np.random.default_rng(0), []
    for _ in range(40):
        X, star, start = rng.normal(size=(n, d)) / np.sqrt(d), rng.normal(size=d), 3 * rng.normal(size=d)
        y = X @ star + rng.normal(size=n)
        batches = [rng.permutation(n)[:batch] for _ in range(steps)]
        losses = []
        for factor in (np.full(steps, float(best.constant_factor)), factors):
            theta = start.copy()
            for k, rows in enumerate(batches):
                step = dt * d * factor[k]
                theta = theta - step * (X[rows].T @ (X[rows] @ theta - y[rows]) / batch + theta / d)
            losses.append(((theta - star) ** 2).mean() / 2 + 0.5)
        gain.append(losses[0] - losses[1])
    gain = np.array(gain)
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    assert gain.mean() > 4.5 * error
    predicted_gain = float(best.constant_test_loss - best.test_loss)
    assert abs(gain.mean() - predicted_gain) < 4.5 * np.hypot(error, float(best.gain_stderr)) + 0.02
    line = solve(problem, record=[steps * dt], step_schedule=lambda t: np.exp(
        np.interp(t, best.t.values, np.log(best.step_factor.values))), **told)  # fmt: skip
    assert abs(float(line.test_loss[0] - best.test_loss)) < 6 * float(
        np.hypot(line.test_loss_stderr[0], best.test_loss_stderr)
    )


def test_batches_that_grow_make_better_use_of_as_many_gradients():
    told = {"delta": 2.0, "horizon": 6.0, "dt": 0.2, "clock": "bernoulli"}
    problem = TeacherStudent(50, label_noise=1.0, ridge=1.0 / 50, start_gram=9.0)
    best = best_schedule(
        problem, over=("step_size", "batch"), gradients=1.5, batch_fraction=0.01, knots=3, paths=2048, groups=4, **told
    )
    assert best.test_loss < best.constant_test_loss - 3 * best.gain_stderr
    assert best.batch_factor[-1] > best.batch_factor[0]
    along = lambda name: lambda t: np.exp(np.interp(t, best.t.values, np.log(best[name].values)))
    steps = 0.2 * np.arange(30)
    np.testing.assert_allclose(0.05 * along("batch_factor")(steps).sum(), 1.5, rtol=0.02)
    line = solve(
        problem, record=[6.0], step_schedule=along("step_factor"), batch_schedule=along("batch_factor"),
        batch_fraction=0.05, **told,
    )  # fmt: skip
    error = np.hypot(float(line.test_loss_stderr[0]), float(best.test_loss_stderr))
    assert abs(float(line.test_loss[0] - best.test_loss)) < 6 * error + 0.01


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"knots": 1}, "knots=1"),
        ({"clock": "flow"}, "limit of small steps"),
        ({"over": ("batch",)}, "is not known"),
        ({"over": ("step_size", "batch")}, "batches cannot change with clock='none'"),
        ({"dt": 1000.0, "horizon": 1e5}, "diverges with every factor"),
    ],
)
def test_bad_input_is_said_in_one_sentence(change, says):
    problem = TeacherStudent(50, label_noise=2.0)
    with pytest.raises(InputError, match=says):
        best_schedule(problem, **({"delta": 2.0, "horizon": 1.0, "dt": 0.1, "paths": 512, "groups": 2} | change))
