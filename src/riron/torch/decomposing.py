"""Layers in place of one: Tucker-2 of convolutions and truncated SVD of linear layers, weighted by the data.

Directions instead of nodes: a convolution becomes 1x1 (c -> r2), the kernel (r2 -> r1), 1x1 (r1 -> o). Both sides are
weighted: the output side by the covariance of the pre-activation, the input side by the second moment of the channels.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ..checks import nearest
from ..errors import InputError
from .groups import CONVOLUTIONS, LAYERS
from .inputs import Batch, as_batches, check_fits, example, split
from .rows import node_rows
from .tracing import trace

KINDS = {kind.__name__: kind for kind in LAYERS}


def decompose(
    model: Any,
    data: Any = None,
    *,
    ranks: Mapping[str, tuple[int, int]] | None = None,
    keep: float | None = None,
    ignore: Iterable[str] = (),
    example_inputs: Any = None,
    holdout: float = 0.5,
    confidence: float = 0.95,
    seed: int = 0,
) -> Any:
    """Replaces layers by products of smaller ones.

    Args:
      model: any module; copied, never changed.
      data: inputs, for the weighting and the measurement; None: the weights alone decide.
      ranks: layer -> (output rank, input rank); for linear and 1x1 layers the smaller of the two counts.
      keep: or the fraction of the outputs and inputs of every layer that is kept as a rank; layers that would not get
        cheaper stay.
      ignore: modules that stay. example_inputs: needed without data.
      holdout, confidence, seed: as in `compress`.

    Returns: a CompressedModel.

    Raises:
      InputError: not exactly one of ranks and keep, ranks outside 1..size, an unknown layer, grouped convolutions.

    Source: Tucker-2 after Kim et al., ICLR 2016; CP and Tucker rank as the size of a layer: Li, Sun, Liu, Suzuki &
      Huang, AISTATS 2020. The weighting is ours.
    """
    from .building import measure, size_totals
    from .compressed_model import CompressedModel, Report

    if (ranks is None) == (keep is None):
        raise InputError("give exactly one of ranks and keep")
    if keep is not None and not 0 < keep <= 1:
        raise InputError(f"keep={keep} is outside (0, 1]", do="give a fraction, such as keep=0.5")
    if data is None and example_inputs is None:
        raise InputError("there is neither data nor example_inputs", do="pass inputs; no labels are needed")
    original = copy.deepcopy(model).eval()
    batches = as_batches(example_inputs if data is None else data, original)
    check_fits(original, example(batches))
    fitting, held_out = (batches, []) if data is None else split(batches, holdout, seed)
    before = trace(original, example(fitting))
    modules = dict(original.named_modules())
    for name in (*ignore, *(ranks or {})):
        if name not in modules:
            raise InputError(f"the model has no module '{name}'", do=nearest(name, list(modules)))
    chosen = _ranks(modules, before.order, ranks, keep, tuple(ignore))
    if not chosen:
        raise InputError("no layer would get cheaper", do="ask for smaller ranks")
    moments = _moments(original, chosen, [] if data is None else fitting)
    result, structure, rows = copy.deepcopy(original), {}, []
    for name, (r1, r2) in chosen.items():
        layers, left = _factors(modules[name], r1, r2, *moments[name])
        structure[name] = [_spec(layer) for layer in layers]
        _replace(result, name, layers)
        size = modules[name].weight.shape
        rows.append(
            {"layer": name, "nodes": int(size[0]), "kept": r1, "inputs": int(size[1]), "rank_in": r2, "left": left}
        )
    after = trace(result, example(fitting))
    report = Report(rows, [], size_totals(original, result, before, after))
    done = CompressedModel(result.eval(), report, None, {}, {}, structure)
    measure(original, done, held_out, confidence)
    return done


def rebuild(model: Any, name: str, layers: list[dict[str, Any]]) -> None:
    """Puts fresh layers of the recorded sizes in place of one."""
    _replace(model, name, [KINDS[layer["kind"]](**{k: v for k, v in layer.items() if k != "kind"}) for layer in layers])


def _replace(model: Any, name: str, layers: list[Any]) -> None:
    parent, _, key = name.rpartition(".")
    setattr(dict(model.named_modules())[parent], key, nn.Sequential(*layers))


def _spec(layer: Any) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
    else:
        sizes = {
            key: getattr(layer, key)
            for key in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
        }
    return {"kind": type(layer).__name__, **sizes, "bias": layer.bias is not None}


def _is_flat(layer: Any) -> bool:
    return layer.weight[0, 0].numel() == 1


def _ranks(
    modules: dict[str, Any], order: dict[str, int], ranks: Mapping[str, tuple[int, int]] | None, keep: float | None,
    ignore: tuple[str, ...],
) -> dict[str, tuple[int, int]]:  # fmt: skip
    found = {}
    for name in order:
        layer = modules[name]
        skipped = any(name == part or name.startswith(f"{part}.") for part in ignore)
        if skipped or (ranks is not None and name not in ranks):
            continue
        o, c = layer.weight.shape[:2]
        if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
            if ranks is not None:
                raise InputError(f"'{name}' is a grouped convolution, which is not decomposed")
            continue
        if ranks is not None:
            r1, r2 = ranks[name]
            if not (1 <= r1 <= o and 1 <= r2 <= c):
                raise InputError(f"ranks {(r1, r2)} of '{name}' are outside (1..{o}, 1..{c})")
        else:
            r1, r2 = (max(1, int(np.ceil(float(keep or 1) * size))) for size in (o, c))
            taps = layer.weight[0, 0].numel()
            cheaper = min(r1, r2) * (o + c) if _is_flat(layer) else c * r2 + r1 * r2 * taps + r1 * o
            if cheaper >= o * c * taps:
                continue
        found[name] = (r1, r2)
    return found


def _moments(model: Any, names: Iterable[str], batches: list[Batch]) -> dict[str, tuple[Any, Any, Any]]:
    """Second moment of what each layer reads, mean and covariance of what it gives; None without batches."""
    if not batches:
        return dict.fromkeys(names, (None, None, None))
    sums: dict[str, list[Any]] = {name: [0, 0.0, 0, 0.0, 0.0] for name in names}

    def seen(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            x, z = node_rows(module, inputs[0]).double(), node_rows(module, output).double()
            s = sums[name]
            s[0], s[1] = s[0] + len(x), s[1] + x.mT @ x
            s[2], s[3], s[4] = s[2] + len(z), s[3] + z.sum(0), s[4] + z.mT @ z

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(seen(name)) for name in names]
    try:
        with torch.no_grad():
            for batch in batches:
                batch.call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: (S / n, first / m, second / m - torch.outer(first / m, first / m))
        for name, (n, S, m, first, second) in sums.items()
    }


def _root(S: Any) -> tuple[Any, Any]:
    """S^1/2 and its pseudo-inverse."""
    values, vectors = torch.linalg.eigh((S + S.mT) / 2)
    values = values.clamp_min(float(values[-1]) * 1e-10)
    return (vectors * values.sqrt()) @ vectors.mT, (vectors / values.sqrt()) @ vectors.mT


def _factors(layer: Any, r1: int, r2: int, S: Any, mean: Any, covariance: Any) -> tuple[list[Any], float]:
    """The layers in place of one, and the share of the pre-activation's variance that the output rank leaves."""
    W = layer.weight.detach().double()
    o, c = W.shape[:2]
    bias = torch.zeros(o, dtype=W.dtype) if layer.bias is None else layer.bias.detach().double()
    if covariance is None:
        unfolded = W.reshape(o, -1)
        covariance, mean = unfolded @ unfolded.mT, bias
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    flat = _is_flat(layer)
    rank = min(r1, r2) if flat else r1
    U = vectors.flip(1)[:, :rank]
    left = float(1 - values.flip(0)[:rank].sum() / values.sum().clamp_min(1e-300))
    rest = bias - U @ (U.mT @ bias) if layer.bias is None else mean - U @ (U.mT @ (mean - bias))
    makes = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    keeps_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        layers = [nn.Linear(c, rank, bias=False, **makes), nn.Linear(rank, o, bias=keeps_bias, **makes)]
        weights = [U.mT @ W, U]
    else:
        kind = type(layer)
        last = kind(rank, o, 1, bias=keeps_bias, **makes)
        one = (1,) * (W.ndim - 2)
        moved = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        moved["padding_mode"] = layer.padding_mode
        projected = torch.einsum("ro,o...->r...", U.mT, W)
        if flat:
            layers = [kind(c, rank, layer.kernel_size, bias=False, **moved, **makes), last]
            weights = [projected, U.reshape(o, rank, *one)]
        else:
            half, inverse = _root(torch.eye(c, dtype=W.dtype) if S is None else S)
            unfolded = projected.movedim(1, -1).reshape(-1, c) @ half
            Q = torch.linalg.svd(unfolded, full_matrices=False)[2][: min(r2, c)].mT
            core = torch.einsum("rc...,cq->rq...", projected, half @ Q)
            first = kind(c, Q.shape[1], 1, bias=False, **makes)
            layers = [first, kind(Q.shape[1], rank, layer.kernel_size, bias=False, **moved, **makes), last]
            weights = [(Q.mT @ inverse).reshape(-1, c, *one), core, U.reshape(o, rank, *one)]
    with torch.no_grad():
        for new, weight in zip(layers, weights, strict=True):
            new.weight.copy_(weight)
        if keeps_bias:
            layers[-1].bias.copy_(rest)
    return layers, max(left, 0.0)
