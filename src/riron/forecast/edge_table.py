"""The stability edge for all batch sizes, beside the published theory, and the rows that set it."""

from typing import Any

import numpy as np

from ..lab.progress import Progress, Show
from ..theory.homogenized_sgd import homogenized_edge
from ..theory.spectrum import Spectrum
from ..theory.stability import HEAVY_ROWS, Edge, growth_factor, stability_edge

EXACT = 3e8  # n p^2 up to which every edge is exact; above it the hybrid
MANY = 1e9  # rows x p^2 of one application above which only every second power of two is computed
NAMED = 5  # rows of largest share that are named
SET_BY = 0.25  # share of the feedback from which these rows are said to set the edge


def edge_batches(spectrum: Spectrum, batch: int, wanted: tuple[int, ...]) -> list[int]:
    """Batch sizes to report: powers of two (of four for large tables) up to n, and those that are needed."""
    n, p = spectrum.n, len(spectrum.eigenvalues)
    factor = 2 if min(n, HEAVY_ROWS) * p**2 <= MANY else 4
    powers = factor ** np.arange(int(np.log(n) / np.log(factor) + 1e-9) + 1)
    needed = [b for b in wanted if b <= max(1, n // 4)]
    return sorted({*powers.tolist(), *needed, batch, n})


def edge_table(
    spectrum: Spectrum, batches: list[int], *, ridge: float = 0.0, progress: Show = None
) -> tuple[list[dict[str, Any]], dict[int, Edge]]:
    """The edge at each batch size: rows of a table, and the edges themselves.

    Each search starts from the edge of the batch size before it.
    """
    exact = spectrum.n * len(spectrum.eigenvalues) ** 2 <= EXACT
    rows = None if exact or spectrum.n <= HEAVY_ROWS else HEAVY_ROWS
    table, edges = [], {}
    start = None
    with Progress(len(batches), "stability edge", show=progress) as bar:
        for batch in batches:
            start = edges[batch] = stability_edge(spectrum, batch=batch, ridge=ridge, rows=rows, start=start)
            table.append(
                {
                    "batch": batch,
                    "exact": start.step_size,
                    "homogenized": homogenized_edge(spectrum.eigenvalues, batch=batch),
                    "method": "exact" if rows is None else "hybrid",
                }
            )
            bar.advance()
    return table, edges


def describe_edge(
    spectrum: Spectrum, edge: Edge, batch: int, step_size: float, ridge: float, places: np.ndarray
) -> dict[str, Any]:
    """The edge at one batch size: which rows set it, what it is without them, and what happens above it.

    Args:
      spectrum: the training rows.
      edge: at this batch size.
      batch, step_size, ridge: the setting.
      places: (n,) places of the training rows in the user's table, from 0.
    """
    order = np.argsort(edge.shares)[::-1][:NAMED]
    leverage = spectrum.leverage
    ceiling = 2 / (spectrum.eigenvalues[0] + ridge)
    found: dict[str, Any] = {
        "batch": batch,
        "step_size": edge.step_size,
        "fraction": step_size / edge.step_size,
        "ceiling": float(ceiling),
        "homogenized": homogenized_edge(spectrum.eigenvalues, batch=batch),
        "rows": [
            {
                "row": int(places[i]) + 1,
                "share": float(edge.shares[i]),
                "times_mean_leverage": float(leverage[i] / leverage.mean()),
            }
            for i in order
        ],
        "share": float(edge.shares[order].sum()),
        "without_them": None,
    }
    if found["share"] >= SET_BY and spectrum.n > 2 * NAMED and batch <= spectrum.n - NAMED:
        rest = np.setdiff1d(np.arange(spectrum.n), order)
        smaller = Spectrum.of(spectrum.rows[rest], spectrum.targets[rest])
        rows = None if spectrum.n * len(spectrum.eigenvalues) ** 2 <= EXACT else HEAVY_ROWS
        found["without_them"] = stability_edge(smaller, batch=batch, ridge=ridge, rows=rows).step_size
    if step_size > edge.step_size:
        growth = growth_factor(spectrum, batch=batch, step_size=step_size, ridge=ridge)
        if growth > 1:
            found |= {"growth_factor": growth, "doubling_steps": float(np.log(2) / np.log(growth))}
    return found
