"""Particle dual averaging closes the gap like 1/T^2 with full gradients, like 1/T with one random sample a step (D4).

The line has exact inner integrals, by quadrature; the dots an inner sampler (tempered sequential Monte Carlo) of N
particles. What is judged is the Gibbs measure of the averaged dual variables, whose objective quadrature knows.
"""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import xarray as xr

from ..dynamics.inner_samplers import Tempering
from ..dynamics.particle_dual_averaging import ParticleDualAveraging
from ..lab.running import simulate
from ..lab.verdict import Equal, Rate
from ..lab.verdict.mutations import Instead
from ..theory.dual_methods import dual_averaging
from ..theory.mean_field_optimum import mean_field_optimum
from .base import Study, param
from .mean_field_line import Integrals, step_problem

REPLICAS = 8  # stochastic runs that one seed averages: their objectives scatter by 130 %


@dataclass(frozen=True, kw_only=True)
class PDA(Study):
    cites = ("nitanda2021pda",)
    sizes = {"quick": (50, 100, 200), "paper": (400, 800, 1600)}
    compare = (
        Equal("excess_objective", rates=(1,), resolution=0.25),
        Equal("stochastic_objective", rates=(1,), resolution=0.5),
        Rate("stochastic_objective", along="late", exponent=-1.0, atol=0.4),
    )
    mutations = {"growth": Instead(0.0), "temperature": 1.5}
    labels = {"size": "N", "T": "outer steps"}

    scale: float = param(1.0, 0.1, 10.0, "largest output of a neuron, R")
    lam: float = param(0.3, 1e-2, 10.0, "temperature and strength of the L2 regulariser")
    samples: int = param(16, 2, 1000, "training samples")
    runs: int = param(1000, 16, 100000, "exact stochastic runs that the line averages over")

    def problem(self, width):
        options = {"scale": self.scale, "lam1": self.lam, "lam2": self.lam, "seed": self.seed}
        return step_problem(self.samples, width, **options)

    def record(self, stochastic):
        T = np.array([2, 4, 8, 16] if stochastic else [1, 2, 4, 8])
        axis = "late" if stochastic else "T"
        return xr.DataArray(T, {axis: T}, axis)

    def simulate(self, width, *, seeds):
        problem, found = self.problem(width), {}
        integrals, y = Integrals(problem, self.scale), np.asarray(problem.y, float)
        best = mean_field_optimum(problem).objective_rel
        with jax.enable_x64(True):
            problem = self.problem(width)
            for name, batch in (("excess_objective", None), ("stochastic_objective", 1)):
                record = self.record(batch is not None)
                dynamics = ParticleDualAveraging(self.lam, batch, Tempering(moves=4, pilot=64))
                together = REPLICAS if batch else 1
                runs = simulate(problem, dynamics, record=record, seeds=together * seeds, seed=self.seed)
                if not runs.attrs["complete"]:
                    return runs
                share = np.asarray(record / (record + 2.0))[:, None]
                log_p = integrals.gibbs(np.asarray(runs.dual, float), share)
                loss = np.mean((integrals.outputs(log_p) - y) ** 2, axis=-1) / 2
                objective = loss + self.lam * integrals.divergence(log_p) - best
                objective = objective.reshape(seeds, together, -1).mean(axis=1)
                found[name] = xr.DataArray(
                    objective, {"seed": runs.seed[:seeds], **record.coords}, ("seed", *record.dims)
                )
        return xr.Dataset(found, attrs={"complete": 1})

    def predict(self, width):
        records = {"full": self.record(False), "stochastic": self.record(True)}
        return partial(both, self.problem(width), records=records, runs=self.runs, seed=self.seed)


def both(problem, *, records, runs, seed, growth=1.0, temperature=1.0):
    """Exact dual averaging, full and stochastic; `temperature` scales lam2."""
    if temperature != 1.0:
        problem = hotter(problem, temperature)
    full = dual_averaging(problem, record=records["full"], growth=growth)
    stochastic = dual_averaging(problem, record=records["stochastic"], growth=growth, seeds=runs, seed=seed)
    names = {"excess_objective": "stochastic_objective", "excess_objective_stderr": "stochastic_objective_stderr"}
    return full.merge(stochastic.rename(names)).assign(stochastic_objective_stderr_df=float(runs - 1))


def hotter(problem, factor):
    """The same problem at `factor` times the temperature."""
    return type(problem)(
        np.asarray(problem.X), np.asarray(problem.y), neuron=problem.neuron, loss=problem.loss,
        lam1=float(problem.lam1), lam2=factor * float(problem.lam2), width=problem.model.width,
    )  # fmt: skip
