"""Norms, margins and sizes of one trained network: what the bounds of `norm_bounds` are computed from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_vector
from ..errors import InputError

GRID = 2**0.125  # ratio of neighbouring values: rounding costs at most 9 %; a factor of 2 would hide differences


@dataclass(frozen=True)
class LayerNorms:
    """One layer as a matrix (operator on its actual input, the bias in a column for an appended 1).

    Attributes:
      spectral, frobenius: norms of the matrix. group: sum over its output units of the norm of their weights.
      inputs, units: its size. parameters: that it is made of (shared weights count once).
      thresholds: where the function may change from one piece to the next after this layer: one a ReLU unit, a pair
        for max pooling, K - 1 comparisons at the end.
      degree: of the layer's entries as polynomials in its parameters.
      change: group norm of the difference from a matrix fixed before the data, or None.
    """

    spectral: float
    frobenius: float
    group: float
    inputs: int
    units: int
    parameters: int
    thresholds: int
    degree: int = 1
    change: float | None = None


@dataclass(frozen=True)
class NetworkNorms:
    """What the bounds need to know of a network and its training set.

    Attributes:
      layers: first to last. rows: (K,) norms of the weights of each output. inputs: (n,) input norms.
      margins: (n,) f_y - max_{k != y} f_k on the training pairs.
    """

    layers: Sequence[LayerNorms]
    rows: np.ndarray
    inputs: np.ndarray
    margins: np.ndarray

    def __post_init__(self) -> None:
        for name in ("rows", "inputs", "margins"):
            object.__setattr__(self, name, as_vector(getattr(self, name), name))
        if not self.layers:
            raise InputError("a network without layers has no norms")
        if len(self.inputs) != len(self.margins):
            raise InputError(f"there are {len(self.inputs)} inputs and {len(self.margins)} margins")

    @property
    def n(self) -> int:
        return len(self.margins)

    @property
    def error(self) -> float:
        """Of the training set."""
        return margin_error(self.margins, 0.0)


def margin_error(margins: np.ndarray, g: float) -> float:
    """Fraction of pairs with margin at most g."""
    return float(np.mean(margins <= g))


def margin_quantile(margins: ArrayLike, quantile: float) -> float:
    """The margin that a fraction `quantile` of the pairs does not exceed, one of the margins themselves."""
    if not 0 < quantile < 1:
        raise InputError(f"margin_quantile={quantile} is outside (0, 1)", do="pass 0.1, for example")
    return float(np.quantile(as_vector(margins, "margins"), quantile, method="inverted_cdf"))


def rounded(value: float) -> tuple[float, float]:
    """The next grid value, and what its place costs: log(i(i + 1)) for the i-th place, counted from 1 outwards."""
    if value <= 0 or not math.isfinite(value):
        return value, 0.0
    j = math.ceil(math.log(value) / math.log(GRID) - 1e-9)
    i = 2 * abs(j) + (1 if j >= 0 else 0)
    return GRID**j, math.log(i * (i + 1))


def checked_margin(g: float) -> float:
    """The margin; InputError unless it is positive."""
    if not g > 0 or not math.isfinite(g):
        raise InputError(f"the margin {g:.3g} is not positive", do="take a larger margin_quantile")
    return g
