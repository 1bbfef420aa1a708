"""What may be cut where: producers, readers and coupled members, from Torch-Pruning's dependency graph."""

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch_pruning  # pyright: ignore[reportMissingImports]
import torch_pruning.ops as operations  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from .inputs import Batch, main_output

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Side:
    """One side of a module that a group cuts: `places[j]` are the positions that belong to node j."""

    name: str
    module: Any
    places: np.ndarray


@dataclass(frozen=True)
class Group:
    """Nodes that can only be cut together.

    Attributes:
      name: of the first producer in order of execution. width: number of nodes.
      producers: layers whose output rows are the nodes. readers: layers whose input columns are.
      coupled: everything else that carries the nodes: norms, depthwise convolutions, embeddings, parameters.
      kind: "inner" (between layers), "stream" (shared along a residual stream) or "attention".
      reason: why it must not be cut; empty if it may be.
    """

    name: str
    width: int
    producers: tuple[Side, ...]
    readers: tuple[Side, ...]
    coupled: tuple[Side, ...]
    kind: str
    reason: str = ""


@dataclass
class Groups:
    """All groups of a model in order of execution, and the graph that cuts them."""

    groups: list[Group]
    graph: Any
    model: Any
    flags: dict[str, bool] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)

    def cut(self, kept: dict[str, np.ndarray]) -> None:
        """Slices the model to the kept nodes of each group; the graph is of no use afterwards."""
        roots = []
        for name, keep in kept.items():
            group = self[name]
            drop = np.setdiff1d(np.arange(group.width), keep)
            if len(drop):
                roots.append((group, drop))
        for group, drop in roots:
            root = group.producers[0].module
            pruner = self.graph.get_pruner_of_module(root)
            self.graph.get_pruning_group(root, pruner.prune_out_channels, drop.tolist()).prune(record_history=False)


def on(model: Any, groups: list[Group]) -> list[Group]:
    """The same groups, of another copy of the model."""
    modules = dict(model.named_modules())
    move = lambda sides: tuple(replace(side, module=modules.get(side.name, side.module)) for side in sides)
    return [replace(g, producers=move(g.producers), readers=move(g.readers), coupled=move(g.coupled)) for g in groups]


def is_depthwise(module: Any) -> bool:
    """Whether every channel is convolved with itself only."""
    return isinstance(module, CONVOLUTIONS) and module.groups > 1 and module.groups == module.in_channels


def is_grouped(module: Any) -> bool:
    """Whether a convolution has groups of more than one channel."""
    return isinstance(module, CONVOLUTIONS) and module.groups > 1 and module.groups != module.in_channels


def find_groups(model: Any, example: Batch, order: dict[str, int], ignore: tuple[str, ...] = ()) -> Groups:
    """The groups of a model; the model's parameters must require gradients where they are floats.

    Args:
      model: in evaluation mode; `Groups.cut` slices this very object.
      example: a batch of two inputs.
      order: place of each layer in the order of execution, with the calls of each in `calls`.
      ignore: names of modules that must keep their width.

    Raises:
      InputError: control flow that cannot be followed, naming what failed.
    """
    graph = torch_pruning.DependencyGraph()
    outputs: list[Any] = []
    inputs: Any = example

    def remember(out: Any) -> Any:
        outputs.append(main_output(out))
        return out

    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph.build_dependency(
                model,
                example_inputs=inputs,
                forward_fn=lambda module, batch: example.call(module),
                output_transform=remember,
                verbose=False,
            )
            found = list(graph.get_all_groups())
    except Exception as error:
        raise InputError(
            f"the layers of {type(model).__name__} cannot be traced ({type(error).__name__}: {str(error)[:120]})",
            do="name the modules that cannot be followed in ignore=, or compress a part of the model",
        ) from error
    last = outputs[0].grad_fn
    groups = [_group(part, graph, last, order, ignore) for part in found]
    groups = [group for group in groups if group is not None]
    return Groups(sorted(groups, key=lambda g: min(order.get(p.name, 10**9) for p in g.producers)), graph, model)


def _places(item: Any) -> np.ndarray | None:
    """(m, s) positions of each node, from pairs of position and node; None where nodes have unequal numbers."""
    nodes, positions = np.asarray(item.root_idxs), np.asarray(item.idxs)
    if any(node is None for node in item.root_idxs):
        return None
    order = np.lexsort((positions, nodes))
    width = len(np.unique(nodes))
    if len(nodes) % width or (np.bincount(nodes) != len(nodes) // width).any():
        return None
    return positions[order].reshape(width, -1)


def _group(part: Any, graph: Any, last: Any, order: dict[str, int], ignore: tuple[str, ...]) -> Group | None:
    names = graph._module2name
    producers, readers, coupled, reasons = [], [], [], []
    kind = "inner"
    width = len(part[0].idxs)
    for item in part:
        node = item.dep.target
        module = node.module
        operation = str(getattr(node, "name", ""))
        reads = graph.is_in_channel_pruning_fn(item.dep.handler) and isinstance(module, LAYERS)
        reads = reads and not is_depthwise(module)
        if (node.grad_fn is last and not reads) or node.type == operations.OPTYPE.OUTPUT:
            reasons.append("it is the model's output")
        if isinstance(module, (nn.Module, nn.Parameter)) and module in names:
            name = str(names[module])
            places = _places(item)
            if places is None or len(places) != width:
                reasons.append(f"the positions of its nodes in '{name}' cannot be followed")
                continue
            side = Side(name, module, places)
            if isinstance(module, LAYERS) and not is_depthwise(module):
                (readers if reads else producers).append(side)
                if is_grouped(module):
                    reasons.append(f"'{name}' is a grouped convolution")
                if order.get(name, -1) < 0:
                    reasons.append(f"'{name}' is used more than once")
            else:
                coupled.append(side)
            if any(name == wanted or name.startswith(f"{wanted}.") for wanted in ignore):
                reasons.append(f"'{name}' is ignored")
            if isinstance(module, nn.MultiheadAttention):
                reasons.append(f"'{name}' is nn.MultiheadAttention, whose heads share the width of the stream")
        elif "AddBackward" in operation and len(node.inputs) > 1 and kind != "attention":
            kind = "stream"
        elif any(word in operation for word in ("Attention", "Softmax", "Bmm")):
            kind = "attention"
    if not readers and "it is the model's output" in reasons:
        return None
    if not readers:
        reasons.append("no layer reads it")
    first = sorted(producers, key=lambda side: order.get(side.name, 10**9))
    late = sorted(readers, key=lambda side: order.get(side.name, 10**9))
    reason = "; ".join(dict.fromkeys(reasons))
    return Group(first[0].name, width, tuple(first), tuple(late), tuple(coupled), kind, reason)
