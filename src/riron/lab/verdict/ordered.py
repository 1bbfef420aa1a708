"""Ordered: one algorithm needs fewer gradients, rounds or samples than another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from ...errors import InputError
from .base import Claim, Finding, heavy_tails, placed
from .curves import Curve, place_text, plain, read
from .statistics import critical, hall, heavy, moments


@dataclass(frozen=True, init=False)
class Ordered(Claim):
    """The variable is smaller for `better` than for `worse`, on the geometric mean of the ratio paired by seed.

    Args:
      better, worse: labels along one dimension of the dots (say `method`).
      variable: what is compared, > 0.
      at: where: None for the last record point; {coordinate: value} for a record point; {other variable: level} for
        the first time that the other variable is at most `level` (linear between record points).
    """

    better: Any
    worse: Any
    at: Mapping[str, float] | None
    needs_line: ClassVar[bool] = False

    def __init__(self, better: Any, worse: Any, variable: str, at: Mapping[str, float] | None = None):
        for name, value in {"better": better, "worse": worse, "variable": variable, "at": at}.items():
            object.__setattr__(self, name, value)
        if at is not None and len(at) != 1:
            raise InputError(f"Ordered('{variable}') has at={dict(at)}", do="give one coordinate or one variable")

    def read(self, dots: dict, line: dict) -> list[Curve]:
        return [self._ratio(size, dots[size]) for size in dots]

    def tests(self, curves: list[Curve]) -> int:
        return len(curves)

    def compare(self, curves: list[Curve], level: float) -> dict:
        rows, found = [], []
        for curve in curves:
            mean, variance, skewness = moments(curve.dots)
            seeds, value, error = len(curve.seeds), float(mean[0]), float(np.sqrt(variance[0]))
            c = float(critical(level, seeds - 1))
            t = float(hall(value, error, skewness[0], seeds)) if error > 0 else float(np.sign(value)) * np.inf
            point = placed(curve, len(curves) > 1)[0]
            found.append(self._decide(curve, point, t, c, value, float(skewness[0])))
            rows.append(
                {
                    "at": point,
                    "log_ratio": plain(value),
                    "log_ratio_stderr": plain(error),
                    "ratio": plain(float(np.exp(value))),
                    "t": plain(t),
                    "critical": c,
                    "skewness": plain(skewness[0]),
                }
            )
        ranks = [{"fails": 2, "inconclusive": 1, "holds": 0}[finding.verdict] for finding in found]
        worst = ranks.index(max(ranks))
        lost = list(dict.fromkeys(name for curve in curves for name in curve.diverged))
        return {
            "variable": self.variable,
            "kind": "Ordered",
            "better": plain(self.better),
            "worse": plain(self.worse),
            **found[worst].entries(),
            "ratio": rows[worst]["ratio"],
            "worst": rows[worst],
            "critical": rows[worst]["critical"],
            "skewness": rows[worst]["skewness"],
            "diverged": len(lost),
            "diverged_seeds": lost,
            "tests": len(rows),
            "points": rows,
        }

    def _decide(self, curve: Curve, point: dict, t: float, c: float, value: float, skewness: float) -> Finding:
        where, seeds = place_text(point), len(curve.seeds)
        if curve.diverged:
            names = ", ".join(map(str, curve.diverged[:8]))
            goal = f"reach {self._goal()}" if self._goal() else "stay finite and > 0"
            text = f"{len(curve.diverged)} of {seeds} seeds ({names}) do not {goal}: no ratio for them"
            return Finding("inconclusive", text, cure="longer runs")
        if heavy(skewness, seeds):
            return heavy_tails(abs(skewness), seeds, point)
        said = f"{self.better} needs {np.exp(value):.3g} times the {self.variable} of {self.worse}{where} (t {t:+.1f})"
        if abs(t) > c:
            return Finding("holds" if t < 0 else "fails", said)
        if not np.isfinite(t):
            return Finding("inconclusive", "both are exactly the same for every seed", cure="another setting")
        needed = max(int(np.ceil(seeds * (c / max(abs(t), 1e-3)) ** 2)), seeds + 1)
        text = f"the order is not seen: {said}; about {needed} seeds would decide"
        return Finding("inconclusive", text, seeds=needed, cure="more seeds")

    def _goal(self) -> str:
        return ", ".join(f"{name} <= {value:g}" for name, value in (self.at or {}).items())

    def _ratio(self, size: Any, dots: xr.Dataset) -> Curve:
        """The paired log ratio as a curve of one point."""
        if self.variable not in dots:
            read(self.variable, size, dots)  # says which variable is nearest
        axis = self._axis(dots)
        logs = []
        for label in (self.better, self.worse):
            chosen = dots.sel({axis: label})
            with np.errstate(divide="ignore", invalid="ignore"):
                logs.append(np.log(self._value(chosen)))
        ratio = (logs[0] - logs[1]).rename(self.variable).reset_coords(drop=True)
        return read(self.variable, size, ratio.to_dataset())

    def _axis(self, dots: xr.Dataset) -> str:
        for axis in map(str, dots[self.variable].dims):
            labels = dots[axis].values.tolist() if axis in dots.coords and axis != "seed" else []
            if self.better in labels and self.worse in labels:
                return axis
        raise InputError(
            f"no dimension of {self.variable} is labelled with both {self.better!r} and {self.worse!r}",
            do="put both runs side by side along a labelled dimension, such as xr.concat(..., 'method')",
        )

    def _value(self, chosen: xr.Dataset) -> xr.DataArray:
        """The variable of one algorithm, (seed,), where `at` says."""
        values = chosen[self.variable]
        axes = [d for d in values.dims if d != "seed"]
        if self.at is None:
            return values.isel(dict.fromkeys(axes, -1))
        name, goal = next(iter(self.at.items()))
        if name in axes:
            try:
                return values.sel({name: goal})
            except KeyError:
                known = ", ".join(f"{v:g}" for v in np.asarray(values[name])[:8])
                raise InputError(f"no record point lies at {name}={goal}", do=f"there are {known}") from None
        if name not in chosen or len(axes) != 1:
            raise InputError(f"'{name}' is neither the record of {self.variable} nor a variable beside it")
        # sampling a variable in time is first passage: linear between the two record points around it
        other = chosen[name].broadcast_like(values).transpose("seed", axes[0])
        values = values.broadcast_like(other).transpose("seed", axes[0])
        passage = first_passage(np.asarray(other, np.float64), np.asarray(values, np.float64), goal)
        return xr.DataArray(passage, {"seed": chosen["seed"]} if "seed" in chosen.coords else None, "seed")


def first_passage(other: np.ndarray, values: np.ndarray, goal: float) -> np.ndarray:
    """(S,) values where `other` (S, R) is first at most `goal`, nan where it never is."""
    reached = other <= goal
    i = reached.argmax(axis=1)
    rows, before = np.arange(len(other)), np.maximum(i - 1, 0)
    high, low = other[rows, before], other[rows, i]
    share = np.where(high > low, (high - goal) / np.where(high > low, high - low, 1.0), 1.0)
    share = np.where(i == 0, 1.0, share)
    found = values[rows, before] + share * (values[rows, i] - values[rows, before])
    return np.where(reached.any(axis=1), found, np.nan)
