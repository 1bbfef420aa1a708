"""Proved bounds for mean-field Langevin dynamics: the log-Sobolev constant of Holley and Stroock, and what follows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_positive, as_vector
from ..errors import InputError


class LogSobolev(NamedTuple):
    """A lower bound of the log-Sobolev constant alpha of every Gibbs measure met on the way."""

    log_alpha: float
    """log of (2 lam1 / lam2) exp(-exponent): alpha itself may be below every float."""
    exponent: float
    """osc(V) / lam2 that was used."""
    a_priori_exponent: float
    """4 sup|h| sup|loss'| / lam2: correct before anything is computed, and useless."""

    @property
    def alpha(self) -> float:
        return float(np.exp(self.log_alpha))


def holley_stroock(
    slopes: ArrayLike, *, bound: float | None, lam1: float, lam2: float, oscillation: float | None = None
) -> LogSobolev:
    """alpha >= (2 lam1 / lam2) exp(-osc(V_g) / lam2), V_g(w) = (1/n) sum_i g_i h_w(x_i).

    Args:
      slopes: (n,) g = loss'(f), at the predictions where the bound is wanted (the largest met on the way).
      bound: R = sup |h|.
      lam1, lam2: of the objective.
      oscillation: max V - min V if it is known (in one or two dimensions a grid gives it); 2 R mean|g| unless given.

    Raises:
      InputError: an unbounded neuron; its potential has no oscillation to perturb the Gaussian by.

    Source: Holley & Stroock, J. Stat. Phys. 1987; Nitanda, Wu & Suzuki, AISTATS 2022.
    """
    g = np.abs(as_vector(slopes, "slopes"))
    if bound is None:
        raise InputError(
            "the neuron is unbounded",
            why="the Holley-Stroock constant needs osc(V) <= 2 sup|h| mean|loss'|",
            do="use a bounded neuron (tanh, sigmoid, relu-clipped), or output_weight='bounded'",
        )
    lam1, lam2 = as_positive(lam1, "lam1"), as_positive(lam2, "lam2")
    exponent = (2 * bound * float(g.mean()) if oscillation is None else oscillation) / lam2
    return LogSobolev(float(np.log(2 * lam1 / lam2) - exponent), exponent, 4 * bound * float(g.max()) / lam2)


class LangevinPlan(NamedTuple):
    """What the bound asks for."""

    log_steps: float
    """log of the number of steps."""
    log_width: float
    """log of the number of neurons."""
    log_step_size: float
    batch: int | None


def mfld_bound(
    log_alpha: float,
    *,
    lam2: float,
    step_size: float,
    steps: float,
    width: float,
    n: int,
    batch: int | None = None,
    start_gap: float = 1.0,
    constant: float = 1.0,
) -> float:
    """The bound of L^N(mu_k) - L(mu*) after k steps, up to its unstated constant.

    exp(-lam2 alpha eta k) start_gap
      + (constant / (lam2 alpha)) (eta^2 + lam2 eta + 1/N + (n - B) sqrt(eta lam2) / (B (n - 1))).

    Args:
      log_alpha: of `holley_stroock`.
      lam2: temperature.
      step_size: eta.
      steps: k.
      width: N.
      n: number of samples.
      batch: B, or None for full gradients.
      start_gap: L^N(mu_0) - L(mu*).
      constant: C, which the theorem does not state; it hangs on the smoothness of neurons and loss.

    Source: Suzuki, Nitanda & Wu, NeurIPS 2023.
    """
    eta = as_positive(step_size, "step_size")
    noise = 0.0 if batch is None else (n - batch) * (eta * lam2) ** 0.5 / (batch * (n - 1))
    with np.errstate(over="ignore"):
        left = float(np.exp(-np.exp(np.log(lam2) + log_alpha + np.log(eta) + np.log(steps)))) * start_gap
        error = eta**2 + lam2 * eta + 1 / width + noise
        return left + constant * error * float(np.exp(-np.log(lam2) - log_alpha))


def mfld_plan(
    log_alpha: float, target: float, *, lam2: float, start_gap: float = 1.0, constant: float = 1.0
) -> LangevinPlan:
    """Step size, width and steps that bring each of the bound's parts (full gradients) to a quarter of the target.

    Args:
      log_alpha: of `holley_stroock`.
      target: of L^N(mu_k) - L(mu*), > 0.
      lam2: temperature.
      start_gap: L^N(mu_0) - L(mu*).
      constant: C of `mfld_bound`.

    Returns:
      A LangevinPlan in logarithms: the numbers are beyond floats on most problems, which is the bound's fault.

    Source: Suzuki, Nitanda & Wu, NeurIPS 2023.
    """
    target = as_positive(target, "target")
    log_share = np.log(target / (4 * constant)) + np.log(lam2) + log_alpha
    log_step = min(log_share / 2, log_share - np.log(lam2))
    decay = max(np.log(max(4 * start_gap / target, 1.0)), 1e-12)
    log_steps = np.log(decay) - np.log(lam2) - log_alpha - log_step
    return LangevinPlan(float(log_steps), float(-log_share), float(log_step), None)
