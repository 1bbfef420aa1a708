"""Where Langevin dynamics on a sum of quadratics ends up, and up to which step size it does (mean-square stability)."""

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_positive
from ..errors import InputError
from .langevin_laws import (
    Moments,
    Sampling,
    Setting,
    SumMoments,
    batch_factor,
    refreshes,
    setting_of,
    step_of,
)


def stationary_second_moment(
    moments: SumMoments,
    *,
    method: str,
    step_size: float,
    temperature: float,
    n: float,
    batch: float = 1,
    period: float = 1,
    loopless: bool = False,
    sampling: Sampling = "without-replacement",
    centre: ArrayLike = 0.0,
) -> np.ndarray:
    """E (x - x*)^2 in the long run; for svrg and sarah with a period, before a step that refreshes.

    In closed form 1 / (gamma H (1 - eta H / 2)) for gld, gamma = 1 / T, and
    (q + eta^2 c v_b) / (1 - a^2 - eta^2 c v_h) for sgld, a = 1 - eta H, q = 2 eta T.

    Args: as in `quadratic_langevin`.
    Returns: (d,).
    Raises: InputError at or above the stability edge, naming the largest stable step size.
    """
    edge = largest_stable_step(moments, method=method, n=n, batch=batch, period=period, loopless=loopless,
                               sampling=sampling)  # fmt: skip
    if not as_positive(step_size, "step_size") < edge:
        raise InputError(
            f"step_size={step_size:g} is not stable in mean square for {method}", do=f"use one below {edge:.4g}"
        )
    factor = 0.0 if method == "gld" else batch_factor(n, batch, sampling)
    setting = setting_of(moments, step_size, temperature, factor, centre)
    matrix, offset = _affine(setting, method, _cycle(method, period, loopless))
    fixed = np.linalg.solve(np.eye(matrix.shape[-1]) - matrix, offset[..., None])[..., 0]
    return fixed[:, 0]


def largest_stable_step(
    moments: SumMoments,
    *,
    method: str,
    n: float,
    batch: float = 1,
    period: float = 1,
    loopless: bool = False,
    sampling: Sampling = "without-replacement",
) -> float:
    """The step size below which E x^2 stays bounded; the temperature has no part in it.

    2 / H for gld, 2 H / (H^2 + c v_h) for sgld and the control variate, the least over the coordinates; for svrg and
    sarah the first step at which the map of a period has an eigenvalue of modulus 1, found by bisection.

    Args: as in `quadratic_langevin`.
    """
    step_of(method)
    factor = 0.0 if method == "gld" else batch_factor(n, batch, sampling)
    H, v_h = (np.asarray(part, float) for part in moments[:2])
    if method in ("gld", "sgld", "cv"):
        return float((2 * H / (H**2 + factor * v_h)).min())
    cycle = _cycle(method, period, loopless)

    def grows(eta: float) -> bool:
        matrix, _ = _affine(setting_of(moments, eta, 1.0, factor), method, cycle)
        return bool((np.abs(np.linalg.eigvals(matrix)) >= 1).any())

    # The first crossing from below: a period may be unstable at a step and stable again at a longer one.
    grid = np.geomspace(1e-3, 1, 61) * float((2 / H).min())
    unstable = [k for k, eta in enumerate(grid) if grows(float(eta))]
    low, high = (grid[max(unstable[0] - 1, 0)], grid[unstable[0]]) if unstable else (grid[-1], grid[-1])
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if grows(float(middle)) else (middle, high)
    return float(low)


def _cycle(method: str, period: float, loopless: bool) -> np.ndarray:
    """The refreshes after which everything repeats."""
    if method not in ("svrg", "sarah"):
        return np.zeros(1)
    return np.array([1 / period]) if loopless else refreshes(round(period), period)


def _affine(setting: Setting, method: str, cycle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (d, k, k) and offset (d, k) of the map of (E x^2, cross, own, moved) over a cycle, at E x = 0."""
    advance, d = step_of(method), len(setting.H)
    unit = np.vstack([np.zeros(4), np.eye(4)])  # the offset from 0, the columns from the unit vectors
    now = Moments(np.zeros((5, d)), *(np.tile(unit[:, [k]], (1, d)) for k in range(4)))
    for refresh in cycle:
        now = advance(setting, now, refresh)
    images = np.stack([np.broadcast_to(part, (5, d)) for part in now[1:]], axis=-1)  # (5, d, 4)
    offset = images[0]
    return np.moveaxis(images[1:] - offset, 0, -1), offset
