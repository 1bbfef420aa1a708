"""Small networks trained many at a time, for studies: NumPy in, modules out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from numpy.typing import ArrayLike
from torch import nn  # pyright: ignore[reportMissingImports]

from ..errors import InputError


def train_mlps(
    widths: Sequence[int], X: ArrayLike, y: ArrayLike, *, steps: int = 300, rate: float = 1e-2, seed: int = 0
) -> list[tuple[Any, Any]]:
    """Trains ReLU networks without biases on a table each, all at once, by Adam with full batches on cross-entropy.

    Args:
      widths: (d, hidden ..., K). X: (S, n, d) inputs, one table a network. y: (S, n) labels in 0..K-1.
      steps: of Adam, step size `rate` falling linearly to 0. seed: of the initial weights, N(0, 2/inputs).

    Returns: (trained, at its start) for each network, both in evaluation mode.

    Raises:
      InputError: tables that do not fit each other or the widths.
    """
    table = torch.as_tensor(np.asarray(X, dtype=np.float32))
    labels = torch.as_tensor(np.asarray(y, dtype=np.int64))
    if table.ndim != 3 or labels.shape != table.shape[:2] or table.shape[2] != widths[0]:
        raise InputError(
            f"X has shape {tuple(table.shape)} and y {tuple(labels.shape)}",
            do=f"pass X (networks, rows, {widths[0]}) and y (networks, rows)",
        )
    networks, generator = len(table), torch.Generator().manual_seed(seed)
    shapes = list(zip(widths[1:], widths, strict=False))
    start = [torch.randn(networks, b, a, generator=generator) * (2 / a) ** 0.5 for b, a in shapes]
    weights = [w.clone().requires_grad_() for w in start]
    optimiser = torch.optim.Adam(weights, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for _ in range(steps):
        optimiser.zero_grad()
        z = table
        for k, w in enumerate(weights):
            z = (z if k == 0 else z.relu()) @ w.transpose(1, 2)
        loss = nn.functional.cross_entropy(z.flatten(0, 1), labels.flatten())
        (loss * networks).backward()  # each network's gradient is that of its own mean
        optimiser.step()
        schedule.step()
    trained = [w.detach() for w in weights]
    return [(_mlp([w[s] for w in trained]), _mlp([w[s] for w in start])) for s in range(networks)]


def _mlp(weights: list[Any]) -> Any:
    parts: list[Any] = []
    for w in weights:
        layer = nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight = nn.Parameter(w.clone())
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


def evaluate(model: Any, X: ArrayLike) -> np.ndarray:
    """(n, K) outputs of a network, as float64."""
    with torch.no_grad():
        return model(torch.as_tensor(np.asarray(X, dtype=np.float32))).double().numpy()


def predict(model: Any, X: ArrayLike) -> np.ndarray:
    """(n,) decisions of a network."""
    return evaluate(model, X).argmax(1)
