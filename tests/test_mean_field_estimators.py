"""MeanFieldRegressor and MeanFieldClassifier: scikit-learn's own checks, certificates, many classes, bad input."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from riron.errors import InputError
from riron.estimators import MeanFieldClassifier, MeanFieldRegressor, mean_field_fit
from riron.lab.compiling import use_persistent_cache

QUICK = {"width": 100, "steps": 300, "certify": False, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = np.sin(2 * X[:, 0]) + 0.1 * RNG.normal(size=60)
WARM = {"lam1": 0.1, "lam2": 0.1, "width": 200, "steps": 400, "tol": 0.1, "random_state": 1}


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module", autouse=True)
def _compile_once_per_machine():
    use_persistent_cache()


@parametrize_with_checks([MeanFieldRegressor(**QUICK), MeanFieldClassifier(**QUICK)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted():
    return MeanFieldRegressor(**WARM).fit(X, Y)


def test_the_regressor_is_certified_and_predicts_with_the_certified_law(fitted):
    certificate = fitted.certificate_
    assert certificate.status == "certified"
    assert certificate.relative <= 0.1
    assert certificate.level >= 0.975  # several certificates may be asked for
    assert fitted.score(X, Y) > 0.5
    # The predictor is the sample that is certified, written out: standardised columns over sqrt d, 5 tanh(v.x + b).
    features = (X - X.mean(axis=0)) / X.std(axis=0) / np.sqrt(2)
    W, weights = certificate.sample.points.astype(np.float64), certificate.sample.weights
    H = 5 * np.tanh(W[:, :2] @ features.T + W[:, 2:])
    mean = weights @ H
    assert np.allclose(fitted.predict(X), Y.mean() + Y.std() * mean, atol=1e-8)
    assert np.allclose(fitted.predict_std(X), Y.std() * np.sqrt(weights @ H**2 - mean**2), atol=1e-8)
    assert np.allclose(mean, certificate.predictions, atol=1e-4)


def test_the_objective_is_that_of_the_standardised_problem(fitted):
    """The certified objective lies between 0 and the loss of predicting the mean, which is 1/2 in these units."""
    assert 0 < fitted.certificate_.objective_rel < 0.5
    assert fitted.certificate_.dual - 5 * fitted.certificate_.dual_stderr < fitted.certificate_.objective_rel


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(fitted):
    again = MeanFieldRegressor(**WARM).fit(X, Y)
    other = MeanFieldRegressor(**{**WARM, "random_state": 2}).fit(X, Y)
    assert np.array_equal(fitted.predict(X), again.predict(X))
    assert not np.array_equal(fitted.predict(X), other.predict(X))
    assert np.abs(fitted.predict(X) - other.predict(X)).max() < 0.5


def test_a_budget_that_is_too_small_says_so_and_still_predicts():
    with pytest.warns(ConvergenceWarning, match="nothing is certified: the next run would take"):
        model = MeanFieldRegressor(**{**WARM, "budget": 5e6}).fit(X, Y)
    assert model.certificate_.status == "inconclusive"
    assert model.certificate_.relative == np.inf
    assert np.isfinite(model.predict(X)).all()


def test_a_gap_over_the_tolerance_is_reported():
    with pytest.warns(ConvergenceWarning, match="over tol=0.0%"):
        MeanFieldRegressor(**{**WARM, "tol": 1e-5, "budget": 1.2e8}).fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_interrupted_fit_keeps_the_best_so_far(monkeypatch):
    trained = mean_field_fit.train

    def once(problem, W, key, steps, step_size):
        if steps > WARM["steps"]:
            raise KeyboardInterrupt
        return trained(problem, W, key, steps, step_size)

    monkeypatch.setattr(mean_field_fit, "train", once)
    monkeypatch.setattr(mean_field_fit, "NEWTON_REACH", 0.0)
    monkeypatch.setattr(mean_field_fit._Search, "noisy", False)
    with pytest.warns(UserWarning, match="interrupted"):
        model = MeanFieldRegressor(**{**WARM, "tol": 1e-6}).fit(X, Y)
    assert model.certificate_.status == "certified"
    assert model.n_iter_ == WARM["steps"]


def test_two_classes_with_a_certificate(capsys):
    model = MeanFieldClassifier(**WARM, verbose=True).fit(X, np.where(X[:, 0] > 0, "yes", "no"))
    assert model.certificate_.status == "certified"
    assert "within" in capsys.readouterr().out
    scores = model.decision_function(X)
    assert np.allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)))
    assert np.array_equal(model.predict(X) == "yes", scores > 0)
    assert model.score(X, np.where(X[:, 0] > 0, "yes", "no")) > 0.9
    assert model.predict_std(X).shape == (60,)


def test_many_classes_are_one_against_the_rest():
    features, labels = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MeanFieldClassifier(**{**WARM, "budget": 1e6}).fit(features, labels)
    assert len(model.certificate_) == 3
    p = model.predict_proba(features)
    assert np.allclose(p.sum(axis=1), 1)
    assert np.array_equal(model.predict(features), p.argmax(axis=1))
    assert model.score(features, labels) > 0.85
    assert model.predict_std(features).shape == (150, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lam2": 0.0}, "lam2=0.0 must be a finite number > 0"),
        ({"lam1": -1.0}, "lam1=-1.0"),
        ({"width": 0}, "width=0 must be a whole number"),
        ({"tol": 0.0}, "tol=0.0"),
        ({"level": 1.2}, "level=1.2"),
        ({"loss": "hinge"}, "must be 'squared' or 'huber'"),
        ({"neuron": "tanhh"}, "did you mean 'tanh'"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(InputError, match=said):
        MeanFieldRegressor(**options).fit(X, Y)


def test_one_class():
    with pytest.raises(InputError, match="one class"):
        MeanFieldClassifier().fit(X, np.zeros(60))
