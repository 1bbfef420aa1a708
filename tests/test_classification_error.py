"""The curve of the classification error: the semi-parametric line against simulation, the forecast, bad input."""

import json

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_digits

from riron.errors import InputError
from riron.forecast.more_data.classification_error import classification_curve
from riron.theory.alo import alo_path
from riron.theory.alo_losses import LOGISTIC
from riron.theory.alo_newton import make_design
from riron.theory.learning_curve import ridge_path
from riron.theory.semi_parametric import carry, measure, smooth_error

P, N0, N = 40, 300, 900
SCALES = np.arange(1, P + 1.0) ** -0.4
MEAN = np.linspace(0.35, 0.05, P)
GRID = np.geomspace(1e-3, 10, 9)


def two_classes(n, rng):
    """Two Gaussian classes x ~ N(y MEAN/2, diag(SCALES^2))."""
    y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    return y[:, None] * MEAN / 2 + SCALES * rng.normal(size=(n, P)), y


def trained(X, y, lam):
    """Plain Newton on the mean logistic loss + (lam/2)|w|^2, the intercept free."""
    Z, shrink = np.column_stack([X, np.ones(len(X))]), lam * np.append(np.ones(X.shape[1]), 0)
    w = np.zeros(Z.shape[1])
    for _ in range(30):
        p = expit(-y * (Z @ w))
        H = (Z.T * (p * (1 - p))) @ Z / len(X) + np.diag(shrink)
        w -= np.linalg.solve(H, -Z.T @ (y * p) / len(X) + shrink * w)
    return w[:-1], w[-1]


