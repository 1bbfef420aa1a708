"""Dynamical mean-field theory of SGD: train loss, test loss, overlaps, correlations and responses along a run."""

import os
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ...errors import InputError
from ...problems.teacher_student import TeacherStudent
from . import drawing
from .clocks import ClockName, Rate
from .faults import check_memory, first_divergence, warn_of_few_paths, warn_of_symmetry
from .observables import Values, extrapolated, mean_and_error, observables, two_time
from .past import Plan, plan
from .reduced import reduced, start_covariance
from .setting import Schedule, Setting, settle
from .stability import warn_of_long_steps
from .sweep import Group, Law, Rows, sweep_groups, usable_cores

RESPONSE_SCALE = 1.0  # prior size of the response per unit of time: .03 biases the test loss by 25 %, 4 doubles scatter


def solve(
    problem: TeacherStudent,
    *,
    delta: float,
    horizon: float,
    dt: float,
    clock: ClockName | None = None,
    sgd_temperature: float = 0.0,
    batch_fraction: float | None = None,
    ridge: float | None = None,
    momentum: float = 0.0,
    step_schedule: Schedule | None = None,
    batch_schedule: Schedule | None = None,
    record: ArrayLike | xr.DataArray | None = None,
    correlations_at: Iterable[float] = (),
    paths: int = 16_384,
    groups: int = 16,
    blocks: tuple[int, int] | Literal["auto"] | None = "auto",
    rtol: float | None = None,
    key: int | jax.Array = 0,
) -> xr.Dataset:
    """Losses and overlaps of SGD on n = delta d samples in the limit of large d, from one causal sweep.

    A step with learning rate eta advances time by dt = eta / d; a batch B has the temperature eta / B.

    Args:
      problem: teacher, student, start, noise and loss. Only the gradient of the loss is used; kinks are allowed.
      delta: samples per dimension, n / d.
      horizon: time at the end, steps x eta / d.
      dt: time step.
      clock: how samples enter a step.
        "none": gradient descent with learning rate d dt, exactly. "flow": its limit dt -> 0.
        "bernoulli": batches of n x batch_fraction fresh samples, exactly (the default with `batch_fraction`).
        "poisson": with `batch_fraction` batches drawn with replacement, exactly; with `sgd_temperature` SGD with
        batches much smaller than n, dt -> 0 (the default then).
        "shuffle": epochs; exactly with `batch_fraction`, dt -> 0 with `sgd_temperature`.
        "brownian": the stochastic differential equation with the mean and variance of SGD, dt -> 0. It is NOT the limit
        of SGD at temperatures of order 1: a visit moves a sample's output by a jump, not by a Gaussian.
        The limit dt -> 0 is Richardson's from dt and dt/2 with common random numbers.
      sgd_temperature: eta / B, units of time per sample and dimension; for batches much smaller than n.
      batch_fraction: B / n.
      ridge: lam of the step theta <- (1 - dt lam) theta; that of the problem times its d unless given.
      momentum: heavy ball as in `dynamics.sgd`, for "none" and runs with `batch_fraction`. At the scale of single
        steps, B much smaller than n, momentum only divides eta (dt and the temperature) by 1 - momentum.
      step_schedule: factor on the step size as a function of times (an array); time goes on as without it.
      batch_schedule: factor on `batch_fraction` as a function of times, for "bernoulli" and "poisson".
      record: times to report, multiples of dt, on a labelled axis (a plain array gets the dim `t`).
      correlations_at: times, multiples of dt, between which correlation and response functions are reported.
      paths: sample paths, in all groups together.
      groups: independent sweeps of paths / groups paths, which give the standard errors. The bias of a group is of
        order 1 / (paths / groups): measured 1 to 3 % of the losses with 256 paths, below 1 % with 1024.
      blocks: (keep, per): the newest `keep` steps are kept singly and about `per` blocks of each length 2, 4, 8, ...
        "auto": (16, 4), with momentum as many more single steps as it remembers. Near the stability edge responses
        change sign from step to step and blocks average them badly (up to 0.5 % measured): raise `keep` there. None
        for all of the past. Memory: 16 m bytes for each path of a group and each block (step).
      rtol: relative accuracy asked for. With it the error by too few paths is estimated too, from a run with half of
        them, and a warning says what exceeds it.
      key: a whole number or a JAX key.

    Returns: Dataset on the record's axis: train_loss, test_loss, test_error (sign labels), overlap q = theta^T theta*/d
      and self_overlap Q = theta^T theta/d (numbers for m = K = 1), each with `_stderr` and `_stderr_df`; in limits
      `_dt_error`, the change by extrapolation (the error left is smaller); with `rtol` `_paths_error`. With
      `correlations_at` correlation E[theta_t theta_s] and response d theta_t / d u_s to a kick u_s added in the step
      that starts at s (averaged over the block of steps that s lies in, where that is joined).

    Raises: InputError for input that cannot be; a diverging run warns, names stable steps, and is NaN from there on.

    Source: Celentano, Cheng & Montanari 2021; Gerbelot, Troiani, Mignacco, Krzakala & Zdeborova 2022; Mignacco,
      Krzakala, Urbani & Zdeborova 2020 (batches); Nishiyama & Imaizumi (SGD at temperature of order 1).
    """
    if ridge is None:
        ridge = float(problem.ridge) * len(problem.spectrum) if isinstance(problem, TeacherStudent) else 0.0
    setting, dim, coords = settle(
        delta=delta, horizon=horizon, dt=dt, clock=clock, temperature=sgd_temperature, fraction=batch_fraction,
        ridge=ridge, momentum=momentum, schedule=step_schedule, batches=batch_schedule, record=record,
        asked=correlations_at,
    )  # fmt: skip
    each = paths_in_a_group(paths, groups)
    blocks = (16 + round(momentum / (1 - momentum)), 4) if blocks == "auto" else blocks
    with jax.enable_x64(True):
        small = reduced(problem)
        warn_of_symmetry(small)
        key = jax.random.key(key) if isinstance(key, int) else key
        m, K = small.start_overlap.shape
        chances = drawing.draws(key, groups, each, m, m + K)
        values, moved = forecast(small, setting, chances, blocks)
        halves = forecast(small, setting, drawing.first_half(chances), blocks)[0] if rtol is not None else None
    variables: dict[str, Any] = {}
    for name, per_group in values.items():
        axes = ("time", "other_time") if name in ("correlation", "response") else (dim,)
        axes += () if per_group.ndim == 1 + len(axes) else small.dims.get(name, ("student", "other_student"))
        mean, error = mean_and_error(per_group)
        variables[name], variables[f"{name}_stderr"] = (axes, mean), (axes, error)
        variables[f"{name}_stderr_df"] = ((), float(groups - 1))
        if name in moved:
            variables[f"{name}_dt_error"] = (axes, moved[name])
        if halves is not None:
            variables[f"{name}_paths_error"] = (axes, np.abs(np.mean(per_group - halves[name], axis=0)))
    if setting.asked:
        times = setting.dt * np.asarray(setting.asked)
        coords = coords | {"time": ("time", times), "other_time": ("other_time", times)}
    attrs = {
        "theory": "riron.theory.dmft.solve", "clock": clock or setting.kernel, "dt": setting.dt, "delta": setting.delta,
        "sgd_temperature": setting.temperature, "batch_fraction": setting.fraction, "ridge": setting.ridge,
        "momentum": float(momentum), "paths": groups * each, "groups": groups,
        "blocks": plan(setting.steps + 1, blocks).capacity,
    }  # fmt: skip
    result = xr.Dataset(variables, coords, attrs)
    if rtol is not None:
        warn_of_errors(result, rtol)
    return result


