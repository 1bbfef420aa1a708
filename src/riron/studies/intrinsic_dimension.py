"""Some N log N nodes drawn by leverage rebuild a layer within 4 lam, N its degrees of freedom at lam (I3).

Layers: three spectra j^-1, j^-2, j^-3 in random bases, and the hidden layer of a small network before and after its
training; the largest eigenvalue is 1. First, what N is: the part of pure noise that a ridge regression on the layer
absorbs, while the network is trained. Then c N(lam) log(16 N(lam)/delta) nodes are drawn; the theorem speaks from c = 5
on, and below that the line is the trivial one. Last, the trained layer alone: any number of draws, with the theorem's
line above; then nodes chosen greedily and drawn. No k nodes can beat the tail sum of the eigenvalues beyond k, and some
attain k + 1 times as much; greedy ones stay below that. Beside: best projections, which (judged as upper lines) fail.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import numpy as np
import xarray as xr

from ..dynamics import sgd
from ..errors import InputError
from ..lab.running import simulate
from ..lab.verdict import Below, Equal
from ..models import TwoLayer
from ..problems.arrays import Table
from ..problems.base import Data
from ..problems.losses import squared
from ..theory.degrees_of_freedom import CONSTANT, degrees_of_freedom, level_of_nodes, nodes_needed
from ..theory.node_selection import (
    Target,
    draw_nodes,
    greedy,
    leverage_sample,
    leverage_scores,
    residual_moment,
)
from ..theory.spectral_ranks import descending, tail_sums
from .base import Study, param

CONSTANTS = np.array([0.125, 0.25, 0.5, 1.0, 2.0, 5.0])
POWERS = (1, 2, 3)
INPUTS, ROWS = 8, 512
NOISES, ORDERS = 8, 4  # averaged in one seed
STEPS = np.array([0, 20, 100, 500, 2000])
RIDGE = 1e-9  # of the greedy reconstruction, relative


class Watched(Table):
    """A table whose network also records its hidden layer."""

    model: TwoLayer

    def __init__(self, X, y, model, decay):
        super().__init__(Data(jax.numpy.asarray(X), jax.numpy.asarray(y)), None, model, squared, decay, None)

    def measure(self, objective, params):
        return {**super().measure(objective, params), "first": self.model.weights(params)[0]}


@dataclass(frozen=True, kw_only=True)
class IntrinsicDimension(Study):
    cites = ("suzuki2020spectral", "bach2017quadrature", "deshpande2006")
    sizes = {"quick": (64, 128), "paper": (64, 128, 256, 512)}
    compare = (
        Equal("dof", rates=()),
        Below("operator_error"),
        Below("sampled_error"),
        Below("greedy_error"),
        Below("greedy_digits"),
        Below("sampled_digits"),
    )
    mutations = {"constant": 0.05, "factor": 0.25, "tail": 3.0, "lam": 1.5}
    labels = {
        "size": "m",
        "dof": "degrees of freedom",
        "step": "steps of training",
        "operator_error": "log10 of error / λ, five layers",
        "constant": "c, where c N log(16 N/δ) nodes are drawn",
        "sampled_error": "trained: nodes drawn, error",
        "draws": "draws",
        "greedy_error": "trained: greedy nodes, mean error",
        "greedy_digits": "trained: greedy nodes, digits",
        "sampled_digits": "trained: nodes drawn, digits",
    }

    lam: float = param(1e-3, 1e-6, 1.0, "level of the degrees of freedom, in the largest eigenvalue")
    delta: float = param(0.1, 1e-6, 0.9, "allowed probability of failure")
    step_size: float = param(0.05, 1e-4, 1.0, "of the training")
    decay: float = param(0.03, 0.0, 1.0, "weight decay of the training")
    batch: int = param(32, 1, 512, "samples per step")

    def simulate(self, m, *, seeds):
        layers, rows, record = self.layers(m), network(self, m), self.record(m)
        trained = layers["trained"]
        variance, mu = np.trace(trained), np.linalg.eigvalsh(trained)
        levels = level_of_nodes(mu, record["draws"], self.delta)
        scores = {name: leverage_scores(S, self.lam) for name, S in layers.items()}
        needed = {name: self.needed(S) for name, S in layers.items()}
        dots = {"dof": [], "operator_error": [], "sampled_error": [], "sampled_digits": []}
        for seed in range(seeds):
            rng = np.random.default_rng([self.seed, m, seed])
            left = [
                [largest(residual_moment(S, *draw_nodes(scores[name], self.lam, k, rng))) for k in needed[name]]
                for name, S in layers.items()
            ]
            by_number = [
                largest(residual_moment(trained, *leverage_sample(trained, lam, k, rng)))
                for k, lam in zip(record["draws"], levels, strict=True)
            ]
            orders = [rng.choice(m, m // 2, replace=False, p=scores["trained"]) for _ in range(ORDERS)]
            dots["dof"].append([absorbed(phi, self.lam, rng) for phi in rows])
            dots["operator_error"].append(np.log10(np.mean(left, axis=0) / self.lam))
            dots["sampled_error"].append(by_number)
            dots["sampled_digits"].append(
                [np.mean([digits(trained, order[:k]) for order in orders]) for k in record["nodes"]]
            )
        greedily = greedy([Target(trained, np.eye(m))], m // 2, tau=RIDGE).losses[record["nodes"]] / variance
        variables = {
            "dof": (("seed", "step"), dots["dof"]),
            "operator_error": (("seed", "constant"), dots["operator_error"]),
            "sampled_error": (("seed", "draws"), dots["sampled_error"]),
            "greedy_error": (("seed", "nodes"), np.tile(greedily, (seeds, 1))),
            "greedy_digits": (("seed", "nodes"), np.tile(-np.log10(greedily), (seeds, 1))),
            "sampled_digits": (("seed", "nodes"), dots["sampled_digits"]),
        }
        return xr.Dataset(variables, record, {"complete": 1})

    def predict(self, m):
        spectrum = descending(np.linalg.eigvalsh(self.layers(m)["trained"]))
        training = [descending(np.linalg.eigvalsh(phi.T @ phi / ROWS)) for phi in network(self, m)]
        told = {"lam": self.lam, "delta": self.delta, "constant": CONSTANT, "factor": 4.0, "tail": 1.0}
        return partial(line, spectrum=spectrum, training=training, record=self.record(m), **told)

    def beside(self, m):
        return {"best projection": partial(best, **self.predict(m).keywords)}

    def record(self, m):
        draws = np.unique(np.geomspace(4, 8 * m, 12).astype(int))
        nodes = np.unique(np.geomspace(1, m // 2, 12).astype(int))
        return {"step": STEPS, "constant": CONSTANTS, "draws": draws, "nodes": nodes}

    def needed(self, S):
        """Numbers of draws, by constant."""
        N = degrees_of_freedom(np.linalg.eigvalsh(S), self.lam)
        return np.ceil(nodes_needed(N, self.delta, 1.0) * CONSTANTS).astype(int)

    @lru_cache(maxsize=8)  # noqa: B019  dots and line share one set of layers
    def layers(self, m):
        """Second moments (m, m) by name, each with largest eigenvalue 1."""
        rng = np.random.default_rng([self.seed, m])
        found = {}
        for b in POWERS:
            Q = np.linalg.qr(rng.normal(size=(m, m)))[0]
            found[f"j^-{b}"] = (Q * np.arange(1, m + 1.0) ** -b) @ Q.T
        first, *_, last = network(self, m)
        return {**found, "untrained": first.T @ first / len(first), "trained": last.T @ last / len(last)}


@lru_cache(maxsize=8)
def network(study, m):
    """Hidden activations (step, samples, m) of one network in training, each step's with largest eigenvalue 1."""
    rng = np.random.default_rng([study.seed, 1])
    X = rng.normal(size=(ROWS, INPUTS))
    y = np.abs(X[:, 0]) - np.sqrt(2 / np.pi)
    second = np.where(np.arange(m) % 2, 4.0, -4.0)
    model = TwoLayer(INPUTS, m, "mean-field", "relu", second=second, start_sd=INPUTS**-0.5)
    problem = Watched(X, y, model, study.decay)
    dynamics = sgd(step_size=study.step_size, batch=study.batch)
    run = simulate(problem, dynamics, data=problem.data, record=STEPS, seeds=1, seed=study.seed)
    if not np.isfinite(run["first"]).all():
        raise InputError(f"the network diverges at step_size={study.step_size:g}", do="train with a smaller one")
    first = np.asarray(run["first"], np.float64)[0]  # (step, m, inputs)
    phi = np.maximum(X @ first.transpose(0, 2, 1), 0)
    return [part / np.sqrt(largest(part.T @ part / ROWS)) for part in phi]


