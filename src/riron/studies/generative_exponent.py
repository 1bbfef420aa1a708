"""A third Hermite polynomial is found with n = delta d samples if they are seen again, not if seen once (A5).

Student and teacher start with overlap exactly 0, where the population loss has no slope towards the teacher
(information exponent 3): one-pass SGD needs of the order of d^2 samples to leave. A second visit sees a sample through
the student's memory of its label, which acts like a transformed label; an overlap of order 1 then grows at once. Both
are on one axis: dynamical mean-field theory for samples that are reused, the one-pass equations for fresh ones.
"""

import warnings
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import xarray as xr

from ..dynamics import sgd
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..lab.verdict.mutations import Instead
from ..problems import OnePass, TeacherStudent
from ..theory.dmft import solve
from ..theory.online_sgd import one_pass_sgd
from .base import Study, param

METHODS = ["reused", "fresh"]
STEPS = np.array([8, 16, 24, 32, 40])


def third_hermite(r_star: jax.Array) -> jax.Array:
    """He_3(r) / sqrt 6 of the one pre-activation."""
    return (r_star[0] ** 3 - 3 * r_star[0]) / 6**0.5


def both(problem, *, delta, dt, batch_fraction, record, paths, groups, key):
    """Overlaps with samples that are reused, and with fresh ones."""
    told = {"horizon": float(record[-1]), "record": record}
    reused = solve(
        problem, delta=delta, dt=dt, batch_fraction=batch_fraction, paths=paths, groups=groups, key=key, **told
    )
    return side_by_side(reused[["overlap", "overlap_stderr", "overlap_stderr_df"]], fresh_samples(problem, told))


def forgetting(problem, *, record, **others):
    """A wrong line: the one-pass equations for both."""
    fresh = fresh_samples(problem, {"horizon": float(record[-1]), "record": record})
    return side_by_side(fresh, fresh)


def fresh_samples(problem, told):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it never escapes is the point
        line = one_pass_sgd(problem, sgd_temperature=0.0, averages="hermite", **told)
    overlap = line.overlap.round(6)  # 0, but for the rounding of the integrator
    return line.assign(overlap=overlap)[["overlap"]].assign(overlap_stderr=0 * overlap)


def side_by_side(reused, fresh):
    freedom = {"overlap_stderr_df": reused["overlap_stderr_df"]} if "overlap_stderr_df" in reused else {}
    names = ["overlap", "overlap_stderr"]
    joined = xr.concat([reused[names], fresh[names]], "method", combine_attrs="drop")
    return joined.assign(freedom).assign_coords(method=METHODS)


@dataclass(frozen=True, kw_only=True)
class GenerativeExponent(Study):
    cites = ("benarous2021online", "gerbelot2024dmft")
    sizes = {"quick": (64, 128, 256), "paper": (128, 256, 512)}
    # The overlap of a run fluctuates by 1/sqrt(d), so its mean is known to a half at best, enough to tell it from 0.
    compare = (Equal("overlap", rates=(1,), resolution=0.45),)
    mutations = {"forgetting": Instead(forgetting), "delta": 2.0}
    labels = {"size": "d", "t": "time, steps x step size / d"}

    delta: float = param(4.0, 0.1, 100.0, "samples per dimension, and in each batch of fresh ones times batch_fraction")
    dt: float = param(0.25, 1e-4, 10.0, "step size over d")
    batch_fraction: float = param(0.25, 1e-6, 1.0, "batch size over number of samples")
    label_noise: float = param(0.0, 0.0, 100.0, "variance of the label noise", "label^2")
    paths: int = param(65536, 64, 10000000, "sample paths of the theory")
    groups: int = param(16, 2, 10000, "independent sweeps of the theory")

    def problem(self, d):
        return TeacherStudent(d, link=third_hermite, activation="tanh", label_noise=self.label_noise)

    def simulate(self, d, *, seeds):
        n, record = round(self.delta * d), xr.DataArray(STEPS, {"t": self.dt * STEPS}, "t")
        batch, told = round(self.batch_fraction * n), {"record": record, "seeds": seeds, "seed": self.seed}
        step_size = self.dt * d
        reused = simulate(
            self.problem(d), sgd(step_size=step_size, batch=batch, sampling="without-replacement"), n=n, **told
        )
        fresh = simulate(OnePass(self.problem(d)), sgd(step_size=step_size, batch=batch), **told)
        attrs = {"complete": int(all(run.attrs["complete"] for run in (reused, fresh)))}
        return xr.concat([reused[["overlap"]], fresh[["overlap"]]], "method", combine_attrs="drop").assign_coords(
            method=METHODS
        ).assign_attrs(attrs)  # fmt: skip

    def predict(self, d):
        record = xr.DataArray(self.dt * STEPS, {"t": self.dt * STEPS}, "t")
        told = {"delta": self.delta, "dt": self.dt, "batch_fraction": self.batch_fraction, "record": record}
        return partial(both, self.problem(d), **told, paths=self.paths, groups=self.groups, key=self.seed + d)