def forecast(
    problem: TeacherStudent, setting: Setting, chances: drawing.Draws, blocks: tuple[int, int] | None
) -> tuple[Values, Values]:
    """Observables of each group, and how far the limit dt -> 0 has moved them (nothing without one)."""
    if not setting.limit:
        return at_one_resolution(problem, setting, chances, blocks), {}
    coarse = at_one_resolution(problem, setting.coarse(), chances, blocks)
    return extrapolated(coarse, at_one_resolution(problem, setting.halved(), chances, blocks))


def at_one_resolution(
    problem: TeacherStudent, setting: Setting, chances: drawing.Draws, blocks: tuple[int, int] | None
) -> Values:
    """The sweeps of all groups, and what is measured on them."""
    groups, _, paths = chances.base.shape
    m = problem.second.shape[0]
    planned = plan(setting.steps + 1, blocks, tuple(sorted(set(setting.asked))))
    together = jax.default_backend() != "cpu"
    side_by_side = groups if together else min(groups, usable_cores())
    check_memory((planned.capacity + 1) * m, paths, side_by_side, blocks is not None, available_memory())
    law, group, steps = inputs_of_sweep(problem, setting, chances, planned)
    points, kept_w, kept_R = sweep_groups(
        problem.sample_loss, law, group, steps, setting.kernel, setting.pairs,
        (planned.capacity, len(setting.asked)), together,
    )  # fmt: skip
    diverged = first_divergence(problem, points, setting)
    if diverged is None:
        warn_of_few_paths(points, setting, paths, planned.capacity * m)
        if setting.pairs or not setting.limit:  # of two resolutions the coarse one speaks for both
            warn_of_long_steps(problem, points, setting)
    values = observables(problem, points, setting.record)
    if problem.plain:
        values |= {name: values[name][..., 0, 0] for name in ("overlap", "self_overlap")}
    if diverged is not None:
        lost = setting.record >= diverged
        values = {n: np.where(lost.reshape(-1, *[1] * (v.ndim - 2)), np.nan, v) for n, v in values.items()}
    if setting.asked:
        pairs = two_time(kept_w, kept_R, setting.asked, planned.owner)
        values |= {name: v[..., 0, 0] for name, v in pairs.items()} if m == 1 else pairs
    return values


