"""Below: the mean of the dots lies below the line, and by how much."""

from dataclasses import dataclass

import numpy as np

from .base import Claim, Finding, diverged, placed, shown, unmendable
from .curves import Curve, place_text, plain, read
from .statistics import critical, hall, heavy, moments, satterthwaite


@dataclass(frozen=True)
class Below(Claim):
    """The line is a bound: the mean of the dots lies below it at every size and point.

    `holds` if the upper confidence limit of the dots is below the line everywhere, `fails` if some lower limit is
    above it. The looseness line/dots is reported beside it: a bound that is loose by 300 holds and says nothing.
    """

    def read(self, dots: dict, line: dict) -> list[Curve]:
        return [read(self.variable, size, dots[size], line[size]) for size in dots]

    def tests(self, curves: list[Curve]) -> int:
        return sum(len(curve.line) for curve in curves)

    def compare(self, curves: list[Curve], level: float) -> dict:
        columns = [self._test(curve, level) for curve in curves]
        table = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        points = [p for curve in curves for p in placed(curve, len(curves) > 1)]
        table = {"at": np.array(points, dtype=object), **table}
        t, c = table["t"], table["critical"]
        usable = table["finite"] & ~table["heavy"]
        above, below = usable & (t > c), table["finite"] & (t < -c)
        worst = int(np.where(table["finite"], t - c, -np.inf).argmax())
        if above.any():
            finding = Finding(
                "fails",
                f"{table['dots'][worst]:.4g} ± {table['dots_stderr'][worst]:.2g} was measured"
                f"{place_text(points[worst])}, above its bound {table['line'][worst]:.4g} (t {t[worst]:+.1f})",
            )
        else:
            finding = unmendable(curves, np.where(table["finite"], table["skewness"], 0.0), points)
        if finding is None and below.all():
            finding = Finding("holds", "every upper confidence limit lies below the bound")
        if finding is None:
            finding = self._undecided(table, below, len(curves[-1].seeds), points)
        with np.errstate(divide="ignore", invalid="ignore"):
            loose = (table["line"] / table["dots"])[table["finite"] & (table["dots"] > 0)]
        return {
            "variable": self.variable,
            "kind": "Below",
            **finding.entries(),
            "worst": shown({k: v for k, v in table.items() if k not in ("finite", "heavy", "critical")}, worst),
            "critical": plain(c[worst]),
            "looseness": {"median": float(np.median(loose)), "worst": float(loose.max())} if loose.size else None,
            "skewness": plain(table["skewness"][worst]),
            "diverged": len(diverged(curves)),
            "diverged_seeds": diverged(curves),
            "tests": len(points),
            "points": [
                shown({k: v for k, v in table.items() if k not in ("finite", "heavy")}, k) for k in range(len(points))
            ],
        }

    def _test(self, curve: Curve, level: float) -> dict:
        seeds = len(curve.seeds)
        mean, variance, skewness = moments(curve.dots)
        error = np.sqrt(variance + curve.stderr**2)
        freedom = satterthwaite(
            np.stack([variance, curve.stderr**2]), np.stack([np.full_like(mean, seeds - 1.0), curve.freedom])
        )
        gap, noisy = mean - curve.line, error > 0
        share = np.divide(variance, error**2, where=noisy, out=np.zeros_like(mean))
        skewness = skewness * share**1.5
        # without noise a side is certain, and a bound that is attained counts as kept
        certain = np.where(gap > curve.rounding, np.inf, -np.inf)
        t = np.where(noisy, hall(gap, np.where(noisy, error, 1.0), skewness, seeds), certain)
        return {
            "line": curve.line,
            "line_stderr": curve.stderr,
            "dots": mean,
            "dots_stderr": np.sqrt(variance),
            "t": np.where(curve.finite, t, np.nan),
            "critical": critical(level, freedom),
            "skewness": np.where(curve.finite, skewness, 0.0),
            "heavy": heavy(np.where(curve.finite, skewness, 0.0), seeds),
            "finite": curve.finite,
        }

    def _undecided(self, table: dict, below: np.ndarray, seeds: int, points: list[dict]) -> Finding:
        open_points = np.flatnonzero(~below)
        factor = (table["critical"][open_points] / np.maximum(np.abs(table["t"][open_points]), 1e-3)) ** 2
        needed = int(np.ceil(seeds * factor.max()))
        k = open_points[int(factor.argmax())]
        text = f"the bound is inside the confidence interval{place_text(points[k])}; about {needed} seeds would decide"
        return Finding("inconclusive", text, seeds=needed, cure="more seeds")
