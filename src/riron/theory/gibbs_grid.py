"""Gibbs measures of a mean-field problem on a grid, for neurons of one or two parameters, by the trapezium rule."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem

NODES = {1: 401, 2: 81}
BORDER = 1e-15
"""Largest density at the border, relative to its maximum, that an integral may ignore."""


class Gibbs(NamedTuple):
    """The measure p_g, g = loss'(z), and what it says of the optimum."""

    log_probabilities: np.ndarray  # (M,) of the cells
    predictions: np.ndarray  # (n,) f = E h
    log_partition: float  # log(Z_g / Z_0)
    dual_value: float  # a lower bound of every relative objective
    duality_gap: float  # L(p_g) - dual value: the Bregman divergence of f from z, >= L(p_g) - L*

    @property
    def objective_rel(self) -> float:
        """L_rel(p_g)."""
        return self.dual_value + self.duality_gap


@dataclass(frozen=True)
class GibbsGrid:
    """Nodes w (M, p) of a regular grid with the neurons' outputs H (M, n) there, in float64."""

    problem: MeanFieldProblem
    axes: tuple[np.ndarray, ...]
    nodes: np.ndarray
    outputs: np.ndarray
    log_reference: np.ndarray  # (M,) of the cells, for the Gaussian on the whole space

    @classmethod
    def of(cls, problem: MeanFieldProblem, grid: int | tuple[np.ndarray, ...] | None = None, *, reach: float = 8.0):
        """The grid of a problem.

        Args:
          problem: its neuron has one or two parameters.
          grid: nodes along each axis, or the axes themselves (equally spaced values), one for each parameter.
          reach: half width of the grid in units of the reference's standard deviation.

        Raises:
          InputError: a neuron of more than two parameters, or axes that do not fit.
        """
        p = problem.dim
        if p not in NODES:
            raise InputError(
                f"the neuron has {p} parameters and quadrature takes 1 or 2",
                do="use guarantees.optimality_gap, which samples",
            )
        problem = in_float64(problem)
        sd = (float(problem.lam2) / (2 * float(problem.lam1))) ** 0.5
        if grid is None or isinstance(grid, int):
            count = grid or NODES[p]
            if count < 5:
                raise InputError(f"grid={count} nodes along an axis cannot hold a density", do="use 200 or more")
            axes = (np.linspace(-reach * sd, reach * sd, count),) * p
        else:
            axes = tuple(np.asarray(axis, np.float64) for axis in grid)
        if len(axes) != p or any(len(axis) < 5 or np.ptp(np.diff(axis)) > 1e-9 * np.ptp(axis) for axis in axes):
            raise InputError(f"grid must hold {p} axes of at least 5 equally spaced values each")
        nodes = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)
        with jax.enable_x64(True):
            outputs = np.asarray(_features(problem, jnp.asarray(nodes)))
        # The ends of an axis count half, in the trapezium rule.
        ends = half_cells(axes)
        cell = sum(np.log(axis[1] - axis[0]) for axis in axes) - p * np.log(2 * np.pi * sd**2) / 2
        return cls(problem, axes, nodes, outputs, ends + cell - (nodes**2).sum(axis=1) / (2 * sd**2))

    @property
    def temperature(self) -> float:
        return float(self.problem.lam2)

    @property
    def n(self) -> int:
        return self.outputs.shape[1]

    @cached_property
    def volume(self) -> float:
        """Of one cell."""
        return float(np.prod([axis[1] - axis[0] for axis in self.axes]))

    def loss(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses, their slopes and curvatures at predictions z (n,)."""
        with jax.enable_x64(True):
            parts = _loss(self.problem, jnp.asarray(z, jnp.float64))
        values, slopes, curvatures = (np.asarray(part) for part in parts)
        return values, slopes, curvatures

    def gibbs(self, z: np.ndarray) -> Gibbs:
        """The Gibbs measure of the dual variables g = loss'(z)."""
        values, slopes, _ = self.loss(z)
        return self.gibbs_of_slopes(z, values, slopes)

    def gibbs_of_slopes(self, z: np.ndarray, values: np.ndarray, slopes: np.ndarray) -> Gibbs:
        log_weights = self.log_reference - self.outputs @ slopes / (self.n * self.temperature)
        log_partition = float(np.asarray(logsumexp(log_weights)))
        log_probabilities = log_weights - log_partition
        predictions = np.exp(log_probabilities) @ self.outputs
        dual = float(np.mean(values - slopes * z)) - self.temperature * log_partition
        at_predictions, _, _ = self.loss(predictions)
        gap = float(np.mean(at_predictions - values - slopes * (predictions - z)))
        return Gibbs(log_probabilities, predictions, log_partition, dual, gap)

    def covariance(self, log_probabilities: np.ndarray) -> np.ndarray:
        """Cov(h(x_i), h(x_k)) under cell probabilities: (n, n)."""
        p = np.exp(log_probabilities)
        centred = self.outputs - p @ self.outputs
        return (centred * p[:, None]).T @ centred

    def relative_entropy(self, log_p: np.ndarray, log_q: np.ndarray | None = None) -> float:
        """KL of cell probabilities p from q (from the reference unless given)."""
        p = np.exp(log_p)
        other = self.log_reference if log_q is None else log_q
        return float(np.sum(np.where(p > 0, p * (log_p - other), 0.0)))

    def objective_rel(self, log_p: np.ndarray) -> float:
        """L_rel of any cell probabilities."""
        values, _, _ = self.loss(np.exp(log_p) @ self.outputs)
        return float(np.mean(values)) + self.temperature * self.relative_entropy(log_p)

    def log_density(self, log_p: np.ndarray) -> np.ndarray:
        """Logarithm of the density at the nodes, from cell probabilities (those at the border count half a cell)."""
        return log_p - half_cells(self.axes) - np.log(self.volume)

    def box(self, log_p: np.ndarray, faint: float = BORDER) -> tuple[tuple[float, float], ...]:
        """The smallest box of cells that holds every density above `faint` times the largest, one cell wider."""
        shape = tuple(len(axis) for axis in self.axes)
        seen = (log_p > log_p.max() + np.log(faint)).reshape(shape)
        sides = []
        for k, axis in enumerate(self.axes):
            places = np.flatnonzero(seen.any(axis=tuple(j for j in range(len(shape)) if j != k)))
            low, high = max(places[0] - 1, 0), min(places[-1] + 1, len(axis) - 1)
            sides.append((float(axis[low]), float(axis[high])))
        return tuple(sides)

    def border(self, log_p: np.ndarray) -> float:
        """The largest density on the border of the grid, relative to the largest of all."""
        shape = tuple(len(axis) for axis in self.axes)
        density = np.exp(log_p - log_p.max()).reshape(shape)
        return max(float(np.take(density, [0, -1], axis=k).max()) for k in range(len(shape)))


def half_cells(axes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Logarithms of the trapezium rule's weights, in cells, at the nodes: log 1/2 for each axis that ends there."""
    total = np.zeros([len(axis) for axis in axes])
    for k in range(len(axes)):
        for end in (0, -1):
            total[(slice(None),) * k + (end,)] += np.log(0.5)
    return total.ravel()


def in_float64(problem: MeanFieldProblem) -> MeanFieldProblem:
    """The same problem with arrays in float64."""
    with jax.enable_x64(True):
        double = lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64)
        is_real = lambda leaf: eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.tree.map(lambda leaf: double(leaf) if is_real(leaf) else leaf, problem)


@eqx.filter_jit
def _features(problem: MeanFieldProblem, nodes: jax.Array) -> jax.Array:
    return problem.features(nodes)


@eqx.filter_jit
def _loss(problem: MeanFieldProblem, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return problem.losses(z), problem.slopes(z), problem.curvatures(z)
