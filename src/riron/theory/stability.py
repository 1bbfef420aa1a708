"""The stability edge: the largest step size at which SGD on least squares converges in mean square, on given rows.

The expected squared residuals f of the rows feed back on themselves: f causes noise N_f = (eta^2/B)(1/n) Z^T diag(f) Z,
which the dynamics balance against the decay L = 1 - w, and the balance N_f / L gives residuals diag(Z (N_f / L) Z^T).
The edge is where this feedback has gain 1. The gain is the largest eigenvalue of a symmetric non-negative (n, n) matrix
that is never formed: an application costs two products of (n, p) with (p, p).

With momentum, eta^2 / L_ab becomes the parameter's entry of (1 - T_ab)^-1 (b x b), T_ab the step of a pair of
directions (`linear_optimiser`). Without the rank-one term of T_ab it is y = sum_j u_a(j) u_b(j), u(j) what a kick has
moved the parameter j steps later; the rank-one term makes it y / (1 + h_a h_b y / B).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import root_scalar
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ..checks import as_positive
from ..errors import InputError
from .linear_optimiser import Optimiser, optimiser_of
from .problem_arrays import sample_rows
from .spectrum import Spectrum, check_setting

HEAVY_ROWS = 1500  # rows that stand for all in the hybrid edge
LARGE = 5e8  # n p^2 above which an application runs in float32 (the edge is wanted to 0.1 %)


class Edge(NamedTuple):
    """Largest stable step size (1/feature^2), and each row's share in the feedback that sets it (they sum to 1)."""

    step_size: float
    shares: np.ndarray


def stability_edge(
    spectrum: Spectrum,
    *,
    batch: float,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    rows: int | None = None,
    start: Edge | None = None,
) -> Edge:
    """The edge for one batch size.

    Args:
      spectrum: the data, see `Spectrum.of`.
      batch: rows per step drawn with replacement, in [1, n].
      ridge: penalty ridge/2 |theta|^2.
      momentum, nesterov: as in PyTorch, see `least_squares_forecast.least_squares_sgd`.
      rows: None for the exact edge; else a weighted sample of that many rows stands for all (hybrid: the heaviest
        quarter for certain, the others in proportion to 1/2n + leverage/2).
      start: the edge for a neighbouring batch size, to start from.
    Returns: Edge, to 0.1 % (the sampling error of the hybrid comes on top).
    Raises: InputError if batch is outside [1, n], ridge < 0 or momentum is outside [0, 1).
    """
    check_setting(spectrum, batch=batch, ridge=ridge)
    feedback = Feedback(spectrum, batch, ridge, rows, optimiser_of(momentum, nesterov))
    # Where an eigenvalue of the noiseless step reaches -1.
    ceiling = 2 * (1 + momentum) / (1 + 2 * momentum * nesterov) / (spectrum.eigenvalues[0] + ridge)
    guess = start.step_size if start else min((1 - momentum) * batch / spectrum.leverage.max(), ceiling / 2)
    if start is not None and len(start.shares) == spectrum.n:
        feedback.vector = np.sqrt(start.shares[feedback.chosen]) + 1e-9
    step_size = _solve(
        lambda log: np.log(feedback.gain(np.exp(log))), np.log(min(guess, 0.95 * ceiling)), np.log(ceiling)
    )
    shares = np.zeros(spectrum.n)
    np.add.at(shares, feedback.chosen, feedback.vector**2 / np.sum(feedback.vector**2))
    return Edge(float(np.exp(step_size)), shares)


