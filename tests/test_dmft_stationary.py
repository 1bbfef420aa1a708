"""Where SGD settles, and the law of its parameters: against drawn spectra, direct minimisation and runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

from riron.errors import InputError
from riron.problems import TeacherStudent
from riron.theory.dmft import (
    normal_floor,
    parameter_law,
    sampling_floor,
    solve,
    stationary_convex,
    stationary_least_squares,
    time_averaged,
    wasserstein_to_normal,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def linear(**options):
    return TeacherStudent(50, label_noise=0.4, teacher_gram=2.0, **options)


def iterated(delta, lam, dt, gain, steps=600, d=900):
    """train_loss, test_loss of the moments of SGD along the eigenvectors of one drawn covariance, at late times."""
    X = np.random.default_rng(0).normal(size=(round(delta * d), d)) / np.sqrt(d)
    x = np.clip(np.linalg.eigvalsh(X.T @ X / delta), 0, None)
    a, v = np.zeros((2, d)), np.zeros(d)  # along the teacher and the noise; the chance of the steps
    for _ in range(steps):
        error = a - np.array([[1.0], [0.0]])
        each = 2.0 * delta * x * error[0] ** 2 + 0.4 * (np.sqrt(delta * x) * error[1] - 1) ** 2 + delta * x * v
        L2 = np.mean(each * (x > 1e-9)) / delta + max(0, 1 - 1 / delta) * 0.4
        test = np.mean(2.0 * error[0] ** 2 + 0.4 * error[1] ** 2 + v) + 0.4
        a = a - dt * (lam * a + x * error - np.stack([0 * x, np.sqrt(x / delta)]))
        v = (1 - dt * (lam + x)) ** 2 * v + gain * x * L2
    return L2 / 2, test / 2


@pytest.mark.parametrize(("delta", "clock"), [(2.0, "poisson"), (2.0, "bernoulli"), (0.5, "poisson")])
def test_the_closed_form_is_where_the_recursion_settles(delta, clock):
    tau, dt, lam = 0.6, 0.1, 0.3
    gain = tau * dt - (dt**2 / delta if clock == "bernoulli" else 0)
    train, test = iterated(delta, lam, dt, gain)
    law = stationary_least_squares(linear(), delta=delta, sgd_temperature=tau, dt=dt, clock=clock, ridge=lam)
    np.testing.assert_allclose([law.train_loss, law.test_loss], [train, test], rtol=4e-3)
    other = stationary_least_squares(linear(), delta=delta, sgd_temperature=1.1 * tau, dt=dt, clock=clock, ridge=lam)
    assert abs(float(other.train_loss) / train - 1) > 1e-2
    q, Q = float(law.overlap), float(law.self_overlap)
    np.testing.assert_allclose(law.test_loss, (Q - 2 * q + 2.0 + 0.4) / 2)
    assert q**2 <= 2.0 * Q


def test_time_averaged_sweeps_settle_at_the_closed_form():
    told = {"delta": 2.0, "ridge": 0.5}
    line = time_averaged(linear(), horizon=12.0, dt=0.1, batch_fraction=0.1, key=1, paths=8192, groups=8, **told)
    law = stationary_least_squares(linear(), sgd_temperature=0.5, dt=0.1, clock="bernoulli", **told)
    for name in ("train_loss", "test_loss", "overlap", "self_overlap"):
        # t quantile of 7 degrees of freedom at 1e-4, and the bias of 1024 paths in a group
        assert abs(float(line[name] - law[name])) < 8 * float(line[f"{name}_stderr"]) + 0.01 * float(law[name]), name
    without = stationary_least_squares(linear(), **told)
    assert float(line.train_loss) > 1.05 * float(without.train_loss)


def test_the_static_problem_of_least_squares_is_the_closed_form():
    told = {"delta": 1.5, "ridge": 0.2}
    static, law = stationary_convex(linear(), **told), stationary_least_squares(linear(), **told)
    for name in ("train_loss", "test_loss", "overlap", "self_overlap"):
        np.testing.assert_allclose(static[name], law[name], rtol=3e-4, err_msg=name)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_the_static_problem_is_where_minimisation_ends(loss):
    """Direct minimisation; the hinge, smoothed within .02 of its kink, to tell the optimiser where to go."""
    d, n, lam, width = 200, 400, 0.3, 0.02
    soft = {"logistic": lambda u: np.logaddexp(0, -u), "hinge": lambda u: width * np.logaddexp(0, (1 - u) / width)}[
        loss
    ]
    slope = {"logistic": lambda u: -1 / (1 + np.exp(u)), "hinge": lambda u: -1 / (1 + np.exp(-(1 - u) / width))}[loss]
    rng, found = np.random.default_rng(3), []
    for _ in range(12):
        X, star = rng.normal(size=(n, d)) / np.sqrt(d), rng.normal(size=d)
        star *= np.sqrt(2.0 * d) / np.linalg.norm(star)
        y = np.sign(X @ star + np.sqrt(0.2) * rng.normal(size=n))
        # sum_i loss / (n / d) + lam |theta|^2 / 2 is what steps of dt d on the mean, with ridge lam dt, descend
        value = lambda th, X=X, y=y: (soft(y * (X @ th)).sum() / (n / d) + lam * th @ th / 2) / d
        grad = lambda th, X=X, y=y: (X.T @ (slope(y * (X @ th)) * y) / (n / d) + lam * th) / d
        theta = minimize(value, np.zeros(d), jac=grad, method="L-BFGS-B", options={"gtol": 1e-9, "maxiter": 3000}).x
        plain = np.logaddexp(0, -y * (X @ theta)) if loss == "logistic" else np.maximum(0, 1 - y * (X @ theta))
        found.append((plain.mean(), theta @ star / d, theta @ theta / d))
    found = np.array(found)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    problem = TeacherStudent(50, loss=loss, sign=True, label_noise=0.2, teacher_gram=2.0)
    law = stationary_convex(problem, delta=2.0, ridge=lam)
    values = np.array([float(law[name]) for name in ("train_loss", "overlap", "self_overlap")])
    np.testing.assert_array_less(np.abs(values - found.mean(axis=0)), 6 * error + 0.015 * np.abs(values))
    other = stationary_convex(problem, delta=2.0, ridge=1.3 * lam)
    assert abs(float(other.self_overlap) - found[:, 2].mean()) > 6 * error[2] + 0.015 * values[2]


def test_wasserstein_distance_is_an_integral_over_quantiles():
    samples = np.random.default_rng(0).normal(size=7) + 0.3
    ordered = np.sort(samples)
    exact = sum(quad(lambda u, x=x: (x - 1.7 * norm.ppf(u)) ** 2, k / 7, (k + 1) / 7)[0] for k, x in enumerate(ordered))
    with jax.enable_x64(True):
        np.testing.assert_allclose(wasserstein_to_normal(jnp.asarray(samples), 1.7), np.sqrt(exact), rtol=1e-6)
        far = wasserstein_to_normal(jnp.full(4, 10.0), 1e-9)
    np.testing.assert_allclose(far, 10.0)


def test_the_floor_is_that_of_independent_draws():
    """Distances written out with the means of slices of the normal law; the shape's after mean and variance are made
    those of the law."""
    rng, d, found = np.random.default_rng(2), 60, []
    slices = -np.diff(norm.pdf(norm.ppf(np.arange(d + 1) / d)))
    distance = lambda g: np.sqrt(np.mean(g**2) - 2 * np.sort(g) @ slices + 1)
    for _ in range(2000):
        g = rng.normal(size=d)
        found.append((distance(g), distance((g - g.mean()) / g.std())))
    error = np.std(found, axis=0) / np.sqrt(len(found))
    for k, (mean, own) in enumerate(normal_floor(d).values()):
        assert abs(mean - np.mean(found, axis=0)[k]) < 4.5 * np.hypot(error[k], own)


def test_parameters_of_gradient_descent_are_as_far_as_independent_draws():
    """Least squares, one spectrum: the law of theta given the teacher's, with a wrong variance seen."""
    told = {"delta": 2.0, "horizon": 3.0, "dt": 0.3, "record": [0.0, 3.0], "paths": 4096, "groups": 4}
    problem, rng, d = linear(), np.random.default_rng(1), 300
    slope, sd = parameter_law(solve(problem, **told), problem)
    np.testing.assert_allclose([slope[0], sd[0]], [0, 1], atol=1e-6)
    distance = []
    for _ in range(16):
        X, star, theta = rng.normal(size=(2 * d, d)) / np.sqrt(d), rng.normal(size=d), rng.normal(size=d)
        star *= np.sqrt(2.0 * d) / np.linalg.norm(star)
        y = X @ star + np.sqrt(0.4) * rng.normal(size=2 * d)
        for _ in range(10):
            theta = theta - 0.3 / 2 * X.T @ (X @ theta - y)
        with jax.enable_x64(True):
            distance.append(float(wasserstein_to_normal(jnp.asarray(theta - slope[1] * star), sd[1])))
    floor = sampling_floor(problem, d=d, draws=300, **told)
    assert floor.wasserstein.dims == ("t",)
    ratio = np.mean(distance) / float(floor.wasserstein[1])
    assert abs(ratio - 1) < 4.5 * np.std(distance, ddof=1) / 4 / float(floor.wasserstein[1]) + 0.15
    wrong = sampling_floor(problem, d=d, draws=300, scale=2.0, **told)
    np.testing.assert_allclose(wrong.wasserstein, 2 * floor.wasserstein)


TANH = TeacherStudent(50, activation="tanh", link="tanh")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stationary_least_squares(linear(), delta=0.5), "no stationary law"),
        (lambda: stationary_least_squares(linear(), delta=2.0, sgd_temperature=5.0, ridge=0.1), "< 2.1"),
        (lambda: stationary_least_squares(linear(), delta=2.0, dt=1.0, ridge=0.1), "use dt < 0.6"),
        (lambda: stationary_least_squares(TANH, delta=2.0, ridge=0.1), "one linear unit"),
        (lambda: stationary_convex(linear(), delta=2.0), "needs ridge > 0"),
        (lambda: stationary_convex(TANH, delta=2.0, ridge=0.1), "not convex"),
        (lambda: time_averaged(linear(), delta=2.0, horizon=2.0, dt=0.1, burn_in=3.0), "not before the horizon"),
        (lambda: time_averaged(linear(), delta=2.0, horizon=2.0, dt=0.1, clocks="none"), "no option 'clocks'"),
    ],
)
def test_bad_input_is_said_in_one_sentence(call, says):
    with pytest.raises(InputError, match=says):
        call()
