"""What all pictures share: colours, style, axes, words, and writing the same bytes each time.

The colours are told apart by colour-blind readers and, by darkness, dash and marker, in grey. No pyplot: a figure is an
object and nothing is global.
"""

import io
import json
import os
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..errors import InputError
from .files import write_bytes
from .verdict.curves import plain

LINE, DOTS, GREY = "#0072b2", "#d55e00", "#5f5f5f"
MARKERS, DASHES = "oDs^v", ("-", (0, (6, 2)), (0, (3, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
LOG_SPAN = 10**1.5  # an axis becomes logarithmic when its numbers span more
WORDS = {
    "train_loss": "training loss",
    "epoch": "epochs",
    "step": "steps",
    "n_samples": "training samples",
    "n_features": "features",
    "samples_per_feature": "samples per feature",
    "gradient_evaluations": "gradient evaluations",
}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "errorbar.capsize": 2.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.usetex": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "riron",
    "axes.unicode_minus": True,
    "path.simplify": True,
}


@contextmanager
def style():
    """The style of every picture, whatever the user's own settings are."""
    with matplotlib.rc_context(STYLE):
        yield


def save(
    figure: Figure, folder: str | os.PathLike, name: str = "figure", metadata: Mapping[str, Any] | None = None
) -> list[Path]:
    """Writes `name`.png and `name`.svg into a folder; the same figure gives the same bytes each time.

    Args:
      metadata: what makes this picture again; kept as JSON inside both files (PNG: text `riron`; SVG: description).

    Returns: the two paths.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{name}.png", place / f"{name}.svg"]
    write_bytes(paths[0], as_png(figure, metadata=metadata))
    write_bytes(paths[1], as_svg(figure, metadata=metadata).encode("utf-8"))
    return paths


def as_png(figure: Figure, *, dpi: int = 200, metadata: Mapping[str, Any] | None = None) -> bytes:
    """The figure as PNG, without date and version."""
    stream = io.BytesIO()
    inside: dict[str, Any] = {"Software": None}
    if metadata is not None:
        inside["riron"] = _json(metadata)
    with style():
        figure.savefig(stream, format="png", dpi=dpi, metadata=inside)
    return stream.getvalue()


def as_svg(figure: Figure, *, metadata: Mapping[str, Any] | None = None) -> str:
    """The figure as SVG, with text as outlines, so that it looks the same everywhere."""
    stream = io.BytesIO()
    inside: dict[str, Any] = {"Date": None, "Creator": None}
    if metadata is not None:
        inside["Description"] = _json(metadata)
    with style():
        figure.savefig(stream, format="svg", metadata=inside)
    return stream.getvalue().decode("utf-8")


def shade(colour: str, k: int, count: int) -> tuple[float, float, float]:
    """The colour of the k-th of `count` sizes: the largest is the colour itself, smaller ones are paler."""
    paleness = 0.0 if count < 2 else 0.55 * (1 - k / (count - 1))
    red, green, blue = (c + paleness * (1 - c) for c in to_rgb(colour))
    return red, green, blue


def record_of(dataset: xr.Dataset, name: str) -> tuple[str, np.ndarray]:
    """The record axis of a variable and its numbers (positions where its labels are names, or there are none)."""
    axes = [str(d) for d in dataset[name].dims if d != "seed"]
    if len(axes) != 1:
        raise InputError(f"{name} has the record {tuple(axes)}", do="choose one point of all axes but one to draw it")
    axis = axes[0]
    numbers = axis in dataset.coords and np.issubdtype(dataset[axis].dtype, np.number)
    return axis, np.asarray(dataset[axis] if numbers else np.arange(dataset.sizes[axis]), np.float64)


def choose_scales(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Logarithmic axes where the numbers span more than 1.5 decades; a record that starts at 0 keeps its 0."""
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    if is_wide(x):
        if x.min() > 0:
            axes.set_xscale("log")
        elif x.min() == 0:
            axes.set_xscale("symlog", linthresh=x[x > 0].min(), linscale=0.4)
    if y.size and y.min() > 0 and is_wide(y):
        axes.set_yscale("log")
    elif y.size and y.min() > 0 and axes.get_yscale() == "linear" and y.min() < 0.4 * y.max():
        axes.set_ylim(bottom=0)


def words_for(name: str, labels: Mapping[str, str] | None = None) -> str:
    """A label for a variable or an axis: the caller's, the built-in one, or the name itself."""
    return {**WORDS, **(labels or {})}.get(name, name.replace("_", " "))


def freeze(figure: Figure) -> None:
    """Lay out once, so that a second save gives the same bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def is_wide(values: np.ndarray) -> bool:
    """Whether the positive numbers span more than 1.5 decades."""
    positive = values[values > 0]
    return positive.size > 1 and positive.max() > LOG_SPAN * positive.min()


def plain_log_ticks(axis: Axis, values: np.ndarray) -> None:
    """Ticks at 1, 2 and 5 as plain numbers where the axis spans few decades."""
    positive = values[values > 0]
    if positive.max() / positive.min() < 1e4:
        few = positive.max() / positive.min() < 300
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())


def _json(metadata: Mapping[str, Any]) -> str:
    return json.dumps(plain(metadata), sort_keys=True, ensure_ascii=True)
