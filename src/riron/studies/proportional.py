"""SGD on n = delta d samples and its theory, told in the same words: what the studies of this limit share."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..dynamics import gradient_descent, sgd
from ..dynamics.base import Dynamics
from ..errors import InputError
from ..lab.running import simulate
from ..problems import TeacherStudent


def steep(x: jax.Array) -> jax.Array:
    """tanh(3 x), an activation with a rugged landscape."""
    return jnp.tanh(3 * x)


def summed_steep(r_star: jax.Array) -> jax.Array:
    return jnp.sum(steep(r_star))


def summed_tanh(r_star: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(2 * r_star))


MODELS: dict[str, dict[str, Any]] = {
    "least-squares": {"teacher_gram": 1.5},
    "logistic": {"loss": "logistic", "sign": True},
    "hinge": {"loss": "hinge", "sign": True},
    "tanh": {"activation": "tanh", "link": summed_tanh},
    "relu": {"activation": "relu", "link": "relu", "overlap": 0.2},
    "tanh-2": {"activation": "tanh", "link": "tanh", "second": [1.0, 0.5], "teacher_gram": [[1.0, 0.3], [0.3, 1.5]]},
    "erf-2": {"activation": "erf", "link": "erf", "second": [1.0, 1.0], "teacher_gram": [[1.0, 0.0], [0.0, 1.0]]},
    "erf-4": {"activation": "erf", "link": "erf", "second": [0.5] * 4, "teacher_gram": [[1.0, 0.3], [0.3, 1.0]]},
    "steep": {"activation": steep, "link": summed_steep, "start_gram": 4.0},
}
"""Students, teachers and losses by name, as `TeacherStudent` takes them."""

SAMPLINGS = {"poisson": "with-replacement", "bernoulli": "without-replacement", "shuffle": "epochs"}


@dataclass(frozen=True)
class ProportionalRun:
    """A run with n = delta d samples and batches of n x batch_fraction, in words of the limit.

    model: of `MODELS`; clock: "none" for gradient descent, or one of `SAMPLINGS`; dt: time of a step, eta / d;
    horizon: time at the end; ridge: lam of the step theta <- (1 - dt lam) theta; momentum: heavy ball; points: of the
    record.
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

    def theory(self, d: int) -> dict[str, Any]:
        """Keywords of `theory.dmft.solve` that speak of this run as it is, steps of their finite length."""
        told: dict[str, Any] = {
            "problem": self.problem(d),
            "delta": self.samples(d) / d,
            "horizon": self.horizon,
            "dt": self.dt,
            "clock": self.clock,
            "momentum": self.momentum,
            "record": self.axis(self.dt * self.steps),
        }
        return told if self.clock == "none" else told | {"batch_fraction": self.batch_fraction}


def slower(times: np.ndarray) -> np.ndarray:
    """A wrong step size, for mutations."""
    return np.full(np.shape(times), 0.8)
