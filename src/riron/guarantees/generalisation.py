"""What a generalisation bound says of one trained classifier: a number, what it is about, and whether it is vacuous."""

import math
from dataclasses import dataclass, field
from typing import Any

from .base import Guarantee

NON_VACUOUS, VACUOUS, ORDER, REFUSED = "non-vacuous", "vacuous", "order only", "refused"


@dataclass(frozen=True)
class Bound(Guarantee):
    """An upper limit on the probability of error on a fresh example.

    Attributes:
      name: of the bound. value: the limit; above 1 it says nothing but still compares networks; NaN if refused.
      of: whose error is bounded: "this network", "the random network", "a companion", ...
      confidence: with which it holds over the draw of the data.
      terms: the numbers it is made of, by name (margin, norms, KL, bits, disagreement, ...).
      assumptions: that must hold. source: authors, title, venue, year.
      constants: False where the source gives no constants: then only the order is known.
      reason: why it is refused, if it is.
    """

    name: str
    value: float
    of: str = "this network"
    confidence: float = 0.95
    terms: dict[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ("the examples are independent draws of one law",)  # pyright: ignore[reportIncompatibleVariableOverride]
    source: str = ""
    constants: bool = True
    reason: str = ""

    @property
    def status(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """ "non-vacuous", "vacuous" (1 or more), "order only" (no constants are known) or "refused"."""
        if self.reason:
            return REFUSED
        if not self.constants:
            return ORDER
        return NON_VACUOUS if self.value < 1 else VACUOUS

    @classmethod
    def refuse(cls, name: str, reason: str, *, source: str = "") -> "Bound":
        """A bound that does not apply, with the reason."""
        return cls(name, math.nan, source=source, reason=reason)

    def __str__(self) -> str:
        if self.status == REFUSED:
            return f"{self.name}: refused: {self.reason}"
        if self.status == ORDER:
            return f"{self.name}: of the order of {self.value:.3g} ({self.of}; constants are not known)"
        if self.status == VACUOUS:
            return f"{self.name}: vacuous (>= 1): {self.value:.3g} ({self.of})"
        return f"{self.name}: the error of {self.of} is at most {self.value:.3f} at {self.confidence:.0%} confidence"
