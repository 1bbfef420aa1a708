"""How often two classifiers decide differently: an upper confidence limit from inputs without labels.

err(f') <= err(f) + P(argmax f' != argmax f), whatever the law of the data; the second term needs no labels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from ..errors import InputError
from .base import Guarantee
from .binomial_limits import clopper_pearson


@dataclass(frozen=True)
class Disagreement(Guarantee):
    """An upper limit on the probability that the decision changes on a fresh input.

    Attributes:
      upper: the limit. confidence: with which it holds. n: inputs. disagreements: among them.
      kind: "clopper-pearson" (for one look at a sample of fixed size) or "anytime" (valid at all n at once).
      candidates: among which the network was chosen on these very inputs; the error is divided among them.
    """

    assumptions = (
        "the held-out inputs are independent draws of the law of the data",
        "nothing else has used them: not the weights, the nodes or the widths",
    )

    upper: float
    confidence: float
    n: int
    disagreements: int
    kind: str
    candidates: int = 1
    status: str = "guaranteed"

    def __str__(self) -> str:
        return (
            f"the decision changes on at most {self.upper:.2%} of fresh inputs at {self.confidence:.0%} confidence "
            f"({self.disagreements} of {self.n} held-out inputs; {self.kind})"
        )


def disagreement(
    original: ArrayLike,
    compressed: ArrayLike,
    *,
    confidence: float = 0.95,
    kind: str = "clopper-pearson",
    candidates: int = 1,
) -> Disagreement:
    """The guarantee from the outputs of two networks on the same held-out inputs.

    Args:
      original, compressed: (n, K) outputs (the largest decides; K = 1: the sign), or (n,) decisions.
      confidence: in (0, 1). kind: "clopper-pearson" or "anytime".
      candidates: networks among which the compressed one was chosen on these inputs.

    Raises:
      InputError: outputs of different shapes or not finite, no inputs, a confidence outside (0, 1).
    """
    a, b = _decisions(original, "original"), _decisions(compressed, "compressed")
    if a.shape != b.shape:
        raise InputError(
            f"the original has decisions of shape {a.shape} and the compressed network {b.shape}",
            do="pass the outputs of both on the same inputs",
        )
    changed = (a != b).reshape(len(a), -1).any(axis=1)
    return disagreement_limit(int(changed.sum()), len(a), confidence=confidence, kind=kind, candidates=candidates)


def disagreement_limit(
    disagreements: int, n: int, *, confidence: float = 0.95, kind: str = "clopper-pearson", candidates: int = 1
) -> Disagreement:
    """The guarantee from s disagreements among n inputs.

    Clopper-Pearson: the 1 - delta quantile of Beta(s + 1, n - s). Anytime (Ville's inequality with a Beta(1/2, 1/2)
    mixture): the largest p >= s/n with  log B(s + 1/2, n - s + 1/2) - log B(1/2, 1/2) - s log p - (n - s) log(1 - p)
    < log(1/delta), valid however often and whenever one looks.

    Raises:
      InputError: s outside 0..n, n < 1, a confidence outside (0, 1), an unknown kind.

    Source: Clopper & Pearson, Biometrika 1934; Ville's inequality for the mixture martingale (Robbins, 1970).
    """
    if n < 1 or not 0 <= disagreements <= n:
        raise InputError(f"{disagreements} disagreements among {n} inputs", do="pass 0 <= disagreements <= n, n >= 1")
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} is outside (0, 1)", do="pass 0.95, for example")
    if candidates < 1:
        raise InputError(f"candidates={candidates} must be at least 1")
    delta, s = (1 - confidence) / candidates, int(disagreements)
    if kind == "clopper-pearson":
        upper = clopper_pearson(s, n, delta)
    elif kind == "anytime":
        upper = _anytime(s, n, delta)
    else:
        raise InputError(f"kind='{kind}' is unknown", do="choose clopper-pearson or anytime")
    return Disagreement(upper, confidence, n, s, kind, candidates)


def _anytime(s: int, n: int, delta: float) -> float:
    if s == n:
        return 1.0
    mixture = special.betaln(s + 0.5, n - s + 0.5) - special.betaln(0.5, 0.5)

    def excess(p: float) -> float:
        return mixture - special.xlogy(s, p) - special.xlog1py(n - s, -p) - np.log(1 / delta)

    low = s / n if s else 0.0
    if excess(low) >= 0:
        return low
    root: Any = optimize.brentq(excess, low, 1 - 1e-15, xtol=1e-14)
    return float(root)


def _decisions(outputs: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(outputs)
    if values.size == 0 or values.ndim == 0:
        raise InputError(f"{name} holds no outputs", do="pass one row for each held-out input")
    if not np.isfinite(values.astype(np.float64)).all():
        raise InputError(f"{name} holds outputs that are not finite")
    if values.ndim == 1:
        return values
    return (values[..., 0] > 0) if values.shape[-1] == 1 else values.argmax(-1)
