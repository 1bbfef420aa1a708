"""SGD in reshuffled epochs has a limit of its own, far from that of SGD with replacement (A8).

At temperatures of order 1 a sample that is drawn twice in one pass, or not at all, matters. The line is dynamical
mean-field theory with a clock that visits each sample once an epoch; with a clock that forgets it is refuted.
"""

from dataclasses import dataclass
from typing import Literal

from ..lab.verdict.mutations import Instead
from .base import Study, choice, param
from .proportional import SIZES, ProportionalRun, slower


@dataclass(frozen=True, kw_only=True)
class Reshuffling(Study):
    cites = ("gerbelot2024dmft",)
    sizes = SIZES
    mutations = {"clock": Instead("bernoulli"), "step_schedule": Instead(slower)}
    labels = {"size": "d", "t": "time, steps x step size / d"}

    model: Literal[
        "tanh", "least-squares", "logistic", "hinge", "relu", "tanh-2", "tanh-4", "erf-2", "erf-4", "steep"
    ] = choice("tanh", "student, teacher and loss")
    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    sgd_temperature: float = param(1.0, 1e-4, 10.0, "step size over batch size")
    batch_fraction: float = param(0.0625, 1e-6, 1.0, "batch size over number of samples")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    epochs: int = param(2, 1, 1000, "length of the run", "passes over the data")
    paths: int = param(65536, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    def claims(self):
        return self.setting.claims()

    @property
    def setting(self) -> ProportionalRun:
        epoch = self.sgd_temperature * self.delta
        return ProportionalRun(
            self.model, "shuffle", self.delta, epoch * self.batch_fraction, self.epochs * epoch, self.batch_fraction,
            self.label_noise,
        )  # fmt: skip

    def simulate(self, d, *, seeds):
        return self.setting.simulate(d, seeds=seeds, seed=self.seed)

    def predict(self, d):
        return self.setting.predict(d, paths=self.paths, groups=self.groups, key=self.seed)
