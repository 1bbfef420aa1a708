"""The picture of a forecast: training curve, stability edge, learning curve, and what it means for the error."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from ..lab.plots import style
from .result import Forecast
from .sentences import learner, sig

# Colour-blind safe (Okabe & Ito); train and held-out also differ in dash and marker, so that grey prints read alike.
TRAIN, HELD_OUT, THEORY, ADVISED, QUIET = "#0072b2", "#d55e00", "#777777", "#009e73", "#bbbbbb"
EXPLODED = 1e3  # times the first loss, where the picture of a divergence ends
BAND = 1.645  # standard deviations of the band between runs (90 %)
ERROR_BARS = 2.0  # standard errors of the dots
LEAST_ERROR = 1e-4  # share of wrong rows below which none is drawn


def draw(found: Forecast) -> Figure:
    """Four panels: training curve, stability edge, error (or cost of the advice), learning curve."""
    with style():
        figure = Figure(figsize=(10.5, 7.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels: Any = figure.subplots(2, 2)
        training_curve(panels[0, 0], found)
        if found.edges is not None:
            stability_edge(panels[0, 1], found)
        else:
            best_steps(panels[0, 1], found)
        if found.classes:
            error_curve(panels[1, 0], found)
        else:
            advice(panels[1, 0], found)
        more_data(panels[1, 1], found)
        about = found.about
        size = f"{about['n']} rows, {about['features']} features"
        how = "nothing trained" if found.verification is None else "nothing trained for the lines"
        title = f"{Path(about['source']).name} → {about['target']}:  {size}, batch {found.batch}, step size "
        figure.suptitle(f"{title}{sig(found.step_size)}, {how}", fontsize=11)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr]
    return figure


def training_curve(axes: Axes, found: Forecast) -> None:
    """Expected losses over epochs, the band between runs, the runs that were trained, and where to stop."""
    axes.set_title("Training curve")
    curve = shown(found)
    for name, colour, dash, label in (
        ("train_loss", TRAIN, "-", "train"),
        ("test_loss", HELD_OUT, "--", "held-out"),
    ):
        mean = curve[name]
        axes.plot(curve.epoch, mean, dash, color=colour, lw=1.8, label=f"{label}, forecast", zorder=3)
        if not found.above_edge:
            low, high = band(curve, name)
            axes.fill_between(curve.epoch, low, high, color=colour, alpha=0.18, lw=0, zorder=1)
    dots(axes, found, "train_loss", TRAIN, "o", "train")
    dots(axes, found, "test_loss", HELD_OUT, "s", "held-out")
    axes.set_xscale("log")
    axes.set_yscale("log")
    if found.above_edge:
        start = float(found.curve.train_loss[0])
        axes.set_ylim(start / 30, start * EXPLODED)
    readable(axes.yaxis, axes.get_ylim())
    readable(axes.xaxis, axes.get_xlim())
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss" + ("" if found.classes else ", in variances of the target"))
    if found.above_edge:
        note(
            axes,
            f"above the edge: the mean doubles\nevery {sig((found.edge or {})['doubling_steps'])} steps",
            (0.5, 0.04),
        )
    else:
        best = curve.isel(step=int(np.argmin(curve.test_loss.values)))
        axes.axvline(float(best.epoch), color="0.35", lw=0.8, ls=":", zorder=0)
        at = f"lowest held-out\nloss: epoch {sig(float(best.epoch), 2)}"
        axes.annotate(
            at, (float(best.epoch), 0.98), xycoords=("data", "axes fraction"), xytext=(-4, 0),
            textcoords="offset points", ha="right", va="top", fontsize=8, color="0.25",
        )  # fmt: skip
    if not found.classes and not found.above_edge:
        scale = found.about["target_scale"]
        right = axes.secondary_yaxis(
            "right",
            functions=(
                lambda v: scale * np.sqrt(2 * np.maximum(v, 0)),
                lambda v: (np.asarray(v) / scale) ** 2 / 2,
            ),
        )
        right.set_ylabel(f"typical error (r.m.s.), units of {found.about['target']}")
        low, high = (scale * np.sqrt(2 * v) for v in axes.get_ylim())
        readable(right.yaxis, (low, high))
    legend(axes, "upper left" if found.above_edge else "lower left", ncols=2 if found.verification else 1)


def stability_edge(axes: Axes, found: Forecast) -> None:
    """The largest step size over batch sizes, exact and published; the setting, and the settings advised."""
    axes.set_title("Stability edge" + (f", momentum {found.training.momentum:g}" if found.training.momentum else ""))
    assert found.edges is not None
    batch = np.array([e["batch"] for e in found.edges])
    exact, published = (np.array([e[k] for e in found.edges]) for k in ("exact", "homogenized"))
    smallest = min([exact.min(), found.step_size, *(s["step_size"] for s in found.advice)])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    top = 2.2 * max(published.max(), found.step_size, exact.max())
    axes.fill_between(batch, exact, top, color=HELD_OUT, alpha=0.1, lw=0)
    axes.plot(
        batch, published, "--", color=THEORY, lw=1.4, marker="s", ms=3.5, mfc="white",
        label="published theory (homogenised SGD)",
    )  # fmt: skip
    how = "exact" if all(e["method"] == "exact" for e in found.edges) else "heavy rows exact"
    axes.plot(batch, exact, "-", color="black", lw=1.8, marker="o", ms=3.5, label=f"edge on these rows ({how})")
    advised(axes, found)
    axes.set_ylim(smallest / 2.5, top)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
    axes.set_xlabel("batch size")
    axes.set_ylabel("step size")
    axes.text(
        0.03,
        0.97,
        "the mean loss diverges",
        transform=axes.transAxes,
        va="top",
        fontsize=8,
        color=HELD_OUT,
        style="italic",
    )
    legend(axes, "lower right")


def best_steps(axes: Axes, found: Forecast) -> None:
    """The step of least forecast held-out loss over batch sizes, for a loss that has no edge; the settings advised."""
    axes.set_title("Best step size")
    batch = sorted(found.best_step)
    axes.plot(batch, [found.best_step[b] for b in batch], "-", color="black", lw=1.8, marker="o", ms=3.5,
              label="least forecast held-out loss")  # fmt: skip
    advised(axes, found)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 2, 2 * high)
    readable(axes.yaxis, axes.get_ylim())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
    axes.set_xlabel("batch size")
    axes.set_ylabel("step size")
    legend(axes, "lower right")


def advised(axes: Axes, found: Forecast) -> None:
    """The settings advised, and the one that is forecast."""
    label = "settings advised"
    for s in found.advice:
        axes.plot(s["batch"], s["step_size"], "D", color=ADVISED, ms=4.5, mec="white", mew=0.6, label=label)
        label = "_"
    axes.plot(
        found.batch, found.step_size, "*", color=TRAIN, ms=13, mec="white", mew=0.8, label="this forecast", zorder=5
    )


def error_curve(axes: Axes, found: Forecast) -> None:
    """Share of held-out rows misclassified, over epochs."""
    axes.set_title("Held-out error")
    curve = shown(found)
    seen = curve.test_error.where(curve.test_error >= LEAST_ERROR)
    axes.plot(curve.epoch, seen, "--", color=HELD_OUT, lw=1.8, label="held-out, forecast")
    dots(axes, found, "test_error", HELD_OUT, "s", "held-out")
    base = found.about["baseline_error"]
    lowest, highest = float(curve.test_error.min()), float(curve.test_error.max())
    if base < 3 * highest:
        axes.axhline(base, color=THEORY, lw=1, ls=":", label="always the commonest class")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(max(lowest, LEAST_ERROR) / 1.5, None)
    for axis, limits in ((axes.yaxis, axes.get_ylim()), (axes.xaxis, axes.get_xlim())):
        readable(axis, limits)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    axes.set_xlabel("epoch")
    axes.set_ylabel("share of held-out rows misclassified")
    legend(axes)


def advice(axes: Axes, found: Forecast) -> None:
    """What each setting advised costs, and the error it is forecast to give."""
    axes.set_title("Advice: equally good settings within the noise")
    scale = found.about["target_scale"]
    shapes = "osD^vP*X"
    batches = sorted({s["batch"] for s in found.advice})
    for k, batch in enumerate(batches):
        chosen = [s for s in found.advice if s["batch"] == batch]
        epochs = np.array([s["epochs"] for s in chosen]) * 1.03 ** (k - (len(batches) - 1) / 2)
        error = np.array([scale * np.sqrt(2 * s["test_loss"]) for s in chosen])
        noise = np.array([scale * s["test_loss_stderr"] / np.sqrt(2 * s["test_loss"]) for s in chosen])
        colour = mpl.colormaps["viridis"](0.85 * k / max(1, len(batches) - 1))
        axes.errorbar(epochs, error, noise, fmt="none", color=colour, lw=0.8, capsize=0, alpha=0.4)
        axes.plot(
            epochs, error, shapes[k % len(shapes)], color=colour, ms=5.5, mec="white", mew=0.5, label=f"batch {batch}"
        )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    axes.set_xscale("log")
    readable(axes.xaxis, axes.get_xlim())
    axes.set_xlabel("epochs until it is stopped")
    axes.set_ylabel(f"typical held-out error, units of {found.about['target']}")
    legend(axes, "upper center", ncols=3)


def more_data(axes: Axes, found: Forecast) -> None:
    """The learning curve to four times the data, its interval, and the backtest beside what was measured."""
    axes.set_title("More data")
    curve = found.learning_curve
    if found.classes:
        names = ("test_error", "backtest_error", "backtest_error_low", "backtest_error_high")
        form = np.asarray
    else:
        scale = found.about["target_scale"]
        names = ("test_loss", "backtest_forecast", "backtest_low", "backtest_high")
        form = lambda value: scale * np.sqrt(2 * np.asarray(value))
    name, back, back_low, back_high = names
    n = curve.n_samples.values
    axes.fill_between(
        n, form(curve[f"{name}_low"]), form(curve[f"{name}_high"]), color=HELD_OUT, alpha=0.18, lw=0,
        label=f"{curve.attrs['level']:.0%} interval",
    )  # fmt: skip
    axes.plot(n, form(curve[name]), "--", color=HELD_OUT, lw=1.8, label="forecast")
    axes.plot(n[0], form(curve[name][0]), "o", color="black", ms=6, zorder=5, label=f"measured on {n[0]} rows")
    for origin, marker in zip(np.unique(curve.get("backtest_from", [])), "^v", strict=False):
        of = curve.isel(backtest=(curve.backtest_from == origin).values)
        x = origin * 1.06 ** (np.arange(of.sizes["backtest"]) - (of.sizes["backtest"] - 1) / 2)
        y, low, high = (form(of[key]) for key in (back, back_low, back_high))
        axes.errorbar(
            x, y, (np.maximum(y - low, 0), np.maximum(high - y, 0)), fmt=marker, color=THEORY, ms=5, lw=0.9,
            mfc="white", label=f"backtest: {origin} rows forecast {n[0]}",
        )  # fmt: skip
        axes.plot([x[0], n[0]], [form(curve[name][0])] * 2, ":", color="black", lw=0.8, zorder=0)
    ticks = np.round(n[0] * np.array([0.25, 0.5, 1, 2, 4])).astype(int)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{t}\n({word})" for t, word in zip(ticks, ("¼", "½", "now", "2×", "4×"), strict=True)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(n[0] / 4.9, n[-1] * 1.1)
    axes.set_ylim(0, None)
    axes.set_xlabel("rows to train on")
    if found.classes:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        axes.set_ylabel(f"held-out error, {learner(found).lower()}")
    else:
        axes.set_ylabel(f"typical held-out error, units of {found.about['target']}")
    legend(axes)


def shown(found: Forecast):
    """The curve without its start, and above the edge without what lies beyond the picture."""
    curve = found.curve.isel(step=(found.curve.step > 0).values)
    if not found.above_edge:
        return curve
    small = curve.train_loss.values < EXPLODED**1.5 * float(found.curve.train_loss[0])
    return curve.isel(step=slice(max(1, int(np.cumprod(small).sum()))))


def band(curve, name: str):
    """90 % of the runs, widened by the stated error of the closure."""
    mean = curve[name]
    stated = curve.get(f"{name}_tolerance", 0) * mean
    runs = curve.get(f"{name}_quantile")
    if runs is None:
        half = BAND * curve[f"{name}_sd"]
        low, high = mean - half, mean + half
    else:
        low, high = runs.sel(quantile=0.05), runs.sel(quantile=0.95)
    return np.maximum(low - stated, 0.02 * mean), high + stated


def dots(axes: Axes, found: Forecast, name: str, colour: str, marker: str, label: str) -> None:
    """Means of the trained runs with error bars."""
    if found.verification is None or name not in found.verification.dots:
        return
    seen = found.verification.dots.isel(step=(found.verification.dots.step > 0).values)
    runs = seen[name].astype(float)
    epoch = seen.step.values * (found.options.epochs / found.steps)
    error = ERROR_BARS * runs.std("seed", ddof=1) / np.sqrt(runs.sizes["seed"])
    finite = np.isfinite(runs.mean("seed").values)
    axes.errorbar(
        epoch[finite], runs.mean("seed")[finite], error[finite], fmt=marker, color=colour, ms=5, lw=1, mec="white",
        mew=0.6, capsize=2, label=f"{label}, {runs.sizes['seed']} runs", zorder=4,
    )  # fmt: skip


def readable(axis, limits: tuple[float, float]) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5 where it spans little, at powers of ten where it spans much."""
    decades = np.log10(max(limits[1], 1e-300) / max(limits[0], 1e-300))
    subs = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades > 1.2 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_minor_formatter(NullFormatter())
    if decades <= 5:
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def legend(axes: Axes, place: Any = "best", ncols: int = 1) -> None:
    """A legend that stays readable where it cannot avoid the data."""
    axes.legend(loc=place, ncols=ncols, frameon=True, framealpha=0.85, edgecolor="none", fontsize=8)


def note(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """A remark inside a panel."""
    axes.text(
        *place,
        text,
        transform=axes.transAxes,
        fontsize=8,
        color=HELD_OUT,
        va="bottom",
        bbox={"fc": "white", "ec": "none", "alpha": 0.85},
        zorder=6,
    )
