"""SGD with batches that are a share of all samples follows the discrete dynamical mean-field theory (A3).

Steps are long and a batch is a quarter of the samples: neither side takes a limit of small steps or small batches.
"""

from dataclasses import dataclass
from typing import Literal

from ..lab.verdict.mutations import Instead
from .base import Study, choice, param
from .proportional import SIZES, ProportionalRun, slower


@dataclass(frozen=True, kw_only=True)
class DMFTLargeBatch(Study):
    cites = ("mignacco2021", "gerbelot2024dmft")
    sizes = SIZES
    mutations = {"batch_fraction": 3.0, "step_schedule": Instead(slower)}
    labels = {"size": "d", "t": "time, steps x step size / d"}

    model: Literal[
        "tanh", "least-squares", "logistic", "hinge", "relu", "tanh-2", "tanh-4", "erf-2", "erf-4", "steep"
    ] = choice("tanh", "student, teacher and loss")
    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    dt: float = param(0.4, 1e-4, 10.0, "step size over d")
    batch_fraction: float = param(0.25, 1e-6, 1.0, "batch size over number of samples")
    momentum: float = param(0.0, 0.0, 0.99, "heavy ball")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    horizon: float = param(6.4, 1e-3, 1e4, "time at the end, steps x step size / d")
    paths: int = param(65536, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    def claims(self):
        return self.setting.claims()

    @property
    def setting(self) -> ProportionalRun:
        return ProportionalRun(
            self.model, "bernoulli", self.delta, self.dt, self.horizon, self.batch_fraction, self.label_noise,
            momentum=self.momentum,
        )  # fmt: skip

    def simulate(self, d, *, seeds):
        return self.setting.simulate(d, seeds=seeds, seed=self.seed)

    def predict(self, d):
        return self.setting.predict(d, paths=self.paths, groups=self.groups, key=self.seed)
