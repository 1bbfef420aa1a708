"""Particle gradient descent follows the continuity equation of the mean field, with an error of order 1/N (D1).

The line carries a grid of starting points along their characteristics; the dots are N neurons from independent starts.
Beside the plain flow stands stochastic particle gradient descent (fresh samples, decaying steps), which
follows the same flow in its own time, the sum of its steps.
"""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import xarray as xr

from ..dynamics.mean_field_langevin import particle_flow, spgd
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..problems.base import Objective, OnePass
from ..problems.mean_field import Watched
from ..theory.particle_flow_law import particle_flow_law
from .base import Study, param
from .mean_field_line import step_problem

FIRST, HALVING = 0.005, 2000.0  # step sizes of the stochastic form: FIRST / (1 + k / HALVING)


@dataclass(frozen=True, kw_only=True)
class ParticleFlow(Study):
    cites = ("mei2018", "nitanda2017spgd")
    sizes = {"quick": (50, 100, 200), "paper": (100, 200, 400, 800)}
    compare = (
        Equal("train_loss", rates=(1,)),
        Equal("second_moment", rates=(1,)),
        Equal("stochastic_loss", rates=(1,), tolerance=0.05),
    )
    mutations = {"step_size": 1.2, "ridge": 1.5}
    labels = {"size": "N", "t": "time, steps x step size"}

    scale: float = param(2.0, 0.1, 10.0, "largest output of a neuron, R")
    lam1: float = param(0.02, 1e-4, 10.0, "strength of the L2 regulariser")
    start: float = param(1.0, 0.01, 10.0, "standard deviation of the particles at the start")
    samples: int = param(24, 2, 1000, "training samples")
    step_size: float = param(0.1, 1e-3, 1.0, "time of one step")
    batch: int = param(4, 1, 1000, "fresh samples a step of the stochastic form")

    def problem(self, width):
        # The temperature has no part in the flow; it only sets the reference.
        return step_problem(
            self.samples, width, scale=self.scale, lam1=self.lam1, lam2=2 * self.lam1 * self.start**2, seed=self.seed,
            kind=Spread,
        )  # fmt: skip

    def record(self):
        return xr.DataArray(np.rint(self.times() / self.step_size).astype(int), {"t": self.times()}, "t")

    def simulate(self, width, *, seeds):
        problem, options = self.problem(width), {"seeds": seeds, "seed": self.seed}
        runs = simulate(problem, particle_flow(step_size=self.step_size), record=self.record(), **options)
        decaying = spgd(step_size=FIRST, halving=HALVING, batch=self.batch)
        # After k steps the time is the sum of the step sizes, FIRST HALVING log(1 + k / HALVING).
        steps = np.rint(HALVING * np.expm1(self.times() / (FIRST * HALVING))).astype(int)
        record = xr.DataArray(steps, {"t": self.times()}, "t")
        fresh = simulate(OnePass(problem), decaying, record=record, **options)
        found = runs[["train_loss", "second_moment"]].assign(stochastic_loss=fresh.train_loss)
        return found.assign_attrs(complete=int(runs.attrs["complete"] and fresh.attrs["complete"]))

    def times(self):
        return np.array([2, 5, 10, 20, 40, 80]) * self.step_size

    def predict(self, width):
        return partial(both, self.problem(width), step_size=self.step_size, ridge=2 * self.lam1, record=self.record())


class Spread(Watched):
    """The same problem, which also records the second moment of the particles, on fresh samples too."""

    def measure(self, objective: Objective, params: jax.Array) -> dict[str, jax.Array]:
        return {**super().measure(objective, params), **self.measure_fresh(params)}

    def measure_fresh(self, params: jax.Array) -> dict[str, jax.Array]:
        loss = self.losses(self.model(params, self.X)).mean()
        return {"train_loss": loss, "second_moment": (params**2).sum(axis=1).mean()}


def both(problem, *, step_size, ridge, record):
    """The flow, and its loss for steps ten times smaller: what decaying stochastic steps follow."""
    line = particle_flow_law(problem, step_size=step_size, ridge=ridge, record=record)
    fine = particle_flow_law(problem, step_size=step_size / 10, ridge=ridge, record=10 * record)
    return line.assign(stochastic_loss=fine.train_loss)
