"""The stability edge and the growth above it, against the dense second-moment operator and against runs."""

import numpy as np
import pytest
from scipy.optimize import brentq

from riron import forecast
from riron.errors import InputError
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge


def rows(n=40, p=6, heavy=2.0, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, p)) * np.linspace(1, 0.2, p)
    X[0] *= heavy
    return X


def dense_growth(X, step_size, batch, ridge=0.0):
    """Spectral radius of the (p^2, p^2) map of second moments."""
    n, p = X.shape
    H = X.T @ X / n
    A = np.eye(p) * (1 - step_size * ridge) - step_size * H
    fourth = sum(np.kron(np.outer(x, x), np.outer(x, x)) for x in X) / n
    return np.abs(np.linalg.eigvals(np.kron(A, A) + step_size**2 / batch * (fourth - np.kron(H, H)))).max()


@pytest.mark.parametrize("heavy", [1.0, 5.0])
@pytest.mark.parametrize(("batch", "ridge"), [(1, 0.0), (3, 0.0), (40, 0.0), (2, 0.5)])
def test_edge_and_growth_are_those_of_the_dense_operator(batch, ridge, heavy):
    X = rows(heavy=heavy)
    exact = brentq(lambda eta: dense_growth(X, eta, batch, ridge) - 1, 1e-4, 20)
    edge = forecast.stability_edge(X, batch=batch, ridge=ridge)
    assert edge == pytest.approx(exact, rel=1e-3)
    for factor in (0.7, 1.1, 1.5):
        growth = forecast.growth_factor(X, batch=batch, step_size=factor * exact, ridge=ridge)
        assert growth - 1 == pytest.approx(dense_growth(X, factor * exact, batch, ridge) - 1, rel=2e-3)


def test_without_the_rank_one_term_the_edge_would_be_wrong():
    """Mutation: leaving - H V H out of the noise moves the dense edge by more than the tolerance above."""
    X = rows(heavy=1.0)
    H = X.T @ X / 40

    def growth(eta):
        A = np.eye(6) - eta * H
        fourth = sum(np.kron(np.outer(x, x), np.outer(x, x)) for x in X) / 40
        return np.abs(np.linalg.eigvals(np.kron(A, A) + eta**2 * fourth)).max()

    assert abs(brentq(lambda eta: growth(eta) - 1, 1e-4, 20) / forecast.stability_edge(X, batch=1) - 1) > 0.02


def test_hybrid_edge_is_close_and_the_heavy_row_is_named():
    X = rows(n=2400, p=12, heavy=12.0)
    exact = stability_edge(Spectrum.of(X, np.zeros(2400)), batch=1)
    assert int(np.argmax(exact.shares)) == 0
    assert exact.shares.sum() == pytest.approx(1)
    assert forecast.stability_edge(X, batch=1, method="hybrid") == pytest.approx(exact.step_size, rel=0.01)
    light = X[1:]
    assert forecast.stability_edge(light, batch=1) > 1.5 * exact.step_size
    for batch in (1, 16):
        hybrid = forecast.stability_edge(light, batch=batch, method="hybrid")
        assert hybrid == pytest.approx(forecast.stability_edge(light, batch=batch), rel=0.02)


def test_homogenised_sgd_does_not_see_the_heavy_row():
    X = rows(n=400, heavy=12.0)
    assert forecast.stability_edge(X, batch=1, method="homogenized") > 2 * forecast.stability_edge(X, batch=1)


def test_runs_diverge_above_and_converge_below():
    """200 runs: at 1.5 times the edge at least 3 of 4 end above ten times their first loss, at 0.7 none does."""
    X, rng = rows(n=60, heavy=1.0), np.random.default_rng(1)
    y = X @ np.ones(6) + rng.standard_normal(60)
    edge = forecast.stability_edge(X, batch=1)

    def diverged(factor):
        theta = np.zeros((200, 6))
        for _ in range(4000):
            i = rng.integers(60, size=200)
            with np.errstate(over="ignore", invalid="ignore"):
                theta = theta - factor * edge * X[i] * (np.sum(X[i] * theta, 1) - y[i])[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            end = np.mean((theta @ X.T - y) ** 2, 1)
        return np.sum(~(end < 10 * np.mean(y**2)))

    assert diverged(1.5) >= 150
    assert diverged(0.7) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [({"batch": 0}, "batch"), ({"batch": 99}, "batch"), ({"ridge": -1}, "ridge"), ({"method": "magic"}, "method")],
)
def test_bad_input(change, words):
    with pytest.raises(InputError, match=words):
        forecast.stability_edge(rows(), **({"batch": 1} | change))
