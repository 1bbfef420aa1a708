"""Homogenised SGD: its recursion, edge and convergence rates against dense operators, closed forms and a simulation."""

import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.theory.homogenized_sgd import (
    convergence_rate,
    critical_step_size,
    homogenized_edge,
    homogenized_sgd,
    limiting_rate,
)


def table(n=60, d=30, decay=0.5, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, d + 1.0) ** -decay
    signal = rng.standard_normal(d) / np.sqrt(d)
    X = rng.standard_normal((n, d)) * np.sqrt(spectrum)
    return X, X @ signal + np.sqrt(noise) * rng.standard_normal(n), spectrum, signal


def moment_operator(h, step_size, batch):
    """The dense linear map of one step on the variances along the eigenvectors."""
    return np.diag((1 - step_size * h) ** 2) + step_size**2 / batch * np.outer(h, h)


@pytest.mark.parametrize("batch", [1, 3.5, 20])
@pytest.mark.parametrize("shape", [(80, 20), (30, 60)])
def test_edge_is_where_the_moment_operator_stops_contracting(batch, shape):
    X = table(*shape)[0]
    h = np.linalg.eigvalsh(X.T @ X / len(X))
    edge = homogenized_edge(X, batch=batch)
    radius = lambda eta: np.linalg.eigvalsh(moment_operator(h[h > 1e-12], eta, batch)).max()
    assert radius(edge) == pytest.approx(1, abs=1e-9)
    assert radius(0.97 * edge) < 1 < radius(1.03 * edge)
    assert homogenized_edge(np.maximum(h, 0), batch=batch) == pytest.approx(edge)


@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.95, 1.2])
@pytest.mark.parametrize("batch", [1, 16])
def test_rate_is_the_eigenvalue_of_the_moment_operator(fraction, batch):
    X = table(200, 40)[0]
    h = np.linalg.eigvalsh(X.T @ X / len(X))
    eta = fraction * homogenized_edge(X, batch=batch)
    exact = -np.log(np.linalg.eigvalsh(moment_operator(h, eta, batch)).max())
    assert convergence_rate(X, step_size=eta, batch=batch) == pytest.approx(exact, rel=1e-8, abs=1e-12)
    assert (exact > 0) == (fraction < 1)


def test_the_flow_rate_is_the_limit_of_the_rate_of_the_steps():
    h = np.linspace(0.3, 2, 50)
    gap = []
    for eta in (4e-3, 2e-3, 1e-3):
        flow, steps = (convergence_rate(h, step_size=eta, batch=1, clock=clock) for clock in ("flow", "steps"))
        dense = 2 * eta * np.diag(h) - eta**2 * np.outer(h, h)
        assert flow == pytest.approx(np.linalg.eigvalsh(dense).min(), rel=1e-8)
        gap.append(abs(flow / steps - 1))
    assert gap[2] < 0.51 * gap[1] < 0.27 * gap[0]
    assert gap[2] < 0.002


@pytest.mark.parametrize("fraction", [0.2, 0.8])
def test_the_recursion_decays_at_the_rate(fraction):
    X, y, *_ = table(60, 4, decay=1.5)  # few, separated directions: the slowest is alone after a while
    eta = fraction * homogenized_edge(X, batch=2)
    rate = convergence_rate(X, step_size=eta, batch=2)
    first = int(8 / rate)
    loss = homogenized_sgd(X, y, step_size=eta, batch=2, record=[first, 2 * first, 40 * first]).train_loss.values
    assert np.log((loss[0] - loss[2]) / (loss[1] - loss[2])) / first == pytest.approx(rate, rel=0.02)


def test_recursion_agrees_with_noise_drawn_by_hand():
    """An independent simulation of the homogenised dynamics itself: Gaussian noise of covariance 2 f H / B."""
    X, y, spectrum, signal = table(40, 12)
    eta, batch, seeds = 0.25, 2, 4000
    rng, H, c = np.random.default_rng(3), X.T @ X / len(X), X.T @ y / len(X)
    root, theta = np.linalg.cholesky(H), np.zeros((seeds, 12))
    record, seen = [0, 3, 10, 40], {}
    for t in range(41):
        mse = np.mean((theta @ X.T - y) ** 2, axis=1)
        if t in record:
            seen[t] = 0.5 * mse, 0.5 * (spectrum @ ((theta - signal) ** 2).T + 0.3)
        noise = rng.standard_normal((seeds, 12)) @ root.T * np.sqrt(mse / batch)[:, None]
        theta = theta - eta * (theta @ H - c + noise)
    law = {"spectrum": spectrum, "signal": signal, "label_noise": 0.3}
    line = homogenized_sgd(X, y, step_size=eta, batch=batch, record=record, **law)
    wrong = homogenized_sgd(X, y, step_size=eta, batch=1.2 * batch, record=record, **law)
    for slot, t in enumerate(record):
        for name, dots in zip(("train_loss", "test_loss"), seen[t], strict=True):
            error = dots.std(ddof=1) / np.sqrt(seeds) + 1e-12
            assert abs(dots.mean() - line[name].values[slot]) < 4.6 * error
    assert abs(seen[40][0].mean() - wrong.train_loss.values[3]) > 4.6 * seen[40][0].std() / np.sqrt(seeds)


