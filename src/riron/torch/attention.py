"""Attention heads: found through the dependency graph, chosen by block greedy, folded into the output projection."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .groups import Group
from .selection import Target

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads", "H")
SIZES = ("all_head_size", "inner_dim", "attn_dim")


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
    modules = dict(model.named_modules())
    parts = [side.name.split(".") for side in group.producers]
    depth = 0
    while all(len(p) > depth + 1 and p[depth] == parts[0][depth] for p in parts):
        depth += 1
    path = parts[0][:depth]
    while True:
        owner = ".".join(path)
        for name in COUNTS:
            count = getattr(modules[owner], name, None)
            if isinstance(count, int) and 1 <= count <= group.width and group.width % count == 0:
                size = group.width // count
                return Heads(owner, name, count, size, np.arange(group.width).reshape(count, size))
        if not path:
            return f"no module around '{group.name}' has an attribute that counts its heads ({', '.join(COUNTS)})"
        path = path[:-1]


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
