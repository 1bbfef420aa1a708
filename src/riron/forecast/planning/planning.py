"""riron.plan: the setting for a target accuracy, from the proved bounds and, if asked, from short runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ...checks import as_positive
from ...errors import InputError
from ...lab.progress import Show
from ...problems.base import Problem
from ...problems.mean_field import MeanFieldProblem
from ...theory.mean_field_bounds import holley_stroock, mfld_plan
from .calibration import Calibration, calibrate
from .langevin import plan_langevin
from .plans import LangevinPlan, MeanFieldPlan

STEPS_DOWN = 24  # step sizes tried below the calibrated one, in quarter octaves
START_LEFT = 0.05  # share of the target that the start may still have
FEWEST = 8  # neurons


def plan(
    problem: Problem | tuple[ArrayLike, ArrayLike, str],
    target: float,
    *,
    empirical: bool = False,
    temperature: float | None = None,
    start: float | None = None,
    seed: int = 0,
    progress: Show = None,
    **setting: Any,
) -> MeanFieldPlan | LangevinPlan:
    """Width, step size, batch and steps for a target accuracy.

    Args:
      problem: a `MeanFieldProblem`; or (X, y, loss), which `setting` makes into one (lam1, lam2, neuron, ...); or any
        problem with a finite sum on its own data (`from_arrays(...)`), with `temperature`, to plan a Langevin sampler.
      target: mean-field: the excess loss E (1/2n) sum_i loss''_i (f_N - f_*)^2 that is wanted. Langevin: the wanted
        Kullback-Leibler divergence from exp(-objective / temperature). > 0.
      empirical: mean-field: measure what the theorem leaves open by short runs (a minute or two on two cores).
      temperature: of a Langevin sampler, > 0.
      start: of a Langevin sampler: distance of the start from the mode in each coordinate of the Hessian's eigenbasis;
        3 standard deviations of the target law unless given.
      seed: of the short runs. progress: True for a bar for each of them.

    Returns:
      A MeanFieldPlan or a LangevinPlan: print it, or read its fields; `as_dict()` for JSON.

    Raises:
      InputError: target <= 0; an unbounded neuron (the bound's constant needs sup |h|); a problem without rows; a
        Langevin plan without a temperature.

    Source: Suzuki, Nitanda & Wu, NeurIPS 2023; Kinoshita & Suzuki, NeurIPS 2022; Holley & Stroock, J. Stat. Phys. 1987.
    """
    target = as_positive(target, "target")
    if isinstance(problem, tuple):
        if len(problem) != 3:
            raise InputError(f"problem is a tuple of {len(problem)}", do="pass (X, y, loss), or a problem")
        X, y, loss = problem
        missing = [name for name in ("lam1", "lam2") if name not in setting]
        if missing:
            raise InputError(f"{' and '.join(missing)} missing", do="pass lam1= and lam2=, the two regularisers")
        problem = MeanFieldProblem(X, y, loss=loss, **setting)
    elif setting:
        raise InputError(f"plan takes no {', '.join(setting)} with a problem that is made already")
    if isinstance(problem, MeanFieldProblem):
        return plan_mean_field(problem, target, empirical=empirical, seed=seed, progress=progress)
    if empirical:
        raise InputError("a Langevin plan has no short runs", do="leave out empirical")
    if temperature is None:
        raise InputError("a Langevin plan needs a temperature", do="pass temperature=1/n for a posterior, for example")
    return plan_langevin(problem, target, temperature=as_positive(temperature, "temperature"), start=start)


def plan_mean_field(
    problem: MeanFieldProblem, target: float, *, empirical: bool, seed: int, progress: Show
) -> MeanFieldPlan:
    """See `plan`."""
    bound, constants = _bound(problem, target)
    nothing = dict.fromkeys(("width", "step_size", "batch", "steps", "expected", "gradient_evaluations"))
    if not empirical:
        return MeanFieldPlan(target, "bound", bound=bound, constants=constants, calibration=None, **nothing)
    found = calibrate(problem, seed=seed, progress=progress)
    if not found.fits:
        return MeanFieldPlan(target, "inconclusive", bound=bound, constants=constants, calibration=found, **nothing)
    return MeanFieldPlan(target, "planned", bound=bound, constants=constants, calibration=found,
                         **cheapest(found, target))  # fmt: skip


def cheapest(found: Calibration, target: float) -> dict[str, Any]:
    """The setting of fewest neuron x sample gradients whose error, bias and remainder of the start meet the target."""
    etas = found.step_size * 2.0 ** (-np.arange(STEPS_DOWN + 1) / 4)
    batches = np.unique(np.append(np.geomspace(found.smallest_batch, found.n, 9).round().astype(int), found.n))
    eta, batch = (a.ravel() for a in np.meshgrid(etas, batches, indexing="ij"))
    noise = found.c_batch * eta * (found.n - batch) / (batch * max(found.n - 1, 1))
    room = (1 - START_LEFT) * target - noise - found.c_bias * eta**2
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.where(room > 0, np.maximum(np.ceil((found.c_width + found.c_step * eta) / room), FEWEST), np.inf)
    steps = np.ceil(found.settling_time(START_LEFT * target) / eta)
    cost = width * batch * steps
    best = int(np.argmin(cost))
    if not np.isfinite(cost[best]):
        raise InputError(
            f"the target {target:g} is below what any step size down to {etas[-1]:.3g} gives",
            why=f"the step size alone shifts the predictions by {found.c_bias * etas[-1] ** 2:.2g}",
            do="ask for less",
        )
    expected = found.variance(width[best], eta[best], batch[best]) + found.c_bias * eta[best] ** 2 + START_LEFT * target
    return {
        "width": int(width[best]),
        "step_size": float(eta[best]),
        "batch": int(batch[best]),
        "steps": int(steps[best]),
        "expected": float(expected),
        "gradient_evaluations": float(cost[best]),
    }


def _bound(problem: MeanFieldProblem, target: float) -> tuple[dict[str, float], dict[str, float]]:
    """What the theorem asks for, in powers of ten, and its constants."""
    predictions = jnp.mean(problem.features(problem.initial(jax.random.key(0))), axis=0)
    slopes, lam1, lam2 = np.asarray(problem.slopes(predictions)), float(problem.lam1), float(problem.lam2)
    sobolev = holley_stroock(slopes, bound=problem.bound, lam1=lam1, lam2=lam2)
    start_gap = float(jnp.mean(problem.losses(predictions)))  # the objective at the start is above 0
    asked = mfld_plan(sobolev.log_alpha, target, lam2=lam2, start_gap=start_gap)
    ten = float(np.log(10))
    logs = {"width": asked.log_width, "step_size": asked.log_step_size, "steps": asked.log_steps}
    bound = {f"log10_{name}": value / ten for name, value in logs.items()}
    samples = float(np.log10(problem.X.shape[0]))
    bound["log10_gradient_evaluations"] = bound["log10_width"] + bound["log10_steps"] + samples
    constants = {
        "lam1": lam1,
        "lam2": lam2,
        "sup_h": float(problem.bound or 0.0),
        "mean_abs_slope_at_start": float(np.abs(slopes).mean()),
        "start_gap": start_gap,
        "exponent": sobolev.exponent,
        "a_priori_exponent": sobolev.a_priori_exponent,
        "log10_alpha": sobolev.log_alpha / ten,
        "C": 1.0,
    }
    return bound, constants
