"""The bounds of one network as a picture."""

import math
import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from ...guarantees.generalisation import NON_VACUOUS, ORDER, REFUSED, VACUOUS, Bound
from ...lab.figures import style
from .report import short

if TYPE_CHECKING:
    from .report import Bounds

LOOKS = {  # colour, face, marker, words; told apart in grey too
    NON_VACUOUS: ("#0072b2", "#0072b2", "o", "non-vacuous"),
    VACUOUS: ("#d55e00", "white", "o", "vacuous (at least 1)"),
    ORDER: ("#5f5f5f", "white", "D", "order only, no constants known"),
}
TICKS = (1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
WIDEST = 50  # letters of a label in one line


def draw(report: "Bounds") -> Figure:
    """Dots on a logarithmic scale: one panel up to 1, one from there, where the bounds say nothing of the error."""
    shown = [b for b in report.bounds if b.status != REFUSED and math.isfinite(b.value) and b.value > 0]
    measured = [report.chance, *([report.heldout_error] if report.heldout_error else [])]
    low = max(min([b.value for b in shown] + measured + [0.5]) / 1.5, 1e-6)
    high = max([b.value for b in shown] + [0.0])
    with style():
        figure = Figure(
            figsize=(9.6, 1.7 + 0.32 * max(len(shown), 3)), layout=ConstrainedLayoutEngine(w_pad=0.03, wspace=0.0)
        )
        FigureCanvasAgg(figure)
        both = high >= 1
        panels: Any = figure.subplots(1, 1 + both, sharey=True, squeeze=False, width_ratios=[3, 2] if both else None)[0]
        for panel in panels:
            _frame(panel)
        _lines(panels[0], report)
        panels[0].set_xlim(low, 1.0)
        panels[0].xaxis.set_major_locator(FixedLocator([t for t in TICKS if t >= low]))
        panels[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panels[0].set_xlabel("bound on the probability of error")
        if both:
            panels[1].set_facecolor("#f4f4f4")
            panels[1].set_xlim(1.0, max(high, 10) * 10 ** (0.4 * math.log10(max(high, 10))))
            panels[1].xaxis.set_major_locator(FixedLocator([10.0**k for k in range(1, 301, 1 if high < 1e3 else 2)]))
            panels[1].set_xlabel("1 and more: vacuous")
        for status, (colour, face, marker, words) in LOOKS.items():
            places = [k for k, b in enumerate(shown) if b.status == status]
            for n, k in enumerate(places):
                value = shown[k].value
                panel = panels[int(value >= 1)]
                label = words if n == 0 else None
                panel.plot(
                    value, k, marker, color=colour, markerfacecolor=face, markersize=6, label=label, clip_on=False
                )
                text = f"{value:.3f}" if value < 10 else f"{value:.2g}"
                side = -1 if value < 1 and value > low**0.25 else 1
                panel.annotate(
                    text, (value, k), (7 * side, 0), textcoords="offset points", va="center",
                    ha="left" if side > 0 else "right", fontsize=8,
                )  # fmt: skip
        panels[0].set_yticks(range(len(shown)), ["\n".join(textwrap.wrap(_label(b), WIDEST)) for b in shown])
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        title = f"each bound at {1 - report.delta:g} confidence by itself; {report.n} training pairs"
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _frame(axes: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="#dcdcdc", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _lines(axes: Any, report: "Bounds") -> None:
    axes.axvline(1.0, color="#222222", linewidth=1.6)
    if 0 < report.chance < 1:
        axes.axvline(report.chance, color="#5f5f5f", linestyle="--", linewidth=1.3, label=f"chance {report.chance:.3g}")
    if report.heldout_error:
        label = f"measured on held-out pairs: {report.heldout_error:.3g}"
        axes.axvline(report.heldout_error, color="#009e73", linestyle=":", linewidth=1.8, label=label)


def _label(bound: Bound) -> str:
    """Name, and whose error it is where the name does not say so."""
    name, of = short(bound.name), short(bound.of)
    return name if of == "this network" or of in name else f"{name} [{of}]"
