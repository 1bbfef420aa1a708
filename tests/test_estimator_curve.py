"""The learning curve of any estimator: scores against cross-validation by hand, known curves, names, bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from riron.errors import InputError
from riron.forecast import learning_curve
from riron.forecast.more_data.named_estimators import KNOWN, named_estimator


class Known(RegressorMixin, BaseEstimator):
    """Predicts 0 plus an error of known size: a learning curve 0.1 + 3 / n to the last digit."""

    def fit(self, X, y):
        self.off = np.sqrt(2 * (0.1 + 3 / len(X)))
        return self

    def predict(self, X):
        return np.full(len(X), self.off)


class Broken(RegressorMixin, BaseEstimator):
    """Fails on more rows than `most`, or on fewer than `least`."""

    def __init__(self, most=10**9, least=0):
        self.most, self.least = most, least

    def fit(self, X, y):
        if not self.least <= len(X) <= self.most:
            raise RuntimeError("no room for so many\nsecond line")
        return self

    def predict(self, X):
        return 1 + 0 * X[:, 0]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(240, 4))
    return X, np.where(X[:, 0] + X[:, 1] + 0.7 * rng.normal(size=240) > 0, "yes", "no")


def test_a_power_law_is_carried_on_exactly():
    X = np.random.default_rng(0).normal(size=(400, 2))
    y = np.where(np.arange(400) < 1, 1e-9, 0.0)
    curve = learning_curve(X, y, estimator=Known(), sizes=[400, 800, 1600])
    assert curve.measured_rows.values.tolist() == [40, 80, 160, 224, 320]
    assert np.allclose(curve.measured_loss, 0.1 + 3 / curve.measured_rows)
    assert np.allclose(curve.test_loss, 0.1 + 3 / curve.n_samples, rtol=2e-3)
    assert np.allclose(curve.backtest_forecast, curve.backtest_truth, rtol=5e-3)
    assert curve.backtest_to.values.tolist() == [320] * 4
    assert np.all(np.diff(np.log(curve.test_loss_high / curve.test_loss_low)) > 0)


def test_scores_equal_cross_validation_by_hand():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, 2.0, 0.0] + rng.normal(size=60)
    curve = learning_curve(X, y, estimator=LinearRegression(), folds=60, draws=0)  # a fold a row: leave-one-out
    A = np.column_stack([X, np.ones(60)])
    H = A @ np.linalg.solve(A.T @ A, A.T)
    losses = ((y - H @ y) / (1 - np.diag(H))) ** 2 / 2
    assert curve.attrs["loss_at_hand"] == pytest.approx(losses.mean())
    assert curve.attrs["rows_at_hand"] == 59
    wide = np.log(curve.test_loss_high / curve.test_loss)[0].item() / 1.6449
    assert wide >= 1.2 * losses.std() / np.sqrt(60) / losses.mean() * 0.999


def test_linear_regression_falls_as_theory_says():
    rng = np.random.default_rng(3)
    p, n, wide = 20, 300, []
    for _ in range(12):
        X = rng.normal(size=(n, p))
        y = X @ rng.normal(size=p) + rng.normal(size=n)
        curve = learning_curve(X, y, estimator=LinearRegression(), sizes=[4 * n], draws=0)
        theory = (1 + (p + 1) / (4 * n - p - 2)) / 2
        wide.append((np.log(curve.test_loss.item() / theory), np.log(curve.test_loss_high / curve.test_loss).item()))
    off, width = np.mean(wide, axis=0)
    assert abs(off) < 4 * np.std([w[0] for w in wide]) / np.sqrt(12) + 0.03
    assert sum(abs(a) < b for a, b in wide) >= 7  # of 12 at 90 %: fewer has probability 2e-4
    assert width < 0.5


def test_log_loss_error_and_labels_of_any_kind(table):
    X, y = table
    texts = learning_curve(X, y, estimator=LogisticRegression(), draws=1)
    assert texts.attrs["kind"] == "labels"
    assert texts.attrs["loss"] == "log loss"
    assert 0.2 < texts.test_loss[0] < 0.6
    assert 0.1 < texts.test_error[0] < 0.35
    code = (y == "yes").astype(int)
    for other in (code, np.eye(2)[code], 2.0 * code - 1, y == "yes", list(y)):
        assert learning_curve(X, other, estimator=LogisticRegression(), draws=1).test_loss.equals(texts.test_loss)
    plain = learning_curve(X, y, estimator=LinearSVC(), draws=0)
    assert plain.attrs["loss"] == "error"
    assert plain.test_loss.values == pytest.approx(plain.test_error.values, abs=0.01)
    assert learning_curve(X, y, estimator=SVC(), draws=0).attrs["loss"] == "error"
    one_hot = learning_curve(X, np.eye(2)[code], estimator=RandomForestRegressor(5), draws=0)
    assert one_hot.attrs["loss"] == "squared error / 2"
    assert {"test_error", "test_error_low"} <= set(one_hot)


def test_a_probability_of_zero_for_the_truth_costs_log_1000_at_most():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = np.arange(100) % 2
    curve = learning_curve(X, y, estimator=KNeighborsClassifier(1), draws=0)
    assert curve.measured_loss[-1] <= np.log(1000)
    assert curve.measured_loss[-1] == pytest.approx(np.log(1000) * (curve.test_error[0].item()), rel=0.05)


@pytest.mark.parametrize("name", KNOWN)
def test_every_name_gives_a_curve(name, table):
    X, y = table
    classifier, regressor, *_ = KNOWN[name]
    for classes in (True, False):
        if classifier if classes else regressor:
            estimator = named_estimator(name, classes=classes)
            slow = ("n_estimators", "max_iter") if name != "logistic-regression" else ()
            estimator.set_params(**{k: 5 for k in estimator.get_params() if k.split("__")[-1] in slow})
            target = y if classes else X[:, 0] * 3 + 5
            curve = learning_curve(X, target, estimator=estimator, draws=0, folds=2)
            assert np.all(np.isfinite(curve.test_loss_high)), name
            assert np.all(curve.test_loss_low > 0)
        else:
            with pytest.raises(InputError, match="name one of"):
                named_estimator(name, classes=classes)
    assert "knn" in learning_curve(X, y, estimator="knn", draws=0, folds=2).attrs["estimator"]


def test_groups_and_copies_stay_on_one_side(table):
    X, y = table
    nearest = KNeighborsClassifier(1)
    twice = np.r_[np.arange(120), np.arange(120)]
    copied = learning_curve(X[twice], y[twice], estimator=nearest, draws=1)
    assert "120 of the 240 rows are exact copies" in copied.attrs["warnings"]
    jitter = X[twice] + 1e-6 * np.random.default_rng(0).normal(size=(240, 4))
    grouped = learning_curve(jitter, y[twice], estimator=nearest, groups=twice, draws=1)
    cheated = learning_curve(jitter, y[twice], estimator=nearest, draws=1)
    assert cheated.test_error[0] < 0.7 * grouped.test_error[0]
    frame = pd.DataFrame(X[twice])
    assert learning_curve(frame, y[twice], estimator=nearest, draws=1).attrs["warnings"] == copied.attrs["warnings"]


def test_reproducible_whatever_the_number_of_processes_and_never_changes_the_estimator(table):
    X, y = table
    forest = RandomForestClassifier(5)
    first, again, many = (learning_curve(X, y, estimator=forest, draws=0, n_jobs=k) for k in (None, 1, 2))
    assert first.identical(again)
    assert first.identical(many)
    assert not hasattr(forest, "classes_")
    assert forest.random_state is None
    assert not first.test_loss.equals(learning_curve(X, y, estimator=forest, draws=0, seed=1).test_loss)


def test_frames_with_text_go_to_the_pipeline_as_they_are(table):
    X, y = table
    frame = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "u", "v")}, index=np.arange(240)[::-1])
    encode = make_column_transformer((OneHotEncoder(), ["b"]), remainder="passthrough")
    curve = learning_curve(frame, y, estimator=make_pipeline(encode, LogisticRegression()), draws=0)
    assert curve.test_error[0] < 0.35


def test_more_columns_than_rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(80, 300))
    curve = learning_curve(X, X[:, 0], estimator=Ridge(1.0), draws=1)
    assert np.all(np.isfinite(curve.test_loss))


def test_progress_counts_and_an_interrupt_comes_through(table):
    X, y = table
    seen = []
    learning_curve(X, y, estimator="knn", draws=1, progress=lambda done, total, label: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen)

    def stop(done, total, label):
        if done == 3:
            raise KeyboardInterrupt

    for n_jobs in (None, 2):
        with pytest.raises(KeyboardInterrupt):
            learning_curve(X, y, estimator="knn", n_jobs=n_jobs, progress=stop)


def test_trainings_that_fail_are_said_or_end_in_one_sentence():
    X = np.random.default_rng(0).normal(size=(200, 2))
    y = X[:, 0]
    with pytest.raises(InputError, match=r"Broken could not be trained.*RuntimeError: no room for so many;"):
        learning_curve(X, y, estimator=Broken(most=100))
    curve = learning_curve(X, y, estimator=Broken(least=50), draws=0)
    said = " ".join(json.loads(curve.attrs["warnings"]))
    assert "Trainings on 20 rows are left out" in said
    assert curve.measured_rows.values.tolist() == [80, 112, 160]
    few = learning_curve(X, y, estimator=Broken(least=100), draws=0)
    assert "Too few sizes" in few.attrs["warnings"]
    assert np.allclose(few.test_loss, few.attrs["loss_at_hand"])
    assert few.test_loss_high[-1] > 1.1 * few.test_loss[-1]
    warned = learning_curve(X, y > 0, estimator=LogisticRegression(max_iter=1, C=1e6), draws=0)
    assert "ConvergenceWarning in" in warned.attrs["warnings"]


class Undecided(ClassifierMixin, BaseEstimator):
    """Gives probabilities that are not numbers."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), np.nan)

    def predict(self, X):
        return np.zeros(len(X))


