"""Dual averaging and dual coordinate ascent for mean-field networks with exact inner integrals, and their bounds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.special import logsumexp

from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .gibbs_grid import GibbsGrid
from .mean_field_optimum import mean_field_optimum


def dual_averaging(
    problem: MeanFieldProblem,
    *,
    record: xr.DataArray,
    growth: float = 1.0,
    seeds: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """The excess objective L(p_T) - L(mu*) of dual averaging whose inner loop is exact (neurons of 1-2 parameters).

    S += T^growth loss'(f_{p_T}), p_{T+1} ~ exp(-[V(w) + T/(T+2) lam1 |w|^2] / lam2) with V = 2/((T+1)(T+2)) (1/n) sum
    S_i h_w(x_i); p_1 is the reference.

    Args:
      problem: a MeanFieldProblem.
      record: labelled outer steps T >= 1: the measure after T updates of S.
      growth: of the weights; 1 is the method.
      seeds: None for full gradients; else runs with one random sample a step, over which is averaged.
      seed: of those.

    Returns:
      Dataset on the record's axis: excess_objective, and excess_objective_stderr where there are seeds.

    Source: Nitanda, Wu & Suzuki, NeurIPS 2021 (nitanda2021pda).
    """
    best = mean_field_optimum(problem)
    # Wide enough for the first steps, which have a third of the regulariser.
    grid, steps = GibbsGrid.of(problem, reach=12.0), np.asarray(record.values, int)
    runs = _average(grid, steps, growth, seeds, seed) - best.objective_rel
    found = {"excess_objective": (record.dims, runs.mean(axis=0))}
    if seeds is not None:
        found["excess_objective_stderr"] = (record.dims, runs.std(axis=0, ddof=1) / len(runs) ** 0.5)
    return xr.Dataset(found, record.coords)


def _average(grid: GibbsGrid, steps: np.ndarray, growth: float, seeds: int | None, seed: int) -> np.ndarray:
    """Objectives (runs, steps) of dual averaging; one run with full gradients where there are no seeds."""
    n, runs, rng = grid.n, seeds or 1, np.random.default_rng(seed)
    square = np.sum(grid.nodes**2, axis=1) * float(grid.problem.lam1)
    total, log_p = np.zeros((runs, n)), np.tile(grid.log_reference, (runs, 1))
    found = np.empty((runs, len(steps)))
    for T in range(1, int(steps.max()) + 1):
        _, slopes = _losses(grid, np.exp(log_p) @ grid.outputs)
        if seeds is None:
            total += T**growth * slopes
        else:
            chosen = np.arange(runs), rng.integers(n, size=runs)
            total[chosen] += T**growth * n * slopes[chosen]
        potential = 2 / ((T + 1) * (T + 2)) * (total @ grid.outputs.T) / n
        # The reference holds the whole of lam1 |w|^2; the method has T / (T + 2) of it.
        log_p = grid.log_reference - (potential - 2 / (T + 2) * square) / grid.temperature
        log_p -= logsumexp(log_p, axis=1, keepdims=True)
        for slot in np.flatnonzero(steps == T):
            p = np.exp(log_p)
            divergence = np.sum(p * (log_p - grid.log_reference), axis=1)
            found[:, slot] = _losses(grid, p @ grid.outputs)[0].mean(axis=1) + grid.temperature * divergence
    return found


def _losses(grid: GibbsGrid, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses and their slopes at predictions z (runs, n)."""
    with jax.enable_x64(True):
        values, slopes = _values_and_slopes(grid.problem, jnp.asarray(z))
    return np.asarray(values), np.asarray(slopes)


@eqx.filter_jit
def _values_and_slopes(problem: MeanFieldProblem, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(problem.losses)(z), jax.vmap(problem.slopes)(z)


def coordinate_ascent_bound(
    problem: MeanFieldProblem, *, record: xr.DataArray, smoothness: float, speed: float = 1.0
) -> xr.Dataset:
    """The bound of the expected duality gap of dual coordinate ascent from g = loss'(0), for exact inner integrals.

    (1 - (1/n) gamma / (gamma + s))^k times n times the start's dual error D* - D(g_0), with s = R^2 / (lam2 n).

    Args:
      problem: a MeanFieldProblem with a bounded neuron of one or two parameters.
      record: labelled numbers k of dual updates.
      smoothness: gamma, the loss being (1/gamma)-smooth: 1 for squared and Huber, 4 for logistic.
      speed: factor on the contraction's exponent; 1 is the theorem.

    Returns:
      Dataset on the record's axis: dual_error, the bound of E D* - D(g_k).

    Raises:
      InputError: an unbounded neuron.

    Source: Oko, Suzuki, Nitanda & Wu, ICLR 2022 (oko2022psdca).
    """
    if problem.bound is None:
        raise InputError(
            "the neuron is unbounded", why="the bound needs R = sup|h|: s = R^2 / (lam2 n)", do="use a bounded neuron"
        )
    best = mean_field_optimum(problem)
    start = best.grid.gibbs(np.zeros(best.grid.n))
    rate = contraction(problem, smoothness)
    error = (best.objective_rel - start.dual_value) * (1 - rate) ** (speed * np.asarray(record.values, float))
    return xr.Dataset({"dual_error": (record.dims, error)}, record.coords)


def contraction(problem: MeanFieldProblem, smoothness: float) -> float:
    """(1/n) gamma / (gamma + s), s = R^2 / (lam2 n): the share of the dual error that an update removes on average."""
    n = len(problem.y)
    s = (problem.bound or np.inf) ** 2 / (float(problem.lam2) * n)
    return smoothness / (smoothness + s) / n
