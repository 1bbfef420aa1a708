"""Exact moments of Langevin dynamics on a finite sum of quadratics, for every gradient estimator.

With f_i(x) = h_i x^2 / 2 - b_i x in each coordinate, x measured from the minimum, and a minibatch drawn anew at each
step, the estimate of the gradient is affine in x given the batch. Then E x and E x^2 obey linear recursions together
with what the estimator remembers: the snapshot x~ (SVRG) or the error e of the last estimate (SARAH).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_array, as_matrix, as_positive, as_vector, nearest
from ..errors import InputError

Sampling = Literal["without-replacement", "with-replacement"]


class SumMoments(NamedTuple):
    """What a sum of quadratics tells its Langevin dynamics, (d,) each; slopes are those at the minimum."""

    curvature: np.ndarray
    """H, mean of h_i."""
    curvature_variance: np.ndarray
    """v_h, over the n terms."""
    slope_variance: np.ndarray
    """v_b."""
    slope_curvature: np.ndarray
    """chi = -Cov(h_i, b_i)."""


def sum_moments(h: ArrayLike, b: ArrayLike) -> SumMoments:
    """Moments of f_i(x) = sum_j h_ij x_j^2 / 2 - b_ij x_j, in coordinates x - x*.

    Args:
      h: (n, d) curvatures, of positive mean in each coordinate.
      b: (n, d) slopes at 0; those at the minimum x* are b_i - h_i x*.
    Raises: InputError for shapes that differ, values that are not finite, a mean curvature that is not > 0.
    """
    h, b = as_matrix(h, "h"), as_matrix(b, "b")
    if h.shape != b.shape:
        raise InputError(f"h has shape {h.shape} and b has {b.shape}", do="give one slope each")
    mean = h.mean(axis=0)
    if mean.min() <= 0:
        raise InputError(f"the mean curvature of coordinate {mean.argmin()} is {mean.min():g}", do="pass a convex sum")
    slope = b - h * (b.mean(axis=0) / mean)
    cross = -((h - mean) * slope).mean(axis=0)
    return SumMoments(mean, h.var(axis=0), slope.var(axis=0), cross)


def batch_factor(n: float, batch: float, sampling: Sampling = "without-replacement") -> float:
    """c: the variance of a minibatch mean over the variance of one term; (n - B) / (B (n - 1)), or 1 / B."""
    if not 1 <= batch <= n:
        raise InputError(f"batch={batch} is outside 1 .. n = {n:g}", do="pass at most as many as there are terms")
    if sampling == "with-replacement":
        return 1 / batch
    if sampling != "without-replacement":
        known = ("without-replacement", "with-replacement")
        raise InputError(f"no sampling is called '{sampling}'", do=nearest(sampling, known) or f"known are {known}")
    return (n - batch) / (batch * (n - 1)) if n > 1 else 0.0


class Moments(NamedTuple):
    """E x, E x^2, and two more that the estimator's memory needs (or 0); arrays (..., d)."""

    mean: np.ndarray
    square: np.ndarray
    cross: np.ndarray | float = 0.0
    """SVRG: E x x~. SARAH: E x e."""
    own: np.ndarray | float = 0.0
    """SVRG: E x~^2. SARAH: E e^2."""
    moved: np.ndarray | float = 0.0
    """SARAH: E of the last step squared."""


class Setting(NamedTuple):
    """One Langevin dynamics on one sum: numbers, or arrays that broadcast against (..., d)."""

    eta: np.ndarray
    heat: np.ndarray
    """2 eta T, the variance of the injected noise of a step."""
    H: np.ndarray
    spread: np.ndarray
    """c v_h."""
    slopes: np.ndarray
    """c v_b."""
    cross: np.ndarray
    """c chi."""
    centre: np.ndarray
    """Of the control variate, from the minimum."""


Step = Callable[[Setting, Moments, float], Moments]


def gld_step(s: Setting, now: Moments, refresh: float) -> Moments:
    a = 1 - s.eta * s.H
    return Moments(a * now.mean, a**2 * now.square + s.heat)


