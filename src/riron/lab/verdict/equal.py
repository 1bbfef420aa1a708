"""Equal: the mean of the dots is the line, at every size or in the limit of large sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .base import Claim, Finding, diverged, percent, placed, shown, unmendable
from .curves import MOST_TOLERANCE, Curve, place_text, plain, read, stack
from .gaps import FEWEST_SIZES, TRUSTED, Gaps, at_one_size, in_the_limit


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
      atol: absolute deviation that is allowed besides; None: that of floating-point rounding. Dots that do not vary
        between seeds are compared with it.
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
            rounding = [self._rounding(curve) for curve in curves]
            blocks = [in_the_limit(curves, self.rates, self._tolerated(curves[-1]), rounding)]
        else:
            blocks = [at_one_size(curve, self._tolerated(curve), self._rounding(curve)) for curve in curves]
        columns = [block.table(level) for block in blocks]
        table = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
        points = [point for block in blocks for point in placed(block.curve, len(curves) > 1)]
        table = {"at": np.array(points, dtype=object), **table}

        refuted = np.array([answer is not None and not answer for answer in table["agrees"]])
        strength = np.nan_to_num(np.abs(table["t"]), nan=0.0, posinf=np.finfo(float).max)
        worst = max(range(len(points)), key=lambda k: (refuted[k], strength[k]))
        noisy = np.concatenate([block.noisy for block in blocks])
        seen = typical(table["would_notice"], noisy)
        tolerance = max(float(np.maximum(curve.tolerance, self.tolerance).max()) for curve in curves)
        finding = self._decide(curves, blocks, table, refuted, worst, seen, tolerance, level)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(table["line"] != 0, table["line"] / table["dots"], np.nan)
        return {
            "variable": self.variable,
            "kind": "Equal",
            **finding.entries(),
            "worst": shown({k: v for k, v in table.items() if k not in ("agrees", "critical", "would_notice")}, worst),
            "critical": plain(table["critical"][worst]),
            "would_notice": plain(seen + tolerance),
            "resolution": self.resolution,
            "tolerance": tolerance,
            "line_over_dots": plain(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else None,
            "skewness": plain(table["skewness"][np.abs(table["skewness"]).argmax()]),
            "diverged": len(diverged(curves)),
            "diverged_seeds": diverged(curves),
            "tests": len(points),
            "points": [shown(table, k) for k in range(len(points))],
            "finite_size": [
                {
                    "along": "size",
                    "sizes": [plain(curve.size) for curve in curves],
                    "rate": plain(rate),
                    "intercept": plain(blocks[0].gap[r, worst]),
                    "intercept_stderr": plain(blocks[0].error[r, worst]),
                }
                for r, rate in enumerate(self.rates)
            ],
        }

    def _tolerated(self, curve: Curve) -> np.ndarray:
        return np.maximum(curve.tolerance, self.tolerance) * np.abs(curve.line)

    def _rounding(self, curve: Curve) -> np.ndarray:
        return curve.rounding if self.atol is None else np.full_like(curve.line, self.atol)

    def _decide(self, curves, blocks, table, refuted, worst, seen, tolerance, level) -> Finding:
        if refuted.any():
            t, c = table["t"][worst], table["critical"][worst]
            by = f"t {t:+.1f} beyond {c:.1f}" if np.isfinite(t) else "without any noise"
            limit = ", extrapolated to infinite size" if self.rates else ""
            return Finding(
                "fails",
                f"{table['dots'][worst]:.4g} ± {table['dots_stderr'][worst]:.2g} was measured"
                f"{place_text(table['at'][worst])} and the line says {table['line'][worst]:.4g} ({by}{limit})",
            )
        trouble = unmendable(curves, table["skewness"], table["at"])
        if trouble:
            return trouble
        if seen <= self.resolution:
            return Finding(
                "holds", f"no point is refuted, and a deviation of {percent(seen + tolerance)} would be noticed"
            )
        return self._undecided(blocks, f"a deviation under {percent(seen + tolerance)} would go unseen", level)

    def _undecided(self, blocks: list[Gaps], text: str, level: float) -> Finding:
        """For want of resolution: what would help, and how many seeds if seeds do."""
        noisy = np.concatenate([block.noisy for block in blocks])

        def resolved(times: float, line: bool = True) -> bool:
            unseen = np.concatenate([block.unseen(level, times, line=line) for block in blocks])
            return typical(unseen, noisy) <= self.resolution

        endless = 1e12
        width = [(block.critical(level) * block.error).max(axis=0) - TRUSTED * np.abs(block.raw) for block in blocks]
        hangs_on_rate = np.median(np.concatenate(width)) < 0 or not resolved(endless, line=False)
        if self.rates and hangs_on_rate:
            return Finding("inconclusive", f"{text}; larger sizes, not more seeds, would decide", cure="larger sizes")
        if not resolved(endless):
            more = "more paths (or a finer solution) of the line, not more seeds, would decide"
            return Finding("inconclusive", f"{text}; {more}", cure="more paths")
        seeds = blocks[-1].seeds
        needed = smallest(lambda s: resolved(s / seeds), seeds)
        return Finding("inconclusive", f"{text}; about {needed} seeds would decide", seeds=needed, cure="more seeds")


def typical(unseen: np.ndarray, noisy: np.ndarray) -> float:
    """Median over the noisy points that can be judged; over all that can where none is noisy."""
    judged = np.isfinite(unseen)
    chosen = judged & noisy if (judged & noisy).any() else judged
    return float(np.median(unseen[chosen])) if chosen.any() else np.inf


def smallest(enough: Callable[[int], bool], start: int) -> int:
    """The smallest whole number > start that is enough, given that some number is; by doubling and bisection."""
    low, high = start, 2 * start
    while not enough(high) and high < 1e12:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
