"""One-hidden-layer ReLU networks trained elsewhere, read from PyTorch, scikit-learn or arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import as_array, as_matrix, as_vector
from ..errors import InputError


@dataclass(frozen=True)
class ReLUNetwork:
    """f(x) = sum_j a_j relu(w_j . x + b_j) + b_0.

    Args:
      W: (m, d) hidden weights.
      b: (m,) hidden biases, or None where the layer has none.
      a: (m,) output weights.
      b0: output bias, or None where there is none.
    """

    W: np.ndarray
    b: np.ndarray | None
    a: np.ndarray
    b0: float | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "W", as_matrix(self.W, "the hidden weights W"))
        object.__setattr__(self, "a", as_array(np.ravel(self.a), "the output weights a", ndim=(1,)))
        m = len(self.W)
        if self.b is not None:
            object.__setattr__(self, "b", as_vector(self.b, "the hidden biases b"))
        for name, vector in (("a", self.a), ("b", self.b)):
            if vector is not None and len(vector) != m:
                raise InputError(f"{name} has {len(vector)} entries and W has {m} rows", do="pass one entry a neuron")
        if self.b0 is not None:
            object.__setattr__(self, "b0", float(as_array(np.ravel(self.b0), "the output bias b0", ndim=(1,))[0]))

    @property
    def width(self) -> int:
        return len(self.a)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Outputs (n,) for rows (n, d)."""
        hidden = np.maximum(X @ self.W.T + (0.0 if self.b is None else self.b), 0)
        return hidden @ self.a + (self.b0 or 0.0)


@dataclass(frozen=True)
class Read:
    """A network and what its maker says of its training: None where that is not known."""

    network: ReLUNetwork
    weight_decay: float | None = None
    bias_decayed: bool | None = None
    loss: str | None = None
    positive: Any = None
    """The label that counts as +1."""


def read_network(net: Any, *, rows: int | None = None) -> Read:
    """Reads a network of one hidden ReLU layer and one output.

    Args:
      net: a PyTorch `nn.Sequential(Linear, ReLU, Linear)`; a fitted MLPRegressor or MLPClassifier (two classes); a
        `ReLUNetwork`; or arrays (W, b, a, b0), b and b0 None where there is no bias.
      rows: number of training rows, which scikit-learn's penalty is divided by.

    Raises:
      InputError: more hidden layers, another activation, several outputs, dropout or normalisation, and why.
    """
    if isinstance(net, ReLUNetwork):
        return Read(net)
    if isinstance(net, tuple | list):
        if len(net) != 4:
            raise InputError(
                f"net has {len(net)} arrays", do="pass (W, b, a, b0), with None for a bias that is not there"
            )
        return Read(ReLUNetwork(*net))
    if hasattr(net, "coefs_"):
        return _from_scikit_learn(net, rows)
    if hasattr(net, "named_parameters") and hasattr(net, "children"):
        return Read(_from_torch(net))
    raise InputError(
        f"net is a {type(net).__name__}",
        do="pass nn.Sequential(Linear, ReLU, Linear), a fitted MLPRegressor or MLPClassifier, or (W, b, a, b0)",
    )


ONE_LAYER = "the floor is proved for one hidden ReLU layer without dropout or normalisation"


def _from_torch(net: Any) -> ReLUNetwork:
    """By the names of the modules, so that PyTorch is never imported here."""
    layers = [m for m in net.children() if type(m).__name__ not in ("Flatten", "Identity")]
    kinds = [type(m).__name__ for m in layers]
    if kinds != ["Linear", "ReLU", "Linear"]:
        linear = kinds.count("Linear")
        what = f"{linear - 1} hidden layers" if linear > 2 else ", ".join(kinds) or type(net).__name__
        raise InputError(f"the network is made of {what}", why=ONE_LAYER, do="pass Linear, ReLU, Linear")
    first, _, second = layers
    if second.weight.shape[0] != 1:
        raise InputError(f"the network has {second.weight.shape[0]} outputs", do="pass one with a single output")
    plain = lambda p: None if p is None else np.asarray(p.detach().cpu().numpy(), np.float64)
    return ReLUNetwork(plain(first.weight), plain(first.bias), plain(second.weight), plain(second.bias))  # type: ignore


def _from_scikit_learn(net: Any, rows: int | None) -> Read:
    if net.activation != "relu" or len(net.coefs_) != 2:
        what = f"{len(net.coefs_) - 1} hidden layers of activation '{net.activation}'"
        raise InputError(f"the network has {what}", why=ONE_LAYER)
    if net.coefs_[1].shape[1] != 1:
        raise InputError(
            f"the network has {net.coefs_[1].shape[1]} outputs", do="pass a regressor of one target or two classes"
        )
    loss = {"identity": "squared", "logistic": "logistic"}.get(net.out_activation_)
    if loss is None or getattr(net, "loss", "squared_error") not in ("squared_error", "log_loss"):
        raise InputError(f"the network was trained with the loss '{net.loss}'", do="pass squared error or log loss")
    (W, a), (b, b0) = net.coefs_, net.intercepts_
    # lbfgs divides alpha by the number of rows; adam and sgd by the number of rows in a batch.
    batch = rows if net.solver == "lbfgs" else net.batch_size
    if batch == "auto":
        batch = 200 if rows is None else min(200, rows)
    decay = None if batch is None else float(net.alpha) / batch
    positive = net.classes_[1] if hasattr(net, "classes_") else None
    return Read(ReLUNetwork(W.T, b, a, b0), decay, False, loss, positive)
