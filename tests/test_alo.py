"""Approximate leave-one-out: exact for the squared loss, close for others, exact after refits; weights as copies."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from riron.errors import InputError
from riron.theory.alo import alo_path, approximate, refit
from riron.theory.alo_losses import LOGISTIC, SQUARED, RowLoss, contrasts, softmax_loss
from riron.theory.alo_newton import make_design, merge_copies, newton
from riron.theory.learning_curve import ridge_path


def sample(n, p, seed=0, outputs=1, tail=0.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.linspace(1, 2, p) + 1.0
    X *= np.exp(tail * rng.normal(size=(n, 1)))
    score = X @ rng.normal(size=(p, outputs)) / np.sqrt(p) + rng.normal(size=(n, outputs))
    return X, score - score.mean(axis=0)


def refitted(X, Y, value, slope, lam, i, outputs, Q=None):
    """Scores of row i by training on the others with a general minimiser: sum/n, as if n rows were there."""
    keep = np.arange(len(X)) != i

    def problem(w):
        W, b = w[:-outputs].reshape(-1, outputs), w[-outputs:]
        U = X[keep] @ W + b
        G = slope(U, Y[keep]) / len(X)
        gradient = np.concatenate([(X[keep].T @ G + lam * W).ravel(), G.sum(axis=0)])
        return value(U, Y[keep]).sum() / len(X) + lam / 2 * (W**2).sum(), gradient

    found = minimize(problem, np.zeros((X.shape[1] + 1) * outputs), jac=True, method="BFGS", options={"gtol": 1e-9})
    return X[i] @ found.x[:-outputs].reshape(-1, outputs) + found.x[-outputs:]


@pytest.mark.parametrize("p", [6, 40])
def test_squared_loss_is_exact_and_equals_ridge_regression(p):
    X, Y = sample(30, p, outputs=2)
    lams = np.array([0.05, 1.0])
    path = ridge_path(X, Y, ridges=lams)
    for fit, loss in zip(alo_path(make_design(X), Y, lams, SQUARED, refits="none"), path.loss, strict=True):
        assert np.isclose(fit.loss, loss, rtol=1e-9)


def test_a_wrong_formula_is_caught():
    """Leaving the denominator out, or the row in: far from the exact value that the right one meets."""
    X, Y = sample(30, 6)
    fit = alo_path(make_design(X), Y, np.array([0.05]), SQUARED)[0]
    exact = ridge_path(X, Y, ridges=np.array([0.05])).loss[0]
    for wrong in (fit.scores, fit.scores + fit.lever[:, None] / 30 * (fit.scores - Y)):
        assert SQUARED.value(wrong, Y).mean() < 0.97 * exact


@pytest.mark.parametrize(("p", "lam"), [(5, 0.02), (60, 0.1)])  # fewer and more columns than rows
def test_logistic_refits_equal_training_without_the_row(p, lam):
    X, score = sample(40, p, seed=p, tail=0.7)
    Y = np.sign(score)
    design = make_design(X)
    W, inverse = newton(design, Y, LOGISTIC, lam, np.zeros((design.Z.shape[1], 1)))
    weights, b = design.coefficients(W)
    near = approximate(design, Y, LOGISTIC, lam, W, inverse)
    exact = refit(design, Y, LOGISTIC, near, inverse)
    assert exact.refitted.all()
    assert np.allclose(X @ weights + b, near.scores, atol=1e-9)
    gaps = np.array([])
    for i in range(0, 40, 4):
        truth = refitted(X, Y, LOGISTIC.value, LOGISTIC.slope, lam, i, 1)
        assert np.allclose(exact.left_out[i], truth, atol=1e-3 * (1 + abs(truth[0] - near.scores[i, 0])))
        gaps = np.append(gaps, (near.left_out[i, 0] - truth[0]) / (near.scores[i, 0] - truth[0]))
    assert np.median(np.abs(gaps)) < 0.3  # the approximation finds most of what leaving out changes


def test_softmax_refits_equal_training_without_the_row():
    X, score = sample(36, 4, outputs=3)
    Y = np.eye(3)[score.argmax(axis=1)]
    loss, Q, lam = softmax_loss(3), contrasts(3), 0.05
    fits = alo_path(make_design(X), Y, np.array([lam]), loss, refits=1.0)
    value = lambda U, Y: np.log(np.exp(U).sum(axis=1)) - (U * Y).sum(axis=1)
    slope = lambda U, Y: np.exp(U) / np.exp(U).sum(axis=1, keepdims=True) - Y
    for i in (0, 7, 20):
        truth = refitted(X, Y, value, slope, lam, i, 3)
        truth = truth - truth.mean()  # the intercepts' common part is nothing
        assert np.allclose(Q @ fits[0].left_out[i], truth, atol=2e-3)


def test_contrasts_are_orthonormal_and_sum_to_zero():
    Q = contrasts(5)
    assert np.allclose(Q.T @ Q, np.eye(4))
    assert np.allclose(Q.sum(axis=0), 0)


@pytest.mark.parametrize("loss", [LOGISTIC, softmax_loss(4), SQUARED])
def test_derivatives_agree_with_differences(loss):
    rng = np.random.default_rng(0)
    m = 3 if loss is not LOGISTIC else 1
    u = rng.normal(size=(5, m))
    y = {
        1: np.sign(rng.normal(size=(5, 1))),
        3: rng.normal(size=(5, 3)) if loss is SQUARED else np.eye(4)[[0, 1, 2, 3, 0]],
    }
    y, h = y[m], 1e-5
    for a in range(m):
        e = h * np.eye(m)[a]
        difference = (loss.value(u + e, y) - loss.value(u - e, y)) / (2 * h)
        assert np.allclose(loss.slope(u, y)[:, a], difference, atol=1e-8)
        difference = (loss.slope(u + e, y) - loss.slope(u - e, y)) / (2 * h)
        assert np.allclose(loss.curvature(u, y)[:, a], difference, atol=1e-8)


def test_any_convex_loss():
    """log cosh, written by the user with its two derivatives."""
    loss = RowLoss(
        value=lambda u, y: np.log(np.cosh(u - y)).sum(axis=-1),
        slope=lambda u, y: np.tanh(u - y),
        curvature=lambda u, y: (1 - np.tanh(u - y) ** 2)[..., None] * np.eye(u.shape[-1]),
    )
    X, Y = sample(30, 4)
    fit = alo_path(make_design(X), Y, np.array([0.1]), loss, refits=1.0)[0]
    for i in (1, 12):
        assert np.allclose(fit.left_out[i], refitted(X, Y, loss.value, loss.slope, 0.1, i, 1), atol=1e-3)


def test_refits_cure_the_optimism_of_heavy_rows():
    """Log-normal columns, a rare class and a small penalty: the approximation is too low, a few refits mend it."""
    rng = np.random.default_rng(0)
    X = np.exp(2 * rng.normal(size=(100, 80)))
    score = np.log(X) @ rng.normal(size=80) / 9 + rng.normal(size=100) / 2
    Y = np.sign(score - np.quantile(score, 0.85))[:, None]
    design = make_design(X / X.std(axis=0))
    near, few, exact = (alo_path(design, Y, np.array([8e-4]), LOGISTIC, refits=k)[0] for k in ("none", 0.3, 1.0))
    assert near.loss < 0.96 * exact.loss
    assert near.heaviest > 0.9
    assert abs(few.loss - exact.loss) < abs(near.loss - exact.loss) / 5
    assert few.refitted.sum() == 30


def test_automatic_refits_reach_the_penalty_chosen():
    X, score = sample(120, 20, tail=1.0)
    Y, scale = np.sign(score), (X**2).sum() / 120
    fits = alo_path(make_design(X), Y, scale * np.geomspace(1, 1e-5, 9), LOGISTIC)
    best = int(np.argmin([fit.loss for fit in fits]))
    assert fits[best].refitted.all()
    assert [fit.ridge for fit in fits] == sorted((fit.ridge for fit in fits), reverse=True)


def test_weights_are_repetitions_left_out_together():
    X, score = sample(30, 5)
    Y = np.sign(score)
    weights = np.random.default_rng(1).integers(1, 4, size=30)
    lam = np.array([0.1])
    fit = alo_path(make_design(X, weights=weights.astype(float)), Y, lam, LOGISTIC, refits=1.0)[0]
    which = np.repeat(np.arange(30), weights)
    one = alo_path(make_design(X[which]), Y[which], lam, LOGISTIC, refits="none")[0]
    assert np.allclose(fit.scores[which], one.scores, atol=1e-8)
    keep = which != 4
    rows = make_design(X[which][keep])
    share = len(keep) / keep.sum()
    left = alo_path(rows, Y[which][keep], lam * share, LOGISTIC, refits="none")[0]
    w, b = rows.coefficients(left.W)
    assert np.allclose(X[4] @ w + b, fit.left_out[4], atol=1e-3)
    assert np.array_equal(merge_copies(X[which], Y[which])[1], which)


def test_without_intercept_and_a_row_alone_in_its_class():
    X, score = sample(25, 3)
    Y = np.sign(score)
    design = make_design(X, intercept=False)
    fit = alo_path(design, Y, np.array([0.1]), LOGISTIC, refits="none")[0]
    w = fit.W[:, 0]
    gradient = X.T @ (-Y[:, 0] * expit(-Y[:, 0] * (X @ w))) / 25 + 0.1 * w
    assert np.abs(gradient).max() < 1e-8
    lonely = np.where(np.arange(25) == 3, 1.0, -1.0)[:, None]
    fit = alo_path(make_design(X), lonely, np.array([0.1]), LOGISTIC, refits=1.0)[0]
    assert np.all(np.isfinite(fit.left_out))


def test_a_loss_without_minimum_is_reported():
    X, _ = sample(20, 3)
    with pytest.raises(InputError, match="did not converge"):
        alo_path(make_design(X), np.ones((20, 1)), np.array([0.1]), LOGISTIC)
