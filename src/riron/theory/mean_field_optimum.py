"""The global optimum of a mean-field network by quadrature and a damped Newton method in its predictions."""

from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .gibbs_grid import BORDER, Gibbs, GibbsGrid
from .spectral_gap import spectral_gap

Grid = int | tuple[np.ndarray, ...] | None

STEPS = 500
REACH, WIDENINGS = 8.0, 6
FINER = {1: (401, 801, 1601, 3201, 6401), 2: (101, 141, 201, 281, 401, 561)}
STILL = 3e-11
"""Change of the predictions between two grids, in their units, at which the finer one is final."""


class MeanFieldOptimum(NamedTuple):
    """The minimiser mu* of L(mu), on a grid."""

    predictions: np.ndarray
    """(n,) f_* at the training rows."""
    density: np.ndarray
    """(M,) of mu* at the nodes."""
    nodes: np.ndarray
    """(M, p)"""
    objective_rel: float
    """L_rel(mu*) = mean loss + lam2 KL(mu* | reference)."""
    log_partition: float
    """log of Z / Z_0 of the optimal Gibbs measure."""
    gap: float | None
    """Spectral gap of the Langevin dynamics in the optimal potential, 1 / time; None with two parameters."""
    duality_gap: float
    """Proved excess of the returned measure over L(mu*), up to quadrature."""
    quadrature_error: float
    """How far the last refinement of the grid moved the predictions; inf where the grid was given."""
    covariance: np.ndarray
    """(n, n) Cov(h(x_i), h(x_k)) under mu*."""
    grid: GibbsGrid
    """The grid, for other measures of the same problem."""


def mean_field_optimum(problem: MeanFieldProblem, grid: Grid = None, *, tolerance: float = 1e-11) -> MeanFieldOptimum:
    """The optimum of L(mu) = (1/n) sum loss(f_mu(x_i), y_i) + lam1 E|w|^2 + lam2 E log mu, to about 1e-10.

    The dual variables g are written as slopes of the loss at predictions z, g = loss'(z): they are then always in the
    domain of the conjugate, which is never needed. A Newton step is z + t (I + C H / (lam2 n))^-1 (f - z), with f and C
    the mean and covariance of the neurons under the Gibbs measure of z and H = diag(loss''(z)); t is halved until the
    dual value rises.

    Args:
      problem: a MeanFieldProblem whose neuron has one or two parameters.
      grid: None to refine it until the predictions stand still; or the number of nodes along each axis, or the axes
        themselves: a tuple with one array of equally spaced values for each parameter.
      tolerance: largest difference of predictions and z at the end, in units of the predictions.

    Returns:
      A MeanFieldOptimum.

    Raises:
      InputError: more than two parameters; a Gibbs measure that does not end within the grid (none exists where the
        neuron grows as fast as |w|^2); a Newton method that does not converge.

    Source: Nitanda, Wu & Suzuki, AISTATS 2022 (duality); the Newton method is derived from the dual's concavity.
    """
    place, z, gibbs = start(problem, grid, tolerance)
    error = np.inf
    if grid is None:
        place, z, gibbs, error = refined(place, z, gibbs, tolerance)
    log_density = place.log_density(gibbs.log_probabilities)
    one = len(place.axes) == 1
    return MeanFieldOptimum(
        predictions=gibbs.predictions,
        density=np.exp(log_density),
        nodes=place.nodes,
        objective_rel=gibbs.objective_rel,
        log_partition=gibbs.log_partition,
        gap=spectral_gap(log_density, place.volume, place.temperature) if one else None,
        duality_gap=gibbs.duality_gap,
        quadrature_error=error,
        covariance=place.covariance(gibbs.log_probabilities),
        grid=place,
    )


def start(problem: MeanFieldProblem, grid: Grid, tolerance: float) -> tuple[GibbsGrid, np.ndarray, Gibbs]:
    """The optimum on a first grid, wide enough for the law to end inside it."""
    reach, z = REACH, None
    for _ in range(WIDENINGS):
        place = GibbsGrid.of(problem, grid, reach=reach)
        z, gibbs = newton(place, tolerance, z)
        if place.border(gibbs.log_probabilities) < BORDER or isinstance(grid, tuple):
            return place, z, gibbs
        reach *= 1.4
    raise InputError(
        f"the optimal law does not end within {reach:.0f} standard deviations of the reference",
        do="raise lam1, or use a neuron that grows slower than |w|^2",
    )


def refined(
    place: GibbsGrid, z: np.ndarray, gibbs: Gibbs, tolerance: float
) -> tuple[GibbsGrid, np.ndarray, Gibbs, float]:
    """Finer grids on the box that holds the law, until the predictions stand still; the last change is the error."""
    error = np.inf
    for count in FINER[len(place.axes)]:
        axes = tuple(np.linspace(*side, count) for side in place.box(gibbs.log_probabilities))
        before = gibbs.predictions
        place = GibbsGrid.of(place.problem, axes)
        z, gibbs = newton(place, tolerance, z)
        error = float(np.abs(gibbs.predictions - before).max())
        if error < STILL * max(1.0, float(np.abs(before).max())):
            break
    return place, z, gibbs, error


def newton(place: GibbsGrid, tolerance: float, z: np.ndarray | None = None) -> tuple[np.ndarray, Gibbs]:
    """Damped Newton from z (or 0): predictions z that the Gibbs measure of loss'(z) gives back."""
    z = np.zeros(place.n) if z is None else z
    gibbs = place.gibbs(z)
    for _ in range(STEPS):
        miss = gibbs.predictions - z
        if np.abs(miss).max() <= tolerance * max(1.0, np.abs(z).max()):
            return z, gibbs
        _, _, curvatures = place.loss(z)
        C = place.covariance(gibbs.log_probabilities)
        step = np.linalg.solve(np.eye(place.n) + C * curvatures / (place.temperature * place.n), miss)
        t = 1.0
        while t > 1e-9:
            trial = place.gibbs(z + t * step)
            # Near the optimum the dual value no longer moves above rounding, and the distance decides.
            slack = 1e-13 * (1 + abs(gibbs.dual_value))
            closer = np.abs(trial.predictions - z - t * step).max() < np.abs(miss).max()
            rises = trial.dual_value - gibbs.dual_value
            if rises > slack or (rises > -slack and closer):
                break
            t /= 2
        else:
            break
        z, gibbs = z + t * step, trial
    raise InputError(
        f"the Newton method stopped at a duality gap of {gibbs.duality_gap:.2g}", do="use a finer grid or a larger lam2"
    )
