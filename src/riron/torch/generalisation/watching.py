"""One run of a network, written down operation by operation, or the reason why it is no chain of layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.overrides import TorchFunctionMode  # pyright: ignore[reportMissingImports]

from ...errors import InputError

CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
RELU = {"relu", "leaky_relu"}
AVERAGES = {f"{kind}avg_pool{k}d" for kind in ("", "adaptive_") for k in (1, 2, 3)} | {"mean"}
MAXIMA = {f"{kind}max_pool{k}d" for kind in ("", "adaptive_") for k in (1, 2, 3)}
RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "ravel", "unflatten", "contiguous", "clone", "detach"}
DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
CASTS = {"to", "float", "double", "half", "bfloat16", "type", "type_as"}
REINDEXES = {"permute", "transpose", "swapaxes", "movedim", "pad"}
ELEMENTWISE = {f"{how}{kind}" for how in ("", "i", "r") for kind in ("add", "sub", "mul", "div", "truediv")} | {"neg"}
ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward", "_native_multi_head_attention", "bmm",
             "baddbmm", "einsum"}  # fmt: skip
NORMS = {"layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize"}
ACTIVATIONS = {"gelu", "silu", "tanh", "sigmoid", "elu", "selu", "celu", "softplus", "mish", "hardtanh", "hardswish",
               "hardsigmoid", "prelu", "rrelu", "logsigmoid", "softsign", "relu6", "erf", "sin", "square", "pow",
               "abs", "exp", "sqrt", "clamp", "threshold"}  # fmt: skip


class NotFeedForward(InputError):
    """The network is no chain of layers that the bounds from norms and counts are about."""


@dataclass
class Step:
    """One operation on the one tensor that the network hands on.

    Attributes:
      kind: "core" (a linear or convolution layer), "scale" (elementwise and affine), "average", "reindex", "reshape",
        "relu" or "max". where: module in which it was seen. apply: the operation, on any number of rows, in float64.
      shape: of its input, before: without the rows. after: of its output.
      weight: of a core. same: weight -> the core's linear map with another weight.
      window: places that one maximum or average reads, 0 where they differ. overlaps: whether windows share places.
    """

    kind: str
    where: str
    apply: Callable[[Any], Any]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    weight: Any = None
    same: Callable[[Any, Any], Any] | None = None
    parameters: int = 0
    window: int = 1
    overlaps: bool = False
    dense: bool = False


class WithoutCasts(TorchFunctionMode):
    """Numbers stay in float64, whatever the network casts them to."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        cast = getattr(function, "__name__", "") in CASTS and isinstance(arguments[0], torch.Tensor)
        if cast and arguments[0].is_floating_point():
            return arguments[0]
        return function(*arguments, **(named or {}))


