"""Activations as matrices: one row for every position of every input, one column for every node."""

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from .groups import CONVOLUTIONS


def node_rows(module: Any, value: Any, places: np.ndarray | None = None) -> Any:
    """(rows, m) of what a layer reads or writes.

    Args:
      module: the layer. value: its input or output.
      places: (m, s) positions of the nodes along the channel axis; the s positions of a node become rows.
    """
    if isinstance(module, CONVOLUTIONS):
        value = value.movedim(1, -1)
    value = value.reshape(-1, value.shape[-1])
    if places is None:
        return value
    index = torch.as_tensor(places.T, device=value.device)  # (s, m)
    return value[:, index].reshape(-1, places.shape[0])


def thinned(value: Any, most: int, generator: Any) -> Any:
    """At most `most` of the rows, chosen at random."""
    if len(value) <= most:
        return value
    return value[torch.randperm(len(value), generator=generator)[:most].to(value.device)]


def choose_positions(module: Any, output: Any, most: int, generator: Any) -> Any:
    """Flat indices of at most `most` rows of a layer's output."""
    axis = 1 if isinstance(module, CONVOLUTIONS) else -1
    count = output.numel() // output.shape[axis]
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:most]


def output_rows(module: Any, output: Any, index: Any) -> Any:
    """(rows, o) of the output at flat positions."""
    return node_rows(module, output)[index.to(output.device)]


def patch_rows(module: Any, value: Any, index: Any) -> Any:
    """(rows, groups, columns) that the weight multiplies at flat output positions, zeros of padding included."""
    if not isinstance(module, CONVOLUTIONS):
        return value.reshape(-1, value.shape[-1])[index.to(value.device)][:, None]
    padded, shape = _padded(module, value)
    place, index = [], index.to(value.device)
    for size in reversed(shape):
        place.insert(0, index % size)
        index = index // size
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    dims = len(kernel)
    where: list[Any] = [index.reshape(-1, *[1] * (dims + 1)), torch.arange(value.shape[1]).reshape(1, -1, *[1] * dims)]
    for axis in range(dims):
        taps = torch.arange(kernel[axis], device=value.device) * dilation[axis]
        taps = taps.reshape(1, 1, *[-1 if k == axis else 1 for k in range(dims)])
        where.append(place[axis].reshape(-1, *[1] * (dims + 1)) * stride[axis] + taps)
    patches = padded[tuple(where)]
    return patches.reshape(len(patches), module.groups, -1)


def _padded(module: Any, value: Any) -> tuple[Any, list[int]]:
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    elif module.padding == "valid":
        pads = [(0, 0)] * len(kernel)
    else:
        pads = [(p, p) for p in module.padding]
    flat = [p for pair in reversed(pads) for p in pair]
    mode = "constant" if module.padding_mode == "zeros" else str(module.padding_mode)
    padded = F.pad(value, flat, mode=mode) if any(flat) else value
    shape = [
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(padded.shape[2:], dilation, kernel, stride, strict=True)
    ]
    return padded, shape
