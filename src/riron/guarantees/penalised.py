"""The objective of a one-hidden-layer ReLU network with weight decay, its dual vector and its dual value."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, xlogy

from ..checks import as_matrix, as_positive, as_vector, nearest
from ..errors import InputError
from .directions import Bias
from .relu_networks import Read, ReLUNetwork, read_network


class FloorLoss(NamedTuple):
    """A loss with its slope and minus its conjugate, at (f or g, y)."""

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dual: Callable[[np.ndarray, np.ndarray], np.ndarray]
    limit: Callable[[np.ndarray, np.ndarray], float]
    """The largest s for which s g is in the domain of the conjugate."""


def _negative_entropy(g: np.ndarray, y: np.ndarray) -> np.ndarray:
    u = np.clip(-y * g, 0, 1)
    return -(xlogy(u, u) + xlogy(1 - u, 1 - u))


LOSSES = {
    "squared": FloorLoss(
        lambda f, y: (f - y) ** 2 / 2, lambda f, y: f - y, lambda g, y: -(g**2 / 2 + g * y), lambda g, y: np.inf
    ),
    "logistic": FloorLoss(
        lambda f, y: np.logaddexp(0, -y * f),
        lambda f, y: -y * expit(-y * f),
        _negative_entropy,
        lambda g, y: float(1 / max(np.max(-y * g), 1e-300)),
    ),
}


class Setting(NamedTuple):
    """What is floored: a network, its data and its penalty."""

    network: ReLUNetwork
    X: np.ndarray
    y: np.ndarray
    loss: str
    c: float
    bias: Bias
    output: Bias

    def with_network(self, network: ReLUNetwork) -> "Setting":
        return self._replace(network=network)

    @property
    def objective(self) -> float:
        """F."""
        net = self.network
        penalty = np.sum(net.a**2) + np.sum(net.W**2)
        if self.bias == "decayed" and net.b is not None:
            penalty += np.sum(net.b**2)
        if self.output == "decayed" and net.b0 is not None:
            penalty += net.b0**2
        return float(np.mean(LOSSES[self.loss].value(net(self.X), self.y)) + self.c / 2 * penalty)

    @property
    def dual_vector(self) -> np.ndarray:
        """g = loss'(f, y), with sum 0 where a bias is free."""
        g = LOSSES[self.loss].slope(self.network(self.X), self.y)
        if "free" not in (self.bias, self.output):
            return g
        if self.loss == "squared":
            return g - g.mean()
        plus, minus = g[g > 0].sum(), -g[g < 0].sum()  # scaling the heavier class down stays in the domain
        return np.where(g > 0, min(minus / max(plus, 1e-300), 1.0), min(plus / max(minus, 1e-300), 1.0)) * g

    @property
    def own(self) -> np.ndarray:
        """The network's own neurons as directions."""
        net = self.network
        return net.W if self.bias == "none" or net.b is None else np.column_stack([net.W, net.b])

    def floor(self, g: np.ndarray, psi: float) -> float:
        """max over 0 <= s <= c / Psi of D(s g)."""
        loss = LOSSES[self.loss]
        top = min(self.c / max(psi, 1e-300), loss.limit(g, self.y))
        c0 = self.c if self.output == "decayed" else np.inf

        def minus_dual(s: float) -> float:
            return float(-np.mean(loss.dual(s * g, self.y)) + (s * g.mean()) ** 2 / (2 * c0))

        if not np.isfinite(top):
            top = 1.0
        best = minimize_scalar(minus_dual, bounds=(0.0, top), method="bounded", options={"xatol": 1e-10 * top})
        return -min(float(best.fun), minus_dual(top), 0.0)


def read_setting(
    net: Any, X: ArrayLike, y: ArrayLike, *, weight_decay: Any, bias_decayed: bool | None, loss: str | None
) -> Setting:
    """Everything that the floor speaks of, checked."""
    features = as_matrix(X, "X")
    read = read_network(net, rows=len(features))
    network = read.network
    if network.W.shape[1] != features.shape[1]:
        raise InputError(f"X has {features.shape[1]} columns and the network takes {network.W.shape[1]}")
    decay, decayed = _penalty(weight_decay, bias_decayed, read)
    loss, targets = _targets(y, loss, read, len(features))
    kind = lambda bias: "none" if bias is None else ("decayed" if decayed else "free")
    return Setting(network, features, targets, loss, decay, kind(network.b), kind(network.b0))


def _penalty(weight_decay: Any, bias_decayed: bool | None, read: Read) -> tuple[float, bool]:
    decay: Any = read.weight_decay if weight_decay is None else weight_decay
    decayed = read.bias_decayed if bias_decayed is None else bias_decayed
    if hasattr(decay, "param_groups"):
        name, groups = type(decay).__name__, decay.param_groups
        if name in ("AdamW", "NAdamW", "Lion") or any(group.get("decoupled_weight_decay") for group in groups):
            raise InputError(
                f"{name} decays weights apart from the gradient",
                why="it minimises no penalised objective",
                do="train with SGD or Adam, or pass the weight_decay of the objective that you mean",
            )
        values = {float(group.get("weight_decay", 0.0)) for group in groups}
        if len(values) > 1:
            raise InputError(
                f"the optimiser has several weight decays ({', '.join(f'{v:g}' for v in sorted(values))})",
                do="pass weight_decay as a number, and bias_decayed",
            )
        decay, decayed = values.pop(), True if decayed is None else decayed
    if decay is None:
        raise InputError("weight_decay is not given, and this network does not know it", do="pass it as a number")
    if decayed is None:
        raise InputError(
            "bias_decayed is not given",
            do="pass True for PyTorch's weight_decay on all parameters, False for free biases",
        )
    if float(decay) == 0:
        raise InputError("weight_decay=0 gives the floor 0 and no statement", do="train with a weight decay > 0")
    return as_positive(decay, "weight_decay"), bool(decayed)


def _targets(y: ArrayLike, loss: str | None, read: Read, rows: int) -> tuple[str, np.ndarray]:
    values = np.asarray(y).ravel()
    if len(values) != rows:
        raise InputError(f"y has {len(values)} values and X has {rows} rows", do="pass one target a row")
    loss = loss or read.loss or ("logistic" if len(np.unique(values)) == 2 else "squared")
    if loss not in LOSSES:
        raise InputError(
            f"no floor is known for the loss '{loss}'", why=nearest(loss, LOSSES), do="use squared or logistic"
        )
    if loss == "squared":
        return loss, as_vector(values, "y")
    labels = np.unique(values)
    if len(labels) != 2:
        raise InputError(f"y has {len(labels)} labels and the logistic loss needs two")
    positive = labels[1] if read.positive is None else read.positive
    return loss, np.where(values == positive, 1.0, -1.0)
