"""LogisticRegressionALO: scikit-learn's own checks, the penalty chosen, weights and copies, warnings and bad input."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.utils.estimator_checks import parametrize_with_checks

from riron.errors import InputError
from riron.estimators import LogisticRegressionALO


@parametrize_with_checks([LogisticRegressionALO(ridges=5), LogisticRegressionALO(ridges=3, multi_class="one-vs-rest")])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def table(name, rows):
    X, y = {"cancer": load_breast_cancer, "iris": load_iris, "digits": load_digits}[name](return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:rows]
    X = np.unique(np.column_stack([X, y])[order], axis=0)  # iris holds copies, which belong together
    X, y = X[:, :-1], X[:, -1].astype(int)
    return (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9), y


@pytest.mark.parametrize(("name", "rows"), [("cancer", 80), ("iris", 60)])
def test_the_coefficients_are_those_of_scikit_learn_at_the_same_c(name, rows):
    X, y = table(name, rows)
    ours = LogisticRegressionALO().fit(X, y)
    theirs = LogisticRegression(C=ours.C_, tol=1e-10, max_iter=5000).fit(X, y)
    assert np.isclose(ours.C_, 1 / (len(X) * ours.ridge_))
    assert np.allclose(ours.coef_, theirs.coef_, atol=1e-4)
    assert np.allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert np.allclose(ours.predict_log_proba(X), np.log(theirs.predict_proba(X)), atol=1e-2)


@pytest.mark.parametrize(("name", "rows"), [("cancer", 60), ("iris", 45)])
@pytest.mark.filterwarnings("ignore:the leave-one-out loss is least")
def test_the_leave_one_out_is_scikit_learns(name, rows):
    X, y = table(name, rows)
    ours = LogisticRegressionALO(ridges=[3.0, 0.1, 0.01], refits=1.0).fit(X, y)
    assert len(ours.refitted_rows_) == len(X)
    theirs = LogisticRegression(C=ours.C_, tol=1e-9, max_iter=5000)
    p = np.asarray(cross_val_predict(theirs, X, y, cv=LeaveOneOut(), method="predict_proba"))
    assert np.allclose(ours.alo_proba_, p, atol=1e-3)
    assert np.isclose(ours.alo_loss_, -np.log(p[np.arange(len(y)), y]).mean(), rtol=2e-3)
    assert np.isclose(ours.alo_error_, np.mean(p.argmax(axis=1) != y))
    assert ours.scores_.max() == -ours.alo_loss_
    assert np.all(np.diff(ours.ridges_) < 0)


def test_a_weight_is_a_number_of_copies_and_copies_are_left_out_together():
    X, y = table("cancer", 60)
    count = np.random.default_rng(1).integers(0, 3, size=len(y))
    one = LogisticRegressionALO(ridges=7).fit(X, y, sample_weight=count)
    two = LogisticRegressionALO(ridges=7).fit(np.repeat(X, count, axis=0), np.repeat(y, count))
    assert np.allclose(one.coef_, two.coef_, atol=1e-8)
    assert np.isclose(one.alo_loss_, two.alo_loss_, rtol=1e-8)
    assert np.isclose(one.C_, two.C_)
    assert np.isnan(one.alo_proba_[count == 0]).all()
    assert np.isfinite(one.alo_proba_[count > 0]).all()


def test_class_weights_move_the_intercept():
    X, y = table("cancer", 100)
    plain, heavy = (LogisticRegressionALO(ridges=7, class_weight=w).fit(X, y) for w in (None, {0: 10, 1: 1}))
    assert heavy.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.02
    with pytest.raises(ValueError, match="class"):
        LogisticRegressionALO(class_weight={0: 1, 7: 2}).fit(X, y)


def test_many_unknowns_fall_back_to_one_against_the_rest_and_say_so():
    X, y = table("digits", 200)
    wide = np.hstack([X, np.maximum(X @ np.random.default_rng(0).normal(size=(X.shape[1], 150)) / 8, 0)])
    with pytest.warns(UserWarning, match="one class against the rest"):
        model = LogisticRegressionALO(ridges=5, refits="none").fit(wide, y)
    assert model.multi_class_ == "one-vs-rest"
    assert model.coef_.shape == (10, wide.shape[1])
    assert np.allclose(model.predict_proba(wide).sum(axis=1), 1)
    assert model.alo_error_ < 0.2
    assert np.array_equal(model.predict(wide), model.classes_[model.predict_proba(wide).argmax(axis=1)])


@pytest.mark.parametrize(("ridges", "said"), [([10.0, 5.0], "smallest penalty"), ([1e-6, 1e-7], "largest penalty")])
def test_the_end_of_the_grid_is_reported(ridges, said):
    X, y = table("cancer", 150)
    with pytest.warns(UserWarning, match=said):
        LogisticRegressionALO(ridges=ridges).fit(X, y)


def test_a_row_alone_in_its_class_is_reported():
    X = table("cancer", 40)[0]
    with pytest.warns(UserWarning, match="cannot be left out"):
        LogisticRegressionALO(ridges=5).fit(X, np.arange(len(X)) == 3)


def test_an_ordinary_fit_says_nothing():
    X, y = table("cancer", 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LogisticRegressionALO().fit(X, y)
    assert model.score(X, y) > 0.97
    assert model.multi_class_ == "binary"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ridges": 0}, "whole number"),
        ({"ridges": 2.5}, "whole number"),
        ({"ridges": [0.1, -1.0]}, "finite numbers > 0"),
        ({"ridges": []}, "finite numbers > 0"),
        ({"multi_class": "ovr"}, "one-vs-rest"),
        ({"refits": "some"}, "near-best"),
        ({"refits": 1.5}, "share of the rows"),
    ],
)
def test_bad_options(options, said):
    X, y = table("cancer", 30)
    with pytest.raises(InputError, match=said):
        LogisticRegressionALO(**options).fit(X, y)


def test_one_class():
    with pytest.raises(InputError, match="one class"):
        LogisticRegressionALO().fit(np.eye(4), np.zeros(4))
