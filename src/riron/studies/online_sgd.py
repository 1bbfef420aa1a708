"""One-pass SGD of a committee follows differential equations of its overlaps, noise of its steps included (A5).

Dots: SGD that uses each sample once. Line: closed equations for two erf units and two teachers, step sizes of order 1.
The start overlaps with the teachers, so that runs of all dimensions share one curve: from a start without overlap each
escapes a plateau in a time of its own (`theory.online_escape`). Leaving out the noise of the steps, which is gradient
flow of the population loss, is refuted.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr

from ..dynamics import sgd
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..lab.verdict.mutations import Instead
from ..problems import OnePass, TeacherStudent
from ..theory.online_sgd import one_pass_sgd
from .base import Study, param

TIMES = np.array([0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0])


@dataclass(frozen=True, kw_only=True)
class OnlineSGD(Study):
    cites = ("saad1995", "veiga2022", "benarous2021online")
    sizes = {"quick": (64, 128, 256), "paper": (128, 256, 512, 1024)}
    compare = (Equal("test_loss"),)
    mutations = {"sgd_temperature": 1.5, "ridge": Instead(0.1)}
    labels = {"size": "d", "t": "samples x step size / (batch x d)"}

    sgd_temperature: float = param(0.5, 1e-4, 10.0, "step size over batch size")
    batch: int = param(1, 1, 1000, "samples per step")
    overlap: float = param(0.2, 0.0, 0.7, "of the first unit with the first teacher at the start, half for the others")
    label_noise: float = param(0.05, 0.0, 100.0, "variance of the label noise", "label^2")

    def problem(self, d):
        return TeacherStudent(
            d,
            activation="erf",
            link="erf",
            second=[1.0, 1.0],
            teacher_gram=np.eye(2),
            overlap=[[self.overlap, 0.0], [0.0, self.overlap / 2]],
            label_noise=self.label_noise,
        )

    def simulate(self, d, *, seeds):
        steps = np.rint(TIMES * d / (self.sgd_temperature * self.batch)).astype(int)
        record = xr.DataArray(steps, {"t": TIMES}, "t")
        dynamics = sgd(step_size=self.sgd_temperature * self.batch, batch=self.batch)
        return simulate(OnePass(self.problem(d)), dynamics, record=record, seeds=seeds, seed=self.seed)

    def predict(self, d):
        record = xr.DataArray(TIMES, {"t": TIMES}, "t")
        told = {"sgd_temperature": self.sgd_temperature, "horizon": TIMES[-1], "record": record, "ridge": 0.0}
        return partial(one_pass_sgd, self.problem(d), **told)

    def beside(self, d):
        """Gradient flow of the population loss, without the noise of the steps."""
        without = partial(self.predict(d), sgd_temperature=0.0)
        return {"steps without noise": without}
