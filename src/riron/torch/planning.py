"""How a plan is made: groups sorted and tried, moments, metrics, greedy curves or scores."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..checks import nearest
from ..errors import InputError
from ..theory.node_selection import greedy
from .attention.heads import Heads, find_fused, find_heads, shrink_heads
from .attention.query_key import find_pairs, pair_losses
from .groups import Group, on
from .inputs import Batch, example, main_output
from .metrics import output_metrics, second_moments, targets_of
from .plan import Plan, traced_copy
from .repairing import Settings
from .rotating import Rotated, by_component, rotate_streams
from .scores import SCORES, score
from .tracing import Trace, trace
from .widths import cost_of

GREEDY = ("end_to_end", "output", "input", "pca")
SPARE = 8  # nodes chosen beyond the width asked for, so that the curve shows what one more would give


def make_plan(
    original: Any,
    calibration: list[Batch],
    *,
    ignore: tuple[str, ...],
    stream: bool,
    heads: float | None,
    qk: float | None,
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
    rotated: list[Rotated] = []
    if criterion == "pca":
        say("rotating the stream")
        rotated, why = rotate_streams(original, found, calibration)
        if not rotated:
            raise InputError("no residual stream can be rotated", why="; ".join(why) or "the network has none")
        criterion = "end_to_end"
    wanted, fixed, blocks = _sort(original, found, stream, heads, seen, example(calibration))
    if not by_node:
        fixed = fixed + [g for g in wanted if g.name not in blocks]
        wanted = [g for g in wanted if g.name in blocks]
    wanted, fixed = _trial(original, example(calibration), seen, ignore, wanted, fixed, blocks)
    blocks = {name: known for name, known in blocks.items() if name in {g.name for g in wanted}}
    for name in widths or {}:
        if name not in {g.name for g in wanted}:
            reason = next((g.reason or f"it belongs to the {g.kind}" for g in fixed if g.name == name), "")
            raise InputError(f"the width of '{name}' cannot be changed", why=reason or "it is not the first of a group")
    pairs, refused = find_pairs(original, found, example(calibration)) if qk is not None else ([], [])
    if heads is not None:
        refused += [f"pairs not cut: the heads of '{p.name}' are cut; compress the result" for p in pairs if p.values]
        pairs = [p for p in pairs if p.values is None]
    values = {p.values.name for p in pairs if p.values is not None}
    wanted = wanted + [p.values for p in pairs if p.values is not None]
    if not wanted and not pairs:
        reasons = [*refused, *(f"{g.name}: {g.reason or g.kind + ' nodes'}" for g in fixed)]
        reasons = "; ".join(reasons) or "no group was found"
        raise InputError(f"there is no layer to cut ({reasons[:300]})", do="try stream=True")
    notes = [f"not cut: {g.name} ({g.reason})" for g in fixed if g.reason] + refused
    notes += _few_rows(wanted, seen, calibration, most)
    say("moments of the activations")
    moments = second_moments(original, wanted, calibration, seed=settings.seed)
    metrics, variance = None, float("nan")
    if criterion == "end_to_end" and wanted:
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
            k = g.width if g.name in values else min(g.width, int(np.ceil(most * g.width)) + SPARE)
            k = min(g.width, -(-k // g.blocks) * g.blocks)
            if g.name in {r.name for r in rotated}:
                choices[g.name] = by_component(targets[g.name])
            else:
                choices[g.name] = greedy(targets[g.name], k, tau=settings.tau, blocks=g.block_of)
    cost = cost_of(original, [*wanted, *fixed, *(p.group for p in pairs)], seen)
    of_pairs = pair_losses(original, pairs, calibration) if pairs else {}
    attentive = any(g.kind == "attention" for g in found)
    normed = any(isinstance(m, torch.nn.LayerNorm) or "RMSNorm" in type(m).__name__ for m in original.modules())
    adds_up = criterion == "end_to_end" and not attentive and not normed
    share = 1.0 if heads is None else heads
    return Plan(
        original, example(calibration), ignore, seen, wanted, fixed, blocks, share, cost, moments, targets, choices,
        scores, adds_up, notes, variance, pairs, of_pairs, 1.0 if qk is None else qk, rotated,
    )  # fmt: skip


def _sort(
    original: Any, found: list[Group], stream: bool, heads: float | None, seen: Trace, batch: Batch
) -> tuple[list[Group], list[Group], dict[str, Heads]]:
    """Groups to cut, groups that stay, and the heads of those that are cut by heads."""
    wanted, fixed, blocks = [], [], {}
    for group in found:
        one = len(group.producers) == 1 and group.producers[0].places.shape[1] == 1
        if group.kind == "attention" and heads is not None and one and "cannot be followed" in group.reason:
            known = find_fused(original, group, seen.order, batch)
            if isinstance(known, str):
                fixed.append(replace(group, reason=known))
            else:
                wanted.append(known[0])
                blocks[group.name] = known[1]
        elif group.kind == "attention" and not group.reason and heads is not None:
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
        found = traced_copy(original, batch, seen.order, ignore, [g for g in groups if g.by_hand])
        try:
            left = {g.name: blocks[g.name].nodes[1:].ravel() if g.name in blocks else _all_but_one(g) for g in groups}
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


def _all_but_one(group: Group) -> np.ndarray:
    """All nodes but the first of each block."""
    return np.arange(group.width).reshape(group.blocks, -1)[:, 1:].ravel()


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
