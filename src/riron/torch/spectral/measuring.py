"""How many dimensions the layers of a trained network use: spectra of activations and of weights."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ...checks import as_vector, nearest
from ...errors import InputError
from ...theory.degrees_of_freedom import at_relative_levels
from ...theory.spectral_ranks import polynomial_decay, ranks
from ..attention.split import split_attentions
from ..groups import CONVOLUTIONS, LAYERS, Group, Side, on
from ..inputs import Batch, as_batches, check_fits, example
from ..metrics import reader_maps, second_moments
from ..planning import traced_copy
from ..tracing import trace
from .result import Spectra
from .weights import weight_row

LAM = (1e-1, 1e-2, 1e-3)
CONV, NULLS = ("slices", "matrix"), ("permuted", "gaussian")
WIDEST = 8192  # nodes of a layer whose second moment is still formed, 0.5 GiB


def spectra(
    model: Any,
    data: Any = None,
    *,
    lam: Sequence[float] = LAM,
    conv: str = "slices",
    null: str = "permuted",
    draws: int = 200,
    ignore: Iterable[str] = (),
    device: Any = None,
    seed: int = 0,
) -> Spectra:
    """Degrees of freedom, ranks and decay of what each layer reads; tails and spikes of each weight, beside noise.

    An exponent of a tail means nothing alone: the same estimator gives 2 to 6, "well trained", on small matrices of
    noise. So each comes with its p-value, the share of matrices of noise of the same shape whose exponent is as small.

    Args:
      model: any module; it is copied, never changed, and used in evaluation mode. An nn.MultiheadAttention is shown as
        its layers query, key, value and out.
      data: inputs without labels, 256 to 2000; None for the weights alone.
      lam: levels of the degrees of freedom, in units of the mean variance of the nodes (tr S/m).
      conv: weights of convolutions as WeightWatcher's "slices" (one matrix for each tap, eigenvalues pooled, weight
        times sqrt(taps/2)) or as one "matrix" (outputs, channels x taps).
      null: noise is the entries of the weight "permuted", or "gaussian" of the same variance. Only the second also
        counts heavy tails of the entries themselves.
      draws: matrices of noise for each layer, 0 for none; large layers get fewer, never below 20 (column `draws`).
      ignore: names of modules that are left out. device: where to run the network. seed: of draws and subsamples.

    Returns: Spectra.

    Raises:
      InputError: a model without linear or convolutional layers, an unknown name or word, levels that are not positive,
        data that does not fit, weights or activations that are not finite.

    Source: Suzuki et al., IJCAI-PRICAI 2020 (degrees of freedom); Martin, Peng & Mahoney, Nature Communications 2021
      (tails, as in WeightWatcher 0.7.7). Visible degrees of freedom and p-values are ours.
    """
    levels = _check(model, lam, conv, null, draws)
    network = copy.deepcopy(model).eval()
    split_attentions(network)  # into layers whose inputs and weights can be seen
    layers = _layers(network, tuple(ignore))
    found = Spectra(lam=tuple(map(float, levels)), conv=conv, null=null)
    for k, (name, module) in enumerate(layers.items()):
        rng = np.random.default_rng([seed, k])
        values, row = weight_row(name, module, conv=conv, null=null, draws=draws, rng=rng)
        found.weights[name] = values
        found.table.append({"layer": name, "parameters": module.weight.numel(), **row})
    if data is not None:
        network = network if device is None else network.to(device)
        place = next((p.device for p in network.parameters()), torch.device("cpu"))
        batches = [batch.to(place) for batch in as_batches(data, model)]
        check_fits(network, example(batches))
        _measure(found, network, layers, batches, seed)
    return found


def _measure(found: Spectra, network: Any, layers: dict[str, Any], batches: list[Batch], seed: int) -> None:
    """Fills in what each layer reads."""
    groups = _groups(network, batches, found)
    known = {side.name: side.places for g in groups for side in g.readers}
    watched = []
    for name, module in layers.items():
        inputs = module.in_channels if isinstance(module, CONVOLUTIONS) else module.in_features
        places = known.get(name)
        if places is None or places.size != inputs:  # the network's input, or one branch of a concatenation
            places = np.arange(inputs)[:, None]
        if len(places) > WIDEST:
            found.notes.append(f"'{name}' reads {len(places)} nodes, over {WIDEST}: its activations are left out")
            continue
        watched.append(Group(name, len(places), (), (Side(name, module, places),), (), "inner"))
    moments = second_moments(network, watched, batches, seed=seed)
    rows = {row["layer"]: row for row in found.table}
    for group in watched:
        seen = moments[group.name, group.name]
        if seen.n == 0:
            found.notes.append(f"'{group.name}' is never called with a tensor: it has no activations")
            continue
        _activation(found, rows[group.name], group, seen.moment(False), seen.n)
    _intrinsic(found, rows, layers, groups)


def _activation(found: Spectra, row: dict[str, Any], group: Group, S: np.ndarray, count: int) -> None:
    """What the second moment of one layer's input says, and what the layer can see of it."""
    side, m = group.readers[0], group.width
    mu, V = np.linalg.eigh((S + S.T) / 2)
    mu = np.clip(mu, 0, None)
    half = reader_maps(side) @ (V * np.sqrt(mu))  # (p, m); the spectrum of M^(1/2) S M^(1/2) is that of half half^T
    gram = half @ half.T if len(half) < m else half.T @ half
    visible = np.zeros(m)
    visible[: len(gram)] = np.clip(np.linalg.eigvalsh(gram)[::-1], 0, None)
    found.activations[group.name], found.visible[group.name] = mu[::-1].copy(), visible
    rank, decay = ranks(mu), polynomial_decay(mu)
    row |= {
        "nodes": m,
        "samples": count,
        "dof": at_relative_levels(mu, found.lam).tolist(),
        "visible_dof": at_relative_levels(visible, found.lam).tolist(),
        "participation": rank.participation,
        "stable_rank": rank.stable,
        "entropy_rank": rank.entropy,
        "numerical_rank": rank.numerical,
    }
    keys = ("exponent", "stderr", "first", "last", "residual")
    row |= {f"decay_{key}": None if decay is None else getattr(decay, key) for key in keys}


