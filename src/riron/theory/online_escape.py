"""When one-pass SGD leaves the plateau of its start and finds the teacher."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_positive
from ..errors import InputError
from ..problems.teacher_student import TeacherStudent
from .online_averages import AveragesName
from .online_sgd import MOST_STEPS, Flow, as_real, make_flow, starts, tolerance, warn_of_rest


def escape_time(
    problem: TeacherStudent,
    *,
    sgd_temperature: float,
    horizon: float,
    level: float = 0.5,
    overlap: ArrayLike | None = None,
    self_overlap: ArrayLike | None = None,
    ridge: float | None = None,
    spherical: bool = False,
    averages: AveragesName = "auto",
    rtol: float | None = None,
) -> xr.Dataset:
    """The time at which one-pass SGD has found the teacher, from the overlaps that its start happens to have.

    Overlaps of a random start are of order 1/sqrt(d). If the gradient of the population loss grows like overlap^(k-1)
    there, k being the information exponent, the time until an overlap of order 1 is of order 1 for k = 1, log d for
    k = 2, and d^(k/2 - 1) for k >= 3 at a step size small enough for the flow; samples are time x d / step size.

    Args:
      problem, sgd_temperature, overlap, self_overlap, ridge, spherical, averages, rtol: as in `one_pass_sgd`.
      horizon: the latest time that is looked at.
      level: the cosine |q_ij| / sqrt(Q_ii rho_jj) of some student with some teacher, in (0, 1), that counts as found.

    Returns: Dataset with escape_time (dim `seed` for several starts), inf where it lies beyond the horizon.

    Source: Ben Arous, Gheissari & Jagannath, J. Mach. Learn. Res. 2021 (information exponents); the equations are
      those of `one_pass_sgd`, so the chance of the steps themselves is left out.
    """
    horizon = as_positive(horizon, "horizon")
    if not 0 < level < 1:
        raise InputError(f"level={level} is outside (0, 1)")
    with jax.enable_x64(True):
        flow, name = make_flow(problem, sgd_temperature, ridge, averages, None, spherical)
        Q, q, several = starts(flow.problem, self_overlap, overlap)
        warn_of_rest(flow, Q, q)
        found = np.asarray(
            passages(flow, as_real(Q), as_real(q), as_real(horizon), as_real(level), tolerance(rtol, name))
        )
    attrs = {"theory": "riron.theory.online_escape.escape_time", "averages": name, "level": float(level)}
    return xr.Dataset({"escape_time": (("seed",) if several else (), found if several else found[0])}, attrs=attrs)


@eqx.filter_jit
def passages(flow: Flow, Q: jax.Array, q: jax.Array, horizon: jax.Array, level: jax.Array, rtol: float) -> jax.Array:
    """First times (seeds,) at which the largest cosine reaches the level."""
    above = functools.partial(excess, rho=jnp.diag(flow.problem.teacher_gram), level=level)

    def one(start):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(flow),
            diffrax.Tsit5(),
            t0=0.0,
            t1=horizon,
            dt0=None,
            y0=start,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
            event=diffrax.Event(lambda t, y, args, **_: above(y), optimistix.Bisection(1e-6, 1e-6, flip="detect")),
            max_steps=MOST_STEPS,
            throw=False,
        )
        assert solution.ts is not None
        reached = jnp.where(solution.result == diffrax.RESULTS.event_occurred, solution.ts[-1], jnp.inf)
        return jnp.where(above(start) >= 0, 0.0, reached)

    return jax.lax.map(one, (Q, q))


def excess(state: tuple[jax.Array, jax.Array], *, rho: jax.Array, level: jax.Array) -> jax.Array:
    """Largest cosine of a student with a teacher, minus the level."""
    Q, q = state
    return jnp.max(jnp.abs(q) / jnp.sqrt(jnp.diag(Q)[:, None] * rho)) - level
