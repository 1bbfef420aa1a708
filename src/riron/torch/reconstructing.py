"""`reconstruct`: repairs what any library has cut, from inputs without labels and without training."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from .building import fit_rows, measure, size_totals, survivors
from .compressed_model import CompressedModel, Report, changed_attributes
from .groups import NORMS, Group, on
from .inputs import as_batches, check_fits, example, shared_inputs, split
from .matching import common_names, find_survivors
from .plan import traced_copy
from .repairing import Settings, pairs_of, repair
from .tracing import trace


def reconstruct(
    pruned: Any,
    original: Any,
    data: Any,
    *,
    sequential: bool = True,
    affine: bool = True,
    tau: float = 1e-4,
    ignore: Iterable[str] = (),
    holdout: float = 0.5,
    confidence: float = 0.95,
    device: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> CompressedModel:
    """Refits every layer of a cut network to what its original computes there.

    Survivors are found as identical rows of weights; in a network that was trained after the cut, by the best
    one-to-one match of rows or, failing that, of activations. BatchNorm is set to the original's, of the survivors.

    Args:
      pruned: the network as it was cut. original: before the cut. Both are copied, never changed.
      data: inputs as for `compress`; labels are ignored.
      sequential: regress on what the refitted layers below give. affine: refit intercepts too. tau: smallest ridge.
      ignore: names of modules of the original whose inputs and outputs are all there.
      holdout: share of the inputs that only measure and guarantee. confidence: of the guarantee.
      device, seed, progress: as in `compress`.

    Returns: a CompressedModel; its report says which share of the nodes was matched.

    Raises:
      InputError: nothing was cut, networks that are not one class, nodes that cannot be matched (below 90 %), no data
        or data that does not fit, activations that are not finite.
    """
    for name, value in (("pruned", pruned), ("original", original)):
        if not isinstance(value, torch.nn.Module):
            raise InputError(f"{name} is {type(value).__name__}", do="pass a torch.nn.Module")
    if not 0 <= holdout < 1:
        raise InputError(f"holdout={holdout} is outside [0, 1)", do="give the share of inputs that are held out")
    old, new = copy.deepcopy(original).eval(), copy.deepcopy(pruned).eval()
    if device is not None:
        old, new = old.to(device), new.to(device)
    place = next((p.device for p in old.parameters()), torch.device("cpu"))
    new = new.to(place)
    batches = [batch.to(place) for batch in as_batches(data, old)]
    for model in (old, new):
        check_fits(model, example(batches))
    calibration, held_out = split(batches, holdout, seed)
    seen, seen_new = trace(old, example(calibration)), trace(new, example(calibration))
    groups = on(old, traced_copy(old, example(calibration), seen.order, tuple(ignore)).groups)
    names = common_names(old, new, seen, seen_new)
    modules = dict(new.named_modules())
    kept, shares, exact = {}, {}, True
    for group in groups:
        columns = survivors(groups, kept)[1]
        found = find_survivors(group, modules, names, columns, (old, new), calibration)
        kept[group.name], shares[group.name] = found.nodes, found.share
        exact &= found.exact
    if all(len(kept[g.name]) == g.width for g in groups):
        raise InputError("nothing was cut: all layers have the original's width", do="pass the cut network first")
    _reset_norms(groups, kept, modules, names)
    rows, columns = survivors(groups, kept)
    both = {n for n in seen.sums if names.get(n) in seen_new.sums}
    settings = Settings(tau=tau, sequential=sequential, affine=affine, seed=seed)
    pairs = pairs_of(old, new, replace(seen, sums=both), rows, columns, names)
    fits = repair(old, new, pairs, seen, calibration, settings, from_start=not exact)
    layers = [{"layer": g.name, "nodes": g.width, "kept": len(kept[g.name]), "matched": shares[g.name]} for g in groups]
    notes = [] if exact else ["the cut network was trained further: survivors were matched by likeness"]
    after = trace(new, example(calibration))
    report = Report(layers, fit_rows(fits), size_totals(old, new, seen, after), notes)
    record = {name: [int(j) for j in nodes] for name, nodes in kept.items()}
    result = CompressedModel(new, report, None, record, changed_attributes(old, new))
    result.report.notes.extend(shared_inputs(calibration, held_out))
    measure(old, result, held_out, confidence)
    return result


def _reset_norms(
    groups: list[Group], kept: dict[str, np.ndarray], modules: dict[str, Any], names: dict[str, str]
) -> None:
    """BatchNorm as in the original, for the nodes that are left."""
    for group in groups:
        for side in group.coupled:
            norm = modules.get(names.get(side.name, ""))
            if not isinstance(side.module, NORMS) or not isinstance(norm, NORMS):
                continue
            index = torch.as_tensor(side.places[kept[group.name]].ravel())
            with torch.no_grad():
                for key in ("weight", "bias", "running_mean", "running_var"):
                    a, b = getattr(side.module, key), getattr(norm, key)
                    if a is not None and b is not None and b.shape == index.shape:
                        b.copy_(a[index.to(a.device)])
