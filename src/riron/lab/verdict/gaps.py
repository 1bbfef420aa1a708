"""Gaps between dots and line, at each size or extrapolated to infinite size, with everything that judges them."""

from dataclasses import dataclass

import numpy as np

from .curves import Curve, stack
from .statistics import critical, hall, heavy, intercept_weights, moments, satterthwaite

FEWEST_SIZES = 3
TRUSTED = 0.3  # an intercept known to better than this share of the largest size's gap hangs on the assumed rate


@dataclass(frozen=True)
class Gaps:
    """Gaps at the K points of a curve, one row for each admitted rate (R rows; one where the line is exact)."""

    curve: Curve  # at the largest size, where there are several
    finite: np.ndarray  # (K,) whether no seed diverged at any size that is used
    raw: np.ndarray  # (K,) gap on this curve, not extrapolated
    gap: np.ndarray  # (R, K)
    dots_variance: np.ndarray  # (R, K) of the mean over seeds
    line_variance: np.ndarray  # (R, K)
    line_freedom: np.ndarray  # (R, K)
    skewness: np.ndarray  # (R, K)
    allowed: np.ndarray  # (R, K) tolerance and rounding, absolute

    @property
    def seeds(self) -> int:
        return len(self.curve.seeds)

    @property
    def error(self) -> np.ndarray:
        """(R, K) standard errors."""
        return np.sqrt(self.dots_variance + self.line_variance)

    @property
    def noisy(self) -> np.ndarray:
        """(K,) where dots or line have any noise."""
        return np.asarray((self.error > 0).any(axis=0))

    @property
    def scale(self) -> np.ndarray:
        """(K,) what a deviation is relative to: |line|, or its largest value where the line is 0 (1 if it is 0)."""
        size = np.abs(self.curve.line)
        largest = size.max(initial=0.0) or 1.0
        return np.where(size > 1e-12 * largest, size, largest)

    def critical(self, level: float, times: float = 1.0) -> np.ndarray:
        """(R, K) critical values with `times` the seeds."""
        variances = np.stack([self.dots_variance / times, self.line_variance])
        freedoms = np.stack([np.full_like(self.gap, self.seeds * times - 1), self.line_freedom])
        return critical(level, satterthwaite(variances, freedoms))

    def unseen(self, level: float, times: float = 1.0, *, line: bool = True) -> np.ndarray:
        """(K,) relative deviation that goes unseen with `times` the seeds; `line=False` supposes an exact line.

        Half the width of the union over rates of the intervals of the gap: what lies inside under one admitted rate
        cannot be refuted. Where nothing is noisy: what is allowed.
        """
        variance = self.dots_variance / times + (self.line_variance if line else 0.0)
        width = self.critical(level, times) * np.sqrt(variance)
        half = ((self.gap + width).max(axis=0) - (self.gap - width).min(axis=0)) / 2
        return np.where(self.noisy, half, np.maximum(half, self.allowed.max(axis=0))) / self.scale

    def table(self, level: float) -> dict[str, np.ndarray]:
        """Columns of K entries; `agrees` is None where no mean can be trusted (diverged, heavy tails)."""
        threshold, error, noisy = self.critical(level), self.error, self.error > 0
        beyond = np.sign(self.gap) * np.maximum(0.0, np.abs(self.gap) - self.allowed)
        t = np.where(beyond != 0, hall(beyond, np.where(noisy, error, 1.0), self.skewness, self.seeds), 0.0)
        # without noise there is no t: a deviation beyond what is allowed is certain
        t = np.where(noisy, t, np.where(beyond != 0, np.copysign(np.inf, beyond), 0.0))
        t = np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf)
        best = np.abs(t).argmin(axis=0)[None]  # the admitted rate that fits best speaks for the point
        t, threshold = (np.take_along_axis(values, best, axis=0)[0] for values in (t, threshold))
        skewness = np.take_along_axis(self.skewness, np.abs(self.skewness).argmax(axis=0)[None], axis=0)[0]
        skewness = np.where(self.finite, skewness, 0.0)
        usable = self.finite & ~heavy(skewness, self.seeds)
        agrees = (np.abs(t) <= threshold).astype(object)
        agrees[~usable] = None
        mean, variance, _ = moments(self.curve.dots)
        return {
            "line": self.curve.line,
            "line_stderr": self.curve.stderr,
            "dots": mean,
            "dots_stderr": np.sqrt(variance),
            "t": np.where(self.finite, t, np.nan),
            "critical": threshold,
            "skewness": skewness,
            "would_notice": np.where(self.finite, self.unseen(level), np.nan),
            "agrees": agrees,
        }


def diluted(skewness: np.ndarray, variance: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Skewness of the dots in a gap whose variance is partly the line's, whose error is symmetric."""
    share = np.divide(variance, total, where=variance > 0, out=np.zeros_like(variance))
    return skewness * share**1.5


def at_one_size(curve: Curve, tolerated: np.ndarray, rounding: np.ndarray) -> Gaps:
    """Gaps to a line that is exact at this size."""
    mean, variance, skewness = moments(curve.dots)
    line_variance = curve.stderr**2
    return Gaps(
        curve=curve,
        finite=curve.finite,
        raw=mean - curve.line,
        gap=(mean - curve.line)[None],
        dots_variance=variance[None],
        line_variance=line_variance[None],
        line_freedom=curve.freedom[None],
        skewness=diluted(skewness, variance, variance + line_variance)[None],
        allowed=(tolerated + rounding)[None],
    )


def in_the_limit(
    curves: list[Curve], rates: tuple[float, ...], tolerated: np.ndarray, rounding: list[np.ndarray]
) -> Gaps:
    """Intercepts a of gap = a + b (size / largest)^-rate for each admitted rate."""
    sizes, dots = stack(curves, FEWEST_SIZES)
    line, stderr, freedom = (np.stack([getattr(c, part) for c in curves]) for part in ("line", "stderr", "freedom"))
    gaps = dots.mean(axis=1) - line
    errors = np.sqrt(np.stack([moments(samples).variance for samples in dots]) + stderr**2)
    errors = np.where(np.isfinite(errors), errors, 0.0)
    rows = []
    for rate in rates:
        weights = intercept_weights(sizes, errors, rate)
        # seed by seed, so that noise shared between the sizes is accounted for
        _, variance, skewness = moments(np.einsum("jk,jsk->sk", weights, dots))
        parts = weights**2 * stderr**2
        total = variance + parts.sum(axis=0)
        allowed = tolerated + (np.abs(weights) * np.stack(rounding)).sum(axis=0)
        # without noise nothing but the shape of the finite-size term limits the extrapolation
        allowed = np.where(total > 0, allowed, np.maximum(allowed, TRUSTED * np.abs(gaps[-1])))
        rows.append(
            {
                "gap": (weights * gaps).sum(axis=0),
                "dots_variance": variance,
                "line_variance": parts.sum(axis=0),
                "line_freedom": satterthwaite(parts, freedom),
                "skewness": diluted(skewness, variance, total),
                "allowed": allowed,
            }
        )
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    finite = np.logical_and.reduce([curve.finite for curve in curves])
    return Gaps(curve=curves[-1], finite=finite, raw=gaps[-1], **stacked)
