"""One run of a model on an example: which layers are called, in which order, and which sums follow them."""

from dataclasses import dataclass, field
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.overrides import TorchFunctionMode  # pyright: ignore[reportMissingImports]

from .groups import CONVOLUTIONS, LAYERS, NORMS
from .inputs import Batch

LOOKING = {"__get__", "size", "dim", "numel", "stride", "is_contiguous", "__len__", "element_size", "ndimension"}
ADDITIONS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
PASSING = (torch.nn.Identity, torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d)


@dataclass
class Trace:
    """What one run showed.

    Attributes:
      order: layer -> place among all calls of layers; -1 for a layer that is called more than once.
      calls: layer -> number of calls.
      norm: convolution or linear layer -> the BatchNorm that alone reads its output.
      sums: layer -> whether its output, through that norm, is added to another branch (a residual block's end).
      positions: layer -> rows that one input gives it (spatial positions or tokens).
      inputs: layer -> the same for what it reads.
      live: layer -> bytes of the largest output of any module at or after it, for one input.
      macs: layer -> multiplications of one input. total: bytes of all outputs for one input.
    """

    order: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    norm: dict[str, str] = field(default_factory=dict)
    sums: set[str] = field(default_factory=set)
    positions: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    total: int = 0


class Additions(TorchFunctionMode):
    """Shows every sum of two tensors to `seen`, which may replace it by returning a tensor.

    `changed` is told of every tensor that is overwritten in place: it is then no longer what its layer made.
    """

    def __init__(self, seen: Any, changed: Any, used: Any = None):
        super().__init__()
        self.seen, self.changed, self.used = seen, changed, used

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if self.used is not None and name not in LOOKING:
            for value in arguments:
                for part in value if isinstance(value, (list, tuple)) else (value,):
                    self.used(part)
        if name in ADDITIONS and len(arguments) == 2 and not named:
            a, b = arguments
            if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.shape == b.shape:
                result = self.seen(a, b)
                if result is not None:
                    return result
        result = function(*arguments, **(named or {}))
        if arguments and result is arguments[0] and isinstance(result, torch.Tensor) and "dropout" not in name:
            self.changed(result)
        return result


def trace(model: Any, batch: Batch) -> Trace:
    """Runs the model once and notes what the other steps need."""
    found = Trace()
    source: dict[int, str] = {}  # id of a tensor -> the layer (through its norm) that made it
    kept: list[Any] = []  # so that no id is used twice
    sizes: list[tuple[str, int]] = []
    uses: dict[int, int] = {}
    first_of: dict[str, int] = {}
    summed: list[tuple[str, int]] = []
    n = len(batch)

    def after(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                return
            kept.append(output)
            sizes.append((name, output.numel() * output.element_size() // n))
            made_by = source.get(id(inputs[0])) if inputs and isinstance(inputs[0], torch.Tensor) else None
            if isinstance(module, LAYERS):
                found.calls[name] = found.calls.get(name, 0) + 1
                found.order[name] = len(found.order) if found.calls[name] == 1 else -1
                axis = 1 if isinstance(module, CONVOLUTIONS) else -1
                found.positions[name] = output.numel() // output.shape[axis] // n
                found.inputs[name] = inputs[0].numel() // inputs[0].shape[axis] // n
                found.macs[name] = found.macs.get(name, 0) + output.numel() // n * module.weight[0].numel()
                source[id(output)] = name
                first_of[name] = id(output)
            elif isinstance(module, NORMS) and made_by is not None and made_by not in found.norm:
                found.norm[made_by] = name
                source[id(output)] = made_by
            elif isinstance(module, PASSING) and made_by is not None:
                source[id(output)] = made_by
            else:
                source.pop(id(output), None)  # an activation that works in place

        return hook

    def seen(a: Any, b: Any) -> None:
        kept.extend((a, b))
        summed.extend((source[id(x)], id(x)) for x in (a, b) if id(x) in source)

    def used(value: Any) -> None:
        if id(value) in source:
            uses[id(value)] = uses.get(id(value), 0) + 1

    leaves = [(name, m) for name, m in model.named_modules() if not list(m.children())]
    hooks = [module.register_forward_hook(after(name)) for name, module in leaves]
    try:
        with torch.no_grad(), Additions(seen, lambda tensor: source.pop(id(tensor), None), used):
            batch.call(model)
    finally:
        for hook in hooks:
            hook.remove()
    # a layer whose output is read elsewhere too must be refitted at once, not where the block ends
    found.sums = {name for name, place in summed if uses.get(place) == 1 and uses.get(first_of.get(name, 0)) == 1}
    largest = 0
    for name, size in reversed(sizes):
        largest = max(largest, size)
        found.live[name] = largest
    found.total = sum(size for _, size in sizes)
    return found
