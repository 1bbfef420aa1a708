"""Rows that break your training: which rows set the stability edge, and what removing or clipping them would give."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ..checks import as_targets
from ..errors import InputError
from ..theory.clipped_sgd import clipped_sgd
from ..theory.many_forecasts import least_squares_many
from ..theory.spectrum import Spectrum, check_setting
from ..theory.stability import HEAVY_ROWS, Edge, stability_edge

COUNTS = (1, 2, 5, 10, 20)
EXACT = 3e8  # n p^2 up to which edges are exact; above it the hybrid
FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.7)  # of the edge, among which the fastest step size is sought
CLIPPED = (*FRACTIONS, 1.2, 2.0, 4.0)  # clipped SGD has no edge: fractions of that without clipping
QUANTILE = 0.9  # of the rows' gradient norms at the start: the default threshold
REMOVED = 0.95  # share of the excess loss that training is to remove
ROWS = 300  # rows that stand for all in the curves that are timed, by the diagonal closure
POINTS = 60  # of a curve


def breaking_rows(
    X: ArrayLike | Spectrum,
    y: ArrayLike | None = None,
    *,
    batch: int,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    counts: Sequence[int] = COUNTS,
    refresh: bool = True,
    speed: bool = False,
    epochs: float = 5.0,
    threshold: float | None = None,
    edge: Edge | None = None,
) -> xr.Dataset:
    """Which rows set the stability edge, and how much larger a step is without them, or with their gradients clipped.

    Rows are removed in the order of their share in the feedback that sets the edge.

    Args:
      X: (n, p) features as SGD sees them, or their `Spectrum`.
      y: (n,) or (n, K) targets; needed for `speed` only.
      batch, ridge, momentum, nesterov: of the training.
      counts: how many rows to remove, increasing.
      refresh: compute the shares anew at each of the counts, because other rows may take over; False keeps the first.
      speed: also forecast how many steps training takes without them, and with clipping (one output, no momentum);
        with momentum that of plain SGD at step_size / (1 - momentum).
      epochs: length of these forecasts.
      threshold: norm at which a row's gradient is clipped; None for the 90 % quantile at the start.
      edge: of all rows, where it is known.
    Returns: Dataset over `row`: share (of the feedback; they sum to 1), leverage (times the mean), order (1: removed
      first; 0: never); over `removed`: edge, larger_step (times that of all rows). With `speed`: steps (to remove 95 %
      of the excess loss, the fastest of the step sizes tried; nan: not within the epochs), faster (times). Losses are
      those of the held-out rows of a Spectrum, else of the rows that are never removed. With one output and no
      momentum: clipped_threshold, clipped_step, clipped_steps, clipped_faster.
    Raises: InputError for values out of range.
    """
    spectrum = X if isinstance(X, Spectrum) else _spectrum(np.asarray(X), y, speed)
    check_setting(spectrum, batch=batch, ridge=ridge)
    counts = [0, *counts]
    if any(b <= a for a, b in pairwise(counts)):
        raise InputError(f"counts={counts[1:]} must be whole numbers above 0 that increase")
    if len(counts) > 1 and counts[-1] > spectrum.n - max(batch, 2):
        raise InputError(f"{counts[-1]} of {spectrum.n} rows cannot be removed at batch {batch}", do="lower counts")
    setting: dict[str, Any] = {"batch": batch, "ridge": ridge, "momentum": momentum, "nesterov": nesterov}
    exact = spectrum.n * len(spectrum.eigenvalues) ** 2 <= EXACT
    rows = None if exact or spectrum.n <= HEAVY_ROWS else HEAVY_ROWS
    first = edge or stability_edge(spectrum, rows=rows, **setting)
    edges, removed, here = [first.step_size], np.empty(0, int), first
    left = np.arange(spectrum.n)
    for count in counts[1:]:
        heaviest = np.argsort(here.shares if refresh else first.shares[left])[::-1][: count - len(removed)]
        removed = np.append(removed, left[heaviest])
        left = np.delete(left, heaviest)
        # A start for the search: the shares of the rows that stay.
        start = Edge(here.step_size, np.delete(here.shares, heaviest))
        here = stability_edge(without(spectrum, left), rows=rows, start=start, **setting)
        edges.append(here.step_size)
    order = np.zeros(spectrum.n, int)
    order[removed] = np.arange(1, len(removed) + 1)
    found = xr.Dataset(
        {
            "share": ("row", first.shares),
            "leverage": ("row", spectrum.leverage / spectrum.leverage.mean()),
            "order": ("row", order),
            "edge": ("removed", np.array(edges)),
            "larger_step": ("removed", np.array(edges) / edges[0]),
        },
        coords={"row": np.arange(spectrum.n), "removed": counts},
        attrs={"batch": batch, "ridge": ridge, "momentum": momentum},
    )
    return found.assign(_speeds(spectrum, found, setting, epochs, threshold)) if speed else found


def breaking_sentences(found: xr.Dataset | None) -> list[str]:
    """What removing or clipping the rows gives, in words."""
    if found is None:
        return []
    sentences = []
    for count, edge, ratio in zip(
        found.removed.values[1:], found.edge.values[1:], found.larger_step.values[1:], strict=True
    ):
        line = f"Without {_rows(count)} of largest share the edge is {edge:.3g}, {ratio:.3g} times as large"
        if "faster" in found:
            faster = float(found.faster.sel(removed=count))
            line += f", and training {_times(faster)}"
        sentences.append(f"{line}.")
    if "clipped_faster" in found:
        sentences.append(
            f"With each row's gradient clipped at norm {float(found.clipped_threshold):.3g} training "
            f"{_times(float(found.clipped_faster))}, at step size {float(found.clipped_step):.3g}."
        )
    return sentences


def without(spectrum: Spectrum, kept: np.ndarray, judged: np.ndarray | None = None) -> Spectrum:
    """The spectrum of the rows that are kept; held-out rows as before, or else the rows `judged`."""
    test_rows, test_targets = spectrum.test_rows, spectrum.test_targets
    if test_rows is None and judged is not None:
        test_rows, test_targets = spectrum.rows[judged], spectrum.targets[judged]
    return Spectrum.of(spectrum.rows[kept], spectrum.targets[kept], test_rows, test_targets)


def _spectrum(X: np.ndarray, y: ArrayLike | None, speed: bool) -> Spectrum:
    if y is None and speed:
        raise InputError("how fast training is depends on the targets", do="pass y, or speed=False")
    return Spectrum.of(X, np.zeros(len(X)) if y is None else as_targets(y, "y", len(X)))


def _speeds(spectrum: Spectrum, found: xr.Dataset, setting: dict, epochs: float, threshold: float | None) -> dict:
    """Steps to the same loss, each at the fastest step size tried."""
    order, batch = found.order.values, setting["batch"]
    horizon = max(2, int(epochs * spectrum.n / batch))
    record = xr.DataArray(np.unique(np.append(0, np.geomspace(1, horizon, POINTS).astype(int))), dims="step")
    fewest = spectrum.n - int(found.removed.values[-1])
    sampled = min(ROWS, fewest)  # the same number throughout, so that one compilation serves all
    judged = np.flatnonzero(order == 0)

    def curves(count: int, edge: float) -> np.ndarray:
        kept = without(spectrum, np.flatnonzero((order == 0) | (order > count)), judged)
        together = least_squares_many(
            kept,
            batches=[setting["batch"]] * len(FRACTIONS),
            step_sizes=[f * edge / (1 - setting["momentum"]) for f in FRACTIONS],  # of the plain SGD equal to it
            records=[record.values] * len(FRACTIONS),
            sampling="with-replacement",
            ridge=setting["ridge"],
            covariance="diagonal",
            rows=sampled,
            errors=False,
        )
        return together["test_loss"]

    lines = [curves(int(count), edge) for count, edge in zip(found.removed.values, found.edge.values, strict=True)]
    level = lines[0][0, 0] - REMOVED * (lines[0][0, 0] - np.nanmin(lines[0]))
    fastest = [np.nanmin([*(_crossing(record.values, line, level) for line in of), np.inf]) for of in lines]
    steps = np.array(fastest)
    steps[np.isinf(steps)] = np.nan
    speeds: dict = {"steps": ("removed", steps), "faster": ("removed", steps[0] / steps), "level": level}
    if spectrum.outputs == 1 and setting["momentum"] == 0:
        whole = without(spectrum, np.arange(spectrum.n), judged)
        norms = np.abs(whole.targets[:, 0]) * np.sqrt(whole.leverage)
        threshold = float(np.quantile(norms, QUANTILE)) if threshold is None else threshold
        clip = {"batch": batch, "ridge": setting["ridge"], "threshold": threshold, "rows": sampled, "record": record}
        tried = [f * float(found.edge[0]) for f in CLIPPED]
        taken = [
            _crossing(record.values, clipped_sgd(whole, step_size=s, **clip).test_loss.values, level) for s in tried
        ]
        best = int(np.argmin(taken))
        speeds |= {"clipped_threshold": threshold, "clipped_step": tried[best]}
        speeds |= {"clipped_steps": taken[best], "clipped_faster": steps[0] / taken[best]}
    return speeds


def _crossing(steps: np.ndarray, losses: np.ndarray, level: float) -> float:
    """The first step at which the loss is down to `level`, between the points; inf if it never is."""
    down = np.flatnonzero(losses <= level)
    if not down.size:
        return np.inf
    i = down[0]
    if i == 0:
        return float(steps[0])
    share = (losses[i - 1] - level) / (losses[i - 1] - losses[i])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def _rows(count: int) -> str:
    return "the row" if count == 1 else f"the {count} rows"


def _times(faster: float) -> str:
    if not np.isfinite(faster) or faster == 0:
        return "does not come as far within these epochs"
    if 0.95 < faster < 1.05:
        return "is as fast"
    return f"is {faster:.2g} times as fast" if faster > 1 else f"takes {1 / faster:.2g} times as many steps"
