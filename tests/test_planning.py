"""Plans: the constants that short runs measure against closed forms, the search, the sampler's plan, bad input."""

import json

import jax
import numpy as np
import pytest

from riron.cli import main
from riron.errors import InputError
from riron.forecast.planning import calibrate, plan
from riron.forecast.planning.calibration import Calibration
from riron.forecast.planning.langevin import at_the_mode
from riron.forecast.planning.planning import cheapest
from riron.problems import from_arrays
from riron.problems.mean_field import MeanFieldProblem

LAM = 0.2


def table(n=24, d=2):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    return X, X @ np.linspace(1, -0.5, d) + 0.5 * rng.standard_normal(n)


def test_the_constants_of_linear_neurons_are_the_closed_ones():
    X, y = table()
    problem = MeanFieldProblem(X, y, neuron=lambda w, x: w @ x, lam1=LAM, lam2=LAM)
    found = calibrate(problem, seed=3, time=60.0)
    assert found.fits
    n, S = len(y), X.T @ X / len(y)
    A = S + 2 * LAM * np.eye(2)
    # Small steps: N Cov(mean neuron) = lam2 A^-1.
    exact = LAM * np.trace(S @ np.linalg.inv(A)) / 2
    assert abs(found.c_width - exact) < 4.5 * found.stderr["c_width"] < 0.4 * exact
    # Noise of a minibatch at step eta, per eta c_B: C = (1 - eta A) C (1 - eta A) + eta^2 Cov(gradient).
    residual = X @ np.linalg.solve(A, X.T @ y / n) - y
    gradients = X * residual[:, None]
    noise = gradients.T @ gradients / n - np.outer(gradients.mean(0), gradients.mean(0))
    values, vectors = np.linalg.eigh(A)

    def of_batch(eta):
        relaxed = values[:, None] + values - eta * np.outer(values, values)
        return np.trace(S @ vectors @ (vectors.T @ noise @ vectors / relaxed) @ vectors.T) / 2

    error = 4.5 * found.stderr["c_batch"]
    assert of_batch(0.0) - error < found.c_batch < 1.05 * of_batch(found.step_size) + error < 2 * of_batch(0.0)
    # A wrong constant would be seen: without the interaction the variance is lam2 tr S / (4 lam1).
    assert abs(found.c_width - np.trace(S) / 4) > 10 * found.stderr["c_width"]
    distance = found.reference - X @ np.linalg.solve(A, X.T @ y / n)
    assert distance @ distance / (2 * n) < 10 * found.reference_variance


def made(**changes) -> Calibration:
    setting = {
        "c_width": 0.35, "c_step": 0.2, "c_batch": 2.7, "c_bias": 0.5, "stderr": {}, "chi_square": 5.0, "degrees": 5,
        "p_value": 0.4, "step_size": 0.05, "rate": 1.5, "settled_at": (3.0, 1e-3), "smallest_batch": 16, "n": 400,
        "fits": True, "runs": [], "reference": np.zeros(3), "reference_variance": 0.0,
    }  # fmt: skip
    return Calibration(**{**setting, **changes})


def test_the_search_meets_the_target_at_least_cost():
    found, target = made(), 0.002
    best = cheapest(found, target)
    assert best["expected"] <= target * (1 + 1e-9)
    # Brute force on a finer grid is at most a little cheaper.
    costs = []
    for eta in np.geomspace(0.05 / 64, 0.05, 60):
        for batch in range(16, 401, 8):
            room = 0.95 * target - 2.7 * eta * (400 - batch) / (batch * 399) - 0.5 * eta**2
            if room > 0:
                width = max(np.ceil((0.35 + 0.2 * eta) / room), 8)
                time = 3.0 + max(np.log(1e-3 / (0.05 * target)), 0) / 1.5
                costs.append(width * batch * np.ceil(time / eta))
    assert min(costs) <= best["gradient_evaluations"] < 1.2 * min(costs)
    assert cheapest(found, 0.02)["gradient_evaluations"] < best["gradient_evaluations"]
    with pytest.raises(InputError, match="below what any step size"):
        cheapest(made(c_bias=1e9), target)


def test_terms_at_the_mode_of_least_squares():
    X, y = table(60, 3)
    problem = from_arrays(X, y, ridge=0.1)
    with jax.enable_x64(True):
        moments, n = at_the_mode(problem)
    values, vectors = np.linalg.eigh(X.T @ X / 60 + 0.1 * np.eye(3))
    turned = X @ vectors
    residual = X @ np.linalg.solve(X.T @ X / 60 + 0.1 * np.eye(3), X.T @ y / 60) - y
    curvatures, slopes = turned**2, turned * residual[:, None]
    assert n == 60
    np.testing.assert_allclose(moments.curvature, values, rtol=1e-8)
    np.testing.assert_allclose(moments.curvature_variance, curvatures.var(0), rtol=1e-5)
    np.testing.assert_allclose(moments.slope_variance, slopes.var(0), rtol=1e-4)
    cross = ((curvatures - curvatures.mean(0)) * (slopes - slopes.mean(0))).mean(0)
    np.testing.assert_allclose(moments.slope_curvature, cross, rtol=1e-4, atol=1e-8)


def test_variance_reduction_wins_at_a_posterior_and_minibatches_when_hot():
    X, y = table(400, 3)
    problem = from_arrays(X, y, ridge=0.1)
    cold = plan(problem, 0.01, temperature=1 / 400)
    assert cold.methods["svrg"]["gradients"] < cold.methods["gld"]["gradients"]
    assert plan(problem, 0.01, temperature=1.0).best == "sgld"
    assert "gradients" in str(cold)
    json.dumps(cold.as_dict())


def test_the_bound_alone_says_so():
    X, y = table()
    found = plan((X, y, "squared"), 0.01, lam1=0.1, lam2=0.1, neuron="tanh")
    assert found.status == "bound"
    assert found.width is None
    assert "runs would ask for far less" in str(found)
    with pytest.raises(InputError, match="no setting to train at"):
        found.verify(MeanFieldProblem(X, y, lam1=0.1, lam2=0.1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": 0.0}, "target"),
        ({"problem": (1, 2)}, "pass .X, y, loss."),
        ({"lam1": None}, "lam1 missing"),
        ({"neuron": "relu"}, "unbounded"),
    ],
)
def test_bad_input(change, words):
    X, y = table()
    given = {"problem": (X, y, "squared"), "target": 0.1, "lam1": 0.1, "lam2": 0.1, "neuron": "tanh"} | change
    given = {k: v for k, v in given.items() if v is not None}
    with pytest.raises(InputError, match=words):
        plan(**given)


def test_a_sampler_needs_a_temperature_and_rows():
    X, y = table()
    with pytest.raises(InputError, match="temperature"):
        plan(from_arrays(X, y), 0.1)
    with pytest.raises(InputError, match="flat in some direction"):
        plan(from_arrays(np.column_stack([X, X]), y), 0.1, temperature=0.1)


def test_the_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "sklearn:wine", "--json", "--no-cache"])
    assert stop.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "bound"
    assert found["bound"]["log10_width"] > 3
    with pytest.raises(SystemExit) as stop:
        main(["plan", "sklearn:wine", "--verify"])
    assert stop.value.code == 2
    assert "add --empirical" in capsys.readouterr().err
