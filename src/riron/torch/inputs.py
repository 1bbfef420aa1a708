"""Calibration data in whatever form it comes, as batches of the arguments of `model.forward`."""

import inspect
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError

ROWS, FEWEST_ROWS = 64, 8  # inputs in one batch, where the batches are ours to make
NUMBERS = 2**20  # in the inputs of one batch: larger ones leave the processor's cache and cost memory


@dataclass(frozen=True)
class Batch:
    """The arguments of one call of the model, and the labels that came with them, if any."""

    arguments: tuple[Any, ...]
    named: dict[str, Any] = field(default_factory=dict)
    labels: Any = None

    @property
    def tensors(self) -> list[Any]:
        return [v for v in (*self.arguments, *self.named.values()) if isinstance(v, torch.Tensor)]

    def __len__(self) -> int:
        return len(self.tensors[0])

    def call(self, model: Any) -> Any:
        """The model's output."""
        return model(*self.arguments, **self.named)

    def rows(self, index: Any) -> "Batch":
        """Some of the inputs."""
        take = lambda v: v[index] if isinstance(v, torch.Tensor) and v.ndim and len(v) == len(self) else v
        arguments = tuple(take(v) for v in self.arguments)
        return Batch(arguments, {k: take(v) for k, v in self.named.items()}, take(self.labels))

    def to(self, device: Any) -> "Batch":
        """The same on a device."""
        move = lambda v: v.to(device) if isinstance(v, torch.Tensor) else v
        arguments = tuple(move(v) for v in self.arguments)
        return Batch(arguments, {k: move(v) for k, v in self.named.items()}, move(self.labels))


def as_batches(data: Any, model: Any) -> list[Batch]:
    """Batches from a tensor, an array, a tuple or dict of tensors, a DataLoader or any iterable of such batches.

    They are made smaller where the inputs are large. The second of a pair is a label where the model takes one argument
    only, or where it is a vector of whole numbers beside an input of the same length.

    Raises:
      InputError: no data, or something that is not tensors.
    """
    if isinstance(data, Batch):
        data = [data]
    if isinstance(data, list) and data and all(isinstance(part, Batch) for part in data):
        return data
    one_batch = isinstance(data, (torch.Tensor, np.ndarray, Mapping)) or (
        isinstance(data, tuple) and all(isinstance(part, (torch.Tensor, np.ndarray)) for part in data)
    )
    if data is None or isinstance(data, str) or not isinstance(data, (Iterable, torch.Tensor, np.ndarray)):
        raise InputError("there is no calibration data", do="pass a tensor, or batches of inputs: 256 to 2000 of them")
    most = _positional(model)
    batches = [_batch(part, most) for part in ([data] if one_batch else data)]
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        raise InputError("the calibration data is empty", do="pass 256 to 2000 inputs; no labels are needed")
    return [part for batch in batches for part in _parts(batch)]


