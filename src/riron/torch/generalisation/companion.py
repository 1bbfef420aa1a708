"""A limit for the network itself through a companion that is simple enough to be bounded.

The companions: a code of few bits, a linear readout with Gaussian weights, a fresh copy on a part of the rows.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ...errors import InputError
from ...guarantees.binomial_limits import check_delta, occam_limit
from ...guarantees.generalisation import Bound
from ...guarantees.pac_bayes import FEWEST
from ..telling import teller
from .agreement import SILENCE, promise, through_silence
from .coordinates import FEWEST as WORTH_IT
from .coordinates import LANDMARKS, Coordinates
from .fresh_copy import adam, retrained
from .pac_bayes import OPTIMISED
from .pairs import Pairs, frozen, read_pairs, read_rows, scores, shared_rows
from .posteriors import REPEATS, Estimate, optimise
from .random_network import RandomNetwork
from .subspace import Subspace, fit_quantised

COMPONENTS = 60  # coordinates of the random companion
AT_ONCE = 400_000  # rows that are given random companions
HIDDEN = 64  # of the companion without coordinates
NAME = "Occam, code of a companion"
CODE = "Lotfi et al., NeurIPS 2022 (code); Langford, JMLR 2005 (Occam's razor)"


def companion_bounds(
    model: Any,
    train: Any,
    unlabelled: Any = None,
    *,
    delta: float = 0.05,
    dimensions: int | Iterable[int] = (100, 200, 300),
    levels: int | Iterable[int] = 5,
    companion: Any = None,
    share: float = 0.0,
    epochs: int = 200,
    retrain: bool | Callable[[Any, Any, Any], Any] = True,
    seed: int = 0,
    progress: bool = False,
) -> list[Bound]:
    """Limits for a companion by its code length and, with unlabelled inputs, for the network by their disagreement.

    Three companions: (1) a quantised linear readout of coordinates that half of the unlabelled inputs teach, or an
    eighth of the rows without their labels (the bound is on the other rows); with `companion`, or few rows, a network
    in a random subspace; (2) the same readout with Gaussian weights; (3) a fresh copy of the network trained on three
    quarters of the rows.

    Args:
      model: gives one row of class scores for each input; left as it is. train: (X, y). unlabelled: fresh inputs.
      dimensions: d tried. levels: values of an entry tried. The choice among them is paid for.
      companion: a module whose present weights do not depend on the rows (fresh ones); its w_0.
      share: of the loss in which the quantised companion imitates the network. epochs: of the training of (1), (2).
      retrain: how (3) is trained: a function of (module, X, y) that trains the module in place; True: Adam, 15 passes
        and 1000 steps at least; False: (3) is not made.

    Raises:
      InputError: input that does not fit, fewer than 8 rows, a delta outside (0, 1).
    """
    check_delta(delta)
    network = frozen(model)
    pairs = read_pairs(train, network)
    if len(pairs) < FEWEST:
        raise InputError(f"train has {len(pairs)} rows and the bounds need {FEWEST}")
    inputs = None if unlabelled is None else read_rows(unlabelled, network)
    if inputs is not None:
        shared_rows(pairs.X, inputs, "unlabelled")
    sizes, counts = _whole(dimensions, "dimensions"), _whole(levels, "levels")
    landmarks, rest, fresh = _split(pairs, inputs, companion, seed)
    steps = max(1, epochs * math.ceil(len(pairs) / 500))
    say = teller(progress)
    if companion is None and not pairs.X.is_floating_point():
        found = [Bound.refuse(NAME, "the inputs are whole numbers: give companion=, a module that reads them")]
    else:
        found = _coded(network, rest, fresh, landmarks, companion, sizes, counts, share, steps, delta, seed, say)
    if landmarks is not None:
        say("random companion")
        found += _random(network, rest, fresh, landmarks, steps, delta, seed)
    if retrain:
        say("fresh copy of the network on three quarters of the rows")
        found += retrained(network, pairs, inputs, delta, seed, adam if retrain is True else retrain)
    return found


def _split(pairs: Pairs, inputs: Any, companion: Any, seed: int) -> tuple[Any, Pairs, Any]:
    """Inputs that teach coordinates, and the rows and the inputs that are left to judge."""
    generator = torch.Generator().manual_seed(seed)
    if companion is not None or not pairs.X.is_floating_point():
        return None, pairs, inputs
    if inputs is not None and len(inputs) >= 2 * WORTH_IT:
        order, cut = torch.randperm(len(inputs), generator=generator), min(len(inputs) // 2, LANDMARKS)
        return inputs[order[:cut]], pairs, inputs[order[cut:]]
    cut = min(len(pairs) // 8, LANDMARKS // 2)
    if cut < WORTH_IT:
        return None, pairs, inputs
    order = torch.randperm(len(pairs), generator=generator)
    return pairs.X[order[:cut]], pairs.rows(order[cut:]), inputs


def _coded(
    network: Any, pairs: Pairs, fresh: Any, landmarks: Any, companion: Any, sizes: list[int], counts: list[int],
    share: float, steps: int, delta: float, seed: int, say: Callable[[str], Any],
) -> list[Bound]:  # fmt: skip
    taught = scores(network, pairs.X)
    decided = taught.argmax(1)
    extra = math.log2(len(SILENCE))
    tried, own, other = [], None, None
    for d in sizes:
        before, module, what = _companion(companion, landmarks, pairs, d, seed)
        rows = Pairs(before(pairs.X), pairs.y, pairs.classes)
        for c in counts:
            q = fit_quantised(
                Subspace(module, d, seed), rows, c, steps=steps, settings=len(sizes) * len(counts),
                taught=taught, share=share, seed=seed,
            )  # fmt: skip
            z = q.scores(rows.X)
            wrong = int((z.argmax(1) != pairs.y).sum())
            value = occam_limit(wrong, len(pairs), q.code.bits, delta)
            tried.append({"dimension": q.code.size, "levels": c, "bits": q.code.bits, "errors": wrong, "limit": value})
            say(f"companion of {q.code.size} parameters, {c} levels, {q.code.bits:.0f} bits: {value:.3f}")
            if own is None or value < own[0]:
                own = (value, q, wrong, what)
            if fresh is not None:
                limit = lambda s, bits=q.code.bits + extra: occam_limit(s, len(pairs), bits, delta / 2)
                promised = promise(z, pairs.y, decided, limit)
                if other is None or promised.total < other[0].total:
                    other = (promised, q, before)
    assert own is not None
    value, q, wrong, what = own
    of = f"a companion of {q.code.size} parameters ({what})"
    terms = {"bits": q.code.bits, "errors": wrong, "n": len(pairs), "levels": q.code.levels, "tried": tried}
    fixed = "the code, with its coordinates and seeds, was fixed before the rows"
    found = [
        Bound(
            NAME, value, of=of, confidence=1 - delta, terms=terms,
            assumptions=("the rows are independent draws of one law", fixed), source=CODE,
        )
    ]  # fmt: skip
    if other is not None:
        promised, q, before = other
        way = f"through a companion of {q.code.size} parameters"
        found.append(through_silence(network, fresh, q.scores(before(fresh)), promised, delta, way, fixed, CODE))
    return found


def _random(network: Any, pairs: Pairs, fresh: Any, landmarks: Any, steps: int, delta: float, seed: int) -> list[Bound]:
    """A linear readout of the coordinates whose weights are drawn anew for every input; the prior is at zero."""
    coordinates = Coordinates(landmarks, min(COMPONENTS, len(landmarks) // 4))
    rows = Pairs(coordinates(pairs.X), pairs.y, pairs.classes)
    around, generator = RandomNetwork(_readout(coordinates, pairs), rows.X[:2]), torch.Generator().manual_seed(seed)
    gibbs, _, _ = optimise(
        around, around.centre(), {"weight": 1.0}, rows, steps, generator, n=len(pairs), batch=500, rate=0.03
    )
    repeats = max(1, min(REPEATS, AT_ONCE // len(rows)))
    many = Pairs(rows.X.repeat(repeats, 1), rows.y.repeat(repeats), rows.classes)
    with torch.no_grad():
        z = around.fresh(many.X, gibbs.mean, gibbs.sd, generator)
        u = None if fresh is None else around.fresh(coordinates(fresh), gibbs.mean, gibbs.sd, generator)
    draws = len(many)

    def limit(wrong: int, part: float) -> float:
        return Estimate(wrong / draws, draws).limit(gibbs.kl, len(pairs), part)

    wrong = int((z.argmax(1) != many.y).sum())
    of = f"a random companion (linear readout of {coordinates.count - 1} coordinates of inputs without labels)"
    terms = {"KL": gibbs.kl, "Gibbs error on the rows": wrong / draws, "n": len(pairs)}
    fixed = "the prior, with its coordinates, was fixed before the rows"
    name = "PAC-Bayes optimised, a random companion"
    assumptions = ("the rows are independent draws of one law", fixed)
    own = Bound(
        name, limit(wrong, delta), of=of, confidence=1 - delta, terms=terms, assumptions=assumptions, source=OPTIMISED
    )
    if fresh is None:
        return [own]
    decided = scores(network, pairs.X).argmax(1).repeat(repeats)
    # the silence is chosen on these very draws: the union over its values covers their mean as well
    promised = promise(z, many.y, decided, lambda s: limit(s, delta / 2 / len(SILENCE)))
    way = "through a random companion"
    bound = through_silence(network, fresh, u, promised, delta, way, fixed, OPTIMISED)
    return [own, bound]


def _companion(companion: Any, landmarks: Any, pairs: Pairs, d: int, seed: int) -> tuple[Any, Any, str]:
    """What comes before it, the module whose weights are coded, and its name."""
    same = lambda x: x
    if companion is not None:
        if not isinstance(companion, nn.Module):
            raise InputError(f"the companion is {type(companion).__name__}", do="pass a torch.nn.Module")
        module = frozen(companion)
        width = scores(module, read_rows(pairs.X[:2], module, "train")).shape[1]
        if width != pairs.classes:
            raise InputError(f"the companion decides among {width} classes and the network among {pairs.classes}")
        return same, module, f"{type(companion).__name__} in a random subspace"
    kind = pairs.X.dtype
    if landmarks is not None:
        k = d // pairs.classes - 1
        k = min(k if k >= 5 else 30, len(landmarks) - 1)
        coordinates = Coordinates(landmarks, k)
        return coordinates, _readout(coordinates, pairs), f"linear readout of {k} coordinates of inputs without labels"
    inner = pairs.X[0].numel()
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(inner, HIDDEN, bias=False), nn.ReLU(), nn.Linear(HIDDEN, pairs.classes, bias=False)
    ).to(kind).requires_grad_(False)  # fmt: skip
    return same, _seeded(module, seed), f"{inner}-{HIDDEN}-{pairs.classes} in a random subspace"


def _readout(coordinates: Coordinates, pairs: Pairs) -> Any:
    """Linear, at zero."""
    readout = nn.Linear(coordinates.count, pairs.classes, bias=False).to(pairs.X.dtype).requires_grad_(False)
    readout.weight.zero_()
    return readout


def _seeded(module: Any, seed: int) -> Any:
    """Gaussian weights of variance 2/inputs from a seed of their own."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * math.sqrt(2 / p.shape[1]))
    return module


def _whole(values: int | Iterable[int], name: str) -> list[int]:
    found = [values] if isinstance(values, int) else list(values)
    if not found or any(v != int(v) or v < 1 for v in found):
        raise InputError(f"{name}={found} must be whole numbers from 1 on")
    return [int(v) for v in found]
