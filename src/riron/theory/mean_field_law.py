"""The law of mean-field Langevin dynamics with infinitely many neurons of one parameter, step by step on a grid.

One step of size eta is a Gaussian transition w' ~ N(w - eta U'(w; f), 2 eta T), applied to the law by a matrix, with f
the mean of the neurons under the law now. So the line has the step size of the dots, and no limit of small steps.
"""

from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from ..checks import as_positive
from ..errors import InputError
from ..problems.mean_field import MeanFieldProblem
from .gibbs_grid import GibbsGrid
from .mean_field_optimum import newton

RESOLVED = 1.5
"""Standard deviations of one step's noise that a cell must not exceed: sums are then exact to 1e-16."""
MOST_NODES = 4001
NEWTON_STEPS, DOUBLINGS = 50, 60
FAINTEST = 1e-250


class Transition(NamedTuple):
    """One step from the law p: matrix[k, j] is the probability of cell k from cell j."""

    matrix: np.ndarray
    means: np.ndarray  # (M,) where the step's drift carries each node
    predictions: np.ndarray  # (n,) that the drift was computed from


class LawOnGrid:
    """Laws of one-parameter neurons as cell probabilities, and the transition of a step.

    Args:
      problem: a MeanFieldProblem whose neuron has one parameter.
      step_size: eta.
      temperature: T of the noise; lam2 unless given (0 < T).
      start_mean, start_sd: Gaussian law at the start; the reference measure unless given.
      reach: half width of the grid beyond the start, in units of the reference's standard deviation.

    Raises:
      InputError: a neuron of several parameters, or a step whose noise is too small for a grid.
    """

    def __init__(
        self,
        problem: MeanFieldProblem,
        *,
        step_size: float,
        temperature: float | None = None,
        start_mean: float = 0.0,
        start_sd: float | None = None,
        reach: float = 6.0,
    ):
        if problem.dim != 1:
            raise InputError(f"the neuron has {problem.dim} parameters", do="the law on a grid needs neurons of one")
        self.eta = as_positive(step_size, "step_size")
        self.temperature = as_positive(float(problem.lam2) if temperature is None else temperature, "temperature")
        sd = float((problem.lam2 / (2 * problem.lam1)) ** 0.5)
        self.start_mean, self.start_sd = start_mean, sd if start_sd is None else as_positive(start_sd, "start_sd")
        self.noise = (2 * self.eta * self.temperature) ** 0.5
        edge = max(reach * sd, abs(start_mean) + reach * self.start_sd)
        count = max(2 * int(np.ceil(edge * RESOLVED / self.noise)) + 1, 101)
        if count > MOST_NODES:
            raise InputError(
                f"a step's noise of {self.noise:.2g} needs {count} nodes", do="use a larger step_size or temperature"
            )
        self.grid = GibbsGrid.of(problem, (np.linspace(-edge, edge, count),))
        self.w = self.grid.axes[0]
        with jax.enable_x64(True):
            self.slopes = np.asarray(_slopes(self.grid.problem, jnp.asarray(self.w)))

    def start(self) -> np.ndarray:
        """Cell probabilities at the start."""
        log_p = -((self.w - self.start_mean) ** 2) / (2 * self.start_sd**2)
        p = np.exp(log_p - log_p.max())
        return p / p.sum()

    def transition(self, p: np.ndarray) -> Transition:
        """The step that follows the law p."""
        predictions = p @ self.grid.outputs
        _, g, _ = self.grid.loss(predictions)
        drift = self.slopes @ g / self.grid.n + 2 * float(self.grid.problem.lam1) * self.w
        means = self.w - self.eta * drift
        matrix = np.exp(-((self.w[:, None] - means) ** 2) / (2 * self.noise**2))
        return Transition(matrix / matrix.sum(axis=0), means, predictions)

    def march(self, steps: int) -> Iterator[np.ndarray]:
        """The law after 0, 1, ..., `steps` steps."""
        p = self.start()
        yield p
        for _ in range(steps):
            p = self.transition(p).matrix @ p
            yield p

    def shares(self, p: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Probabilities of the bins between inner edges, from the cells of a smooth density."""
        cells = CubicSpline(self.w, p).antiderivative()
        inside = cells(np.clip(edges, self.w[0], self.w[-1]))
        bins = np.diff(np.concatenate([[0.0], inside, [cells(self.w[-1])]]))
        return np.maximum(bins / bins.sum(), FAINTEST)  # rounding may leave an empty bin below 0

    def sandwich(self, p: np.ndarray, optimum: np.ndarray, edges: np.ndarray | None = None) -> dict[str, float]:
        """Objective, both sides of the entropy sandwich and the dissipation of a law; `optimum`: log cells of mu*.

        With inner edges of bins, all divergences are those of the shares in bins, as particles can be counted.
        """
        grid, T = self.grid, self.grid.temperature
        with np.errstate(divide="ignore"):
            log_p = np.log(p)
        f = p @ grid.outputs
        values, slopes, _ = grid.loss(f)
        gibbs = grid.gibbs_of_slopes(f, values, slopes)
        if edges is not None:
            bins = [
                self.shares(q, edges) for q in (p, *map(np.exp, (gibbs.log_probabilities, optimum, grid.log_reference)))
            ]
            upper, lower, reference = (float(np.sum(bins[0] * np.log(bins[0] / q))) for q in bins[1:])
            loss = float(values.mean())
            return {
                "train_loss": loss, "objective": loss + T * reference, "duality_gap": T * upper, "divergence": T * lower
            }  # fmt: skip
        seen = p > 1e-280
        ratio = np.where(seen, log_p - gibbs.log_probabilities, 0.0)
        steepness = np.gradient(ratio, self.w)
        return {
            "train_loss": float(values.mean()),
            "objective": grid.objective_rel(log_p),
            "duality_gap": T * grid.relative_entropy(log_p, gibbs.log_probabilities),
            "divergence": T * grid.relative_entropy(log_p, optimum),
            "dissipation": T**2 * float(np.sum(np.where(p > 1e-14, p * steepness**2, 0.0))),
        }


def mean_field_law(
    problem: MeanFieldProblem,
    *,
    step_size: float,
    record: xr.DataArray,
    temperature: float | None = None,
    start_mean: float = 0.0,
    start_sd: float | None = None,
    edges: ArrayLike | None = None,
) -> xr.Dataset:
    """Mean-field Langevin dynamics of infinitely many one-parameter neurons, with the entropy sandwich.

    Args:
      problem: a MeanFieldProblem whose neuron has one parameter.
      step_size: eta, time of one step.
      record: labelled steps.
      temperature: of the noise; lam2 unless given.
      start_mean, start_sd: Gaussian law at the start; the reference measure unless given.
      edges: inner edges of bins, to which all entropies are then coarse-grained (and no dissipation is given).

    Returns:
      Dataset on the record's axis: train_loss; objective = L_rel(mu); divergence = lam2 KL(mu | mu*), which is at most
      excess_objective = L(mu) - L(mu*), which is at most duality_gap = lam2 KL(mu | p_mu); dissipation =
      lam2^2 I(mu | p_mu), the rate at which the objective falls for small steps.

    Raises:
      InputError: a neuron of several parameters, or a step whose noise is too small for a grid.

    Source: Nitanda, Wu & Suzuki, AISTATS 2022; Chizat, TMLR 2022.
    """
    law = LawOnGrid(problem, step_size=step_size, temperature=temperature, start_mean=start_mean, start_sd=start_sd)
    _, best = newton(law.grid, 1e-11)
    steps = np.asarray(record.values, int)
    rows: list[dict[str, float]] = [{}] * len(steps)
    for t, p in enumerate(law.march(int(steps.max()))):
        for slot in np.flatnonzero(steps == t):
            found = law.sandwich(p, best.log_probabilities, None if edges is None else np.asarray(edges))
            rows[slot] = {**found, "excess_objective": found["objective"] - best.objective_rel}
    data = {name: (record.dims, [row[name] for row in rows]) for name in rows[0]}
    return xr.Dataset(data, record.coords)


class FiniteStepFluctuations(NamedTuple):
    """The stationary state at a finite step size, and lim N Cov(f_N) around it."""

    probabilities: np.ndarray
    predictions: np.ndarray
    covariance: np.ndarray
    prediction_error: float
    """lim N E (1/2n) sum_i loss''_i (f_N - E f_N)_i^2"""


def finite_step_fluctuations(
    problem: MeanFieldProblem, *, step_size: float, temperature: float | None = None, interaction: float = 1.0
) -> FiniteStepFluctuations:
    """The constant of 1/N at a finite step size: fluctuations of the empirical law, linearised around the mean field.

    With rho the stationary law, K its transition and B the change of a step with the predictions, fluctuations obey
    s' = (K + B H') s + noise of covariance diag(rho) - K diag(rho) K'. Doubling finds their stationary covariance.

    Args:
      problem: a MeanFieldProblem whose neuron has one parameter.
      step_size: eta.
      temperature: of the noise; lam2 unless given.
      interaction: factor on B; 0 for independent neurons.

    Source: derived (central limit theorem for the empirical law); for small steps it tends to `fluctuations`.
    """
    law = LawOnGrid(problem, step_size=step_size, temperature=temperature)
    p = np.exp(newton(law.grid, 1e-11)[1].log_probabilities)
    for _ in range(NEWTON_STEPS):
        step = law.transition(p)
        miss = step.matrix @ p - p
        if np.abs(miss).sum() < 1e-13:
            break
        p = np.maximum(p + np.linalg.solve(np.eye(len(p)) - linearised(law, step, p, 1.0), miss), 0.0)
        p /= p.sum()
    else:
        raise InputError("no stationary law was found", why="the dynamics is metastable", do="raise lam2")
    power = linearised(law, step, p, interaction)
    covariance = np.diag(p) - (step.matrix * p) @ step.matrix.T
    for _ in range(DOUBLINGS):
        added = power @ covariance @ power.T
        covariance = covariance + added
        if np.abs(added).max() < 1e-15 * np.abs(covariance).max():
            break
        power = power @ power
    _, _, curvatures = law.grid.loss(step.predictions)
    limit = law.grid.outputs.T @ covariance @ law.grid.outputs
    error = float(np.sum(curvatures * np.diag(limit))) / (2 * law.grid.n)
    return FiniteStepFluctuations(p, step.predictions, limit, error)


def linearised(law: LawOnGrid, step: Transition, p: np.ndarray, interaction: float) -> np.ndarray:
    """One step's map of a small change of the law p that has mass 0; the mass of p itself is projected out."""
    _, _, curvatures = law.grid.loss(step.predictions)
    pushed = step.matrix * (law.w[:, None] - step.means) / law.noise**2
    response = -law.eta / law.grid.n * (pushed * p) @ (law.slopes * curvatures)
    change = step.matrix + interaction * response @ law.grid.outputs.T
    return change - (change @ p)[:, None]


@eqx.filter_jit
def _slopes(problem: MeanFieldProblem, w: jax.Array) -> jax.Array:
    """Derivatives of the neurons' outputs in their parameter: (M, n)."""
    one = lambda v: problem.features(v[None, None])[0]
    return jax.vmap(jax.jacfwd(one))(w)
