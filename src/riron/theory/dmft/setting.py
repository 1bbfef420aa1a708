"""What a forecast is asked for, checked and put on the grid of steps."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ...checks import as_array, as_positive, nearest
from ...errors import InputError
from .clocks import ClockName

Schedule = Callable[[np.ndarray], ArrayLike]
LIMITS = ("flow", "poisson", "shuffle", "brownian")
"""Clocks that speak of steps of vanishing size, if they are given a temperature (the flow: always)."""


@dataclass(frozen=True)
class Setting:
    """One run of the theory at one resolution.

    kernel: the clock that is computed; dt; steps T; fraction b of the samples in a step; temperature; delta; ridge
    lam; factors (T+1,) on the step size; momenta (T+1,); shares (T+1,) of the samples in each step; record and asked:
    steps; limit: whether dt is to vanish;
    pairs: whether a step is a pair of the fine steps that the random numbers belong to.
    """

    kernel: str
    dt: float
    steps: int
    fraction: float
    temperature: float
    delta: float
    ridge: float
    factors: np.ndarray
    momenta: np.ndarray
    shares: np.ndarray
    record: np.ndarray
    asked: tuple[int, ...]
    limit: bool
    schedule: Schedule | None
    pairs: bool = False

    def halved(self) -> "Setting":
        """The same at dt/2."""
        fine = replace(
            self,
            dt=self.dt / 2,
            steps=2 * self.steps,
            fraction=self.fraction / 2 if self.kernel in ("bernoulli", "shuffle") else self.fraction,
            record=2 * self.record,
            asked=tuple(2 * k for k in self.asked),
            momenta=np.zeros(2 * self.steps + 1),
        )
        factors = factors_of(self.schedule, fine.dt, fine.steps)
        return replace(fine, factors=factors, shares=np.full(len(factors), fine.fraction))

    def coarse(self) -> "Setting":
        return replace(self, pairs=True)


def settle(
    *,
    delta: float,
    horizon: float,
    dt: float,
    clock: ClockName | None,
    temperature: float,
    fraction: float | None,
    ridge: float,
    momentum: float,
    schedule: Schedule | None,
    record: ArrayLike | xr.DataArray | None,
    asked: Iterable[float],
    batches: Schedule | None = None,
) -> tuple[Setting, str, dict[str, Any]]:
    """Checks everything but the problem; also the name and the coordinates of the record's axis."""
    delta, horizon, dt = as_positive(delta, "delta"), as_positive(horizon, "horizon"), as_positive(dt, "dt")
    temperature = as_positive(temperature, "sgd_temperature", zero=True)
    if horizon < dt:
        raise InputError(f"horizon={horizon:g} is shorter than one step dt={dt:g}")
    kernel, share, limit = choose_clock(clock, temperature, fraction, delta, dt)
    if not 0 <= momentum < 1:
        raise InputError(f"momentum={momentum} is outside [0, 1)")
    if momentum and limit:
        raise InputError(
            f"momentum={momentum:g} makes no difference of its own to steps of vanishing size",
            why="it only divides the step size by 1 - momentum",
            do=f"pass dt and sgd_temperature times {1 / (1 - momentum):g} without momentum, or a batch_fraction",
        )
    times, dim, coords = as_times(record, horizon, dt)
    steps = on_grid(times, "record", horizon, dt)
    asked_steps = tuple(on_grid(np.atleast_1d(np.asarray(list(asked), float)), "correlations_at", horizon, dt).tolist())
    T = int(max(steps[-1], *asked_steps, 1))
    factors = factors_of(schedule, dt, T)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.concatenate([[1.0], factors[1:] / factors[:-1]])
    setting = Setting(
        kernel=kernel,
        dt=dt,
        steps=T,
        fraction=share,
        temperature=temperature,
        delta=delta,
        ridge=as_positive(ridge, "ridge", zero=True),
        factors=factors,
        # The velocity of SGD carries gradients, not moves: a smaller step shrinks the old moves with it.
        momenta=momentum * np.where(np.isfinite(ratio), ratio, 0.0),
        shares=shares_of(batches, kernel, share, dt, T, limit),
        record=steps,
        asked=asked_steps,
        limit=limit,
        schedule=schedule,
    )
    return setting, dim, coords


