"""The bound that beats all others: errors on labelled examples that nothing has used."""

import math
from typing import Any

from ...guarantees.binomial_limits import check_delta, clopper_pearson, kl_inverse
from ...guarantees.generalisation import Bound
from .pairs import Pairs, decisions, frozen, read_pairs, read_rows, shared_rows

FRESH = ("the held-out pairs are independent draws of the law of the data", "nothing else has used them")


def test_set_bounds(model: Any, heldout: Any, delta: float, *, train: Any = None) -> list[Bound]:  # noqa: PT028
    """Limits on the network's error from s errors on n fresh pairs: exact (Clopper-Pearson), and Chernoff's.

    Args:
      model: gives one row of class scores for each input; left as it is. heldout: (X, y).
      delta: allowed probability of failure. train: (X, y), to find rows that are not fresh.

    Raises:
      InputError: pairs that do not fit, held-out rows that are all training rows, a delta outside (0, 1).
    """
    check_delta(delta)
    network = frozen(model)
    pairs = read_pairs(heldout, network, "heldout")
    shared = 0 if train is None else shared_rows(read_rows(train[0], network, "train"), pairs.X, "heldout")
    errors = count_errors(network, pairs)
    terms = {"errors": errors, "n": len(pairs)} | ({"also training rows": shared} if shared else {})
    return [
        Bound(
            "test set, Clopper-Pearson",
            clopper_pearson(errors, len(pairs), delta),
            confidence=1 - delta,
            terms=terms,
            assumptions=FRESH,
            source="Clopper & Pearson, Biometrika 1934",
        ),
        Bound(
            "test set, kl",
            kl_inverse(errors / len(pairs), math.log(1 / delta) / len(pairs)),
            confidence=1 - delta,
            terms=terms,
            assumptions=FRESH,
            source="Langford, JMLR 2005",
        ),
    ]


test_set_bounds.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test


def count_errors(model: Any, pairs: Pairs) -> int:
    """Wrong decisions of a network."""
    return int((decisions(model, pairs.X) != pairs.y).sum())
