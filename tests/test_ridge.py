"""Ridge regression in the proportional limit against closed forms, finite-size truth and a direct simulation."""

import numpy as np
import pytest
from scipy.stats import t as student

from riron.errors import InputError
from riron.theory.ridge import effective_ridge, ridge_curve, ridge_error, ridge_risk


@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.5, 4.0])
@pytest.mark.parametrize(("norm", "noise"), [(1.0, 0.25), (2.0, 3.0)])
def test_ridgeless_isotropic_closed_form(ratio, norm, noise):
    d, scale = 200, 1.7
    n, spectrum, signal = d / ratio, np.full(d, scale), norm * np.ones(d) / np.sqrt(d)
    error = ridge_error(spectrum, signal, n, 0.0, noise)
    if ratio < 1:
        assert error.bias == pytest.approx(0.0, abs=1e-12)
        assert error.variance == pytest.approx(noise * ratio / (1 - ratio))
        assert error.train == pytest.approx(noise * (1 - ratio))
    else:
        assert error.bias == pytest.approx(scale * norm**2 * (1 - 1 / ratio))
        assert error.variance == pytest.approx(noise / (ratio - 1))
        assert error.train == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("ridge", [1e-8, 1e-3, 0.1, 10.0])
def test_effective_ridge_isotropic_closed_form(ridge):
    d, n, s = 150, 100, 0.6
    b = ridge + (d / n - 1) * s  # kappa^2 - b kappa - ridge s = 0
    assert effective_ridge(np.full(d, s), n, ridge) == pytest.approx((b + np.sqrt(b**2 + 4 * ridge * s)) / 2, rel=1e-10)


@pytest.mark.parametrize("n", [50, 300])
def test_ridgeless_is_the_limit_of_small_ridge(n):
    spectrum, signal = 1 / np.arange(1, 121.0), np.linspace(1, 2, 120)
    assert ridge_risk(spectrum, signal, n, 1e-12, 0.3) == pytest.approx(ridge_risk(spectrum, signal, n, 0.0, 0.3))


def test_directions_without_variance_change_nothing():
    spectrum, signal = 1 / np.arange(1, 41.0), np.ones(40)
    padded = np.r_[spectrum, np.zeros(10)], np.r_[signal, np.full(10, 5.0)]
    for n, ridge in [(20, 0.0), (70, 0.0), (45, 0.0), (45, 0.1)]:
        assert ridge_error(*padded, n, ridge, 0.2) == pytest.approx(ridge_error(spectrum, signal, n, ridge, 0.2))


def simulated_risks(spectrum, signal, n, ridge, noise, seeds):
    """Conditional test risk, noise-averaged variance and train error of `seeds` independent ridge fits, by NumPy."""
    rng, d = np.random.default_rng(7), len(spectrum)
    rows = np.zeros((seeds, 3))
    for row in rows:
        X = rng.standard_normal((n, d)) * np.sqrt(spectrum)
        y = X @ signal + np.sqrt(noise) * rng.standard_normal(n)
        fit = np.linalg.solve(X.T @ X / n + ridge * np.eye(d), X.T / n) if ridge else np.linalg.pinv(X)
        theta = fit @ y
        row[:] = (
            noise + spectrum @ (theta - signal) ** 2,
            noise * np.einsum("jn,j,jn->", fit, spectrum, fit),
            np.mean((y - X @ theta) ** 2),
        )
    return rows


@pytest.mark.parametrize(
    ("decay", "n", "ridge"), [(0.0, 160, 0.0), (0.0, 480, 0.0), (1.0, 160, 0.0), (1.0, 160, 0.05), (1.5, 480, 0.01)]
)
def test_agrees_with_direct_simulation_and_a_wrong_constant_does_not(decay, n, ridge):
    d, noise, seeds = 240, 0.5, 48
    spectrum = 2 * np.arange(1, d + 1.0) ** -decay
    signal = 3 * np.random.default_rng(1).standard_normal(d) / np.sqrt(d)
    rows = simulated_risks(spectrum, signal, n, ridge, noise, seeds)
    mean, error = rows.mean(0), rows.std(0, ddof=1) / np.sqrt(seeds)
    finite_size = 3.0 / d  # the limit is approached like 1/d: the exact variance below differs by 1/(d - n)
    theory = ridge_error(spectrum, signal, n, ridge, noise)
    line = np.array([theory.test, theory.variance, theory.train])
    critical = student.ppf(1 - 1e-4 / 30, seeds - 1)
    rounding = 1e-20  # an interpolator's training error
    assert (np.abs(mean - line) < critical * error + finite_size * line + rounding).all(), (mean, line, error)
    wrong = ridge_error(spectrum, signal, n, ridge, 1.3 * noise)
    assert abs(mean[1] - wrong.variance) > critical * error[1] + finite_size * wrong.variance


@pytest.mark.parametrize("n", [40, 120])
def test_variance_approaches_the_exact_gaussian_formula_like_one_over_d(n):
    """For Gaussian rows the ridgeless variance is exact: noise n/(d-n-1) for n < d-1, noise d/(n-d-1) for n > d+1."""
    for scale, bound in [(1, 0.06), (8, 0.0075)]:
        d, rows = 80 * scale, n * scale
        exact = rows / (d - rows - 1) if rows < d else d / (rows - d - 1)
        assert 0 < exact / ridge_error(np.ones(d), np.zeros(d), rows, 0.0, 1.0).variance - 1 < bound
    d, noise = 80, 1.0
    rows = simulated_risks(np.ones(d), np.zeros(d), n, 0.0, noise, 64)[:, 1]
    exact = n / (d - n - 1) if n < d else d / (n - d - 1)
    assert abs(rows.mean() - exact) < student.ppf(1 - 5e-5, 63) * rows.std(ddof=1) / 8


def test_curve_is_half_the_risk_on_its_axis():
    curve = ridge_curve(spectrum=np.ones(20), signal=np.full(20, 0.5), n_samples=[10, 40], ridge=0.0, label_noise=0.2)
    assert curve.n_samples.values.tolist() == [10, 40]
    for n in (10, 40):
        here = curve.sel(n_samples=n)
        assert float(here.test_loss) == ridge_risk(np.ones(20), np.full(20, 0.5), n, 0.0, 0.2) / 2
        assert float(here.test_loss - here.excess_risk) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 8}, "diverges at the interpolation threshold n = rank = 8"),
        ({"n": 0}, "n=0 must be"),
        ({"ridge": -1}, "ridge=-1 must be"),
        ({"label_noise": -0.1}, "label_noise=-0.1 must be"),
        ({"signal": np.ones(3)}, "spectrum has 8 entries and signal has 3"),
        ({"spectrum": np.r_[np.ones(7), -2.0]}, r"spectrum\[7\]=-2.0 is negative"),
        ({"spectrum": np.r_[np.ones(7), np.nan]}, "not finite"),
        ({"spectrum": np.zeros(8)}, "zero in every direction"),
    ],
)
def test_bad_input_is_one_sentence(change, says):
    good = {"spectrum": np.ones(8), "signal": np.ones(8), "n": 20, "ridge": 0.0}
    with pytest.raises(InputError, match=says):
        ridge_error(**(good | change))
