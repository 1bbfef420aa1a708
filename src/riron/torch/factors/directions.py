"""Ranks of layers: what each choice costs and loses, and the choice that a budget allows.

The cost of a decomposed layer depends on its own ranks alone, so the best spending of a budget is separable: along the
lower convex hulls of (cost, error), always the step that saves most for the error it adds.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...errors import InputError

INPUTS = 16  # input ranks on the error surface of a layer


@dataclass(frozen=True)
class Option:
    """One way to run a layer: its ranks (None: as it is), parameters, multiplications of one input, predicted error."""

    ranks: tuple[int, int] | None
    params: float
    macs: float
    error: float


@dataclass(frozen=True)
class Shape:
    """Sizes of a layer: outputs, inputs, taps of its kernel, positions that one input gives it and that it gives."""

    o: int
    c: int
    taps: int
    reads: int
    gives: int

    @property
    def one_sided(self) -> bool:
        """Whether it is a matrix: linear, 1x1, or of one input channel."""
        return self.taps == 1 or self.c == 1

    def cost(self, kind: str, r1: int, r2: int) -> tuple[int, int]:
        """(parameters, multiplications) of the factors, biases apart; a side of full rank has no layer of its own."""
        if kind == "cp" and not self.one_sided:
            return r1 * (self.c + self.taps + self.o), r1 * (self.c * self.reads + (self.taps + self.o) * self.gives)
        first = self.c * r2 * (r2 < self.c)
        rest = r1 * r2 * self.taps + r1 * self.o * (r1 < self.o)
        return first + rest, first * self.reads + rest * self.gives

    def full(self) -> tuple[int, int]:
        """(parameters, multiplications) of the layer as it is, biases apart."""
        return self.o * self.c * self.taps, self.o * self.c * self.taps * self.gives

    def ranks(self, kind: str, share: float) -> tuple[int, int]:
        """The ranks that keep a share of each side."""
        if kind == "cp" and not self.one_sided:
            rank = max(1, int(np.ceil(share * max(self.o, self.c))))
            return rank, rank
        r1, r2 = (max(1, int(np.ceil(share * size))) for size in (self.o, self.c))
        return (min(r1, max(1, int(np.ceil(share * self.c * self.taps)))), self.c) if self.one_sided else (r1, r2)

    def inputs(self) -> list[int]:
        """Input ranks that are tried."""
        if self.one_sided:
            return [self.c]
        return sorted({max(1, round(self.c * k / INPUTS)) for k in range(1, INPUTS + 1)})


def options_of(kind: str, shape: Shape, errors: dict[tuple[int, int], float]) -> list[Option]:
    """Ways to run a layer that no other way beats on both multiplications and error, dearest first."""
    params, macs = shape.full()
    found = [Option(None, params, macs, 0.0)]
    for ranks, error in errors.items():
        cost = shape.cost(kind, *ranks)
        if cost[0] < params or cost[1] < macs:
            found.append(Option(ranks, *cost, max(error, 0.0)))
    return found


def spend(
    options: dict[str, list[Option]], which: str, *, budget: float = -np.inf, most: float = np.inf
) -> dict[str, Option]:
    """The option of each layer: the least error whose cost is within `budget`, or the least cost whose error is.

    Args:
      options: layer -> its ways to run. which: "params" or "macs".
      budget: of the summed cost of these layers. most: summed error that may be reached.

    Raises:
      InputError: a budget that rank one everywhere exceeds.
    """
    fronts = {name: _front(found, which) for name, found in options.items()}
    least = sum(getattr(front[-1], which) for front in fronts.values())
    if np.isfinite(budget) and least > budget:
        raise InputError("the budget cannot be met: rank one everywhere already exceeds it", do="ask for more")
    chosen = {name: front[0] for name, front in fronts.items()}
    steps = []
    for name, front in fronts.items():
        hull = _hull(front, which)
        for before, after in pairwise(hull):
            saved = getattr(before, which) - getattr(after, which)
            steps.append(((after.error - before.error) / saved, name, after))
    steps.sort(key=lambda step: step[0])  # within a layer the slopes rise, so its steps stay in order
    cost = sum(getattr(option, which) for option in chosen.values())
    error = sum(option.error for option in chosen.values())
    stopped: set[str] = set()
    for _, name, option in steps:
        if cost <= budget:
            break
        if name in stopped:
            continue
        grown = error + option.error - chosen[name].error
        if grown > most:
            stopped.add(name)
            continue
        cost += getattr(option, which) - getattr(chosen[name], which)
        error, chosen[name] = grown, option
    return _fill(fronts, chosen, which, budget - cost) if np.isfinite(budget) else chosen


def _front(options: list[Option], which: str) -> list[Option]:
    """Options that none beats, dearest first; the error falls with the cost spent."""
    ordered = sorted(options, key=lambda o: (getattr(o, which), o.error))
    front: list[Option] = []
    for option in ordered:
        if not front or option.error < front[-1].error:
            front.append(option)
    return front[::-1]


def _hull(front: list[Option], which: str) -> list[Option]:
    kept: list[Option] = []
    cost = lambda option: getattr(option, which)
    for option in front:
        while len(kept) > 1:
            a, b = kept[-2:]
            if (b.error - a.error) * (cost(a) - cost(option)) < (option.error - a.error) * (cost(a) - cost(b)):
                break
            kept.pop()
        kept.append(option)
    return kept


def _fill(fronts: dict[str, list[Option]], chosen: dict[str, Option], which: str, slack: float) -> dict[str, Option]:
    """Spends what is left of the budget where it lowers the error most."""
    while True:
        best, gain = None, 0.0
        for name, front in fronts.items():
            for option in front:
                more = getattr(option, which) - getattr(chosen[name], which)
                if more <= slack and chosen[name].error - option.error > gain:
                    best, gain = (name, option, more), chosen[name].error - option.error
        if best is None:
            return chosen
        chosen, slack = {**chosen, best[0]: best[1]}, slack - best[2]


def uniform_share(kind: str, shapes: dict[str, Shape], share: float) -> dict[str, Any]:
    """The same share of each side of every layer, where that is cheaper than the layer."""
    found = {}
    for name, shape in shapes.items():
        ranks = shape.ranks(kind, share)
        if shape.cost(kind, *ranks)[0] < shape.full()[0]:
            found[name] = ranks
    return found


def uniform_within(kind: str, shapes: dict[str, Shape], which: str, budget: float) -> dict[str, Any]:
    """The largest common share whose cost is within the budget, by bisection."""
    place = 0 if which == "params" else 1

    def cost(share: float) -> float:
        chosen = uniform_share(kind, shapes, share)
        return sum((s.cost(kind, *chosen[n]) if n in chosen else s.full())[place] for n, s in shapes.items())

    if cost(1e-9) > budget:
        raise InputError("the budget cannot be met: rank one everywhere already exceeds it", do="ask for more")
    low, high = 1e-9, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return uniform_share(kind, shapes, low)
