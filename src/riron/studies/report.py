"""A verdict as text: lines for the terminal, and one self-contained HTML page without scripts."""

from html import escape
from typing import TYPE_CHECKING, Any

from ..lab.verdict import describe
from .cards import find_card
from .citations import references

if TYPE_CHECKING:
    from .result import Result

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans", sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: .5rem 0 } td, th { border: 1px solid #999; padding: .2rem .6rem; text-align: left }
svg { max-width: 100%; height: auto } pre { white-space: pre-wrap; background: #f4f4f4; padding: .5rem }
.verdict { font-weight: bold; border-left: .4rem solid; padding-left: .6rem }
.holds { border-color: #0072b2 } .fails { border-color: #d55e00 } .inconclusive { border-color: #777 }
"""


def as_lines(verdict: dict[str, Any], *, brief: bool = False) -> list[str]:
    """The verdict as the command line prints it; `brief` leaves the wrong lines out."""
    lines = describe(verdict)
    if not brief:
        lines += [f"  wrong line, {label:<22} -> {answer}" for label, answer in verdict["mutations"].items()]
        lines += [f"  would notice {key} {_factors(pair)}" for key, pair in verdict["notices"].items()]
        lines += [f"  beside: {label}: {other['verdict']}{_ratios(other)}" for label, other in verdict["beside"].items()]
    lines.append(summary(verdict))
    return lines


def summary(verdict: dict[str, Any]) -> str:
    """The last line: the verdict, what it lacks, and the time it took."""
    reason = "" if verdict["verdict"] == "holds" else f": {verdict['reason']}"
    return f"{verdict['verdict']}{reason}  ({verdict['seeds']} seeds, {verdict['seconds']:.1f} s)"


def as_html(result: "Result", svg: str, *, whole: bool = True) -> str:
    """The report of a run: claim, picture, comparisons, wrong lines, parameters, sources. No scripts, no other files."""
    verdict, card = result.verdict, find_card(result.study.name())
    answer = escape(verdict["verdict"])
    rows = [
        [c["variable"], c["kind"], c["verdict"], _number(c.get("line_over_dots")), _percent(c.get("would_notice")), c["reason"]]
        for c in verdict["comparisons"]
    ]
    parts = [
        f"<h1>{escape(card.name)}</h1><p>{escape(card.claim)}</p>",
        f'<p class="verdict {answer}">{escape(summary(verdict))}</p>',
        f"<figure>{svg[svg.index('<svg') :]}</figure>",
        _table("Comparisons", ["variable", "claim", "verdict", "line/dots", "would notice", "reason"], rows),
        _table("Wrong lines, which must fail", ["change", "verdict"], list(verdict["mutations"].items())),
        _table(
            "Smallest change that would be noticed",
            ["keyword of the theory", "factors"],
            [[key, _factors(pair)] for key, pair in verdict["notices"].items()],
        ),
        _table(
            "Other theories of the same dots",
            ["theory", "verdict"],
            [[label, other["verdict"] + _ratios(other)] for label, other in verdict["beside"].items()],
        ),
        _table(
            "Parameters",
            ["name", "value", "meaning", "unit"],
            [[p.name, verdict["parameters"][p.name], p.meaning, p.unit] for p in card.parameters],
        ),
        "<h2>Sources</h2>" + "".join(f"<pre>{escape(references()[key])}</pre>" for key in card.cites),
        f"<p>riron {escape(verdict['version'])}, size {escape(verdict['size'])}, {verdict['seeds']} seeds</p>",
    ]
    style = f"<style>{STYLE}</style>"
    if not whole:
        return "<div>" + "\n".join(parts[:4]) + "</div>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(card.name)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}{style}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _table(title: str, head: list[str], rows: list[Any]) -> str:
    if not rows:
        return ""
    cells = lambda tag, row: "".join(f"<{tag}>{escape(str(value))}</{tag}>" for value in row)
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{cells('th', head)}</tr>{body}</table>"


def _factors(pair: list[float | None]) -> str:
    return " / ".join("never" if factor is None else f"{100 * (factor - 1):+.0f} %" for factor in pair)


def _ratios(other: dict[str, Any]) -> str:
    found = [(entry["variable"], entry["line_over_dots"]) for entry in other["comparisons"]]
    return "".join(f", {name} line/dots {ratio:.3f}" for name, ratio in found if ratio is not None)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
