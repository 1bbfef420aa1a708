"""At temperatures of order 1 SGD is not its stochastic differential equation: a visit is a jump, not a Gaussian (A8).

Dots: SGD with four samples a step. Line: dynamical mean-field theory with the Poisson clock, which is the limit of any
fixed batch size. The Brownian clock is that of the stochastic differential equation with the same mean and covariance;
as a wrong line it is refuted for kinked activations. As the temperature tends to 0 the two agree.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..dynamics import sgd
from ..lab.running import simulate
from ..lab.verdict.mutations import Instead
from .base import Study, choice, param
from .proportional import SIZES, ProportionalRun


@dataclass(frozen=True, kw_only=True)
class SGDvsSDE(Study):
    cites = ("gerbelot2024dmft",)
    sizes = SIZES
    mutations = {"clock": Instead("brownian")}
    labels = {"size": "d", "t": "time, steps x step size / d"}

    model: Literal["relu", "tanh", "least-squares", "logistic", "hinge"] = choice("relu", "student, teacher and loss")
    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    sgd_temperature: float = param(1.0, 1e-4, 10.0, "step size over batch size")
    batch: int = param(4, 1, 1000, "samples per step")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    paths: int = param(98304, 64, 10000000, "sample paths of the theory")
    groups: int = param(24, 2, 10000, "independent sweeps of the theory")

    @property
    def setting(self) -> ProportionalRun:
        """Steps of the theory, which have no length in the limit; the runs have their own."""
        return ProportionalRun(self.model, "poisson", self.delta, 0.1, 5.0, label_noise=self.label_noise, points=5)

    def claims(self):
        return self.setting.claims()

    def simulate(self, d, *, seeds):
        run, step_size = self.setting, self.sgd_temperature * self.batch
        times = run.dt * run.steps
        record = run.axis(np.rint(times * d / step_size).astype(int))
        dynamics = sgd(step_size=step_size, batch=self.batch)
        return simulate(run.problem(d), dynamics, n=run.samples(d), record=record, seeds=seeds, seed=self.seed)

    def predict(self, d):
        told = {"paths": self.paths, "groups": self.groups, "key": self.seed, "sgd_temperature": self.sgd_temperature}
        told |= {"batch_fraction": None}
        return self.setting.predict(d, **told)
