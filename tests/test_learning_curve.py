"""The forecast of the learning curve: exact leave-one-out, the collapse against simulation and theory, bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.stats import norm

from riron.errors import InputError
from riron.forecast import learning_curve
from riron.forecast.more_data.power_law import fit_power_law
from riron.forecast.more_data.splits import folds, group_rows, subset
from riron.theory.learning_curve import collapse, ridge_path


def refit_loss(X, Y, lam, left_out):
    """Outputs on the rows left out, by training on the others: sum |y - b - X theta|^2 + n lam |theta|^2."""
    keep = np.setdiff1d(np.arange(len(X)), left_out)
    x, y = X[keep].mean(0), Y[keep].mean(0)
    A, T = X[keep] - x, Y[keep] - y
    theta = np.linalg.solve(A.T @ A + len(X) * lam * np.eye(X.shape[1]), A.T @ T)
    return (X[left_out] - x) @ theta + y


def classes(n, K, rng):
    return np.eye(K)[np.concatenate([np.arange(K), rng.integers(K, size=n - K)])]


@pytest.mark.parametrize("p", [4, 70])  # fewer and more columns than rows: both Gram matrices
@pytest.mark.parametrize("kind", ["regression", "one-hot", "sign"])
def test_leave_one_out_equals_refitting_without_each_row(p, kind):
    rng = np.random.default_rng(p)
    n, ridges = 25, np.array([1e-2, 0.3, 5.0])
    X = rng.normal(size=(n, p)) * np.linspace(1, 3, p) + 2.0
    Y = {
        "regression": rng.normal(size=(n, 2)) + 5,
        "one-hot": classes(n, 3, rng),
        "sign": 2 * classes(n, 2, rng)[:, :1] - 1,
    }
    Y = Y[kind]
    path = ridge_path(X, Y, ridges=ridges, kind=kind)
    assert np.allclose(path.ridge, ridges[::-1])
    for lam, loss, sd, error in zip(
        path.ridge, path.loss, path.loss_sd, path.error if path.error is not None else path.loss, strict=True
    ):
        out = np.array([refit_loss(X, Y, lam, np.array([i]))[0] for i in range(n)])
        losses = ((out - Y) ** 2).sum(1) / 2
        assert np.isclose(loss, losses.mean(), rtol=1e-9)
        assert np.isclose(sd, losses.std(), rtol=1e-9)
        if kind == "one-hot":
            assert np.isclose(error, np.mean(out.argmax(1) != Y.argmax(1)))
        if kind == "sign":
            assert np.isclose(error, np.mean(np.sign(out) != Y))


def test_copies_are_left_out_together():
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(20, 6)), rng.normal(size=(20, 1))
    which = np.concatenate([np.arange(20), np.arange(12), [3]])
    path = ridge_path(X[which], Y[which], ridges=np.array([0.1]), groups=which)
    out = np.array([refit_loss(X[which], Y[which], 0.1, np.flatnonzero(which == g))[0] for g in which])
    assert np.isclose(path.loss[0], np.mean((out - Y[which]) ** 2) / 2, rtol=1e-9)
    alone = ridge_path(X[which], Y[which], ridges=np.array([0.1]))
    assert alone.loss[0] < 0.97 * path.loss[0]  # what forgetting the copies would have claimed


SPECTRUM = np.arange(1, 151.0) ** -0.8
SIGNAL, NOISE = np.full(150, 0.35), 0.5
N0, N = 400, 1600


def theory_risk(n, lam):
    """Half the asymptotic squared error of ridge, noise included (Hastie, Montanari, Rosset & Tibshirani 2022)."""

    def excess(log_kappa):
        return lam / np.exp(log_kappa) + (SPECTRUM / (SPECTRUM + np.exp(log_kappa))).sum() / n - 1

    kappa = np.exp(float(brentq(excess, -40, 20)))  # pyright: ignore[reportArgumentType]
    bias = (kappa**2 * SPECTRUM * SIGNAL**2 / (SPECTRUM + kappa) ** 2).sum()
    return (NOISE + bias) / (1 - ((SPECTRUM / (SPECTRUM + kappa)) ** 2).sum() / n) / 2


def sample(n, rng):
    X = rng.normal(size=(n, 150)) * np.sqrt(SPECTRUM)
    return X, X @ SIGNAL + np.sqrt(NOISE) * rng.normal(size=n)


@pytest.fixture(scope="module")
def paths():
    rng = np.random.default_rng(0)
    draws = (sample(N0, rng) for _ in range(80))
    return [ridge_path(X, y[:, None]) for X, y in draws]


def gap(paths, truth):
    """Mean log(forecast/truth) at N rows and its standard error."""
    logs = [np.log(collapse(path, np.array([N])).loss[0] / truth) for path in paths]
    return np.mean(logs), np.std(logs) / np.sqrt(len(logs))


def test_collapse_agrees_with_theory_and_simulation_and_a_wrong_df2_does_not(paths):
    ridges = np.geomspace(1e-4, 1, 40)
    theory = {n: min(theory_risk(n, lam) for lam in ridges) for n in (N0, N)}
    rng, risks = np.random.default_rng(5), []
    for _ in range(12):  # trained ridges, tuned by their exact risk
        X, y = sample(N, rng)
        X, y = X - X.mean(0), y - y.mean()
        H, c = X.T @ X / N, X.T @ y / N
        off = [np.linalg.solve(H + lam * np.eye(150), c) - SIGNAL for lam in ridges]
        risks.append([(NOISE + SPECTRUM @ t**2) / 2 for t in off])
    truth = np.mean(risks, axis=0).min()
    assert np.isclose(theory[N], truth, rtol=0.01)

    fall = np.log(theory[N0] / truth)
    assert fall > 0.15
    mean, stderr = gap(paths, truth)
    tolerance = 4 * stderr + fall / 20  # a twentieth of the fall forecast is left to finite size
    assert abs(mean) < tolerance, (mean, stderr, fall)
    for wrong in (0.6, 1.5):
        off, _ = gap([path._replace(df2=path.df2 * wrong) for path in paths], truth)
        assert abs(off) > tolerance, (wrong, off, tolerance)


def test_collapse_at_the_rows_at_hand_is_what_was_measured_and_falls_with_rows(paths):
    for path in paths[:5]:
        found = collapse(path, np.array([N0, 500, 800, 1600, 6400]))
        assert np.isclose(found.loss[0], path.loss.min())
        assert np.all(np.diff(found.loss) < 0)
        assert found.ridge[-1] < found.ridge[0]
        tight = collapse(path, np.array([N0, N]), cap=0.05)
        assert np.all(path.df2[tight.index] / N0 <= 0.05)
        assert tight.at_cap.all()
        assert tight.loss[1] >= found.loss[3]


def test_cap_is_flagged_where_more_rows_want_a_smaller_ridge_than_was_measured():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 50))
    y = np.sign(X @ rng.normal(size=50))
    curve = learning_curve(X, y, sizes=[60, 240], draws=0)
    assert bool(curve.at_cap[-1])
    assert curve.attrs["at_cap"] == 1
    assert "upper estimate" in curve.attrs["warnings"]


def test_power_law_is_found_again_and_never_negative():
    n = np.array([100, 200, 400, 560, 800])
    law = fit_power_law(n, 0.2 + 30 * n**-0.9)
    assert np.allclose(law(np.array([1600, 6400])), 0.2 + 30 * np.array([1600, 6400]) ** -0.9, rtol=1e-2)
    rising = fit_power_law(n, np.array([1.0, 1.1, 1.2, 1.3, 1.4]))
    assert min(rising) >= 0
    assert np.allclose(rising(n), rising(100.0))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(160, 12))
    return X, (X[:, :3] + 0.8 * rng.normal(size=(160, 3))).argmax(1)


def test_dataset_for_classes(table):
    X, label = table
    seen = []
    show = lambda done, total, label: seen.append((done, total))
    curve = learning_curve(X, np.eye(3)[label], sizes=[160, 320, 640], draws=2, progress=show)
    assert seen[-1][0] == seen[-1][1]
    for name in ("test_loss", "test_error"):
        low, mid, high = (curve[name + side].values for side in ("_low", "", "_high"))
        assert np.all((low > 0) & (low < mid) & (mid < high))
        assert np.all(np.diff(mid) < 0)
        assert np.all(np.diff(np.log(high / low)) > 0)  # the farther out, the less is known
    assert curve.power_law[0].item() == pytest.approx(curve.attrs["loss_at_hand"])
    assert curve.backtest_from.values.tolist() == [40, 40, 80, 80]
    assert np.all(curve.backtest_truth == curve.attrs["loss_at_hand"])
    assert {"backtest_low", "backtest_high", "backtest_forecast", "backtest_to", "backtest_power_law"} <= set(curve)
    assert {"backtest_error", "backtest_error_low", "backtest_error_high", "backtest_error_truth"} <= set(curve)
    assert curve.attrs["kind"] == "one-hot"


def test_numbers_depend_on_the_seed_only_and_scale_with_the_target(table):
    X, _ = table
    y = X[:, 0] + np.sin(5 * X[:, 1])
    first, again = (learning_curve(X, y, draws=1, seed=3) for _ in range(2))
    assert first.identical(again)
    scaled = learning_curve(X, 10 * y + 7, draws=1, seed=3)
    assert np.allclose(scaled.test_loss, 100 * first.test_loss)
    assert np.allclose(scaled.test_loss_high, 100 * first.test_loss_high)
    assert "test_error" not in first


def test_interval_widens_with_the_level_as_a_normal_does(table):
    X, label = table
    y = 2.0 * (label == 0) - 1
    width = {}
    for level in (0.5, 0.9, 0.99):
        curve = learning_curve(X, y, level=level, draws=0)
        width[level] = np.log(curve.test_loss_high / curve.test_loss_low).values
    assert curve.attrs["kind"] == "sign"
    for level in (0.5, 0.99):
        assert np.allclose(width[level] / width[0.9], norm.ppf((1 + level) / 2) / norm.ppf(0.95))


def test_standardize_makes_units_irrelevant(table):
    X, label = table
    Y = np.eye(3)[label]
    units = np.geomspace(1e-3, 1e3, 12)
    one, other = (learning_curve(Z, Y, standardize=True, draws=0) for Z in (X, X * units))
    assert np.allclose(one.test_loss, other.test_loss)


def said(X, y, **options):
    return " ".join(json.loads(learning_curve(X, y, draws=options.pop("draws", 0), **options).attrs["warnings"]))


def test_warnings_say_where_the_forecast_is_poor():
    rng = np.random.default_rng(4)
    X, noise = rng.normal(size=(300, 5)), rng.normal(size=300)
    y = X[:, 0] + 0.3 * noise
    assert said(X, y) == ""
    assert "over 4 times" in said(X, y, sizes=[300, 3000])
    assert "exact copies" in said(X[np.r_[:300, :20]], y[np.r_[:300, :20]])
    seen = []
    few = learning_curve(X[:30], y[:30], progress=lambda done, total, label: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert "too few" in few.attrs["warnings"]
    assert np.all(np.isnan(few.power_law))
    assert np.all(np.isfinite(few.test_loss_high))
    heavy = y + np.where(np.arange(300) < 3, 30.0, 0)
    assert "1 % of the rows carry" in said(X, heavy)
    assert "luck of these 300 rows" in said(X, heavy)
    assert "smaller class has 6 rows" in said(X, np.where(np.arange(300) < 6, 1.0, -1.0))
    assert "smaller class has 6 rows" in said(X, np.eye(3)[(np.arange(300) < 6).astype(int)])
    rare = np.column_stack([X, (np.arange(300) < 2) * 1.0])
    assert "two-valued" in said(rare, y)
    wide = rng.normal(size=(100, 60))
    assert "falls steeply" in said(wide, wide @ rng.normal(size=60) / 8 + 0.1 * noise[:100])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"X": np.ones((9, 2)), "y": np.ones(9)}, "9 rows"),
        ({"X": np.ones((20, 2))}, "every column of X is constant"),
        ({"y": np.ones(20)}, "y is constant"),
        ({"y": np.arange(19.0)}, "19 rows"),
        ({"y": np.ones((20, 2, 2))}, "dimensions"),
        ({"y": np.where(np.arange(20) == 4, np.nan, 1.0)}, "position 4"),
        ({"X": np.where(np.eye(20, 3) * np.arange(20)[:, None] == 2, np.inf, 1.0)}, "row 2, column 2"),
        ({"sizes": [20, 20]}, "sizes must increase"),
        ({"sizes": [10, 40]}, "sizes starts at 10"),
        ({"sizes": [20.5]}, "20.5"),
        ({"level": 0.0}, "level"),
        ({"level": 1}, "level"),
        ({"level": float("nan")}, "level"),
        ({"ridges": [0.1, 0.0]}, "ridges"),
        ({"draws": -1}, "draws"),
        ({"draws": "x"}, "draws=x must be a whole number"),
        ({"level": "x"}, "level=x"),
        ({"seed": -1}, "seed=-1"),
        ({"X": csr_array(np.eye(20, 3))}, r"toarray\(\)"),
        ({"X": pd.DataFrame({"a": np.arange(20), "b": ["x", "y"] * 10})}, "column 'b' of X holds no numbers"),
        ({"X": 1e200 * np.random.default_rng(0).normal(size=(20, 3))}, "too large to be squared"),
        ({"X": 1e-200 * np.random.default_rng(0).normal(size=(20, 3))}, "too small to be squared"),
        ({"y": ["a", None] * 10}, "no label at row 1"),
        ({"subsets": (1, 2)}, "subsets"),
        ({"ridges": [1e-14], "X": np.random.default_rng(0).normal(size=(20, 40))}, "interpolate"),
    ],
)
def test_bad_input_is_one_sentence(change, complaint):
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(20, 3)), "y": rng.normal(size=20)} | change
    with pytest.raises(InputError, match=complaint):
        learning_curve(given.pop("X"), given.pop("y"), **given)


def test_labels_are_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    code = (X[:, 0] + 0.5 * rng.normal(size=60) > 0) * 1
    curve = learning_curve(X, np.eye(2)[code], draws=0)
    assert curve.attrs["kind"] == "one-hot"
    for labels in (code > 0, np.array(["no", "yes"])[code], pd.Series(["no", "yes"])[code].astype("category")):
        assert learning_curve(X, labels, draws=0).equals(curve)
    assert "pass them as text" in learning_curve(X, code, draws=0).attrs["warnings"]
    assert "pass them as text" not in curve.attrs["warnings"]


def test_awkward_but_fine_tables():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 4))
    for columns, y in (
        (X, X[:, 1]),  # learnt without error
        (X[:, :1], X[:, 0] + rng.normal(size=60)),
        (np.column_stack([X, X, np.ones(60)]), X[:, 0] + rng.normal(size=60)),  # double and constant columns
        ((np.arange(60) < 3)[:, None] * 1.0, X[:, 0]),  # subsets in which the only column is constant
        (X, np.where(np.arange(60) < 2, 1.0, -1.0)),  # subsets with one class
        (rng.normal(size=(60, 500)), X[:, 0]),
        (X * 1e-8, X[:, 0] * 1e8),
    ):
        curve = learning_curve(columns, y)
        for name in ("test_loss", "test_loss_low", "test_loss_high", "ridge"):
            assert np.all(np.isfinite(curve[name])), name
        assert np.all(curve.test_loss_low <= curve.test_loss)


@pytest.mark.parametrize("p", [4, 70])
def test_groups_are_left_out_together(p):
    rng = np.random.default_rng(p)
    n, ridges = 30, np.array([1e-2, 0.3, 5.0])
    groups = np.concatenate([[0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3], np.arange(4, 22)])[rng.permutation(n)]
    centre = rng.normal(size=(22, p))[groups]
    X, Y = centre + 0.3 * rng.normal(size=(n, p)), classes(n, 3, rng)
    path = ridge_path(X, Y, ridges=ridges, groups=groups, kind="one-hot")
    for lam, loss, sd, error, error_sd in zip(
        path.ridge, path.loss, path.loss_sd, path.error, path.error_sd, strict=True
    ):
        out = np.empty(Y.shape)
        for g in np.unique(groups):
            left = np.flatnonzero(groups == g)
            out[left] = refit_loss(X, Y, lam, left)
        losses, wrong = ((out - Y) ** 2).sum(1) / 2, out.argmax(1) != Y.argmax(1)
        assert np.isclose(loss, losses.mean(), rtol=1e-9)
        assert np.isclose(error, wrong.mean())
        for spread, values in ((sd, losses), (error_sd, wrong)):
            sums = [np.sum(values[groups == g] - values.mean()) for g in np.unique(groups)]
            assert np.isclose(spread / np.sqrt(n), np.sqrt(np.sum(np.square(sums))) / n)
    assert path.trained == pytest.approx(n + 1 - (25 + 4 + 4 + 9 + 18) / n)
    alone = ridge_path(X, Y, ridges=ridges, kind="one-hot")
    assert alone.trained == n
    assert not np.allclose(alone.loss, path.loss, rtol=1e-3)


def test_groups_widen_the_interval_and_forgetting_them_is_optimistic():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(30), 8)
    place = rng.normal(size=(30, 12))[groups]
    X = place + 0.2 * rng.normal(size=(240, 12))
    y = rng.normal(size=30)[groups] + 0.3 * rng.normal(size=240)  # what a group shares cannot be learnt from others
    curve, alone = (learning_curve(X, y, groups=g, draws=1) for g in (groups.astype(str), None))
    assert alone.attrs["loss_at_hand"] < 0.8 * curve.attrs["loss_at_hand"]
    width = [float(np.log(c.test_loss_high / c.test_loss_low)[0]) for c in (curve, alone)]
    assert width[0] > 1.5 * width[1]
    assert curve.measured_rows.values.tolist() == [32, 56, 120, 168, 240]  # whole groups of eight
    assert "groups" not in curve.attrs["warnings"]
    few = learning_curve(X, y, groups=groups % 6, draws=0)
    assert "6 groups" in few.attrs["warnings"]


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [([0, 1], "shape"), ([3] * 20, "one group"), ([None, *range(19)], "row 0"), ([[1]] * 20, "shape")],
)
def test_bad_groups_are_one_sentence(groups, complaint):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=complaint):
        learning_curve(rng.normal(size=(20, 3)), rng.normal(size=20), groups=groups)


def test_folds_and_subsets_keep_groups_together_and_hold_every_row_once():
    rng = np.random.default_rng(0)
    for groups in (np.arange(50), rng.integers(12, size=50), np.repeat([0, 1], 25)):
        groups = np.unique(groups, return_inverse=True)[1]
        parts = folds(groups, 5, rng)
        assert sorted(np.concatenate([test for _, test in parts])) == list(range(50))
        for train, test in parts:
            assert not set(groups[train]) & set(groups[test])
            assert sorted([*train, *test]) == list(range(50))
        rows = subset(groups, 20, rng)
        assert np.isin(groups, groups[rows]).sum() == len(rows)
        assert abs(len(rows) - 20) <= np.bincount(groups).max() / 2
    joined = group_rows(["a", "a", "b", "c", "d"], np.array([0, 1, 1, 2, 2]), 5)
    assert joined.tolist() == [0, 0, 0, 1, 1]  # linked by a group, by a copy, and by both


def test_more_columns_than_rows_as_embeddings_have():
    rng = np.random.default_rng(9)
    X = rng.normal(size=(90, 400)) * np.arange(1, 401) ** -0.6
    label = (X[:, :3] + 0.3 * rng.normal(size=(90, 3))).argmax(1)
    curve = learning_curve(X, np.eye(3)[label], groups=np.arange(90) // 2, draws=1)
    assert np.all(np.isfinite(curve.test_loss_high))
    assert np.all(np.diff(curve.test_loss) < 0)
