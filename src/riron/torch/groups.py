"""What may be cut where: producers, readers and coupled members, from Torch-Pruning's dependency graph."""

import math
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
      by_hand: the dependency graph does not know this group; its layers are sliced directly.
      blocks: the nodes fall into so many equal runs, from each of which equally many are kept (grouped convolutions).
    """

    name: str
    width: int
    producers: tuple[Side, ...]
    readers: tuple[Side, ...]
    coupled: tuple[Side, ...]
    kind: str
    reason: str = ""
    blocks: int = 1
    by_hand: bool = False

    @property
    def block_of(self) -> np.ndarray:
        """(m,) the run that each node belongs to."""
        return np.arange(self.width) * self.blocks // self.width


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
                for side in group.readers:
                    if is_grouped(side.module):
                        _ready(side.module, np.sort(side.places[keep].ravel()))
        for group, drop in roots:
            if group.by_hand:
                cut_by_hand(group, np.setdiff1d(np.arange(group.width), drop))
                continue
            root = group.producers[0].module
            pruner = self.graph.get_pruner_of_module(root)
            self.graph.get_pruning_group(root, pruner.prune_out_channels, drop.tolist()).prune(record_history=False)
        for module in self.model.modules():
            if isinstance(module, nn.RMSNorm) and module.weight is not None:  # the graph slices its weight alone
                module.normalized_shape = tuple(module.weight.shape)


def on(model: Any, groups: list[Group]) -> list[Group]:
    """The same groups, of another copy of the model."""
    modules = dict(model.named_modules())
    move = lambda sides: tuple(replace(side, module=modules.get(side.name, side.module)) for side in sides)
    return [replace(g, producers=move(g.producers), readers=move(g.readers), coupled=move(g.coupled)) for g in groups]


def slice_rows(module: Any, rows: np.ndarray) -> None:
    """Keeps some outputs of a linear layer or convolution."""
    index = torch.as_tensor(rows, device=module.weight.device)
    for key in ("weight", "bias"):
        value = getattr(module, key)
        if value is not None:
            setattr(module, key, nn.Parameter(value.detach()[index].clone(), requires_grad=value.requires_grad))
    setattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels", len(rows))


def cut_by_hand(group: Group, kept: np.ndarray) -> None:
    """Slices the layers of a group directly: rows of its producers, columns of its readers."""
    for side in group.producers:
        slice_rows(side.module, np.sort(side.places[kept].ravel()))
    for side in group.readers:
        module = side.module
        index = torch.as_tensor(np.sort(side.places[kept].ravel()), device=module.weight.device)
        weight = nn.Parameter(module.weight.detach()[:, index].clone(), requires_grad=module.weight.requires_grad)
        module.weight = weight
        setattr(module, "in_features" if isinstance(module, nn.Linear) else "in_channels", len(index))


def is_depthwise(module: Any) -> bool:
    """Whether every channel is convolved with itself only."""
    return isinstance(module, CONVOLUTIONS) and 1 < module.groups == module.in_channels == module.out_channels


def is_grouped(module: Any) -> bool:
    """Whether a convolution has groups that are not single channels on both sides."""
    return isinstance(module, CONVOLUTIONS) and module.groups > 1 and not is_depthwise(module)


def columns_read(module: Any) -> int:
    """Number of input positions of a layer; of a grouped convolution those of all groups."""
    return module.weight.shape[1] * (module.groups if is_grouped(module) else 1)


def take_columns(module: Any, weight: Any, columns: np.ndarray) -> Any:
    """The weight of a layer at surviving input positions; in a grouped convolution each group has its own."""
    if not is_grouped(module):
        return weight[:, torch.as_tensor(columns)]
    each = weight.shape[1]
    local = (np.asarray(columns) - np.repeat(np.arange(module.groups) * each, len(columns) // module.groups)).reshape(
        module.groups, -1
    )
    group = np.arange(len(weight)) * module.groups // len(weight)
    return weight[torch.arange(len(weight))[:, None], torch.as_tensor(local[group])]


def _ready(module: Any, columns: np.ndarray) -> None:
    """Moves what each group keeps to where the first group keeps it: there the slice is taken in all groups."""
    with torch.no_grad():
        first = torch.as_tensor(columns[: len(columns) // module.groups])
        taken = take_columns(module, module.weight.detach().clone(), columns)
        module.weight[:, first] = taken


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
    names = dict(graph._module2name)
    names.update({p: name for name, p in graph.model.named_parameters() if p in names})
    producers, readers, coupled, reasons = [], [], [], []
    kind, blocks = "inner", 1
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
                    convolution: Any = module
                    size = convolution.in_channels if reads else convolution.out_channels
                    blocks = math.lcm(blocks, convolution.groups)
                    if not np.array_equal(places[:, 0], np.arange(size)) or places.shape[1] > 1:
                        reasons.append(f"the channels of '{name}', a grouped convolution, are mixed before or behind")
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
    if blocks > 1 and (width % blocks or width == blocks):
        reasons.append(f"{width} channels in {blocks} groups leave none to cut")
    if not readers and "it is the model's output" in reasons:
        return None
    if not readers:
        reasons.append("no layer reads it")
    first = sorted(producers, key=lambda side: order.get(side.name, 10**9))
    late = sorted(readers, key=lambda side: order.get(side.name, 10**9))
    reason = "; ".join(dict.fromkeys(reasons))
    return Group(first[0].name, width, tuple(first), tuple(late), tuple(coupled), kind, reason, blocks)
