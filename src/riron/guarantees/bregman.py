"""The bound on the gap, a Bregman divergence between two vectors of predictions, and its jackknife over groups."""

from typing import NamedTuple

import numpy as np

from ..problems.mean_field import MeanFieldProblem
from .gibbs import GibbsSample, Losses, losses_at


class Gap(NamedTuple):
    """The bound at the predictions of p_g."""

    plug: float
    """At the estimated predictions: biased upwards by their noise (Jensen)."""
    estimate: float
    """Bias-corrected."""
    stderr: float
    noise: float
    """What the Monte Carlo error of the predictions adds to `plug`, to second order."""


def bregman(problem: MeanFieldProblem, f: np.ndarray, z: np.ndarray, at: Losses) -> np.ndarray:
    """(1/n) sum_i [loss(f_i) - loss(z_i) - loss'(z_i) (f_i - z_i)] of f (..., n); `at` are the losses of z (n,)."""
    return np.mean(losses_at(problem, f).values - at.values - at.slopes * (f - z), axis=-1)


def jackknifed_gap(problem: MeanFieldProblem, z: np.ndarray, at: Losses, sample: GibbsSample) -> Gap:
    """The bound, leaving out one group at a time; a group weighs exp(log Z of the group)."""
    v, m = sample.cloud.weights, sample.means
    G, f = len(v), v @ m
    without = (f - v[:, None] * m) / (1 - v[:, None])
    plug, *others = bregman(problem, np.vstack([f, without]), z, at)
    pseudo = G * plug - (G - 1) * np.array(others)
    variance = G / (G - 1) * (v**2) @ (m - f) ** 2
    stderr = float(pseudo.std(ddof=1) / G**0.5)
    return Gap(float(plug), float(pseudo.mean()), stderr, float(np.mean(at.curvatures * variance) / 2))


def relative_objective(problem: MeanFieldProblem, at: Losses, sample: GibbsSample) -> float:
    """L_rel(p_g) = mean loss(f) + lam2 KL(p_g | N(0, s0^2 I)), for KL = -E V_g / lam2 - log Z."""
    f = sample.predictions
    entropy = -np.mean(at.slopes * f) - float(problem.lam2) * sample.log_z
    return float(np.mean(losses_at(problem, f).values) + entropy)


def dual_value(problem: MeanFieldProblem, z: np.ndarray, at: Losses, sample: GibbsSample) -> tuple[float, float]:
    """The dual value mean(loss(z) - g z) - lam2 log Z, a lower limit of min L_rel, and its standard error."""
    lam2 = float(problem.lam2)
    return float(np.mean(at.values - at.slopes * z) - lam2 * sample.log_z), lam2 * sample.log_z_stderr
