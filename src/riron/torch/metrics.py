"""What a reader needs of the nodes: second moments of its input, and the input, output and end-to-end metrics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from ..theory.node_selection import Target, target
from .groups import Group, Side, is_grouped
from .inputs import Batch, main_output
from .rows import node_rows, thinned

GRADIENTS = 8  # rows for each node that the end-to-end metric is estimated from, for each probe
PROBES = 2  # random directions of the output for each input
TRACE = 0.999  # share of the end-to-end metric that is carried; it is estimated with far less precision
MOST_BYTES = 2**28  # of activations that are kept for a backward pass


class NodeMoments:
    """Streamed float64 mean and second moment of nodes."""

    def __init__(self) -> None:
        self.n, self.first, self.second = 0, np.zeros(()), np.zeros(())

    def add(self, rows: Any) -> None:
        """Adds (rows, m)."""
        rows = rows.double()
        self.n += len(rows)
        self.first = self.first + rows.sum(0).cpu().numpy()
        self.second = self.second + (rows.mT @ rows).cpu().numpy()

    def moment(self, centred: bool) -> np.ndarray:
        """(m, m) second moment, or covariance."""
        mean = self.first / self.n
        return self.second / self.n - centred * np.outer(mean, mean)


def watch(sides: list[Side], seen: Callable[[Side, Any], Any], *, after: bool = False) -> list[Any]:
    """Hooks that show the input of each reader, or its output with `after`; returns their handles."""
    if after:
        return [side.module.register_forward_hook(lambda m, i, output, side=side: seen(side, output)) for side in sides]
    return [
        side.module.register_forward_pre_hook(lambda module, inputs, side=side: seen(side, inputs[0])) for side in sides
    ]


def pass_over(model: Any, batches: list[Batch], hooks: list[Any]) -> None:
    """Runs all batches without gradients, then takes the hooks off."""
    try:
        with torch.no_grad():
            for batch in batches:
                batch.call(model)
    finally:
        for hook in hooks:
            hook.remove()


def second_moments(
    model: Any, groups: list[Group], batches: list[Batch], *, rows_per_node: int = 64, seed: int = 0
) -> dict[tuple[str, str], NodeMoments]:
    """Moments of the nodes of each group at each of its readers, by one pass without gradients.

    Raises:
      InputError: activations that are not finite (layer and batch named).
    """
    generator = torch.Generator().manual_seed(seed)
    found = {(g.name, side.name): NodeMoments() for g in groups for side in g.readers}
    owner = {id(side): g for g in groups for side in g.readers}
    number = 0  # of the batch that is running

    def seen(side: Side, value: Any) -> None:
        group = owner[id(side)]
        rows = node_rows(side.module, value.detach(), side.places)
        if not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
            raise InputError(
                f"the activations read by layer '{side.name}' are not finite in batch {number}",
                do="look for NaN or overflow in the weights or the data",
            )
        most = max(rows_per_node * group.width, 30_000) // len(batches) + 1
        found[group.name, side.name].add(thinned(rows, most, generator))

    hooks = watch([side for g in groups for side in g.readers], seen)
    try:
        with torch.no_grad():
            for batch in batches:
                batch.call(model)
                number += 1
    finally:
        for hook in hooks:
            hook.remove()
    return found


def output_metrics(
    model: Any, groups: list[Group], batches: list[Batch], *, bytes_per_input: int, seed: int = 0, after: bool = False
) -> tuple[dict[tuple[str, str], np.ndarray], float]:
    """End-to-end metric M = E sum over positions of J^T J, J = d output / d nodes, of each group at each reader.

    Two Gaussian probes for each input, centred over the classes where the output is (inputs, classes). With `after`
    the nodes are what the readers give, not what they read.

    Returns: the metrics, and the variance of the output, summed over its entries.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {(g.name, side.name): np.zeros((g.width, g.width)) for g in groups for side in g.readers}
    sides = [(g, side) for g in groups for side in g.readers]
    values: dict[int, Any] = {}

    def seen(side: Side, value: Any) -> Any:
        if not value.requires_grad:
            value = value.detach().requires_grad_()
        values[id(side)] = value
        return value.clone() if after else (value,)  # an activation may overwrite what it is given

    rows = max(1, MOST_BYTES // max(bytes_per_input, 1))
    hooks = watch([side for _, side in sides], seen, after=after)
    inputs = sum(len(batch) for batch in batches)
    count, first, second = 0, torch.zeros(()), 0.0
    try:
        for whole in batches:
            for start in range(0, len(whole), rows):
                batch = whole.rows(slice(start, start + rows))
                count += len(batch)
                with torch.enable_grad():
                    output = main_output(batch.call(model))
                flat = output.detach().flatten(1).double()
                first, second = first + flat.sum(0), second + float((flat**2).sum())
                for probe in range(PROBES):
                    v = torch.randn(output.shape, generator=generator).to(output)
                    if output.ndim == 2 and output.shape[1] > 1:
                        v = v - v.mean(1, keepdim=True)
                    wanted = [values[id(side)] for _, side in sides]
                    grads = torch.autograd.grad(output, wanted, v, retain_graph=probe + 1 < PROBES, allow_unused=True)
                    for (group, side), grad in zip(sides, grads, strict=True):
                        if grad is not None:
                            rows_all = node_rows(side.module, grad, side.places)
                            most = max(GRADIENTS * group.width, 8192) * len(batch) // inputs + 1
                            g = thinned(rows_all, most, generator).double()
                            found[group.name, side.name] += (g.mT @ g).cpu().numpy() * (len(rows_all) / len(g))
                values.clear()
    finally:
        for hook in hooks:
            hook.remove()
    variance = second / count - float(((first / count) ** 2).sum())
    return {key: value / (count * PROBES) for key, value in found.items()}, variance


def reader_maps(side: Side) -> np.ndarray:
    """Z (p, m): the linear maps of a reader's weight on the nodes, kernel taps and places stacked."""
    weight = side.module.weight.detach().double().cpu().numpy()
    weight = weight.reshape(weight.shape[0], weight.shape[1], -1)  # (o, c, taps)
    if getattr(side.module, "groups", 1) > 1:  # each output reads the channels of its own group
        o, c, groups = *weight.shape[:2], side.module.groups
        whole = np.zeros((groups, o // groups, groups, c, weight.shape[2]))
        whole[np.arange(groups), :, np.arange(groups)] = weight.reshape(groups, o // groups, c, -1)
        weight = whole.reshape(o, groups * c, -1)
    return np.moveaxis(weight[:, side.places], 1, -1).reshape(-1, side.places.shape[0])


def targets_of(
    group: Group,
    moments: dict[tuple[str, str], NodeMoments],
    metrics: dict[tuple[str, str], np.ndarray] | None,
    *,
    criterion: str,
    theta: float | None,
    centred: bool,
) -> list[Target]:
    """What each reader of a group needs, by the metric named: "input", "output" or "end_to_end"."""
    found = []
    for side in group.readers:
        S = moments[group.name, side.name].moment(centred)
        apart = _apart(side, group)  # the groups of a grouped convolution cannot make up for one another
        S = S * apart
        scale = max(np.trace(S), 1e-300)
        if criterion == "end_to_end" and metrics is not None:
            found.append(target(S, M=metrics[group.name, side.name] * apart, trace_share=TRACE))
            continue
        Z = reader_maps(side)
        energy = max(float(((Z @ S) * Z).sum()), 1e-300)
        share = 1.0 if criterion == "input" else 0.0 if theta is None else theta
        if share == 0:
            found.append(target(S, Z=Z, weight=1 / energy))
        else:
            metric = share / scale * np.eye(len(S)) + (1 - share) / energy * (Z.T @ Z)
            found.append(target(S, M=metric))
    return found


def _apart(side: Side, group: Group) -> np.ndarray | float:
    """(m, m) whether two nodes are read by the same group of a grouped convolution; 1 for other layers."""
    if not is_grouped(side.module):
        return 1.0
    read_by = np.arange(group.width) * side.module.groups // group.width
    return (read_by[:, None] == read_by).astype(float)
