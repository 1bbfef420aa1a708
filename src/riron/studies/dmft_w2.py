"""The law of the parameters of gradient descent tends to that of dynamical mean-field theory, in W2 distance (A2).

What is left of the parameters beside the teacher, theta - (q / rho) theta*, is compared with the normal law that the
theory gives. d parameters that follow it are as far from it as d independent draws are: that floor is the line, not 0.

Its two parts are judged by themselves: `spread`, the standard deviation of what is left, against the predicted one in
the limit; and `shape`, the W2 distance once mean and variance are those of the run itself, against independent draws
treated likewise, at every d. The whole distance falls like 1/sqrt(d); that it equals the floor of independent draws to
the last percent is not claimed, for the variance of a run fluctuates by another factor than theirs does. The inputs are
signs: with Gaussian ones the shape would be normal by symmetry, whatever the dynamics.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import xarray as xr

from ..lab.running import simulate
from ..lab.verdict import Equal, Rate
from ..models.base import to_real
from ..problems import TeacherStudent
from ..problems.base import Law, Problem
from ..theory.dmft import normal_floor, parameter_law, shape_distance, wasserstein_to_normal
from .base import Study, param
from .proportional import MODELS, SMALL, ProportionalRun, line


def floor(run, *, d, scale, delta, **told):
    """Distances of d independent draws from the law of `run`, its standard deviation times `scale`."""
    sd = float(scale) * predicted(run, delta=delta, **told)[1]
    distance, shape = normal_floor(round(d)).values()
    return xr.Dataset({
        "wasserstein": sd * distance[0], "wasserstein_stderr": sd * distance[1], "spread": sd,
        "shape": shape[0], "shape_stderr": shape[1],
    })  # fmt: skip


def predicted(run, **told):
    """Slope along the teacher and standard deviation of a parameter at the end."""
    slope, sd = parameter_law(line(run, **told), run.problem(SMALL))
    return float(slope[-1]), float(sd[-1])


@dataclass(frozen=True, kw_only=True)
class DMFTW2(Study):
    cites = ("celentano2021dmft", "gerbelot2024dmft")
    version = 2
    sizes = {"quick": (64, 128, 512), "paper": (256, 512, 1024, 2048, 4096)}
    compare = (Equal("spread"), Equal("shape", rates=()), Rate("wasserstein", exponent=-0.5, atol=0.2))
    mutations = {"scale": 1.15, "d": 1.5}
    labels = {"size": "d", "wasserstein": "W2 distance", "shape": "W2 distance in shape", "spread": "spread"}

    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    dt: float = param(0.2, 1e-4, 10.0, "step size over d")
    horizon: float = param(5.0, 1e-3, 1e4, "time at the end, steps x step size / d")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    paths: int = param(65536, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    @property
    def setting(self) -> ProportionalRun:
        return ProportionalRun(
            "tanh", "none", self.delta, self.dt, self.horizon, label_noise=self.label_noise, points=1
        )

    @property
    def told(self):
        return self.setting.told | {"paths": self.paths, "groups": self.groups, "key": self.seed}

    def simulate(self, d, *, seeds):
        run = self.setting
        problem = TeacherStudent(d, label_noise=self.label_noise, matched=False, entries="rademacher", **MODELS["tanh"])
        watched = Watched(problem, *predicted(run, delta=run.samples(d) / d, **self.told))
        record = run.axis(run.steps)
        dots = simulate(watched, run.dynamics(d), n=run.samples(d), record=record, seeds=seeds, seed=self.seed)
        return dots.isel(t=-1, drop=True)

    def predict(self, d):
        return partial(floor, self.setting, d=d, scale=1.0, delta=self.setting.samples(d) / d, **self.told)


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
        theta, star = params.first[0], self.problem.teacher[:, 0]
        own = (theta @ star) / (star @ star)
        rest = theta - own * star
        rest = theta - own * star
        return {
            "wasserstein": wasserstein_to_normal(theta - self.slope * star, self.sd),
            "shape": shape_distance(rest),
            "spread": jnp.sqrt(jnp.mean(rest**2)),
        }