def choose_clock(
    clock: str | None, temperature: float, fraction: float | None, delta: float, dt: float
) -> tuple[str, float, bool]:
    """The clock to compute, the share of the samples in a step, and whether the limit dt -> 0 is meant."""
    if temperature and fraction is not None:
        raise InputError(
            f"both sgd_temperature={temperature:g} and batch_fraction={fraction:g} are given",
            do="give the temperature eta/B for batches much smaller than n, the fraction B/n for a run as it is",
        )
    if clock is None:
        clock = "bernoulli" if fraction is not None else "poisson" if temperature else "none"
    known = get_args(ClockName)
    if clock not in known:
        raise InputError(f"no clock is called '{clock}'", why=nearest(clock, known), do=f"known are {', '.join(known)}")
    if clock in ("none", "flow"):
        if temperature or fraction is not None:
            raise InputError(f"clock='{clock}' has no batches", do="leave out sgd_temperature and batch_fraction")
        return "none", 1.0, clock == "flow"
    if fraction is not None:
        if clock == "brownian":
            raise InputError("clock='brownian' needs sgd_temperature = eta / B, not a batch_fraction")
        if not 0 < fraction <= 1:
            raise InputError(f"batch_fraction={fraction} is outside (0, 1]")
        if clock == "shuffle" and abs(1 / fraction - round(1 / fraction)) > 1e-6 / fraction:
            raise InputError(f"batch_fraction={fraction:g} does not divide an epoch", do="use one over a whole number")
        return clock, float(fraction), False
    if not temperature:
        raise InputError(
            f"clock='{clock}' needs batches", do="give sgd_temperature = eta / B, or batch_fraction = B / n"
        )
    share = dt / (temperature * delta)
    if clock != "brownian" and share > 1 + 1e-9:
        raise InputError(
            f"a step dt={dt:g} is longer than an epoch, sgd_temperature x delta = {temperature * delta:g}",
            do=f"use dt <= {temperature * delta / 4:.3g}",
        )
    if clock == "shuffle" and abs(1 / share - round(1 / share)) > 1e-6 / share:
        raise InputError(
            f"an epoch, sgd_temperature x delta = {temperature * delta:g}, is no multiple of dt={dt:g}",
            do=f"use dt={temperature * delta / np.ceil(1 / share):.6g}",
        )
    if clock == "bernoulli":
        return clock, share, False
    return ("bernoulli" if clock == "poisson" else clock), share, clock in LIMITS


def as_times(record: ArrayLike | xr.DataArray | None, horizon: float, dt: float) -> tuple[np.ndarray, str, dict]:
    """Recorded times, the name of their axis and its coordinates."""
    if record is None:
        last = int(np.floor(horizon / dt + 1e-9))
        record = dt * np.unique(np.round(np.linspace(0, last, min(last, 50) + 1)))
    if isinstance(record, xr.DataArray):
        if record.ndim != 1:
            raise InputError(f"record must have one dimension and has {record.ndim}")
        dim = str(record.dims[0])
        coords = {str(name): (c.dims, c.values) for name, c in record.coords.items() if c.dims in ((), (dim,))}
        return as_array(record.values, "record", ndim=(1,)), dim, coords
    times = as_array(record, "record", ndim=(1,))
    return times, "t", {"t": ("t", times)}


def on_grid(times: np.ndarray, name: str, horizon: float, dt: float) -> np.ndarray:
    """The steps that the times stand for."""
    if times.size == 0:
        return np.zeros(0, int)
    if times.min() < 0 or times.max() > horizon * (1 + 1e-9):
        raise InputError(
            f"{name} asks for t={times.min() if times.min() < 0 else times.max():g}, outside [0, {horizon:g}]"
        )
    if (np.diff(times) < 0).any():
        raise InputError(f"{name} is not in order", do="sort it")
    steps = np.round(times / dt).astype(int)
    off = np.abs(times / dt - steps) > 1e-6 * np.maximum(steps, 1)
    if off.any():
        raise InputError(
            f"{name} asks for t={times[np.argmax(off)]:g}, which is no multiple of dt={dt:g}",
            do="round it, or choose a dt that divides it",
        )
    return steps


def shares_of(batches: Schedule | None, kernel: str, fraction: float, dt: float, steps: int, limit: bool) -> np.ndarray:
    """Share of the samples in each step."""
    if batches is None:
        return np.full(steps + 1, fraction)
    if limit or kernel not in ("bernoulli", "poisson"):
        raise InputError(
            "batch_schedule needs batches of their own", do='give batch_fraction, and clock="bernoulli" or "poisson"'
        )
    shares = fraction * factors_of(batches, dt, steps, "batch_schedule")
    if shares.min() <= 0 or shares.max() > 1 + 1e-9:
        wrong = shares.min() if shares.min() <= 0 else shares.max()
        raise InputError(f"batch_fraction x batch_schedule is {wrong:g} somewhere, outside (0, 1]")
    return np.minimum(shares, 1.0)


def factors_of(schedule: Schedule | None, dt: float, steps: int, name: str = "step_schedule") -> np.ndarray:
    """A schedule's factor at each step."""
    if schedule is None:
        return np.ones(steps + 1)
    times = dt * np.arange(steps + 1)
    factors = as_array(np.broadcast_to(schedule(times), times.shape), f"{name}'s values", ndim=(1,))
    if (factors < 0).any():
        raise InputError(f"{name} is negative at t={times[np.argmax(factors < 0)]:g}")
    return factors
