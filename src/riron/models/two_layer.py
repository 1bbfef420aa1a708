"""Two-layer networks in the scalings that theory speaks of; a layer that is given is frozen, the others are trained."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
from jax.typing import ArrayLike

from ..errors import InputError
from .activations import Activation, to_activation
from .base import Model, to_real

Scaling = Literal["ntk", "mean-field", "mup", "none"]
SCALINGS = ("ntk", "mean-field", "mup", "none")


class Layers(NamedTuple):
    """Trained layers: first (width, inputs), second (width,) or (outputs, width); None where a layer is frozen."""

    first: jax.Array | None
    second: jax.Array | None


def to_layer(value: ArrayLike | None) -> jax.Array | None:
    return None if value is None else to_real(value)


class TwoLayer(Model):
    """f(x) = c sum_j a_j sigma(w_j . x), with c = 1/sqrt(width) (ntk), 1/width (mean-field, mup) or 1 (none).

    Mean-field: the gradient is multiplied by the width (`mobility`) and the penalty is the average over the neurons,
    so that a step size of order 1 moves every neuron. muP trains w/sqrt(width) and a/sqrt(width) with plain gradients,
    which is the same dynamics. Start: w ~ N(0, start_sd^2 I), a ~ N(0, 1). A bias is a constant column of X.

    Args:
      inputs: number of features d.
      width: number of neurons.
      scaling: "ntk", "mean-field", "mup" or "none".
      activation: a name ("relu", "tanh", "erf", ...) or a function of an array.
      outputs: number of outputs K, or None for outputs (n,).
      first: (width, inputs) a frozen first layer; None to train it.
      second: (width,) or (outputs, width) a frozen second layer; None to train it.
      start_sd: standard deviation of the entries of w at the start: 1 for inputs of norm 1, 1/sqrt(d) for
        standardised ones.

    Source: Jacot, Gabriel & Hongler, NeurIPS 2018 (ntk); Mei, Montanari & Nguyen, PNAS 2018 (mean-field);
      Yang & Hu, ICML 2021 (mup).
    """

    inputs: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    scaling: Scaling = eqx.field(static=True, default="ntk")
    activation: Activation = eqx.field(static=True, converter=to_activation, default="relu")
    outputs: int | None = eqx.field(static=True, default=None, kw_only=True)
    first: jax.Array | None = eqx.field(converter=to_layer, default=None, kw_only=True)
    second: jax.Array | None = eqx.field(converter=to_layer, default=None, kw_only=True)
    start_sd: jax.Array = eqx.field(converter=to_real, default=1.0, kw_only=True)

    def __check_init__(self):
        if self.scaling not in SCALINGS:
            raise InputError(f"scaling='{self.scaling}' is not known", do=f"choose one of {', '.join(SCALINGS)}")
        if self.first is not None and self.second is not None:
            raise InputError("both layers are given, so nothing is left to train", do="leave out first or second")
        for name, layer, shape in (("first", self.first, self.first_shape), ("second", self.second, self.second_shape)):
            if layer is not None and layer.shape != shape:
                raise InputError(f"the {name} layer has shape {layer.shape} and must have {shape}")

    @property
    def first_shape(self) -> tuple[int, ...]:
        return (self.width, self.inputs)

    @property
    def second_shape(self) -> tuple[int, ...]:
        return (self.width,) if self.outputs is None else (self.outputs, self.width)

    @property
    def trained_unit(self) -> float:
        """What one unit of a trained parameter is in units of the weight that it stands for."""
        return self.width**0.5 if self.scaling == "mup" else 1.0

    @property
    def multiplier(self) -> float:
        return {"ntk": self.width**-0.5, "mean-field": 1 / self.width, "mup": 1 / self.width, "none": 1.0}[self.scaling]

    @property
    def mobility(self) -> float:
        return float(self.width) if self.scaling == "mean-field" else 1.0

    def init(self, key: jax.Array) -> Layers:
        keys = jax.random.split(key)
        first = self.start_sd * jax.random.normal(keys[0], self.first_shape) / self.trained_unit
        second = jax.random.normal(keys[1], self.second_shape) / self.trained_unit
        return Layers(first if self.first is None else None, second if self.second is None else None)

    def weights(self, params: Layers) -> tuple[jax.Array, jax.Array]:
        """Both layers (w, a) in the units of the formula, frozen ones included."""
        first = self.first if params.first is None else self.trained_unit * params.first
        second = self.second if params.second is None else self.trained_unit * params.second
        assert first is not None
        assert second is not None
        return first, second

    def __call__(self, params: Layers, X: jax.Array) -> jax.Array:
        first, second = self.weights(params)
        return self.multiplier * (self.activation(X @ first.T) @ second.T)

    def penalty(self, params: Layers) -> jax.Array:
        return super().penalty(params) / self.mobility
