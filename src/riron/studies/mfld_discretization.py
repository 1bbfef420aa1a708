"""N neurons of mean-field Langevin dynamics scatter by C/N with a computable C, uniformly in time (D3).

The constant is that of independent neurons (11 times larger here), tilted by the loss of their mean; the line has the
step size of the dots. Beside it, linear neurons are an exact laboratory: their losses under minibatches obey a closed
recursion at every N. Minibatches that all neurons share add (n - B)/(B (n - 1)) times a constant of first order in the
step size; the exponents come from runs that share their noise with full-gradient runs.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import numpy as np
import xarray as xr

from ..dynamics.mean_field_langevin import mfld
from ..lab.running import simulate
from ..lab.verdict import Equal, Rate
from ..lab.verdict.mutations import Instead
from ..models.neurons import to_neuron
from ..problems.mean_field import Watched
from ..theory.linear_neurons import LinearNeurons, Sampling, linear_neurons
from ..theory.mean_field_law import finite_step_fluctuations
from .base import Study, param
from .mean_field_line import step_problem

BATCHES = (1, 2, 4, 8)
STEP_SIZES = (0.005, 0.01, 0.02)
STEPS = {"of_linear": 0.2, "coupled": np.arange(1500, 6001, 30)}
NEURONS = 16  # of the coupled runs


@dataclass(frozen=True, kw_only=True)
class MFLDDiscretization(Study):
    cites = ("suzuki2023mfld",)
    sizes = {"quick": (12, 24, 48), "paper": (32, 64, 128, 256)}
    compare = (
        Equal("fluctuation", rates=(1,)),
        Equal("excess_risk", rates=(), resolution=0.25),
        Equal("minibatch_variance", rates=(), resolution=0.2),
        Equal("step_variance", rates=(), resolution=0.2),
        Rate("variance", exponent=-1.0, atol=0.1),
        Rate("minibatch_variance", along="sampling", exponent=1.0, atol=0.2),
        Rate("step_variance", along="step_size", exponent=1.0, atol=0.25),
    )
    mutations = {
        "interaction": Instead(0.0),
        "temperature": 1.25,
        "batch_factor": 1.4,
        "sampling": Instead("with-replacement"),
    }
    labels = {"size": "N", "window": "start of the window of time", "t": "time, steps x step size"}

    scale: float = param(2.0, 0.1, 10.0, "largest output of a neuron, R")
    lam: float = param(0.1, 1e-2, 10.0, "temperature and strength of the L2 regulariser")
    samples: int = param(24, 2, 1000, "training samples")
    step_size: float = param(0.2, 1e-3, 1.0, "time of one step")
    batch: int = param(4, 1, 24, "samples a step of the linear neurons")
    window: float = param(250.0, 1.0, 1e5, "length of each of the three windows in time, the first from 10 on")

    def simulate(self, width, *, seeds):
        options = {"seeds": seeds, "seed": self.seed}
        problem = self.steps(width)
        record = self.windows()
        runs = simulate(problem, mfld(problem, step_size=self.step_size), record=record, **options)
        if not runs.attrs["complete"]:
            return runs
        deviation = runs.prediction.astype(float) - runs.prediction.astype(float).mean("seed")
        square = (deviation**2).mean("sample") / 2 * seeds / (seeds - 1)
        windowed = square.groupby(runs.prediction.window).mean()
        found = xr.Dataset({"fluctuation": width * windowed, "variance": windowed.mean("window")})
        linear = self.linear(width)
        line = simulate(linear, mfld(linear, step_size=0.2, batch=self.batch), record=self.steps_of_linear(), **options)
        found["excess_risk"] = line.train_loss.astype(float)
        found["minibatch_variance"], found["step_variance"] = self.couplings(seeds)
        return found.assign_attrs(complete=1)

    @lru_cache(maxsize=4)  # noqa: B019  the same runs stand beside every size
    def couplings(self, seeds):
        """What minibatches add to (1/2n) |f - f_*|^2, by runs of 16 neurons that share the noise of the particles."""
        problem = self.linear(NEURONS)
        best = best_linear(problem)

        def excess(batch, step_sizes):
            runs = simulate(
                problem, mfld(problem, step_size=step_sizes[0], batch=batch), record=STEPS["coupled"], seeds=seeds,
                seed=self.seed + 1, sweep={"dynamics.step_size": np.array(step_sizes)},
            )  # fmt: skip
            return ((runs.prediction.astype(float) - best) ** 2).mean(("sample", "step")) / 2

        full, last = excess(None, STEP_SIZES), STEP_SIZES[-1:]
        of_one = excess(1, STEP_SIZES)
        steps = (of_one - full).swap_dims(point="step_size")
        others = [excess(B, last).isel(point=0) - full.isel(point=-1) for B in BATCHES[1:]]
        batches = xr.concat([(of_one - full).isel(point=-1), *others], "sampling", coords="minimal", compat="override")
        batches = batches.assign_coords(sampling=sampling_factors(self.samples))
        batches = batches.drop_vars("step_size", errors="ignore")
        return batches.transpose("seed", ...), steps.transpose("seed", ...)

    def predict(self, width):
        linear = self.linear(width)
        return partial(
            both, self.steps(width), *(np.asarray(part, float) for part in linear.data), step_size=self.step_size,
            width=float(width), batch=float(self.batch), lam=self.lam, record=self.steps_of_linear(),
            windows=np.unique(self.windows().window),
        )  # fmt: skip

    def steps(self, width):
        return step_problem(self.samples, width, scale=self.scale, lam1=self.lam, lam2=self.lam, seed=self.seed)

    def linear(self, width):
        rng = np.random.default_rng([self.seed, 1])
        X = rng.standard_normal((self.samples, 3))
        y = X @ [1.0, -0.5, 0.0] + 0.5 * rng.standard_normal(self.samples)
        return Watched(X, y, neuron=to_neuron("identity", bias=False), lam1=self.lam, lam2=self.lam, width=width)

    def windows(self):
        """Three windows with a record every 0.6 units of time, labelled by the window's start."""
        offsets = np.arange(0, self.window, 0.6)
        starts = np.repeat(10 + self.window * np.arange(3), len(offsets))
        steps = np.rint((starts + np.tile(offsets, 3)) / self.step_size).astype(int)
        return xr.DataArray(steps, {"window": ("step", starts)}, "step")

    def steps_of_linear(self):
        steps = np.array([1, 2, 4, 8, 16, 32])
        return xr.DataArray(steps, {"t": steps * 0.2}, "t")