class Watcher(WithoutCasts):
    """Writes down every operation on the tensor that comes from the input; refuses what leaves the chain."""

    def __init__(self, x: Any):
        super().__init__()
        self.rows = len(x)
        self.now: Any = x
        self.data, self.kept, self.steps = {id(x)}, [x], list[Step]()
        self.stack: list[tuple[str, str]] = []  # name and class of the modules that are running, outermost first

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        before = tuple(self.now.shape)
        result: Any = super().__torch_function__(function, types, arguments, named)
        flat = [v for a in (*arguments, *named.values()) for v in (a if isinstance(a, (list, tuple)) else (a,))]
        ours = [v for v in flat if isinstance(v, torch.Tensor) and id(v) in self.data]
        if not ours or not isinstance(result, (torch.Tensor, tuple, list)):
            return result
        if isinstance(result, tuple) and not any(isinstance(v, torch.Tensor) for v in result):
            return result  # a shape
        name = getattr(function, "__name__", str(function)).strip("_")
        if name in CASTS and result is self.now:
            return result
        self._refuse_unknown(name, ours, result)
        step, after = self._step(name, function, arguments, named), tuple(getattr(result, "shape", ()))
        if after[:1] != (self.rows,):
            raise self._refusal("an operation that mixes the rows of a batch", name)
        step.before, step.after = before[1:], after[1:]
        if step.kind == "scale" and step.before != step.after:
            raise self._refusal("an operation that repeats its input", name)
        if step.kind == "reshape":
            step.apply = lambda x, shape=step.after: x.reshape(len(x), *shape)
        self.steps.append(step)
        self.now = result
        self.data.add(id(result))
        self.kept.append(result)  # so that no id is used twice
        return result

    def enter(self, name: str) -> Callable[..., None]:
        """A hook for the start of a module."""

        def hook(module: Any, *_: Any) -> None:
            self.stack.append((name, type(module).__name__))

        return hook

    def leave(self, *_: Any) -> None:
        """The hook for its end."""
        self.stack.pop()

    @property
    def where(self) -> str:
        return self.stack[-1][0] if self.stack and self.stack[-1][0] else "the network"

    def _refusal(self, what: str, name: str) -> NotFeedForward:
        if any("attention" in kind.lower() for _, kind in self.stack):
            what = "attention"
        return NotFeedForward(f"'{self.where}' contains {what} ({name})", why="these bounds are about ReLU chains")

    def _refuse_unknown(self, name: str, ours: list[Any], result: Any) -> None:
        several = len(ours) > 1
        if name in ATTENTION or "attention" in name or (name in ("matmul", "mm") and several):
            raise self._refusal("attention, a product of two branches", name)
        if "softmax" in name or name == "softmin":
            raise self._refusal("a softmax", name)
        if name in ("glu",) or (several and name in ("mul", "imul", "div", "truediv")):
            raise self._refusal("gating, a product of two branches", name)
        if name in ("cat", "concat", "concatenate", "stack"):
            raise self._refusal("a concatenation of branches", name)
        if several and name in ("add", "iadd", "sub", "isub"):
            raise self._refusal("a shortcut, a sum of two branches", name)
        if name in NORMS:
            raise self._refusal("a normalisation by the input's own moments", name)
        if name in ACTIVATIONS:
            raise self._refusal("an activation that is not positively homogeneous, as ReLU is,", name)
        if several or ours[0] is not self.now:
            raise self._refusal("a branch: an earlier output is read again", name)
        if not isinstance(result, torch.Tensor):
            raise self._refusal("an operation with several results", name)

    def _step(self, name: str, function: Any, arguments: tuple, named: dict) -> Step:
        if name == "linear" or name in CONVOLUTIONS:
            return self._core(name, function, arguments, named)
        if name == "matmul" and arguments[0] is self.now and arguments[1].dim() == 2:
            weight = arguments[1].detach().T.clone()
            return self._linear(weight, None)
        if arguments and arguments[0] is self.now:
            rest = tuple(_frozen(v) for v in arguments[1:])
            options = {key: _frozen(v) for key, v in named.items() if key not in ("inplace", "return_indices")}
        else:
            rest, options = None, {}
        apply = lambda x: function(x, *(rest or ()), **options)
        fresh = lambda x: apply(x.clone())  # some work in place
        if name == "batch_norm" and rest is not None:
            return self._batch_norm(rest, options, apply)
        if name in ELEMENTWISE:
            return self._elementwise(name, function, arguments, named)
        if rest is None:
            raise self._refusal("an operation that is not understood", name)
        if name in RELU:
            slope = named.get("negative_slope", rest[0] if rest else 0.01)
            if name == "leaky_relu" and not 0 <= slope <= 1:
                raise self._refusal("an activation that is not 1-Lipschitz", name)
            return Step("relu", self.where, fresh)
        if name in MAXIMA | AVERAGES:
            kind = "max" if name in MAXIMA else "average"
            window, overlaps = self._window(name, rest, options)
            return Step(kind, self.where, apply, window=window, overlaps=overlaps)
        if name in RESHAPES or name in DROPOUTS:
            if name in DROPOUTS and named.get("training", rest[1] if len(rest) > 1 else False):
                raise self._refusal("dropout that is active in evaluation mode", name)
            return Step("reshape", self.where, apply)
        if name in REINDEXES:
            if name == "pad" and named.get("mode", rest[1] if len(rest) > 1 else "constant") != "constant":
                raise self._refusal("padding that repeats the input", name)
            return Step("reindex", self.where, apply)
        raise self._refusal("an operation that is not understood", name)

    def _core(self, name: str, function: Any, arguments: tuple, named: dict) -> Step:
        keys = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(keys, arguments, strict=False)) | named
        if given["input"] is not self.now or any(id(given.get(k)) in self.data for k in ("weight", "bias")):
            raise self._refusal("a layer whose weights depend on the input", name)
        weight, bias = _frozen(given["weight"]), _frozen(given.get("bias"))
        if name == "linear":
            return self._linear(weight, bias)
        rest = {key: given[key] for key in keys[3:] if key in given}
        same = lambda x, w: function(x, w, None, **rest)
        apply = lambda x: function(x, weight, bias, **rest)
        count = weight.numel() + (0 if bias is None else bias.numel())
        return Step("core", self.where, apply, weight=weight, same=same, parameters=count)

    def _linear(self, weight: Any, bias: Any) -> Step:
        same = torch.nn.functional.linear
        count = weight.numel() + (0 if bias is None else bias.numel())
        dense = self.now.dim() == 2
        apply = lambda x: same(x, weight, bias)
        return Step("core", self.where, apply, weight=weight, same=same, parameters=count, dense=dense)

    def _batch_norm(self, rest: tuple, named: dict, apply: Callable[[Any], Any]) -> Step:
        given = dict(zip(("running_mean", "running_var", "weight", "bias", "training"), rest, strict=False)) | named
        if given.get("training") or given.get("running_mean") is None:
            raise self._refusal("BatchNorm without running statistics", "batch_norm")
        return Step("scale", self.where, apply, parameters=2 * given["running_mean"].numel())

    def _elementwise(self, name: str, function: Any, arguments: tuple, named: dict) -> Step:
        place = next(k for k, v in enumerate(arguments) if v is self.now)
        if "div" in name and place != 0:
            raise self._refusal("a division by the input", name)
        others = [_frozen(v) for v in arguments]
        options = {key: v for key, v in named.items() if key != "out"}
        count = sum(v.numel() for v in others if isinstance(v, torch.Tensor) and v is not others[place])

        def elementwise(x: Any) -> Any:
            return function(*(x.clone() if k == place else v for k, v in enumerate(others)), **options)

        return Step("scale", self.where, elementwise, parameters=count)

    def _window(self, name: str, rest: tuple, named: dict) -> tuple[int, bool]:
        """Places in a window (0: they differ from window to window) and whether windows overlap."""
        shape = tuple(self.now.shape)
        if name == "mean":
            axes = named.get("dim", rest[0] if rest else None)
            axes = tuple(range(len(shape))) if axes is None else axes
            axes = [axis % len(shape) for axis in (axes if isinstance(axes, (list, tuple)) else (axes,))]
            if 0 in axes:
                raise self._refusal("an average over the rows of a batch", name)
            return int(torch.tensor([shape[axis] for axis in axes]).prod()), False
        k = int(name[-2])
        each = lambda value: tuple(value) if isinstance(value, (list, tuple)) else (value,) * k
        size = shape[-k:]
        if name.startswith("adaptive"):
            wanted = each(named.get("output_size", rest[0] if rest else 1))
            wanted = tuple(s if w is None else w for s, w in zip(size, wanted, strict=True))
            whole = all(s % w == 0 for s, w in zip(size, wanted, strict=True))
            window = int(torch.tensor([s // w for s, w in zip(size, wanted, strict=True)]).prod())
            return (window, False) if whole else (0, True)
        names = ("kernel_size", "stride", "padding")
        names += ("dilation", "ceil_mode") if "max" in name else ("ceil_mode", "count_include_pad", "divisor_override")
        given = dict(zip(names, rest, strict=False)) | named
        kernel = each(given["kernel_size"])
        stride = each(given.get("stride") or kernel)
        overlaps = any(a < b for a, b in zip(stride, kernel, strict=True)) or any(
            d > 1 for d in each(given.get("dilation", 1))
        )
        window = int(torch.tensor(kernel).prod())
        padded = any(each(given.get("padding", 0)))
        differ = given.get("ceil_mode") or (padded and not given.get("count_include_pad", True))
        if "avg" in name and (differ or given.get("divisor_override")):
            window = 0
        return window, overlaps


def _frozen(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
