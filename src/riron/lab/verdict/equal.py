"""Equal: the mean of the dots is the line, at every size or in the limit of large sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .base import Claim, Finding, diverged, percent, placed, shown, unmendable
from .curves import HEAVY, MOST_TOLERANCE, Curve, place_text, plain, read, stack
from .statistics import critical, hall, intercept_weights, moments, satterthwaite

FEWEST_SIZES = 3
TRUSTED = 0.3  # an intercept known to better than this share of the largest size's gap hangs on the assumed rate
FAR = 4  # seeds are worth adding while no more than FAR times the present number times 16 are called for


@dataclass(frozen=True)
class Gaps:
    """Gaps between dots and line at K points, one row for each admitted rate (R rows; one where the line is exact)."""

    gap: np.ndarray  # (R, K) extrapolated to infinite size where there is a rate
    dots_variance: np.ndarray  # (R, K) of the mean over seeds
    line_variance: np.ndarray  # (R, K)
    line_freedom: np.ndarray  # (R, K)
    skewness: np.ndarray  # (R, K)
    allowed: np.ndarray  # (R, K) tolerance and rounding, absolute
    raw: np.ndarray  # (K,) gap at the largest size

    def error(self) -> np.ndarray:
        return np.sqrt(self.dots_variance + self.line_variance)

    def critical(self, level: float, seeds: int, times: float = 1.0) -> np.ndarray:
        """(R, K) critical values with `times` the seeds."""
        variances = np.stack([self.dots_variance / times, self.line_variance])
        freedoms = np.stack([np.full_like(self.gap, seeds * times - 1), self.line_freedom])
        return critical(level, satterthwaite(variances, freedoms))

    def unseen(self, level: float, seeds: int, times: float = 1.0, *, line: bool = True) -> np.ndarray:
        """(K,) half-width of the union over rates of the intervals of the gap, with `times` the seeds.

        What lies inside under one admitted rate cannot be refuted. `line=False` supposes a line without error.
        """
        variance = self.dots_variance / times + (self.line_variance if line else 0.0)
        width = self.critical(level, seeds, times) * np.sqrt(variance)
        return ((self.gap + width).max(axis=0) - (self.gap - width).min(axis=0)) / 2


@dataclass(frozen=True)
class Equal(Claim):
    """The mean of the dots equals the line.

    Args:
      variable: its name in both Datasets.
      rates: admitted rates at which the limit is approached, gap = a + b size^-rate; only a is judged, and the claim
        fails only if every rate excludes a = 0. Where the theory gives the rate, give that one alone: it resolves
        about twice as finely. (): the line is exact at every size.
      resolution: the relative deviation that must have been noticeable for the claim to hold.
      tolerance: relative error of a closure, stated by the theory (at most 0.1); `<variable>_tolerance` in the line
        states it point by point, and the larger of the two counts.
      atol: absolute deviation that is allowed besides; None: that of floating-point rounding. It is what dots that do
        not vary between seeds are compared with.
    """

    rates: tuple[float, ...] = (0.5, 1.0)
    resolution: float = 0.1
    tolerance: float = 0.0
    atol: float | None = None

    def __post_init__(self):
        if not all(rate > 0 for rate in self.rates):
            raise InputError(f"Equal('{self.variable}') has the rates {self.rates}", do="give rates > 0, or ()")
        if not 0 <= self.tolerance <= MOST_TOLERANCE:
            raise InputError(
                f"Equal('{self.variable}') has tolerance={self.tolerance}", do=f"give one in [0, {MOST_TOLERANCE}]"
            )
        if not self.resolution > 0:
            raise InputError(f"Equal('{self.variable}') has resolution={self.resolution}", do="give one > 0")

    def read(self, dots: dict, line: dict) -> list[Curve]:
        curves = [read(self.variable, size, dots[size], line[size]) for size in dots]
        if self.rates:
            stack(curves, FEWEST_SIZES)  # refuses sizes that cannot be extrapolated
        return curves

    def tests(self, curves: list[Curve]) -> int:
        return len(curves[-1].line) if self.rates else sum(len(curve.line) for curve in curves)

    def compare(self, curves: list[Curve], level: float) -> dict:
        if self.rates:
            return self._decide(curves, [(curves[-1], self._limit(curves))], level)
        return self._decide(curves, [(curve, self._exact(curve)) for curve in curves], level)

    def _tolerated(self, curve: Curve) -> np.ndarray:
        return np.maximum(curve.tolerance, self.tolerance) * np.abs(curve.line)

    def _rounding(self, curve: Curve) -> np.ndarray:
        return curve.rounding if self.atol is None else np.full_like(curve.line, self.atol)

    def _exact(self, curve: Curve) -> Gaps:
        mean, variance, skewness = moments(curve.dots)
        gap = mean - curve.line
        line_variance = curve.stderr**2
        share = np.divide(variance, variance + line_variance, where=variance > 0, out=np.zeros_like(variance))
        return Gaps(
            gap=gap[None],
            dots_variance=variance[None],
            line_variance=line_variance[None],
            line_freedom=curve.freedom[None],
            skewness=(skewness * share**1.5)[None],  # the line's error is symmetric and dilutes the dots' skewness
            allowed=(self._tolerated(curve) + self._rounding(curve))[None],
            raw=gap,
        )

    def _limit(self, curves: list[Curve]) -> Gaps:
        sizes, dots = stack(curves, FEWEST_SIZES)
        line, stderr, freedom = (np.stack([getattr(c, part) for c in curves]) for part in ("line", "stderr", "freedom"))
        gaps = dots.mean(axis=1) - line
        errors = np.sqrt(np.stack([moments(samples).variance for samples in dots]) + stderr**2)
        errors = np.where(np.isfinite(errors), errors, 0.0)
        rounding, tolerated = np.stack([self._rounding(c) for c in curves]), self._tolerated(curves[-1])
        rows = []
        for rate in self.rates:
            weights = intercept_weights(sizes, errors, rate)
            # seed by seed, so that noise shared between the sizes is accounted for
            _, variance, skewness = moments(np.einsum("jk,jsk->sk", weights, dots))
            parts = weights**2 * stderr**2
            total = variance + parts.sum(axis=0)
            share = np.divide(variance, total, where=variance > 0, out=np.zeros_like(variance))
            allowed = tolerated + (np.abs(weights) * rounding).sum(axis=0)
            # without noise nothing but the shape of the finite-size term limits the extrapolation
            allowed = np.where(total > 0, allowed, np.maximum(allowed, TRUSTED * np.abs(gaps[-1])))
            rows.append(
                Gaps(
                    gap=(weights * gaps).sum(axis=0),
                    dots_variance=variance,
                    line_variance=parts.sum(axis=0),
                    line_freedom=satterthwaite(parts, freedom),
                    skewness=skewness * share**1.5,
                    allowed=allowed,
                    raw=gaps[-1],
                )
            )
        fields = ("gap", "dots_variance", "line_variance", "line_freedom", "skewness", "allowed")
        return Gaps(**{name: np.stack([getattr(row, name) for row in rows]) for name in fields}, raw=gaps[-1])

    def _decide(self, curves: list[Curve], blocks: list[tuple[Curve, Gaps]], level: float) -> dict:
        columns, skew = [], []
        for curve, gaps in blocks:
            column, worst_skew = self._test(curve, curves if self.rates else [curve], gaps, level)
            columns.append(column)
            skew.append(worst_skew)
        several = len(curves) > 1
        table = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        points = [p for curve, _ in blocks for p in placed(curve, several)]
        table = {"at": np.array(points, dtype=object), **table}
        skewness = np.concatenate(skew)
        refuted = table["agrees"] == False  # noqa: E712 (an object array that also holds None)
        strength = np.where(np.isnan(table["t"]), np.where(refuted, np.inf, 0.0), np.abs(table["t"]))
        order = np.where(refuted, 1e9, 0.0) + np.minimum(strength, 1e9)
        worst = int(order.argmax()) if len(order) else 0
        judged = np.isfinite(table["would_notice"])
        noisy = judged & (table["dots_stderr"] + table["line_stderr"] > 0)
        seen = float(np.median(table["would_notice"][noisy if noisy.any() else judged])) if judged.any() else np.inf
        tolerance = max(float(np.maximum(curve.tolerance, self.tolerance).max()) for curve in curves)

        if refuted.any():
            finding = Finding("fails", self._complaint(table, worst))
        else:
            finding = unmendable(curves, skewness, points)
            if finding is None and seen <= self.resolution:
                finding = Finding("holds", f"no point is refuted, and a deviation of {percent(seen)} would have been")
            if finding is None:
                finding = self._undecided(blocks, level, seen)
        ratio = np.divide(table["line"], table["dots"], where=table["dots"] != 0, out=np.full(len(points), np.nan))
        ratio = ratio[np.isfinite(ratio)]
        return {
            "variable": self.variable,
            "kind": "Equal",
            **finding.entries(),
            "worst": shown({k: v for k, v in table.items() if k not in ("agrees", "critical", "would_notice")}, worst),
            "critical": plain(table["critical"][worst]),
            "would_notice": plain(seen + tolerance),
            "resolution": self.resolution,
            "tolerance": tolerance,
            "line_over_dots": plain(float(np.median(ratio))) if len(ratio) else None,
            "skewness": plain(float(skewness[np.abs(skewness).argmax()])) if skewness.size else 0.0,
            "diverged": len(diverged(curves)),
            "diverged_seeds": diverged(curves),
            "tests": len(points),
            "points": [shown(table, k) for k in range(len(points))],
            "finite_size": self._finite_size(curves, blocks[0][1], worst),
        }

    def _test(self, curve: Curve, used: list[Curve], gaps: Gaps, level: float) -> tuple[dict, np.ndarray]:
        """Columns of the comparison at the K points of one curve, and the skewness that was met there."""
        seeds = len(curve.seeds)
        error, threshold = gaps.error(), gaps.critical(level, seeds)
        beyond = np.sign(gaps.gap) * np.maximum(0.0, np.abs(gaps.gap) - gaps.allowed)
        noisy = error > 0
        t = np.where(
            noisy & (beyond != 0), hall(beyond, np.where(noisy, error, 1.0), gaps.skewness, seeds), 0.0
        )
        refuted = np.where(noisy, np.abs(t) > threshold, beyond != 0)
        t = np.where(noisy | (beyond == 0), t, np.nan)
        best = np.nan_to_num(np.abs(t), nan=np.inf).argmin(axis=0)[None]  # the admitted rate that fits best is shown
        take = lambda values: np.take_along_axis(values, best, axis=0)[0]
        finite = np.logical_and.reduce([c.finite for c in used])
        skewness = np.where(finite, np.take_along_axis(gaps.skewness, np.abs(gaps.skewness).argmax(axis=0)[None], 0)[0], 0)
        usable = finite & (np.abs(skewness) <= HEAVY)
        unseen = np.maximum(gaps.unseen(level, seeds), np.where(noisy.any(axis=0), 0.0, gaps.allowed.max(axis=0)))
        mean, variance, _ = moments(curve.dots)
        column = {
            "line": curve.line,
            "line_stderr": curve.stderr,
            "dots": mean,
            "dots_stderr": np.sqrt(variance),
            "t": np.where(finite, take(t), np.nan),
            "critical": take(threshold),
            "would_notice": np.where(finite, unseen / scale(curve.line), np.nan),
            "agrees": np.where(usable, ~refuted.all(axis=0), None),  # type: ignore[arg-type]
        }
        return column, skewness

    def _complaint(self, table: dict, k: int) -> str:
        t = table["t"][k]
        by = f"t {t:+.1f} beyond {table['critical'][k]:.1f}" if np.isfinite(t) else "without any noise"
        limit = ", extrapolated to infinite size" if self.rates else ""
        return (
            f"{self.variable} is {table['dots'][k]:.4g} ± {table['dots_stderr'][k]:.2g}{place_text(table['at'][k])} "
            f"and the line says {table['line'][k]:.4g} ({by}{limit})"
        )

    def _undecided(self, blocks: list[tuple[Curve, Gaps]], level: float, seen: float) -> Finding:
        """Inconclusive for want of resolution: what would help, and how many seeds if seeds do."""

        def resolved(times: float, line: bool = True) -> float:
            values = [g.unseen(level, len(c.seeds), times, line=line) / scale(c.line) for c, g in blocks]
            noisy = [(g.error() > 0).any(axis=0) for _, g in blocks]
            values, noisy = np.concatenate(values), np.concatenate(noisy)
            return float(np.median(values[noisy] if noisy.any() else values))

        text = f"a deviation under {percent(seen)} would go unseen"
        endless = 1e12
        hanging = [TRUSTED * np.abs(g.raw) - (g.critical(level, len(c.seeds)) * g.error()).max(axis=0) for c, g in blocks]
        by_rate = bool(self.rates) and (resolved(endless, line=False) > self.resolution or np.median(hanging) > 0)
        if by_rate:
            return Finding("inconclusive", f"{text}; larger sizes, not more seeds, would decide", cure="larger sizes")
        if resolved(endless) > self.resolution:
            more = "more paths (or a finer solution) of the line, not more seeds, would decide"
            return Finding("inconclusive", f"{text}; {more}", cure="more paths")
        seeds = len(blocks[-1][0].seeds)
        needed = smallest(lambda s: resolved(s / seeds) <= self.resolution, seeds)
        return Finding("inconclusive", f"{text}; about {needed} seeds would decide", seeds=needed, cure="more seeds")

    def _finite_size(self, curves: list[Curve], gaps: Gaps, k: int) -> list[dict]:
        errors = gaps.error()
        return [
            {
                "along": "size",
                "sizes": [plain(c.size) for c in curves],
                "rate": plain(rate),
                "intercept": plain(gaps.gap[r, k]),
                "intercept_stderr": plain(errors[r, k]),
            }
            for r, rate in enumerate(self.rates)
        ]


def scale(line: np.ndarray) -> np.ndarray:
    """What a deviation is relative to: |line|, or its largest value where the line is zero (1 if it is zero everywhere)."""
    size = np.abs(line)
    largest = size.max(initial=0.0) or 1.0
    return np.where(size > 1e-12 * largest, size, largest)


def smallest(enough: Callable[[int], bool], start: int) -> int:
    """The smallest whole number > start that is enough, given that some number is; by doubling and bisection."""
    low, high = start, 2 * start
    while not enough(high) and high < 1e12:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
