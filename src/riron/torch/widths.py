"""How wide each group: uniform, or by the marginal gain of the end-to-end metric, under a budget of cost."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from .groups import LAYERS, Group, columns_read, is_depthwise
from .tracing import Trace


@dataclass(frozen=True)
class Cost:
    """Parameters and multiplications as functions of the widths.

    `layers` holds, for each layer: weights, multiplications, output and input size, and which groups cut them by how
    many positions a node. `single` holds vectors (biases, norms) the same way; `fixed` the parameters nobody cuts.
    """

    layers: list[tuple[int, int, int, int, list[tuple[str, int]], list[tuple[str, int]]]]
    single: list[tuple[int, list[tuple[str, int]]]]
    fixed: int
    full: dict[str, int]

    def __call__(self, widths: dict[str, int]) -> tuple[float, float]:
        """(parameters, multiplications of one input)."""
        drop = {name: self.full[name] - width for name, width in widths.items()}
        left = lambda size, cuts: (size - sum(drop.get(name, 0) * s for name, s in cuts)) / size
        params, macs = float(self.fixed), 0.0
        for weights, work, rows, columns, out, into in self.layers:
            share = left(rows, out) * left(columns, into)
            params += weights * share
            macs += work * share
        for size, cuts in self.single:
            params += size * left(size, cuts)
        return params, macs


def cost_of(model: Any, groups: list[Group], trace: Trace) -> Cost:
    """The cost of a model as a function of the widths of its groups."""
    out: dict[str, list[tuple[str, int]]] = {}
    into: dict[str, list[tuple[str, int]]] = {}
    norms: dict[str, list[tuple[str, int]]] = {}
    for group in groups:
        for sides, table in ((group.producers, out), (group.readers, into), (group.coupled, norms)):
            for side in sides:
                table.setdefault(side.name, []).append((group.name, side.places.shape[1]))
    layers, single, counted = [], [], 0
    for name, module in model.named_modules():
        if isinstance(module, LAYERS):
            weight = module.weight
            thin = norms.get(name, []) if is_depthwise(module) else out.get(name, [])
            reads = [] if is_depthwise(module) else into.get(name, [])
            work = trace.macs.get(name, 0)
            layers.append((weight.numel(), work, weight.shape[0], columns_read(module), thin, reads))
            counted += weight.numel()
            if module.bias is not None:
                single.append((module.bias.numel(), thin))
                counted += module.bias.numel()
        elif name in norms and isinstance(module, nn.Module):
            size = sum(p.numel() for p in module.parameters(recurse=False))
            if size:
                each = [(g, s * size // max(_channels(module), 1)) for g, s in norms[name]]
                single.append((size, each))
                counted += size
    for name, parameter in model.named_parameters():
        if name in norms:
            single.append((parameter.numel(), norms[name]))
            counted += parameter.numel()
    total = sum(p.numel() for p in model.parameters())
    return Cost(layers, single, total - counted, {g.name: g.width for g in groups})


def _channels(module: Any) -> int:
    for name in ("num_features", "embedding_dim", "num_channels", "num_parameters"):
        if hasattr(module, name):
            return getattr(module, name)
    shape = getattr(module, "normalized_shape", None)
    return int(shape[-1]) if shape is not None else next(p.shape[-1] for p in module.parameters(recurse=False))


def rounded(width: float, full: int, round_to: int) -> int:
    """A width that is a multiple of `round_to`, at least one of it and at most the full width."""
    return int(min(full, max(round_to * round(width / round_to), min(round_to, full), 1)))


def uniform(groups: list[Group], keep: float, round_to: int = 1) -> dict[str, int]:
    """The same fraction of every group."""
    return {g.name: rounded(keep * g.width, g.width, step_of(g, round_to)) for g in groups}


def step_of(group: Group, round_to: int) -> int:
    """What the width of a group must be a multiple of."""
    return math.lcm(group.blocks, round_to) if group.width >= math.lcm(group.blocks, round_to) else group.blocks


def uniform_to(groups: list[Group], cost: Callable[[dict[str, int]], float], budget: float, round_to: int):
    """The largest common fraction whose cost is within the budget, by bisection."""
    least = uniform(groups, 0.0, round_to)
    if cost(least) > budget:
        raise InputError(
            f"the budget cannot be met: one node a layer already costs {cost(least) / cost(uniform(groups, 1.0)):.1%}",
            do="ask for more, or let the stream be cut (stream=True)",
        )
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(uniform(groups, middle, round_to)) <= budget else (low, middle)
    return uniform(groups, low, round_to)


def marginal(
    curves: dict[str, np.ndarray],
    cost: Callable[[dict[str, int]], float],
    *,
    budget: float | None = None,
    most: float | None = None,
    round_to: int | dict[str, int] = 1,
) -> dict[str, int]:
    """Takes nodes one by one where the error grows least for the cost that it saves.

    Args:
      curves: group -> (m + 1,) predicted error with k nodes kept, in one unit for all groups.
      cost: of the widths; neighbours are coupled, so it is asked again at every step.
      budget: stop as soon as the cost is this or less. most: or stop before the summed error exceeds this.
      round_to: widths are multiples of this, one for all groups or one for each.

    Raises:
      InputError: a budget that one node a layer exceeds.
    """
    widths = {name: len(curve) - 1 for name, curve in curves.items()}
    steps = round_to if isinstance(round_to, dict) else dict.fromkeys(widths, round_to)
    smallest = {name: rounded(1, width, steps[name]) for name, width in widths.items()}
    curves = {name: np.minimum.accumulate(curve) for name, curve in curves.items()}
    hulls = {name: _hull(curve, smallest[name]) for name, curve in curves.items()}
    now, error = cost(widths), sum(float(curve[-1]) for curve in curves.values())
    if budget is not None and cost(smallest) > budget:
        share = cost(smallest) / now
        raise InputError(
            f"the budget cannot be met: the smallest widths already cost {share:.1%}",
            do="ask for more, or let the stream be cut (stream=True)",
        )
    open_ = set(widths)
    while open_ and (budget is None or now > budget):
        best, chosen, after = np.inf, "", now
        for name in open_:
            step = min(steps[name], widths[name] - smallest[name])
            if step <= 0:
                continue
            k = widths[name] - step
            saved = now - cost({**widths, name: k})
            rise = (hulls[name][k] - hulls[name][widths[name]]) / max(saved, 1e-9)
            if rise < best:
                best, chosen, after = rise, name, now - saved
        if not chosen:
            break
        k = widths[chosen] - min(steps[chosen], widths[chosen] - smallest[chosen])
        grown = error + float(curves[chosen][k] - curves[chosen][widths[chosen]])
        if most is not None and grown > most:
            open_.discard(chosen)
            continue
        widths[chosen], now, error = k, after, grown
    return widths


def _hull(curve: np.ndarray, smallest: int) -> np.ndarray:
    """The lower convex hull of a curve from `smallest` on: a flat step before a fall must not stop the search."""
    kept: list[int] = []
    for k in range(smallest, len(curve)):
        while len(kept) > 1:
            i, j = kept[-2], kept[-1]
            if (curve[j] - curve[i]) * (k - i) < (curve[k] - curve[i]) * (j - i):
                break
            kept.pop()
        kept.append(k)
    hull = curve.copy()
    hull[smallest:] = np.interp(np.arange(smallest, len(curve)), kept, curve[kept])
    return hull