def test_held_out_rows_in_place_of_the_law():
    X, y, spectrum, signal = table(40, 12)
    rng = np.random.default_rng(5)
    fresh = rng.standard_normal((400_000, 12)) * np.sqrt(spectrum)
    settings = {"step_size": 0.2, "batch": 2, "record": [0, 5, 50]}
    law = homogenized_sgd(X, y, spectrum=spectrum, signal=signal, label_noise=0.0, **settings)
    rows = homogenized_sgd(X, y, X_test=fresh, y_test=fresh @ signal, **settings)
    np.testing.assert_allclose(rows.test_loss, law.test_loss, rtol=0.02)
    assert "test_loss" not in homogenized_sgd(X, y, **settings)


@pytest.mark.parametrize("samples", [1 / 4, 1 / 2, 2, 16])
def test_critical_step_size_isotropic_closed_form(samples):
    d, batch, scale = 100, 3, 1.5
    r = 1 / samples
    closed = 2 * batch * np.sqrt(r) / (scale * d * (1 - np.sqrt(r) + r))
    assert critical_step_size(np.full(d, scale), n=samples * d, batch=batch) == pytest.approx(closed, rel=1e-9)


@pytest.mark.parametrize("samples", [0.25, 8])
def test_limiting_rate_isotropic(samples):
    d, r = 100, 1 / samples
    s, n, smallest = np.ones(d), samples * d, (1 - np.sqrt(r)) ** 2
    critical = critical_step_size(s, n=n)
    below, above = 0.5 * critical, min(1.2 * critical, 0.5 * (critical + 2 / d))
    assert limiting_rate(s, n=n, step_size=below) == pytest.approx(2 * below * smallest, rel=1e-9)
    assert 0 < limiting_rate(s, n=n, step_size=above) < 2 * above * smallest
    assert limiting_rate(s, n=n, step_size=2 / d) == pytest.approx(0, abs=1e-9)
    assert limiting_rate(s, n=n, step_size=2.4 / d) < 0


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_rate_of_a_large_sample_approaches_its_limit_on_both_sides_of_the_transition(decay):
    d, n = 800, 6400
    spectrum = np.arange(1, d + 1.0) ** -decay
    X = table(n, d, decay)[0]
    critical = critical_step_size(spectrum, n=n)
    edge = homogenized_edge(X)
    for eta, tolerance in [(0.3 * critical, 0.04), (0.5 * (critical + edge), 0.01)]:
        found = convergence_rate(X, step_size=eta, clock="flow")
        limit = limiting_rate(spectrum, n=n, step_size=eta)
        assert found == pytest.approx(limit, rel=tolerance), eta / critical
        assert found != pytest.approx(limiting_rate(spectrum, n=n / 2, step_size=eta), rel=tolerance)


def test_several_samples_are_averaged_whatever_their_rank():
    tables = [table(20, 30, seed=k) for k in range(3)]
    tables[1][0][5:] = 0.0  # fewer directions than the others
    settings = {"step_size": 0.1, "batch": 2, "record": [0, 7], "spectrum": tables[0][2], "signal": tables[0][3]}
    each = [homogenized_sgd(X, y, **settings) for X, y, *_ in tables]
    together = homogenized_sgd(np.stack([t[0] for t in tables]), np.stack([t[1] for t in tables]), **settings)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(together[name], np.mean([line[name] for line in each], axis=0), rtol=1e-12)


def test_labelled_record_keeps_its_axis_and_may_repeat_a_step():
    X, y, *_ = table(20, 5)
    record = xr.DataArray([0, 0, 7], {"epoch": [0.0, 0.01, 0.7]}, "epoch")
    line = homogenized_sgd(X, y, step_size=0.1, batch=2, record=record)
    assert line.train_loss.dims == ("epoch",)
    assert line.train_loss.values[0] == line.train_loss.values[1] == pytest.approx(np.mean(y**2) / 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: homogenized_edge(np.full((3, 2), np.nan)), "X holds 6 values that are not finite"),
        (lambda: homogenized_edge(np.zeros((3, 2))), "X is zero"),
        (lambda: homogenized_edge(np.ones((3, 2)), batch=0.5), "batch=0.5 must be at least 1"),
        (lambda: convergence_rate([1.0, -1.0], step_size=0.1), "eigenvalue 1 is negative"),
        (lambda: critical_step_size(np.ones(5), n=5), "n = d = 5"),
        (lambda: homogenized_sgd(np.eye(3), np.ones(2), step_size=1, batch=1, record=[1]), "y has the shape"),
        (lambda: homogenized_sgd(np.eye(3), np.ones(3), step_size=1, batch=1, record=[0.5]), "whole numbers"),
        (lambda: homogenized_sgd(np.eye(3), np.ones(3), step_size=1, batch=1, record=[3, 1]), "sorted"),
    ],
)
def test_bad_input_is_one_sentence(call, says):
    with pytest.raises(InputError, match=says):
        call()
