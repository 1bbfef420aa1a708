"""Pictures of a verdict: the line, the dots with error bars, and what is left between them, on the same axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from ..checks import nearest
from ..errors import InputError
from .diagrams import phase_diagram
from .figures import (
    DASHES,
    DOTS,
    GREY,
    LINE,
    MARKERS,
    as_png,
    as_svg,
    choose_scales,
    freeze,
    plain_log_ticks,
    record_of,
    save,
    shade,
    style,
    words_for,
)
from .verdict.base import percent
from .verdict.curves import Datasets, as_datasets, plain

__all__ = ["as_png", "as_svg", "draw", "phase_diagram", "save"]


def draw(
    dots: Datasets | xr.Dataset,
    line: Datasets | xr.Dataset,
    report: Mapping[str, Any] | None = None,
    *,
    variables: Sequence[str] | None = None,
    title: str = "",
    labels: Mapping[str, str] | None = None,
    beside: Mapping[str, Datasets] | None = None,
) -> Figure:
    """Dots with error bars on their line, one panel for each variable, and below it their relative difference.

    Args:
      dots: {size: Dataset with dims (seed, record)}, or one Dataset.
      line: the same without seed; `<variable>_sd` is drawn as a band between runs, `<variable>_tolerance` as the
        band that the theory allows itself in the lower strip.
      report: of `riron.lab.verdict.judge`; its verdicts go into the titles.
      variables: which, in which order; default those of the report, or all that dots and line share.
      title: above all panels.
      labels: words for variables, the record and "size", where the built-in ones do not fit.
      beside: {name: {size: Dataset}}, other theories, drawn thin and grey at the largest size.

    Returns: a Matplotlib Figure; `save` writes it.

    A record of several dimensions is laid out along one axis, piece after piece.

    Raises: InputError for a variable that is not there.
    """
    measured, predicted = as_datasets(dots, "dots"), as_datasets(line, "line")
    names = choose_variables(measured, predicted, report, variables)
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    with style():
        figure = Figure(figsize=(1.2 + 3.7 * columns, 0.9 + 4.1 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2 * rows, columns, height_ratios=[3, 1] * rows)
        for k, name in enumerate(names):
            above = figure.add_subplot(grid[2 * (k // columns), k % columns])
            below = figure.add_subplot(grid[2 * (k // columns) + 1, k % columns], sharex=above)
            _panel(above, below, measured, predicted, name, labels, beside or {})
            _title(above, name, report, labels)
        _legend(figure, measured)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        freeze(figure)
    return figure


def choose_variables(measured: dict, predicted: dict, report, variables: Sequence[str] | None) -> list[str]:
    """Those asked for, those that were judged, or all that dots and line share."""
    shared = [
        str(name)
        for name in next(iter(measured.values())).data_vars
        if all(name in data for data in [*measured.values(), *predicted.values()])
    ]
    if variables is None:
        judged = [comparison["variable"] for comparison in (report or {}).get("comparisons", [])]
        variables = list(dict.fromkeys(name for name in judged if name in shared)) or shared
    for name in variables:
        if name not in shared:
            hint = nearest(name, shared) or f"there are {', '.join(shared)}"
            raise InputError(f"dots and line share no variable '{name}'", do=hint)
    if not variables:
        raise InputError("dots and line share no variable", do="give both the same names")
    return list(dict.fromkeys(variables))


@dataclass(frozen=True)
class Series:
    """Line and dots of one variable at one size, on the record."""

    axis: str
    x: np.ndarray
    line: np.ndarray
    mean: np.ndarray
    error: np.ndarray  # standard error of the mean; 0 for a single run
    poles: tuple[float, ...] = ()  # abscissae across which the line must not be joined: the axis' attribute `poles`

    @classmethod
    def of(cls, dots: xr.Dataset, line: xr.Dataset, name: str) -> "Series":
        if dots[name].ndim > 2:
            return cls.of(*laid_out(dots, line, name), name)
        axis, x = record_of(dots, name)
        runs = np.asarray(dots[name].transpose("seed", axis), np.float64)
        with np.errstate(all="ignore"):  # diverged runs leave no dot
            error = runs.std(axis=0, ddof=min(1, len(runs) - 1)) / np.sqrt(len(runs))
            poles = tuple(np.atleast_1d(line[axis].attrs.get("poles", ())) if axis in line.coords else ())
            return cls(axis, x, np.asarray(line[name], np.float64), runs.mean(axis=0), error, poles)

    def path(self) -> tuple[np.ndarray, np.ndarray]:
        """The line with a break at each pole."""
        x = np.concatenate([self.x, self.poles])
        order = np.argsort(x, kind="stable")
        return x[order], np.concatenate([self.line, np.full(len(self.poles), np.nan)])[order]

    def relative(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Abscissae, dots/line - 1 and its error in per cent, where they are finite."""
        with np.errstate(all="ignore"):
            value, error = 100 * (self.mean - self.line) / np.abs(self.line), 100 * self.error / np.abs(self.line)
        rounding = 1e-9 * np.abs(self.line).max(initial=0.0)  # where the line is zero there is no ratio
        sound = np.isfinite(value) & np.isfinite(error) & (np.abs(self.line) > rounding)
        return self.x[sound], value[sound], error[sound]


