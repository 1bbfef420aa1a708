"""Rate: the mean of the dots is a power law with the claimed exponent."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from .base import Claim, Finding, diverged, heavy_tails
from .curves import Curve, place_text, plain, read
from .slopes import log_log, profile, without_logarithm
from .statistics import critical, hall, heavy

SEEN = 4.0  # standard errors at which a drift of the local slopes counts as seen


@dataclass(frozen=True)
class Rate(Claim):
    """The log-log slope of the mean of the dots lies within `exponent` +- `atol`.

    Args:
      variable: its name in the dots.
      along: "size", or the coordinate of the record.
      exponent: claimed slope (negative for a decay); None: the line's `<variable>_exponent`, at the largest size.
      atol: half-width of what counts as this exponent (> 0).
    """

    along: str = "size"
    exponent: float | None = None
    atol: float = 0.1

    def __post_init__(self):
        if not self.atol > 0:
            raise InputError(f"Rate('{self.variable}') has atol={self.atol}", do="give one > 0")

    @property
    def needs_line(self) -> bool:  # type: ignore[override]
        return self.exponent is None

    def read(self, dots: dict, line: dict) -> list[Curve]:
        curves = [read(self.variable, size, dots[size]) for size in dots]
        profile(curves, self.along)
        if self.exponent is not None:
            return curves
        # the claimed exponent travels as the line of the curve at the largest size
        name, largest = f"{self.variable}_exponent", line[list(dots)[-1]]
        if name not in largest:
            raise InputError(f"Rate('{self.variable}') has no exponent and the line has no variable '{name}'")
        value = float(largest[name])
        if not np.isfinite(value):
            raise InputError(f"{name} of the line is {value}", do="compare where the theory gives a number")
        return [Curve(**{**vars(curve), "line": np.full_like(curve.line, value)}) for curve in curves]

    def tests(self, curves: list[Curve]) -> int:
        return len(profile(curves, self.along)[2])

    def compare(self, curves: list[Curve], level: float) -> dict:
        x, dots, points = profile(curves, self.along)
        exponent = float(curves[-1].line[0]) if self.exponent is None else self.exponent
        shared: dict[str, Any] = {
            "variable": self.variable,
            "kind": "Rate",
            "along": self.along,
            "exponent": exponent,
            "atol": self.atol,
            "diverged": len(diverged(curves)),
            "diverged_seeds": diverged(curves),
            "tests": len(points),
        }
        trouble = without_logarithm(curves, dots)
        if trouble:
            return {**shared, **Finding("inconclusive", trouble).entries(), "worst": None, "points": []}
        slope, drift, local = log_log(x, dots)
        seeds = dots.shape[1]
        c = float(critical(level, seeds - 1))
        found = [self._decide(slope, drift, k, exponent, c, seeds, points[k]) for k in range(len(points))]
        ranks = [{"fails": 2, "inconclusive": 1, "holds": 0}[finding.verdict] for finding in found]
        distance = np.abs(slope.mean - exponent)
        worst = max(range(len(points)), key=lambda k: (ranks[k], distance[k]))
        error = np.sqrt(slope.variance)
        rows = [
            {
                "at": points[k],
                "slope": plain(slope.mean[k]),
                "slope_stderr": plain(error[k]),
                "t": plain((slope.mean[k] - exponent) / error[k]) if error[k] > 0 else None,
                "interval": plain([slope.mean[k] - c * error[k], slope.mean[k] + c * error[k]]),
                "local_slopes": plain(local[:, k]),
                "skewness": plain(slope.skewness[k]),
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
            "points": rows,
        }

    def _decide(self, slope, drift, k: int, exponent: float, c: float, seeds: int, point: dict) -> Finding:
        value, error, skew = float(slope.mean[k]), float(np.sqrt(slope.variance[k])), float(slope.skewness[k])
        here = f"the slope{place_text(point)} is {value:.3f} ± {error:.2g}"
        claim = f"{exponent:g} ± {self.atol:g}"
        if heavy(skew, seeds):
            return heavy_tails(abs(skew), seeds, point)
        wander, noise = abs(float(drift.mean[k])), float(np.sqrt(drift.variance[k]))
        if wander > self.atol and wander > SEEN * noise:
            text = f"not yet asymptotic: the local slope{place_text(point)} drifts by {drift.mean[k]:+.2g}"
            return Finding("inconclusive", f"{text}; larger {self.along}, not more seeds", cure=f"larger {self.along}")

        def side(edge: float) -> int:
            """+1 if the slope is above the edge beyond doubt, -1 if below, else 0."""
            t = float(hall(value - edge, error, skew, seeds)) if error > 0 else np.copysign(np.inf, value - edge)
            return int(t > c) - int(t < -c)

        low, high = side(exponent - self.atol), side(exponent + self.atol)
        if low > 0 and high < 0:
            return Finding("holds", f"{here}, inside {claim}")
        if low < 0 or high > 0:
            return Finding("fails", f"{here}, outside {claim}")
        room = max(abs(self.atol - abs(value - exponent)), 1e-3 * self.atol)
        needed = max(int(np.ceil(seeds * (c * error / room) ** 2)), seeds + 1)
        text = f"{here} and its interval crosses the edge of {claim}; about {needed} seeds would decide"
        return Finding("inconclusive", text, seeds=needed, cure="more seeds")
