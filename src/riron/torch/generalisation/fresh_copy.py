"""A fresh copy of the network, trained on a part of the rows and judged on the others."""

import math
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from ...guarantees.generalisation import Bound
from .agreement import through_network
from .pairs import Pairs, as_scores, frozen


def retrained(network: Any, pairs: Pairs, inputs: Any, delta: float, seed: int, train: Any) -> list[Bound]:
    """A fresh copy trained on three quarters of the rows, judged on the rest: no label beyond the training rows."""
    copy = frozen(network).requires_grad_(True)
    for module in copy.modules():
        own = any(p is not None for p in (*module._parameters.values(), *module._buffers.values()))
        if own and not hasattr(module, "reset_parameters"):
            why = f"{type(module).__name__} has no reset_parameters: give prior=(a network, its rows)"
            return [Bound.refuse("fresh copy on three quarters of the rows", why)]
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    cut = len(pairs) * 3 // 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in copy.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        train(copy.train(), pairs.X[order[:cut]], pairs.y[order[:cut]])
    copy.eval().requires_grad_(False)
    return through_network(network, copy, pairs.rows(order[cut:]), inputs, delta, "a fresh copy on 3/4 of the rows")


def adam(copy: Any, X: Any, y: Any, *, batch: int = 64, rate: float = 1e-3) -> None:
    """15 passes, and 1000 steps at least."""
    optimiser = torch.optim.Adam(copy.parameters(), rate)
    for _ in range(max(15, math.ceil(1000 * batch / len(y)))):
        for index in torch.randperm(len(y)).split(batch):
            if len(index) == 1:  # BatchNorm cannot learn from one
                continue
            loss = torch.nn.functional.cross_entropy(as_scores(copy(X[index])), y[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
