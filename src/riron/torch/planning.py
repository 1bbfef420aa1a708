"""What a choice of nodes is made of: the traced original, moments, metrics, greedy curves or scores."""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..checks import nearest
from ..errors import InputError
from .attention import Heads, find_heads, greedy_heads, shrink_heads
from .groups import Group, Groups, find_groups, on
from .inputs import Batch, example, main_output
from .metrics import NodeMoments, output_metrics, second_moments, targets_of
from .repairing import Settings
from .scores import SCORES, score
from .selection import Choice, Target, best_scored, greedy
from .tracing import Trace, trace
from .widths import Cost, cost_of, rounded

GREEDY = ("end_to_end", "output", "input")
SPARE = 8  # nodes chosen beyond the width asked for, so that the curve shows what one more would give


@dataclass
class Plan:
    """The original with everything that a choice of nodes is made of.

    Attributes:
      groups: that may be cut. fixed: that keep their width, each with its reason or kind.
      variance: of the output, in whose unit the curves are with the end-to-end metric; nan with others.
      adds_up: whether errors of layers in the end-to-end metric can be added (not through LayerNorm and attention).
    """

    original: Any
    example: Batch
    ignore: tuple[str, ...]
    trace: Trace
    groups: list[Group]
    fixed: list[Group]
    heads: dict[str, Heads]
    share_of_heads: float
    cost: Cost
    moments: dict[tuple[str, str], NodeMoments]
    targets: dict[str, list[Target]]
    choices: dict[str, Choice]
    scores: dict[str, np.ndarray]
    adds_up: bool
    notes: list[str]
    variance: float

    @property
    def nodewise(self) -> list[Group]:
        """Groups that are cut node by node."""
        return [g for g in self.groups if g.name not in self.heads]

    @property
    def head_widths(self) -> dict[str, int]:
        """Widths of the attention groups."""
        return {name: rounded(self.share_of_heads * h.count, h.count, 1) * h.size for name, h in self.heads.items()}

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """Predicted error of each group against the nodes kept."""
        return {g.name: self.choices[g.name].losses for g in self.nodewise}

    def nodes(self, widths: dict[str, int]) -> dict[str, np.ndarray]:
        """The nodes to keep, in their old order."""
        kept = {}
        for group in self.nodewise:
            k = widths[group.name]
            if group.name in self.choices:
                chosen = self.choices[group.name].order[:k]
            else:
                chosen = best_scored(self.scores[group.name], k)
            kept[group.name] = np.sort(chosen)
        for name, heads in self.heads.items():
            k = self.head_widths[name] // heads.size
            if name in self.scores:
                chosen = best_scored(self.scores[name].reshape(heads.count, heads.size).sum(1), k)
            else:
                chosen = greedy_heads(self.targets[name], heads, k)
            kept[name] = np.sort(heads.nodes[np.sort(chosen)].ravel())
        return kept

    def fresh(self) -> Groups:
        """A copy of the original with its groups, to be cut."""
        return traced_copy(self.original, self.example, self.trace.order, self.ignore)


def traced_copy(original: Any, batch: Batch, order: dict[str, int], ignore: tuple[str, ...]) -> Groups:
    """A copy of a network with its groups; the copy may be cut."""
    fresh = copy.deepcopy(original)
    flags = {}
    for name, p in fresh.named_parameters():
        flags[name] = p.requires_grad
        if p.is_floating_point():
            p.requires_grad_(True)
    found = find_groups(fresh, batch, order, ignore)
    found.flags = flags
    return found


