"""On a rugged loss SGD finds a better solution than gradient descent from the same start on the same samples (A7).

Student and teacher are one steep unit, tanh(3 r), and the student starts far out, where the landscape is rugged. Both
methods have the same time and step size; dynamical mean-field theory draws both lines. `ratio` is the test loss of SGD
over that of gradient descent at the end, run by run; its line is 1, which it must stay below.
"""

from dataclasses import dataclass
from functools import partial

from ..lab.verdict import Below, Equal
from ..lab.verdict.mutations import Instead
from .base import Study, param
from .proportional import SIZES, ProportionalRun, joined, line, slower

METHODS = {"sgd": "poisson", "gd": "none"}
LOSSES = ("test_loss", "train_loss")


@dataclass(frozen=True, kw_only=True)
class SGDvsGD(Study):
    cites = ("mignacco2021", "gerbelot2024dmft")
    version = 2
    sizes = SIZES
    compare = (Below("ratio"), *(Equal(f"{name}_{loss}") for loss in LOSSES for name in METHODS))
    mutations = {"delta": 1.4, "step_schedule": Instead(slower)}
    labels = {"size": "d", "t": "time, steps x step size / d", "ratio": "test loss, SGD over descent"} | {
        f"{name}_{loss}": f"{method} {loss.replace('_', ' ')}"
        for name, method in {"sgd": "SGD:", "gd": "descent:"}.items()
        for loss in LOSSES
    }

    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    dt: float = param(0.075, 1e-4, 10.0, "step size over d")
    batch_fraction: float = param(0.0625, 1e-6, 1.0, "batch size of SGD over number of samples")
    label_noise: float = param(0.09, 0.0, 100.0, "variance of the label noise", "label^2")
    horizon: float = param(9.0, 1e-3, 1e4, "time at the end, steps x step size / d")
    paths: int = param(32768, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    @property
    def settings(self) -> dict[str, ProportionalRun]:
        shared = (self.delta, self.dt, self.horizon, self.batch_fraction, self.label_noise)
        return {name: ProportionalRun("steep", clock, *shared, points=4) for name, clock in METHODS.items()}

    def simulate(self, d, *, seeds):
        found = {name: run.simulate(d, seeds=seeds, seed=self.seed) for name, run in self.settings.items()}
        dots = joined(found)
        return dots.assign(ratio=(dots.sgd_test_loss / dots.gd_test_loss).isel(t=-1, drop=True))

    def predict(self, d):
        told = {"paths": self.paths, "groups": self.groups, "key": self.seed}
        return partial(both, self.settings, delta=round(self.delta * d) / d, step_schedule=None, **told)


def both(settings, *, delta, step_schedule, **told):
    """The line of each method, and the bound on their ratio."""
    told = {"delta": delta, "step_schedule": step_schedule, **told}
    lines = joined({name: line(run, **run.told, **told) for name, run in settings.items()})
    return lines.assign(ratio=1.0)
