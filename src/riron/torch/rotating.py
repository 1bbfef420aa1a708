"""The residual stream in the basis of its principal components, where every norm on it is an RMSNorm.

RMSNorm divides by a length, which no rotation changes. With its gain moved into the layers that read it, the stream can
be rotated by whatever writes it and rotated back by whatever reads it: the function stays, and the last components,
which carry least, can be cut as nodes are.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ..theory.node_selection import Choice, Target
from .groups import Group
from .inputs import Batch, main_output
from .metrics import NodeMoments
from .rows import node_rows

CLOSE = 1e-3  # relative change of the output beyond which a rotation was not one


@dataclass(frozen=True)
class Rotated:
    """A stream that was rotated, by the name of its group, and the norms on it."""

    name: str
    norms: tuple[str, ...]


def rotate_streams(model: Any, groups: list[Group], batches: list[Batch]) -> tuple[list[Rotated], list[str]]:
    """Rotates in place every stream that allows it.

    Args:
      model: in evaluation mode. groups: of it. batches: for the principal components.

    Returns: the streams that were rotated, and a sentence for each that was not.

    Source: Ashkboos, Croci, Gennari do Nascimento, Hoefler & Hensman, SliceGPT, ICLR 2024.
    """
    found, notes = [], []
    for group in groups:
        if group.kind != "stream" or group.reason:
            continue
        norms = _norms(model, group)
        if isinstance(norms, str):
            notes.append(norms)
            continue
        before = copy.deepcopy(model.state_dict())
        wanted = _output(model, batches[0])
        _rotate(model, group, norms, batches)
        if float((_output(model, batches[0]) - wanted).norm()) > CLOSE * float(wanted.norm()):
            model.load_state_dict(before)
            notes.append(f"the stream of '{group.name}' is read or written in a way that a rotation changes")
        else:
            found.append(Rotated(group.name, tuple(norms)))
    return found, notes


def _output(model: Any, batch: Batch) -> Any:
    with torch.no_grad():
        return main_output(batch.call(model)).double()


def _norms(model: Any, group: Group) -> list[str] | str:
    """The RMSNorms of a stream, or what on it does not commute with rotations."""
    modules, norms = dict(model.named_modules()), []
    for side in group.coupled:
        name = side.name.rpartition(".")[0] if isinstance(side.module, nn.Parameter) else side.name
        module = modules.get(name)
        if "RMSNorm" in type(module).__name__ and getattr(module, "bias", None) is None:
            norms.append(name)
        elif not isinstance(module, nn.Embedding):
            kind = type(module).__name__
            return f"the stream of '{group.name}' runs through '{name}' ({kind}), which does not commute with rotations"
    if not norms:
        return f"there is no RMSNorm on the stream of '{group.name}'"
    for side in (*group.producers, *group.readers, *group.coupled):
        if side.places.shape[1] != 1 or not np.array_equal(side.places[:, 0], np.arange(group.width)):
            return f"'{side.name}' holds the stream of '{group.name}' beside something else"
    return norms


def _rotate(model: Any, group: Group, norms: list[str], batches: list[Batch]) -> None:
    modules = dict(model.named_modules())
    behind, moments = _run(model, group, norms, batches)
    with torch.no_grad():
        for side in group.readers:
            if side.name in behind:
                side.module.weight.mul_(_along(modules[behind[side.name]].weight, side.module.weight))
        for name in norms:
            modules[name].weight.fill_(1.0)
        Q = torch.as_tensor(np.linalg.eigh(moments.moment(False))[1][:, ::-1].copy())
        for side in group.producers:
            for value in (side.module.weight, side.module.bias):
                if value is not None:
                    value.copy_(
                        (Q.mT.to(value.device) @ value.double().flatten(1 if value.ndim > 1 else 0)).view_as(value)
                    )
        for side in group.readers:
            weight = side.module.weight
            weight.copy_(torch.einsum("oc...,ck->ok...", weight.double(), Q.to(weight.device)))
        for side in group.coupled:
            if isinstance(side.module, nn.Embedding):
                weight = side.module.weight
                weight.copy_(weight.double() @ Q.to(weight.device))


def _along(gain: Any, weight: Any) -> Any:
    return gain.detach().reshape(1, -1, *[1] * (weight.ndim - 2))


def _run(model: Any, group: Group, norms: list[str], batches: list[Batch]) -> tuple[dict[str, str], NodeMoments]:
    """Reader -> the norm of the stream that ran last before it, and the moment of what all norms give without gains."""
    modules, behind, moments = dict(model.named_modules()), {}, NodeMoments()
    last = ""

    def normed(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            nonlocal last
            last = name
            gain = module.weight.detach()
            moments.add(node_rows(module, output) / torch.where(gain == 0, torch.ones_like(gain), gain))

        return hook

    def read(name: str) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            if last:
                behind[name] = last

        return hook

    hooks = [modules[name].register_forward_hook(normed(name)) for name in norms]
    hooks += [modules[side.name].register_forward_pre_hook(read(side.name)) for side in group.readers]
    try:
        with torch.no_grad():
            for batch in batches:
                last = ""
                batch.call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return behind, moments


def by_component(targets: list[Target]) -> Choice:
    """The components in their order, and the error of leaving the last ones out."""
    m = len(targets[0].S)
    losses = np.zeros(m + 1)
    for t in targets:
        G = (t.Z.T @ t.Z) * t.S  # dropping the components D changes the readers' sum by the sum over D x D
        tail = np.flip(np.diag(G)) + 2 * np.flip([G[j, j + 1 :].sum() for j in range(m)])
        losses[:m] += t.weight * np.flip(np.cumsum(tail))
    return Choice(np.arange(m), np.maximum(losses, 0.0))