def _parts(batch: Batch) -> list[Batch]:
    largest = max(tensor[0].numel() for tensor in batch.tensors)
    rows = int(np.clip(NUMBERS // max(largest, 1), FEWEST_ROWS, ROWS))
    return [batch.rows(slice(k, k + rows)) for k in range(0, len(batch), rows)]


def split(batches: list[Batch], held_out: float, seed: int) -> tuple[list[Batch], list[Batch]]:
    """Calibration and held-out batches. Inputs of one shape are shuffled one by one, others batch by batch."""
    if held_out == 0:
        return batches, []
    rng = np.random.default_rng(seed)
    merged = _merge(batches)
    if merged is None:
        if len(batches) == 1:
            merged = batches[0]
        else:
            order = rng.permutation(len(batches))
            cut = min(max(round(held_out * len(batches)), 1), len(batches) - 1)
            return [batches[k] for k in sorted(order[cut:])], [batches[k] for k in sorted(order[:cut])]
    n = len(merged)
    if n < 2:
        raise InputError("one calibration input cannot be split", do="pass more inputs, or holdout=0")
    order = rng.permutation(n)
    cut = min(max(round(held_out * n), 1), n - 1)
    parts = (merged.rows(torch.as_tensor(order[cut:])), merged.rows(torch.as_tensor(order[:cut])))
    kept, held = ([part.rows(slice(k, k + ROWS)) for k in range(0, len(part), ROWS)] for part in parts)
    return kept, held


def shared_inputs(calibration: list[Batch], held_out: list[Batch]) -> list[str]:
    """A warning, as a list of one or no sentence, where held-out inputs are calibration inputs too."""

    def digests(batches: list[Batch]) -> list[int]:
        columns = [[t.detach().cpu().contiguous().numpy() for t in b.tensors if len(t) == len(b)] for b in batches]
        return [hash(tuple(c[k].tobytes() for c in part)) for part in columns for k in range(len(part[0]))]

    if not held_out:
        return []
    known = set(digests(calibration))
    count = sum(digest in known for digest in digests(held_out))
    if not count:
        return []
    said = f"{count} held-out inputs are calibration inputs too and the guarantee assumes none; pass distinct inputs"
    warnings.warn(said, stacklevel=3)
    return [said]


def example(batches: list[Batch]) -> Batch:
    """The first two inputs: a batch of one would hide which axis counts the inputs."""
    return batches[0].rows(slice(0, 2))


def main_output(output: Any) -> Any:
    """The tensor that decides, of whatever the model returns: `logits` where there are some, else the first floats."""
    if isinstance(output, torch.Tensor):
        return output
    for name in ("logits", "last_hidden_state"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, torch.Tensor):
            return value
    values = output.values() if isinstance(output, Mapping) else output
    if isinstance(values, Iterable):
        for value in values:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value
    raise InputError(f"the model returns {type(output).__name__}, in which no tensor of numbers was found")


def check_fits(model: Any, batch: Batch) -> Any:
    """The output on a small batch; a failing call becomes a sentence with the shape that the model expects."""
    try:
        with torch.no_grad():
            return main_output(batch.call(model))
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(v.shape)) for v in batch.tensors)
        expected = _expected(model)
        said = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(
            f"the model cannot be run on the data (shapes {shapes}): {said}", do=expected and f"it expects {expected}"
        ) from error


def _expected(model: Any) -> str:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            return f"{module.in_features} features in the last axis (layer '{name}')"
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
            axes = ", length" if isinstance(module, torch.nn.Conv1d) else ", height, width"
            return f"(inputs, {module.in_channels}{axes}) (layer '{name}')"
    return ""


def _positional(model: Any) -> int:
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 1000
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _batch(part: Any, most: int) -> Batch:
    if isinstance(part, Batch):
        return part
    if isinstance(part, Mapping):
        named = {str(k): _tensor(v) for k, v in part.items()}
        labels = named.pop("labels", None)
        batch = Batch((), named, labels)
    else:
        values = [_tensor(v) for v in part] if isinstance(part, (tuple, list)) else [_tensor(part)]
        labels = None
        if len(values) == 2 and isinstance(values[1], torch.Tensor):
            whole = not values[1].is_floating_point() and values[1].ndim == 1 and values[0].ndim > 1
            if most == 1 or whole:
                labels = values.pop()
        batch = Batch(tuple(values), {}, labels)
    if not batch.tensors or batch.tensors[0].ndim == 0:
        raise InputError(
            f"a batch of the calibration data is {type(part).__name__} without a tensor in it",
            do="pass tensors, or batches of tensors",
        )
    return batch


def _merge(batches: list[Batch]) -> Batch | None:
    """All batches as one, or None where their shapes differ."""
    first = batches[0]
    columns = [[*b.arguments, *b.named.values(), b.labels] for b in batches]
    if len({len(c) for c in columns}) > 1:
        return None
    merged = []
    for values in zip(*columns, strict=True):
        if not isinstance(values[0], torch.Tensor):
            merged.append(values[0])
        elif len({v.shape[1:] for v in values}) > 1:
            return None
        else:
            merged.append(torch.cat(values))
    k = len(first.arguments)
    return Batch(tuple(merged[:k]), dict(zip(first.named, merged[k:-1], strict=True)), merged[-1])
