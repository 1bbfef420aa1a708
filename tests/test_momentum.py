"""Momentum, Nesterov and averages of iterates on given rows: against dense recursions, and runs in NumPy.

Nearly all the time goes into compilation: so all tests have one table, one length and step sizes given as arrays, and
an average that begins after the end where none is wanted.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron import forecast
from riron.errors import InputError
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.linear_optimiser import advance, optimiser_of
from riron.theory.spectrum import Spectrum

STEPS = np.array([0, 1, 2, 5, 10, 30, 60, 120, 160])
RECORD = xr.DataArray(STEPS, {"step": STEPS}, "step")
NEVER = 10**9
T = np.arange(STEPS[-1])
COSINE = (1 + np.cos(np.pi * T / STEPS[-1])) / 2


@pytest.fixture(autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def table(heavy=3.0):
    """Correlated rows of which one is heavy, and held-out rows of another law."""
    n, p, outputs = 120, 8, 2
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) * np.linspace(1, 0.1, p)
    X[0] *= heavy
    Y = X @ rng.standard_normal((p, outputs)) + 0.5 * rng.standard_normal((n, outputs))
    return X, Y, rng.standard_normal((30, p)), rng.standard_normal((30, outputs))


def dense_recursion(X, Y, Xt, Yt, *, batch, step_size, momentum, nesterov, ridge=0.0, average_from=NEVER, **mutation):
    """Mean and covariance of (parameter, velocity, sum of iterates) step by step, in the original basis.

    mutation: `look_ahead` (the sign of Nesterov's term), `rank_one` (0 leaves out - H V H).
    """
    n, p = X.shape
    H, c, one = X.T @ X / n, X.T @ Y / n, np.eye(p)
    ahead = mutation.get("look_ahead", 1) * momentum * nesterov
    carried = step_size * momentum * (momentum if nesterov else 1)
    b = np.concatenate([-step_size * (1 + ahead) * one, one, 0 * one])
    mean, C, seen = np.zeros((3 * p, Y.shape[1])), np.zeros((3 * p, 3 * p)), []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            reported = np.concatenate([one, 0 * one, one], 1) / (max(step - average_from, 0) + 1)
            mu, V = reported @ mean, reported @ C @ reported.T
            seen.append(
                [(np.mean(np.sum((A @ mu - B) ** 2, 1)) + np.mean(np.einsum("np,pq,nq->n", A, V, A))) / 2
                 for A, B in ((X, Y), (Xt, Yt))]
            )  # fmt: skip
        mu, V = mean[:p], C[:p, :p]
        f = np.sum((X @ mu - Y) ** 2, 1) + np.einsum("np,pq,nq->n", X, V, X)
        g = H @ mu - c
        noise = ((X.T * f) @ X / n - g @ g.T - mutation.get("rank_one", 1) * H @ V @ H) / batch
        damped = H + ridge * one
        M = np.block(
            [[one - step_size * (1 + ahead) * damped, -carried * one, 0 * one],
             [damped, momentum * one, 0 * one],
             [float(step >= average_from) * one, 0 * one, one]]
        )  # fmt: skip
        mean, C = M @ mean - b @ c, M @ C @ M.T + b @ noise @ b.T
    return np.array(seen)


def columns(line):
    return np.stack([line.train_loss.values, line.test_loss.values], 1)


def line_of(data, *, step_size, average_from=NEVER, **setting):
    """The forecast, with the step size as an array."""
    setting = {"record": RECORD, "average_from": average_from} | setting
    return least_squares_sgd(Spectrum.of(*data), step_size=step_size * np.ones(len(T)), **setting)


@pytest.mark.parametrize(
    ("batch", "step_size", "momentum", "nesterov", "ridge", "average_from"),
    [
        (1, 0.012, 0.9, False, 0.0, NEVER),
        (1, 0.015, 0.9, True, 0.0, NEVER),
        (3, 0.02, 0.5, False, 0.2, NEVER),
        (8, 0.1, 0.9, True, 0.0, 30),
        (2, 0.04, 0.0, False, 0.1, 30),
        (2, 0.002, 0.99, False, 0.0, 0),
    ],
)
def test_many_steps_at_once_are_the_recursion_step_by_step(batch, step_size, momentum, nesterov, ridge, average_from):
    data = table()
    setting = {"batch": batch, "step_size": step_size, "momentum": momentum, "nesterov": nesterov, "ridge": ridge}
    setting["average_from"] = average_from
    exact = dense_recursion(*data, **setting)
    line = line_of(data, **setting, sampling="with-replacement")
    relative = np.abs(columns(line) / exact - 1)
    assert relative.max() < 2e-3
    assert relative[:3].max() < 1e-9  # one step at a time is exact
    if momentum == 0.9:  # mutations of the oracle are seen: the rank-one term; the sign and the presence of Nesterov's
        wrong = [{"rank_one": 0}] if batch == 1 else []
        wrong += [{"look_ahead": -1}, {"nesterov": False}] if nesterov else [{"momentum": 0.88}]
        for change in wrong:
            other = dense_recursion(*data, **(setting | change))
            assert np.abs(columns(line) / other - 1).max() > 6e-3, change


def test_plain_sgd_is_the_limit_of_no_momentum():
    setting = {"batch": 3, "step_size": 0.04, "rtol": 1e-4, "errors": False}
    plain = line_of(table(), **setting, average_from=None)
    limit = line_of(table(), **setting, momentum=1e-6)
    np.testing.assert_allclose(columns(limit), columns(plain), rtol=1e-4)
    np.testing.assert_allclose(limit.train_loss_sd, plain.train_loss_sd, rtol=5e-3, atol=1e-12)


def test_an_average_that_has_not_begun_is_the_iterate():
    setting = {"batch": 1, "momentum": 0.9, "sampling": "with-replacement", "errors": False}
    iterate = line_of(table(), **setting, step_size=0.012, average_from=None)
    np.testing.assert_allclose(columns(iterate), columns(line_of(table(), **setting, step_size=0.012)), rtol=1e-9)


@jax.jit
def advanced(optimiser, eta, h, steps):
    return advance(optimiser.modes(eta, h), steps)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.3, True), (0.999, False)])
@pytest.mark.parametrize("steps", [1, 2, 57, 1000])
def test_single_directions_move_as_step_by_step(momentum, nesterov, steps):
    """Curvatures from steep to flat, among them the one where both eigenvalues meet."""
    eta = 0.1
    meeting = (1 - np.sqrt(momentum)) ** 2 / eta
    h = np.array([1 / eta, meeting * (1 + 1e-9), meeting, 1e-3, 1e-9, 1e-14])
    with jax.enable_x64(True):
        by = advanced(optimiser_of(momentum, nesterov), jnp.asarray(eta), jnp.asarray(h), jnp.asarray(steps))
        by = jax.tree.map(np.asarray, by)
    for start, g, slope in (([0.7, -0.2], 0.0, 0.0), ([0.0, 0.0], 0.3, -0.001)):
        x = start = np.array(start) * np.ones((6, 1))
        total = np.zeros(6)
        for j in range(steps):
            total = total + x[:, 0]
            gradient = h * x[:, 0] + g + slope * j
            v = momentum * x[:, 1] + gradient
            x = np.stack([x[:, 0] - eta * (gradient + momentum * v if nesterov else v), v], 1)
        found = np.einsum("puv,pv->pu", by.power, start) + by.kicked * g + by.drifted * slope
        summed = np.einsum("pv,pv->p", by.total, start) + by.kicked_sum * g + by.drifted_sum * slope
        assert np.max(np.abs(found - x) / (1 + np.abs(x))) < 1e-7
        assert np.max(np.abs(summed - total) / (1 + np.abs(total))) < 1e-4


def runs(X, Y, Xt, Yt, *, batch, step_size, record, count, momentum=0.0, nesterov=False, average_from=NEVER, shuffle):
    """(records, 2, count) losses of runs that share nothing with the forecast; step_size a number or a table."""
    rng = np.random.default_rng(1)
    n, p = X.shape
    per_epoch, table_of = n // batch, np.broadcast_to(step_size, record[-1] + 1)
    theta = v = average = np.zeros((count, p, Y.shape[1]))
    seen = []
    order = np.empty((count, n), int)
    for step in range(record[-1] + 1):
        average = average + (theta - average) / (max(step - average_from, 0) + 1)
        if step in record:
            seen.append([np.sum((A @ average - B) ** 2, (1, 2)) / (2 * len(A)) for A, B in ((X, Y), (Xt, Yt))])
        if shuffle and step % per_epoch == 0:
            order = np.argsort(rng.random((count, n)), axis=1)
        place = step % per_epoch * batch
        rows = order[:, place : place + batch] if shuffle else rng.integers(n, size=(count, batch))
        x = X[rows]
        g = np.swapaxes(x, 1, 2) @ (x @ theta - Y[rows]) / batch
        v = momentum * v + g
        theta = theta - table_of[step] * (g + momentum * v if nesterov else v)
    return np.array(seen)


def scores(line, dots, tolerance=True):
    """(records, 2) gap beyond the stated tolerance, in standard errors."""
    out = []
    for column, variable in enumerate(("train_loss", "test_loss")):
        values = dots[:, column]
        stated = line[f"{variable}_tolerance"].values * line[variable].values if tolerance else 0
        gap = np.maximum(np.abs(values.mean(1) - line[variable].values) - stated, 0)
        out.append(gap / np.hypot(values.std(1) / np.sqrt(values.shape[1]), line[f"{variable}_stderr"].values))
    return np.stack(out, 1)


def test_runs_with_replacement_under_warm_up_and_cosine():
    data = table()
    schedule = 0.01 * np.minimum(1, (T + 1) / 40) * COSINE
    setting = {"batch": 2, "momentum": 0.9}
    dots = runs(*data, **setting, step_size=np.append(schedule, 0), record=STEPS[5:], count=2000, shuffle=False)
    setting |= {"X_test": data[2], "y_test": data[3], "steps": STEPS[-1], "record": STEPS}
    seen = lambda factor: forecast.sgd(
        *data[:2], **setting, step_size=factor * schedule, shuffle="with-replacement"
    ).isel(step=slice(5, None))
    line = seen(1.0)
    assert scores(line, dots, tolerance=False).max() < 4.5
    for column, variable in enumerate(("train_loss", "test_loss")):
        np.testing.assert_allclose(line[f"{variable}_sd"], dots[:, column].std(1), rtol=0.15)
    assert scores(seen(1.05), dots, tolerance=False).max() > 6


@pytest.mark.parametrize(
    ("batch", "step_size", "momentum", "nesterov", "average_from"),
    [
        (6, 0.015, 0.9, False, NEVER),
        (6, 0.015, 0.9, True, 25),
        (3, 0.04, 1e-6, False, 30),
        (6, "cosine", 0.5, False, NEVER),
    ],
)
def test_shuffled_runs_follow_the_closure(batch, step_size, momentum, nesterov, average_from):
    data = table(heavy=1.0)
    per_epoch = 120 // batch
    record = np.unique(np.round(np.array([0.3, 0.8, 1, 1.2, 2, 3, 4]) * per_epoch).astype(int))
    record[-1] = STEPS[-1]
    step_size = (0.08 * COSINE) if step_size == "cosine" else step_size * np.ones(len(T))
    setting = {"batch": batch, "momentum": momentum, "nesterov": nesterov, "average_from": average_from}
    dots = runs(*data, **setting, step_size=np.append(step_size, 0), record=record, count=1000, shuffle=True)
    setting["record"] = xr.DataArray(record, {"step": record}, "step")
    line = line_of(data, **setting, step_size=step_size)
    assert line.train_loss_tolerance.max() < 0.03
    assert scores(line, dots).max() < 4.5
    # Mutations: the wrong sampling and a wrong step size are each seen.
    other = line_of(data, **setting, step_size=step_size, sampling="with-replacement")
    assert scores(other, dots, tolerance=False).max() > 10
    assert scores(line_of(data, **setting, step_size=0.9 * step_size), dots).max() > 6


def test_a_block_closure_takes_momentum_and_averages_too():
    data = table(heavy=1.0)
    setting = {"batch": 6, "step_size": 0.015, "momentum": 0.9, "average_from": 25, "sampling": "with-replacement"}
    full = line_of(data, **setting, errors=False)
    block = line_of(data, **setting, covariance="block:4", errors=False)
    np.testing.assert_allclose(columns(block), columns(full), rtol=0.03)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"momentum": 1.0}, "momentum=1.0 is outside"),
        ({"momentum": -0.1}, "momentum"),
        ({"nesterov": True}, "nesterov is asked for"),
        ({"average_from": -1}, "average_from=-1"),
        ({"average_from": 20}, "average_from=20 is not a step of the run, which ends at 20"),
    ],
)
def test_bad_input_is_one_sentence(change, words):
    X, Y, *_ = table()
    with pytest.raises(InputError, match=words):
        forecast.sgd(X, Y, batch=2, step_size=0.05, steps=20, **change)
