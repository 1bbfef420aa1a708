"""How far a mean-field network is from the global optimum of its regularised objective: a one-sided confidence limit.

For any predictions z, with g = loss'(z) and f the predictions of the Gibbs measure p_g ~ exp(-V_g / lam2) N(0, s0^2 I),

    0 <= L(p_g) - min L <= (1/n) sum_i [ loss(f_i) - loss(z_i) - loss'(z_i) (f_i - z_i) ],

a Bregman divergence between two vectors, free of partition functions and conjugates. Only f is random: it comes from
tempered Monte Carlo, whose independent groups weigh the modes of p_g and give the error.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..checks import as_positive, as_vector
from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .base import Guarantee
from .bregman import Gap, dual_value, jackknifed_gap, relative_objective
from .gibbs import GibbsSample, Losses, gibbs_ladder, losses_at, sample_gibbs
from .rules import check_gibbs_run, unfit

AGREE = 3.0  # standard errors between log Z at K and at 2 K moves
MOST_PARTICLES = 16_000
ENOUGH_MOVES = 48  # beyond, scattering weights are met with particles


class WeightedSample(NamedTuple):
    """Points of the certified law: averages over `points` (S, p) with `weights` (S,), which sum to 1."""

    points: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Certificate(Guarantee):
    """An upper confidence limit on L(p_g) - min L, p_g the Gibbs measure of the predictions that were given.

    If `status` is "inconclusive", nothing is certified: gap is nan and the limits are 0 and inf; `reason` says why.

    Attributes:
      gap: bias-corrected estimate of the bound (may be negative by noise). lower, upper: `upper` is the one-sided limit
        at `level`; `lower` is the lower end of the two-sided interval, for information.
      noise: what the Monte Carlo error of the predictions adds to the gap; more particles make it smaller.
      log_weights_cv: coefficient of variation of the groups' weights. min_ess, min_acceptance: the least on the ladder.
      rungs, moves, particles, groups: of the run that counts. evaluations: neuron-rows spent in all.
      objective_rel: L_rel(p_g), the objective relative to the Gaussian reference (>= 0 for losses >= 0).
      dual: a lower limit of min L_rel, up to its standard error dual_stderr.
      predictions: (n,) of p_g at the training rows. sample: of p_g, the certified predictor.
    """

    assumptions = (
        "convex differentiable loss",
        "the tempered sampler has found every mode that matters (checked by doubling its moves)",
        "limits by a jackknife over independent groups and Student's t",
    )

    gap: float
    lower: float
    upper: float
    level: float
    noise: float
    log_weights_cv: float
    min_ess: float
    min_acceptance: float
    rungs: int
    objective_rel: float
    status: str
    sample: WeightedSample | None
    predictions: np.ndarray | None
    dual: float
    dual_stderr: float
    groups: int
    particles: int
    moves: int
    evaluations: float
    reason: str = ""

    @property
    def relative(self) -> float:
        """`upper` over the least objective that is compatible with it: inf where nothing is said."""
        least = self.objective_rel - self.upper
        return self.upper / least if least > 0 else float("inf")

    def __str__(self) -> str:
        if self.status != "certified":
            return f"inconclusive: {self.reason}"
        return (
            f"within {self.upper:.3g} of the global optimum at {self.level:.0%} confidence "
            f"(objective {self.objective_rel:.4g}; estimate {max(self.gap, 0):.2g}, noise {self.noise:.2g}, "
            f"{self.groups} x {self.particles} points, {self.rungs} rungs, {self.moves} moves)"
        )


class _Setting(NamedTuple):
    particles: int
    moves: int
    ess: float


def optimality_gap(
    problem: MeanFieldProblem,
    predictions: ArrayLike,
    key: jax.Array,
    *,
    groups: int = 16,
    particles: int = 1000,
    moves: int = 6,
    level: float = 0.95,
    tolerance: float | None = None,
    budget: float = 3e10,
) -> Certificate:
    """Certifies how far the Gibbs measure of these predictions is from the global optimum.

    A pilot adapts the ladder, which is then frozen. Two independent runs, with K and 2 K moves a rung, must agree in
    log Z and in their noise, and the second must pass the refusal rules; otherwise moves, particles or rungs are
    doubled until it does or the budget is spent. The second run alone is reported.

    Args:
      problem: the data, the neuron, the loss, lam1 and lam2.
      predictions: (n,) of a trained network at the training rows; averages over the end of a run, not a snapshot.
      key: of all random numbers.
      groups: G >= 8 independent groups. particles: N a group. moves: K a rung to start with.
      level: of the one-sided confidence limit.
      tolerance: a gap that is small enough, in units of the objective: particles are doubled while the noise is over a
        quarter of it. None: the noise is what `particles` gives.
      budget: neuron-rows (particles x rows x moves x rungs) that may be spent; about 2 to 5 ns each and core.

    Returns: a Certificate; "inconclusive" if the rules are not met within the budget.

    Raises:
      InputError: predictions of another length or not finite, fewer than 8 groups, a level outside (0.5, 1).

    Source: derived in docs/certificates.md from the entropy sandwich of Nitanda, Wu & Suzuki, AISTATS 2022
      (nitanda2022mfld), and the primal-dual form of Oko, Suzuki, Nitanda & Wu, ICLR 2022 (oko2022psdca).
    """
    z = as_vector(predictions, "predictions")
    check_gibbs_run(problem, z, groups, particles, moves)
    _check(level, tolerance, budget)
    at = losses_at(problem, z)
    setting, spent, reasons = _Setting(int(particles), int(moves), 0.8), 0.0, {}
    ladder = first = second = gap = None
    while True:
        key, *keys = jax.random.split(key, 4)
        if ladder is None:
            pilot = max(setting.particles, 1000)
            ladder = gibbs_ladder(problem, at.slopes, keys[0], particles=pilot, ess=setting.ess)
            spent += float(len(z)) * pilot * 12 * ladder.rungs
            if not ladder.complete:
                reached = float(ladder.betas[ladder.rungs - 1])
                reasons["ladder"] = f"{ladder.rungs} rungs lead to inverse temperature {reached:.2g} only"
                break
        cost = float(len(z)) * groups * setting.particles * ladder.rungs * setting.moves * (2 if first else 3)
        if spent + cost > budget:
            left = max(budget - spent, 0.0)
            reasons["budget"] = f"the next run would take {cost:.2g} neuron-rows and {left:.2g} of the budget are left"
            break
        run = partial(sample_gibbs, problem, at.slopes, ladder=ladder, groups=groups, particles=setting.particles)
        first = first or run(keys[1], moves=setting.moves)
        second = run(keys[2], moves=2 * setting.moves)
        spent += cost
        gap = jackknifed_gap(problem, z, at, second)
        reasons = faults(first, second, jackknifed_gap(problem, z, at, first), gap, tolerance)
        if not reasons:
            break
        change = _remedy(reasons, setting, gap, tolerance)
        if change is None:
            break
        # Twice the moves of the run that failed are compared with that run itself.
        first = second if change == setting._replace(moves=2 * setting.moves) else None
        ladder = ladder if change.ess == setting.ess else None
        setting = change
    found = claim = {}
    if second is not None and gap is not None and "finite" not in reasons:
        found = _found(problem, z, at, second, gap)
        claim = _claim(gap, groups, level) if not reasons else {}
    rest = {"level": level, "rungs": ladder.rungs, "evaluations": spent, "reason": "; ".join(reasons.values())}
    return Certificate(**{**NOTHING, **found, **claim, **rest})


def faults(first: GibbsSample, second: GibbsSample, before: Gap, gap: Gap, tolerance: float | None) -> dict[str, str]:
    """Why a run must not be believed: kind of fault -> sentence; empty if it may be.

    Args:
      first, second: runs with K and 2 K moves, and their gaps `before` and `gap`.
      tolerance: of the gap, or None.
    """
    found = unfit(second)
    if "finite" in found or not np.isfinite(gap).all():
        return {"finite": "the sampler gave numbers that are not finite"}
    moved = second.log_z - first.log_z
    if not abs(moved) <= AGREE * np.hypot(first.log_z_stderr, second.log_z_stderr):
        found["moves"] = f"log Z moved by {moved:+.2g} when the moves were doubled to {second.moves}"
    freedom = len(second.cloud.log_z) - 1
    if before.noise > gap.noise * stats.f.ppf(0.995, freedom, freedom):
        found["moves"] = (
            f"the noise fell from {before.noise:.2g} to {gap.noise:.2g} with moves doubled to {second.moves}"
        )
    if tolerance is not None and gap.noise > tolerance / 4:
        found["noise"] = f"the noise {gap.noise:.2g} is over a quarter of the tolerance {tolerance:.2g}"
    return found


def _remedy(reasons: dict[str, str], setting: _Setting, gap: Gap, tolerance: float | None) -> _Setting | None:
    """What to change next; None where nothing helps."""
    if "finite" in reasons:
        return None
    if "ladder" in reasons:
        return setting._replace(ess=(1 + setting.ess) / 2)
    if "moves" in reasons or ("cv" in reasons and setting.moves < ENOUGH_MOVES):
        return setting._replace(moves=2 * setting.moves)  # cheaper than particles: the run just made counts again
    factor = 2.0
    if "noise" in reasons and "cv" not in reasons and tolerance is not None:
        factor = 2 ** np.ceil(np.log2(gap.noise / (tolerance / 4)))
    particles = int(min(setting.particles * factor, MOST_PARTICLES))
    return setting._replace(particles=particles) if particles > setting.particles else None


def _found(problem: MeanFieldProblem, z: np.ndarray, at: Losses, sample: GibbsSample, gap: Gap) -> dict[str, Any]:
    """The diagnostics of a run."""
    cloud = sample.cloud
    G, N, p = cloud.points.shape
    dual, dual_stderr = dual_value(problem, z, at, sample)
    return {
        "noise": gap.noise,
        "log_weights_cv": cloud.log_weights_cv,
        "min_ess": float(cloud.ess.min()),
        "min_acceptance": float(cloud.acceptance.min()),
        "objective_rel": relative_objective(problem, at, sample),
        "sample": WeightedSample(np.asarray(cloud.points).reshape(G * N, p), np.repeat(cloud.weights / N, N)),
        "predictions": sample.predictions,
        "dual": dual,
        "dual_stderr": dual_stderr,
        "groups": G,
        "particles": N,
        "moves": sample.moves,
    }


def _claim(gap: Gap, groups: int, level: float) -> dict[str, Any]:
    """The limits: the upper one from the plug-in value, whose bias (Jensen) is upwards."""
    one, two = stats.t.ppf([level, (1 + level) / 2], groups - 1)
    lower, upper = max(gap.estimate - two * gap.stderr, 0.0), max(gap.plug, 0.0) + one * gap.stderr
    return {"gap": gap.estimate, "lower": lower, "upper": upper, "status": "certified"}


NOTHING: dict[str, Any] = {
    "gap": np.nan,
    "lower": 0.0,
    "upper": np.inf,
    "status": "inconclusive",
    **dict.fromkeys(("noise", "log_weights_cv", "min_ess", "min_acceptance", "objective_rel"), np.nan),
    **dict.fromkeys(("dual", "dual_stderr"), np.nan),
    **dict.fromkeys(("groups", "particles", "moves"), 0),
    "sample": None,
    "predictions": None,
}


def _check(level: float, tolerance: float | None, budget: float) -> None:
    if not 0.5 < level < 1:
        raise InputError(f"level={level} must lie between 0.5 and 1", do="pass 0.95, for example")
    if tolerance is not None:
        as_positive(tolerance, "tolerance")
    as_positive(budget, "budget")
