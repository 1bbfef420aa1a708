"""Gradients that Langevin dynamics needs until its law is within eps of the target, on a sum of quadratics."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_positive
from .langevin_laws import (
    EXACT_AT_REFRESH,
    Moments,
    Sampling,
    SumMoments,
    batch_factor,
    gaussian_kl,
    refreshes,
    setting_of,
    spent,
    step_of,
)


class Cost(NamedTuple):
    """The least number of gradients over step sizes (and batches), and where it is had."""

    gradients: float
    """Amortised, for a method that refreshes: looked at before each refresh, linear between."""
    step_size: float
    batch: int
    steps: float


def first_below(values: np.ndarray, eps: float) -> np.ndarray:
    """Where curves (T, ...) first fall to `eps` or below, linear in log values between steps; inf where they do not."""
    hit = values <= eps
    first = hit.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    after = np.take_along_axis(values, first[None], axis=0)[0]
    ahead = np.take_along_axis(values, before[None], axis=0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(ahead / eps) / np.log(ahead / after)
    where = np.where(first == 0, 0.0, before + share)
    return np.where(hit.any(axis=0), where, np.inf)


def steps_to_reach(
    moments: SumMoments,
    *,
    method: str,
    step_size: ArrayLike,
    temperature: float,
    n: float,
    eps: float,
    start: ArrayLike,
    batch: ArrayLike = 1,
    period: float = 1,
    sampling: Sampling = "without-replacement",
    longest: int = 4000,
    look: int = 1,
) -> np.ndarray:
    """Steps until `gaussian_kl` is at most eps, for each of some step sizes; inf beyond `longest` steps.

    Args:
      moments: of the sum, by `sum_moments`.
      step_size: a number or (k,).
      eps: > 0, in units of KL.
      batch: a number, or one for each step size.
      look: steps between looks at the KL; the period, to look before each refresh only.
      others: as in `quadratic_langevin`.
    Returns: real numbers of steps, linear in log KL between them; the shape of `step_size`.
    """
    as_positive(eps, "eps")
    eta = np.atleast_1d(np.asarray(step_size, float))
    factors = [0.0 if method == "gld" else batch_factor(n, B, sampling) for B in np.broadcast_to(batch, eta.shape)]
    refresh, advance = refreshes(longest, period), step_of(method)
    precision = moments.curvature / temperature
    begin = np.broadcast_to(np.asarray(start, float), (len(eta), len(moments.curvature)))
    setting = setting_of(moments, eta[:, None], temperature, np.array(factors)[:, None])
    now = Moments(begin, begin**2)
    values = [gaussian_kl(now.mean, now.square, precision)]
    reached = values[0] <= eps
    with np.errstate(over="ignore", invalid="ignore"):  # a step size may be unstable
        for t in range(longest):
            now = advance(setting, now, refresh[t])
            if (t + 1) % look:
                continue
            values.append(gaussian_kl(now.mean, now.square, precision))
            reached |= values[-1] <= eps
            if reached.all():
                break
    return look * first_below(np.array(values), eps).reshape(np.shape(step_size))


def gradients_to_reach(
    moments: SumMoments, *, method: str, n: float, batch: float = 1, period: float = 1, **setting
) -> np.ndarray:
    """Per-sample gradients until `gaussian_kl` is at most eps; arguments as in `steps_to_reach`."""
    steps = steps_to_reach(moments, method=method, n=n, batch=batch, period=period, **setting)
    return gradients_of(steps, method=method, n=n, batch=batch, period=period)


def gradients_of(steps: ArrayLike, *, method: str, n: float, batch: float, period: float) -> np.ndarray:
    """Per-sample gradients of a real number of steps, linear within a step; inf for inf."""
    steps = np.asarray(steps, float)
    finite = np.where(np.isfinite(steps), steps, 0.0)
    length = int(np.ceil(finite.max(initial=0.0))) + 1
    total = np.concatenate([[0.0], np.cumsum(spent(method, refreshes(length, period), n, batch))])
    return np.where(np.isfinite(steps), np.interp(finite, np.arange(length + 1), total), np.inf)


def least_cost(
    moments: SumMoments,
    *,
    method: str,
    n: int,
    batches: ArrayLike = 1,
    grid: int = 40,
    slack: float = 0.0,
    **setting,
) -> Cost:
    """The least number of gradients over `grid` step sizes and some batches (svrg and sarah: the period is the batch).

    Args:
      batches: to try; ignored by gld.
      grid: number of step sizes, in geometric steps from 1/300 of 1 / max H.
      slack: take the largest batch that needs at most 1 + slack times the least; it needs the fewest steps.
      setting: temperature, eps, start, sampling, longest, as in `steps_to_reach`.
    Returns: the best, with infinite gradients if none reaches eps.
    """
    etas = np.geomspace(1 / 300, 1, grid) / float(np.max(moments.curvature))
    found: list[Cost] = []
    sizes = np.array([1]) if method == "gld" else np.unique(np.asarray(batches, int))
    refreshed = method in EXACT_AT_REFRESH
    # One pass for all batches where they differ in the variance of the noise only.
    passes = [np.array([B]) for B in sizes] if refreshed else [sizes]
    for group in passes:
        shape = {"method": method, "n": n, "period": int(group[0]), "look": int(group[0]) if refreshed else 1}
        tried = np.tile(etas, len(group))
        steps = steps_to_reach(moments, step_size=tried, batch=np.repeat(group, grid), **shape, **setting)
        for B, row in zip(group, steps.reshape(len(group), grid), strict=True):
            cycle = spent(method, refreshes(int(B), B), n, int(B)) if refreshed else [float(B)]
            a_step = float(n) if method == "gld" else float(np.mean(cycle))
            k = int(np.argmin(row))
            found.append(Cost(a_step * float(row[k]), float(etas[k]), int(B), float(row[k])))
    least = min(cost.gradients for cost in found)
    return max((cost for cost in found if cost.gradients <= (1 + slack) * least), key=lambda cost: cost.batch)
