"""Mean-field networks of one-parameter neurons on a line: what the studies of their dynamics share.

What dots need of an exact law (a Gibbs measure's integrals) is computed here apart from the theory of the line.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..models.base import to_real
from ..models.neurons import to_neuron
from ..problems.base import Objective
from ..problems.mean_field import MeanFieldProblem, Watched

STEEPNESS = 2.0


def step_neuron(scale: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """h_w(x) = scale tanh(2 (x - w)): a smooth step at w."""
    if scale not in _NEURONS:
        _NEURONS[scale] = lambda w, x: scale * jnp.tanh(STEEPNESS * (x[0] - w[0]))
    return _NEURONS[scale]


_NEURONS: dict[float, Callable] = {}
"""One function for each scale: another function object would be compiled anew."""


def step_table(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x uniform on [-2, 2] and y = sin(2 x) + 0.3 noise."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-2, 2, n))
    return x[:, None], np.sin(2 * x) + 0.3 * rng.standard_normal(n)


class Binned(Watched):
    """The same problem, which also records the share of particles in each bin.

    Args:
      edges: (bins - 1,) inner edges; the outer bins are half lines.
      mean: of the particles at the start.
    """

    edges: jax.Array
    mean: jax.Array

    def __init__(self, *args, edges, mean=0.0, **options):
        super().__init__(*args, **options)
        self.edges, self.mean = to_real(edges), to_real(mean)

    def initial(self, key: jax.Array) -> jax.Array:
        return self.mean + super().initial(key)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        return {**super().dims, "share": ("bin",)}

    def measure(self, objective: Objective, params: jax.Array) -> dict[str, jax.Array]:
        place = jnp.searchsorted(self.edges, params[:, 0])
        share = jnp.bincount(place, length=len(self.edges) + 1) / len(params)
        return {**super().measure(objective, params), "share": share}


def step_problem(
    n: int, width: int, *, scale: float, lam1: float, lam2: float, loss: str = "squared", seed: int = 0,
    kind: Callable[..., Watched] = Watched, **options,
) -> Watched:  # fmt: skip
    """A network of `width` smooth steps on a table of n points; under a margin loss the labels are the signs of y."""
    X, y = step_table(n, seed)
    y = np.where(y > 0, 1.0, -1.0) if loss in ("logistic", "smoothed_hinge") else y
    neuron = to_neuron(step_neuron(scale), parameters=1, bound=scale)
    return kind(X, y, neuron=neuron, loss=loss, lam1=lam1, lam2=lam2, width=width, **options)


class Integrals:
    """Gibbs measures of a problem with one-parameter neurons by sums over equal cells, in NumPy.

    Args:
      problem: from `step_problem`.
      scale: of its neurons.
    """

    def __init__(self, problem: MeanFieldProblem, scale: float):
        self.lam1, self.lam2 = float(problem.lam1), float(problem.lam2)
        self.sd = (self.lam2 / (2 * self.lam1)) ** 0.5
        self.w = np.linspace(-9 * self.sd, 9 * self.sd, 601)
        self.x = np.asarray(problem.X, np.float64)[:, 0]
        self.H = scale * np.tanh(STEEPNESS * (self.x[:, None] - self.w))  # (n, M)
        self.log_cell = np.full(len(self.w), np.log(self.w[1] - self.w[0]))
        self.log_reference = self.log_cell - self.w**2 / (2 * self.sd**2) - np.log(2 * np.pi * self.sd**2) / 2

    def gibbs(self, g: np.ndarray, ridge_share: float | np.ndarray = 1.0) -> np.ndarray:
        """Log cell probabilities (..., M) of exp(-(V_g + ridge_share lam1 w^2) / lam2), for g (..., n)."""
        potential = g @ self.H / self.H.shape[0] + ridge_share * self.lam1 * self.w**2
        log_p = self.log_cell - potential / self.lam2
        top = log_p.max(axis=-1, keepdims=True)
        return log_p - top - np.log(np.exp(log_p - top).sum(axis=-1, keepdims=True))

    def log_partition(self, g: np.ndarray) -> np.ndarray:
        """log E exp(-V_g / lam2) under the reference."""
        values = self.log_reference - g @ self.H / (self.H.shape[0] * self.lam2)
        top = values.max(axis=-1)
        return top + np.log(np.exp(values - top[..., None]).sum(axis=-1))

    def divergence(self, log_p: np.ndarray) -> np.ndarray:
        """KL of cell probabilities from the reference."""
        return np.sum(np.exp(log_p) * (log_p - self.log_reference), axis=-1)

    def outputs(self, log_p: np.ndarray) -> np.ndarray:
        """(..., n) mean of the neurons."""
        return np.exp(log_p) @ self.H.T


def binned_divergence(share: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL of shares in bins (..., bins) from others."""
    filled = np.where(share > 0, share, 1.0)
    return np.sum(share * np.log(filled / np.maximum(other, 1e-250)), axis=-1)