def _intrinsic(found: Spectra, rows: dict[str, dict[str, Any]], layers: dict[str, Any], groups: list[Group]) -> None:
    """N_l N_{l+1} times the taps, beside the number of weights; outputs of the network count fully."""
    readers = {p.name: g for g in groups for p in g.producers}
    for name, module in layers.items():
        row, group = rows[name], readers.get(name)
        if "dof" not in row or getattr(module, "groups", 1) > 1:
            continue
        outputs = module.weight.shape[0]
        after: list[float] | None = [float(outputs)] * len(found.lam)
        if group is not None:
            read = [rows[s.name]["dof"] for s in group.readers if rows.get(s.name, {}).get("nodes") == group.width]
            after = np.max(read, axis=0).tolist() if read and group.width == outputs else None
        elif row["layer"] not in found.ends:
            after = None
        if after is not None:
            taps = module.weight.numel() / (outputs * row["nodes"])
            row["intrinsic_parameters"] = [taps * a * b for a, b in zip(row["dof"], after, strict=True)]


def _groups(network: Any, batches: list[Batch], found: Spectra) -> list[Group]:
    """The groups of the network, and in `found.ends` the layers that make its output; none if it cannot be followed."""
    try:
        order = trace(network, example(batches)).order
        groups = on(network, traced_copy(network, example(batches), order, ()).groups)
    except InputError as unknown:
        found.notes.append(f"which layer reads which is not known, so there are no intrinsic parameters ({unknown})")
        return []
    inside = {side.name for g in groups for side in g.producers}
    found.ends.update(name for name in order if name not in inside)
    return groups


def _layers(network: Any, ignore: tuple[str, ...]) -> dict[str, Any]:
    modules = dict(network.named_modules())
    for name in ignore:
        if name not in modules:
            raise InputError(f"the model has no module '{name}'", do=nearest(name, list(modules)))
    inside = lambda name: any(name == wanted or name.startswith(f"{wanted}.") for wanted in ignore)
    found = {name: m for name, m in modules.items() if isinstance(m, LAYERS) and not inside(name)}
    if not found:
        raise InputError("the model has no linear or convolutional layer to look at")
    return found


def _check(model: Any, lam: Sequence[float], conv: str, null: str, draws: int) -> np.ndarray:
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the model is {type(model).__name__}", do="pass a torch.nn.Module")
    levels = as_vector(lam, "lam")
    if (levels <= 0).any():
        raise InputError(f"lam={levels.min():g} must be > 0", do="give levels in units of the mean variance")
    for name, word, known in (("conv", conv, CONV), ("null", null, NULLS)):
        if word not in known:
            raise InputError(f"{name}='{word}' is unknown", do=nearest(str(word), known) or f"choose one of {known}")
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 0:
        raise InputError(f"draws={draws} must be a whole number >= 0")
    return levels