def inputs_of_sweep(
    problem: TeacherStudent, setting: Setting, chances: drawing.Draws, planned: Plan
) -> tuple[Law, Group, Rows]:
    """What `sweep` takes, the groups stacked."""
    groups, J, paths = chances.base.shape
    rows = (planned.capacity + 1) * problem.second.shape[0]
    if paths <= rows + J + 2:
        raise InputError(
            f"{paths} paths in a group cannot carry {rows} rows of the past",
            do="use more paths, fewer groups or smaller blocks",
        )
    asked = np.full(setting.steps + 1, len(setting.asked))
    asked[list(setting.asked)] = np.arange(len(setting.asked))
    covariance = start_covariance(problem)
    number = lambda x: jnp.asarray(x, float)
    law = Law(
        Rate(number(setting.dt), number(setting.fraction), number(setting.temperature), number(setting.delta)),
        number(setting.ridge),
        number(covariance),
        number(RESPONSE_SCALE),
        number(setting.factors),
        number(setting.momenta),
        number(setting.shares),
    )
    steps = Rows(*(jnp.asarray(a) for a in (planned.slot, planned.into, planned.gone, asked)))
    base = np.concatenate([chances.base, chances.z[:, None], np.ones((groups, 1, paths))], axis=1)
    start = square_root(covariance) @ chances.base
    group = Group(number(start), number(base), number(chances.early), chances.keys[:, 0], chances.keys[:, 1])
    return law, group, steps


def paths_in_a_group(paths: int, groups: int) -> int:
    if int(groups) != groups or groups < 2:
        raise InputError(f"groups={groups} must be a whole number >= 2", do="8 or more give usable standard errors")
    if int(paths) != paths or paths < groups:
        raise InputError(f"paths={paths} must be a whole number, at least one for each of {groups} groups")
    return int(paths) // int(groups)


def square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def available_memory() -> float:
    """Half of the machine's memory, in bytes."""
    return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def warn_of_errors(result: xr.Dataset, rtol: float) -> None:
    """Warns of estimated errors beyond rtol: of chance (2 standard errors), of dt, of the number of paths."""
    for name in ("train_loss", "test_loss"):
        for kind, factor, cure in (
            ("stderr", 2, "more paths"),
            ("dt_error", 1, "a smaller dt"),
            ("paths_error", 1, "more paths in a group"),
        ):
            if f"{name}_{kind}" in result:
                error = float((factor * result[f"{name}_{kind}"] / abs(result[name])).max())
                if error > rtol:
                    warnings.warn(
                        f"{name}: {kind} is up to {error:.2%} of the value, beyond rtol={rtol:g}; use {cure}",
                        stacklevel=3,
                    )