def sgld_step(s: Setting, now: Moments, refresh: float) -> Moments:
    noise = s.spread * now.square + 2 * s.cross * now.mean + s.slopes
    mean, square, *_ = gld_step(s, now, refresh)
    return Moments(mean, square + s.eta**2 * noise)


def cv_step(s: Setting, now: Moments, refresh: float) -> Moments:
    noise = s.spread * (now.square - 2 * s.centre * now.mean + s.centre**2)
    mean, square, *_ = gld_step(s, now, refresh)
    return Moments(mean, square + s.eta**2 * noise)


def svrg_step(s: Setting, now: Moments, refresh: float) -> Moments:
    cross = refresh * now.square + (1 - refresh) * now.cross  # x~ = x where it is renewed
    own = refresh * now.square + (1 - refresh) * now.own
    noise = s.spread * (now.square - 2 * cross + own)
    mean, square, *_ = gld_step(s, now, refresh)
    return Moments(mean, square + s.eta**2 * noise, (1 - s.eta * s.H) * cross, own)


def sarah_step(s: Setting, now: Moments, refresh: float) -> Moments:
    cross = (1 - refresh) * now.cross  # e = 0 where it is refreshed, else it grows by the error of the last difference
    own = (1 - refresh) * (now.own + s.spread * now.moved)
    a = 1 - s.eta * s.H
    square = a**2 * now.square + s.eta**2 * own - 2 * s.eta * a * cross + s.heat
    moved = s.eta**2 * (s.H**2 * now.square + 2 * s.H * cross + own) + s.heat
    return Moments(a * now.mean, square, a * cross - s.eta * own, own, moved)


STEPS: dict[str, Step] = {
    "gld": gld_step,
    "sgld": sgld_step,
    "cv": cv_step,
    "svrg": svrg_step,
    "sarah": sarah_step,
}
EXACT_AT_REFRESH = ("svrg", "sarah")


def step_of(method: str) -> Step:
    """The recursion of a method, or one sentence that names the nearest."""
    if method not in STEPS:
        raise InputError(f"no method is called '{method}'", why=nearest(method, STEPS), do=f"known are {list(STEPS)}")
    return STEPS[method]


def refreshes(steps: int, period: float, loopless: bool = False) -> np.ndarray:
    """(steps,) probability that a step refreshes: 1 at multiples of the period, or 1 / period (the mean over coins)."""
    if not period >= 1:
        raise InputError(f"period={period} must be >= 1")
    t = np.arange(steps)
    return np.where(t == 0, 1.0, 1 / period) if loopless else 1.0 * (t % round(period) == 0)


def spent(method: str, refresh: np.ndarray, n: float, batch: float) -> np.ndarray:
    """Per-sample gradients of each step, given the probabilities of a refresh."""
    step_of(method)
    if method in EXACT_AT_REFRESH:
        return refresh * n + (1 - refresh) * 2 * batch
    if method == "cv":
        return 2 * batch + n * (np.arange(len(refresh)) == 0)
    return np.full(len(refresh), float(n if method == "gld" else batch))


