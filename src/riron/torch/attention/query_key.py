"""Pairs of a query and a key column: which of them the scores Q K^T of each head can do without."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..groups import Group, cut_by_hand, on, slice_rows
from ..inputs import Batch, main_output
from .heads import SIZES, count_around, randomised

HEAD_SIZES = ("attention_head_size", "head_dim", "head_size", "dim_head", "dim_per_head", "d_head", "d_k", "d_kv")
CLOSE = 1e-4  # relative difference of outputs below which they are the same


@dataclass(frozen=True)
class Pairs:
    """The columns (h, c) of the queries and keys of one attention.

    Attributes:
      group: nodes are the pairs, producers the query and the key layer; nothing reads them but the scores.
      owner: the module that counts its heads. count, size: heads and pairs of each.
      rescale: whether the module derives its scale from the size left, so that the queries must undo that.
      values: where the module gives query, key and value one size, the columns of the values, cut along with the pairs
        and reconstructed in the output projection. sizes: (module, attribute) that hold the size of a head.
    """

    group: Group
    owner: str
    count: int
    size: int
    rescale: bool = False
    values: Group | None = None
    sizes: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.group.name


def find_pairs(model: Any, groups: list[Group], batch: Batch) -> tuple[list[Pairs], list[str]]:
    """The pairs that can be cut, and a sentence for each attention whose pairs cannot.

    An attention qualifies if it still runs with one pair fewer in each head and then gives what the original gives
    with the queries of that pair set to zero.
    """
    found, notes = [], []
    for group in groups:
        if group.kind != "attention":
            continue
        if len(group.producers) != 3 or group.reason:
            notes.append(f"pairs not cut: '{group.name}' is not a projection to queries beside one to keys")
            continue
        count = count_around(model, group)
        if isinstance(count, str):
            notes.append(f"pairs not cut: {count}")
            continue
        heads, size = count[2], group.width // count[2]
        query, key = _scored(model, group, batch)
        if query is None or size < 2:
            notes.append(f"pairs not cut: the scores of '{group.name}' could not be followed")
            continue
        name = f"{query.name} x {key.name}"
        made = Group(name, group.width, (query, key), (), (), "pairs", "", heads)
        alone = Pairs(made, count[0], heads, size)
        value = next(side for side in group.producers if side.name not in (query.name, key.name))
        values = Group(value.name, group.width, (value,), group.readers, (), "attention", "", heads, by_hand=True)
        together = replace(alone, values=values, sizes=_sizes(model, count[0], query.name, size))
        for pairs in (alone, together):
            rescale = _rescale(model, pairs, batch)
            if isinstance(rescale, bool):
                found.append(replace(pairs, rescale=rescale))
                break
        else:
            notes.append(f"pairs not cut: '{group.name}' does not run with smaller heads ({rescale})")
    return found, notes


def _sizes(model: Any, owner: str, inside: str, size: int) -> tuple[tuple[str, str], ...]:
    """Where the modules from the one that counts the heads down to the layer hold the size of a head."""
    modules = dict(model.named_modules())
    path = [name for name in modules if name == owner or (name.startswith(owner) and inside.startswith(f"{name}."))]
    return tuple((name, key) for name in path for key in HEAD_SIZES if getattr(modules[name], key, None) == size)


def shrink_sizes(model: Any, pairs: Pairs, size: int) -> None:
    """Tells the modules how large a head is."""
    modules = dict(model.named_modules())
    for name, key in pairs.sizes:
        setattr(modules[name], key, size)
        for whole in SIZES:
            if getattr(modules[name], whole, None) == pairs.count * pairs.size:
                setattr(modules[name], whole, pairs.count * size)


def _output(model: Any, batch: Batch) -> Any:
    with torch.no_grad():
        return main_output(batch.call(model)).double()


def _scored(model: Any, group: Group, batch: Batch) -> tuple[Any, Any]:
    """The query and the key layer: a constant added to a key's bias changes nothing, as softmax does not see it."""
    model = randomised(model, [side.name for side in (*group.producers, *group.readers)])
    whole = _output(model, batch)
    changes = []
    for side in group.producers:
        trial = copy.deepcopy(model)
        layer = dict(trial.named_modules())[side.name]
        with torch.no_grad():
            shift = torch.linspace(0.5, 1.5, len(layer.weight)).to(layer.weight)
            layer.register_forward_hook(lambda module, inputs, output, shift=shift: output + shift)
        changes.append(float((_output(trial, batch) - whole).norm() / whole.norm().clamp_min(1e-300)))
    key = int(np.argmin(changes))
    if changes[key] > CLOSE:
        return None, None
    rest = [k for k in range(3) if k != key]
    for k in rest:  # without its queries a head takes the mean of the values; without values it gives nothing
        trial = copy.deepcopy(model)
        layers = dict(trial.named_modules())
        zero = lambda module, inputs, output: torch.zeros_like(output)
        layers[group.producers[k].name].register_forward_hook(zero)
        without = _output(trial, batch)
        layers[group.producers[key].name].register_forward_hook(zero)
        if float((_output(trial, batch) - without).norm() / whole.norm().clamp_min(1e-300)) < CLOSE:
            other = next(r for r in rest if r != k)
            layers[group.producers[other].name].register_forward_hook(zero)
            if float((_output(trial, batch) - without).norm() / whole.norm().clamp_min(1e-300)) > CLOSE:
                return group.producers[k], group.producers[key]
    return None, None


