"""Trains one mean-field network until its certificate is good enough: Langevin, average, certificate, and again."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics import langevin
from ..dynamics.mean_field_langevin import stable_step_size
from ..guarantees.dual_newton import dual_newton
from ..guarantees.optimality_gap import Certificate, WeightedSample, optimality_gap
from ..problems.mean_field import MeanFieldProblem

SHARE_OF_EDGE = 0.25  # step size of the first round over the largest stable one; halved in each later round
FEWEST_STEPS = 100  # of the first round, however small the budget
EVERY = 5  # steps between the predictions that are averaged
ROUNDS = 4  # of training and certificate at most
NEWTON_REACH = 2500.0  # R^2 / lam2 from which a dual Newton step only amplifies the sampler's noise


@dataclass(frozen=True)
class Fitted:
    """A trained network: the law of its neurons, and what is certified of it.

    Attributes:
      sample: of the law. certificate: of it, or None if none was asked for.
      predictions: (n,) averages over the end of training, of which the certificate speaks.
      steps, evaluations: of Langevin dynamics, and neuron-rows spent in all.
    """

    sample: WeightedSample
    certificate: Certificate | None
    predictions: np.ndarray
    steps: int
    evaluations: float


def fit_mean_field(
    problem: MeanFieldProblem,
    key: jax.Array,
    *,
    steps: int,
    tol: float,
    budget: float,
    level: float,
    certify: bool,
    report: Callable[[Any], None] | None = None,
) -> Fitted:
    """Rounds of Langevin dynamics and certificate until the certified relative gap is at most `tol`.

    A dual Newton step is tried beside each round where it can help, and kept if it lowers the certified gap. The j-th
    certificate is at the level 1 - (1 - level) / 2^j, so that the best of all holds at `level`.

    Args:
      problem: the data, the neuron, the loss, lam1, lam2 and the width.
      key: of all random numbers.
      steps: of Langevin dynamics in the first round (at most a quarter of the budget); each later round doubles them,
        at half the step size.
      tol: certified gap over objective at which to stop. budget: neuron-rows in all. level: of the certificate.
      certify: False to train one round and certify nothing. report: told every certificate.
    """
    search = _Search(problem, tol, budget, level, report)
    try:
        return _rounds(problem, key, steps, search) if certify else _one_round(problem, key, steps)
    except KeyboardInterrupt:
        if search.found is None:
            raise
        warnings.warn("interrupted: the best network so far is kept", stacklevel=2)
        return search.best


def _one_round(problem: MeanFieldProblem, key: jax.Array, steps: int) -> Fitted:
    W = problem.initial(jax.random.fold_in(key, 0))
    W, z = train(problem, W, key, steps, SHARE_OF_EDGE * stable_step_size(problem, W))
    return Fitted(uniform(W), None, z, steps, float(steps) * len(W) * len(z))


def _rounds(problem: MeanFieldProblem, key: jax.Array, steps: int, search: "_Search") -> Fitted:
    W = problem.initial(jax.random.fold_in(key, 0))
    step_size = SHARE_OF_EDGE * stable_step_size(problem, W)
    steps = min(steps, max(int(search.budget / (4 * len(W) * len(problem.y))), FEWEST_STEPS))
    for j in range(ROUNDS):
        key, *keys = jax.random.split(key, 5)
        W, z = train(problem, W, keys[0], steps * 2**j, step_size)
        step_size, search.W = step_size / 2, W
        search.steps += steps * 2**j
        search.spent += float(steps) * 2**j * len(W) * len(z)
        if search.ask(z, keys[1]) or (search.noisy and search.ask(z, keys[2])):
            break
        if (problem.bound or np.inf) ** 2 < NEWTON_REACH * float(problem.lam2):
            newton = dual_newton(problem, z, keys[3], steps=3, budget=(search.budget - search.spent) / 4)
            search.spent += newton.evaluations
            rise = newton.dual - search.certificate.dual
            if newton.accepted and rise > 2 * newton.dual_stderr and search.ask(newton.predictions, keys[2]):
                break
    return search.best


class _Search:
    """The certificates asked for, and the best of them."""

    def __init__(self, problem: MeanFieldProblem, tol: float, budget: float, level: float, report: Any):
        self.problem, self.tol, self.budget, self.level, self.report = problem, tol, budget, level, report
        self.spent, self.steps, self.asked = 0.0, 0, 0
        self.W: jax.Array | None = None
        self.found: Fitted | None = None

    @property
    def best(self) -> Fitted:
        assert self.found is not None
        return replace(self.found, steps=self.steps, evaluations=self.spent)

    @property
    def certificate(self) -> Certificate:
        certificate = self.best.certificate
        assert certificate is not None
        return certificate

    @property
    def noisy(self) -> bool:
        """Whether more particles would lower the limit."""
        return self.certificate.noise > self.tol * self.certificate.objective_rel / 4

    def ask(self, z: np.ndarray, key: jax.Array) -> bool:
        """Certifies predictions; True when it is good enough, or the budget is spent."""
        self.asked += 1
        goal = self.tol * self.certificate.objective_rel if self.found else np.nan
        certificate = optimality_gap(
            self.problem,
            z,
            key,
            level=1 - (1 - self.level) / 2**self.asked,
            tolerance=goal if goal > 0 else None,
            budget=max(self.budget - self.spent, 1.0),
        )
        self.spent += certificate.evaluations
        if self.report is not None:
            self.report(certificate)
        if self.found is None or certificate.upper < self.certificate.upper:
            self.found = Fitted(certificate.sample or uniform(self.W), certificate, z, self.steps, self.spent)
        return self.certificate.relative <= self.tol or self.spent >= self.budget


def train(problem: MeanFieldProblem, W: jax.Array, key: jax.Array, steps: int, step_size: float):
    """Particles after `steps` of mean-field Langevin dynamics, and predictions averaged over the second half."""
    dynamics = langevin(step_size=step_size, temperature=float(problem.lam2))
    half = max(steps // (2 * EVERY), 1)
    W, _ = _run(problem, dynamics, W, jax.random.fold_in(key, 0), half)
    W, total = _run(problem, dynamics, W, jax.random.fold_in(key, 1), half)
    return W, np.asarray(total, np.float64) / half


@eqx.filter_jit
def _run(problem, dynamics, W, key, blocks):
    """`blocks` of EVERY steps; the sum over blocks of the predictions at their ends."""
    objective = problem.objective(problem.data)
    shape = jax.eval_shape(lambda: W)

    def step(t, state):
        draw = dynamics.draw(jax.random.fold_in(key, t), objective, shape)
        return dynamics.step(objective, state, draw, t)[0]

    def block(k, carry):
        state, total = carry
        state = jax.lax.fori_loop(k * EVERY, (k + 1) * EVERY, step, state)
        return state, total + problem.model(dynamics.params(state), problem.X)

    state = (dynamics.init(objective, W), jnp.zeros(len(problem.y)))
    state, total = jax.lax.fori_loop(0, jnp.asarray(blocks), block, state)
    return dynamics.params(state), total


def uniform(W: jax.Array | None) -> WeightedSample:
    """The law of equal weights on particles."""
    points = np.asarray(W)
    return WeightedSample(points, np.full(len(points), 1 / len(points)))
