"""Decomposed layers in a network: moments of what they see, errors of their ranks, and the factors put in place."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ...errors import InputError
from ..folding import Fit, Moments, solve_ridge
from ..groups import Group, Side
from ..inputs import Batch
from ..metrics import NodeMoments, output_metrics, pass_over
from ..repairing import Pair
from ..replacing import canonical_layers, tucker_layers
from ..rows import choose_positions, node_rows, output_rows, patch_rows, thinned
from ..tracing import Trace
from .canonical import canonical
from .directions import Shape
from .tucker import Seen, root, surface, tucker

WEIGHTINGS = ("both", "end_to_end", "input", "plain")
REFITTED = ("both", "end_to_end")  # weightings under which layers are refitted to the original, one after the other
GRID = 10  # canonical ranks on the error curve of a layer
FLOOR = 1e-3  # share of the mean of a metric's spectrum that is added: no direction is free


def flat_weight(layer: Any) -> Any:
    """(o, c, taps) in float64."""
    weight = layer.weight.detach().double()
    return weight.reshape(*weight.shape[:2], -1)


def shape_of(name: str, layer: Any, trace: Trace) -> Shape:
    """Sizes of a layer."""
    o, c, taps = flat_weight(layer).shape
    return Shape(o, c, taps, trace.inputs[name], trace.positions[name])


def layer_moments(
    model: Any, names: list[str], batches: list[Batch], *, centred: dict[str, bool], columns: int, seed: int = 0
) -> dict[str, Seen]:
    """What each layer sees, by one pass without gradients."""
    modules = dict(model.named_modules())
    generator = torch.Generator().manual_seed(seed)
    channels = {name: NodeMoments() for name in names}
    outputs = {name: NodeMoments() for name in names}
    patches = {name: NodeMoments() for name in names if modules[name].weight[0].numel() <= columns}

    def seen(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if not bool(torch.isfinite(inputs[0]).all()) or not bool(torch.isfinite(output).all()):
                raise InputError(
                    f"the activations at layer '{name}' are not finite",
                    do="look for NaN or overflow in the weights or the data",
                )
            size = module.weight[0].numel()
            most = max(48 * size, 30_000) // len(batches) + 1
            index = choose_positions(module, output, most, generator)
            channels[name].add(thinned(node_rows(module, inputs[0]), most, generator))
            outputs[name].add(output_rows(module, output, index))
            if name in patches:
                patches[name].add(patch_rows(module, inputs[0], index)[:, 0])

        return hook

    pass_over(model, batches, [modules[name].register_forward_hook(seen(name)) for name in names])
    tensor = lambda value: torch.as_tensor(value, device=modules[names[0]].weight.device)
    return {
        name: Seen(
            tensor(channels[name].moment(centred[name])),
            tensor(patches[name].moment(centred[name])) if name in patches else None,
            tensor(outputs[name].moment(centred[name])),
        )
        for name in names
    }


def end_to_end_roots(
    model: Any, names: list[str], batches: list[Batch], trace: Trace, seed: int
) -> tuple[dict[str, Any], float]:
    """Root of the end-to-end metric on what each layer gives, and the variance of the output."""
    modules = dict(model.named_modules())
    sides = [Side(name, modules[name], np.arange(modules[name].weight.shape[0])[:, None]) for name in names]
    groups = [Group(side.name, len(side.places), (), (side,), (), "inner") for side in sides]
    metrics, variance = output_metrics(model, groups, batches, bytes_per_input=trace.total, seed=seed, after=True)
    roots = {}
    for name in names:
        M = torch.as_tensor(metrics[name, name], device=modules[name].weight.device)
        level = FLOOR * M.diagonal().mean().clamp_min(1e-300)
        roots[name] = root(M + level * torch.eye(len(M), dtype=M.dtype, device=M.device))[0]
    return roots, variance


def rank_errors(kind: str, layer: Any, shape: Shape, seen: Seen, seed: int) -> dict[tuple[int, int], float]:
    """Predicted error of a layer at each pair of ranks, in the metric of `seen`."""
    W = flat_weight(layer)
    if kind == "cp" and not shape.one_sided:
        return _canonical_errors(W, seen, seed)
    inputs = shape.inputs()
    errors = surface(W, seen, inputs).cpu().numpy()
    most = min(shape.o, shape.c * shape.taps)
    return {(r1, r2): float(errors[k, r1]) for k, r2 in enumerate(inputs) for r1 in range(1, most + 1)}


def _canonical_errors(W: Any, seen: Seen, seed: int) -> dict[tuple[int, int], float]:
    """Errors at a few ranks, those between by interpolation of their logarithm."""
    o, c, taps = W.shape
    dearest = max(2, o * c * taps // (o + c + taps))
    grid = np.unique(np.geomspace(1, dearest, GRID).round().astype(int))
    errors = [max(_canonical(W, int(rank), seen, seed, restarts=1, sweeps=40)[3], 1e-30) for rank in grid]
    errors = np.minimum.accumulate(errors)
    ranks = np.arange(1, dearest + 1)
    values = np.exp(np.interp(np.log(ranks), np.log(grid), np.log(errors)))
    return {(int(rank), int(rank)): float(value) for rank, value in zip(ranks, values, strict=True)}


def _canonical(W: Any, rank: int, seen: Seen, seed: int, **options: int) -> tuple[Any, Any, Any, float]:
    """Canonical factors in the metric of `seen`; with the patches' moment the output side is refitted to it."""
    S_half, S_inverse = (None, None) if seen.S is None else root(seen.S)
    T = W if seen.H is None else torch.einsum("ij,jct->ict", seen.H, W)
    D = T if S_half is None else torch.einsum("oct,cd->odt", T, S_half)
    a, b, C, error = canonical(D, rank, seed=seed, **options)
    b = b if S_inverse is None else S_inverse @ b
    if seen.P is not None:
        flat, features = T.reshape(len(T), -1), torch.einsum("cr,tr->rct", b, C).reshape(rank, -1)
        cross = flat @ seen.P @ features.mT
        a = solve_ridge(features @ seen.P @ features.mT, cross, 1e-10)
        error = float((flat @ seen.P * flat).sum() - (a * cross).sum())
    return (a if seen.H is None else root(seen.H @ seen.H)[1] @ a), b, C, max(error, 0.0)