def _rescale(model: Any, pairs: Pairs, batch: Batch) -> bool | str:
    """Whether the scale depends on the size left, or why the module cannot have another size."""
    group, values, size = pairs.group, pairs.values, pairs.size
    dropped = np.arange(pairs.count) * size
    kept = np.setdiff1d(np.arange(group.width), dropped)
    silent = randomised(model, [side.name for side in group.producers])
    cut = copy.deepcopy(silent)
    layers = dict(silent.named_modules())
    with torch.no_grad():
        query = layers[group.producers[0].name]
        query.weight[dropped] = 0
        if query.bias is not None:
            query.bias[dropped] = 0
        if values is not None:
            layers[values.readers[0].name].weight[:, dropped] = 0
    wanted = _output(silent, batch)
    layers = dict(cut.named_modules())
    for side in group.producers:
        slice_rows(layers[side.name], kept)
    if values is not None:
        cut_by_hand(on(cut, [values])[0], kept)
        shrink_sizes(cut, pairs, size - 1)
    try:
        for rescale in (False, True):
            if rescale:
                scale_layer(layers[group.producers[0].name], ((size - 1) / size) ** 0.5)
            got = _output(cut, batch)
            if got.shape == wanted.shape and float((got - wanted).norm() / wanted.norm().clamp_min(1e-300)) < CLOSE:
                return rescale
    except Exception as error:  # the forward is somebody else's: whatever it raises is the reason
        return f"{type(error).__name__}: {str(error)[:80]}"
    return "its scores come out otherwise"


def scale_layer(layer: Any, factor: float) -> None:
    """Multiplies what a layer gives."""
    with torch.no_grad():
        for value in (layer.weight, layer.bias):
            if value is not None:
                value.mul_(factor)


def pair_losses(model: Any, pairs: list[Pairs], batches: list[Batch]) -> dict[str, np.ndarray]:
    """(heads, size, size) G = E (q q^T) * (k k^T) of each head, elementwise, keys centred in each sequence.

    Dropping the pairs D changes the scores by E |q_D^T k_D|^2 = sum over D x D of G; what all keys share cancels in
    the softmax.
    """
    sums = {p.name: np.zeros((p.count, p.size, p.size)) for p in pairs}
    seen: dict[str, Any] = {}
    count = 0
    modules = dict(model.named_modules())

    def remember(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[name] = output

        return hook

    hooks = [modules[s.name].register_forward_hook(remember(s.name)) for p in pairs for s in p.group.producers]
    try:
        with torch.no_grad():
            for batch in batches:
                batch.call(model)
                n = len(batch)
                count += n
                for p in pairs:
                    q, k = (_by_head(seen[s.name], p, n) for s in p.group.producers)
                    k = k - k.mean(2, keepdim=True)
                    second = [x.mT @ x / x.shape[2] for x in (q, k)]
                    sums[p.name] += (second[0] * second[1]).sum(0).cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: value / count for name, value in sums.items()}


def _by_head(value: Any, p: Pairs, n: int) -> Any:
    """(n, heads, tokens, size), whichever of inputs and tokens comes first."""
    value = value.double()
    if value.dim() == 3 and value.shape[0] != n:
        value = value.transpose(0, 1)
    return value.reshape(n, -1, p.count, p.size).transpose(1, 2)


def best_pairs(G: np.ndarray, k: int) -> np.ndarray:
    """The nodes (h, c) kept, k of each head: those dropped one by one raise the loss least."""
    heads, size = G.shape[:2]
    kept = []
    for h in range(heads):
        left = np.ones(size, bool)
        for _ in range(size - k):
            rise = np.diag(G[h]) + 2 * G[h][:, ~left].sum(1)
            left[int(np.argmin(np.where(left, rise, np.inf)))] = False
        kept.append(np.flatnonzero(left) + h * size)
    return np.concatenate(kept)