def laid_out(dots: xr.Dataset, line: xr.Dataset, name: str) -> tuple[xr.Dataset, xr.Dataset]:
    """The variable with all axes of its record joined into one, the longest running fastest, a gap between pieces."""
    axes = sorted((str(d) for d in dots[name].dims if d != "seed"), key=dots.sizes.__getitem__)
    length = dots.sizes[axes[-1]]
    pieces = int(np.prod([dots.sizes[axis] for axis in axes[:-1]]))
    place = (np.arange(pieces)[:, None] * (length + 1) + np.arange(length)).ravel()
    joined = ", ".join(axes)
    between = {"poles": np.arange(1, pieces) * (length + 1) - 1.0}
    coords = {joined: xr.Variable(joined, place, between)}
    of = lambda data, lead: np.asarray(data[name].transpose(*lead, *axes), np.float64)
    runs, told = of(dots, ["seed"]), of(line, [])
    return (
        xr.Dataset({name: (("seed", joined), runs.reshape(len(runs), -1))}, coords),
        xr.Dataset({name: (joined, told.ravel())}, coords),
    )


def _panel(above: Axes, below: Axes, measured: dict, predicted: dict, name: str, labels, beside: Mapping) -> None:
    measured, predicted, beside = _with_record(measured, predicted, name, beside)
    series = {size: Series.of(measured[size], predicted[size], name) for size in measured}
    same = _is_one_line([s.line for s in series.values()])
    below.axhline(0, color=LINE, linewidth=1.2)
    reach = 1e-3
    for k, (size, s) in enumerate(series.items()):
        largest = k == len(series) - 1
        at_size = "" if len(series) == 1 else f", {words_for('size', labels)} {plain(size):g}"
        if largest or not same:
            text = f"theory, limit of large {words_for('size', labels).rstrip(' =')}" if same else f"theory{at_size}"
            dashes = DASHES[(len(series) - 1 - k) % len(DASHES)]
            told = {"color": shade(LINE, k, len(series)), "linestyle": dashes, "label": text, "zorder": 2}
            if len(s.x) == 1:  # a line through one point cannot be seen
                told |= {"marker": "_", "markersize": 40, "markeredgewidth": 1.5}
            above.plot(*s.path(), **told)
        if largest:
            _bands(above, below, s, predicted[size], name)
            for pole in s.poles:
                above.axvline(pole, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        dot = {"color": shade(DOTS, k, len(series)), "marker": MARKERS[k % len(MARKERS)], "linestyle": "none"}
        dot |= {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.5, "elinewidth": 1.1, "zorder": 3}
        finite = np.isfinite(s.mean) & np.isfinite(s.error)
        above.errorbar(s.x[finite], s.mean[finite], s.error[finite], **dot, label=f"runs{at_size}")
        # sizes stand side by side in the strip, a few points apart on paper
        aside = ScaledTranslation((k - (len(series) - 1) / 2) * 5 / 72, 0, below.figure.dpi_scale_trans)
        x, value, error = s.relative()
        below.errorbar(x, value, error, **dot, transform=below.transData + aside)
        reach = max(reach, (np.abs(value) + error).max(initial=0.0))
    largest_size = list(series)[-1]
    for label, others in beside.items():
        if largest_size in others:
            other = Series.of(measured[largest_size], others[largest_size], name)
            above.plot(*other.path(), color=GREY, linewidth=0.9, linestyle=":", label=label)
    x = np.concatenate([s.x for s in series.values()])
    axis = series[largest_size].axis
    names = names_along(measured[largest_size], axis)
    positions = names is not None or "," in axis  # and not values
    choose_scales(
        above, 0 * x if positions else x, np.concatenate([np.append(s.line, s.mean) for s in series.values()])
    )
    for axes in (above, below):
        axes.margins(x=0.045)
    if above.get_xscale() == "log":
        plain_log_ticks(above.xaxis, x)
    above.tick_params(labelbottom=False)
    if names is not None:
        below.set_xticks(np.arange(len(names)), names)
    below.set(xlabel=words_for(axis, labels), ylabel="dots/line − 1")
    below.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %".replace("-", "−")))
    below.set_ylim(-1.15 * reach, 1.15 * reach)


def names_along(dots: xr.Dataset, axis: str) -> list[str] | None:
    """The labels of an axis whose points have names; None where they are numbers."""
    if axis not in dots.coords or np.issubdtype(dots[axis].dtype, np.number):
        return None
    return [str(name) for name in dots[axis].values]


def _is_one_line(lines: Sequence[np.ndarray]) -> bool:
    """Whether several sizes share one line, a limit."""
    last = lines[-1]
    scale = 1e-9 * np.abs(last).max(initial=0.0)
    return len(lines) > 1 and all(y.shape == last.shape and np.allclose(y, last, rtol=1e-6, atol=scale) for y in lines)


def _bands(above: Axes, below: Axes, s: Series, theory: xr.Dataset, name: str) -> None:
    """The spread between runs around the line, and in the strip the error that a closure states for itself."""
    if f"{name}_sd" in theory:
        sd = np.asarray(theory[f"{name}_sd"], np.float64)
        low = s.line - sd
        if (s.line > 0).all() and (low <= 0).any():  # on a logarithmic axis the band ends at its lowest dot
            low = np.maximum(low, 0.5 * np.nanmin(np.append(s.line, s.mean[s.mean > 0])))
        above.fill_between(s.x, low, s.line + sd, color=LINE, alpha=0.15, linewidth=0, label="between runs (± sd)")
    if f"{name}_tolerance" in theory:
        wide = 100 * np.broadcast_to(np.asarray(theory[f"{name}_tolerance"], np.float64), s.x.shape)
        below.fill_between(s.x, -wide, wide, color=LINE, alpha=0.15, linewidth=0)


def _with_record(measured: dict, predicted: dict, name: str, beside: Mapping) -> tuple[dict, dict, Mapping]:
    """Numbers without a record are drawn against the size, as one series."""
    if any(d != "seed" for d in next(iter(measured.values()))[name].dims):
        return measured, predicted, {k: v for k, v in beside.items() if all(name in data for data in v.values())}
    sizes = [0 if size is None else size for size in measured]
    join = lambda parts: xr.concat([part[[name]].drop_vars("seed", errors="ignore") for part in parts], "size")
    along = lambda datasets: {None: join(datasets.values()).assign_coords(size=sizes)}
    return along(measured), along(predicted), {}


def _legend(figure: Figure, measured: dict) -> None:
    """One legend for all panels, below them."""
    handles, texts = figure.axes[0].get_legend_handles_labels()
    counts = sorted({data.sizes.get("seed", 1) for data in measured.values()})
    runs = " to ".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))
    widths = [0.75 + 0.068 * len(text) for text in texts]  # inches, roughly
    room = max(1, int(figure.get_figwidth() / max(widths)))
    figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=len(texts) if sum(widths) < figure.get_figwidth() else room,
        title=f"dots: mean and standard error of {runs} runs",
        title_fontsize=8,
    )


def _title(axes: Axes, name: str, report: Mapping | None, labels: Mapping | None) -> None:
    found = [c for c in (report or {}).get("comparisons", []) if c["variable"] == name]
    axes.set_title(words_for(name, labels), fontweight="bold", pad=16 if report else 6)
    if not found:
        return
    text = found[0]["verdict"]
    worst = found[0].get("worst") or {}
    if worst.get("t") is not None and found[0].get("critical"):
        text += f";  worst t {worst['t']:+.1f} (critical {found[0]['critical']:.1f})"
    if found[0].get("would_notice") is not None:
        text += f";  would notice {percent(found[0]['would_notice'])}"
    axes.text(0, 1.025, text.replace("-", "−"), transform=axes.transAxes, fontsize=8, color=GREY, in_layout=False)
