"""One-pass SGD in high dimension: the overlaps with the teacher obey ordinary differential equations.

With fresh samples in every step, dt = eta / d of time a step and the temperature tau = eta / B,

    dq/dt = -E[ell w*^T] - lam q,     dQ/dt = -E[ell w^T + w ell^T] - 2 lam Q + tau E[ell ell^T],

(w, w*) ~ N(0, [[Q, q], [q^T, rho]]) and ell the gradient of a sample's loss in w. A factor f(t) on the step size
multiplies the first two terms by f and the last by f^2.
"""

import warnings
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_array, as_positive
from ..errors import InputError
from ..problems.teacher_student import TeacherStudent
from .dmft.reduced import reduced, start_covariance
from .dmft.setting import as_times
from .online_averages import AveragesName, Nodes, averages_of, choose, losses_of

AT_REST = 3e-3  # a velocity of the overlap below this, relative to the size of a gradient, is the error of quadrature
MOST_STEPS = 100_000

Factor = Callable[[jax.Array], jax.Array]
"""Of the step size, as a function of time that JAX can trace."""


class Flow(eqx.Module):
    """The equations of one problem.

    tau: temperature; lam: ridge times d; nodes: of the averages (None: closed forms); factor: on the step size;
    spherical: whether each student keeps its norm.
    """

    problem: TeacherStudent
    nodes: Nodes | None
    tau: jax.Array
    lam: jax.Array
    factor: Factor | None = None
    spherical: bool = eqx.field(static=True, default=False)

    def __call__(self, t: Any, state: tuple[jax.Array, jax.Array], args: Any = None) -> tuple[jax.Array, jax.Array]:
        """(dQ/dt, dq/dt)."""
        Q, q = state
        first, second = averages_of(self.problem, self.nodes, Q, q)
        m = len(Q)
        f = 1.0 if self.factor is None else self.factor(t)
        dQ = -f * (first[:, :m] + first[:, :m].T + 2 * self.lam * Q) + f**2 * self.tau * second
        dq = -f * (first[:, m:] + self.lam * q)
        if self.spherical:
            growth = jnp.diag(dQ) / (2 * jnp.diag(Q))
            dQ, dq = dQ - (growth[:, None] + growth) * Q, dq - growth[:, None] * q
        return dQ, dq


def one_pass_sgd(
    problem: TeacherStudent,
    *,
    sgd_temperature: float,
    horizon: float,
    record: ArrayLike | xr.DataArray | None = None,
    ridge: float | None = None,
    overlap: ArrayLike | None = None,
    self_overlap: ArrayLike | None = None,
    step_schedule: Factor | None = None,
    spherical: bool = False,
    averages: AveragesName = "auto",
    rtol: float | None = None,
) -> xr.Dataset:
    """Test loss and overlaps of one-pass SGD in the limit of large d.

    Args:
      problem: teacher, student, start, noise and loss.
      sgd_temperature: tau = eta / B, of order 1 for steps eta of order 1; 0 for steps that vanish with d (gradient
        flow of the population loss). Steps that grow with d diverge.
      horizon: time at the end, steps x eta / d.
      record: times to report, in order, on a labelled axis (a plain array gets the dim `t`).
      ridge: lam of the step theta <- (1 - lam eta / d) theta; that of the problem times its d unless given.
      overlap, self_overlap: q (m, K) and Q (m, m) at the start, of one run or of several (a first axis, the dim
        `seed`); the problem's unless given. Where q = 0 is a fixed point, as for even teachers, runs escape by the
        chance of their start, of order 1/sqrt(d): give the overlaps that they had.
      step_schedule: factor on the step size, a function of time that JAX can trace; time goes on as without it.
      spherical: each student is scaled back to its norm after every step.
      averages: "closed" for erf committees; "hermite" for smooth losses and at most three students and teachers;
        "sobol" (quasi-random points, errors of some 1e-4) for anything; "auto" takes the first that is safe.
      rtol: accuracy of a step of the integrator, relative and absolute; 1e-8, with "sobol" 1e-6, unless given.

    Returns: Dataset on the record's axis: test_loss, test_error (sign labels), overlap, self_overlap.

    Raises: InputError for a start that is not a covariance, closed forms asked for where there are none, or a run that
      diverges.

    Source: Saad & Solla, Phys. Rev. E 1995; Ben Arous, Gheissari & Jagannath, NeurIPS 2022; Veiga, Stephan,
      Loureiro, Krzakala & Zdeborova, NeurIPS 2022. Integrated by Diffrax (Kidger 2021), method of Tsitouras.
    """
    horizon = as_positive(horizon, "horizon")
    times, dim, coords = as_times(record, horizon, horizon / 50)
    if times.min() < 0 or times.max() > horizon * (1 + 1e-9) or (np.diff(times) < 0).any():
        raise InputError(f"record must be in order and lie in [0, {horizon:g}]")
    with jax.enable_x64(True):
        flow, name = make_flow(problem, sgd_temperature, ridge, averages, step_schedule, spherical)
        Q, q, several = starts(flow.problem, self_overlap, overlap)
        warn_of_rest(flow, Q, q)
        grid, places = np.unique(np.append(times, 0.0), return_inverse=True)
        found, well = integrate(flow, as_real(Q), as_real(q), as_real(grid), tolerance(rtol, name))
        if not np.all(well):
            raise InputError(
                f"run {int(np.argmin(well))} diverges before t={horizon:g}",
                why="the equations could not be integrated",
                do="lower sgd_temperature or the step size",
            )
    axes = ("seed", dim) if several else (dim,)
    variables = {}
    for variable, value in found.items():
        array = np.asarray(value)[:, places[:-1]]
        array = array if several else array[0]
        if flow.problem.plain and variable in ("overlap", "self_overlap"):
            array = array[..., 0, 0]
        variables[variable] = ((*axes, *flow.problem.dims.get(variable, ())), array)
    attrs = {
        "theory": "riron.theory.online_sgd.one_pass_sgd", "sgd_temperature": float(sgd_temperature),
        "ridge": float(flow.lam), "averages": name,
    }  # fmt: skip
    return xr.Dataset(variables, coords, attrs)


