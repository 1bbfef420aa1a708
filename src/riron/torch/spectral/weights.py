"""Eigenvalues of a layer's weight, the exponent of their tail, and what noise of the same shape gives."""

from typing import Any

import numpy as np

from ...errors import InputError
from ...theory.marchenko_pastur import Bulk, bulk_and_spikes
from ...theory.power_law_tail import PowerLawTail, power_law_tail, share_as_small
from ..groups import CONVOLUTIONS

OVER_TRAINED, UNDER_TRAINED = 2.0, 6.0  # WeightWatcher's limits of alpha
WORK = 6e11  # operations that the draws of one layer may cost, about ten seconds of one core
FEWEST_DRAWS = 20


def matrices(module: Any, conv: str) -> np.ndarray:
    """(copies, rows, columns) of a weight.

    Args:
      conv: "slices" (WeightWatcher's: one matrix (o, c) for each of the t taps, times sqrt(t/2)) or "matrix" (one,
        (o, c t)).
    """
    weight = module.weight.detach().double().cpu().numpy()
    if not isinstance(module, CONVOLUTIONS):
        return weight[None]
    if conv == "matrix":
        return weight.reshape(1, len(weight), -1)
    taps = np.moveaxis(weight.reshape(*weight.shape[:2], -1), -1, 0)
    return taps * np.sqrt(len(taps) / 2)


def eigenvalues(stack: np.ndarray) -> np.ndarray:
    """Those of W^T W of all matrices, pooled, largest first; of each the min(rows, columns) that can differ from 0."""
    wide = stack.shape[1] < stack.shape[2]
    found = [np.linalg.eigvalsh(W @ W.T if wide else W.T @ W) for W in stack]
    return np.clip(np.sort(np.concatenate(found))[::-1], 0, None)


def possible_draws(stack: np.ndarray, draws: int) -> int:
    """As many as asked for, or fewer (never below 20) where they would take more than about ten seconds."""
    long, short = max(stack.shape[1:]), min(stack.shape[1:])
    each = len(stack) * (long * short**2 + 8 * short**3)
    return min(draws, max(int(WORK / each), FEWEST_DRAWS))


def null_alphas(stack: np.ndarray, null: str, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,) exponents of matrices of noise of the same shape and norm; inf where there is none.

    Args:
      null: "permuted" (the entries of W in random places: the norm is exact, and so is the p-value if the entries are
        exchangeable) or "gaussian" (entries of the same variance: heavy tails of the entries themselves count too).
    """
    found, sd = np.full(draws, np.inf), float(np.sqrt((stack**2).mean()))
    for k in range(draws):
        noise = rng.permuted(stack.ravel()) if null == "permuted" else sd * rng.standard_normal(stack.size)
        tail = power_law_tail(eigenvalues(noise.reshape(stack.shape)))
        if tail is not None:
            found[k] = tail.alpha
    return found


def weight_row(
    name: str, module: Any, *, conv: str, null: str, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, Any]]:
    """The spectrum of one weight and everything that is read off it.

    Raises:
      InputError: a weight that is not finite.
    """
    stack = matrices(module, conv)
    if not np.isfinite(stack).all():
        raise InputError(f"the weight of layer '{name}' is not finite", do="look for NaN or overflow in the training")
    values = eigenvalues(stack)
    rows, columns = stack.shape[1:]
    largest, total = float(values[0]), float(values.sum())
    tail = power_law_tail(values) if largest > 0 else None
    bulk = bulk_and_spikes(values, rows, columns, len(stack)) if largest > 0 else Bulk(0.0, 0.0, 0.0, 0.0, 0)
    row: dict[str, Any] = {
        "copies": len(stack),
        "rows": rows,
        "columns": columns,
        "norm": total,
        "log_norm": float(np.log10(total)) if total > 0 else None,
        "spectral_norm": largest,
        "weight_stable_rank": total / largest if largest > 0 else 0.0,
        "bulk_variance": bulk.variance,
        "bulk_lower": bulk.lower,
        "bulk_upper": bulk.upper,
        "spike_threshold": bulk.threshold,
        "spikes": bulk.spikes,
    }
    return values, row | _tail_row(tail, values, stack, null, draws, rng)


def _tail_row(
    tail: PowerLawTail | None, values: np.ndarray, stack: np.ndarray, null: str, draws: int, rng: np.random.Generator
) -> dict[str, Any]:
    keys = ("alpha", "tail", "xmin", "distance", "sigma", "alpha_weighted", "log_alpha_norm")
    row: dict[str, Any] = dict.fromkeys((*keys, "p_value", "null_mean", "null_sd", "warning"))
    row["draws"] = 0
    if tail is None:
        return row
    kept = values[values > 0]
    powers = tail.alpha * np.log10(kept)
    row |= {
        "alpha": tail.alpha,
        "tail": tail.tail,
        "xmin": tail.xmin,
        "distance": tail.distance,
        "sigma": tail.sigma,
        "alpha_weighted": tail.alpha * float(np.log10(kept[0])),
        "log_alpha_norm": float(powers[0] + np.log10((10 ** (powers - powers[0])).sum())),
    }
    if not draws:
        return row
    alphas = null_alphas(stack, null, possible_draws(stack, draws), rng)
    finite = alphas[np.isfinite(alphas)]
    row["draws"] = len(alphas)
    row["p_value"] = share_as_small(tail.alpha, np.where(np.isfinite(alphas), alphas, np.finfo(float).max))
    if len(finite) > 1:
        row["null_mean"], row["null_sd"] = float(finite.mean()), float(finite.std(ddof=1))
    said = "over-trained" if tail.alpha < OVER_TRAINED else "under-trained" if tail.alpha > UNDER_TRAINED else None
    if said:
        row["warning"] = f"WeightWatcher would say {said}; p = {row['p_value']:.2g}"
    return row