@dataclass
class Factoring:
    """How layers are decomposed: the kind, the weighting, what each layer has seen, and what each was left with."""

    kind: str
    weighting: str
    seen: dict[str, Seen]
    roots: dict[str, Any]
    seed: int
    left: dict[str, float]

    def known(self, name: str, seen: Seen) -> Seen:
        """The part of what is known that the weighting uses."""
        if self.weighting == "plain":
            return Seen()
        if self.weighting == "input":
            return Seen(seen.S)
        return replace(seen, H=self.roots.get(name) if self.weighting == "end_to_end" else None)

    def layers(self, name: str, layer: Any, W: Any, ranks: tuple[int, int], seen: Seen) -> tuple[list[Any], Any]:
        """The layers in place of one, and the weight (o, c, taps) that they stand for."""
        shape = W.shape
        if self.kind == "cp" and shape[2] > 1 and shape[1] > 1:
            a, b, C, _ = _canonical(W, ranks[0], seen, self.seed)
            return canonical_layers(layer, a, b, C), torch.einsum("or,cr,tr->oct", a, b, C)
        factors = tucker(W, *ranks, seen)
        return tucker_layers(layer, factors), factors.product

    def finish(self, name: str, pair: Pair, ranks: tuple[int, int]) -> Callable[[Fit, Moments, bool], None]:
        """What puts the layers in place once the layer itself is refitted."""

        def put(fit: Fit, moments: Moments, centred: bool) -> None:
            layer = pair.compressed
            W = fit.weight.reshape(flat_weight(layer).shape)
            o, c, taps = W.shape
            seen = self.seen[name]
            mean = (moments.p / moments.n)[0]
            if moments.full:
                P = (moments.pp / moments.n)[0] - torch.outer(mean, mean) * float(centred)
                S = torch.einsum("ctdt->cd", P.reshape(c, taps, c, taps)) / taps
                Z = W.reshape(o, -1) @ P @ W.reshape(o, -1).mT
                seen = Seen(S, P, Z)
            layers, product = self.layers(name, layer, W, ranks, self.known(name, seen))
            D = (W - product).reshape(o, -1)
            if seen.P is not None and seen.Z is not None:
                self.left[name] = float((D @ seen.P * D).sum() / seen.Z.trace().clamp_min(1e-300))
            intercept = moments.z[0] / moments.n - product.reshape(o, -1) @ mean if centred else None
            self._place(pair, layers, intercept)

        return put

    def _place(self, pair: Pair, layers: list[Any], intercept: Any) -> None:
        with torch.no_grad():
            if layers[-1].bias is not None:
                bias = pair.original.bias.detach() if intercept is None else intercept
                layers[-1].bias.copy_(bias)
            elif intercept is not None and pair.compressed_norm is not None:
                norm = pair.compressed_norm
                norm.running_mean.sub_(intercept.to(norm.running_mean))
        for key in list(pair.host._modules):
            del pair.host._modules[key]
        pair.host.extend(layers)
