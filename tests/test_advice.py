"""The advice: forecasts of the grid against simulation, the rule of the noise, other losses, momentum, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.forecast.advising.advice import advise
from riron.forecast.advising.choice import CLOSURE, NOISE
from riron.forecast.advising.grid import convex_grid, descend, square_grid, stopping_times
from riron.theory import convex_row_losses
from riron.theory.gaussian_closure import Rows
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

N, HELD_OUT, P = 60, 80, 6
MOMENTUM = 0.8


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
def momentum_edges(problem):
    return {batch: stability_edge(problem[4], batch=batch, momentum=MOMENTUM).step_size for batch in problem[5]}


@pytest.fixture(scope="module")
def advice(problem):
    return advise(problem[4], budget_epochs=4, edges=problem[5], shuffle="with-replacement")


def simulate(problem, batch, step_size, stops, seeds=400, momentum=0.0, loss="square"):
    """Held-out loss of each row, (seeds, stops, rows), of SGD with replacement in NumPy."""
    X, y, X_test, y_test = problem[:4]
    outputs = y.shape[1:]
    rng = np.random.default_rng(1)
    theta, velocity = np.zeros((2, seeds, P, *outputs))
    seen = []
    for step in range(stops[-1] + 1):
        if step in stops:
            seen.append(LOSSES[loss](np.einsum("np,sp...->sn...", X_test, theta), y_test)[0])
        rows = rng.integers(N, size=(seeds, batch))
        slope = LOSSES[loss](np.einsum("sbp,sp...->sb...", X[rows], theta), y[rows])[1]
        velocity = momentum * velocity + np.einsum("sb...,sbp->sp...", slope, X[rows]) / batch
        theta = theta - step_size * velocity
    return np.stack(seen, axis=1)


def softmax(f, y):
    logs = f - np.log(np.exp(f).sum(axis=-1, keepdims=True))
    return -(y * logs).sum(axis=-1), np.exp(logs) - y


LOSSES = {
    "square": lambda f, y: ((f - y) ** 2 / 2, f - y),
    "logistic": lambda f, y: (np.log1p(np.exp(-y * f)), -y / (1 + np.exp(y * f))),
    "softmax": softmax,
}


def settings_are_trained_as_promised(problem, grid, which, **how):
    """The mean held-out loss of each setting at each stop, against simulation."""
    for s in which:
        steps = list(np.unique(grid.steps[s]))
        means = simulate(problem, int(grid.batches[s]), grid.step_sizes[s], steps, **how).mean(axis=2)
        error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
        forecast = grid.row_losses[s].mean(axis=1)[np.unique(grid.steps[s], return_index=True)[1]]
        if not (np.abs(forecast - means.mean(axis=0)) < 4.5 * error + 0.02 * means.mean(axis=0)).all():
            return False  # 2 %: what the diagonal covariance leaves out
    return True


SHUFFLE = {"shuffle": "with-replacement"}
BUDGET = {"budget": 4.0, **SHUFFLE}  # one for all, so that compilations are shared


def at(grid, batch, fraction):
    return int(np.flatnonzero((grid.batches == batch) & (grid.fractions == fraction))[0])


def test_each_held_out_row_is_forecast_as_simulated(problem):
    spectrum, edges = problem[4], problem[5]
    grid = square_grid(spectrum, edges=edges, **BUDGET)
    which = [at(grid, 1, 0.2), at(grid, 8, 0.35)]
    assert settings_are_trained_as_promised(problem, grid, which)
    wrong = square_grid(spectrum, edges={batch: 1.5 * edge for batch, edge in edges.items()}, **BUDGET)
    for s in which:
        assert not settings_are_trained_as_promised(problem, wrong._replace(step_sizes=grid.step_sizes), [s])
    by_row = simulate(problem, 8, grid.step_sizes[which[1]], [grid.steps[which[1], -1]])[:, -1].mean(axis=0)
    assert np.corrcoef(grid.row_losses[which[1], -1], by_row)[0, 1] > 0.999


def test_with_momentum_settings_are_forecast_as_simulated(problem, momentum_edges):
    setting = {"edges": momentum_edges, **BUDGET}
    grid = square_grid(problem[4], momentum=MOMENTUM, **setting)
    which = [at(grid, 8, 0.1), at(grid, 8, 0.35)]
    assert settings_are_trained_as_promised(problem, grid, which, momentum=MOMENTUM)
    plain = square_grid(problem[4], **setting)
    assert not settings_are_trained_as_promised(problem, plain, which, momentum=MOMENTUM)


def classes(problem, outputs):
    """The problem with classes for targets: one column of -1 and 1, or one-hot."""
    X, y, X_test, y_test = problem[:4]
    if outputs == 1:
        Y, Y_test = np.where(y > 0, 1.0, -1.0), np.where(y_test > 0, 1.0, -1.0)
    else:
        Y, Y_test = (np.eye(outputs)[np.digitize(a, [-1.5, 1.5])] for a in (y, y_test))
    return X, Y, X_test, Y_test, Spectrum.of(X, Y, X_test, Y_test)


@pytest.mark.parametrize(("loss", "outputs"), [("logistic", 1), ("softmax", 3)])
def test_other_losses_walk_to_their_best_step_size_as_simulated(problem, loss, outputs):
    problem = classes(problem, outputs)
    chooses = np.arange(0, HELD_OUT, 2)
    grid = convex_grid(problem[4], loss=loss, batches=(4, 30), chooses=chooses, **BUDGET)
    for batch in (4, 30):
        own = np.flatnonzero(grid.batches == batch)
        least = grid.row_losses[own][:, :, chooses].mean(axis=2).min(axis=1)
        assert 0 < np.argmin(least) < len(own) - 1  # half and twice the best step were tried
    best = int(np.argmin(grid.row_losses[:, :, chooses].mean(axis=2).min(axis=1)))
    assert settings_are_trained_as_promised(problem, grid, [best], loss=loss)
    wrong = grid._replace(step_sizes=2 * grid.step_sizes)
    assert not settings_are_trained_as_promised(problem, wrong, [best], loss=loss)


def test_a_sample_of_rows_keeps_the_gradient_of_all(problem, monkeypatch):
    problem = classes(problem, 1)
    whole, (X, y, X_test, y_test) = problem[4], problem[:4]
    fourfold = Spectrum.of(np.tile(X, (4, 1)), np.tile(y, 4), X_test, y_test)  # the same losses, to be sampled
    setting = {"loss": "logistic", "batch": 8, "step_size": 0.05, "stops": stopping_times(N, 8, 40, "epochs")[-7:]}
    with jax.enable_x64(True):
        exact = convex_row_losses.row_losses(convex_row_losses.problem_of(whole), **setting)
        monkeypatch.setattr(convex_row_losses, "SAMPLED", {1: 120, 2: 120})
        sampled = convex_row_losses.problem_of(fourfold)
        few = convex_row_losses.row_losses(sampled, **setting)
        rows, targets, weights = (jnp.concatenate([part, part], axis=1) for part in sampled.table.train)
        uncorrected = sampled._replace(everyone=Rows(rows, targets, weights / 2))  # what the sample misses is then 0
        alone = convex_row_losses.row_losses(uncorrected, **setting)
    gaps = [np.abs(each.held_out.mean(axis=1)[-1] / exact.held_out.mean(axis=1)[-1] - 1) for each in (few, alone)]
    assert gaps[0] < 0.005 < gaps[1]
    assert few.train == pytest.approx(exact.train, rel=0.02)


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


def trained(problem, rows, batch, step_size, stops, **how):
    """Least held-out loss on some rows over the stops, when a setting is trained, and its standard error."""
    with np.errstate(all="ignore"):
        runs = simulate(problem, batch, step_size, list(stops), seeds=100, **how)[:, :, rows].mean(axis=2)
        means = np.nan_to_num(runs.mean(axis=0), nan=np.inf)
        return means.min(), runs[:, means.argmin()].std(ddof=1) / 10


def test_the_advised_setting_is_as_good_as_the_best_of_a_trained_grid(problem, advice):
    assert set(advice.best_step) == set(problem[5])
    the_best_of_the_trained_grid(problem, advice.best, problem[5])


def test_so_is_that_with_momentum(problem, momentum_edges):
    found = advise(problem[4], budget_epochs=4, edges=momentum_edges, momentum=MOMENTUM, shuffle="with-replacement")
    assert all(found.best_step[batch] < edge for batch, edge in momentum_edges.items())
    the_best_of_the_trained_grid(problem, found.best, momentum_edges, momentum=MOMENTUM)


def test_so_is_that_of_the_logistic_loss_which_has_no_edge(problem):
    problem = classes(problem, 1)
    found = advise(
        problem[4], budget_epochs=4, batches=(4, 30, 200), edges={}, loss="logistic", shuffle="with-replacement"
    )
    assert set(found.best_step) == {4, 30}  # 200 rows are more than there are
    for setting in found.settings:
        assert setting["fraction_of_edge"] is None
        assert 0 < setting["test_error"] < 0.5
    assert found.best["closure"] == "auto"
    the_best_of_the_trained_grid(problem, found.best, {4: 0.5, 30: 4.0}, loss="logistic")


def the_best_of_the_trained_grid(problem, own, scales, **how):
    """Trains a grid below some scale of each batch size: none is better than the advised setting, within the noise."""
    chooses = np.array_split(np.random.default_rng(0).permutation(HELD_OUT), 2)[0]
    grid = [
        trained(problem, chooses, batch, fraction * scale, np.unique(stopping_times(N, batch, 4, **SHUFFLE)), **how)
        for batch, scale in scales.items()
        for fraction in (0.05, 0.1, 0.2, 0.4, 0.8)
    ]
    least, error = min(grid)
    at_the_end = {"rows": chooses, "batch": own["batch"], "stops": [own["steps"]]}
    mean, own_error = trained(problem, step_size=own["step_size"], **at_the_end, **how)
    allowed = least * (1 + 2 * CLOSURE) + 4.5 * np.hypot(error, own_error)
    assert mean < allowed
    # A wrong choice is caught: a sixth of the step size, to the same end.
    assert trained(problem, step_size=own["step_size"] / 6, **at_the_end, **how)[0] > allowed


def test_the_walk_ends_where_both_neighbours_are_larger():
    assert descend(lambda x: (x - 4) ** 2, 0) == 4
    assert descend(lambda x: (x + 3) ** 2, 1) == -3
    assert descend(lambda x: -x, 0) == 12  # and not later


def test_stopping_times_end_at_the_budget_and_shuffling_drops_left_over_rows():
    times = stopping_times(100, 8, 10, "epochs")
    assert times[-1] == 120  # 10 epochs of 12 steps
    assert (np.diff(times) >= 0).all()
    assert stopping_times(100, 8, 10, "with-replacement")[-1] == 125
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
    with pytest.raises(InputError, match="square"):
        advise(spectrum, budget_epochs=1, edges=edges, loss="sqare")
    with pytest.raises(InputError, match="targets -1 and 1"):
        advise(spectrum, budget_epochs=1, edges={}, loss="logistic")
    signs = dataclasses.replace(spectrum, targets=np.sign(spectrum.targets), test_targets=np.sign(y_test)[:, None])
    with pytest.raises(InputError, match="momentum"):
        advise(signs, budget_epochs=1, edges={}, loss="logistic", momentum=0.9)
