"""Shuffled epochs: the cavity closure against runs, against gradient descent, and against what is wrong."""

import numpy as np
import pytest
import xarray as xr

from riron import forecast
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum


def table(n=120, p=10, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * np.linspace(1, 0.2, p)
    Y = X @ rng.standard_normal((p, 1)) + 0.7 * rng.standard_normal((n, 1))
    Xt = rng.standard_normal((40, p)) * np.linspace(1, 0.2, p)
    return X, Y, Xt, rng.standard_normal((40, 1))


def shuffled_runs(X, Y, Xt, Yt, *, batch, step_size, record, runs, seed=1):
    """(runs, records, 2) train and held-out loss of runs that each shuffle anew every epoch."""
    rng = np.random.default_rng(seed)
    n, p = X.shape
    theta, seen, per_epoch = np.zeros((runs, p)), [], n // batch
    order = np.empty((runs, n), int)
    for step in range(record[-1] + 1):
        if step in record:
            seen.append(np.stack([np.mean((theta @ A.T - B[:, 0]) ** 2, 1) / 2 for A, B in ((X, Y), (Xt, Yt))], 1))
        if step % per_epoch == 0:
            order = np.argsort(rng.random((runs, n)), axis=1)
        rows = order[:, step % per_epoch * batch : (step % per_epoch + 1) * batch]
        x = X[rows]
        residual = np.einsum("sbp,sp->sb", x, theta) - Y[rows][..., 0]
        theta = theta - step_size / batch * np.einsum("sb,sbp->sp", residual, x)
    return np.stack(seen, 1)


def scores(line, runs, tolerance=True):
    """(records, 2) gap beyond the stated tolerance, in standard errors."""
    out = []
    for column, variable in enumerate(("train_loss", "test_loss")):
        dots = runs[:, :, column]
        stated = line[f"{variable}_tolerance"].values * line[variable].values if tolerance else 0
        gap = np.maximum(np.abs(dots.mean(0) - line[variable].values) - stated, 0)
        out.append(gap / np.hypot(dots.std(0) / np.sqrt(len(dots)), line[f"{variable}_stderr"].values))
    return np.stack(out, 1)


@pytest.mark.parametrize(("batch", "step_size"), [(1, 0.02), (7, 0.15)])
def test_runs_follow_the_closure_and_not_sampling_with_replacement(batch, step_size):
    data = table()
    per_epoch = 120 // batch
    record = np.unique(np.round(np.array([0.2, 0.5, 0.9, 1, 1.4, 2, 3]) * per_epoch).astype(int))
    runs = shuffled_runs(*data, batch=batch, step_size=step_size, record=record, runs=3000)
    axis = xr.DataArray(record, {"step": record}, "step")
    spectrum = Spectrum.of(*data)
    line = least_squares_sgd(spectrum, batch=batch, step_size=step_size, record=axis)
    assert line.train_loss_tolerance.max() < 0.02  # light rows, small steps: the closure knows that it is good
    assert scores(line, runs).max() < 4.5
    # Mutations: the wrong sampling, a wrong step size and a wrong batch size are each seen.
    other = least_squares_sgd(spectrum, batch=batch, step_size=step_size, record=axis, sampling="with-replacement")
    assert scores(other, runs, tolerance=False).max() > 10
    for change in ({"step_size": 0.95 * step_size}, {"batch": 2 * batch}):
        setting = {"batch": batch, "step_size": step_size, "record": axis} | change
        assert scores(least_squares_sgd(spectrum, **setting), runs).max() > 6, change


def test_all_rows_in_one_batch_is_gradient_descent():
    X, Y, Xt, Yt = table()
    line = forecast.sgd(X, Y, X_test=Xt, y_test=Yt, batch=120, step_size=0.3, steps=40, record=[1, 5, 40])
    theta, losses = np.zeros((10, 1)), {}
    for step in range(1, 41):
        theta = theta - 0.3 * X.T @ (X @ theta - Y) / 120
        losses[step] = np.mean((X @ theta - Y) ** 2) / 2
    np.testing.assert_allclose(line.train_loss, [losses[s] for s in (1, 5, 40)], rtol=2e-6)
    assert np.all(line.train_loss_sd < 1e-3 * line.train_loss)


def test_one_epoch_on_the_smallest_tables_by_all_permutations():
    """Four rows, all 24 orders: after one epoch the closure is within its stated tolerance of the exact mean."""
    from itertools import permutations

    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((4, 2)) * 0.5, rng.standard_normal((4, 1))
    losses = []
    for order in permutations(range(4)):
        theta = np.zeros((2, 1))
        for i in order:
            theta = theta - 0.2 * X[i][:, None] * (X[i] @ theta - Y[i])
        losses.append(np.mean((X @ theta - Y) ** 2) / 2)
    line = forecast.sgd(X, Y, batch=1, step_size=0.2, steps=4, record=[4])
    other = forecast.sgd(X, Y, batch=1, step_size=0.2, steps=4, record=[4], shuffle="with-replacement")
    exact = np.mean(losses)
    assert abs(line.train_loss.item() / exact - 1) < 0.01
    assert abs(other.train_loss.item() / exact - 1) > 3 * abs(line.train_loss.item() / exact - 1)


def test_sampled_rows_stand_for_all():
    X, Y, Xt, Yt = table(n=600)
    setting = {"X_test": Xt, "y_test": Yt, "batch": 4, "step_size": 0.1, "steps": 450, "record": [30, 150, 450]}
    full, sampled = forecast.sgd(X, Y, **setting), forecast.sgd(X, Y, **setting, rows=200)
    np.testing.assert_allclose(sampled.test_loss, full.test_loss, rtol=0.02)