def gaussian_kl(mean: ArrayLike, square: ArrayLike, precision: ArrayLike) -> np.ndarray:
    """KL(N(m, S - m^2) | N(0, 1 / precision)), summed over the last axis.

    For a law of mean m and second moment S this is a lower bound of its KL, and its KL where it is Gaussian (GLD):
    KL(rho | pi) = KL(rho | N(m, S - m^2)) + KL(N(m, S - m^2) | pi) for a Gaussian pi.

    Args:
      mean, square: (..., d) E x and E x^2, from the mean of the target.
      precision: (d,) of the target, H / T.
    """
    mean, precision = np.asarray(mean, float), np.asarray(precision, float)
    ratio = precision * (np.asarray(square, float) - mean**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.5 * (ratio - 1 - np.log(ratio) + precision * mean**2).sum(axis=-1)


def setting_of(
    moments: SumMoments, step_size: ArrayLike, temperature: float, factor: ArrayLike, centre: ArrayLike = 0.0
) -> Setting:
    """Checked numbers of one dynamics; `step_size` may carry axes in front of the coordinates."""
    eta = np.asarray(step_size, float)
    if not (np.isfinite(eta) & (eta > 0)).all():
        raise InputError(f"step_size={step_size} must be finite and > 0")
    H, v_h, v_b, chi = (np.asarray(part, float) for part in moments)
    heat = 2 * eta * as_positive(temperature, "temperature")
    c = np.asarray(factor, float)
    return Setting(eta, heat, H, c * v_h, c * v_b, c * chi, np.asarray(centre, float))


def quadratic_langevin(
    curvature: ArrayLike,
    curvature_variance: ArrayLike,
    slope_variance: ArrayLike,
    slope_curvature: ArrayLike,
    *,
    method: str,
    step_size: float,
    temperature: float,
    n: float,
    start: ArrayLike,
    record: xr.DataArray,
    batch: float = 1,
    period: float = 1,
    refresh: ArrayLike | None = None,
    loopless: bool = False,
    sampling: Sampling = "without-replacement",
    centre: ArrayLike = 0.0,
) -> xr.Dataset:
    """Exact moments of Langevin dynamics on a sum of n quadratics, started at a point.

    Args:
      curvature, curvature_variance, slope_variance, slope_curvature: (d,) each, as `sum_moments` gives them.
      method: gld, sgld, cv (control variate), svrg or sarah.
      step_size: eta > 0, or one for each step.
      temperature: T > 0; the target is exp(-F / T).
      n: number of terms.
      start: (d,) distance of the start from the minimum.
      record: steps, with the coordinates of the result.
      batch: terms a step.
      period: steps between refreshes (svrg, sarah).
      refresh: (steps,) whether each step refreshes, in place of a period: those of one coin (`Refresh.table`).
      loopless: refresh with probability 1 / period; the mean over all coins.
      sampling: of the minibatch.
      centre: (d,) of the control variate, from the minimum.
    Returns: displacement E (x - x*) and second_moment E (x - x*)^2 with dims (record, coordinate), gaussian_kl (the KL
      of the Gaussian with these moments) and gradient_evaluations with dim (record).
    Raises: InputError for values out of range.
    Source: derived here; checked against chains in studies/langevin_bias.py. For the methods: welling2011,
      kinoshita2022.
    """
    parts = (curvature, curvature_variance, slope_variance, slope_curvature)
    moments = SumMoments(*(as_vector(part, name) for part, name in zip(parts, SumMoments._fields, strict=True)))
    start = as_array(np.broadcast_to(start, moments.curvature.shape), "start", ndim=(1,))
    steps = np.asarray(record, int)
    length, advance = int(steps.max(initial=0)), step_of(method)
    eta = np.broadcast_to(np.asarray(step_size, float), (length,))
    factor = 0.0 if method == "gld" else batch_factor(n, batch, sampling)
    table = refreshes(length, period, loopless) if refresh is None else np.asarray(refresh, float)[:length]
    if len(table) < length:
        raise InputError(f"refresh has {len(table)} steps and the record ends at {length}", do="pass one for each step")
    now, found = Moments(start, start**2), []
    for t in range(length + 1):
        found.append((now.mean, now.square))
        if t < length:
            now = advance(setting_of(moments, eta[t], temperature, factor, centre), now, table[t])
    path = np.array(found)[steps]
    counts = np.concatenate([[0.0], np.cumsum(spent(method, table, n, batch))])[steps]
    axis = record.dims[0]
    kl = gaussian_kl(path[:, 0], path[:, 1], moments.curvature / temperature)
    return xr.Dataset(
        {
            "displacement": ((axis, "coordinate"), path[:, 0]),
            "second_moment": ((axis, "coordinate"), path[:, 1]),
            "gaussian_kl": (axis, kl),
            "gradient_evaluations": (axis, counts),
        },
        coords=record.coords,
    )
