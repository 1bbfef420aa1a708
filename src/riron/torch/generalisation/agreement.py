"""The error of a network through another that is easier to bound, and how often the two decide differently.

err(network) <= P(companion speaks and is wrong) + P(companion is silent or decides differently): the first term by the
companion's own bound, the second from unlabelled inputs. A companion may be silent where it is unsure, which moves
errors from the expensive first term to the cheap second one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...guarantees.binomial_limits import clopper_pearson
from ...guarantees.generalisation import Bound
from .pairs import Pairs, decisions
from .test_set import count_errors

SILENCE = tuple(k / 16 for k in range(16))  # least lead of the best class (in probability) at which it speaks


@dataclass(frozen=True)
class Promise:
    """What a companion would prove if it disagreed on fresh inputs as it does on the rows.

    Attributes:
      total: the bound then. first: its first term. silence: the lead from which on it speaks.
    """

    total: float
    silence: float
    first: float


def promise(z: Any, labels: Any, decided: Any, limit: Callable[[int], float]) -> Promise:
    """The best silence, chosen on the rows alone.

    Args:
      z: (n, K) scores of the companion. labels, decided: (n,) of the rows and of the network.
      limit: of P(speaks and is wrong) from a count, valid at once for all of SILENCE.
    """
    lead, choice = _lead(z), z.argmax(1)
    best = Promise(math.inf, 0.0, 0.0)
    for silence in SILENCE:
        speaks = lead >= silence
        first = limit(int((speaks & (choice != labels)).sum()))
        total = first + float((~speaks | (choice != decided)).double().mean())
        best = best if best.total <= total else Promise(total, silence, first)
    return best


def through_silence(
    network: Any, fresh: Any, z: Any, promised: Promise, delta: float, name: str, assumption: str, source: str
) -> Bound:
    """The bound with `z`, the companion's scores on the fresh inputs; they are looked at once."""
    silent = _lead(z) < promised.silence
    differs = z.argmax(1) != decisions(network, fresh)
    terms = {"silent": float(silent.double().mean()), "speaks from a lead of": promised.silence}
    count = int((silent | differs).sum())
    return through(promised.first, count, len(fresh), delta, name, assumption, terms, source)


def through_network(network: Any, other: Any, rest: Pairs, inputs: Any, delta: float, of: str) -> list[Bound]:
    """The error of a network on rows that it never saw, and of `network` by their disagreement."""
    errors, n = count_errors(other, rest), len(rest)
    rows = f"the {n} rows of train that {of} never saw are independent draws of the law of the data"
    found = [
        Bound(
            f"{of}, Clopper-Pearson",
            clopper_pearson(errors, n, delta),
            of=of,
            confidence=1 - delta,
            terms={"errors": errors, "n": n},
            assumptions=(rows,),
            source="Clopper & Pearson, Biometrika 1934",
        )
    ]
    if inputs is not None:
        disagreements = int((decisions(network, inputs) != decisions(other, inputs)).sum())
        first = clopper_pearson(errors, n, delta / 2)
        found.append(
            through(first, disagreements, len(inputs), delta, f"through {of}", rows, {"errors": errors, "n": n})
        )
    return found


def through(
    first: float, disagreements: int, n: int, delta: float, name: str, assumption: str, terms: Mapping[str, Any],
    source: str = "Clopper & Pearson, Biometrika 1934",
) -> Bound:  # fmt: skip
    """err(network) <= err(companion) + P(they disagree): `first` at delta/2 and Clopper-Pearson at delta/2."""
    second = clopper_pearson(disagreements, n, delta / 2)
    return Bound(
        f"this network {name}",
        first + second,
        confidence=1 - delta,
        terms={"its error": first, "disagreement": second, "disagreements": disagreements, "inputs": n} | dict(terms),
        assumptions=(
            assumption,
            "the unlabelled inputs are independent draws of the same law and nothing has used them",
        ),
        source=source,
    )


def _lead(z: Any) -> Any:
    top = z.softmax(1).topk(2, 1).values
    return top[:, 0] - top[:, 1]
