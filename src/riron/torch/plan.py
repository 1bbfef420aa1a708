"""The traced original, what its nodes do, and which of them a width keeps."""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..theory.node_selection import Choice, Target, best_scored
from .attention.heads import Heads, greedy_heads
from .attention.query_key import Pairs, best_pairs, shrink_sizes
from .groups import Group, Groups, find_groups, on, slice_rows
from .inputs import Batch
from .metrics import NodeMoments
from .rotating import Rotated
from .tracing import Trace
from .widths import Cost, rounded


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
    pairs: list[Pairs] = field(default_factory=list)
    pair_losses: dict[str, np.ndarray] = field(default_factory=dict)
    share_of_pairs: float = 1.0
    rotated: list[Rotated] = field(default_factory=list)

    @property
    def nodewise(self) -> list[Group]:
        """Groups whose widths are free."""
        return [g for g in self.groups if g.name not in self.heads and g.name not in self.value_widths]

    @property
    def value_widths(self) -> dict[str, int]:
        """Widths of the values that are cut along with queries and keys."""
        left = lambda p: p.count * rounded(self.share_of_pairs * p.size, p.size, 1)
        return {p.values.name: left(p) for p in self.pairs if p.values is not None}

    @property
    def head_widths(self) -> dict[str, int]:
        """Widths of the attention groups."""
        return {name: rounded(self.share_of_heads * h.count, h.count, 1) * h.size for name, h in self.heads.items()}

    @property
    def given_widths(self) -> dict[str, int]:
        """Widths that no budget decides: of the attention groups, and of the pairs in the heads that are left."""
        found, heads = self.head_widths | self.value_widths, {h.owner: h for h in self.heads.values()}
        for p in self.pairs:
            left = rounded(self.share_of_heads * p.count, p.count, 1) if p.owner in heads else p.count
            found[p.name] = p.group.width - left * (p.size - rounded(self.share_of_pairs * p.size, p.size, 1))
        return found

    def pair_nodes(self, kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The pairs to keep, of the heads that are kept."""
        found = {}
        for p in self.pairs:
            nodes = best_pairs(self.pair_losses[p.name], rounded(self.share_of_pairs * p.size, p.size, 1))
            cut = next((kept[name] for name, h in self.heads.items() if h.owner == p.owner), None)
            left = np.arange(p.count) if cut is None else np.unique(cut // p.size)
            found[p.name] = nodes[np.isin(nodes // p.size, left)]
        return found

    def cut_pairs(self, model: Any, rows: dict[str, np.ndarray], pair_kept: dict[str, np.ndarray]) -> None:
        """Slices queries and keys to the pairs kept; `rows` are those that the cut of heads has left."""
        modules = dict(model.named_modules())
        for p in self.pairs:
            for side in p.group.producers:
                now = rows.get(side.name, np.arange(p.group.width))
                slice_rows(modules[side.name], np.searchsorted(now, pair_kept[p.name]))
            shrink_sizes(model, p, rounded(self.share_of_pairs * p.size, p.size, 1))

    @property
    def query_scales(self) -> dict[str, float]:
        """Query layer -> the factor that undoes a scale taken from the size of the heads left."""
        found = {}
        for p in self.pairs:
            if p.rescale:
                found[p.group.producers[0].name] = (rounded(self.share_of_pairs * p.size, p.size, 1) / p.size) ** 0.5
        return found

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
                chosen = _best_of_blocks(self.scores[group.name], group.blocks, k)
            kept[group.name] = np.sort(chosen)
        for name, k in self.value_widths.items():
            blocks = next(p.count for p in self.pairs if p.values is not None and p.values.name == name)
            scored = name in self.scores
            chosen = _best_of_blocks(self.scores[name], blocks, k) if scored else self.choices[name].order[:k]
            kept[name] = np.sort(chosen)
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
        by_hand = [g for g in self.groups if g.by_hand]
        return traced_copy(self.original, self.example, self.trace.order, self.ignore, by_hand)


def traced_copy(
    original: Any, batch: Batch, order: dict[str, int], ignore: tuple[str, ...], by_hand: list[Group] | None = None
) -> Groups:
    """A copy of a network with its groups, some of them known already; the copy may be cut."""
    fresh = copy.deepcopy(original)
    flags = {}
    for name, p in fresh.named_parameters():
        flags[name] = p.requires_grad
        if p.is_floating_point():
            p.requires_grad_(True)
    found = find_groups(fresh, batch, order, ignore)
    found.flags = flags
    known = on(fresh, by_hand or [])
    names = {g.name for g in known}
    found.groups = [g for g in found.groups if g.name not in names] + known
    return found


def _best_of_blocks(scores: np.ndarray, blocks: int, k: int) -> np.ndarray:
    """The k nodes of largest score, equally many of each block."""
    each = len(scores) // blocks
    parts = [best_scored(part, k // blocks) + b * each for b, part in enumerate(scores.reshape(blocks, each))]
    return np.concatenate(parts)
