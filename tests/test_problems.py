"""Models and problems: losses, gradients and population risks against formulas written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riron.dynamics import gradient_descent, sgd
from riron.errors import InputError
from riron.lab.running import simulate
from riron.models import Linear, TwoLayer, random_features
from riron.problems import (
    Composed,
    GaussianLinear,
    LeastSquares,
    OnePass,
    TeacherStudent,
    covariances,
    from_arrays,
    losses,
)
from riron.problems.gaussian_nodes import gaussian_nodes
from riron.problems.sampling import scaled_words, uniform_index

pytestmark = pytest.mark.usefixtures("quick_compilation", "float64")

KEY = lambda k: jax.random.key(k)


@pytest.mark.parametrize(
    ("name", "f", "y", "value"),
    [
        ("squared", 3.0, 1.0, 2.0),
        ("squared", [3.0, 0.0], [1.0, 1.0], 2.5),
        ("absolute", -2.0, 1.0, 3.0),
        ("huber", 0.5, 0.0, 0.125),
        ("huber", 3.0, 0.0, 2.5),
        ("logistic", 2.0, -1.0, np.log1p(np.exp(2.0))),
        ("hinge", 0.25, 1.0, 0.75),
        ("hinge", 2.0, 1.0, 0.0),
        ("smoothed_hinge", 0.5, 1.0, 0.125),
        ("smoothed_hinge", -2.0, 1.0, 2.5),
        ("softmax", [1.0, 2.0, 0.0], [0.0, 1.0, 0.0], np.log(np.exp([1.0, 2, 0]).sum()) - 2),
    ],
)
def test_losses_have_their_values(name, f, y, value):
    np.testing.assert_allclose(losses.to_loss(name)(jnp.asarray(f), jnp.asarray(y)), value, rtol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_gradient_of_a_batch_is_the_formula(ridge):
    rng = np.random.default_rng(0)
    X, y, W = rng.normal(size=(9, 4)), rng.normal(size=(9, 3)), rng.normal(size=(3, 4))
    problem = from_arrays(X, y, ridge=ridge)
    objective, index = problem.objective(problem.data), np.array([2, 2, 7])
    residual = X[index] @ W.T - y[index]
    np.testing.assert_allclose(objective.gradient(W, index), residual.T @ X[index] / 3 + ridge * W, rtol=1e-12)
    value = (residual**2).sum() / 6 + ridge * (W**2).sum() / 2
    np.testing.assert_allclose(objective.value(W, index), value, rtol=1e-12)


def test_from_arrays_measures_without_the_ridge_term():
    rng = np.random.default_rng(1)
    X, labels = rng.normal(size=(30, 5)), rng.integers(0, 3, 30)
    Y, W = np.eye(3)[labels], rng.normal(size=(3, 5))
    problem = from_arrays(X[:20], Y[:20], X_test=X[20:], y_test=Y[20:], ridge=0.7)
    measured = problem.measure(problem.objective(problem.data), jnp.asarray(W))
    half = lambda rows: ((X[rows] @ W.T - Y[rows]) ** 2).sum(axis=1).mean() / 2
    np.testing.assert_allclose(measured["train_loss"], half(slice(20)), rtol=1e-12)
    np.testing.assert_allclose(measured["test_loss"], half(slice(20, None)), rtol=1e-12)
    wrong = (np.argmax(X[20:] @ W.T, axis=1) != labels[20:]).mean()
    np.testing.assert_allclose(measured["test_error"], wrong)


def test_classes_are_counted_by_sign_under_a_margin_loss_and_a_diverged_run_is_wrong():
    X, y = np.array([[1.0], [2.0], [-1.0]]), np.array([1.0, -1.0, -1.0])
    problem = from_arrays(X, y, X_test=X, y_test=y, loss="logistic")
    measure = lambda w: problem.measure(problem.objective(problem.data), jnp.array([w]))["test_error"]
    np.testing.assert_allclose([measure(1.0), measure(np.nan)], [1 / 3, 1.0])
    assert "test_error" not in from_arrays(X, y, X_test=X, y_test=y).measure_fresh(jnp.zeros(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": np.ones(3)}, "y has 3 rows and X has 4"),
        ({"X": np.full((4, 2), np.nan)}, "X holds 8 values that are not finite; the first is at row 0, column 0"),
        ({"X_test": np.ones((4, 2))}, "of X_test and y_test only one"),
        ({"X_test": np.ones((4, 3)), "y_test": np.ones(4)}, "rows of shape"),
        ({"ridge": -1.0}, "ridge=-1.0 must be"),
        ({"loss": "square"}, "did you mean 'squared'"),
    ],
)
def test_from_arrays_says_what_is_wrong(change, says):
    arguments = {"X": np.ones((4, 2)), "y": np.ones(4)} | change
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        from_arrays(**arguments)


def test_least_squares_risk_is_that_of_fresh_samples():
    spectrum, signal = covariances.power_law(6, 1.0), np.linspace(-1, 1, 6)
    problem, n = LeastSquares(spectrum, signal, 0.25), 40_000
    X, y = problem.sample(KEY(0), n)
    np.testing.assert_allclose(np.cov(X.T), np.diag(spectrum), atol=4.5 * spectrum.max() * np.sqrt(2 / n))
    w = jnp.asarray(np.random.default_rng(2).normal(size=6))
    fresh = (X @ w - y) ** 2 / 2
    measured = problem.measure_fresh(w)
    error = float(measured["test_loss"] - fresh.mean())
    limit = 4.5 * float(fresh.std()) / np.sqrt(n)
    assert abs(error) < limit
    assert abs(error - 0.25 / 2) > limit, "leaving the label noise out must be seen"
    np.testing.assert_allclose(measured["test_loss"] - measured["excess_risk"], 0.125)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([1.0, 1.0], [1.0]), "give one signal each"),
        (([1.0, -1.0], [1.0, 1.0]), "negative eigenvalue -1 at position 1"),
        (([1.0], [np.nan]), "signal holds 1 value that is not finite"),
        (([1.0], [1.0], -0.1), "label_noise=-0.1"),
    ],
)
def test_least_squares_says_what_is_wrong(arguments, says):
    with pytest.raises(InputError, match=says):
        LeastSquares(*arguments)


def test_a_problem_composed_of_parts_gives_the_numbers_of_the_hand_made_one():
    made = LeastSquares(np.ones(8), np.ones(8), 0.1)
    composed = Composed(GaussianLinear(made.spectrum, made.signal, made.label_noise), Linear(8))
    run = lambda problem: simulate(problem, sgd(step_size=0.02, batch=2), n=16, record=[0, 20], seeds=3)
    np.testing.assert_array_equal(run(made).train_loss, run(composed).train_loss)


def test_targets_that_do_not_fit_the_model_are_refused():
    problem = LeastSquares(np.ones(3), np.ones(3))
    with pytest.raises(InputError, match="outputs have shape"):
        problem.objective((jnp.ones((5, 3)), jnp.ones((5, 2))))
    with pytest.raises(InputError, match="does not take X"):
        problem.objective((jnp.ones((5, 4)), jnp.ones(5)))


# Models


def test_mup_with_plain_gradients_is_mean_field_with_its_mobility():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    runs = []
    for scaling in ("mean-field", "mup"):
        problem = from_arrays(X, y, model=TwoLayer(3, 16, scaling, "tanh"), ridge=0.01)
        runs.append(simulate(problem, gradient_descent(step_size=0.2), record=[0, 5, 50], seeds=2).train_loss)
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-9)
    assert (runs[0][:, 0] > 1.2 * runs[0][:, 2]).all()


def test_ntk_and_frozen_layers():
    X = np.random.default_rng(4).normal(size=(5, 3))
    ntk = TwoLayer(3, 400, "ntk", "relu")
    params = ntk.init(KEY(0))
    outputs = np.maximum(X @ np.asarray(params.first).T, 0) @ np.asarray(params.second) / 20
    np.testing.assert_allclose(ntk(params, X), outputs, rtol=1e-10)
    frozen = TwoLayer(3, 400, "ntk", "relu", second=params.second)
    assert frozen.init(KEY(0)).second is None
    np.testing.assert_allclose(frozen(params._replace(second=None), X), outputs, rtol=1e-10)
    with pytest.raises(InputError, match="nothing is left to train"):
        TwoLayer(3, 400, first=params.first, second=params.second)
    with pytest.raises(InputError, match="second layer has shape"):
        TwoLayer(3, 400, second=np.ones(3))
    with pytest.raises(InputError, match="did you mean 'relu'"):
        TwoLayer(3, 400, activation="rely")


def test_random_features_are_linear_in_their_readout():
    model = random_features(KEY(1), 3, 50, outputs=2)
    X, a = np.random.default_rng(5).normal(size=(4, 3)), np.random.default_rng(6).normal(size=(2, 50))
    np.testing.assert_allclose(model(a, X), model.features(X) @ a.T)
    np.testing.assert_allclose(model.features(X), np.maximum(X @ np.asarray(model.weights).T, 0) / np.sqrt(50))
    assert (model.init(KEY(0)) == 0).all()


# Sampling


def test_scaled_words_are_the_exact_product():
    words = np.random.default_rng(7).integers(0, 2**32, 2000, dtype=np.uint32)
    for n in (1, 7, 2000, 65_535, 65_537, 123_456_789, 2**31 - 1):
        exact = [int(w) * n >> 32 for w in words]
        np.testing.assert_array_equal(scaled_words(jnp.asarray(words), n), exact)


def test_row_numbers_are_uniform():
    counts = np.bincount(np.asarray(uniform_index(KEY(2), 10, (50_000,))), minlength=10)
    chi2 = ((counts - 5000) ** 2 / 5000).sum()
    assert len(counts) == 10
    assert chi2 < 33.7  # 1e-4 of chi-square with 9 degrees of freedom


# Teacher and student


def test_start_has_exactly_the_covariances_asked_for():
    gram, q, rho = (
        np.array([[1.0, 0.2], [0.2, 0.7]]),
        np.array([[0.5, 0.1], [0.0, 0.3]]),
        np.array([[1.0, 0.4], [0.4, 2.0]]),
    )
    spectrum = np.linspace(0.2, 1.8, 60)
    problem = TeacherStudent(
        60, start_gram=gram, overlap=q, teacher_gram=rho, second=[1.0, -1.0], spectrum=spectrum, activation="erf"
    )
    theta = np.asarray(problem.initial(KEY(3)).first).T
    S = np.diag(spectrum) / 60
    teacher = np.asarray(problem.teacher)
    np.testing.assert_allclose(theta.T @ S @ theta, gram, atol=1e-10)
    np.testing.assert_allclose(theta.T @ S @ teacher, q, atol=1e-10)
    np.testing.assert_allclose(teacher.T @ S @ teacher, rho, atol=1e-10)


def test_a_start_that_is_not_matched_has_them_on_average():
    problem = TeacherStudent(400, overlap=0.5, matched=False)
    theta = np.stack([np.asarray(problem.initial(KEY(k)).first[0]) for k in range(60)])
    overlaps = theta @ np.asarray(problem.teacher)[:, 0] / 400
    lengths = (theta**2).sum(axis=1) / 400
    assert 0.005 < overlaps.std() < 0.1
    assert abs(overlaps.mean() - 0.5) < 4.5 * overlaps.std() / np.sqrt(60)
    assert abs(lengths.mean() - 1.0) < 4.5 * lengths.std() / np.sqrt(60)


@pytest.mark.parametrize("entries", ["gaussian", "rademacher"])
def test_fresh_losses_are_those_of_a_fresh_sample(entries):
    problem = TeacherStudent(
        300, link="erf", activation="tanh", second=[1.0, 0.5], teacher_gram=[[1.0, 0.3], [0.3, 1.0]], overlap=0.3,
        sign=True, loss="logistic", label_noise=0.1, entries=entries,
    )  # fmt: skip
    params = problem.initial(KEY(4))
    n = 20_000
    X, y = problem.sample(KEY(5), n)
    np.testing.assert_allclose((np.asarray(X) ** 2).mean(), 1 / 300, rtol=0.01)
    f = problem.model(params, X)
    each = {"test_loss": np.log1p(np.exp(-y * f)), "test_error": (y * f < 0).astype(float)}
    measured = problem.measure_fresh(params)
    for name, values in each.items():
        assert abs(measured[name] - values.mean()) < 4.5 * values.std() / np.sqrt(n) + 1e-3, name


def test_committee_loss_is_saad_and_solla():
    """E loss = (1/2) sum c_j c_k (2/pi) asin(S_jk / sqrt((1 + S_jj)(1 + S_kk))) + noise / 2 for erf(x / sqrt 2)."""
    problem = TeacherStudent(
        50, link="erf", activation="erf", second=[1.0, 1.0], teacher_gram=[[1.0, 0.2], [0.2, 0.8]],
        overlap=[[0.4, 0.1], [0.0, 0.5]], start_gram=[[1.0, 0.3], [0.3, 0.6]], label_noise=0.2,
    )  # fmt: skip
    S = np.block([[np.asarray(problem.start_gram), np.asarray(problem.start_overlap)],
                  [np.asarray(problem.start_overlap).T, np.asarray(problem.teacher_gram)]])  # fmt: skip
    c, one = np.array([1.0, 1.0, -1.0, -1.0]), 1 + np.diag(S)
    exact = c @ (2 / np.pi * np.arcsin(S / np.sqrt(np.outer(one, one)))) @ c / 2 + 0.1
    np.testing.assert_allclose(problem.measure_fresh(problem.initial(KEY(6)))["test_loss"], exact, rtol=1e-3)


def test_linear_teacher_and_student_are_averaged_exactly():
    problem = TeacherStudent(40, overlap=0.3, start_gram=1.4, teacher_gram=2.0, label_noise=0.5)
    measured = problem.measure_fresh(problem.initial(KEY(7)))
    np.testing.assert_allclose(measured["test_loss"], (1.4 - 2 * 0.3 + 2.0 + 0.5) / 2, rtol=1e-10)
    np.testing.assert_allclose([measured["overlap"], measured["self_overlap"]], [0.3, 1.4], rtol=1e-10)


def test_overlaps_of_several_directions_get_named_dims():
    problem = TeacherStudent(20, second=[1.0, 1.0], activation="relu")
    runs = simulate(problem, sgd(step_size=0.5), n=30, record=[0, 10], seeds=2)
    assert runs.overlap.dims == ("seed", "step", "student", "teacher")
    assert runs.self_overlap.dims == ("seed", "step", "student", "other_student")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"overlap": 1.5}, "not positive semidefinite"),
        ({"overlap": [[0.1, 0.1]]}, "overlap"),
        ({"spectrum": np.ones(3)}, "spectrum has 3 entries and d=10"),
        ({"entries": "cauchy"}, "choose one of gaussian"),
        ({"teacher_gram": 0.0, "d": 10, "overlap": 0.0}, "not positive definite"),
        ({"d": 1}, "no room"),
        ({"label_noise": -1.0}, "label_noise"),
    ],
)
def test_teacher_student_says_what_is_wrong(change, says):
    with pytest.raises(InputError, match=says):
        TeacherStudent(**({"d": 10} | change))


def test_gaussian_nodes_have_exact_second_moments():
    nodes = gaussian_nodes(4, 1024)
    np.testing.assert_allclose(nodes.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(nodes.T @ nodes / 1024, np.eye(4), atol=1e-10)
    np.testing.assert_allclose((nodes**4).mean(axis=0), 3, rtol=0.05)


def test_one_pass_measures_no_training_loss():
    runs = simulate(OnePass(LeastSquares(np.ones(4), np.ones(4))), sgd(step_size=0.1, batch=3), record=[0, 5], seeds=2)
    assert set(runs.data_vars) == {"test_loss", "excess_risk", "gradient_evaluations"}
    assert (runs.gradient_evaluations[:, 1] == 15).all()
