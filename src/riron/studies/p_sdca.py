"""Particle dual coordinate ascent contracts the dual error by its bound or faster in every epoch (D5).

The bound is 1 - (1/n) gamma / (gamma + s) an update, s = R^2 / (lam2 n), for a (1/gamma)-smooth loss and exact
integrals. The dots have N particles, made anew by tempered sequential Monte Carlo; the value of their dual variables is
known by quadrature. On these problems an epoch gains half as much again as the bound.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import numpy as np
import xarray as xr

from ..dynamics.inner_samplers import Tempering
from ..dynamics.particle_dual_coordinate_ascent import ParticleDualCoordinateAscent
from ..lab.running import simulate
from ..lab.verdict import Below
from ..theory.dual_methods import coordinate_ascent_bound
from ..theory.mean_field_optimum import mean_field_optimum
from .base import Study, choice, param
from .mean_field_line import Integrals, step_problem

SMOOTHNESS = {"squared": 1.0, "logistic": 4.0}


@dataclass(frozen=True, kw_only=True)
class PSDCA(Study):
    cites = ("oko2022psdca",)
    sizes = {"quick": (500,), "paper": (1000, 4000)}
    compare = (Below("dual_error"), Below("epoch_log_change"))
    mutations = {"speed": 2.0}
    labels = {"size": "N", "updates": "dual updates"}

    loss: Literal["squared", "logistic"] = choice("squared", "of the network's output")
    scale: float = param(1.5, 0.1, 10.0, "largest output of a neuron, R")
    lam: float = param(0.1, 1e-2, 10.0, "temperature and strength of the L2 regulariser")
    samples: int = param(24, 2, 1000, "training samples")
    between: int = param(8, 1, 1000, "dual updates between two refreshes of the particles")

    def problem(self, width):
        options = {"scale": self.scale, "lam1": self.lam, "lam2": self.lam, "loss": self.loss, "seed": self.seed}
        return step_problem(self.samples, width, **options)

    def record(self):
        steps = np.array([3, 6, 9, 12])
        updates = steps * self.between
        return xr.DataArray(steps, {"updates": updates}, "updates")

    def simulate(self, width, *, seeds):
        problem = self.problem(width)
        best = mean_field_optimum(problem).objective_rel
        with jax.enable_x64(True):
            dynamics = ParticleDualCoordinateAscent(self.lam, self.between, Tempering(pilot=100))
            runs = simulate(self.problem(width), dynamics, record=self.record(), seeds=seeds, seed=self.seed)
        if not runs.attrs["complete"]:
            return runs
        g, y = np.asarray(runs.dual, float), np.asarray(problem.y, float)
        value = negative_conjugate(self.loss, g, y).mean(axis=-1)
        value -= self.lam * Integrals(problem, self.scale).log_partition(g)
        error = xr.DataArray(best - value, {"seed": runs.seed, "updates": runs.updates}, ("seed", "updates"))
        epochs = (error.updates[-1] - error.updates[0]) / self.samples
        change = np.log(error.isel(updates=-1, drop=True) / error.isel(updates=0, drop=True)) / float(epochs)
        return xr.Dataset({"dual_error": error, "epoch_log_change": change}, attrs={"complete": 1})

    def predict(self, width):
        updates = self.record().updates
        return partial(
            both, self.problem(width), record=updates, smoothness=SMOOTHNESS[self.loss], epoch=float(self.samples)
        )


def both(problem, *, record, smoothness, epoch, speed=1.0):
    """The bound at the record, and its change of the logarithm in an epoch."""
    line = coordinate_ascent_bound(problem, record=record, smoothness=smoothness, speed=speed)
    ends = np.log(line.dual_error.isel(updates=-1, drop=True) / line.dual_error.isel(updates=0, drop=True))
    return line.assign(epoch_log_change=ends * epoch / float(record[-1] - record[0]))


def negative_conjugate(loss, g, y):
    """-loss*(g): what a dual variable is worth, apart from the partition function."""
    if loss == "squared":
        return -(g**2) / 2 - g * y
    u = np.clip(-y * g, 1e-15, 1 - 1e-15)
    return -(u * np.log(u) + (1 - u) * np.log(1 - u))
