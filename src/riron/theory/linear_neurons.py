"""The exact laboratory of mean-field Langevin dynamics: linear neurons h_w(x) = w . x and the squared loss.

All laws are Gaussian, so that the errors of a finite step size, of minibatches and of finitely many neurons have closed
recursions: nothing is asymptotic.
"""

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_matrix, as_positive, as_vector
from ..errors import InputError

Sampling = Literal["with-replacement", "without-replacement"]


class LinearNeurons:
    """Mean-field Langevin dynamics of N linear neurons on rows X, y, from independent neurons N(0, s0^2 I).

    Args:
      X: (n, d) features.
      y: (n,) targets.
      lam1: strength of the regulariser lam1 E|w|^2.
      lam2: temperature.
      step_size: eta.
      width: N (any real number >= 1).
      batch: samples a step, the same for all neurons; None for all n.
      sampling: of the minibatch.
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        lam1: float,
        lam2: float,
        step_size: float,
        width: float,
        batch: float | None = None,
        sampling: Sampling = "with-replacement",
    ):
        self.X, self.y = as_matrix(X, "X"), as_vector(y, "y")
        n, d = self.X.shape
        self.lam1, self.lam2 = as_positive(lam1, "lam1"), as_positive(lam2, "lam2")
        self.eta, self.width = as_positive(step_size, "step_size"), as_positive(width, "width")
        self.S = self.X.T @ self.X / n
        self.A = self.S + 2 * self.lam1 * np.eye(d)
        self.optimum = np.linalg.solve(self.A, self.X.T @ self.y / n)
        self.residual = self.X @ self.optimum - self.y
        edge = 2 / np.linalg.eigvalsh(self.A).max()
        if self.eta >= edge:
            raise InputError(f"step_size={self.eta:g} diverges", do=f"use one below {edge:.4g}")
        if batch is None:
            self.noise = 0.0
        elif sampling == "with-replacement":
            self.noise = 1 / batch
        else:
            self.noise = (n - batch) / (batch * (n - 1))

    def second_moment(self, mean: np.ndarray, C: np.ndarray) -> np.ndarray:
        """c_B times the covariance of one sample's gradient, for the mean neuron at w* + N(mean, C)."""
        if self.noise == 0:
            return np.zeros_like(C)
        n = len(self.y)
        M = C + np.outer(mean, mean)
        here = self.X @ mean
        squares = np.einsum("ij,jk,ik->i", self.X, M, self.X) + 2 * here * self.residual + self.residual**2
        pull = self.X.T @ self.residual / n
        drift = self.S @ mean
        full = self.S @ M @ self.S + np.outer(drift, pull) + np.outer(pull, drift) + np.outer(pull, pull)
        return self.noise * ((self.X * squares[:, None]).T @ self.X / n - full)

    def step(self, mean: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of (mean neuron - w*) one step later."""
        M = np.eye(len(mean)) - self.eta * self.A
        spread = 2 * self.eta * self.lam2 / self.width * np.eye(len(mean))
        return M @ mean, M @ C @ M + spread + self.eta**2 * self.second_moment(mean, C)

    def excess(self, mean: np.ndarray, C: np.ndarray) -> float:
        """Q = E (1/2n) sum_i (f_N - f_*)_i^2."""
        return float(np.sum(self.S * (C + np.outer(mean, mean)))) / 2

    def stationary(self) -> np.ndarray:
        """The stationary covariance of the mean neuron: the fixed point of the recursion, which is linear in it."""
        d, zero = len(self.A), np.zeros(len(self.A))
        constant = self.step(zero, np.zeros((d, d)))[1]
        columns = [(self.step(zero, E.reshape(d, d))[1] - constant).ravel() for E in np.eye(d * d)]
        operator = np.stack(columns, axis=1)
        if np.abs(np.linalg.eigvals(operator)).max() >= 1:
            raise InputError("the recursion has no stationary state", do="lower step_size or raise batch")
        return np.linalg.solve(np.eye(d * d) - operator, constant.ravel()).reshape(d, d)

    @property
    def neuron_variance(self) -> float:
        """v: N/(N-1) times the stationary variance of a neuron's entries around the mean neuron."""
        return 2 * self.eta * self.lam2 / (1 - (1 - 2 * self.eta * self.lam1) ** 2)

    def objective_gap(self) -> float:
        """L^N - L* in the stationary state, the joint entropy divided by N included."""
        C, N, d, v = self.stationary(), self.width, len(self.A), self.neuron_variance
        s0 = self.lam2 / (2 * self.lam1)
        around = lambda variance: d / 2 * np.log(2 * np.pi * np.e * variance)
        joint = (np.linalg.slogdet(2 * np.pi * np.e * N * C)[1] / 2 + (N - 1) * around(v)) / N
        ridge = self.lam1 * (np.trace(C) + (1 - 1 / N) * v * d - s0 * d)
        return float(np.sum(self.S * C) / 2 + ridge + self.lam2 * (around(s0) - joint))


def objective_gap_of_small_steps(X: ArrayLike, *, lam1: float, lam2: float, width: float) -> float:
    """L^N - L* of N linear neurons for eta -> 0 and full gradients: (lam2 / 2N) log det(I + S / (2 lam1)), exactly."""
    X = as_matrix(X, "X")
    tilt = np.eye(X.shape[1]) + X.T @ X / len(X) / (2 * as_positive(lam1, "lam1"))
    return as_positive(lam2, "lam2") / (2 * as_positive(width, "width")) * float(np.linalg.slogdet(tilt)[1])


def linear_neurons(
    X: ArrayLike,
    y: ArrayLike,
    *,
    lam1: float,
    lam2: float,
    step_size: float,
    width: float,
    record: xr.DataArray,
    batch: float | None = None,
    sampling: Sampling = "with-replacement",
) -> xr.Dataset:
    """Expected losses of N linear neurons under mean-field Langevin dynamics, exact at every step, width and batch.

    Args:
      X, y, lam1, lam2, step_size, width, batch, sampling: as in `LinearNeurons`.
      record: labelled steps.

    Returns:
      Dataset on the record's axis: train_loss = E mean (f_N - y)^2 / 2 and excess_risk = E (1/2n) sum (f_N - f_*)^2.

    Raises:
      InputError: a step size that diverges, values that are not finite.

    Source: derived; the setting is Suzuki, Nitanda & Wu, NeurIPS 2023.
    """
    lab = LinearNeurons(X, y, lam1=lam1, lam2=lam2, step_size=step_size, width=width, batch=batch, sampling=sampling)
    steps = np.asarray(record.values, int)
    mean, C = -lab.optimum, np.eye(len(lab.A)) * lam2 / (2 * lam1 * width)
    rest = float(np.mean(lab.residual**2)) / 2
    slope = lab.S @ lab.optimum - lab.X.T @ lab.y / len(lab.y)
    found = {"train_loss": np.empty(len(steps)), "excess_risk": np.empty(len(steps))}
    for t in range(int(steps.max()) + 1):
        for slot in np.flatnonzero(steps == t):
            excess = lab.excess(mean, C)
            found["excess_risk"][slot] = excess
            found["train_loss"][slot] = rest + excess + float(slope @ mean)
        mean, C = lab.step(mean, C)
    return xr.Dataset({name: (record.dims, values) for name, values in found.items()}, record.coords)
