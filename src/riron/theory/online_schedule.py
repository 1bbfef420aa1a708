"""The step sizes that leave one-pass SGD with the least test loss, by differentiating its equations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from ..checks import as_positive
from ..errors import InputError
from ..problems.teacher_student import TeacherStudent
from .online_averages import AveragesName, losses_of
from .online_sgd import Flow, as_real, make_flow, starts, tolerance, trajectory

RANGE = 100.0  # factors from 1/RANGE to RANGE are searched
CONSTANTS = 25
DIVERGED = 1e6


class Knots(eqx.Module):
    """A positive function of time, log-linear between knots."""

    times: jax.Array
    logs: jax.Array

    def __call__(self, t: jax.Array) -> jax.Array:
        return jnp.exp(jnp.interp(t, self.times, self.logs))


def best_schedule(
    problem: TeacherStudent,
    *,
    sgd_temperature: float,
    horizon: float,
    knots: int = 8,
    overlap: ArrayLike | None = None,
    self_overlap: ArrayLike | None = None,
    ridge: float | None = None,
    averages: AveragesName = "auto",
    rtol: float = 1e-6,
) -> xr.Dataset:
    """Factors on the step size, log-linear between knots, with the least test loss at the horizon.

    Args:
      problem, overlap, self_overlap, ridge, averages: as in `one_pass_sgd`, of one run.
      sgd_temperature: tau = eta / B of the step size that the factors multiply.
      horizon: time at the end, at factor 1; the number of samples is horizon x d / tau whatever the factors are.
      knots: number of knots, evenly spread over [0, horizon].
      rtol: accuracy of the integration.

    Returns: Dataset with step_factor (dim `t`, the knots), test_loss at the end with it, constant_factor and
      constant_test_loss of the best constant, from which the search starts: test_loss is never above it.

    Raises: InputError for fewer than two knots, several starts, or a problem that diverges at every constant factor.

    Source: Saad & Rattray, Phys. Rev. Lett. 1997 (globally optimal rates); here by L-BFGS on derivatives of the
      discretised equations.
    """
    horizon = as_positive(horizon, "horizon")
    if int(knots) != knots or knots < 2:
        raise InputError(f"knots={knots} must be a whole number >= 2")
    with jax.enable_x64(True):
        flow, name = make_flow(problem, sgd_temperature, ridge, averages)
        Q, q, several = starts(flow.problem, self_overlap, overlap)
        if several:
            raise InputError("a schedule is made for one start and several are given", do="give one overlap")
        start, accuracy = (as_real(Q[0]), as_real(q[0])), tolerance(rtol, name)
        times = np.linspace(0, horizon, knots)
        evaluate = lambda logs: end_loss(as_real(logs), as_real(times), flow, start, accuracy)
        constants = np.geomspace(1 / RANGE, RANGE, CONSTANTS)
        losses = np.array([float(evaluate(np.full(knots, np.log(c)))[0]) for c in constants])
        if not (losses < DIVERGED).any():
            raise InputError("every constant step size diverges", do="lower sgd_temperature")
        best = finer(constants, losses, lambda c: float(evaluate(np.full(knots, np.log(c)))[0]))

        def objective(logs):
            value, slope = evaluate(logs)
            return np.log(float(value)), np.nan_to_num(np.asarray(slope)) / float(value)

        limits = [(-np.log(RANGE), np.log(RANGE))] * knots
        found = minimize(objective, np.full(knots, np.log(best[0])), jac=True, method="L-BFGS-B", bounds=limits)
        loss = float(evaluate(found.x)[0])
    logs = found.x if loss <= best[1] else np.full(knots, np.log(best[0]))
    variables = {
        "step_factor": ("t", np.exp(logs)),
        "test_loss": ((), min(loss, best[1])),
        "constant_factor": ((), best[0]),
        "constant_test_loss": ((), best[1]),
    }
    attrs = {"theory": "riron.theory.online_schedule.best_schedule", "sgd_temperature": float(sgd_temperature)}
    return xr.Dataset(variables, {"t": times}, attrs)


@eqx.filter_jit
def end_loss(
    logs: jax.Array, times: jax.Array, flow: Flow, start: tuple[jax.Array, jax.Array], rtol: float
) -> tuple[jax.Array, jax.Array]:
    """Test loss at the end, a large number if it diverges, and its derivative in the logarithms of the factors."""

    def loss(logs):
        scheduled = eqx.tree_at(lambda f: f.factor, flow, Knots(times, logs), is_leaf=lambda x: x is None)
        path, well = trajectory(scheduled, start, times[jnp.array([0, -1])], rtol)
        end = losses_of(flow.problem, flow.nodes, path[0][-1], path[1][-1])["test_loss"]
        return jnp.where(well & (end < DIVERGED), end, DIVERGED)

    return jax.value_and_grad(loss)(logs)


def finer(constants: np.ndarray, losses: np.ndarray, loss) -> tuple[float, float]:
    """The best constant factor and its loss, by golden sections between the neighbours of the best of the grid."""
    k = int(np.nanargmin(losses))
    low, high = np.log(constants[max(k - 1, 0)]), np.log(constants[min(k + 1, len(constants) - 1)])
    golden = (5**0.5 - 1) / 2
    best = (constants[k], losses[k])
    a, b = high - golden * (high - low), low + golden * (high - low)
    fa, fb = loss(np.exp(a)), loss(np.exp(b))
    for _ in range(20):
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - golden * (high - low)
            fa = loss(np.exp(a))
        else:
            low, a, fa = a, b, fb
            b = low + golden * (high - low)
            fb = loss(np.exp(b))
    for log, value in ((a, fa), (b, fb)):
        if value < best[1]:
            best = (float(np.exp(log)), value)
    return float(best[0]), float(best[1])
