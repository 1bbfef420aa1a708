"""SGD on n = delta d samples and its theory, told in the same words: what the studies of this limit share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..dynamics import gradient_descent, sgd
from ..dynamics.base import Dynamics
from ..errors import InputError
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..lab.verdict.base import Claim
from ..problems import TeacherStudent
from ..theory.dmft import solve


def steep(x: jax.Array) -> jax.Array:
    """tanh(3 x), an activation with a rugged landscape."""
    return jnp.tanh(3 * x)


def summed_steep(r_star: jax.Array) -> jax.Array:
    return jnp.sum(steep(r_star))


def third_hermite(r_star: jax.Array) -> jax.Array:
    """He_3(r) / sqrt 6 of the one pre-activation."""
    return (r_star[0] ** 3 - 3 * r_star[0]) / 6**0.5


def bounded_hermite(x: jax.Array) -> jax.Array:
    """The same polynomial of 3 tanh(x / 3): its slope does not run away."""
    return third_hermite(3 * jnp.tanh(x / 3)[None])


def summed_tanh(r_star: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(2 * r_star))


MODELS: dict[str, dict[str, Any]] = {
    "least-squares": {"teacher_gram": 1.5},
    "logistic": {"loss": "logistic", "sign": True},
    "hinge": {"loss": "hinge", "sign": True},
    "tanh": {"activation": "tanh", "link": summed_tanh},
    "relu": {"activation": "relu", "link": "relu", "overlap": 0.2},
    "tanh-2": {"activation": "tanh", "link": "tanh", "second": [1.0, 0.5], "teacher_gram": [[1.0, 0.3], [0.3, 1.5]]},
    "tanh-4": {"activation": "tanh", "link": "tanh", "second": [0.5] * 4, "teacher_gram": [[1.0, 0.3], [0.3, 1.0]]},
    "erf-2": {"activation": "erf", "link": "erf", "second": [1.0, 1.0], "teacher_gram": [[1.0, 0.0], [0.0, 1.0]]},
    "erf-4": {"activation": "erf", "link": "erf", "second": [0.5] * 4, "teacher_gram": [[1.0, 0.3], [0.3, 1.0]]},
    "steep": {"activation": steep, "link": summed_steep, "start_gram": 4.0},
    "hermite": {"activation": bounded_hermite, "link": third_hermite},
}
"""Students, teachers and losses by name, as `TeacherStudent` takes them."""

SIZES = {"quick": (32, 128, 512), "paper": (64, 256, 1024)}
"""Far apart: of rates 1/2 and 1 the extrapolation then loses least to chance (a fifth at a ratio of 4, half at 2)."""

SMALL = 16  # dimension of the problem that the theory is told: it depends on none
SAMPLINGS = {"poisson": "with-replacement", "bernoulli": "without-replacement", "shuffle": "epochs"}


@dataclass(frozen=True)
class ProportionalRun:
    """A run with n = delta d samples, in words of the limit.

    model: of `MODELS`; clock: "none" for gradient descent, or one of `SAMPLINGS`; dt: time of a step, eta / d;
    horizon: time at the end; batch_fraction: batch size over number of samples; ridge: lam of the step
    theta <- (1 - dt lam) theta; momentum: heavy ball; points: of the record.
    """

    model: str
    clock: str
    delta: float
    dt: float
    horizon: float
    batch_fraction: float = 1.0
    label_noise: float = 0.0
    ridge: float = 0.0
    momentum: float = 0.0
    points: int = 8

    def problem(self, d: int) -> TeacherStudent:
        return TeacherStudent(d, label_noise=self.label_noise, ridge=self.ridge / d, **MODELS[self.model])

    def samples(self, d: int) -> int:
        return round(self.delta * d)

    def batch(self, d: int) -> int:
        """Samples in a step: a whole number, or the dots would be of another temperature than the line."""
        batch = self.batch_fraction * self.samples(d)
        if abs(batch - round(batch)) > 1e-6 or round(batch) < 1:
            raise InputError(
                f"batch_fraction={self.batch_fraction:g} of {self.samples(d)} samples is {batch:g}, not a whole number",
                do="choose a multiple of one over the number of samples at every size",
            )
        return round(batch)

    def dynamics(self, d: int) -> Dynamics:
        if self.clock == "none":
            return gradient_descent(step_size=self.dt * d, momentum=self.momentum)
        sampling: Any = SAMPLINGS[self.clock]
        return sgd(step_size=self.dt * d, batch=self.batch(d), sampling=sampling, momentum=self.momentum)

    @property
    def steps(self) -> np.ndarray:
        """Recorded steps, evenly spread up to the horizon."""
        last = round(self.horizon / self.dt)
        return np.unique(np.rint(np.linspace(last / self.points, last, self.points)).astype(int))

    def axis(self, values: np.ndarray) -> xr.DataArray:
        return xr.DataArray(values, {"t": self.dt * self.steps}, "t")

    def simulate(self, d: int, *, seeds: int, seed: int) -> xr.Dataset:
        """Independent runs, each on a sample of its own."""
        record, n = self.axis(self.steps), self.samples(d)
        return simulate(self.problem(d), self.dynamics(d), n=n, record=record, seeds=seeds, seed=seed)

    @property
    def told(self) -> dict[str, Any]:
        """Keywords of `theory.dmft.solve` that speak of this run as it is, steps of finite length."""
        fraction = None if self.clock == "none" else self.batch_fraction
        shared = {"horizon": self.horizon, "dt": self.dt, "momentum": self.momentum}
        return shared | {"clock": self.clock, "batch_fraction": fraction}

    def predict(self, d: int, **options: Any) -> partial:
        """The line, unevaluated; options: paths, groups and key of `solve`."""
        return partial(line, self, delta=self.samples(d) / d, step_schedule=None, **self.told | options)

    def claims(self) -> tuple[Claim, ...]:
        """The losses follow the line, and the error of sign labels."""
        sign = MODELS[self.model].get("sign")
        return tuple(Equal(name) for name in ("train_loss", "test_loss", *(["test_error"] if sign else [])))


def line(run: ProportionalRun, *, delta: float, step_schedule: Any = None, **told: Any) -> xr.Dataset:
    """`theory.dmft.solve` for a run, computed once for all sizes.

    The lines of all sizes then share their error by chance. The verdict takes it for independent, which makes the
    error of its extrapolation larger than it is (weights that sum to 1 have squares that sum to 1.5 or more at three
    sizes): it errs towards fewer false alarms.
    """
    return solved(run, delta, step_schedule, tuple(sorted(told.items()))).copy(deep=True)


@lru_cache(maxsize=64)
def solved(run: ProportionalRun, delta: float, step_schedule: Any, told: tuple[tuple[str, Any], ...]) -> xr.Dataset:
    record = run.axis(run.dt * run.steps)
    return solve(run.problem(SMALL), delta=delta, step_schedule=step_schedule, record=record, **dict(told))


def joined(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Dots, or lines, of several methods: their variables with the method's name in front; complete if all are."""
    named = [data.rename({old: f"{name}_{old}" for old in data.data_vars}) for name, data in found.items()]
    complete = all(data.attrs.get("complete", True) for data in found.values())
    whole = xr.merge(named, join="exact", compat="no_conflicts", combine_attrs="drop")
    return whole.assign_attrs(complete=int(complete))


def slower(times: np.ndarray) -> np.ndarray:
    """A wrong step size, for mutations."""
    return np.full(np.shape(times), 0.8)
