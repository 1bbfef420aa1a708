"""The eigenbasis of a table, in single and double precision, in place or not."""

import numpy as np
import pytest

from riron.errors import InputError
from riron.theory import spectrum as module
from riron.theory.problem_arrays import sample_rows
from riron.theory.spectrum import Spectrum


def table(n=300, p=40, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((n + 50, p)) * np.geomspace(3, 0.1, p)
    y = random.standard_normal((n + 50, 2))
    return X[:n], y[:n], X[n:], y[n:]


@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_rows_are_rotated_into_the_eigenbasis(shape, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 1000)  # many pieces, of uneven length
    X, y, Xt, yt = table(*shape)
    seen = Spectrum.of(X, y, Xt, yt)
    np.testing.assert_allclose(seen.rows, X @ seen.basis, atol=1e-10)
    np.testing.assert_allclose(seen.test_rows, Xt @ seen.basis, atol=1e-10)
    np.testing.assert_allclose(seen.rows.T @ seen.rows / len(X), np.diag(seen.eigenvalues), atol=1e-10)
    np.testing.assert_allclose(seen.correlation, seen.rows.T @ y / len(X), atol=1e-12)
    np.testing.assert_allclose(seen.leverage, np.sum(seen.rows**2, axis=1))
    assert np.all(np.diff(seen.eigenvalues) < 0)


def test_single_precision_is_kept_and_sums_are_double():
    X, y, Xt, yt = table()
    double = Spectrum.of(X, y, Xt, yt)
    single = Spectrum.of(X.astype(np.float32), y, Xt.astype(np.float32), yt)
    assert single.rows.dtype == single.test_rows.dtype == np.float32
    assert single.eigenvalues.dtype == single.correlation.dtype == single.leverage.dtype == np.float64
    np.testing.assert_allclose(single.eigenvalues, double.eigenvalues, rtol=1e-6)
    np.testing.assert_allclose(single.leverage, double.leverage, rtol=1e-5)


def test_rotation_in_place():
    X, y, Xt, yt = (a.astype(np.float32) for a in table())
    kept = Spectrum.of(X, y, Xt, yt)
    mine, mine_test = X.copy(), Xt.copy()
    seen = Spectrum.of(mine, y, mine_test, yt, overwrite=True)
    assert seen.rows is mine
    assert seen.test_rows is mine_test
    np.testing.assert_allclose(seen.rows, kept.rows, atol=1e-5)
    np.testing.assert_allclose(seen.test_rows, kept.test_rows, atol=1e-5)


def test_values_that_are_not_finite_are_named_in_single_precision_too():
    X, y, _, _ = table()
    X = X.astype(np.float32)
    X[7, 3] = np.nan
    with pytest.raises(InputError, match="row 7, column 3"):
        Spectrum.of(X, y)


def test_a_sample_of_rows_stands_for_all():
    leverage = np.random.default_rng(0).lognormal(0, 1, 3000)
    chosen, weights = sample_rows(leverage, 600, seed=0)
    assert weights.sum() == pytest.approx(1, rel=0.05)
    assert weights @ leverage[chosen] == pytest.approx(leverage.mean(), rel=0.02)
    assert set(np.argsort(leverage)[-150:]) <= set(chosen)
