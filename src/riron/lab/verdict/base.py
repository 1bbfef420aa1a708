"""What every kind of claim shares: its interface, and the two findings that no number of seeds can mend."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .curves import Curve, place_text, plain
from .statistics import heavy, heavy_limit

HEAVY_SHARE = 0.25  # of the points may be heavy-tailed, while the others decide


@dataclass(frozen=True)
class Claim(ABC):
    """One claim about one variable. A claim reads its curves, counts its tests, and compares at a given level."""

    variable: str
    needs_line: ClassVar[bool] = True

    @abstractmethod
    def read(self, dots: dict, line: dict) -> list[Curve]:
        """Checked curves, one a size."""

    @abstractmethod
    def tests(self, curves: list[Curve]) -> int:
        """How many tests the claim makes, for the false-alarm rate of the whole study."""

    @abstractmethod
    def compare(self, curves: list[Curve], level: float) -> dict:
        """The comparison as plain data; `level` is the two-sided false-alarm rate of each test."""


@dataclass(frozen=True)
class Finding:
    """A verdict with its sentence; `seeds` is how many would decide (None where seeds cannot help)."""

    verdict: str
    reason: str
    seeds: int | None = None
    cure: str | None = None

    def entries(self) -> dict:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "seeds_that_would_decide": self.seeds,
            "cure": self.cure,
        }


def unmendable(curves: Sequence[Curve], skewness: np.ndarray, points: Sequence[dict]) -> Finding | None:
    """Diverged seeds, or heavy tails at more than a quarter of the points: then a mean has no error bar."""
    lost = diverged(curves)
    if lost:
        total = max(len(curve.seeds) for curve in curves)
        names = ", ".join(map(str, lost[:8])) + (", ..." if len(lost) > 8 else "")
        text = f"{len(lost)} of {total} seeds diverged ({names}): a mean over the survivors is no mean"
        return Finding("inconclusive", text, cure="a stable setting")
    seeds = max(len(curve.seeds) for curve in curves)
    if heavy(skewness, seeds).mean() > HEAVY_SHARE:
        k = int(np.abs(skewness).argmax())
        return heavy_tails(float(np.quantile(np.abs(skewness), 1 - HEAVY_SHARE)), seeds, points[k])
    return None


def heavy_tails(skewness: float, seeds: int, point: dict) -> Finding:
    """Inconclusive because few runs carry the mean; more seeds help as long as the skewness does not grow with them."""
    needed = max(int(np.ceil((4 * skewness) ** 2)), seeds + 1)
    text = (
        f"heavy tails: the mean is carried by few runs (skewness {skewness:.1f}{place_text(point)}, "
        f"{seeds} seeds bear {heavy_limit(seeds):.2g}); about {needed} seeds would tell"
    )
    return Finding("inconclusive", text, seeds=needed, cure="more seeds, or a setting further from the stability edge")


def diverged(curves: Sequence[Curve]) -> list:
    """Names of the seeds that diverged at any size, each once."""
    return list(dict.fromkeys(name for curve in curves for name in curve.diverged))


def placed(curve: Curve, several: bool) -> list[dict]:
    """Points of the curve, with the size where there are several."""
    return [{**p, "size": plain(curve.size)} if several and curve.size is not None else p for p in curve.points]


def shown(table: dict, k: int) -> dict:
    """Row k of a table of equally long columns, as plain data."""
    return {name: plain(column[k]) for name, column in table.items()}


def percent(ratio: float | None) -> str:
    """A relative size for a sentence."""
    if ratio is None or not np.isfinite(ratio):
        return "any size"
    return f"{100 * ratio:.2g} %" if ratio < 0.995 else f"{100 * ratio:.0f} %"
