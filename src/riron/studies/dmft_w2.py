"""The law of the parameters of gradient descent tends to that of dynamical mean-field theory, in W2 distance (A2).

What is left of the parameters beside the teacher, theta - (q / rho) theta*, is compared with the normal law that the
theory gives. d parameters that follow it are as far from it as d independent draws are: that floor is the line, not 0.
The line is not exact at finite d: the overlaps of a run fluctuate around the limit too, with a share of the distance.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import xarray as xr

from ..dynamics import gradient_descent
from ..lab.running import simulate
from ..lab.verdict import Equal, Rate
from ..models.base import to_real
from ..problems import TeacherStudent
from ..problems.base import Law, Problem
from ..theory.dmft import parameter_law, sampling_floor, solve, wasserstein_to_normal
from .base import Study, param
from .proportional import MODELS


@dataclass(frozen=True, kw_only=True)
class DMFTW2(Study):
    cites = ("celentano2021dmft", "gerbelot2024dmft")
    sizes = {"quick": (64, 128, 256), "paper": (256, 512, 1024, 2048)}
    compare = (Equal("wasserstein", rates=(), tolerance=0.1), Rate("wasserstein", exponent=-0.5, atol=0.2))
    mutations = {"scale": 1.4, "d": 2.0}
    labels = {"size": "d", "wasserstein": "W2 distance of the parameters to the theory"}

    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    dt: float = param(0.2, 1e-4, 10.0, "step size over d")
    horizon: float = param(5.0, 1e-3, 1e4, "time at the end, steps x step size / d")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    paths: int = param(65536, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    def problem(self, d):
        return TeacherStudent(d, label_noise=self.label_noise, matched=False, **MODELS["tanh"])

    def told(self, d):
        record = xr.DataArray([self.horizon], {"t": [self.horizon]}, "t")
        numbers = {"delta": self.delta, "horizon": self.horizon, "dt": self.dt, "record": record}
        return {"problem": self.problem(d), "paths": self.paths, "groups": self.groups, **numbers}

    @lru_cache(maxsize=4)  # noqa: B019  the dots are measured against one law, whatever their number
    def law(self, d):
        slope, sd = parameter_law(solve(**self.told(d), key=self.seed), self.problem(d))
        return float(slope[0]), float(sd[0])

    def simulate(self, d, *, seeds):
        record = xr.DataArray([round(self.horizon / self.dt)], {"t": [self.horizon]}, "t")
        watched = Watched(self.problem(d), *self.law(d))
        dynamics = gradient_descent(step_size=self.dt * d)
        return simulate(watched, dynamics, n=round(self.delta * d), record=record, seeds=seeds, seed=self.seed)

    def predict(self, d):
        return partial(sampling_floor, **self.told(d), d=d, scale=1.0, key=self.seed)


class Watched(Problem):
    """A problem that also measures how far the parameters are from a law: theta_i = slope theta*_i + sd g_i."""

    problem: TeacherStudent
    slope: jax.Array
    sd: jax.Array

    def __init__(self, problem: TeacherStudent, slope: float, sd: float):
        self.problem, self.slope, self.sd = problem, to_real(slope), to_real(sd)

    @property
    def law(self) -> Law:
        return self.problem.law

    @property
    def model(self):
        return self.problem.model

    @property
    def loss(self):
        return self.problem.loss

    @property
    def ridge(self) -> jax.Array:
        return self.problem.ridge

    def initial(self, key):
        return self.problem.initial(key)

    def measure_fresh(self, params):
        rest = params.first[0] - self.slope * self.problem.teacher[:, 0]
        return {"wasserstein": wasserstein_to_normal(rest, self.sd)}
