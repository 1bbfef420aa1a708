"""The bounds that are about a chain of layers: measured, or refused with the reason."""

from typing import Any

import numpy as np

from ...guarantees import norm_bounds, order_bounds
from ...guarantees.generalisation import Bound
from ...guarantees.network_norms import NetworkNorms
from ...theory.rademacher import ball_complexity, local_complexity
from ..inputs import as_batches
from .feedforward import FeedForward, read_network
from .norms import cushions, last_features, measure_norms
from .pairs import Pairs
from .watching import NotFeedForward

NORMS = {
    "parameter-count": "parameter count",
    "neyshabur-2015": "Neyshabur et al. 2015",
    "golowich-2018": "Golowich et al. 2018",
    "bartlett-2017": "Bartlett et al. 2017",
    "neyshabur-2018": "Neyshabur et al. 2018",
    "arora-2018": "Arora et al. 2018",
}
SMALL = 0.1  # radius of the local class, relative to the root mean square of the outputs


def read_chain(network: Any, pairs: Pairs) -> tuple[FeedForward | None, str]:
    """The layers, or None and the reason."""
    try:
        return read_network(network, as_batches(pairs.X, network)), ""
    except NotFeedForward as error:
        return None, str(error)


def bounds_of_chain(
    chosen: set[str], chain: FeedForward | None, reason: str, pairs: Pairs, m: np.ndarray, g: float, start: Any,
    delta: float,
) -> list[Bound]:  # fmt: skip
    """Those chosen; refused with a reason where they are about other networks."""
    names = [name for name in NORMS if name in chosen]
    if chain is None:
        return [Bound.refuse(NORMS[name], reason) for name in names]
    try:
        before = None if start is None else read_network(start, as_batches(pairs.X, start))
        norms = measure_norms(chain, pairs.X, m, before)
    except NotFeedForward as error:
        return [Bound.refuse(NORMS[name], str(error)) for name in names]
    found = []
    for name in names:
        if name == "parameter-count":
            found.append(norm_bounds.parameter_count(norms, delta=delta))
            continue
        why = _unfit(name, chain, g)
        if why:
            found.append(Bound.refuse(NORMS[name], why))
        elif name == "arora-2018":
            found.append(_arora(chain, pairs, norms, g, delta))
        elif name == "bartlett-2017":
            found.append(norm_bounds.bartlett_2017(norms, g, delta=delta))
            if start is not None:
                found.append(norm_bounds.bartlett_2017(norms, g, delta=delta, from_init=True))
        else:
            found.append(getattr(norm_bounds, name.replace("-", "_"))(norms, g, delta=delta))
    return found


def _unfit(name: str, chain: FeedForward, g: float) -> str:
    """Why a bound with a margin does not apply to a chain, or nothing."""
    if not g > 0:
        return f"the margin {g:.3g} is not positive: too many training pairs are misclassified; raise margin_quantile"
    maxima = chain.steps("max")
    if maxima and name in ("neyshabur-2015", "golowich-2018"):
        return f"'{maxima[0].where}' is a maximum over units; the proof peels layers unit by unit"
    over = next((step for step in maxima if step.overlaps), None)
    if over is not None:
        return f"the windows of '{over.where}' overlap: such max pooling is not 1-Lipschitz"
    return ""


def _arora(chain: FeedForward, pairs: Pairs, norms: NetworkNorms, g: float, delta: float) -> Bound:
    try:
        return order_bounds.arora_2018(norms, g, delta=delta, **cushions(chain, pairs.X))
    except NotFeedForward as error:
        return Bound.refuse(NORMS["arora-2018"], str(error))


def complexities(chain: FeedForward | None, pairs: Pairs, outputs: np.ndarray, seed: int) -> dict:
    """Of the last layer's linear class: all weights of the largest row's norm, and the small functions among them."""
    if chain is None:
        return {}
    features, radius = last_features(chain, pairs.X)
    if features is None or radius == 0 or not outputs.any():
        return {}
    r = SMALL * float(np.sqrt((outputs**2).mean()))
    ball, local = ball_complexity(features, radius, seed=seed), local_complexity(features, radius, r, seed=seed)
    return {
        f"|w| <= {radius:.3g}": {"mean": ball[0], "stderr": ball[1]},
        f"and outputs of size {r:.3g}": {"mean": local[0], "stderr": local[1]},
    }
