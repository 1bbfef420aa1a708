"""Chains started at the trained particles certify a gap far below the true one; tempered Monte Carlo finds it (D2).

A network of mean-field Langevin particles is stopped in a metastable state. The gap of its predictions is an integral
over their Gibbs measure, which has several modes. Metropolis-adjusted chains from the particles keep the particles'
shares of the modes: their 95 % upper limits, with good acceptance and small errors, lie below the gap that quadrature
gives. Tempered sequential Monte Carlo from the Gaussian reference has the right gap on average.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy import stats

from ..dynamics import langevin
from ..dynamics.tempered_smc import TemperedSample, local_chains
from ..guarantees.bregman import jackknifed_gap
from ..guarantees.gibbs import GibbsSample, gibbs_args, gibbs_ladder, group_means, losses_at, potential, sample_gibbs
from ..lab.running import simulate
from ..lab.verdict import Below, Equal
from ..models.neurons import to_neuron
from ..problems.mean_field import MeanFieldProblem
from ..theory.gibbs_grid import GibbsGrid
from .base import Study, param

WIDTH, GROUPS, MOVES, NODES = 800, 8, 8, 401


class WithParticles(MeanFieldProblem):
    """The same problem, which also records the particles."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)

    def measure(self, objective, params):
        return {**super().measure(objective, params), "particles": params}


@dataclass(frozen=True, kw_only=True)
class FalseCertificate(Study):
    cites = ("nitanda2022mfld", "delmoral2006smc")
    sizes = {"quick": (200,), "paper": (200, 800)}
    compare = (Below("local_limit"), Equal("gap", rates=()))
    mutations = {"temperature": 2.0, "predictions": 0.99}
    labels = {"size": "particles in a group"}

    scale: float = param(3.0, 0.1, 20.0, "largest output of a neuron, R")
    lam: float = param(0.005, 1e-3, 1.0, "temperature and strength of the L2 regulariser")
    samples: int = param(40, 4, 1000, "training samples")
    steps: int = param(4000, 10, 100000, "Langevin steps of the trained network")
    step_size: float = param(0.05, 1e-4, 1.0, "of the Langevin dynamics")
    chain_moves: int = param(200, 1, 100000, "moves of each local chain")

    def simulate(self, d, *, seeds):
        problem, W, z = network(self)
        at = losses_at(problem, z)
        key = jax.random.fold_in(jax.random.key(self.seed), d)
        keys = jax.random.split(key, 4)
        ladder = gibbs_ladder(problem, at.slopes, keys[0], particles=1000, ess=0.8)
        size = {"groups": seeds * GROUPS, "particles": d}
        tempered = sample_gibbs(problem, at.slopes, keys[1], ladder, moves=MOVES, **size)
        first = W[jax.random.randint(keys[2], (seeds * GROUPS, d), 0, len(W))]
        args, sd = gibbs_args(problem, at.slopes), float(problem.reference_sd)
        step = float(ladder.steps[ladder.rungs - 1])
        told = {"reference_sd": sd, "step": step, "moves": self.chain_moves}
        ends, _ = local_chains(potential, args, keys[3], first, **told)
        even = np.zeros(seeds * GROUPS)
        local = GibbsSample(TemperedSample(ends, even, even, even), group_means(problem, ends), self.chain_moves)
        found = [
            [jackknifed_gap(problem, z, at, part(sample, seed)) for seed in range(seeds)]
            for sample in (tempered, local)
        ]
        t = stats.t.ppf(0.95, GROUPS - 1)
        dots = {
            "gap": ("seed", [gap.estimate for gap in found[0]]),
            "local_limit": ("seed", [gap.plug + t * gap.stderr for gap in found[1]]),
        }
        return xr.Dataset(dots, {"seed": np.arange(seeds)}, {"complete": 1})

    def predict(self, d):
        problem, _, z = network(self)
        return partial(true_gap, problem, predictions=z, temperature=self.lam)


@lru_cache(maxsize=4)
def network(study):
    """The problem, the particles of a run, and their predictions."""
    rng = np.random.default_rng(3)
    X = rng.uniform(-2, 2, size=(study.samples, 1))
    y = np.sin(2 * X[:, 0]) + 0.2 * rng.normal(size=study.samples)
    neuron = to_neuron("tanh", scale=study.scale)
    problem = WithParticles(X, y, neuron=neuron, lam1=study.lam, lam2=study.lam, width=WIDTH)
    dynamics = langevin(step_size=study.step_size, temperature=study.lam)
    run = simulate(problem, dynamics, data=problem.data, record=np.array([study.steps]), seeds=1, seed=study.seed)
    W = np.asarray(run.particles).reshape(WIDTH, -1)
    return problem, W, np.asarray(problem.model(jnp.asarray(W), problem.X), np.float64)


def part(sample, seed):
    """The groups of one seed."""
    mine = slice(seed * GROUPS, (seed + 1) * GROUPS)
    return GibbsSample(TemperedSample(*(leaf[mine] for leaf in sample.cloud)), sample.means[mine], sample.moves)


def true_gap(problem, *, predictions, temperature):
    """The gap of predictions by quadrature, as the line of both claims."""
    told = eqx.tree_at(lambda p: p.lam2, problem, jnp.asarray(temperature, problem.lam2.dtype))
    gap = GibbsGrid.of(told, NODES).gibbs(np.asarray(predictions)).duality_gap
    return xr.Dataset({"gap": gap, "local_limit": gap})
