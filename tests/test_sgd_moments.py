"""SGD on given rows, batches with replacement: the recursion over many steps against dense recursions and runs."""

import numpy as np
import pytest
import xarray as xr

from riron import forecast
from riron.errors import InputError
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum

STEPS = np.array([0, 1, 2, 5, 10, 30, 60, 120, 240])
RECORD = xr.DataArray(STEPS, {"step": STEPS}, "step")


def table(n=60, outputs=2, seed=0):
    """Correlated rows of which one is heavy, and held-out rows of another law."""
    rng = np.random.default_rng(seed)
    scale = np.array([1, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1])
    X = rng.standard_normal((n, 8)) * scale
    X[0] *= 3
    Y = X @ rng.standard_normal((8, outputs)) + 0.5 * rng.standard_normal((n, outputs))
    return X, Y, rng.standard_normal((30, 8)), rng.standard_normal((30, outputs))


def dense_recursion(X, Y, Xt, Yt, *, batch, step_size, ridge=0.0, noise=1.0):
    """Mean and covariance step by step in the original basis; step_size a table of 240 numbers."""
    n, p = X.shape
    H, c = X.T @ X / n, X.T @ Y / n
    mu, V, seen = np.zeros_like(c), np.zeros((p, p)), []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            losses = [
                (np.mean(np.sum((A @ mu - B) ** 2, 1)) + np.mean(np.einsum("np,pq,nq->n", A, V, A))) / 2
                for A, B in ((X, Y), (Xt, Yt))
            ]
            seen.append(losses)
        if step == STEPS[-1]:
            return np.array(seen)
        eta = step_size[step]
        f = np.sum((X @ mu - Y) ** 2, 1) + np.einsum("np,pq,nq->n", X, V, X)
        g = H @ mu - c
        decay = np.eye(p) * (1 - eta * ridge) - eta * H
        V = decay @ V @ decay.T + noise * eta**2 / batch * ((X.T * f) @ X / n - g @ g.T - H @ V @ H)
        mu = mu - eta * (g + ridge * mu)


@pytest.mark.parametrize(
    ("batch", "ridge", "schedule"),
    [(1, 0.0, "constant"), (3, 0.2, "constant"), (2, 0.0, "cosine"), (60, 0.0, "constant"), (2, 0.1, "warm-up")],
)
def test_many_steps_at_once_are_the_recursion_step_by_step(batch, ridge, schedule):
    X, Y, Xt, Yt = table()
    t = np.arange(240)
    cosine = (1 + np.cos(np.pi * t / 240)) / 2
    shape = {"constant": np.ones(240), "cosine": cosine, "warm-up": np.minimum(1, (t + 1) / 60)}
    step_size = 0.04 * shape[schedule]
    exact = dense_recursion(X, Y, Xt, Yt, batch=batch, step_size=step_size, ridge=ridge)
    given = 0.04 if schedule == "constant" else step_size
    setting = {"batch": batch, "step_size": given, "record": RECORD, "sampling": "with-replacement", "ridge": ridge}
    line = least_squares_sgd(Spectrum.of(X, Y, Xt, Yt), **setting)
    for variable, column in (("train_loss", 0), ("test_loss", 1)):
        relative = np.abs(line[variable].values / exact[:, column] - 1)
        assert relative.max() < 2e-3, (variable, relative)
        # The stated numerical error is of the size of the real one, neither blind nor absurd.
        stated = (line[f"{variable}_stderr"] / line[variable]).values.max()
        assert relative.max() < 6 * stated + 1e-4
        assert stated < 2e-3
    if batch == 1:  # a mutation is seen
        wrong = least_squares_sgd(Spectrum.of(X, Y, Xt, Yt), **(setting | {"batch": 1.1}))
        assert np.abs(wrong.train_loss.values / exact[:, 0] - 1).max() > 5e-3


def test_a_fresh_batch_of_distinct_rows_has_less_noise_and_all_rows_none():
    X, Y, Xt, Yt = table()
    spectrum = Spectrum.of(X, Y, Xt, Yt)
    steps = np.full(240, 0.05)
    line = least_squares_sgd(spectrum, batch=20, step_size=0.05, record=RECORD, sampling="without-replacement")
    exact = dense_recursion(X, Y, Xt, Yt, batch=20, step_size=steps, noise=40 / 59)
    np.testing.assert_allclose(line.train_loss, exact[:, 0], rtol=2e-3)
    everything = least_squares_sgd(spectrum, batch=60, step_size=0.05, record=RECORD, sampling="without-replacement")
    descent = dense_recursion(X, Y, Xt, Yt, batch=1, step_size=steps, noise=0.0)
    np.testing.assert_allclose(everything.train_loss, descent[:, 0], rtol=1e-9)
    assert everything.train_loss_sd.max() < 1e-9


