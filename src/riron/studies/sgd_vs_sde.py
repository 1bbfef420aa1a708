"""At temperatures of order 1 SGD is not its stochastic differential equation: a visit is a jump, not a Gaussian (A8).

Dots: SGD with four samples a step. Line: dynamical mean-field theory with the Poisson clock, which is the limit of any
fixed batch size. The Brownian clock is that of the stochastic differential equation with the same mean and covariance;
as a wrong line it is refuted for kinked activations. As the temperature tends to 0 the two agree.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import xarray as xr

from ..dynamics import sgd
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..lab.verdict.mutations import Instead
from ..problems import TeacherStudent
from ..theory.dmft import solve
from .base import Study, choice, param
from .proportional import MODELS

TIMES = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


@dataclass(frozen=True, kw_only=True)
class SGDvsSDE(Study):
    cites = ("gerbelot2024dmft",)
    sizes = {"quick": (128, 256, 512), "paper": (256, 512, 1024)}
    # Overlaps fluctuate by 1/sqrt(d) around their limit, smooth averages over them are shifted by 1/d.
    compare = (Equal("train_loss", rates=(1,)), Equal("test_loss", rates=(1,)))
    mutations = {"clock": Instead("brownian")}
    labels = {"size": "d", "t": "time, steps x step size / d"}

    model: Literal["relu", "tanh", "least-squares", "logistic", "hinge"] = choice("relu", "student, teacher and loss")
    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    sgd_temperature: float = param(1.0, 1e-4, 10.0, "step size over batch size")
    batch: int = param(4, 1, 1000, "samples per step")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    paths: int = param(98304, 64, 10000000, "sample paths of the theory")
    groups: int = param(24, 2, 10000, "independent sweeps of the theory")

    def problem(self, d):
        return TeacherStudent(d, label_noise=self.label_noise, **MODELS[self.model])

    def simulate(self, d, *, seeds):
        steps = np.rint(TIMES * d / (self.sgd_temperature * self.batch)).astype(int)
        record = xr.DataArray(steps, {"t": TIMES}, "t")
        dynamics = sgd(step_size=self.sgd_temperature * self.batch, batch=self.batch)
        n = round(self.delta * d)
        return simulate(self.problem(d), dynamics, n=n, record=record, seeds=seeds, seed=self.seed)

    def predict(self, d):
        return partial(
            solve,
            self.problem(d),
            delta=self.delta,
            horizon=TIMES[-1],
            dt=0.1,
            clock="poisson",
            sgd_temperature=self.sgd_temperature,
            record=xr.DataArray(TIMES, {"t": TIMES}, "t"),
            paths=self.paths,
            groups=self.groups,
            key=self.seed + d,
        )