def largest(S):
    """The largest eigenvalue."""
    return float(np.linalg.eigvalsh(S)[-1])


def digits(S, kept):
    """-log10 of the share of the variance that is left beside the nodes kept."""
    return -np.log10(np.trace(residual_moment(S, kept, RIDGE)) / np.trace(S))


def absorbed(phi, lam, rng):
    """The part of unit noise that ridge regression on the features absorbs, the mean of a few noises."""
    noise = rng.normal(size=(len(phi), NOISES))
    seen = phi.T @ noise / len(phi)
    inner = phi.T @ phi / len(phi) + lam * np.eye(phi.shape[1])
    return float((seen * np.linalg.solve(inner, seen)).sum() * len(phi) / NOISES)


def line(*, spectrum, training, record, lam, delta, constant, factor, tail):
    """N(lam); factor lam from `constant` N log(16 N/delta) draws on; k + 1 times the tail sum, and its digits."""
    sure = np.where(record["constant"] >= constant, min(factor, 1 / lam), 1 / lam)  # nothing is larger than the layer
    left = tail_sums(spectrum)[record["nodes"]] / spectrum.sum()
    best_digits = -np.log10(tail * left)
    variables = {
        "dof": ("step", [float(degrees_of_freedom(values, lam)) for values in training]),
        "operator_error": ("constant", np.log10(sure)),
        "sampled_error": ("draws", np.minimum(factor * level_of_nodes(spectrum, record["draws"], delta, constant), 1)),
        "greedy_error": ("nodes", (record["nodes"] + 1) * left),
        "greedy_digits": ("nodes", best_digits),
        "sampled_digits": ("nodes", best_digits),
    }
    return xr.Dataset(variables, record)


def best(*, spectrum, record, **others):
    """The same with the errors of the best projections on as many directions, or on half of all."""
    told = line(spectrum=spectrum, record=record, **others)
    told["sampled_error"] = ("draws", spectrum[np.minimum(record["draws"], len(spectrum) // 2)])
    told["greedy_error"] = ("nodes", tail_sums(spectrum)[record["nodes"]] / spectrum.sum())
    return told
