"""Layers in place of one: what stands in a network instead of a layer that was decomposed, and how it is recorded."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from .attention.split import SplitAttention, sizes_of
from .factors.tucker import Factors
from .groups import LAYERS

KINDS = {kind.__name__: kind for kind in (*LAYERS, SplitAttention)}
GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode", "groups")


def replace_layer(model: Any, name: str, layers: list[Any]) -> None:
    """Puts a sequence of layers in place of one."""
    parent, _, key = name.rpartition(".")
    setattr(dict(model.named_modules())[parent], key, nn.Sequential(*layers))


def rebuild(model: Any, name: str, layers: list[dict[str, Any]]) -> None:
    """Puts fresh layers of the recorded sizes in place of one."""
    made = [KINDS[layer["kind"]](**{k: v for k, v in layer.items() if k != "kind"}) for layer in layers]
    like = next(dict(model.named_modules())[name].parameters())
    for part in made:
        part.to(like)
    if isinstance(made[0], SplitAttention):
        parent, _, key = name.rpartition(".")
        setattr(dict(model.named_modules())[parent], key, made[0])
    else:
        replace_layer(model, name, made)


def recorded(layer: Any) -> dict[str, Any]:
    """What `rebuild` needs to make such a layer."""
    if isinstance(layer, SplitAttention):
        return {"kind": "SplitAttention", **sizes_of(layer)}
    if isinstance(layer, nn.Linear):
        sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
    else:
        sizes = {key: getattr(layer, key) for key in GEOMETRY}
    kind = next(name for name, made in KINDS.items() if isinstance(layer, made))
    return {"kind": kind, **sizes, "bias": layer.bias is not None}


def tucker_layers(layer: Any, factors: Factors) -> list[Any]:
    """1x1, kernel, 1x1; a side of full rank has no layer of its own."""
    weights, o, c = [], layer.weight.shape[0], layer.weight.shape[1]
    r1, r2 = factors.G.shape[:2]
    if isinstance(layer, nn.Linear):
        made = [nn.Linear(c, r1, **_like(layer, factors.U is None))]
        weights = [factors.G[:, :, 0]]
        if factors.U is not None:
            made.append(nn.Linear(r1, o, **_like(layer, True)))
            weights.append(factors.U)
        return _filled(made, weights)
    kind = _kind(layer)
    made = [kind(r2, r1, layer.kernel_size, **_moves(layer), **_like(layer, factors.U is None))]
    weights = [factors.G]
    if factors.V is not None:
        made.insert(0, kind(c, r2, 1, **_like(layer, False)))
        weights.insert(0, factors.V)
    if factors.U is not None:
        made.append(kind(r1, o, 1, **_like(layer, True)))
        weights.append(factors.U)
    return _filled(made, weights)


def canonical_layers(layer: Any, a: Any, b: Any, C: Any) -> list[Any]:
    """1x1 (c -> R), a kernel for each component, 1x1 (R -> o)."""
    kind, rank = _kind(layer), a.shape[1]
    made = [
        kind(b.shape[0], rank, 1, **_like(layer, False)),
        kind(rank, rank, layer.kernel_size, groups=rank, **_moves(layer), **_like(layer, False)),
        kind(rank, a.shape[0], 1, **_like(layer, True)),
    ]
    return _filled(made, [b.mT, C.mT, a])


def _kind(layer: Any) -> Any:
    return next(made for made in KINDS.values() if isinstance(layer, made))


def _moves(layer: Any) -> dict[str, Any]:
    return {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "padding_mode")}


def _like(layer: Any, last: bool) -> dict[str, Any]:
    bias = last and layer.bias is not None
    return {"bias": bias, "device": layer.weight.device, "dtype": layer.weight.dtype}


def _filled(layers: list[Any], weights: list[Any]) -> list[Any]:
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(weight.reshape(layer.weight.shape))
    return layers
