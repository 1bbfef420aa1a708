"""Neurons h_w(x) of mean-field networks: what one particle w computes, and what is known of its size."""

import abc
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..checks import as_positive, nearest
from ..errors import InputError
from .activations import ACTIVATIONS, Activation
from .base import is_known, to_real

CHUNK = 2**24
"""Numbers (particles x samples x parameters) that one piece of a feature matrix may hold before it is cut."""


def clipped_relu(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 1): piecewise linear and bounded."""
    return jnp.clip(x, 0, 1)


NEURONS: dict[str, Activation] = {**ACTIVATIONS, "relu-clipped": clipped_relu}
BOUNDED = ("tanh", "erf", "sigmoid", "cos", "relu-clipped")
"""Activations with values in [-1, 1]."""
KINKED = ("relu", "relu-clipped")
"""Activations that have no derivative at some points."""

OutputWeight = Literal["none", "bounded", "linear"]
OUTPUT_WEIGHTS = ("none", "bounded", "linear")


class Neuron(eqx.Module):
    """h_w(x): one particle's contribution to the network, whose output is the average over the particles."""

    @property
    @abc.abstractmethod
    def bound(self) -> float | None:
        """sup |h_w(x)| over w and x; None where it is unbounded or unknown."""

    @property
    @abc.abstractmethod
    def differentiable(self) -> bool:
        """Whether h is differentiable in w everywhere."""

    @abc.abstractmethod
    def dim(self, inputs: int) -> int:
        """The number of parameters p of one neuron on inputs of `inputs` features."""

    @abc.abstractmethod
    def __call__(self, w: jax.Array, x: jax.Array) -> jax.Array:
        """h_w(x), a number, for w (p,) and x (d,)."""

    def features(self, W: jax.Array, X: jax.Array) -> jax.Array:
        """h_w(x_i) for all particles and samples: (N, n) from W (N, p) and X (n, d)."""
        one = lambda w: jax.vmap(self, in_axes=(None, 0))(w, X)
        piece = max(CHUNK // max(X.size, len(X) * W.shape[1]), 1)
        return jax.vmap(one)(W) if piece >= len(W) else jax.lax.map(one, W, batch_size=piece)


class RidgeNeuron(Neuron):
    """scale x weight(a) x sigma(v . x + b) with w = (v, b, a): bias and output weight where they are asked for.

    Args:
      activation: a name: tanh, sigmoid, erf, cos, relu-clipped (bounded), relu, softplus, gelu, identity (not bounded).
      bias: whether the neuron has a bias b.
      output_weight: "none"; "bounded": tanh(a); "linear": a, which makes the neuron unbounded.
      scale: R, in units of the output.
    """

    activation: str = eqx.field(static=True, default="tanh")
    bias: bool = eqx.field(static=True, default=True)
    output_weight: OutputWeight = eqx.field(static=True, default="none")
    scale: jax.Array = eqx.field(converter=to_real, default=1.0)

    def __check_init__(self):
        if self.activation not in NEURONS:
            known = ", ".join(NEURONS)
            raise InputError(
                f"no neuron is called '{self.activation}'", why=nearest(self.activation, NEURONS), do=f"known: {known}"
            )
        if self.output_weight not in OUTPUT_WEIGHTS:
            raise InputError(f"output_weight='{self.output_weight}' is not known", do="use none, bounded or linear")

    @property
    def bound(self) -> float | None:
        bounded = self.activation in BOUNDED and self.output_weight != "linear"
        return float(self.scale) if bounded else None

    @property
    def differentiable(self) -> bool:
        return self.activation not in KINKED

    def dim(self, inputs: int) -> int:
        return inputs + self.bias + (self.output_weight != "none")

    def features(self, W: jax.Array, X: jax.Array) -> jax.Array:
        d = X.shape[1]
        # A bias is added apart from the product, so that X is never copied with a column of ones.
        field = W[:, :d] @ X.T
        if self.bias:
            field = field + W[:, d, None]
        values = self.scale * NEURONS[self.activation](field)
        if self.output_weight == "none":
            return values
        weight = W[:, -1, None]
        return (jnp.tanh(weight) if self.output_weight == "bounded" else weight) * values

    def __call__(self, w: jax.Array, x: jax.Array) -> jax.Array:
        return self.features(w[None], x[None])[0, 0]


class CustomNeuron(Neuron):
    """A neuron given as a JAX function h(w, x) -> number.

    Args:
      function: h of w (p,) and x (d,).
      parameters: p, or None for p = d.
      sup: sup |h| if it is known; None where it is unbounded or unknown.
      smooth: whether h is differentiable in w everywhere.
    """

    function: Callable[[jax.Array, jax.Array], jax.Array] = eqx.field(static=True)
    parameters: int | None = eqx.field(static=True, default=None)
    sup: float | None = eqx.field(static=True, default=None)
    smooth: bool = eqx.field(static=True, default=True)

    @property
    def bound(self) -> float | None:
        return self.sup

    @property
    def differentiable(self) -> bool:
        return self.smooth

    def dim(self, inputs: int) -> int:
        return inputs if self.parameters is None else self.parameters

    def __call__(self, w: jax.Array, x: jax.Array) -> jax.Array:
        return self.function(w, x)


def to_neuron(
    value: str | Neuron | Callable[[jax.Array, jax.Array], jax.Array],
    *,
    bias: bool = True,
    output_weight: OutputWeight = "none",
    scale: ArrayLike = 1.0,
    parameters: int | None = None,
    bound: float | None = None,
    differentiable: bool = True,
) -> Neuron:
    """The neuron that a name or a function stands for; a `Neuron` is taken as it is.

    Args:
      value: a name (tanh, sigmoid, erf, cos, relu-clipped, relu, softplus, gelu, identity), for the neuron
        scale x sigma(v . x + b); or a JAX function h(w, x) of w (p,) and x (d,).
      bias: whether a named neuron has a bias.
      output_weight: of a named neuron: "none", "bounded" (tanh(a) in front) or "linear" (a in front: unbounded).
      scale: R of a named neuron, > 0, in units of the output.
      parameters: p of a function; the number of features unless given.
      bound: sup |h| of a function; None where it is unbounded or unknown.
      differentiable: whether a function is differentiable in w everywhere.

    Raises:
      InputError: an unknown name, scale or bound <= 0.
    """
    if isinstance(value, Neuron):
        return value
    if isinstance(value, str):
        if is_known(scale):
            as_positive(float(jnp.asarray(scale)), "scale")
        return RidgeNeuron(value, bias, output_weight, scale)
    if not callable(value):
        raise InputError(f"neuron={value!r} is neither a name nor a function h(w, x)", do="pass 'tanh', for example")
    sup = None if bound is None else as_positive(bound, "bound")
    return CustomNeuron(value, parameters, sup, differentiable)