def test_gaps_are_the_estimator_s_own_affair(table):
    X, y = table
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    curves = [
        learning_curve(given, y, estimator=DecisionTreeClassifier(min_samples_leaf=10), draws=0)
        for given in (gaps, pd.DataFrame(gaps))
    ]
    assert curves[0].equals(curves[1])


def test_two_numbers_are_told_from_classes(table):
    X, y = table
    tree = DecisionTreeRegressor(min_samples_leaf=10)
    assert "pass them as text" in learning_curve(X, (y == "yes") * 1, estimator=tree, draws=0).attrs["warnings"]
    assert "pass them as text" not in learning_curve(X, X[:, 0], estimator=tree, draws=0).attrs["warnings"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"estimator": "random-forrest"}, "did you mean 'random-forest'"),
        ({"estimator": "zzz"}, "the names are"),
        ({"estimator": "ridge"}, "leave estimator out"),
        ({"estimator": LinearRegression}, "is the class LinearRegression"),
        ({"estimator": 3}, "has no fit and no predict"),
        ({"estimator": LinearRegression(), "y": np.array(["a", "b"] * 30)}, "estimator is a regressor"),
        ({"estimator": LogisticRegression(), "y": np.arange(120.0).reshape(60, 2)}, "columns of numbers"),
        ({"estimator": LogisticRegression(), "y": np.zeros(60)}, "constant"),
        ({"estimator": LogisticRegression(), "y": ["a", None] * 30}, "no label at row 1"),
        ({"estimator": LogisticRegression(), "y": ["a", "b"]}, "2 rows"),
        ({"estimator": Undecided(), "y": ["a", "b"] * 30}, "not finite"),
        ({"estimator": "lasso", "y": ["a", "b"] * 30}, "forecasts numbers"),
        ({"estimator": "knn", "X": np.zeros((20, 2)), "y": np.arange(20)}, "at least 40"),
        ({"X": np.full((60, 2), np.nan)}, "not finite"),
        ({"X": np.where(np.eye(60, 2) > 0, np.inf, 1.0)}, "row 0, column 0"),
        ({"estimator": "knn", "X": np.where(np.eye(60, 2) > 0, np.nan, 1.0)}, "ValueError: Input X contains NaN"),
        ({"estimator": LogisticRegression()}, "fractions and the estimator is a classifier"),
        ({"estimator": LogisticRegression(), "y": [str(k) for k in range(60)]}, "60 different labels"),
        ({"estimator": LogisticRegression(), "y": ["a"] + ["b"] * 59}, "the smaller class of y has 1 row"),
        ({"folds": 1}, "folds"),
        ({"folds": "five"}, "folds=five"),
        ({"n_jobs": "all"}, "-1 uses all cores"),
        ({"draws": -1}, "draws"),
        ({"ridges": [1.0]}, "belong to ridge"),
        ({"level": 2}, "level"),
        ({"sizes": [10]}, "sizes starts at 10"),
        ({"groups": [1] * 60}, "one group"),
    ],
)
def test_bad_input_is_one_sentence(change, complaint):
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(60, 2)), "y": rng.normal(size=60), "estimator": LinearRegression()} | change
    with pytest.raises(InputError, match=complaint):
        learning_curve(given.pop("X"), given.pop("y"), **given)
