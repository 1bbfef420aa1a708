"""PAC-Bayes: the error of a random network around a prior fixed before the data, and through it that of the network."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ...errors import InputError
from ...guarantees.binomial_limits import check_delta
from ...guarantees.generalisation import Bound
from ...guarantees.pac_bayes import FEWEST, listed_price
from ..telling import teller
from .agreement import through, through_network
from .pairs import Pairs, decisions, frozen, read_pairs, read_rows, shared_rows
from .posteriors import closed_form, optimised, training_error
from .random_network import RandomNetwork, with_plain_norms

PRICE = "PAC-Bayes-kl (Seeger, JMLR 2002; Maurer, 2004)"
OPTIMISED = "Dziugaite & Roy, UAI 2017, with " + PRICE


def pac_bayes_bounds(
    model: Any,
    train: Any,
    *,
    init: Any = None,
    prior: tuple[Any, Any] | None = None,
    unlabelled: Any = None,
    delta: float = 0.05,
    steps: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> list[Bound]:
    """Limits with the initial weights as prior, and with a network trained on a part of the rows as prior.

    Args:
      model: gives one row of class scores for each input; left as it is. train: (X, y), all rows it was trained on.
      init: its weights before training (a state_dict or a module); None: the prior is centred at zero.
      prior: (module of the same architecture, indices of the rows of `train` that it has seen); the bounds are on the
        other rows.
      unlabelled: fresh inputs; with them each random network also gives a limit for this network.
      delta: allowed probability of failure of each bound. steps: of the optimisation of the random network.

    Raises:
      InputError: input that does not fit, fewer than 8 rows, a delta outside (0, 1), weights of another architecture.
    """
    check_delta(delta)
    network = frozen(model)
    pairs = read_pairs(train, network)
    _enough(len(pairs), "train")
    inputs = None if unlabelled is None else read_rows(unlabelled, network)
    if inputs is not None:
        shared_rows(pairs.X, inputs, "unlabelled")
    plain = with_plain_norms(frozen(model))
    trained_on_part = None if prior is None else _prior(prior, plain, pairs)
    say = teller(progress)
    centre, name = _initial(plain, model, init)
    found = _around(plain, network, centre, name, pairs, pairs, inputs, delta, steps, seed, False, say)
    if trained_on_part is not None:
        module, centre, rest = trained_on_part
        name = f"prior = a network of the other {len(pairs) - len(rest)} rows"
        found += _around(plain, network, centre, name, rest, pairs, inputs, delta, steps, seed, True, say)
        found += through_network(network, module, rest, inputs, delta, "the network of the prior")
    return found


def _around(
    plain: Any, network: Any, centre: dict[str, Any], name: str, rest: Pairs, everything: Pairs, inputs: Any,
    delta: float, steps: int, seed: int, trained: bool, say: Callable[[str], None],
) -> list[Bound]:  # fmt: skip
    """Closed form, optimised, and through the better of the two the network itself."""
    around = RandomNetwork(plain, rest.X[:2])
    generator = torch.Generator().manual_seed(seed)
    laws = {
        "closed form": closed_form(around, centre, rest, delta, generator),
        "optimised": optimised(around, centre, rest, everything, steps, delta, generator, trained=trained, say=say),
    }
    found, best = [], (math.inf, "")
    for kind, (gibbs, estimate) in laws.items():
        value = estimate.limit(gibbs.kl, len(rest), delta)
        terms = {"KL": gibbs.kl, "Gibbs error on the rows": estimate.mean, "n": len(rest), "way": gibbs.way}
        found.append(
            Bound(
                f"PAC-Bayes {kind}, {name}",
                value,
                of=_whose(kind, gibbs.way),
                confidence=1 - delta,
                terms=terms,
                assumptions=("the rows are independent draws of one law", "the prior was fixed before them"),
                source=PRICE if kind == "closed form" else OPTIMISED,
            )
        )
        best = min(best, (value, kind))
    if inputs is not None:
        kind = best[1]
        gibbs = laws[kind][0]
        estimate = training_error(around, gibbs, rest, generator)
        with torch.no_grad():
            chosen = torch.cat([around.fresh(x, gibbs.mean, gibbs.sd, generator) for x in inputs.split(512)]).argmax(1)
        disagreements = int((chosen != decisions(network, inputs)).sum())
        # the two laws have priors of their own: the choice between them is paid for
        first = estimate.limit(gibbs.kl + listed_price(len(laws)), len(rest), delta / 2)
        terms = {"KL": gibbs.kl, "Gibbs error on the rows": estimate.mean, "n": len(rest)}
        way = f"through a random one, PAC-Bayes {kind}, {name}"
        found.append(
            through(first, disagreements, len(inputs), delta, way, "the prior was fixed before the rows", terms, PRICE)
        )
    return found


def _whose(kind: str, way: float) -> str:
    if kind == "closed form":
        around = {1.0: "the random network around this one", 0.0: "the random network around the prior"}
        return around.get(way, f"a random network {way:.0%} of the way from the prior to this one")
    return "a random network"


def _initial(plain: Any, model: Any, init: Any) -> tuple[dict[str, Any], str]:
    if init is None:
        return {k: torch.zeros_like(p) for k, p in plain.named_parameters()}, "prior at zero"
    start = frozen(model)
    state = init.state_dict() if isinstance(init, torch.nn.Module) else init
    try:
        start.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError("init does not fit the network", why=" ".join(str(error).split())[:200]) from error
    return _same(dict(with_plain_norms(start).named_parameters()), plain), "prior = initial weights"


def _same(centre: dict[str, Any], plain: Any) -> dict[str, Any]:
    wanted = {k: p.shape for k, p in plain.named_parameters()}
    if {k: p.shape for k, p in centre.items()} != wanted:
        raise InputError("the prior has other weights than the network", do="pass a network of the same architecture")
    return {k: p.detach() for k, p in centre.items()}


def _prior(prior: Any, plain: Any, pairs: Pairs) -> tuple[Any, dict[str, Any], Pairs]:
    """The network of the prior, its weights as those of `plain`, and the rows that it has not seen."""
    if not isinstance(prior, tuple) or len(prior) != 2 or not isinstance(prior[0], torch.nn.Module):
        raise InputError("prior is not a pair", do="pass (module, indices of the rows of train that it has seen)")
    seen = np.asarray(prior[1])
    if seen.dtype == bool and seen.shape == (len(pairs),):
        seen = seen.nonzero()[0]
    if (
        seen.ndim != 1
        or not np.issubdtype(seen.dtype, np.integer)
        or (seen.size and (seen.min() < 0 or seen.max() >= len(pairs)))
    ):
        raise InputError(f"the rows of the prior are not indices of 0..{len(pairs) - 1}")
    rest = np.setdiff1d(np.arange(len(pairs)), seen)
    _enough(len(rest), "the rest of train, which the prior has not seen")
    left = pairs.rows(torch.as_tensor(rest))
    if len(seen):
        shared_rows(pairs.X[torch.as_tensor(np.unique(seen))], left.X, "the rest of train")
    centre = dict(with_plain_norms(frozen(prior[0])).named_parameters())
    return frozen(prior[0]), _same(centre, plain), left


def _enough(n: int, name: str) -> None:
    if n < FEWEST:
        raise InputError(f"{name} has {n} rows and PAC-Bayes-kl needs {FEWEST}")
