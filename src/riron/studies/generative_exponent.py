"""A third Hermite polynomial is found with n = delta d samples if they are seen again, not if seen once (A5).

Student and teacher start with overlap exactly 0, where the population loss has no slope towards the teacher
(information exponent 3): one-pass SGD needs of the order of d^2 samples to leave. A second visit sees a sample through
the student's memory of its label, which acts like a transformed label; an overlap of order 1 then grows at once. Both
are on one axis: dynamical mean-field theory for gradient descent on all samples in each of eight steps, the one-pass
equations for as many steps of the same length on an eighth of the samples each.

A run leaves an unstable point, so its overlap fluctuates by a fifth of itself even at d = 512, and steps on few fresh
samples are noisy: 128 seeds resolve the first mean to a tenth and the second to a quarter (of what would be a full
overlap), and no more than that is asked for. Fluctuations of order 1/sqrt(d) average to 0 over seeds at first order, so
the mean of a smooth function of them is off by 1/d: the rate is 1.
"""

import warnings
from dataclasses import dataclass
from functools import partial

from ..dynamics import sgd
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..lab.verdict.mutations import Instead
from ..problems import OnePass
from ..theory.online_sgd import one_pass_sgd
from .base import Study, param
from .proportional import SMALL, ProportionalRun, line

STEPS = 8


def both(run, *, delta, **options):
    """Overlaps with samples that are reused, and with fresh ones."""
    return beside(line(run, delta=delta, **run.told, **options), fresh_samples(run, delta))


def forgetting(run, *, delta, **options):
    """A wrong line: the one-pass equations for both."""
    return beside(fresh_samples(run, delta), fresh_samples(run, delta))


def fresh_samples(run, delta):
    """The one-pass equations; their time is continuous, but at overlap 0 no step of any length adds to it."""
    record = run.axis(run.dt * run.steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it never escapes is the point
        told = {"sgd_temperature": run.dt * STEPS / delta, "horizon": run.horizon, "record": record}
        found = one_pass_sgd(run.problem(SMALL), averages="hermite", **told)
    return found.assign(overlap=found.overlap.round(6))  # 0, but for the rounding of the integrator


def beside(reused, fresh):
    """What is compared: overlaps, those of fresh samples as what is missing to 1, for they are 0."""
    kept = [name for name in reused if str(name).startswith("overlap")]
    whole = all(data.attrs.get("complete", True) for data in (reused, fresh))
    return reused[kept].assign(missing=1 - fresh.overlap).assign_attrs(complete=int(whole))


@dataclass(frozen=True, kw_only=True)
class GenerativeExponent(Study):
    cites = ("benarous2021online", "gerbelot2024dmft")
    sizes = {"quick": (64, 128, 512), "paper": (64, 256, 1024)}
    compare = (Equal("overlap", rates=(1,), resolution=0.15), Equal("missing", rates=(1,), resolution=0.25))
    mutations = {"forgetting": Instead(forgetting), "delta": 2.0}
    labels = {
        "size": "d",
        "t": "time, steps x step size / d",
        "overlap": "overlap, samples seen again",
        "missing": "1 - overlap, samples seen once",
    }

    delta: float = param(3.0, 0.1, 100.0, "samples per dimension")
    dt: float = param(1.0, 1e-4, 10.0, "step size over d")
    label_noise: float = param(0.0, 0.0, 100.0, "variance of the label noise", "label^2")
    paths: int = param(524288, 64, 10000000, "sample paths of the theory")
    groups: int = param(32, 2, 10000, "independent sweeps of the theory")

    @property
    def setting(self) -> ProportionalRun:
        return ProportionalRun(
            "hermite", "none", self.delta, self.dt, STEPS * self.dt, label_noise=self.label_noise, points=2
        )

    def simulate(self, d, *, seeds):
        run = self.setting
        dynamics = sgd(step_size=run.dt * d, batch=run.samples(d) // STEPS)
        fresh = simulate(OnePass(run.problem(d)), dynamics, record=run.axis(run.steps), seeds=seeds, seed=self.seed)
        return beside(run.simulate(d, seeds=seeds, seed=self.seed), fresh)

    def predict(self, d):
        told = {"paths": self.paths, "groups": self.groups, "key": self.seed}
        return partial(both, self.setting, delta=self.setting.samples(d) / d, **told)