def held_out(w, b):
    """Exact log loss (by quadrature) and error of a linear classifier on the two classes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    sd, loss, error = np.linalg.norm(SCALES * w), 0.0, 0.0
    for c in (-1, 1):
        middle = c * (c * MEAN @ w / 2 + b)
        loss += weights @ np.logaddexp(0, -(middle + sd * nodes)) / weights.sum() / 2
        error += norm.cdf(-middle / sd) / 2
    return loss, error


def measured(rng, lam):
    X, y = two_classes(N0, rng)
    fit = alo_path(make_design(X), y[:, None], np.array([lam]), LOGISTIC, refits="none")[0]
    path = ridge_path(X, y[:, None], kind="sign")
    return fit, y, measure(fit, y, fit.W[-1, 0], path.kappa, path.df2)


def test_the_line_gives_the_measurement_back_at_the_size_at_hand():
    fit, _, at = measured(np.random.default_rng(0), 0.03)
    assert at is not None
    found = carry(at, np.array([N0]))[0]
    assert found is not None
    assert np.allclose(found[0], fit.left_out[:, 0], atol=1e-6)
    assert np.isclose(found[1], 0.03, rtol=1e-6)
    assert np.isclose(at.df1, N0 * at.V * 0.03 / at.kappa)


def test_the_line_agrees_with_training_on_more_rows():
    """Same kappa at three times the rows: the mean over draws of log(line/truth), against its own standard error."""
    off, wrong = [], []
    for draw in range(24):
        rng = np.random.default_rng([1, draw])
        _, y, at = measured(rng, 0.002)
        assert at is not None
        found = carry(at, np.array([N]))[0]
        assert found is not None
        truth = held_out(*trained(*two_classes(N, rng), found[1]))[0]
        off.append(np.log(np.logaddexp(0, -y * found[0]).mean() / truth))
        kept = carry(at._replace(noise=0.0), np.array([N]))[0]  # all spread taken for signal
        assert kept is not None
        wrong.append(np.log(np.logaddexp(0, -y * kept[0]).mean() / truth))
    se = np.std(off) / np.sqrt(len(off))
    assert abs(np.mean(off)) < 4 * se + 0.01
    worse = np.subtract(wrong, off)
    assert np.mean(worse) > 5 * np.std(worse) / np.sqrt(len(worse))
    assert np.mean(worse) > 0.03


def test_the_smooth_count_keeps_the_spread():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(20000) < 0.3, 1.0, -1.0)
    scores = 2 * y + rng.normal(size=len(y))
    se = np.sqrt(norm.cdf(-2) / len(y))
    assert abs(smooth_error(scores, y) - norm.cdf(-2)) < 4 * se
    assert abs(smooth_error(scores, y, width=1.0) - norm.cdf(-2)) < 4 * se
    spread = norm.cdf(-2 / np.sqrt(2))  # what a kernel of width one would say without drawing the scores together
    assert abs(smooth_error(scores, y, width=1.0) - spread) > 20 * se


def test_the_forecast_agrees_with_training():
    """From 150 rows to 600: no bias beyond the luck of six draws, and most truths inside their intervals."""
    misses, inside, before = [], [], []
    for draw in range(6):
        rng = np.random.default_rng([2, draw])
        X, y = two_classes(150, rng)
        curve = classification_curve(X, y, sizes=[150, 600], draws=0, subsets=(1, 1, 1, 1), ridges=GRID)
        tried = []
        for _ in range(3):
            A, z = two_classes(600, rng)
            tried.append(min(held_out(*trained(A, z, lam)) for lam in np.geomspace(1e-3, 1, 7)))
        at, truth = curve.isel(n_samples=1), np.mean(tried, axis=0)[1]
        misses.append(np.log(at.test_error.item() / truth))
        before.append(np.log(curve.attrs["error_at_hand"] / truth))
        inside.append(at.test_error_low.item() < truth < at.test_error_high.item())
        assert curve.test_loss[1] < curve.test_loss[0]
    assert sum(inside) >= 3  # of 6 at 90 %: fewer have probability 5e-5 (fixed seeds)
    assert abs(np.mean(misses)) < 4 * np.std(misses) / np.sqrt(6)
    assert np.mean(before) > np.mean(misses) + 0.1


def test_the_dataset_on_a_real_table():
    X, y = load_breast_cancer(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:150]
    curve = classification_curve(
        X[rows], y[rows], standardize=True, draws=1, subsets=(1, 1, 1, 1), level=0.8, ridges=GRID
    )
    assert list(curve.n_samples) == [150, 212, 300, 424, 600]
    assert np.all(np.diff(curve.test_error) <= 0)
    assert np.all(np.diff(curve.test_loss) <= 1e-12)
    for what in ("error", "loss"):
        assert np.all(curve[f"test_{what}_low"] < curve[f"test_{what}"])
        assert np.all(curve[f"test_{what}_high"] > curve[f"test_{what}"])
        assert np.isclose(curve[f"test_{what}"][0], curve.attrs[f"{what}_at_hand"])
        assert np.isclose(curve[f"power_law_{what}"][0], curve.attrs[f"{what}_at_hand"])
        assert np.all(curve[f"backtest_{what}_low"] < curve[f"backtest_{what}"])
    assert list(curve.backtest_from) == [37, 75]
    assert curve.attrs["positive"] == "1"
    assert curve.attrs["level"] == 0.8


def said(X, y, **options):
    options = {"draws": 0, "subsets": (0, 0, 0, 0), "ridges": GRID} | options
    return " ".join(json.loads(classification_curve(X, y, **options).attrs["warnings"]))


def test_more_classes_are_told_as_one_against_the_rest():
    X, y = load_digits(return_X_y=True)
    X, y = np.asarray(X)[:120], np.asarray(y)[:120]
    assert "10 classes" in said(X, y)
    one_hot = classification_curve(X, np.eye(10)[y], draws=0, subsets=(0, 0, 0, 0), ridges=GRID)
    labels = classification_curve(X, y, draws=0, subsets=(0, 0, 0, 0), ridges=GRID)
    assert labels.identical(classification_curve(X, y, draws=0, subsets=(0, 0, 0, 0), ridges=GRID))
    assert np.allclose(one_hot.test_error, labels.test_error)
    assert np.isnan(labels.power_law_error).all()


def test_copies_do_not_lower_the_error():
    X, y = two_classes(80, np.random.default_rng(5))
    one = classification_curve(X, y, sizes=[160], draws=0, subsets=(0, 0, 0, 0), ridges=GRID)
    double = classification_curve(np.vstack([X, X]), np.append(y, y), draws=0, subsets=(0, 0, 0, 0), ridges=GRID)
    assert np.isclose(double.attrs["error_at_hand"], one.attrs["error_at_hand"], rtol=0.05)
    assert np.isnan(double.semi_parametric_line).all()
    assert "80 of the 160 rows are exact copies" in said(np.vstack([X, X]), np.append(y, y))


def test_warnings():
    rng = np.random.default_rng(6)
    X, y = two_classes(60, rng)
    assert "smallest penalty" in said(X, y, ridges=[5.0, 20.0, 50.0])
    assert "largest penalty" in said(rng.normal(size=(60, 5)), y)
    assert "over 4 times" in said(X, y, sizes=[60, 600])
    rare = np.where(np.arange(60) < 5, 1.0, -1.0)
    assert "smaller class has 5 rows" in said(X, rare)
    assert "wrong when left out" in said(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(40)}, "one class"),
        ({"y": np.arange(40)}, "classes, not numbers"),
        ({"y": np.eye(40)[0]}, "single row"),
        ({"y": np.zeros(39)}, "39 rows and X has 40"),
        ({"y": np.full(40, np.nan)}, "no label at row 0"),
        ({"y": np.ones((40, 2))}, "one-hot"),
        ({"X": np.ones((40, 3))}, "constant"),
        ({"X": np.full((40, 3), np.inf)}, "not finite"),
        ({"sizes": [30]}, "sizes starts at 30"),
        ({"sizes": [80, 60]}, "sizes must increase"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"ridges": [0.0, 1.0]}, "values > 0"),
        ({"draws": -1}, "draws=-1"),
        ({"draws": "x"}, "draws=x"),
        ({"seed": -1}, "seed=-1"),
        ({"level": "x"}, "level=x"),
        ({"y": ["a", None] * 20}, "no label at row 1"),
        ({"subsets": (1, 2)}, "4 whole numbers"),
    ],
)
def test_bad_input(change, message):
    X, y = two_classes(40, np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        classification_curve(**({"X": X, "y": y, "draws": 0} | change))


def test_too_few_rows():
    X, y = two_classes(12, np.random.default_rng(0))
    with pytest.raises(InputError, match="12 rows"):
        classification_curve(X, y)
