"""The certificate and the dual Newton step against quadrature written out here; what must be refused is refused."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

import riron.guarantees.gibbs as gibbs
from riron.dynamics.tempered_smc import TemperedSample
from riron.errors import InputError
from riron.guarantees.bregman import Gap, bregman, jackknifed_gap
from riron.guarantees.dual_newton import dual_newton, newton_step, solve_low_rank
from riron.guarantees.gibbs import GibbsSample, losses_at
from riron.guarantees.optimality_gap import Certificate, faults, optimality_gap
from riron.models.neurons import to_neuron
from riron.problems.mean_field import MeanFieldProblem
from riron.theory.mean_field_optimum import mean_field_optimum

N = 40
RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(N, 1))
Y = np.sin(2 * X[:, 0]) + 0.2 * RNG.normal(size=N)
SIZE = {"groups": 16, "particles": 400, "moves": 4}


pytestmark = pytest.mark.usefixtures("quick_compilation")


def make(loss="squared", R=3.0, lam=0.02, lam1=None):
    y = np.where(Y > 0, 1.0, -1.0) if loss == "logistic" else Y
    neuron = to_neuron("tanh", scale=R)
    return MeanFieldProblem(X, y, neuron=neuron, loss=loss, lam1=lam1 or lam, lam2=lam), y


class Quadrature:
    """Gibbs measures of R tanh(w_1 x + w_2) on a grid, in NumPy."""

    def __init__(self, y, loss, R, lam1, lam2, nodes=301):
        self.y, self.lam2 = y, lam2
        s = np.sqrt(lam2 / (2 * lam1))
        u = np.linspace(-7, 7, nodes) * s
        a, b = (part.ravel() for part in np.meshgrid(u, u))
        self.H = R * np.tanh(a[:, None] * X[:, 0] + b[:, None])
        self.log_reference = -(a**2 + b**2) / (2 * s**2)
        self.log_reference -= np.logaddexp.reduce(self.log_reference)
        self.ell, self.slope = {
            "squared": (lambda f: (f - y) ** 2 / 2, lambda f: f - y),
            "logistic": (lambda f: np.logaddexp(0, -y * f), lambda f: -y / (1 + np.exp(y * f))),
            "huber": (
                lambda f: np.where(abs(f - y) < 1, (f - y) ** 2 / 2, abs(f - y) - 0.5),
                lambda f: np.clip(f - y, -1, 1),
            ),
        }[loss]

    def gap(self, z):
        """L(p_g) - D(g), its parts, and the predictions: by the definitions, not by the Bregman divergence."""
        g = self.slope(z)
        log_p = self.log_reference - self.H @ g / (N * self.lam2)
        log_z = np.logaddexp.reduce(log_p)
        p = np.exp(log_p - log_z)
        f = p @ self.H
        kl = np.sum(p * (log_p - log_z - self.log_reference))
        objective = self.ell(f).mean() + self.lam2 * kl
        dual = np.mean(self.ell(z) - g * z) - self.lam2 * log_z
        return objective - dual, objective, dual, f


@pytest.mark.parametrize(("loss", "R", "lam"), [("squared", 3.0, 0.02), ("logistic", 5.0, 0.02), ("huber", 3.0, 0.02)])
def test_gap_objective_and_dual_agree_with_quadrature(loss, R, lam):
    problem, y = make(loss, R, lam)
    z = 0.9 * y + 0.1 * np.cos(X[:, 0])
    truth, objective, dual, f = Quadrature(y, loss, R, lam, lam).gap(z)
    c = optimality_gap(problem, z, jax.random.key(1), **SIZE)
    assert c.status == "certified", c.reason
    # c.lower is 0.975 of a t with 15 degrees of freedom below the estimate: widen it to 1e-5.
    stderr = (c.gap - c.lower) / stats.t.ppf(0.975, 15)
    critical = stats.t.ppf(1 - 1e-5, 15)
    assert abs(c.gap - truth) < critical * stderr
    assert stderr < 0.05 * truth
    assert c.upper > c.gap > c.lower
    assert abs(c.dual - dual) < critical * c.dual_stderr
    assert abs(c.objective_rel - objective) < critical * (stderr + c.dual_stderr)
    assert np.sqrt(np.mean((c.predictions - f) ** 2)) < 10 * np.sqrt(2 * c.noise + 1e-6)
    assert np.isclose(c.sample.weights.sum(), 1)
    assert np.allclose(c.sample.weights @ np.asarray(problem.features(c.sample.points)), c.predictions, atol=1e-4)


def test_a_wrong_temperature_or_slope_is_caught(monkeypatch):
    problem, y = make()
    z = 0.9 * y
    truth = Quadrature(y, "squared", 3.0, 0.02, 0.02).gap(z)[0]
    for wrong in (
        lambda p, g: (p.neuron, p.X, g * 1.15 / (N * p.lam2)),
        lambda p, g: (p.neuron, p.X, -g / (N * p.lam2)),
    ):
        monkeypatch.setattr(gibbs, "gibbs_args", wrong)
        c = optimality_gap(problem, z, jax.random.key(1), **SIZE)
        assert abs(c.gap - truth) > 6 * (c.gap - c.lower) / stats.t.ppf(0.975, 15)


def test_at_the_optimum_the_limit_is_small_and_above_zero():
    problem, y = make(lam=0.1)
    truth = Quadrature(y, "squared", 3.0, 0.1, 0.1)
    z = mean_field_optimum(problem, 201).predictions
    gap, objective, *_ = truth.gap(z)
    assert gap < 1e-8
    c = optimality_gap(problem, z, jax.random.key(0), **SIZE)
    assert c.status == "certified"
    assert 0 <= c.upper < 0.05 * objective
    assert c.lower == 0
    assert c.relative < 0.06
    assert "within" in str(c)


def test_a_cold_problem_with_few_moves_is_inconclusive_and_gives_no_number():
    problem, y = make(R=12.0, lam=0.0005)
    c = optimality_gap(problem, 0.5 * y, jax.random.key(0), groups=16, particles=400, moves=1, budget=3e7)
    assert c.status == "inconclusive"
    assert np.isnan(c.gap)
    assert (c.lower, c.upper) == (0.0, np.inf)
    assert c.relative == np.inf
    assert "budget" in c.reason
    assert str(c).startswith("inconclusive")


def test_a_tolerance_below_the_noise_is_not_certified_within_the_budget():
    problem, y = make()
    c = optimality_gap(problem, 0.9 * y, jax.random.key(0), tolerance=1e-9, budget=5e7, **SIZE)
    assert c.status == "inconclusive"
    assert "tolerance" in c.reason


def sample_of(log_z, means, ess=0.8, acceptance=0.5):
    G = len(log_z)
    cloud = TemperedSample(np.zeros((G, 5, 2)), np.asarray(log_z), np.full(G, ess), np.full(G, acceptance))
    return GibbsSample(cloud, means, 8)


def test_every_refusal_rule():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(16, 3))
    good = sample_of(0.05 * rng.normal(size=16), means)
    gap = Gap(0.1, 0.1, 0.01, 0.01)
    assert not faults(good, good, gap, gap, None)
    assert not faults(good, good, gap, gap, 0.05)
    assert set(faults(good, good, gap, gap, 0.039)) == {"noise"}
    assert set(faults(good, sample_of(rng.normal(size=16), means), gap, gap, None)) >= {"cv"}
    assert set(faults(good, sample_of(good.cloud.log_z, means, ess=0.2), gap, gap, None)) == {"ladder"}
    assert set(faults(good, sample_of(good.cloud.log_z, means, acceptance=0.1), gap, gap, None)) == {"ladder"}
    assert set(faults(good, sample_of(good.cloud.log_z + 0.2, means), gap, gap, None)) == {"moves"}
    assert set(faults(good, good, gap._replace(noise=0.06), gap, None)) == {"moves"}
    assert set(faults(good, sample_of(np.full(16, np.nan), means), gap, gap, None)) == {"finite"}


def test_jackknife_of_the_squared_loss_is_its_closed_form():
    """Equal weights: plug = |f - z|^2 / 2n, and the jackknife takes away |s|^2 / (2 n G) exactly."""
    problem, _ = make()
    rng = np.random.default_rng(1)
    means, z = rng.normal(size=(16, N)), rng.normal(size=N)
    found = jackknifed_gap(problem, z, losses_at(problem, z), sample_of(np.zeros(16), means))
    bias = means.var(axis=0, ddof=1).mean() / 32
    plug = np.mean((means.mean(axis=0) - z) ** 2) / 2
    assert np.isclose(found.plug, plug)
    assert np.isclose(found.estimate, plug - bias)
    assert np.isclose(found.noise, bias)
    assert np.isclose(bregman(problem, z + 1.0, z, losses_at(problem, z)), 0.5)


def test_the_low_rank_solve_is_the_dense_one():
    rng = np.random.default_rng(0)
    curvatures = np.where(rng.random(30) < 0.3, 0.0, rng.random(30))  # Huber: rows without curvature
    for S in (10, 80):
        E, r = rng.normal(size=(S, 30)), rng.normal(size=30)
        dense = np.linalg.solve(np.eye(30) + E.T @ E * curvatures, r)
        assert np.allclose(solve_low_rank(E, curvatures, r), dense)


def test_dual_newton_lowers_the_true_gap():
    problem, y = make(lam=0.05)
    truth = Quadrature(y, "squared", 3.0, 0.05, 0.05)
    found = dual_newton(problem, np.zeros(N), jax.random.key(0), groups=16, particles=400, moves=4, steps=6)
    before, after = truth.gap(np.zeros(N))[0], truth.gap(found.predictions)[0]
    assert found.accepted >= 1
    assert after < 0.05 * before
    assert abs(found.dual - truth.gap(found.predictions)[2]) < 6 * found.dual_stderr
    assert "steps taken" in str(found)


def test_the_newton_step_is_that_of_quadrature():
    problem, y = make(lam=0.05)
    truth, z = Quadrature(y, "squared", 3.0, 0.05, 0.05), 0.5 * Y
    ladder = gibbs.gibbs_ladder(problem, z - y, jax.random.key(0), particles=400, ess=0.8)
    sample = gibbs.sample_gibbs(problem, z - y, jax.random.key(1), ladder, **SIZE)
    step = newton_step(problem, z, losses_at(problem, z), sample)
    log_p = truth.log_reference - truth.H @ (z - y) / (N * 0.05)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    centred = truth.H - p @ truth.H
    C = (centred * p[:, None]).T @ centred
    exact = np.linalg.solve(np.eye(N) + C / (0.05 * N), p @ truth.H - z)
    assert np.linalg.norm(step - exact) < 0.15 * np.linalg.norm(exact)
    wrong = np.linalg.solve(np.eye(N) + C / (2 * 0.05 * N), p @ truth.H - z)
    assert np.linalg.norm(step - wrong) > 0.15 * np.linalg.norm(exact)


def test_relative_gap():
    problem, y = make()
    c = optimality_gap(problem, 0.9 * y, jax.random.key(1), **SIZE)
    assert isinstance(c, Certificate)
    assert replace(c, upper=0.1, objective_rel=0.3).relative == pytest.approx(0.5)
    assert replace(c, upper=0.4, objective_rel=0.3).relative == np.inf


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"predictions": np.zeros(3)}, "predictions has 3 values and the problem 40 rows"),
        ({"predictions": np.full(N, np.nan)}, "not finite"),
        ({"groups": 4}, "groups=4 must be a whole number >= 8"),
        ({"moves": 0}, "moves=0"),
        ({"level": 1.5}, "level=1.5"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"budget": 0.0}, "budget=0.0"),
        ({"problem": "net"}, "problem is a str"),
    ],
)
def test_bad_input(options, said):
    told = {"problem": make()[0], "predictions": np.zeros(N), **options}
    with pytest.raises(InputError, match=said):
        optimality_gap(told.pop("problem"), told.pop("predictions"), jax.random.key(0), **told)
