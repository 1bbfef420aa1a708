"""Mean-field Langevin dynamics descends to the global optimum between the two sides of the entropy sandwich (D2).

The line is the law of infinitely many neurons, evolved on a grid with the step size of the dots, and the optimum is
known by quadrature. Entropies of the particles are those of their shares in bins; line and dots use the same bins. The
spectral gap of the problem is 0.06: the excess objective falls from 0.68 to 0.0008 by t = 16. Beside it stands the same
table at a fifth of the temperature, where the gap is 3e-5: at t = 16 the excess is still 0.075, on line and dots alike.
"""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import xarray as xr

from ..dynamics.mean_field_langevin import mfld
from ..lab.running import simulate
from ..lab.verdict import Below, Equal
from ..theory.mean_field_law import mean_field_law
from ..theory.mean_field_optimum import mean_field_optimum
from .base import Study, param
from .mean_field_line import Binned, Integrals, binned_divergence, step_problem


@dataclass(frozen=True, kw_only=True)
class MFLDConvergence(Study):
    cites = ("nitanda2022mfld", "chizat2022mfld")
    sizes = {"quick": (128, 256, 512), "paper": (512, 1024, 2048, 4096)}
    compare = (
        Equal("train_loss", rates=(1,)),
        Equal("objective", rates=(1,)),
        Equal("duality_gap", rates=(1,)),
        Equal("divergence", rates=(1,)),
        Equal("plateau", rates=(1,)),
        Below("objective_early"),
        Below("divergence_early"),
    )
    mutations = {"temperature": 1.25, "step_size": 1.25}
    labels = {"size": "N", "t": "time, steps x step size"}

    scale: float = param(1.0, 0.1, 10.0, "largest output of a neuron, R")
    lam1: float = param(0.1, 1e-4, 10.0, "strength of the L2 regulariser")
    lam2: float = param(0.1, 1e-3, 10.0, "temperature")
    cold: float = param(0.02, 1e-3, 10.0, "temperature and L2 regulariser of the metastable problem")
    samples: int = param(24, 2, 1000, "training samples")
    step_size: float = param(0.1, 1e-3, 1.0, "time of one step")
    start: float = param(1.5, -10.0, 10.0, "mean of the particles at the start")
    bins: int = param(10, 3, 100, "bins in which particles are counted")

    def problem(self, width, cold=False):
        lam1, lam2 = (self.cold, self.cold) if cold else (self.lam1, self.lam2)
        options = {"scale": self.scale, "seed": self.seed, "edges": self.edges(), "mean": self.start, "kind": Binned}
        return step_problem(self.samples, width, lam1=lam1, lam2=lam2, **options)

    def edges(self):
        sd = (self.lam2 / (2 * self.lam1)) ** 0.5
        return np.linspace(-2 * sd, 3 * sd, self.bins - 1)

    def record(self, cold=False):
        steps = np.array([40, 80, 160] if cold else [2, 4, 8, 12, 20, 40])
        return xr.DataArray(steps, {"t": steps * self.step_size}, "t")

    def simulate(self, width, *, seeds):
        found = {}
        for cold in (False, True):
            problem = self.problem(width, cold)
            dynamics = mfld(problem, step_size=self.step_size)
            runs = simulate(problem, dynamics, record=self.record(cold), seeds=seeds, seed=self.seed)
            if not runs.attrs["complete"]:
                return runs
            found[cold] = self.entropies(problem, runs)
        return joined(found[False], found[True]).assign_attrs(complete=1)

    def entropies(self, problem, runs):
        """Objective and both sides of the sandwich from shares in bins and outputs of the network."""
        integrals = Integrals(problem, self.scale)
        edges = self.edges()
        share, f, y = (np.asarray(part, np.float64) for part in (runs.share, runs.prediction, problem.y))
        of = lambda log_p: binned(integrals.w, np.exp(log_p), edges)
        best = mean_field_optimum(problem)
        at_best = integrals.gibbs(best.predictions - y)
        side = lambda log_p: float(problem.lam2) * binned_divergence(share, of(log_p))
        dims = runs.train_loss.dims
        loss = runs.train_loss.astype(float)
        found = xr.Dataset({"train_loss": loss})
        found["objective"] = loss + xr.DataArray(side(integrals.log_reference), dims=dims)
        found["duality_gap"] = (dims, side(integrals.gibbs(f - y)))
        found["divergence"] = (dims, side(at_best))
        return found

    def predict(self, width):
        return partial(
            both, self.problem(width), self.problem(width, True), step_size=self.step_size, start_mean=self.start,
            records=(self.record(), self.record(True)), edges=self.edges(),
        )  # fmt: skip


def binned(w, cells, edges):
    """Sums of cells (..., M) in bins, a cell that an edge cuts in proportion."""
    total = np.concatenate([np.zeros((*cells.shape[:-1], 1)), np.cumsum(cells, axis=-1)], axis=-1)
    spacing = w[1] - w[0]
    borders = np.concatenate([[w[0] - spacing / 2], w + spacing / 2])
    place = np.clip(np.searchsorted(borders, edges) - 1, 0, len(w) - 1)
    part = (edges - borders[place]) / spacing
    inner = total[..., place] * (1 - part) + total[..., place + 1] * part
    return np.diff(inner, prepend=0.0, append=total[..., -1:], axis=-1)


def both(problem, cold, *, records, step_size, edges, start_mean, temperature=1.0):
    """The laws of both problems; `temperature` scales lam2 in their noise."""
    shared = {"step_size": step_size, "start_mean": start_mean, "edges": edges}
    with jax.enable_x64(True):
        laws = [
            mean_field_law(part, record=record, temperature=temperature * float(part.lam2), **shared)
            for part, record in zip((problem, cold), records, strict=True)
        ]
    joint = joined(*laws)
    best = laws[0].objective - laws[0].excess_objective
    upper, lower = best + laws[0].duality_gap, laws[0].excess_objective
    early = lambda part: part.isel(t=slice(0, 3)).rename(t="t_early")
    return joint.assign(objective_early=early(upper), divergence_early=early(lower))


def joined(warm, cold):
    """The variables of the mixing problem, and the objective of the cold one on an axis of its own."""
    early = warm[["objective", "divergence"]].isel(t=slice(0, 3)).rename(t="t_early")
    early = {f"{name}_early": values for name, values in early.items()}
    return warm.assign(plateau=cold.objective.rename(t="t_cold"), **early)
