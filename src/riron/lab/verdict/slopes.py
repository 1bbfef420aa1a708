"""Log-log slopes of a mean with error bars from a jackknife over the seeds."""

import numpy as np

from ...checks import nearest
from ...errors import InputError
from .base import diverged
from .curves import Curve, plain, stack
from .statistics import Moments, moments

FEWEST_POINTS = 3


def profile(curves: list[Curve], along: str) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """What a rate is read from.

    Args:
      curves: one a size.
      along: "size", or the coordinate of the record (then at the largest size only, points with coordinate > 0).

    Returns: abscissae (M,), dots (M, S, K), and where each of the K slopes lies.
    """
    if along == "size":
        x, dots = stack(curves, FEWEST_POINTS)
        return x, dots, curves[-1].points
    curve = curves[-1]
    if not all(set(point) == {along} for point in curve.points):
        known = sorted({name for point in curve.points for name in point} | {"size"})
        raise InputError(
            f"the record of {curve.variable} is not labelled by '{along}' alone; there are {', '.join(known)}",
            do=nearest(along, known),
        )
    x = np.array([point[along] for point in curve.points], dtype=np.float64)
    kept = x > 0
    if np.unique(x[kept]).size < FEWEST_POINTS:
        raise InputError(
            f"a rate along {along} needs at least {FEWEST_POINTS} points with {along} > 0 and there are {kept.sum()}"
        )
    where = {} if curve.size is None or len(curves) == 1 else {"size": plain(curve.size)}
    return x[kept], curve.dots.T[kept][:, :, None], [where]


def log_log(x: np.ndarray, dots: np.ndarray) -> tuple[Moments, Moments, np.ndarray]:
    """Slope of log mean(dots) against log x, and its drift from the first to the last pair of neighbours.

    Each seed is left out in turn; the pseudo-values behave as independent samples of the slope, carry the
    correlation along x with them, and take away the bias of the logarithm of a mean to first order.

    Args:
      x: (M,) abscissae > 0.
      dots: (M, S, K) with positive means, also without any one seed.

    Returns: moments of the slope and of the drift (K each), and the local slopes (M - 1, K).
    """
    order = np.argsort(x)
    logs, dots = np.log(x[order]), dots[order]
    count = dots.shape[1]
    mean = dots.mean(axis=1)
    without = (count * mean[:, None] - dots) / (count - 1)
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
    steps = np.diff(logs)

    def pseudo(statistic) -> Moments:
        whole, parts = statistic(np.log(mean)), statistic(np.log(without))
        return moments(count * whole - (count - 1) * parts)

    slope = lambda y: np.tensordot(weights, y, axes=1)
    local = lambda y: np.diff(y, axis=0) / steps.reshape(-1, *(1,) * (y.ndim - 1))
    drift = lambda y: local(y)[-1] - local(y)[0]
    return pseudo(slope), pseudo(drift), local(np.log(mean))


def without_logarithm(curves: list[Curve], dots: np.ndarray) -> str | None:
    """Why no log-log slope can be read from the dots, or None."""
    lost = diverged(curves)
    if lost:
        return f"{len(lost)} of {dots.shape[1]} seeds diverged ({', '.join(map(str, lost[:8]))}): no slope can be read"
    total = dots.sum(axis=1)
    if ((total[:, None] - dots) <= 0).any():
        return f"the mean of {curves[0].variable} is not positive everywhere: it has no log-log slope"
    return None
