"""Vanishes: a distance (>= 0) tends to zero along the size or the record."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...errors import InputError
from .base import Claim, Finding, diverged, heavy_tails
from .curves import Curve, place_text, plain, read
from .equal import smallest
from .slopes import log_log, profile, without_logarithm
from .statistics import critical, hall, heavy, intercept_weights, moments


@dataclass(frozen=True)
class Vanishes(Claim):
    """A distance decays, and what is left of it in the limit is zero.

    `holds` if the log-log slope is negative beyond doubt, some admitted rate leaves an intercept that contains zero,
    and no rate admits an intercept above `resolution` times the first value; `fails` if the slope is positive beyond
    doubt or every rate leaves an intercept above zero. A negative intercept only says that the decay is faster.

    Args:
      variable: a distance, in the dots.
      along: "size", or the coordinate of the record.
      rates: admitted exponents of the decay.
      resolution: the share of the first value that would have been noticed if it remained for ever.
    """

    along: str = "size"
    rates: tuple[float, ...] = (0.5, 1.0)
    resolution: float = 0.25
    needs_line: ClassVar[bool] = False

    def __post_init__(self):
        if not self.rates or not all(rate > 0 for rate in self.rates):
            raise InputError(f"Vanishes('{self.variable}') has the rates {self.rates}", do="give rates > 0")

    def read(self, dots: dict, line: dict) -> list[Curve]:
        curves = [read(self.variable, size, dots[size]) for size in dots]
        profile(curves, self.along)
        return curves

    def tests(self, curves: list[Curve]) -> int:
        return 2 * len(profile(curves, self.along)[2])

    def compare(self, curves: list[Curve], level: float) -> dict:
        x, dots, points = profile(curves, self.along)
        shared: dict[str, Any] = {
            "variable": self.variable,
            "kind": "Vanishes",
            "along": self.along,
            "diverged": len(diverged(curves)),
            "diverged_seeds": diverged(curves),
            "tests": 2 * len(points),
        }
        trouble = without_logarithm(curves, dots)
        if trouble:
            return {**shared, **Finding("inconclusive", trouble).entries(), "worst": None, "points": []}
        seeds = dots.shape[1]
        c = float(critical(level, seeds - 1))
        slope, _, local = log_log(x, dots)
        errors = np.sqrt(np.stack([moments(samples).variance for samples in dots]))
        left = [moments(np.einsum("jk,jsk->sk", intercept_weights(x, errors, r), dots)) for r in self.rates]
        first = dots[int(x.argmin())].mean(axis=0)
        found = [self._decide(k, points[k], slope, left, first[k], c, seeds) for k in range(len(points))]
        ranks = [{"fails": 2, "inconclusive": 1, "holds": 0}[finding.verdict] for finding in found]
        worst = ranks.index(max(ranks))
        rows = [
            {
                "at": points[k],
                "slope": plain(slope.mean[k]),
                "slope_stderr": plain(np.sqrt(slope.variance[k])),
                "local_slopes": plain(local[:, k]),
                "first": plain(first[k]),
                "skewness": plain(max([slope.skewness[k], *(m.skewness[k] for m in left)], key=abs)),
                "finite_size": [
                    {
                        "along": self.along,
                        "sizes": plain(np.sort(x)),
                        "rate": rate,
                        "intercept": plain(m.mean[k]),
                        "intercept_stderr": plain(np.sqrt(m.variance[k])),
                    }
                    for rate, m in zip(self.rates, left, strict=True)
                ],
            }
            for k in range(len(points))
        ]
        return {
            **shared,
            **found[worst].entries(),
            "slope": rows[worst]["slope"],
            "slope_stderr": rows[worst]["slope_stderr"],
            "worst": rows[worst],
            "critical": c,
            "skewness": rows[worst]["skewness"],
            "finite_size": rows[worst]["finite_size"],
            "points": rows,
        }

    def _decide(self, k: int, point: dict, slope, left: list, first: float, c: float, seeds: int) -> Finding:
        def t(m) -> float:
            error = np.sqrt(m.variance[k])
            if not error > 0:
                return np.sign(m.mean[k]) * np.inf if abs(m.mean[k]) > 1e-6 * first else 0.0
            return float(hall(m.mean[k], error, m.skewness[k], seeds))

        where = place_text(point)
        skew = max(abs(float(m.skewness[k])) for m in (slope, *left))
        if heavy(skew, seeds):
            return heavy_tails(skew, seeds, point)
        decay = t(slope)
        if decay > c:
            return Finding("fails", f"it grows{where}: the slope is {slope.mean[k]:+.3f}")
        excess = [t(m) for m in left]
        if min(excess) > c:
            rest = min(m.mean[k] for m in left)
            text = f"it does not vanish{where}: {rest:.3g} of the first {first:.3g} remains"
            return Finding("fails", f"{text} under every admitted rate (t {min(excess):+.1f} beyond {c:.1f})")

        def upper(times: float) -> float:
            return max(m.mean[k] + c * np.sqrt(m.variance[k] / times) for m in left) / first

        if decay < -c and upper(1) <= self.resolution:
            return Finding("holds", f"slope {slope.mean[k]:.3f}, and at most {upper(1):.2g} of the first value remains")
        remains = f"up to {upper(1):.2g} of the first value could remain"
        text = f"{remains if decay < -c else 'no decay is seen'}{where}"
        if upper(1e12) > self.resolution:
            return Finding("inconclusive", f"{text}; larger {self.along}, not more seeds", cure=f"larger {self.along}")
        flat = (c / max(abs(decay), 1e-3)) ** 2
        needed = smallest(lambda s: upper(s / seeds) <= self.resolution and s / seeds >= flat, seeds)
        return Finding("inconclusive", f"{text}; about {needed} seeds would decide", seeds=needed, cure="more seeds")
