"""Smooth convex losses by the Gaussian closure: against NumPy runs, against the exact recursion, against mutations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.theory import output_covariance as structure
from riron.theory.convex_forecast import best_constant_step, convex_sgd
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.output_moments import moments_of
from riron.theory.spectrum import Spectrum

STEPS = np.array([0, 5, 20, 60, 120, 200])
RECORD = xr.DataArray(STEPS, {"step": STEPS}, "step")
RUNS = 1500


def table(outputs=1, n=80, p=6, seed=0):
    """Correlated rows with noisy classes: -1 and 1 for one output, one-hot for more."""
    rng = np.random.default_rng(seed)
    scale = np.linspace(1, 0.3, p)
    X, Xt = (rng.standard_normal((m, p)) * scale for m in (n, 50))
    teacher = 1.5 * rng.standard_normal((p, max(outputs, 2)))
    label = [np.argmax(A @ teacher + rng.gumbel(size=(len(A), max(outputs, 2))), axis=1) for A in (X, Xt)]
    y, yt = (2.0 * c[:, None] - 1 if outputs == 1 else np.eye(outputs)[c] for c in label)
    return X, y, Xt, yt


def logistic(f, y):
    return np.logaddexp(0, -y * f)[..., 0], -y / (1 + np.exp(y * f))


def huber(f, y):
    gap = f - y
    return np.where(np.abs(gap) < 1, gap**2 / 2, np.abs(gap) - 0.5)[..., 0], np.clip(gap, -1, 1)


def softmax(f, y):
    top = f.max(-1, keepdims=True)
    total = np.exp(f - top).sum(-1, keepdims=True)
    return (np.log(total) + top)[..., 0] - (y * f).sum(-1), np.exp(f - top) / total - y


def runs(loss, X, y, Xt, yt, *, batch, step_size, shuffled, ridge=0.0, seed=1, count=RUNS):
    """(runs, records, 2) losses and (runs, records) share of held-out mistakes, by plain SGD in NumPy."""
    rng = np.random.default_rng(seed)
    n, p = X.shape
    theta = np.zeros((count, p, y.shape[1]))
    step_size = np.broadcast_to(step_size, STEPS[-1])
    seen, mistakes, order = [], [], np.empty((count, n), int)
    for t in range(STEPS[-1] + 1):
        if t in STEPS:
            outputs = [np.einsum("np,rpk->rnk", A, theta) for A in (X, Xt)]
            seen.append(np.stack([loss(f, b)[0].mean(1) for f, b in zip(outputs, (y, yt), strict=True)], 1))
            f = outputs[1]
            wrong = ~(f * yt > 0)[..., 0] if y.shape[1] == 1 else f.argmax(2) != yt.argmax(1)
            mistakes.append(wrong.mean(1))
        if t == STEPS[-1]:
            break
        place = t % (n // batch)
        if shuffled and place == 0:
            order = np.argsort(rng.random((count, n)), axis=1)
        rows = order[:, place * batch :][:, :batch] if shuffled else rng.integers(0, n, (count, batch))
        slope = loss(np.einsum("rbp,rpk->rbk", X[rows], theta), y[rows])[1]
        theta = theta - step_size[t] * (np.einsum("rbp,rbk->rpk", X[rows], slope) / batch + ridge * theta)
    return np.stack(seen, 1), np.stack(mistakes, 1)


def worst(line, dots, allowed=0.0):
    """Largest gap between line and dots beyond the relative `allowed` and the stated tolerance, in standard errors."""
    scores = []
    for column, name in enumerate(("train_loss", "test_loss")):
        values, runs = line[name].values[1:], dots[:, 1:, column]
        stated = line[f"{name}_tolerance"].values[1:] if f"{name}_tolerance" in line else 0
        gap = np.maximum(np.abs(runs.mean(0) - values) - (allowed + stated) * values, 0)
        scores.append(gap / np.hypot(runs.std(0) / np.sqrt(len(runs)), line[f"{name}_stderr"].values[1:]))
    return np.max(scores)


CASES = [
    ("logistic", logistic, 1, "with-replacement", {"batch": 1, "step_size": 0.25}),
    ("logistic", logistic, 1, "epochs", {"batch": 1, "step_size": 0.25}),
    ("huber", huber, 1, "with-replacement", {"batch": 2, "step_size": 0.15, "ridge": 0.1}),
    ("softmax", softmax, 3, "epochs", {"batch": 1, "step_size": 0.3}),
]


@pytest.mark.parametrize(("name", "loss", "outputs", "sampling", "setting"), CASES)
def test_runs_follow_the_closure_and_no_wrong_line(name, loss, outputs, sampling, setting):
    data = table(outputs)
    dots, mistakes = runs(loss, *data, **setting, shuffled=sampling == "epochs")
    spectrum = Spectrum.of(*data)
    line = convex_sgd(spectrum, loss=name, record=RECORD, sampling=sampling, **setting)
    assert worst(line, dots) < 4.5
    assert line.train_loss_stderr.max() < 2e-3
    assert line.train_loss_tolerance.max() < 0.05
    ratio = line.test_loss_sd.values[1:] / dots[:, 1:, 1].std(0)
    assert np.all((ratio > 0.7) & (ratio < 1.4)), ratio
    below = np.mean(dots[:, 1:, 0] < line.train_loss_quantile.values[1:, -1], axis=0)
    assert np.all((below > 0.87) & (below < 0.99)), below
    if name == "huber":
        assert "test_error" not in line
    else:
        assert np.abs(line.test_error.values[1:] - mistakes[:, 1:].mean(0)).max() < 0.03
    noisier = {"batch": 4 * setting["batch"]} if sampling == "with-replacement" else {"ridge": 0.1}
    for change in ({"step_size": 0.5 * setting["step_size"]}, noisier):
        wrong = convex_sgd(spectrum, loss=name, record=RECORD, sampling=sampling, errors=False, **(setting | change))
        assert worst(wrong.assign(stated_errors(line)), dots) > 6, change


def stated_errors(line):
    """Stated errors of a line, to judge a mutated one by."""
    return {name: line[name] for name in line if str(name).endswith(("_stderr", "_tolerance"))}


@pytest.mark.parametrize("sampling", ["with-replacement", "epochs"])
def test_the_squared_loss_is_the_recursion_of_least_squares(sampling):
    X, y, Xt, yt = table()
    spectrum = Spectrum.of(X, y, Xt, yt)
    record = xr.DataArray([1, 2, 3, 40, 100], {"step": [1, 2, 3, 40, 100]}, "step")
    setting = {"batch": 2, "step_size": 0.1, "record": record, "sampling": sampling, "ridge": 0.05}
    exact = least_squares_sgd(spectrum, rtol=1e-9, errors=False, **setting)
    line = convex_sgd(spectrum, loss="squared", rtol=1e-9, errors=False, **setting)
    # In epochs the row contributions of least squares are kept in float32.
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(line[name], exact[name], rtol=1e-10 if sampling == "with-replacement" else 1e-6)
    np.testing.assert_allclose(line.test_loss_sd, exact.test_loss_sd, rtol=0.15)  # drawn against closed form


def test_a_schedule_is_followed_step_by_step():
    X, y, Xt, yt = table()
    steps = 0.3 * np.minimum(1, (np.arange(200) + 1) / 40) * (1 + np.cos(np.pi * np.arange(200) / 200)) / 2
    setting = {"record": RECORD, "batch": 2, "sampling": "with-replacement", "step_size": steps, "errors": False}
    spectrum = Spectrum.of(X, y, Xt, yt)
    line, fine = (convex_sgd(spectrum, rtol=rtol, **setting) for rtol in (1e-3, 1e-7))
    np.testing.assert_allclose(line.train_loss, fine.train_loss, rtol=1e-3)
    dots, _ = runs(logistic, X, y, Xt, yt, batch=2, step_size=steps, shuffled=False)
    fine = fine.assign({f"{name}_stderr": 1e-3 * fine[name] for name in ("train_loss", "test_loss")})
    assert worst(fine, dots, allowed=0.002) < 4.5


def test_gauss_hermite_against_sums_over_many_draws():
    rng = np.random.default_rng(0)
    y, m, variance = np.array([[1.0], [-1.0]]), np.array([[0.3], [1.2]]), np.array([2.0, 0.0])
    with jax.enable_x64(True):
        seen = moments_of("logistic")(*map(jnp.asarray, (y, m, variance[:, None, None])))
    u = m + np.sqrt(variance)[:, None] * rng.standard_normal(400_000)
    s = 1 / (1 + np.exp(y * u))
    for found, drawn in zip(seen, (np.logaddexp(0, -y * u), -y * s, s * (1 - s), s**2), strict=True):
        error = drawn.std(1) / np.sqrt(u.shape[1])
        assert np.all(np.abs(np.asarray(found).ravel() - drawn.mean(1)) < 4.5 * error + 1e-6)


def test_blocks_are_the_matrix_with_far_covariances_left_out():
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((7, 5)), rng.standard_normal((7, 3, 3))
    weights = weights + weights.transpose(0, 2, 1)
    with jax.enable_x64(True):
        full, part = (structure.scatter(jnp.asarray(rows), jnp.asarray(weights), k) for k in (5, 2))
        dense = np.einsum("na,nb,nlm->albm", rows, rows, weights)
        np.testing.assert_allclose(full.full.reshape(5, 3, 5, 3), dense, atol=1e-12)
        np.testing.assert_allclose(part.full, full.full[:6, :6], atol=1e-12)
        np.testing.assert_allclose(part.tail, [dense[a, :, a, :] for a in (2, 3, 4)], atol=1e-12)
        np.testing.assert_allclose(
            structure.along(jnp.asarray(rows), full), np.einsum("na,albm,nb->nlm", rows, dense, rows), atol=1e-10
        )


def test_the_best_constant_step_has_the_least_loss():
    spectrum = Spectrum.of(*table())
    setting = {"batch": 1, "sampling": "with-replacement"}
    best = best_constant_step(spectrum, steps=200, **setting)
    last = RECORD[-1:]
    loss = lambda step: convex_sgd(spectrum, step_size=step, record=last, errors=False, **setting).test_loss.item()
    values = [loss(best * factor) for factor in (0.25, 0.5, 2, 4)]
    assert loss(best) < min(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "logistc"}, "did you mean 'logistic'"),
        ({"loss": "softmax"}, "one-hot"),
        ({"momentum": 0.9}, "momentum"),
        ({"sampling": "epoch"}, "sampling='epoch'"),
        ({"covariance": "half"}, "covariance='half'"),
        ({"batch": 81}, "batch=81"),
    ],
)
def test_bad_input_is_one_sentence(change, message):
    setting = {"batch": 1, "step_size": 0.1, "record": RECORD} | change
    with pytest.raises(InputError, match=message):
        convex_sgd(Spectrum.of(*table()), **setting)


def test_targets_that_are_no_labels():
    X, y, Xt, yt = table()
    with pytest.raises(InputError, match="-1 and 1"):
        convex_sgd(Spectrum.of(X, y + 1, Xt, yt), batch=1, step_size=0.1, record=RECORD)
