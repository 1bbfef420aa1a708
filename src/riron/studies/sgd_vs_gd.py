"""On a rugged loss SGD finds a better solution than gradient descent from the same start on the same samples (A7).

Student and teacher are one steep unit, tanh(3 r), and the student starts far out, where the landscape is rugged. Both
methods have the same time and step size; dynamical mean-field theory draws both lines.
"""

from dataclasses import dataclass
from functools import partial

import xarray as xr

from ..lab.verdict import Equal, Ordered
from ..lab.verdict.mutations import Instead
from ..theory.dmft import solve
from .base import Study, param
from .proportional import ProportionalRun, slower


@dataclass(frozen=True, kw_only=True)
class SGDvsGD(Study):
    cites = ("mignacco2021", "gerbelot2024dmft")
    sizes = {"quick": (128, 256, 512), "paper": (256, 512, 1024)}
    compare = (Ordered("SGD", "GD", "test_loss"), Equal("test_loss"), Equal("train_loss"))
    mutations = {"delta": 1.4, "step_schedule": Instead(slower)}
    labels = {"size": "d", "t": "time, steps x step size / d"}

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
        clocks = {"SGD": "poisson", "GD": "none"}
        return {name: ProportionalRun("steep", clock, *shared, points=4) for name, clock in clocks.items()}

    def simulate(self, d, *, seeds):
        runs = [setting.simulate(d, seeds=seeds, seed=self.seed) for setting in self.settings.values()]
        return side_by_side(runs, list(self.settings))

    def predict(self, d):
        told = [setting.theory(d) for setting in self.settings.values()]
        shared = {name: value for name, value in told[0].items() if name in told[1]}
        shared |= {"clocks": [t["clock"] for t in told], "batch_fraction": self.batch_fraction}
        del shared["clock"]
        return partial(
            both, **shared, names=list(self.settings), paths=self.paths, groups=self.groups, key=self.seed + d
        )


def both(*, names, clocks, batch_fraction, delta, step_schedule=None, **shared):
    """`solve` for each clock, side by side along `method`."""
    share = {"poisson": batch_fraction, "none": None}
    shared |= {"delta": delta, "step_schedule": step_schedule}
    return side_by_side([solve(**shared, clock=c, batch_fraction=share[c]) for c in clocks], names)


def side_by_side(runs, names):
    joined = xr.concat(runs, "method", combine_attrs="drop_conflicts").assign_coords(method=names)
    return joined.assign_attrs(complete=int(all(run.attrs.get("complete", True) for run in runs)))
