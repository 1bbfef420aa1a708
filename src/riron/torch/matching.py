"""Which nodes of the original have survived in a network that somebody else has cut."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from scipy.optimize import linear_sum_assignment

from ..errors import InputError
from .groups import Group, Side, take_columns
from .inputs import Batch
from .rows import node_rows
from .tracing import Trace

SAME = 1e-4  # relative distance of two rows of weights below which they are one row
ALIKE = 0.5  # correlation above which two nodes count as matched
CLOSE = 0.8  # cosine above which two rows of weights do
SHARE = 0.9  # of the nodes that must be matched
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Survivors:
    """The nodes of a group that survived, in the order of the cut network, and how they were found."""

    nodes: np.ndarray
    share: float
    exact: bool


def common_names(original: Any, pruned: Any, old: Trace, new: Trace) -> dict[str, str]:
    """Name in the original -> name in the cut network: the same, or else by order of execution.

    Raises:
      InputError: the networks do not run the same number of layers.
    """
    names = {name: name for name in dict(original.named_modules())}
    if set(old.order) == set(new.order):
        return names
    mine, theirs = ([n for n, _ in sorted(t.order.items(), key=lambda item: item[1])] for t in (old, new))
    if len(mine) != len(theirs):
        raise InputError(
            f"the original runs {len(mine)} layers and the cut network {len(theirs)}",
            do="pass the network that was cut and its original, of one class",
        )
    names = dict(zip(mine, theirs, strict=True))
    for layer, norm in old.norm.items():
        if names[layer] in new.norm:
            names[norm] = new.norm[names[layer]]
    return names


def find_survivors(
    group: Group, cut: dict[str, Any], names: dict[str, str], columns: dict[str, np.ndarray], models: tuple[Any, Any],
    batches: list[Batch],
) -> Survivors:  # fmt: skip
    """The survivors of one group: by identical rows of weights, else by activations.

    Args:
      group: of the original. cut: name -> module of the cut network. names: original -> cut.
      columns: surviving inputs of the layers whose input groups are known already.
      models: the original and the cut network. batches: for the match of activations.

    Raises:
      InputError: fewer than 90 % of the nodes can be matched, or the widths make no sense.
    """
    side = group.producers[0]
    layer = cut.get(names.get(side.name, ""))
    if layer is None:
        raise InputError(f"the cut network has no layer for '{side.name}'", do="pass networks of one class")
    each = side.places.shape[1]
    width, rest = divmod(layer.weight.shape[0], each)
    if rest or width > group.width:
        raise InputError(
            f"layer '{side.name}' has {group.width * each} outputs in the original and {layer.weight.shape[0]} after"
            " the cut",
            do="pass the network that was cut and its original",
        )
    if width == group.width:
        return Survivors(np.arange(group.width), 1.0, True)
    for producer in group.producers:
        found = _by_weights(producer, cut[names[producer.name]], width, columns.get(producer.name))
        if found is not None:
            return Survivors(found, 1.0, True)
    nodes, share = _by_likeness(side, cut[names[side.name]], width, columns.get(side.name))
    if share < SHARE:
        nodes, share = _by_activations(group, cut, names, width, models, batches)
    if share < SHARE:
        raise InputError(
            f"only {share:.0%} of the nodes of layer '{group.name}' could be matched to the original's",
            why="neither their weights nor their activations agree",
            do="pass the network as it was cut, before further training, or the right original",
        )
    return Survivors(nodes, share, False)


def _rows(side: Side, layer: Any, width: int, columns: np.ndarray | None) -> tuple[Any, Any] | None:
    """Weights and biases of the nodes of both layers, (m, .) and (width, .); None where they cannot be compared."""
    old, new = side.module.weight.detach().double(), layer.weight.detach().double()
    if columns is not None:
        old = take_columns(side.module, old, columns)
    if old.shape[1:] != new.shape[1:]:
        return None
    old, new = old.flatten(1), new.flatten(1)
    if side.module.bias is not None and layer.bias is not None:
        old = torch.cat([old, side.module.bias.detach().double()[:, None]], 1)
        new = torch.cat([new, layer.bias.detach().double()[:, None]], 1)
    return old[torch.as_tensor(side.places)].flatten(1), new.reshape(width, -1)


def _by_weights(side: Side, layer: Any, width: int, columns: np.ndarray | None) -> np.ndarray | None:
    """Rows of the original's weight that are found again; None if they are not."""
    both = _rows(side, layer, width, columns)
    if both is None:
        return None
    old, new = both
    near = torch.cdist(new, old) <= SAME * new.norm(dim=1, keepdim=True)
    nodes, last = [], -1
    for row in near.cpu().numpy():  # of identical rows, the next one that is left
        free = [int(j) for j in np.flatnonzero(row) if j not in nodes]
        if not free:
            return None
        last = next((j for j in free if j > last), free[0])
        nodes.append(last)
    return np.array(nodes)


def _by_likeness(side: Side, layer: Any, width: int, columns: np.ndarray | None) -> tuple[np.ndarray, float]:
    """The best one-to-one match by the angle between rows of weights, and the share of rows that agree."""
    both = _rows(side, layer, width, columns)
    if both is None:
        return np.arange(width), 0.0
    old, new = (value / value.norm(dim=1, keepdim=True).clamp_min(1e-300) for value in both)
    cosine = (new @ old.mT).cpu().numpy()
    row, column = linear_sum_assignment(-cosine)
    nodes = np.empty(width, int)
    nodes[row] = column
    return nodes, float((cosine[row, column] >= CLOSE).mean())


def _by_activations(
    group: Group, cut: dict[str, Any], names: dict[str, str], width: int, models: tuple[Any, Any], batches: list[Batch]
) -> tuple[np.ndarray, float]:
    """The best one-to-one match by correlation, and the share of nodes that it explains."""
    reader = group.readers[0]
    whole = reader.places.size == (reader.module.weight.shape[1])
    other = cut[names[reader.name]]
    each = reader.places.shape[1]
    if not whole or other.weight.shape[1] != width * each:
        return np.arange(width), 0.0
    seen: tuple[list[Any], list[Any]] = ([], [])
    places = np.arange(width * each).reshape(width, each)
    watchers = [
        reader.module.register_forward_pre_hook(
            lambda m, inputs: seen[0].append(node_rows(m, inputs[0], reader.places).double())
        ),
        other.register_forward_pre_hook(lambda m, inputs: seen[1].append(node_rows(m, inputs[0], places).double())),
    ]
    try:
        rows = 0
        with torch.no_grad():
            for batch in batches:
                for model in models:
                    batch.call(model)
                rows += len(seen[0][-1])
                if rows > MOST_ROWS:
                    break
    finally:
        for watcher in watchers:
            watcher.remove()
    a, b = (torch.cat(part) for part in seen)
    a, b = a - a.mean(0), b - b.mean(0)
    dead = b.norm(dim=0) == 0
    a, b = a / a.norm(dim=0).clamp_min(1e-300), b / b.norm(dim=0).clamp_min(1e-300)
    correlation = (b.mT @ a).cpu().numpy()
    row, column = linear_sum_assignment(-correlation)
    nodes = np.empty(width, int)
    nodes[row] = column
    alike = correlation[row, column] >= ALIKE
    return nodes, float((alike | dead.cpu().numpy()[row]).mean())
