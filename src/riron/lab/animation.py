"""A run drawn over its theory as it goes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from ..errors import InputError
from .figures import DOTS, GREY, LINE, choose_scales, freeze, plain_log_ticks, style, words_for
from .films import Animation, check_path, on_one_palette
from .plots import Series, choose_variables
from .verdict.curves import Datasets, as_datasets, plain

__all__ = ["Animation", "animate"]

MOST_RUNS = 24  # thin lines of single runs; more would only be a cloud


def animate(
    dots: Datasets | xr.Dataset,
    line: Datasets | xr.Dataset,
    path: str | os.PathLike | None = None,
    *,
    variable: str | None = None,
    size: Any = None,
    seconds: float = 4.0,
    frames_per_second: float = 15.0,
    title: str = "",
    labels: Mapping[str, str] | None = None,
) -> Animation:
    """The run over its theory: the line is there from the start, single runs and their mean grow along it.

    Args:
      dots, line: as in `lab.plots.draw`.
      path: a .gif, .html or .mp4 file to write; None writes nothing.
      variable: which; default the first that dots and line share.
      size: which; default the largest.
      seconds: length.
      frames_per_second: how smooth.
      title: above the picture.
      labels: words for the variable and the record.

    Returns: an Animation, with `save(path)`; a notebook shows it.

    Raises: InputError for an unknown suffix, before anything is drawn; for an unknown variable or size.
    """
    if path is not None:
        check_path(path)
    if not (seconds > 0 and frames_per_second > 0):
        raise InputError(f"seconds={seconds} and frames_per_second={frames_per_second} must both be > 0")
    measured, predicted = as_datasets(dots, "dots"), as_datasets(line, "line")
    size = list(measured)[-1] if size is None else size
    if size not in measured or size not in predicted:
        raise InputError(f"there is no size {size}", do=f"there are {', '.join(str(plain(s)) for s in measured)}")
    (name,) = choose_variables(measured, predicted, None, [variable] if variable else None)[:1]
    series = Series.of(measured[size], predicted[size], name)
    runs = np.asarray(measured[size][name].transpose("seed", series.axis), np.float64)
    with style():
        growing = _stage(series, runs, name, title, labels)
        count = max(2, round(seconds * frames_per_second))
        pictures = [growing.picture(share) for share in np.linspace(0, 1, count)]
    film = Animation(on_one_palette(pictures), frames_per_second, title or words_for(name, labels))
    if path is not None:
        film.save(path)
    return film


@dataclass(frozen=True)
class Growing:
    """What grows from frame to frame, over a background that is drawn once."""

    figure: Figure
    series: Series
    runs: np.ndarray  # (S, R)
    position: np.ndarray  # of the record along the axis as it is drawn, 0 to 1
    background: Any
    front: Line2D
    threads: list[Line2D]
    line: Line2D
    bars: LineCollection
    mean: Line2D
    note: Text

    def picture(self, share: float) -> Image.Image:
        """Everything up to `share` of the way along the axis."""
        s, reached = self.series, self.position <= share + 1e-9
        now = float(np.interp(share, self.position, s.x))
        here = [np.interp(share, self.position, run) for run in self.runs]
        for thread, run, value in zip(self.threads, self.runs, here, strict=False):
            thread.set_data(np.append(s.x[reached], now), np.append(run[reached], value))
        seen = reached & np.isfinite(s.mean)
        x, mean, error = s.x[seen], s.mean[seen], s.error[seen]
        self.mean.set_data(x, mean)
        ends = [((a, b - c), (a, b + c)) for a, b, c in zip(x, mean, error, strict=True)]
        self.bars.set_segments(ends)
        self.front.set_xdata([now, now])
        self.note.set_text(f"{words_for(s.axis)}: {now:.3g}" if abs(now) < 1000 else f"{words_for(s.axis)}: {now:,.0f}")
        canvas = self.figure.canvas
        canvas.restore_region(self.background)  # type: ignore[attr-defined]
        for artist in (self.front, *self.threads, self.line, self.bars, self.mean, self.note):
            artist.draw(canvas.get_renderer())  # type: ignore[attr-defined]
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]


def _stage(series: Series, runs: np.ndarray, name: str, title: str, labels) -> Growing:
    """The figure, with what moves taken out of its background."""
    figure = Figure(figsize=(6.4, 4.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    choose_scales(axes, series.x, np.append(series.line, runs[np.isfinite(runs)]))
    (line,) = axes.plot(series.x, series.line, color=LINE, label="theory")
    axes.set_ylim(_limits(series, runs, log=axes.get_yscale() == "log"))
    axes.margins(x=0.03)
    if axes.get_xscale() == "log":
        plain_log_ticks(axes.xaxis, series.x)
    thin = {"color": DOTS, "linewidth": 0.7, "alpha": 0.35}
    threads = [axes.plot([], [], **thin)[0] for _ in runs[:MOST_RUNS]]
    threads[0].set_label("single runs")
    bars = axes.vlines([], [], [], color=DOTS, linewidth=1.1)
    dot = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5, "linestyle": "none"}
    (mean,) = axes.plot([], [], marker="o", color=DOTS, **dot, label=f"mean ± s.e. of {len(runs)} runs")
    front = axes.axvline(series.x[0], color="#999999", linewidth=0.8)
    axes.set(xlabel=words_for(series.axis, labels), ylabel=words_for(name, labels))
    axes.set_title(title or words_for(name, labels), fontweight="bold")
    note = axes.text(1, 1.02, "", transform=axes.transAxes, ha="right", fontsize=8, color=GREY, in_layout=False)
    figure.legend(loc="outside lower center", ncols=3)
    freeze(figure)
    for artist in (line, *threads, bars, mean, front, note):
        artist.set_animated(True)
    canvas.draw()
    drawn = axes.transData.transform(np.column_stack([series.x, np.full(len(series.x), axes.get_ylim()[1])]))[:, 0]
    position = (drawn - drawn[0]) / (np.ptp(drawn) or 1.0)
    background = canvas.copy_from_bbox(figure.bbox)
    return Growing(figure, series, runs, position, background, front, threads, line, bars, mean, note)


def _limits(series: Series, runs: np.ndarray, *, log: bool) -> tuple[float, float]:
    """Of the vertical axis: line, means and nearly all runs, since one wild run must not flatten the rest."""
    finite = runs[np.isfinite(runs)]
    usual = np.quantile(finite, [0.01, 0.99]) if finite.size else np.array([])
    everything = np.concatenate([series.line, series.mean, usual])
    everything = everything[np.isfinite(everything) & ((everything > 0) | (not log))]
    low, high = everything.min(), everything.max()
    if log:
        return low / 1.3, high * 1.3
    return 0.0 if 0 <= low < 0.4 * high else low - 0.06 * (high - low), high + 0.06 * (high - low)
