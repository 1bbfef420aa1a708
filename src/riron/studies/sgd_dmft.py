"""Losses of SGD with as many samples as dimensions, up to a factor, follow dynamical mean-field theory (A1).

Dots: multi-pass SGD on n = delta d samples. Line: the same run, batches and length of step as they are, in the limit of
large d, from one causal sweep over sample paths. No parameter is fitted. The theory knows of the model only a sample's
gradient, so linear and logistic regression, kinked losses and committees of several units are one code.
"""

from dataclasses import dataclass
from typing import Literal

from ..lab.verdict.mutations import Instead
from .base import Study, choice, param
from .proportional import SIZES, ProportionalRun, slower


@dataclass(frozen=True, kw_only=True)
class SGDDMFT(Study):
    cites = ("celentano2021dmft", "gerbelot2024dmft", "mignacco2021")
    sizes = SIZES
    mutations = {"delta": 1.3, "step_schedule": Instead(slower)}
    labels = {"size": "d", "t": "time, steps x step size / d"}

    model: Literal[
        "tanh", "least-squares", "logistic", "hinge", "relu", "tanh-2", "tanh-4", "erf-2", "erf-4", "steep"
    ] = choice("tanh", "student, teacher and loss")
    clock: Literal["poisson", "bernoulli", "shuffle", "none"] = choice(
        "poisson", "batches with (poisson) or without (bernoulli) replacement, epochs, or all samples"
    )
    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    dt: float = param(0.1, 1e-4, 10.0, "step size over d")
    batch_fraction: float = param(0.0625, 1e-6, 1.0, "batch size over number of samples")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    horizon: float = param(4.0, 1e-3, 1e4, "time at the end, steps x step size / d")
    paths: int = param(65536, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    def claims(self):
        return self.setting.claims()

    @property
    def setting(self) -> ProportionalRun:
        return ProportionalRun(
            self.model, self.clock, self.delta, self.dt, self.horizon, self.batch_fraction, self.label_noise
        )

    def simulate(self, d, *, seeds):
        return self.setting.simulate(d, seeds=seeds, seed=self.seed)

    def predict(self, d):
        return self.setting.predict(d, paths=self.paths, groups=self.groups, key=self.seed)