def make_plan(
    original: Any,
    calibration: list[Batch],
    *,
    ignore: tuple[str, ...],
    stream: bool,
    heads: float | None,
    criterion: str,
    theta: float | None,
    settings: Settings,
    most: float,
    by_node: bool,
    widths: Mapping[str, int] | None,
    say: Callable[[str], None],
) -> Plan:
    """Traces the network, measures what the nodes do, and ranks them.

    Arguments as in `compress`; `most` is the largest fraction of nodes that can be asked for, and without `by_node`
    nothing but heads is cut.
    """
    modules = dict(original.named_modules())
    for name in (*ignore, *(widths or {})):
        if name not in modules:
            raise InputError(f"the model has no module '{name}'", do=nearest(name, list(modules)))
    say("tracing")
    seen = trace(original, example(calibration))
    found = on(original, traced_copy(original, example(calibration), seen.order, ignore).groups)
    wanted, fixed, blocks = _sort(original, found, stream, heads)
    if not by_node:
        fixed = fixed + [g for g in wanted if g.name not in blocks]
        wanted = [g for g in wanted if g.name in blocks]
    wanted, fixed = _trial(original, example(calibration), seen, ignore, wanted, fixed, blocks)
    blocks = {name: known for name, known in blocks.items() if name in {g.name for g in wanted}}
    for name in widths or {}:
        if name not in {g.name for g in wanted}:
            reason = next((g.reason or f"it belongs to the {g.kind}" for g in fixed if g.name == name), "")
            raise InputError(f"the width of '{name}' cannot be changed", why=reason or "it is not the first of a group")
    if not wanted:
        reasons = "; ".join(f"{g.name}: {g.reason or g.kind + ' nodes'}" for g in fixed) or "no group was found"
        raise InputError(f"there is no layer to cut ({reasons[:300]})", do="try stream=True")
    notes = [f"not cut: {g.name} ({g.reason})" for g in fixed if g.reason]
    notes += _few_rows(wanted, seen, calibration, most)
    say("moments of the activations")
    moments = second_moments(original, wanted, calibration, seed=settings.seed)
    metrics, variance = None, float("nan")
    if criterion == "end_to_end":
        say("end-to-end metric")
        metrics, variance = output_metrics(
            original, wanted, calibration, bytes_per_input=seen.total, seed=settings.seed
        )
    targets, choices, scores = {}, {}, {}
    for number, g in enumerate(wanted):
        say(f"nodes of {g.name} ({number + 1} of {len(wanted)})")
        metric = criterion if criterion in GREEDY else "output"
        targets[g.name] = targets_of(g, moments, metrics, criterion=metric, theta=theta, centred=settings.affine)
        if criterion in SCORES:
            scores[g.name] = score(criterion, original, g, calibration, settings.seed)
        elif g.name not in blocks:
            k = min(g.width, int(np.ceil(most * g.width)) + SPARE)
            choices[g.name] = greedy(targets[g.name], k, tau=settings.tau)
    cost = cost_of(original, [*wanted, *fixed], seen)
    attentive = any(g.kind == "attention" for g in found)
    normed = any(isinstance(m, torch.nn.LayerNorm) or "RMSNorm" in type(m).__name__ for m in original.modules())
    adds_up = criterion == "end_to_end" and not attentive and not normed
    share = 1.0 if heads is None else heads
    return Plan(
        original, example(calibration), ignore, seen, wanted, fixed, blocks, share, cost, moments, targets, choices,
        scores, adds_up, notes, variance,
    )  # fmt: skip


def _sort(
    original: Any, found: list[Group], stream: bool, heads: float | None
) -> tuple[list[Group], list[Group], dict[str, Heads]]:
    """Groups to cut, groups that stay, and the heads of those that are cut by heads."""
    wanted, fixed, blocks = [], [], {}
    for group in found:
        if group.kind == "attention" and not group.reason and heads is not None:
            known = find_heads(original, group)
            if isinstance(known, str):
                fixed.append(replace(group, reason=known))
            else:
                wanted.append(group)
                blocks[group.name] = known
        elif group.reason or group.kind == "attention" or (group.kind == "stream" and not stream):
            fixed.append(group)
        else:
            wanted.append(group)
    return wanted, fixed, blocks


def _trial(
    original: Any, batch: Batch, seen: Trace, ignore: tuple[str, ...], wanted: list[Group], fixed: list[Group],
    blocks: dict[str, Heads],
) -> tuple[list[Group], list[Group]]:  # fmt: skip
    """Cuts one node of each group and runs the network: what fails then is left alone, with the reason."""

    def error(groups: list[Group]) -> str:
        found = traced_copy(original, batch, seen.order, ignore)
        try:
            left = {
                g.name: blocks[g.name].nodes[1:].ravel() if g.name in blocks else np.arange(1, g.width) for g in groups
            }
            found.cut(left)
            for g in groups:
                if g.name in blocks:
                    shrink_heads(found.model, blocks[g.name], blocks[g.name].count - 1)
            with torch.no_grad():
                same = main_output(batch.call(found.model)).shape == main_output(batch.call(original)).shape
            return "" if same else "the shape of the output would change"
        except Exception as error:
            return f"without one node the network does not run ({type(error).__name__}: {str(error)[:100]})"

    wanted = [g for g in wanted if g.width > 1 and (g.name not in blocks or blocks[g.name].count > 1)]
    if not wanted or not error(wanted):
        return wanted, fixed
    reasons = {g.name: error([g]) for g in wanted}
    fixed = fixed + [replace(g, reason=reasons[g.name]) for g in wanted if reasons[g.name]]
    return [g for g in wanted if not reasons[g.name]], fixed


def _few_rows(groups: list[Group], seen: Trace, calibration: list[Batch], most: float) -> list[str]:
    inputs = sum(len(b) for b in calibration)
    short = []
    for g in groups:
        rows = inputs * min(seen.inputs.get(side.name, 1) * side.places.shape[1] for side in g.readers)
        if rows < most * g.width:
            short.append(f"{g.name} ({rows} rows, {g.width} nodes)")
    if not short:
        return []
    said = f"fewer calibration rows than nodes in {', '.join(short)}: the ridge decides there; pass more inputs"
    warnings.warn(said, stacklevel=5)
    return [said]
