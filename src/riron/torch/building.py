"""The cut itself: slice a copy, refit it, and measure it on inputs that nothing else has used."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..guarantees.disagreement import disagreement
from .attention import shrink_heads
from .compressed_model import CompressedModel, Report, changed_attributes
from .folding import Fit
from .groups import NORMS, Group
from .inputs import Batch, main_output
from .planning import Plan
from .repairing import Settings, pairs_of, repair
from .selection import degrees_of_freedom
from .tracing import Trace, trace


def survivors(groups: list[Group], kept: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Surviving output rows and input columns of every layer that some group cuts."""
    rows: dict[str, np.ndarray] = {}
    columns: dict[str, np.ndarray] = {}
    for group in groups:
        if group.name not in kept:
            continue
        for table, axis, sides in ((rows, 0, (*group.producers, *group.coupled)), (columns, 1, group.readers)):
            for side in sides:
                weight = getattr(side.module, "weight", None)
                if not isinstance(weight, torch.Tensor) or weight.ndim <= axis:
                    continue
                now = table.get(side.name, np.arange(weight.shape[axis]))
                mine = np.isin(now, side.places)
                left = side.places[kept[group.name]]
                # positions of one node stay together where they were: the nodes may come in another order
                left = left.ravel() if _together(side.places) else np.sort(left.ravel())
                first = int(np.flatnonzero(mine)[0]) if mine.any() else 0
                table[side.name] = np.concatenate([now[:first], left, now[first:][~mine[first:]]])
    return rows, columns


def _together(places: np.ndarray) -> bool:
    """Whether the positions of each node are neighbours."""
    return bool((np.diff(places, axis=1) == 1).all())


def build(
    plan: Plan,
    kept: dict[str, np.ndarray],
    fitting: list[Batch],
    settings: Settings,
    *,
    refit: bool,
    recalibrate: bool | None,
    say: Callable[[str], None],
) -> CompressedModel:
    """The network cut to the nodes kept, refitted on the inputs given."""
    say("cutting")
    found = plan.fresh()
    rows, columns = survivors(found.groups, kept)
    found.cut(kept)
    for name, heads in plan.heads.items():
        shrink_heads(found.model, heads, len(kept[name]) // heads.size)
    for name, p in found.model.named_parameters():
        p.requires_grad_(found.flags.get(name, True))
    fits = {}
    if refit:
        say("refitting")
        names = {name: name for name in dict(plan.original.named_modules())}
        pairs = pairs_of(plan.original, found.model, plan.trace, rows, columns, names)
        fits = repair(plan.original, found.model, pairs, plan.trace, fitting, settings)
    if recalibrate or (recalibrate is None and not refit):
        recalibrate_norms(found.model, fitting)
    after = trace(found.model, plan.example)
    layers = [_row(plan, group, kept[group.name]) for group in plan.groups]
    totals = size_totals(plan.original, found.model, plan.trace, after)
    totals["predicted_error"] = sum(row["predicted_error"] for row in layers) if plan.adds_up else None
    record = {name: [int(j) for j in nodes] for name, nodes in kept.items()}
    attributes = changed_attributes(plan.original, found.model)
    found.model.eval()
    return CompressedModel(
        found.model, Report(layers, fit_rows(fits), totals, list(plan.notes)), None, record, attributes
    )


def fit_rows(fits: dict[str, Fit]) -> list[dict[str, Any]]:
    """Error of each pre-activation before and after its refit, relative to its variance."""
    share = lambda value, scale: value / scale if scale else 0.0
    return [{"layer": n, "before": share(f.before, f.scale), "after": share(f.after, f.scale)} for n, f in fits.items()]


def size_totals(original: Any, model: Any, before: Trace, after: Trace) -> dict[str, Any]:
    """Parameters and multiplications of both networks."""
    return {
        "params_before": sum(p.numel() for p in original.parameters()),
        "params_after": sum(p.numel() for p in model.parameters()),
        "macs_before": sum(before.macs.values()),
        "macs_after": sum(after.macs.values()),
    }


def _row(plan: Plan, group: Group, kept: np.ndarray) -> dict[str, Any]:
    S = plan.moments[group.name, group.readers[0].name].moment(False)
    values = np.linalg.eigvalsh(S)[::-1]
    cut = max(float(values[len(kept) - 1]), 1e-300)
    choice = plan.choices.get(group.name)
    unit = plan.variance if plan.variance > 0 else 1.0
    predicted = float("nan") if choice is None else float(choice.losses[len(kept)]) / unit
    return {
        "layer": group.name,
        "nodes": group.width,
        "kept": len(kept),
        "dof": degrees_of_freedom(S, cut),
        "predicted_error": predicted,
    }


def recalibrate_norms(model: Any, batches: list[Batch]) -> None:
    """Re-estimates the running statistics of every BatchNorm by forward passes (averages over the batches)."""
    norms = [m for m in model.modules() if isinstance(m, NORMS) and m.running_mean is not None]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in batches:
            if len(batch) > 1:
                batch.call(model)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def measure(original: Any, result: CompressedModel, held_out: list[Batch], confidence: float) -> None:
    """Adds the held-out error of the output and the guarantee."""
    if not held_out:
        return
    with torch.no_grad():
        old = torch.cat([main_output(b.call(original)).flatten(1).double() for b in held_out])
        new = torch.cat([main_output(b.call(result.model)).flatten(1).double() for b in held_out])
        shape = main_output(held_out[0].call(original)).shape
    square = ((new - old) ** 2).sum(1)
    variance = float(((old - old.mean(0)) ** 2).sum(1).mean()) or 1.0
    result.report.totals["output_error"] = float(square.mean()) / variance
    se = float(square.std() / len(square) ** 0.5) / variance if len(square) > 1 else float("nan")
    result.report.totals["output_error_stderr"] = se
    if bool(torch.isfinite(new).all()) and old.shape[0] > 0:
        a, b = (value.reshape(len(value), *shape[1:]).cpu().numpy() for value in (old, new))
        result.guarantee = disagreement(a, b, confidence=confidence)
