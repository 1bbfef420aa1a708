"""The stability edge for all batch sizes, beside the published theory, and the rows that set it."""

from typing import Any

import numpy as np
import xarray as xr

from ..lab.progress import Progress, Show
from ..theory.homogenized_sgd import homogenized_edge
from ..theory.spectrum import Spectrum
from ..theory.stability import HEAVY_ROWS, Edge, growth_factor, stability_edge
from .breaking_rows import EXACT, breaking_rows

MANY = 1e9  # rows x p^2 of one application above which only every second power of two is computed
NAMED = 5  # rows of largest share that are named
FEW = (1, 2)  # of them that are also left out before all are
SET_BY = 0.25  # share of the feedback from which these rows are said to set the edge


def edge_batches(spectrum: Spectrum, batch: int, wanted: tuple[int, ...]) -> list[int]:
    """Batch sizes to report: powers of two (of four for large tables) up to n, and those that are needed."""
    n, p = spectrum.n, len(spectrum.eigenvalues)
    factor = 2 if min(n, HEAVY_ROWS) * p**2 <= MANY else 4
    powers = factor ** np.arange(int(np.log(n) / np.log(factor) + 1e-9) + 1)
    needed = [b for b in wanted if b <= max(1, n // 4)]
    return sorted({*powers.tolist(), *needed, batch, n})


def edge_table(
    spectrum: Spectrum,
    batches: list[int],
    *,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    progress: Show = None,
) -> tuple[list[dict[str, Any]], dict[int, Edge]]:
    """The edge at each batch size: rows of a table, and the edges themselves.

    Each search starts from the edge of the batch size before it. The published theory is that of plain SGD, times
    1 - momentum.
    """
    exact = spectrum.n * len(spectrum.eigenvalues) ** 2 <= EXACT
    rows = None if exact or spectrum.n <= HEAVY_ROWS else HEAVY_ROWS
    table, edges = [], {}
    start = None
    with Progress(len(batches), "stability edge", show=progress) as bar:
        for batch in batches:
            start = edges[batch] = stability_edge(
                spectrum, batch=batch, ridge=ridge, momentum=momentum, nesterov=nesterov, rows=rows, start=start
            )
            table.append(
                {
                    "batch": batch,
                    "exact": start.step_size,
                    "homogenized": (1 - momentum) * homogenized_edge(spectrum.eigenvalues, batch=batch),
                    "method": "exact" if rows is None else "hybrid",
                }
            )
            bar.advance()
    return table, edges


def describe_edge(
    spectrum: Spectrum,
    edge: Edge,
    batch: int,
    step_size: float,
    ridge: float,
    places: np.ndarray,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> tuple[dict[str, Any], xr.Dataset]:
    """The edge at one batch size: which rows set it, what it is without them, and what happens above it.

    Args:
      spectrum: the training rows.
      edge: at this batch size.
      batch, step_size, ridge: the setting.
      places: (n,) places of the training rows in the user's table, from 0.
      momentum, nesterov: of the training.
    Returns: the numbers, and what `breaking_rows` says of all rows.
    """
    setting: dict[str, Any] = {"batch": batch, "ridge": ridge, "momentum": momentum, "nesterov": nesterov}
    counts = [count for count in (*FEW, NAMED) if count <= spectrum.n - max(batch, 2)]
    few = edge.shares[np.argsort(edge.shares)[-NAMED:]].sum() >= SET_BY and spectrum.n > 2 * NAMED and NAMED in counts
    heavy = breaking_rows(spectrum, counts=counts if few else [], refresh=False, speed=few, edge=edge, **setting)
    order = np.argsort(edge.shares)[::-1][:NAMED]
    share = float(edge.shares[order].sum())
    ceiling = 2 * (1 + momentum) / (1 + 2 * momentum * nesterov) / (spectrum.eigenvalues[0] + ridge)
    found: dict[str, Any] = {
        "batch": batch,
        "step_size": edge.step_size,
        "fraction": step_size / edge.step_size,
        "ceiling": float(ceiling),
        "homogenized": (1 - momentum) * homogenized_edge(spectrum.eigenvalues, batch=batch),
        "rows": [
            {
                "row": int(places[i]) + 1,
                "share": float(edge.shares[i]),
                "times_mean_leverage": float(heavy.leverage.values[i]),
            }
            for i in order
        ],
        "share": share,
        "without_them": None,
        "without": [],
    }
    if few:
        columns = (counts, heavy.edge.values[1:], heavy.larger_step.values[1:], heavy.faster.values[1:])
        found["without"] = [
            {"rows": count, "step_size": float(smaller), "times": float(ratio), "faster": float(faster)}
            for count, smaller, ratio, faster in zip(*columns, strict=True)
        ]
        found["without_them"] = found["without"][-1]["step_size"]
    if step_size > edge.step_size:
        growth = growth_factor(spectrum, step_size=step_size, **setting)
        if growth > 1:
            found |= {"growth_factor": growth, "doubling_steps": float(np.log(2) / np.log(growth))}
    return found, heavy.assign_coords(row=places)