def both(
    problem, X, y, *, step_size, width, batch, lam, record, windows, interaction=1.0, temperature=1.0,
    batch_factor=1.0, sampling: Sampling = "without-replacement",
):  # fmt: skip
    """The constant of 1/N in every window, and exact losses of linear neurons; `batch_factor` scales all batches."""
    with jax.enable_x64(True):
        found = finite_step_fluctuations(
            problem, step_size=step_size, temperature=temperature * float(problem.lam2), interaction=interaction
        )
    settings = {"lam1": lam, "lam2": temperature * lam}
    line = linear_neurons(
        X, y, **settings, step_size=0.2, width=width, batch=batch_factor * batch, sampling=sampling, record=record
    )

    def added(eta, B):
        states = [
            LinearNeurons(X, y, **settings, step_size=eta, width=NEURONS, batch=b, sampling=sampling) for b in (B, None)
        ]
        with_batches, full = (lab.excess(np.zeros(X.shape[1]), lab.stationary()) for lab in states)
        return with_batches - full

    batches = [added(STEP_SIZES[-1], B * batch_factor) for B in BATCHES]
    steps = [added(eta, batch_factor) for eta in STEP_SIZES]
    return xr.Dataset(
        {
            "fluctuation": ("window", np.full(len(windows), found.prediction_error)),
            "excess_risk": line.train_loss,
            "minibatch_variance": ("sampling", batches),
            "step_variance": ("step_size", steps),
        },
        {"window": windows, "sampling": sampling_factors(len(y)), "step_size": list(STEP_SIZES)},
    )


def sampling_factors(n):
    """(n - B) / (B (n - 1)): the variance of the mean of B rows without replacement, relative to one row."""
    return [(n - B) / (B * (n - 1)) for B in BATCHES]


def best_linear(problem):
    """Outputs of the optimal network of linear neurons."""
    X, y = (np.asarray(part, float) for part in problem.data)
    A = X.T @ X / len(y) + 2 * float(problem.lam1) * np.eye(X.shape[1])
    return X @ np.linalg.solve(A, X.T @ y / len(y))