def test_runs_scatter_as_the_band_says_and_err_as_forecast():
    """4 000 runs by hand: mean within 5 standard errors, spread within 12 % (the band is Gaussian, runs are not)."""
    X, Y, Xt, _ = table(outputs=3)
    classes = np.random.default_rng(5).integers(3, size=30)
    Yt = np.eye(3)[classes]
    rng = np.random.default_rng(1)
    runs, eta, batch = 4000, 0.04, 3
    theta = np.zeros((runs, 8, 3))
    for _ in range(240):
        rows = rng.integers(60, size=(runs, batch))
        x = X[rows]
        residual = np.einsum("sbp,spk->sbk", x, theta) - Y[rows]
        theta -= eta / batch * np.einsum("sbp,sbk->spk", x, residual)
    train = np.sum((np.einsum("np,spk->snk", X, theta) - Y) ** 2, -1).mean(1) / 2
    outputs = np.einsum("np,spk->snk", Xt, theta)
    test = np.sum((outputs - Yt) ** 2, -1).mean(1) / 2
    error = np.mean(outputs.argmax(-1) != classes)
    line = forecast.sgd(
        X, Y, X_test=Xt, y_test=Yt, batch=batch, step_size=eta, steps=240, shuffle="with-replacement", record=[240]
    )
    for variable, values in (("train_loss", train), ("test_loss", test)):
        gap = values.mean() - line[variable].item()
        assert abs(gap) < 5 * values.std() / np.sqrt(runs) + line[f"{variable}_stderr"].item()
        assert line[f"{variable}_sd"].item() == pytest.approx(values.std(), rel=0.12)
    assert line.test_error.item() == pytest.approx(error, abs=0.01)


def test_more_features_than_rows_and_a_diagonal_or_sampled_closure():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((40, 90)) / 9
    Y, Xt, Yt = rng.standard_normal((40, 1)), rng.standard_normal((20, 90)) / 9, rng.standard_normal((20, 1))
    setting = {"X_test": Xt, "y_test": Yt, "batch": 2, "step_size": 0.3, "steps": 240, "record": STEPS}
    setting |= {"shuffle": "with-replacement"}
    full = forecast.sgd(X, Y, **setting)
    exact = dense_recursion(X, Y, Xt, Yt, batch=2, step_size=np.full(240, 0.3))
    np.testing.assert_allclose(full.test_loss, exact[:, 1], rtol=2e-3)
    diagonal = forecast.sgd(X, Y, **setting, covariance="diagonal")
    block = forecast.sgd(X, Y, **setting, covariance="block:20")
    errors = [np.abs(line.test_loss / full.test_loss - 1).max().item() for line in (diagonal, block)]
    assert errors[0] < 0.03
    assert errors[1] < 0.03
    sampled = forecast.sgd(X, Y, **setting, rows=30)
    np.testing.assert_allclose(sampled.train_loss, full.train_loss, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 0}, "batch=0 is outside"),
        ({"batch": 61}, "60 training rows"),
        ({"step_size": -0.1}, "step_size"),
        ({"step_size": np.ones(3)}, "3 values for 240 steps"),
        ({"ridge": -1}, "ridge"),
        ({"steps": 0}, "steps=0"),
        ({"record": [500]}, "outside"),
        ({"covariance": "band"}, "covariance"),
        ({"shuffle": "sometimes"}, "sampling"),
        ({"y_test": None}, "only one of"),
    ],
)
def test_bad_input_is_one_sentence(change, words):
    X, Y, Xt, Yt = table()
    setting = {"X_test": Xt, "y_test": Yt, "batch": 2, "step_size": 0.05, "steps": 240} | change
    with pytest.raises(InputError, match=words):
        forecast.sgd(X, Y, **setting)


def test_rows_that_are_not_finite_or_zero_are_named():
    X, Y, *_ = table()
    X[3, 0] = np.nan
    with pytest.raises(InputError, match="row 3, column 0"):
        forecast.sgd(X, Y, batch=1, step_size=0.1, steps=5)
    with pytest.raises(InputError, match="zero everywhere"):
        forecast.sgd(np.zeros((5, 2)), np.ones(5), batch=1, step_size=0.1, steps=5)
