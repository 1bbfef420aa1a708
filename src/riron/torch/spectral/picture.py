"""The picture of spectra: what a layer reads, its degrees of freedom, and its weight beside noise."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ...lab.figures import DOTS, GREY, LINE, style
from ...theory.degrees_of_freedom import at_relative_levels
from ...theory.marchenko_pastur import density
from ...theory.spectral_ranks import tail_sums
from .result import LEVELS, Spectra

MOST_BINS, PER_BIN = 40, 5
FLOOR = 1e-9  # of a spectrum, relative to its largest value, below which it is not drawn


def draw_spectra(found: Spectra, rows: list[dict[str, Any]]) -> Figure:
    """One row of panels a layer with activations, else one panel a layer."""
    several = bool(found.activations)
    columns = 3 if several else min(len(rows), 3)
    lines = len(rows) if several else -(-len(rows) // columns)
    with style():
        figure = Figure(figsize=(4.0 * columns, 0.4 + 2.9 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        for k, row in enumerate(rows):
            first = columns * k + 1 if several else k + 1
            if several and row["layer"] in found.activations:
                _spectrum(figure.add_subplot(lines, 3, first), found, row)
                _freedom(figure.add_subplot(lines, 3, first + 1), found, row)
            last = first + 2 if several else first
            _weights(figure.add_subplot(lines, columns, last), found, row)
    return figure


def _few_ticks(axes: Axes) -> None:
    """Numbers at powers of ten only."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())


def _spectrum(axes: Axes, found: Spectra, row: dict[str, Any]) -> None:
    mu = found.activations[row["layer"]]
    total = max(float(mu.sum()), 1e-300)
    place = np.arange(1, len(mu) + 1)
    share, left = np.maximum(mu / total, 1e-300), np.maximum(tail_sums(mu)[:-1] / total, 1e-300)
    axes.loglog(place, share, color=DOTS, marker=".", markersize=3, linewidth=0.8, label="eigenvalue")
    axes.loglog(place, left, color=LINE, label="sum from here on")
    if row["decay_exponent"] is not None:
        j = np.array([row["decay_first"], row["decay_last"]], dtype=np.float64)
        inside = slice(row["decay_first"] - 1, row["decay_last"])
        level = np.log(mu[inside]).mean() + row["decay_exponent"] * np.log(place[inside]).mean()
        fit = np.exp(level) * j ** -row["decay_exponent"] / total
        axes.loglog(j, fit, color=GREY, linestyle="--", label=f"$j^{{-{row['decay_exponent']:.2f}}}$")
    axes.set_ylim(max(FLOOR, float(mu[mu > 0].min(initial=1.0) / total) / 3), 2)
    axes.set(xlabel="j", ylabel="share of the variance")
    axes.set_title(f"{row['layer'][-40:]}: what it reads", fontweight="bold")
    _few_ticks(axes)
    axes.legend(fontsize=7)


def _freedom(axes: Axes, found: Spectra, row: dict[str, Any]) -> None:
    for spectrum, colour, dash, text in (
        (found.activations, LINE, "-", "N"),
        (found.visible, DOTS, (0, (6, 2)), "N seen by its weight"),
    ):
        values = spectrum[row["layer"]]
        if values.max() > 0:
            axes.loglog(LEVELS, at_relative_levels(values, LEVELS), color=colour, linestyle=dash, label=text)
    for lam in found.lam:
        axes.axvline(lam, color=GREY, linewidth=0.7, linestyle=":")
    axes.axhline(row["nodes"], color=GREY, linewidth=0.8, label=f"{row['nodes']} nodes")
    axes.set(xlabel="λ / mean eigenvalue", ylabel="degrees of freedom")
    axes.set_ylim(bottom=0.5)
    axes.set_title("degrees of freedom", fontweight="bold")
    _few_ticks(axes)
    axes.legend(fontsize=7)


def _weights(axes: Axes, found: Spectra, row: dict[str, Any]) -> None:
    """Eigenvalues counted in bins of equal width in log x, so that x times the density is drawn."""
    values = found.weights[row["layer"]]
    values = values[values > FLOOR * max(float(values[0]), 1e-300)]
    axes.set_title(f"{row['layer'][-40:]}: its weight", fontweight="bold")
    if not len(values):
        axes.text(0.5, 0.5, "zero", transform=axes.transAxes, ha="center")
        return
    low, high = values[-1] / 1.2, max(values[0], row["spike_threshold"]) * 1.2
    borders = np.geomspace(low, high, min(MOST_BINS, max(len(values) // PER_BIN, 6)) + 1)
    wide = np.log(borders[1] / borders[0])
    axes.hist(values, borders, color=GREY, alpha=0.45, label="eigenvalues of $W^T W$")
    x = np.geomspace(low, high, 600)
    long = max(row["rows"], row["columns"])
    noise = density(x / long, row["rows"], row["columns"], max(row["bulk_variance"], 1e-300)) / long
    bulk = len(found.weights[row["layer"]]) - row["spikes"]
    axes.plot(x, bulk * noise * x * wide, color=LINE, label="Marchenko–Pastur")
    beyond = f"{row['spikes']} spikes beyond"
    axes.axvline(row["spike_threshold"], color=LINE, linewidth=0.9, linestyle=":", label=beyond)
    if row["alpha"] is not None:
        x = np.geomspace(row["xmin"], values[0], 50)
        tail = row["tail"] * (row["alpha"] - 1) * (x / row["xmin"]) ** (1 - row["alpha"]) * wide
        p = "" if row["p_value"] is None else f", p = {row['p_value']:.2g}"
        axes.plot(x, tail, color=DOTS, linestyle="--", label=f"tail, α = {row['alpha']:.2f}{p}")
    axes.set(xscale="log", yscale="log", xlabel="eigenvalue", ylabel="number")
    top = axes.get_ylim()[1]
    axes.set_ylim(0.5, 3 * top)  # room for the legend
    _few_ticks(axes)
    axes.legend(fontsize=7)
