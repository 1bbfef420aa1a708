"""The cut itself: slice a copy, refit it, and measure it on inputs that nothing else has used."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from ..guarantees.disagreement import disagreement
from ..theory.degrees_of_freedom import degrees_of_freedom
from .attention.heads import shrink_heads
from .attention.query_key import Pairs, scale_layer
from .compressed_model import CompressedModel, Report, changed_attributes
from .folding import Fit
from .groups import NORMS, Group, columns_read
from .inputs import Batch, main_output
from .plan import Plan
from .repairing import Settings, pairs_of, repair
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
                weight: Any = getattr(side.module, "weight", None)
                if not isinstance(weight, torch.Tensor) or weight.ndim <= axis:
                    continue
                size = columns_read(side.module) if axis else weight.shape[0]
                now = table.get(side.name, np.arange(size))
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
    pair_kept = plan.pair_nodes(kept)
    of_heads = survivors(found.groups, kept)[0]
    rows, columns = survivors([*found.groups, *(p.group for p in plan.pairs)], {**kept, **pair_kept})
    found.cut(kept)
    plan.cut_pairs(found.model, of_heads, pair_kept)
    modules = dict(found.model.named_modules())
    for stream in plan.rotated:  # fewer components have the same length, and RMSNorm divides by their number
        width = len(kept[stream.name])
        for name in stream.norms:
            modules[name].weight.data.mul_((found[stream.name].width / width) ** 0.5)
    scales = plan.query_scales
    for name, factor in scales.items():
        scale_layer(modules[name], factor)
    for name, heads in plan.heads.items():
        shrink_heads(found.model, heads, len(kept[name]) // heads.size)
    for name, p in found.model.named_parameters():
        p.requires_grad_(found.flags.get(name, True))
    fits = {}
    if refit:
        say("refitting")
        names = {name: name for name in dict(plan.original.named_modules())}
        pairs = pairs_of(plan.original, found.model, plan.trace, rows, columns, names)
        pairs = [replace(pair, scale=scales.get(pair.name, 1.0)) for pair in pairs]
        fits = repair(plan.original, found.model, pairs, plan.trace, fitting, settings)
    if recalibrate or (recalibrate is None and not refit):
        recalibrate_norms(found.model, fitting)
    after = trace(found.model, plan.example)
    layers = [_row(plan, group, kept[group.name]) for group in plan.groups]
    layers += [_pair_row(plan, p, pair_kept[p.name]) for p in plan.pairs]
    totals = size_totals(plan.original, found.model, plan.trace, after)
    totals["predicted_error"] = sum(row["predicted_error"] for row in layers) if plan.adds_up else None
    record = {name: [int(j) for j in nodes] for name, nodes in (kept | pair_kept).items()}
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
        "dof": float(degrees_of_freedom(values, cut)),
        "predicted_error": predicted,
    }


def _pair_row(plan: Plan, pairs: Pairs, kept: np.ndarray) -> dict[str, Any]:
    """The mean squared change of the scores relative to their variance, in the heads that are left."""
    G, width = plan.pair_losses[pairs.name], pairs.size
    lost = whole = 0.0
    for head in np.unique(kept // width):
        dropped = np.setdiff1d(np.arange(width), kept[kept // width == head] - head * width)
        lost, whole = lost + float(G[head][np.ix_(dropped, dropped)].sum()), whole + float(G[head].sum())
    error = lost / max(whole, 1e-300)
    row = {"layer": pairs.name, "nodes": pairs.group.width, "kept": len(kept)}
    return {**row, "dof": float("nan"), "predicted_error": error}


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


def output_error(original: Any, model: Any, batches: list[Batch]) -> tuple[float, float, Any, Any]:
    """Relative squared error of the output and its standard error; both outputs as arrays, one row an input."""
    with torch.no_grad():
        shape = main_output(batches[0].call(original)).shape
        old = torch.cat([main_output(b.call(original)).flatten(1).double() for b in batches])
        new = torch.cat([main_output(b.call(model)).flatten(1).double() for b in batches])
    square = ((new - old) ** 2).sum(1)
    variance = float(((old - old.mean(0)) ** 2).sum(1).mean()) or 1.0
    stderr = float(square.std() / len(square) ** 0.5) / variance if len(square) > 1 else float("nan")
    old, new = (value.reshape(len(value), *shape[1:]).cpu().numpy() for value in (old, new))
    return float(square.mean()) / variance, stderr, old, new


def measure(original: Any, result: CompressedModel, held_out: list[Batch], confidence: float) -> None:
    """Adds the held-out error of the output and the guarantee."""
    if not held_out:
        return
    error, stderr, old, new = output_error(original, result.model, held_out)
    if not np.isfinite(old).all():
        rows = np.flatnonzero(~np.isfinite(old.reshape(len(old), -1)).all(1))
        raise InputError(
            f"the original's outputs are not finite for {len(rows)} of {len(old)} held-out inputs",
            do="look for NaN or overflow in the data",
        )
    result.report.totals["output_error"], result.report.totals["output_error_stderr"] = error, stderr
    if np.isfinite(new).all() and len(old):
        result.guarantee = disagreement(old, new, confidence=confidence)
