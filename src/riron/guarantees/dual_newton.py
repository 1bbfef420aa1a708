"""Dual Newton steps: from predictions with a large gap to predictions with a small one, without moving particles.

The dual value D(z) = mean(loss(z) - loss'(z) z) - lam2 log Z is concave in g = loss'(z), with gradient (f - z) / n for
the predictions f of the Gibbs measure of g, and a curvature known from its covariance. One step crosses barriers that
Langevin dynamics does not cross in any reasonable time; near R^2 / lam2 of thousands it amplifies the sampler's noise.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_vector
from ..problems.mean_field import MeanFieldProblem
from .base import Guarantee
from .bregman import Gap, dual_value, jackknifed_gap
from .gibbs import GibbsSample, Losses, gibbs_ladder, losses_at, sample_gibbs
from .rules import check_gibbs_run, unfit

COVARIANCE_POINTS = 1500  # points of the Gibbs measure whose covariance the step uses
FULL_STEP = 0.5  # decrements below this take the whole step
HALVINGS = 5  # of a step, before giving up


@dataclass(frozen=True)
class DualNewton(Guarantee):
    """Predictions after dual Newton steps; certify them with `optimality_gap`.

    Attributes:
      predictions: (n,). dual, dual_stderr: estimate of D there, at most min L_rel, and its error.
      gap: plug-in estimate of the gap there, not a limit. accepted, refused: number of steps.
      status: "noise" (the gap is down to 4 times the sampler's noise), "stuck" (no step helps) or "budget".
      evaluations: neuron-rows spent.
    """

    assumptions = ("convex differentiable loss", "an estimate: nothing is certified here")

    predictions: np.ndarray
    dual: float
    dual_stderr: float
    gap: float
    noise: float
    accepted: int
    refused: int
    status: str
    evaluations: float

    def __str__(self) -> str:
        return (
            f"{self.accepted} steps taken and {self.refused} refused ({self.status}): gap about {self.gap:.2g}, "
            f"dual value {self.dual:.5g} ± {self.dual_stderr:.1g}"
        )


class _Point(NamedTuple):
    z: np.ndarray
    at: Losses
    sample: GibbsSample
    gap: Gap
    dual: float
    stderr: float


def dual_newton(
    problem: MeanFieldProblem,
    predictions: ArrayLike,
    key: jax.Array,
    *,
    groups: int = 8,
    particles: int = 500,
    moves: int = 12,
    steps: int = 12,
    budget: float = 1e10,
) -> DualNewton:
    """Damped Newton steps z + t (I + C diag(loss'') / (lam2 n))^{-1} (f - z), C = Cov_{p_g}(h(x_i), h(x_k)).

    The first step length is t = 1 / (1 + decrement), the whole step for decrements below a half. A step is refused, and
    halved, if its evaluation breaks the refusal rules of `optimality_gap` or its dual value falls by over 2 standard
    errors.

    Args:
      problem: as in `optimality_gap`.
      predictions: (n,) where to start: an average over the end of a run, or zeros.
      key: of all random numbers.
      groups, particles, moves: of the tempered sampler in each evaluation.
      steps: steps taken at most. budget: neuron-rows that may be spent.

    Raises:
      InputError: predictions of another length or not finite, too few groups.

    Source: derived in docs/certificates.md from the dual of Oko, Suzuki, Nitanda & Wu, ICLR 2022 (oko2022psdca).
    """
    z = as_vector(predictions, "predictions")
    check_gibbs_run(problem, z, groups, particles, moves)
    spent = 0.0

    def visit(z: np.ndarray) -> _Point | None:
        nonlocal spent, key
        key, *keys = jax.random.split(key, 3)
        at = losses_at(problem, z)
        ladder = gibbs_ladder(problem, at.slopes, keys[0], particles=particles, ess=0.8)
        size = {"groups": groups, "particles": particles, "moves": moves}
        spent += float(len(z)) * particles * ladder.rungs * (12 + groups * moves)
        if not ladder.complete:
            return None
        sample = sample_gibbs(problem, at.slopes, keys[1], ladder, **size)
        return _Point(z, at, sample, jackknifed_gap(problem, z, at, sample), *dual_value(problem, z, at, sample))

    here = visit(z)
    accepted = refused = 0
    if here is None:
        return DualNewton(z, np.nan, np.nan, np.nan, np.nan, 0, 0, "stuck", spent)
    status = "budget"
    while accepted < steps and spent < budget:
        if here.gap.plug < 4 * here.gap.noise:
            status = "noise"
            break
        step = newton_step(problem, here.z, here.at, here.sample)
        decrement = float(np.sqrt(max(np.mean(step * (here.sample.predictions - here.z)) / float(problem.lam2), 0.0)))
        length, new = 1.0 if decrement < FULL_STEP else 1 / (1 + decrement), None
        halvings = 0
        while new is None and halvings <= HALVINGS and spent < budget:
            tried = visit(here.z + length * step)
            worse = tried is None or tried.dual < here.dual - 2 * np.hypot(tried.stderr, here.stderr)
            if tried is None or worse or unfit(tried.sample):
                refused, halvings, length = refused + 1, halvings + 1, length / 2
            else:
                new = tried
        if new is None:
            status = "stuck" if spent < budget else "budget"
            break
        here, accepted = new, accepted + 1
    gap = here.gap
    return DualNewton(here.z, here.dual, here.stderr, gap.plug, gap.noise, accepted, refused, status, spent)


def newton_step(problem: MeanFieldProblem, z: np.ndarray, at: Losses, sample: GibbsSample) -> np.ndarray:
    """The full step, from the weighted covariance of at most `COVARIANCE_POINTS` points."""
    G, N, _ = sample.cloud.points.shape
    each = min(N, COVARIANCE_POINTS // G)
    points = sample.cloud.points[:, :each].reshape(G * each, -1)
    weights = np.repeat(sample.cloud.weights / each, each)
    with jax.enable_x64(True):
        H = np.asarray(problem.neuron.features(jnp.asarray(points, jnp.float64), jnp.asarray(problem.X, jnp.float64)))
    scale = np.sqrt(weights / (len(z) * float(problem.lam2)))
    E = scale[:, None] * (H - weights @ H)
    return solve_low_rank(E, at.curvatures, sample.predictions - z)


def solve_low_rank(E: np.ndarray, curvatures: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(I + E'E diag(curvatures))^{-1} r for E (S, n), by Woodbury where S < n.

    With D the curvatures (>= 0, some may be 0) and F = E D^{1/2}: x = r - E'(F y), y = (I + F'F)^{-1} D^{1/2} r.
    """
    root = np.sqrt(np.maximum(curvatures, 0))
    F = E * root
    S, n = F.shape
    if n < S:
        y = np.linalg.solve(np.eye(n) + F.T @ F, root * r)
    else:
        y = root * r - F.T @ np.linalg.solve(np.eye(S) + F @ F.T, F @ (root * r))
    return r - E.T @ (F @ y)
