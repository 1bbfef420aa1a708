"""The usual scores of nodes, for comparison: magnitude, Taylor, average percentage of zeros, random."""

import zlib
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from .groups import Group
from .inputs import Batch, main_output
from .metrics import pass_over, watch
from .rows import node_rows

SCORES = ("magnitude", "taylor", "apoz", "random")


def score(name: str, model: Any, group: Group, batches: list[Batch], seed: int) -> np.ndarray:
    """(m,) scores of the nodes of a group: those with the largest are kept.

    Raises:
      InputError: labels are needed and there are none.
    """
    if name == "magnitude":
        return np.sqrt(sum(_by_node(side.module.weight.detach() ** 2, side.places) for side in group.producers))
    if name == "taylor":
        return _taylor(model, group, batches)
    if name == "apoz":
        return _activity(model, group, batches)
    return np.random.default_rng([seed, zlib.crc32(group.name.encode())]).random(group.width)


def _by_node(value: Any, places: np.ndarray) -> np.ndarray:
    """Sums over everything that belongs to a node."""
    rows = value.double().flatten(1).sum(1).cpu().numpy()
    return rows[places].sum(1)


def _taylor(model: Any, group: Group, batches: list[Batch]) -> np.ndarray:
    """|sum of weight x gradient of the loss| over each node's weights (Molchanov et al., 2017)."""
    weights = [side.module.weight for side in group.producers]
    flags = [w.requires_grad for w in weights]
    total = np.zeros(group.width)
    try:
        for w in weights:
            w.requires_grad_(True)
        for batch in batches:
            if batch.labels is None:
                raise InputError("criterion='taylor' needs labels", do="pass data=(inputs, labels)")
            with torch.enable_grad():
                output = main_output(batch.call(model))
                whole = not batch.labels.is_floating_point()
                loss = torch.nn.functional.cross_entropy if whole else torch.nn.functional.mse_loss
                grads = torch.autograd.grad(loss(output, batch.labels), weights)
            for side, grad in zip(group.producers, grads, strict=True):
                total += np.abs(_by_node(side.module.weight.detach() * grad, side.places))
    finally:
        for w, flag in zip(weights, flags, strict=True):
            w.requires_grad_(flag)
    return total


def _activity(model: Any, group: Group, batches: list[Batch]) -> np.ndarray:
    """Share of inputs and positions at which a node is not zero (Hu et al., 2016)."""
    total, rows = np.zeros(group.width), 0

    def seen(side: Any, value: Any) -> None:
        nonlocal total, rows
        nodes = node_rows(side.module, value, side.places)
        total = total + (nodes != 0).double().sum(0).cpu().numpy()
        rows += len(nodes)

    pass_over(model, batches, watch([group.readers[0]], seen))
    return total / max(rows, 1)
