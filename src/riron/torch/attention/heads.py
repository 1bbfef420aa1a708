"""Attention heads: found through the dependency graph, chosen by block greedy, folded into the output projection."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ...theory.node_selection import Target
from ..groups import Group, Side, cut_by_hand, on
from ..inputs import main_output

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads", "H")
SIZES = ("all_head_size", "inner_dim", "attn_dim")
CLOSE = 1e-4  # relative difference of outputs below which they are the same


@dataclass(frozen=True)
class Heads:
    """The heads of one attention: the module that counts them, how, and the nodes (count, size) of each."""

    owner: str
    attribute: str
    count: int
    size: int
    nodes: np.ndarray


def find_heads(model: Any, group: Group) -> Heads | str:
    """The heads that an attention group consists of, or why they cannot be cut."""
    if len(group.producers) != 3 or len(group.readers) != 1:
        return "its attention is not three projections and one output projection"
    if any(side.places.shape[1] != 1 for side in (*group.producers, *group.readers)):
        return "its query, key and value have different widths"
    known = count_around(model, group)
    if isinstance(known, str):
        return known
    owner, name, count = known
    return Heads(owner, name, count, group.width // count, np.arange(group.width).reshape(count, -1))


def count_around(model: Any, group: Group) -> tuple[str, str, int] | str:
    """The module around an attention that counts its heads, that attribute, and the count; or why there is none."""
    modules = dict(model.named_modules())
    parts = [side.name.split(".") for side in group.producers]
    depth = 0
    while all(len(p) > depth + 1 and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    path = parts[0][:depth]
    widths = group.width if len(parts) > 1 else group.width // 3
    while True:
        owner = ".".join(path)
        for name in COUNTS:
            count = getattr(modules[owner], name, None)
            if isinstance(count, int) and 1 <= count <= widths and widths % count == 0:
                return owner, name, count
        if not path:
            return f"no module around '{group.name}' has an attribute that counts its heads ({', '.join(COUNTS)})"
        path = path[:-1]


def find_fused(model: Any, group: Group, order: dict[str, int], batch: Any) -> tuple[Group, Heads] | str:
    """The heads behind one projection to query, key and value together, or why they cannot be cut.

    How its outputs are laid out, and which layer reads the heads, is seen by trying: without one head the network must
    run, and give what the original gives with that head's columns of the output projection set to zero.
    """
    first = group.producers[0]
    width = group.width // 3
    known = count_around(model, group)
    if isinstance(known, str):
        return known
    owner, name, count = known
    modules = dict(model.named_modules())
    later = sorted(
        (place, key)
        for key, place in order.items()
        if place > order[first.name]
        and key.startswith(f"{owner}." if owner else "")
        and isinstance(modules[key], nn.Linear)
        and modules[key].in_features == width
    )
    if width * 3 != group.width or not later:
        return "its attention is not one projection to query, key and value and one output projection"
    nodes = np.arange(width).reshape(count, -1)
    size, rows = width // count, np.arange(group.width)
    reader = Side(later[0][1], modules[later[0][1]], np.arange(width)[:, None])
    error = ""
    for places in (rows.reshape(3, width).T, rows.reshape(count, 3, size).transpose(0, 2, 1).reshape(width, 3)):
        made = Group(
            first.name, width, (Side(first.name, first.module, places),), (reader,), (), "attention", by_hand=True
        )
        heads = Heads(owner, name, count, size, nodes)
        error = _differs(model, made, heads, batch)
        if not error:
            return made, heads
    return error


def _differs(model: Any, group: Group, heads: Heads, batch: Any) -> str:
    """Why the network without its first head is not the network with that head silenced; empty if it is."""
    silent = randomised(model, [side.name for side in (*group.producers, *group.readers)])
    cut = copy.deepcopy(silent)
    with torch.no_grad():
        dict(silent.named_modules())[group.readers[0].name].weight[:, torch.as_tensor(heads.nodes[0])] = 0
        wanted = main_output(batch.call(silent))
        cut_by_hand(on(cut, [group])[0], heads.nodes[1:].ravel())
        shrink_heads(cut, heads, heads.count - 1)
        try:
            got = main_output(batch.call(cut))
        except Exception as error:
            return f"without one head its forward does not run ({type(error).__name__}: {str(error)[:80]})"
    if got.shape != wanted.shape or float((got - wanted).norm()) > CLOSE * float(wanted.norm()):
        return "the order of its query, key and value columns could not be followed"
    return ""


def randomised(model: Any, names: list[str]) -> Any:
    """A copy with random weights in some layers: weights that are zero or tiny would hide what a layer does."""
    found = copy.deepcopy(model)
    modules, generator = dict(found.named_modules()), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in names:
            weight = modules[name].weight
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
    return found


def greedy_heads(targets: list[Target], heads: Heads, k: int, *, tau: float = 1e-4) -> np.ndarray:
    """Adds k times the head that lowers the loss most: gain tr M R_FH (R_HH + tau)^-1 R_HF."""
    states = [(t, t.S.copy(), tau * max(np.trace(t.S) / len(t.S), 1e-300)) for t in targets]
    chosen: list[int] = []
    for _ in range(k):
        gains = np.full(heads.count, -np.inf)
        for h in range(heads.count):
            if h not in chosen:
                gains[h] = sum(_gain(t, R, level, heads.nodes[h]) for t, R, level in states)
        best = int(np.argmax(gains))
        chosen.append(best)
        nodes = heads.nodes[best]
        for _, R, level in states:
            inner = R[np.ix_(nodes, nodes)] + level * np.eye(len(nodes))
            R -= R[:, nodes] @ np.linalg.solve(inner, R[nodes])
    return np.array(chosen)


def _gain(t: Target, R: np.ndarray, level: float, nodes: np.ndarray) -> float:
    inner = R[np.ix_(nodes, nodes)] + level * np.eye(len(nodes))
    through = t.Z @ R[:, nodes]
    return t.weight * float((through * np.linalg.solve(inner, through.T).T).sum())


def shrink_heads(model: Any, heads: Heads, count: int) -> None:
    """Tells the module how many heads are left."""
    owner = dict(model.named_modules())[heads.owner]
    setattr(owner, heads.attribute, count)
    for name in SIZES:
        if getattr(owner, name, None) == heads.count * heads.size:
            setattr(owner, name, count * heads.size)