def make_flow(
    problem: TeacherStudent,
    sgd_temperature: float,
    ridge: float | None,
    averages: AveragesName,
    step_schedule: Factor | None = None,
    spherical: bool = False,
) -> tuple[Flow, str]:
    """The equations in float64, and how their averages are taken."""
    tau = as_positive(sgd_temperature, "sgd_temperature", zero=True)
    small = reduced(problem)
    lam = float(small.ridge) * len(problem.spectrum) if ridge is None else as_positive(ridge, "ridge", zero=True)
    name, nodes = choose(small, averages)
    return Flow(small, nodes, as_real(tau), as_real(lam), step_schedule, bool(spherical)), name


def tolerance(rtol: float | None, averages: str) -> float:
    return (1e-6 if averages == "sobol" else 1e-8) if rtol is None else as_positive(rtol, "rtol")


def as_real(value: Any) -> jax.Array:
    return jnp.asarray(value, float)


def starts(
    problem: TeacherStudent, self_overlap: ArrayLike | None, overlap: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Q (seeds, m, m) and q (seeds, m, K) at the start, and whether several runs were asked for."""
    m, K = problem.start_overlap.shape
    shapes = {"self_overlap": (m, m), "overlap": (m, K)}
    given = {"self_overlap": self_overlap, "overlap": overlap}
    own = {"self_overlap": problem.start_gram, "overlap": problem.start_overlap}
    arrays, several = {}, False
    for name, shape in shapes.items():
        value = given[name]
        array = np.asarray(own[name]) if value is None else as_array(np.asarray(value), name, ndim=(0, 1, 2, 3))
        if array.ndim < 2 and (m, K) == (1, 1):
            array = array.reshape(*array.shape, 1, 1)
        if array.shape[-2:] != shape or array.ndim not in (2, 3):
            raise InputError(f"{name} has shape {array.shape} and needs {shape}, or (seeds, ...) for several runs")
        several = several or array.ndim == 3
        arrays[name] = array[None] if array.ndim == 2 else array
    counts = {len(a) for a in arrays.values()} - {1}
    if len(counts) > 1:
        raise InputError(f"overlap and self_overlap have {sorted(counts)} runs", do="give as many of both")
    size = max(counts, default=1)
    Q, q = (np.broadcast_to(arrays[name], (size, *shapes[name])) for name in ("self_overlap", "overlap"))
    rho = start_covariance(problem)[m:, m:]
    for k in range(size):
        joint = np.block([[Q[k], q[k]], [q[k].T, rho]])
        smallest = np.linalg.eigvalsh(joint)[0]
        if not np.allclose(Q[k], Q[k].T) or smallest < -1e-9 * np.trace(joint):
            raise InputError(
                f"the start of run {k} is not a covariance (smallest eigenvalue {smallest:.3g})",
                do="lower the overlap or raise self_overlap",
            )
    return Q, q, several


@eqx.filter_jit
def integrate(
    flow: Flow, Q: jax.Array, q: jax.Array, times: jax.Array, rtol: float
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Overlaps and losses of all runs (Q (seeds, m, m), q (seeds, m, K)) at the times, and whether each went well."""

    def one(start):
        path, well = trajectory(flow, start, times, rtol)
        losses = jax.lax.map(lambda pair: losses_of(flow.problem, flow.nodes, *pair), path)
        return losses | {"overlap": path[1], "self_overlap": path[0]}, well

    return jax.lax.map(one, (Q, q))


def trajectory(flow: Flow, start: Any, times: jax.Array, rtol: float) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """(Q, q) of one run at the times, and whether the integrator went through."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow),
        diffrax.Tsit5(),
        t0=times[0],
        t1=times[-1],
        dt0=None,
        y0=start,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
        max_steps=MOST_STEPS,
        throw=False,
    )
    assert solution.ys is not None
    return solution.ys, diffrax.is_successful(solution.result)


def warn_of_rest(flow: Flow, Q: np.ndarray, q: np.ndarray) -> None:
    """Warns of runs that start without overlap where none can grow."""
    for k in np.flatnonzero(~q.any(axis=(1, 2))):
        first, second = averages_of(flow.problem, flow.nodes, as_real(Q[k]), as_real(q[k]))
        scale = float(jnp.sqrt(jnp.trace(second) * flow.problem.teacher_gram.max()))
        if float(jnp.abs(first[:, len(Q[k]) :]).max()) < AT_REST * scale:
            warnings.warn(
                f"run {k} starts at overlap 0 and never escapes: the equations lack the chance of a finite start; "
                "give `overlap` of the order of 1/sqrt(d)",
                stacklevel=3,
            )
            return