def growth_factor(
    spectrum: Spectrum,
    *,
    batch: float,
    step_size: float,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> float:
    """Factor by which the mean loss grows per step, in the long run, at a step size above the edge (below it: < 1).

    It is the sigma at which the feedback has gain 1 when the decay is measured against growth, L + sigma - 1. The mean
    is carried by rare runs: most single runs grow more slowly. With momentum, below the edge, the factor is at least
    that of the mean path squared, which is what is returned where the noise adds nothing to it.
    """
    check_setting(spectrum, batch=batch, ridge=ridge)
    as_positive(step_size, "step_size")
    feedback = Feedback(spectrum, batch, ridge, None, optimiser_of(momentum, nesterov))
    # sigma must exceed every multiplier of the covariance, where the gain is infinite; from there the gain falls.
    floor = 1 - feedback.slowest(step_size)
    log_gain = lambda x: np.log(feedback.gain(step_size, floor + np.exp(x)))
    low = high = np.log(max(abs(floor), 1e-3) * 1e-2)
    while log_gain(low) < 0:
        low -= 4
        if momentum and low < -30:
            return float(floor)
    while log_gain(high) > 0:
        high += 2
    found = root_scalar(log_gain, bracket=(low, high), xtol=1e-6)
    return float(floor + np.exp(found.root))


class Feedback:
    """The gain of noise on itself, as a function of the step size; keeps its eigenvector between calls."""

    def __init__(self, spectrum: Spectrum, batch: float, ridge: float, rows: int | None, optimiser: Optimiser):
        self.chosen, weights = sample_rows(spectrum.leverage, rows, seed=0)
        size = len(self.chosen) * len(spectrum.eigenvalues) ** 2
        dtype = jnp.float32 if size > LARGE else jnp.float64
        self.h, self.batch, self.ridge, self.optimiser = spectrum.eigenvalues, batch, ridge, optimiser
        with jax.enable_x64(True):
            self.rows = jnp.asarray(spectrum.rows[self.chosen], dtype)
            self.roots = jnp.asarray(np.sqrt(weights), dtype)
        self.vector = np.sqrt(weights) * spectrum.leverage[self.chosen]
        self.sampled = len(self.chosen) < spectrum.n

    def response(self, step_size: float, growth: float = 1.0) -> np.ndarray:
        """(p, p) covariance that noise of unit size in each step sustains, against a growth of all covariance."""
        if self.optimiser.size == 1:
            return step_size**2 / (self.decay(step_size) + growth - 1)
        loss, kicked = self._modes(step_size)
        # Summed over both eigenvalues of both directions; conjugate pairs make it real.
        sustained = sum(
            np.multiply.outer(kicked[s], kicked[t])
            / (np.add.outer(loss[s], loss[t]) - np.multiply.outer(loss[s], loss[t]) + growth - 1)
            for s in range(2)
            for t in range(2)
        ).real
        return sustained / (1 + np.multiply.outer(self.h, self.h) * sustained / self.batch)

    def decay(self, step_size: float) -> np.ndarray:
        h, damped = self.h, self.h + self.ridge
        outer = np.multiply.outer
        squared = step_size**2 * (outer(damped, damped) - outer(h, h) / self.batch)
        return step_size * np.add.outer(damped, damped) - squared

    def slowest(self, step_size: float) -> float:
        """1 - the largest multiplier of the covariance without feedback."""
        if self.optimiser.size == 1:
            return float(np.min(self.decay(step_size)))
        return 1 - float(np.max(np.abs(1 - self._modes(step_size)[0])) ** 2)

    def _modes(self, step_size: float) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            modes = self.optimiser.modes(jnp.asarray(step_size), jnp.asarray(self.h + self.ridge))
        return np.stack(modes.loss), np.stack(modes.kicked)

    def gain(self, step_size: float, growth: float = 1.0) -> float:
        """Largest eigenvalue of the feedback at this step size."""
        with jax.enable_x64(True):
            weights = jnp.asarray(self.response(step_size, growth) / self.batch, self.rows.dtype)

            def apply(f):
                return np.asarray(
                    _feed_back(self.rows, self.roots, weights, jnp.asarray(f.ravel(), self.rows.dtype)), float
                )

            n = len(self.roots)
            if self.sampled:
                apply = self._with_exact_mean(apply, np.asarray(jnp.diagonal(weights), float))
            if n < 12:
                matrix = np.stack([apply(e) for e in np.eye(n)])
                values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
            else:
                lanczos = {"k": 1, "which": "LA", "v0": self.vector, "tol": 1e-3, "ncv": 6, "maxiter": 40}
                try:
                    values, vectors = eigsh(_Operator(n, apply), **lanczos)
                except ArpackNoConvergence as error:
                    raise InputError("the stability edge did not converge", do="use method='hybrid'") from error
            self.vector = np.abs(vectors[:, -1])
            return max(float(values[-1]), 1e-300)

    def _with_exact_mean(self, apply, weights: np.ndarray):
        """A control variate: what a uniform f would cause is known exactly from the spectrum, only the rest is sampled.

        The correction is made symmetric, which changes the gain in second order only.
        """
        roots = np.asarray(self.roots, float)
        missing = roots * (np.asarray(self.rows, float) ** 2 @ (weights * self.h)) - apply(roots)
        return lambda f: apply(f) + (missing * (roots @ f.ravel()) + roots * (missing @ f.ravel())) / 2


class _Operator(LinearOperator):
    """A symmetric (n, n) matrix known by what it does to a vector."""

    def __init__(self, n: int, apply):
        super().__init__(np.float64, (n, n))
        self._apply = apply

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._apply(x)


@jax.jit
def _feed_back(rows, roots, weights, f):
    """One application, in the inner product that weights each row by how many it stands for."""
    noise = (rows.T * (roots * f)) @ rows
    return roots * jnp.sum((rows @ (noise * weights)) * rows, axis=1)


def _solve(function, x: float, ceiling: float, low: float = -np.inf, tol: float = 5e-4) -> float:
    """Root of an increasing function by bracketed secants; it may be infinite at `ceiling`, its upper bound."""
    high = ceiling
    value = function(x)
    slope = 1.0
    for _ in range(60):
        low, high = (max(low, x), high) if value < 0 else (low, min(high, x))
        new = x - value / max(slope, 0.5)
        if np.isfinite(high - low):
            if high - low < tol:
                return (low + high) / 2
            if not low < new < high:
                new = (low + high) / 2
        elif not low < new < high:
            new = (x + high) / 2 if np.isfinite(high) and new >= high else x + np.sign(new - x)
        if abs(new - x) < tol / 4:
            return new
        value_new = function(new)
        if new != x and value_new != value:
            slope = (value_new - value) / (new - x)
        x, value = new, value_new
    return x
