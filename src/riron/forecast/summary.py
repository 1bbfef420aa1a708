"""The forecast in sentences and small tables, as a practitioner reads them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..lab.verdict import describe
from .result import Forecast
from .sentences import (
    advice_sentence,
    backtest_sentence,
    budget,
    columns,
    curve_sentence,
    edge_sentence,
    loss,
    more_data_sentence,
    percent,
    python_lines,
    rows_sentence,
    sig,
    time_sentence,
    training_sentence,
    units,
)

WIDE = 100  # characters of a table where the output is not a terminal
LISTED = 10  # settings of the advice that are printed

Part: TypeAlias = Text | Table


def show(found: Forecast, stdout: TextIO, *, quiet: bool = False, picture: Path | None = None, out=None) -> None:
    """Print the forecast."""
    if hasattr(stdout, "reconfigure"):
        stdout.reconfigure(errors="replace")  # type: ignore[attr-defined]  a narrow encoding must not end a forecast
    terminal = stdout.isatty()
    console = Console(file=stdout, highlight=False, width=None if terminal else WIDE, emoji=False)
    for part in essentials(found) if quiet else everything(found):
        console.print(part, soft_wrap=isinstance(part, Text) and not terminal)
    if out is not None:
        console.print(sentence(f"Written to {out}: forecast.json, forecast.nc, figure.png, figure.svg, report.html."))
    elif picture is not None:
        console.print(sentence(f"The picture: {picture}  (--out DIR keeps all results)"), soft_wrap=True)


def as_text(found: Forecast) -> str:
    """All that is printed, as plain text."""
    held = io.StringIO()
    show(found, held)
    return held.getvalue()


def essentials(found: Forecast) -> Iterator[Part]:
    """One line for each question."""
    yield sentence(edge_sentence(found))
    yield sentence(curve_sentence(found))
    yield sentence(advice_sentence(found))
    yield sentence(more_data_sentence(found))
    if found.verification is not None or found.interrupted:
        yield from verdict(found)


def everything(found: Forecast) -> Iterator[Part]:
    """The whole summary, section by section."""
    about = found.about
    kind = f"{len(about['classes'])} classes" if found.classes else "a number"
    yield heading(f"{about['source']} -> {about['target']} ({kind})")
    yield sentence(
        f"{about['n']} rows to train on, {about['n_test']} held out; {about['features']} features "
        f"({about['feature_map']}, a constant among them)."
    )
    for line in columns(found):
        yield sentence(line)
    for note in found.notes:
        yield sentence(f"- {note}")

    edge = "Stability edge: the largest step size that converges"
    yield heading(edge if found.edges is not None else "Step size")
    yield sentence(edge_sentence(found))
    if found.edges is not None:
        yield sentence(rows_sentence(found))
        yield edge_table(found)

    yield heading(f"Training curve: {training_sentence(found)}")
    yield sentence(curve_sentence(found))
    yield curve_table(found)

    yield heading(f"Advice for a budget of {budget(found):g} epochs")
    yield sentence(advice_sentence(found))
    yield advice_table(found)

    yield heading("More data")
    yield sentence(more_data_sentence(found))
    yield sentence(backtest_sentence(found))
    for warning in json.loads(found.learning_curve.attrs["warnings"]):
        yield sentence(f"- {warning}")

    if found.verification is not None or found.interrupted:
        yield from verdict(found)
    yield heading("Time, and how to repeat this in Python")
    yield sentence(time_sentence(found))
    yield Text(python_lines(found))


def edge_table(found: Forecast) -> Table:
    """The edge for some batch sizes."""
    assert found.edges is not None
    table = plain_table("batch", "edge", "published theory", "ratio")
    wanted = {found.batch, found.edges[0]["batch"], found.edges[-1]["batch"]}
    own = [e for e in found.edges if e["batch"] in wanted or np.log2(e["batch"]) % 2 == 0]
    for e in own:
        mark = " <" if e["batch"] == found.batch else ""
        table.add_row(
            str(e["batch"]) + mark, sig(e["exact"]), sig(e["homogenized"]), sig(e["homogenized"] / e["exact"], 3)
        )
    return table


def curve_table(found: Forecast) -> Table:
    """The curve at a few places."""
    curve = found.curve
    last = "held-out error" if found.classes else "typical error"
    table = plain_table("epoch", "step", "train loss", "held-out loss", last)
    end = found.steps
    if found.above_edge:  # beyond this the numbers only say that it explodes
        end = int(
            curve.step.values[
                np.argmax(np.append(curve.train_loss.values[:-1] > 1e3 * curve.train_loss.values[0], True))
            ]
        )
    wanted = np.geomspace(max(1, end / 128), end, 8)
    places = sorted({int(np.argmin(np.abs(curve.step.values - w))) for w in wanted} | {0})
    for k in places:
        at = curve.isel(step=k)
        extra = percent(at.test_error) if found.classes else units(found, at.test_loss)
        extra = "" if found.classes and k == 0 else extra  # at the start all outputs are 0 and no class is named
        row = (sig(float(at.epoch), 2), str(int(at.step)), loss(at, "train_loss"), loss(at, "test_loss"), extra)
        table.add_row(*row)
    return table


def advice_table(found: Forecast) -> Table:
    """The settings advised, cheapest first."""
    last = "held-out error" if found.classes else "typical error"
    edges = [] if found.edges is None else ["/ edge"]
    table = plain_table("batch", "step size", *edges, "epochs", "train loss", "held-out loss", last)
    for s in found.advice[:LISTED]:
        error = "" if s["test_error"] is None else percent(s["test_error"])
        extra = error if found.classes else units(found, s["test_loss"])
        mark = " <" if s["best"] else ""
        table.add_row(
            str(s["batch"]) + mark,
            sig(s["step_size"]),
            *[sig(s["fraction_of_edge"], 2) for _ in edges],
            sig(s["epochs"], 2),
            sig(s["train_loss"]),
            f"{sig(s['test_loss'])} +- {sig(s['test_loss_stderr'], 2)}",
            extra,
        )
    if len(found.advice) > LISTED:
        table.caption = f"and {len(found.advice) - LISTED} more (--json or --out shows all)"
        table.caption_justify = "left"
    return table


def verdict(found: Forecast) -> Iterator[Part]:
    """What the training runs say."""
    yield heading("Verification: trained from scratch")
    if found.verification is None:
        yield sentence("Stopped before the runs had a first point; nothing can be said.")
        return
    report = found.verification.report
    for line in describe(report):
        yield Text(line)
    for name, result in report["mutations"].items():
        seen = "noticed" if result == "fails" else f"not noticed ({result})"
        yield Text(f"  a wrong line, {name:<16} {seen}")
    if not report["complete"]:
        yield sentence("Stopped early: only the points reached are judged, and the exit status is 130.")
    style = {"holds": "bold green", "fails": "bold red"}.get(report["verdict"], "bold yellow")
    yield Text(
        f"{report['verdict']}: {report['reason']}  ({report['seeds']} runs, {sig(report['seconds'], 2)} s)", style
    )


def heading(text: str) -> Text:
    """The title of a section, with a line before it."""
    return Text(f"\n{text}", style="bold")


def sentence(text: str) -> Text:
    """A paragraph."""
    return Text(text)


def plain_table(*names: str) -> Table:
    """A table without lines, numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table
