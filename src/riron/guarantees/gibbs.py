"""The proximal Gibbs measure p_g ~ exp(-V_g / lam2) N(0, s0^2 I) of a dual vector g, by tempered Monte Carlo."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..dynamics.tempered_smc import Ladder, TemperedSample, adapt_ladder, tempered_smc
from ..problems.mean_field import MeanFieldProblem

CHUNK = 2**20  # numbers (particles x rows) whose averages are taken at one time


class Losses(NamedTuple):
    """Of predictions z (n,), in float64."""

    values: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray


class GibbsSample(NamedTuple):
    """What a run of G groups gives of p_g."""

    cloud: TemperedSample
    means: np.ndarray
    """(G, n) averages of h_w(x_i) within each group."""
    moves: int

    @property
    def predictions(self) -> np.ndarray:
        """(n,) estimate of f_{p_g}(x_i)."""
        return self.cloud.weights @ self.means

    @property
    def log_z(self) -> float:
        """Estimate of log E_{N(0, s0^2 I)} exp(-V_g / lam2)."""
        lz = self.cloud.log_z
        return float(lz.max() + np.log(np.mean(np.exp(lz - lz.max()))))

    @property
    def log_z_stderr(self) -> float:
        return self.cloud.log_weights_cv / len(self.cloud.log_z) ** 0.5


def losses_at(problem: MeanFieldProblem, z: np.ndarray) -> Losses:
    """Losses of predictions z (..., n) and their first two derivatives, of that shape."""
    with jax.enable_x64(True):
        parts = _losses(jnp.asarray(z, jnp.float64), jnp.asarray(problem.y, jnp.float64), loss=problem.loss)
        return Losses(*(np.asarray(part) for part in parts))


def gibbs_ladder(problem: MeanFieldProblem, g: np.ndarray, key: jax.Array, *, particles: int, ess: float) -> Ladder:
    """The ladder towards p_g, from a pilot run."""
    sd = float(problem.reference_sd)
    args = gibbs_args(problem, g)
    return adapt_ladder(potential, args, key, dim=problem.dim, reference_sd=sd, particles=particles, ess=ess)


def sample_gibbs(
    problem: MeanFieldProblem, g: np.ndarray, key: jax.Array, ladder: Ladder, *, groups: int, particles: int, moves: int
) -> GibbsSample:
    """G independent groups of N points from p_g, and their average predictions."""
    sd, n = float(problem.reference_sd), len(g)
    size = {"dim": problem.dim, "groups": groups, "particles": particles, "moves": moves, "rows": n}
    cloud = tempered_smc(potential, gibbs_args(problem, g), key, ladder, reference_sd=sd, **size)
    return GibbsSample(cloud, group_means(problem, cloud.points), moves)


def group_means(problem: MeanFieldProblem, points: np.ndarray) -> np.ndarray:
    """(G, n) averages of h over each group of points (G, N, p), summed in float64."""
    with jax.enable_x64(True):
        return np.asarray(_means(problem.neuron, jnp.asarray(problem.X, points.dtype), points))


def potential(args: Any, W: jax.Array) -> jax.Array:
    """V_g(w) / lam2 for args = (neuron, X, g / (n lam2))."""
    neuron, X, c = args
    return neuron.features(W, X) @ c


def gibbs_args(problem: MeanFieldProblem, g: np.ndarray) -> tuple:
    return problem.neuron, problem.X, np.asarray(g) / (len(g) * float(problem.lam2))


@jax.jit
def _means(neuron, X, points):
    neuron = jax.tree.map(lambda a: a.astype(points.dtype), neuron)
    together = max(CHUNK // (points.shape[1] * len(X)), 1)
    mean = lambda W: jnp.mean(neuron.features(W, X), axis=0, dtype=jnp.float64)
    return jax.lax.map(mean, points, batch_size=min(together, len(points)))


@partial(jax.jit, static_argnames="loss")
def _losses(z, y, *, loss):
    functions = (loss, jax.grad(loss), jax.grad(jax.grad(loss)))
    return [jnp.vectorize(function)(z, y) for function in functions]
