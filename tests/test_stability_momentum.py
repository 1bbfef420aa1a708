"""The stability edge and the growth above it with momentum, against the dense operator of second moments."""

import numpy as np
import pytest
from scipy.optimize import brentq

from riron import forecast
from riron.errors import InputError
from riron.theory.spectrum import Spectrum
from riron.theory.stability import growth_factor, stability_edge


def rows(heavy):
    X = np.random.default_rng(0).standard_normal((40, 5)) * np.linspace(1, 0.2, 5)
    X[0] *= heavy
    return X


def dense_growth(X, step_size, batch, momentum, nesterov, ridge=0.0, rank_one=1.0):
    """Spectral radius of the map of the second moments of (parameter, velocity)."""
    n, p = X.shape
    H, one = X.T @ X / n, np.eye(p)
    damped, ahead = H + ridge * one, 1 + momentum * nesterov
    carried = step_size * momentum * (momentum if nesterov else 1)
    M = np.block([[one - step_size * ahead * damped, -carried * one], [damped, momentum * one]])
    b = np.concatenate([-step_size * ahead * one, one])
    parameter = np.concatenate([one, 0 * one], 1)
    fourth = np.einsum("na,nb,nc,nd->abcd", X, X, X, X).reshape(p * p, p * p) / n
    noise = np.kron(b, b) @ (fourth - rank_one * np.kron(H, H)) @ np.kron(parameter, parameter) / batch
    return np.abs(np.linalg.eigvals(np.kron(M, M) + noise)).max()


@pytest.mark.parametrize(
    ("batch", "momentum", "nesterov", "ridge", "heavy"),
    [(1, 0.9, False, 0.0, 1.0), (1, 0.9, True, 0.0, 5.0), (3, 0.5, False, 0.5, 1.0), (40, 0.9, True, 0.0, 1.0)],
)
def test_edge_and_growth_are_those_of_the_dense_operator(batch, momentum, nesterov, ridge, heavy):
    X = rows(heavy)
    spectrum = Spectrum.of(X, np.zeros(40))
    setting = {"batch": batch, "momentum": momentum, "nesterov": nesterov, "ridge": ridge}
    exact = brentq(lambda eta: dense_growth(X, eta, **setting) - 1, 1e-4, 20, xtol=1e-5)
    edge = stability_edge(spectrum, **setting)
    assert edge.step_size == pytest.approx(exact, rel=1e-3)
    assert edge.shares.sum() == pytest.approx(1)
    for factor in (1.1, 1.5):
        growth = growth_factor(spectrum, step_size=factor * exact, **setting)
        assert growth - 1 == pytest.approx(dense_growth(X, factor * exact, **setting) - 1, rel=2e-3)
    assert growth_factor(spectrum, step_size=0.3 * exact, **setting) < 1
    # Mutations: without the rank-one term, and with Nesterov's term the other way, the edge is elsewhere.
    if batch == 1 and heavy == 1:
        assert dense_growth(X, edge.step_size, **setting, rank_one=0) > 1.001
    assert abs(dense_growth(X, edge.step_size, **(setting | {"nesterov": not nesterov})) - 1) > 1e-3


def test_all_rows_in_a_batch_of_distinct_rows_reach_the_ceiling_of_gradient_descent():
    """Huge batches leave the noiseless edge: 2 (1 + m) / h, for Nesterov 2 (1 + m) / ((1 + 2 m) h)."""
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.1], [0.0, -0.1]] * 100)
    h = X[:, 0] @ X[:, 0] / 400
    for nesterov, ceiling in ((False, 3.6 / h), (True, 3.6 / 2.6 / h)):
        edge = stability_edge(Spectrum.of(X, np.zeros(400)), batch=400, momentum=0.8, nesterov=nesterov).step_size
        assert 0.97 * ceiling < edge <= ceiling * 1.0001


def test_bad_input():
    with pytest.raises(InputError, match="momentum"):
        stability_edge(Spectrum.of(rows(1.0), np.zeros(40)), batch=1, momentum=1.2)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_public_edge_is_that_of_the_optimiser_where_rows_agree(nesterov):
    # All rows have the same square, so batches see the same curvature and the edge is that of gradient descent.
    X = np.sqrt(2) * np.where(np.arange(40) % 3, 1.0, -1.0)[:, None]
    m = 0.6
    by_hand = 2 * (1 + m) / (1 + 2 * m * nesterov) / 2
    assert forecast.stability_edge(X, batch=3, momentum=m, nesterov=nesterov) == pytest.approx(by_hand, rel=1e-3)
    grows = forecast.growth_factor(X, batch=3, step_size=1.1 * by_hand, momentum=m, nesterov=nesterov)
    calm = forecast.growth_factor(X, batch=3, step_size=0.9 * by_hand, momentum=m, nesterov=nesterov)
    assert calm < 1 < grows
    for method in ("exact", "homogenized"):
        with pytest.raises(InputError, match="momentum"):
            forecast.stability_edge(X, batch=3, momentum=1.5, method=method)
