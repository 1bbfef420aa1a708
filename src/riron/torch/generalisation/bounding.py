"""Every bound of one trained network on one scale with the measured gap."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ...checks import nearest
from ...errors import InputError
from ...guarantees import order_bounds
from ...guarantees.binomial_limits import check_delta, clopper_pearson
from ...guarantees.disagreement import disagreement_limit
from ...guarantees.generalisation import Bound
from ...guarantees.network_norms import margin_quantile as quantile_of
from ...theory.rademacher import local_complexity
from ..compressed_model import CompressedModel
from ..groups import LAYERS
from ..inputs import as_batches
from ..telling import teller
from .chain_bounds import NORMS, bounds_of_chain, complexities, read_chain
from .companion import companion_bounds
from .feedforward import FeedForward
from .norms import last_features, margins
from .pac_bayes import FEWEST, pac_bayes_bounds
from .pairs import Pairs, frozen, read_pairs, read_rows, scores, shared_rows
from .report import Bounds
from .test_set import test_set_bounds

OTHERS = {
    "test-set": "test set",
    "pac-bayes": "PAC-Bayes",
    "companion": "companion",
    "compressed": "compressed network",
    "suzuki-2020": "Suzuki et al. 2020",
    "last-layer": "complexities",
}


def bounds(
    model: Any,
    train: Any,
    *,
    heldout: Any = None,
    unlabelled: Any = None,
    init: Any = None,
    prior: tuple[Any, Any] | None = None,
    delta: float = 0.05,
    margin_quantile: float = 0.1,
    which: str | Iterable[str] = "all",
    compressed: CompressedModel | None = None,
    steps: int = 1000,
    dimensions: Iterable[int] = (100, 200, 300),
    levels: int | Iterable[int] = 5,
    companion: Any = None,
    epochs: int = 200,
    retrain: bool | Callable[[Any, Any, Any], Any] = True,
    seed: int = 0,
    progress: bool = True,
) -> Bounds:
    """Generalisation bounds of one trained classifier, from counts, norms, PAC-Bayes, a companion and a test set.

    Args:
      model: trained; gives one row of class scores for each input; left as it is.
      train: (X, y) or batches of pairs: all pairs it was trained on.
      heldout: (X, y) that nothing has used, for the measured error and the test-set bound. unlabelled: fresh inputs
        (default: those of `heldout`), for bounds through a companion.
      init: the weights before training, a module or a state_dict. prior: see `pac_bayes_bounds`.
      delta: probability with which each bound may fail. margin_quantile: of the training margins, the margin g.
      which: "all", or some of parameter-count, neyshabur-2015, golowich-2018, bartlett-2017, neyshabur-2018,
        arora-2018, test-set, pac-bayes, companion, compressed, suzuki-2020, last-layer (complexities; no bound).
      compressed: what `compress` made of this network: for a bound on it, and for the order of Suzuki et al. 2020.
      steps: of the optimisation in PAC-Bayes. dimensions, levels, companion, epochs, retrain: of the companions.
      seed: of everything random. progress: say on a terminal what is being done.

    Returns: Bounds, the non-vacuous ones first.

    Raises:
      InputError: pairs that do not fit the network, one class, fewer than two rows, a delta outside (0, 1), unknown
        names, held-out pairs that are all training pairs (some: a warning), weights of another architecture.
    """
    check_delta(delta)
    for name, value in (("steps", steps), ("epochs", epochs)):
        if value != int(value) or value < 1:
            raise InputError(f"{name}={value} must be a whole number from 1 on")
    chosen = _chosen(which)
    network = frozen(model)
    pairs = read_pairs(_pair(train, network, "train"), network)
    if len(pairs) < 2:
        raise InputError("train has one row", do="pass the pairs that the network was trained on")
    counts = np.bincount(pairs.y.numpy(), minlength=pairs.classes)
    if counts.max() == len(pairs):
        raise InputError(f"every label of train is {counts.argmax()}", do="pass pairs of two classes or more")
    fresh = None if heldout is None else read_pairs(_pair(heldout, network, "heldout"), network, "heldout")
    start = None if init is None else _module(network, init)
    notes: list[str] = []
    if fresh is not None:
        shared = shared_rows(pairs.X, fresh.X, "heldout")
        if shared:
            notes.append(
                f"{shared} held-out inputs are training inputs too: what is said of held-out pairs is too good"
            )
    if unlabelled is not None:
        rows = [batch.tensors[0] for batch in as_batches(unlabelled, network)]
        unlabelled = read_rows(torch.cat(rows), network)
    elif fresh is not None:
        unlabelled = fresh.X
    say = teller(progress)

    outputs = scores(network, pairs.X).double().numpy()
    m = margins(outputs, pairs.y.numpy())
    train_error = float((outputs.argmax(1) != pairs.y.numpy()).mean())
    report: dict[str, Any] = {"margin_quantile": margin_quantile, "margin": quantile_of(m, margin_quantile)}
    found: list[Bound] = []

    if chosen & (NORMS.keys() | {"suzuki-2020", "last-layer"}):
        say("norms and margins")
        chain, reason = read_chain(network, pairs)
        found += bounds_of_chain(chosen, chain, reason, pairs, m, report["margin"], start, delta)
        if "last-layer" in chosen:
            report["complexities"] = complexities(chain, pairs, outputs, seed)
        if chain is None or not chosen & NORMS.keys():
            report["margin"] = None
        if "suzuki-2020" in chosen and compressed is not None:
            found.append(_suzuki(compressed, chain, pairs, outputs, train_error, delta, seed))
    else:
        report["margin"] = None
    if fresh is not None:
        wrong = int((scores(network, fresh.X).argmax(1) != fresh.y).sum())
        share = wrong / len(fresh)
        report |= {"heldout_error": share, "heldout_stderr": (share * (1 - share) / len(fresh)) ** 0.5}
        report["n_heldout"] = len(fresh)
    if "test-set" in chosen:
        if fresh is None:
            found.append(Bound.refuse("test set", "there are no held-out pairs; pass heldout=(X, y)"))
        else:
            found += test_set_bounds(network, (fresh.X, fresh.y), delta)
    if "compressed" in chosen and compressed is not None:
        found.append(_compressed(compressed, network, fresh, delta))
    few = f"train has {len(pairs)} rows and this needs {FEWEST}"
    if "pac-bayes" in chosen:
        say("PAC-Bayes")
        options = {
            "init": start,
            "prior": prior,
            "unlabelled": unlabelled,
            "delta": delta,
            "steps": steps,
            "seed": seed,
        }
        found += (
            [Bound.refuse("PAC-Bayes", few)]
            if len(pairs) < FEWEST
            else pac_bayes_bounds(network, (pairs.X, pairs.y), progress=False, **options)
        )
    if "companion" in chosen:
        say("companions")
        found += (
            [Bound.refuse("companion", few)]
            if len(pairs) < FEWEST
            else companion_bounds(
                network, (pairs.X, pairs.y), unlabelled, delta=delta, dimensions=dimensions, levels=levels,
                companion=companion, epochs=epochs, retrain=retrain, seed=seed, progress=False,
            )
        )  # fmt: skip
    say("")
    return Bounds(found, train_error, len(pairs), float(1 - counts.max() / len(pairs)), delta, notes=notes, **report)


def _chosen(which: str | Iterable[str]) -> set[str]:
    known = [*NORMS, *OTHERS]
    names = [which] if isinstance(which, str) else list(which)
    if names == ["all"]:
        return set(known)
    for name in names:
        if name not in known:
            raise InputError(f"which='{name}' is unknown", do=nearest(str(name), known) or f"choose among {known}")
    if not names:
        raise InputError("which is empty", do="pass 'all', or names of bounds")
    return set(names)


def _pair(data: Any, model: Any, name: str) -> Any:
    """(X, y) of a pair, or of batches of pairs."""
    if isinstance(data, tuple) and len(data) == 2:
        return data
    if isinstance(data, (torch.Tensor, np.ndarray)):
        raise InputError(f"{name} has no labels", do="pass (X, y)")
    batches = as_batches(data, model)
    if any(batch.labels is None for batch in batches):
        raise InputError(f"{name} has no labels", do="pass (X, y)")
    return torch.cat([batch.tensors[0] for batch in batches]), torch.cat([batch.labels for batch in batches])


def _module(network: Any, init: Any) -> Any:
    """The network with its initial weights."""
    start = copy.deepcopy(network)
    state = init.state_dict() if isinstance(init, torch.nn.Module) else init
    try:
        start.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError("init does not fit the network", why=" ".join(str(error).split())[:200]) from error
    return start


def _suzuki(
    compressed: CompressedModel, chain: FeedForward | None, pairs: Pairs, outputs: np.ndarray, train_error: float,
    delta: float, seed: int,
) -> Bound:  # fmt: skip
    """The two terms of the order, with the companion that `compress` found."""
    theirs = scores(frozen(compressed.model), pairs.X).double().numpy()
    r = float(np.sqrt(2 * ((outputs - theirs) ** 2).sum(1).mean()))
    weights = [m.weight.numel() for m in compressed.model.modules() if isinstance(m, LAYERS)]
    local = r
    if chain is not None and r > 0:
        features, radius = last_features(chain, pairs.X)
        if features is not None and radius > 0:
            local = local_complexity(features, radius, r, seed=seed)[0]
    return order_bounds.suzuki_2020(
        train_error=train_error, parameters=float(sum(weights)), distance=r, local=local, n=len(pairs), delta=delta
    )


def _compressed(compressed: CompressedModel, network: Any, fresh: Pairs | None, delta: float) -> Bound:
    """err(f') <= err(f) + P(they disagree), half of delta for each."""
    g = compressed.guarantee
    if g is None or fresh is None:
        lacking = "the compressed network has no guarantee" if g is None else "there are no held-out pairs"
        return Bound.refuse("compressed network", lacking)
    wrong = int((scores(network, fresh.X).argmax(1) != fresh.y).sum())
    first = clopper_pearson(wrong, len(fresh), delta / 2)
    options = {"confidence": 1 - delta / 2, "candidates": g.candidates}
    second = disagreement_limit(g.disagreements, g.n, **options).upper
    return Bound(
        "compressed network", first + second, of="the compressed network", confidence=1 - delta,
        terms={"its original's error": first, "disagreement": second, "disagreements": g.disagreements, "inputs": g.n},
        assumptions=("the held-out pairs and the inputs of the guarantee are fresh",),
        source="Clopper & Pearson, Biometrika 1934, twice",
    )  # fmt: skip
