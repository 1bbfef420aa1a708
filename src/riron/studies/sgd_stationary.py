"""With a ridge SGD settles into a stationary law whose losses grow with step size over batch size (A6).

Dots: losses of long runs on least squares, averaged over late times. Line: the noise along each eigenvector of the
sample covariance feeds on the training loss, which it raises in turn; for logistic regression, and beside the line of
least squares, long sweeps of dynamical mean-field theory averaged over time.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from ..dynamics import sgd
from ..lab.running import simulate
from ..lab.verdict import Equal
from ..problems import TeacherStudent
from ..theory.dmft import stationary_least_squares, time_averaged
from .base import Study, choice, param
from .proportional import MODELS

TEMPERATURES = np.array([0.25, 0.5, 0.75, 1.0])
LENGTH = 10.0  # of a run, in units of 1 / ridge; the second half is averaged
POINTS = 40


@dataclass(frozen=True, kw_only=True)
class SGDStationary(Study):
    cites = ("paquette2021sgd", "gerbelot2024dmft")
    sizes = {"quick": (64, 128, 256), "paper": (128, 256, 512)}
    compare = (Equal("train_loss"), Equal("test_loss"))
    mutations = {"temperatures": 1.5, "ridge": 1.5}
    labels = {"size": "d", "sgd_temperature": "step size over batch size"}

    model: Literal["least-squares", "logistic"] = choice("least-squares", "student, teacher and loss")
    delta: float = param(2.0, 0.1, 100.0, "samples per dimension")
    ridge: float = param(0.4, 0.01, 100.0, "pull towards zero per unit of time")
    batch_fraction: float = param(0.0625, 1e-6, 1.0, "batch size over number of samples")
    label_noise: float = param(0.25, 0.0, 100.0, "variance of the label noise", "label^2")

    def problem(self, d):
        return TeacherStudent(d, label_noise=self.label_noise, ridge=self.ridge / d, **MODELS[self.model])

    def simulate(self, d, *, seeds):
        n = round(self.delta * d)
        batch = max(round(self.batch_fraction * n), 1)
        steps = LENGTH / self.ridge / (TEMPERATURES[0] * self.delta * self.batch_fraction)
        record = np.rint(np.linspace(steps / 2, steps, POINTS)).astype(int)
        swept = {"dynamics.step_size": TEMPERATURES * batch}
        dynamics = sgd(step_size=1.0, batch=batch)
        runs = simulate(self.problem(d), dynamics, n=n, record=record, seeds=seeds, seed=self.seed, sweep=swept)
        late = runs[["train_loss", "test_loss"]].mean("step", skipna=False).transpose("seed", "point")
        late = late.reset_coords(drop=True).rename(point="sgd_temperature")
        return late.assign_coords(sgd_temperature=TEMPERATURES, seed=runs.seed).assign_attrs(runs.attrs)

    def told(self, d) -> dict[str, Any]:
        return {
            "problem": self.problem(d),
            "temperatures": TEMPERATURES,
            "delta": self.delta,
            "ridge": self.ridge,
            "batch_fraction": self.batch_fraction,
        }

    def predict(self, d):
        if self.model == "least-squares":
            return partial(closed_form, **self.told(d))
        return partial(sweeps, **self.told(d), key=self.seed + d)

    def beside(self, d):
        if self.model != "least-squares":
            return {}
        return {"long sweeps, averaged over time": partial(sweeps, **self.told(d), key=self.seed + d)}


def closed_form(problem, *, temperatures, delta, ridge, batch_fraction):
    """The closed form at each temperature, for steps as long as those of the run."""
    share = delta * batch_fraction
    lines = [
        stationary_least_squares(problem, delta=delta, ridge=ridge, sgd_temperature=tau, dt=tau * share)
        for tau in temperatures
    ]
    return along_temperatures(lines)


def sweeps(problem, *, temperatures, delta, ridge, batch_fraction, key):
    """`time_averaged` at each temperature."""
    lines = []
    for tau in temperatures:
        dt = tau * delta * batch_fraction
        horizon = dt * round(LENGTH / ridge / dt)
        told = {"clock": "poisson", "batch_fraction": batch_fraction, "ridge": ridge, "paths": 8192, "groups": 8}
        lines.append(time_averaged(problem, delta=delta, horizon=horizon, dt=dt, points=POINTS, key=key, **told))
    return along_temperatures(lines)


def along_temperatures(lines):
    """Lines side by side, on the axis of the dots; a wrong line keeps their labels."""
    joined = xr.concat(lines, "sgd_temperature", combine_attrs="drop_conflicts")
    freedom = {name: joined[name].isel(sgd_temperature=0) for name in joined if str(name).endswith("_stderr_df")}
    return joined.assign(freedom).assign_coords(sgd_temperature=TEMPERATURES)
