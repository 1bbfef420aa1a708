"""The advice: forecasts of the grid against a simulation, the rule of the noise, and what it refuses."""

import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.forecast.advice import CLOSURE, NOISE, advise, forecast_grid, steps_per_epoch, stopping_times
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

N, HELD_OUT, P = 60, 80, 6


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    X, X_test = (rng.standard_normal((rows, P)) * [2, 1.5, 1, 0.7, 0.5, 0.3] for rows in (N, HELD_OUT))
    X[0] *= 3  # one heavy row
    theta = rng.standard_normal(P)
    y, y_test = (A @ theta + 2 * rng.standard_normal(len(A)) for A in (X, X_test))
    spectrum = Spectrum.of(X, y, X_test, y_test)
    edges = {batch: stability_edge(spectrum, batch=batch).step_size for batch in (1, 8, 30)}
    return X, y, X_test, y_test, spectrum, edges


@pytest.fixture(scope="module")
def advice(problem):
    return advise(problem[4], budget_epochs=4, edges=problem[5], shuffle="with-replacement")


def simulate(problem, batch, step_size, stops, seeds=400):
    """Held-out loss of each row, (seeds, stops, rows), of plain SGD with replacement in NumPy."""
    X, y, X_test, y_test = problem[:4]
    rng = np.random.default_rng(1)
    theta = np.zeros((seeds, P))
    seen = []
    for step in range(stops[-1] + 1):
        if step in stops:
            seen.append((theta @ X_test.T - y_test) ** 2 / 2)
        rows = rng.integers(N, size=(seeds, batch))
        residual = np.einsum("sbp,sp->sb", X[rows], theta) - y[rows]
        theta = theta - step_size / batch * np.einsum("sb,sbp->sp", residual, X[rows])
    return np.stack(seen, axis=1)


@pytest.mark.parametrize(("batch", "fraction"), [(1, 0.2), (8, 0.35)])
def test_each_held_out_row_is_forecast_as_simulated(problem, batch, fraction):
    spectrum, edges = problem[4], problem[5]
    grid = forecast_grid(spectrum, 4.0, {batch: edges[batch]}, (fraction,), "with-replacement", 0.0)
    steps = np.unique(grid.steps[0])
    assert len(steps) == grid.steps.shape[1]
    runs = simulate(problem, batch, grid.step_sizes[0], list(steps))
    means = runs.mean(axis=2)  # over rows: (seeds, stops)
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    closure = 0.02 * means.mean(axis=0)  # what the diagonal covariance leaves out at these fractions of the edge
    gap = np.abs(grid.row_losses[0].mean(axis=1) - means.mean(axis=0))
    assert (gap < 4.5 * error + closure).all()
    wrong = forecast_grid(spectrum, 4.0, {batch: 1.5 * edges[batch]}, (fraction,), "with-replacement", 0.0)
    assert (np.abs(wrong.row_losses[0].mean(axis=1) - means.mean(axis=0)) > 4.5 * error + closure).any()
    by_row = runs.mean(axis=0)[-1]
    assert np.corrcoef(grid.row_losses[0, -1], by_row)[0, 1] > 0.999


def test_settings_are_within_the_noise_cheapest_first_and_the_best_is_among_them(advice):
    assert sum(setting["best"] for setting in advice.settings) == 1
    assert advice.best["behind_best"] == pytest.approx(0, abs=1e-12)
    for setting in advice.settings:
        allowed = NOISE * setting["behind_best_stderr"] + 2 * CLOSURE * advice.best["test_loss"]
        assert setting["behind_best"] <= allowed
        assert 0 < setting["fraction_of_edge"] < 1
        assert setting["epochs"] <= 4
        assert setting["test_loss_stderr"] > 0
    cost = [(setting["epochs"], setting["steps"]) for setting in advice.settings]
    assert cost == sorted(cost)
    pairs = [(setting["batch"], setting["step_size"]) for setting in advice.settings]
    assert len(set(pairs)) >= len(pairs) - 1  # of one pair only the cheapest time, and the best itself


def test_what_is_promised_is_stated_on_rows_that_did_not_choose(problem, advice):
    X, y, X_test, y_test = problem[:4]
    chosen = advice.best
    judges = np.array_split(np.random.default_rng(0).permutation(HELD_OUT), 2)[1]
    setting = {"batch": chosen["batch"], "step_size": chosen["step_size"], "sampling": "with-replacement"}
    record = xr.DataArray([chosen["steps"]], dims="step")
    on = lambda rows: least_squares_sgd(
        Spectrum.of(X, y, X_test[rows], y_test[rows]), record=record, errors=False, **setting
    )
    assert chosen["test_loss"] == pytest.approx(float(on(judges).test_loss[0]), rel=1e-3)
    others = np.setdiff1d(np.arange(HELD_OUT), judges)
    assert chosen["test_loss"] != pytest.approx(float(on(others).test_loss[0]), rel=1e-3)


def test_the_choice_is_nearly_the_best_of_the_settings_when_trained(problem, advice):
    chosen = advice.best
    promised = simulate(problem, chosen["batch"], chosen["step_size"], [chosen["steps"]]).mean()
    spectrum, edges = problem[4], problem[5]
    grid = forecast_grid(spectrum, 4.0, edges, (0.02, 0.1, 0.35, 0.7), "with-replacement", 0.0)
    best = np.nanmin(grid.row_losses.mean(axis=2))
    assert promised < 1.1 * best
    assert set(advice.best_step) == set(edges)
    assert all(0 < advice.best_step[batch] < edges[batch] for batch in edges)


def test_stopping_times_end_at_the_budget_and_shuffling_drops_left_over_rows():
    times = stopping_times(100, 8, 10, "epochs")
    assert times[-1] == 120  # 10 epochs of 12 steps
    assert (np.diff(times) >= 0).all()
    assert steps_per_epoch(100, 8, "with-replacement") == 12.5
    assert stopping_times(100, 8, 0.05, "epochs").tolist() == [1]
    assert stopping_times(100, 1, 0.3, "with-replacement")[-1] == 30


def test_refusals(problem):
    X, y, X_test, y_test, spectrum, edges = problem
    with pytest.raises(InputError, match="held-out"):
        advise(Spectrum.of(X, y), budget_epochs=1, edges=edges)
    with pytest.raises(InputError, match="held-out"):
        advise(Spectrum.of(X, y, X_test[:3], y_test[:3]), budget_epochs=1, edges=edges)
    with pytest.raises(InputError, match="edges"):
        advise(spectrum, budget_epochs=1, edges={})
    with pytest.raises(InputError, match="budget"):
        advise(spectrum, budget_epochs=0, edges=edges)
