"""PyTorch modules as networks. PyTorch is never imported here: whoever passes a module has imported it already."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...errors import InputError


def is_torch_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's random numbers seeded, and afterwards as they were; nothing where PyTorch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class TorchNetwork:
    """A module that takes X (n, d) and gives (n,) or (n, K), in evaluation mode, as a function of its parameters.

    Parameters with `requires_grad=False`, and buffers, stay as they are. The module itself is not changed.
    """

    def __init__(self, module: Any):
        self.torch = torch = sys.modules["torch"]
        trained, fixed = {}, {}
        for name, value in module.named_parameters():
            (trained if value.requires_grad else fixed)[name] = self._double(value)
        fixed |= {name: self._double(value) for name, value in module.named_buffers()}
        if not trained:
            raise InputError("the PyTorch module has no parameters that require a gradient", do="leave some trainable")
        self.start = np.concatenate([value.numpy().ravel() for value in trained.values()])
        shapes = {name: value.shape for name, value in trained.items()}

        def outputs(theta, X):
            parts = torch.split(theta, [shape.numel() for shape in shapes.values()])
            named = {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
            training = module.training
            module.eval()
            try:
                f = torch.func.functional_call(module, named | fixed, (X,))
            finally:
                module.train(training)
            return f[:, None] if f.ndim == 1 else f

        self._outputs = outputs

    def _double(self, value: Any) -> Any:
        copy = value.detach().cpu().clone()
        return copy.double() if copy.is_floating_point() else copy

    def outputs(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        with self.torch.no_grad():
            return self._outputs(self.torch.tensor(theta), self.torch.tensor(X)).numpy()

    def jacobian(self, theta: np.ndarray, X: np.ndarray, first: int, last: int, max_bytes: float) -> np.ndarray:
        torch, flat = self.torch, self.torch.tensor(theta)

        def of_block(block, x):
            return self._outputs(torch.cat([flat[:first], block, flat[last:]]), x[None])[0]

        outputs = self.outputs(theta, X[:1]).shape[1]
        rows = int(np.clip(max_bytes / (8 * outputs * len(theta)), 1, len(X)))
        by_row = torch.func.vmap(torch.func.jacrev(of_block), in_dims=(None, 0), chunk_size=rows)
        return by_row(flat[first:last], torch.tensor(X)).detach().numpy()

    def pull(self, theta: np.ndarray, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
        torch = self.torch
        weighted = lambda flat: (torch.tensor(weights) * self._outputs(flat, torch.tensor(X))).sum()
        return torch.func.grad(weighted)(torch.tensor(theta)).detach().numpy()
