"""Phase diagrams: a measured quantity over two parameters, with the theory's boundary on it."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import MaxNLocator

from ..errors import InputError
from .figures import DOTS, freeze, is_wide, plain_log_ticks, style, words_for


def phase_diagram(
    values: xr.DataArray,
    *,
    line: xr.DataArray | None = None,
    boundary: tuple[Mapping[str, np.ndarray], str] | None = None,
    title: str = "",
    label: str = "",
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """A quantity over two parameters as a heat map, with the theory's boundary on it.

    Args:
      values: two dimensions, each labelled by its coordinate; the first goes along x. What is not finite is hatched.
      line: what theory predicts there, drawn as contours over the cells.
      boundary: coordinates of the curve by name of the two dimensions, and what the curve is called.
      title, label: above the picture, and beside the colours.
      labels: words for the two dimensions.
    """
    if values.ndim != 2 or any(d not in values.coords for d in values.dims):
        raise InputError(f"a phase diagram needs two labelled dimensions and has {values.dims}")
    across, up = map(str, values.dims)
    x, y = np.asarray(values[across], np.float64), np.asarray(values[up], np.float64)
    cells = np.ma.masked_invalid(np.asarray(values, np.float64).T)
    with style():
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(False)
        axes.patch.set(facecolor="#d9d9d9", hatch="///", edgecolor="#8c8c8c", linewidth=0)
        finite = cells.compressed()
        wide = finite.size > 0 and is_wide(finite) and finite.min() > 0
        norm = LogNorm() if wide else None
        mesh = axes.pcolormesh(
            _edges(x), _edges(y), cells, cmap="cividis", norm=norm, edgecolors="white", linewidth=0.4
        )
        bar = figure.colorbar(mesh, ax=axes, label=label or words_for(str(values.name or ""), labels))
        bar.outline.set_visible(False)
        for scale, numbers in ((axes.set_xscale, x), (axes.set_yscale, y)):
            scale("log" if _geometric(numbers) else "linear")
        for axis, numbers in ((axes.xaxis, x), (axes.yaxis, y)):
            if axis.get_scale() == "log":
                plain_log_ticks(axis, numbers)
        handles = []
        if line is not None and finite.size:
            theory = np.asarray(line.transpose(across, up), np.float64).T
            low, high = np.nanmin(theory), np.nanmax(theory)
            ticks = np.geomspace(low, high, 6) if wide and low > 0 else MaxNLocator(4).tick_values(low, high)
            margin = 0.02 * (high - low)  # a contour along a plateau would be noise
            levels = [tick for tick in ticks if low + margin < tick < high - margin]
            if len(levels):
                halo: list[AbstractPathEffect] = [withStroke(linewidth=2.6, foreground="white")]
                contours = axes.contour(x, y, theory, levels=levels, colors="black", linewidths=1.0, linestyles="--")
                contours.set_path_effects(halo)
                for text in axes.clabel(contours, fontsize=7, fmt=lambda v: f"{v:.3g}"):
                    text.set_path_effects(halo)
                handles.append(Line2D([], [], color="black", linewidth=1.0, linestyle="--", label="theory"))
        if boundary is not None:
            curve, name = boundary
            halo = [withStroke(linewidth=4.5, foreground="white")]
            handles += axes.plot(curve[across], curve[up], color=DOTS, linewidth=2.2, label=name, path_effects=halo)
        if cells.mask is not np.ma.nomask and np.any(cells.mask):
            handles.append(Patch(facecolor="#d9d9d9", hatch="///", edgecolor="#8c8c8c", label="diverged"))
        axes.set(xlim=(_edges(x)[0], _edges(x)[-1]), ylim=(_edges(y)[0], _edges(y)[-1]))
        axes.set(xlabel=words_for(across, labels), ylabel=words_for(up, labels))
        axes.spines[:].set_visible(False)
        if title:
            axes.set_title(title, fontweight="bold")
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        freeze(figure)
    return figure


def _geometric(values: np.ndarray) -> bool:
    """Whether a grid of numbers is better drawn on a logarithmic axis."""
    if len(values) < 3 or values.min() <= 0:
        return False
    evenness = lambda numbers: np.ptp(np.diff(numbers)) / np.ptp(numbers)
    return bool(evenness(np.log(values)) < evenness(values))


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells around their centres, half-way on the axis on which they are drawn."""
    geometric = _geometric(centres)
    at = np.log(centres) if geometric else centres
    middle = (at[1:] + at[:-1]) / 2
    borders = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.exp(borders) if geometric else borders
