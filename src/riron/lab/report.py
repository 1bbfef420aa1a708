"""A report as one HTML file: no scripts, no other files, no foreign hosts; inline SVG pictures, numbers as tables."""

import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from numbers import Real
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .figures import as_svg
from .files import write_text
from .verdict.base import percent

PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK JP", sans-serif; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }}
h1 {{ font-size: 1.6rem; margin-bottom: .3rem }} h2 {{ font-size: 1.15rem; margin: 2rem 0 .4rem }}
.claim {{ font-size: 1.1rem }}
.verdict {{ border-left: .45rem solid; padding: .2rem .8rem; background: #f6f6f6 }}
.holds {{ border-color: #0072b2 }} .fails {{ border-color: #d55e00 }} .inconclusive {{ border-color: #777 }}
figure {{ margin: 1.2rem 0 }} figure svg {{ width: 100%; height: auto }} figcaption {{ color: #555; font-size: .9rem }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .9rem }}
th, td {{ padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }}
th {{ border-bottom: 2px solid #888 }} td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums }}
@media print {{ body {{ max-width: none }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def write(folder: str | os.PathLike, *, name: str = "report.html", **parts: Any) -> Path:
    """Writes `page(**parts)` into a folder; returns the path."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(**parts))
    return path


def page(
    *,
    title: str,
    claim: str = "",
    verdict: Mapping[str, Any] | None = None,
    figures: Mapping[str, Figure | str] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    notes: Sequence[str] = (),
    sources: Sequence[str] = (),
    language: str = "en",
) -> str:
    """The report as HTML text. Everything is escaped.

    Args:
      title: of the page.
      claim: one sentence below it.
      verdict: a report of `riron.lab.verdict.judge`, shown as a sentence and a table of comparisons.
      figures: {caption: Matplotlib figure or SVG text}.
      tables: {heading: rows}, each row {column: value}; numbers are shown with four significant digits.
      notes: sentences, in a list (what was assumed, what to be careful about).
      sources: references, in a list.
      language: of the page.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    if claim:
        body.append(f'<p class="claim">{escape(claim)}</p>')
    if verdict is not None:
        kind = escape(str(verdict["verdict"]), quote=True)
        said = f"<strong>{kind}</strong>: {escape(str(verdict['reason']))}"
        body.append(f'<p class="verdict {kind}">{said} ({verdict["seeds"]} seeds)</p>')
    body += [_figure(figure, caption, k) for k, (caption, figure) in enumerate((figures or {}).items())]
    if verdict is not None:
        body.append(_table("Comparisons", [_comparison(entry) for entry in verdict["comparisons"]]))
    body += [_table(heading, rows) for heading, rows in (tables or {}).items()]
    body += [_list("Notes", notes), _list("Sources", sources)]
    return PAGE.format(language=escape(language, quote=True), title=escape(title), body="\n".join(filter(None, body)))


def inline_svg(svg: str, prefix: str, label: str) -> str:
    """An SVG picture as part of a page: without prologue and metadata, its identifiers made unique by `prefix`."""
    start = svg.index("<svg")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[start:], flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1).strip()


def _figure(figure: Figure | str, caption: str, k: int) -> str:
    svg = figure if isinstance(figure, str) else as_svg(figure)
    return f"<figure>{inline_svg(svg, f'f{k}-', caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _comparison(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one comparison: what every kind of claim has, and where and how far off its worst point is."""
    worst = entry.get("worst") or {}
    where = ", ".join(f"{key}={_text(value)}" for key, value in (worst.get("at") or {}).items())
    row = {"variable": entry["variable"], "claim": entry["kind"], "verdict": entry["verdict"], "worst at": where}
    row |= {key: worst[key] for key in ("line", "dots", "dots_stderr", "slope", "ratio", "t") if key in worst}
    if entry.get("would_notice") is not None:
        row["would notice"] = percent(entry["would_notice"])
    return row


def _table(heading: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    numeric = {c: all(_is_number(row.get(c)) or row.get(c) is None for row in rows) for c in columns}
    mark = {c: ' class="number"' if number else "" for c, number in numeric.items()}
    cell = lambda tag, c, text: f"<{tag}{mark[c]}>{escape(text)}</{tag}>"
    head = "".join(cell("th", c, str(c).replace("_", " ")) for c in columns)
    body = "".join(f"<tr>{''.join(cell('td', c, _text(row.get(c))) for c in columns)}</tr>\n" for row in rows)
    return f'<h2>{escape(heading)}</h2>\n<div class="wide"><table>\n<tr>{head}</tr>\n{body}</table></div>'


def _list(heading: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{escape(heading)}</h2>\n<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Real) and not isinstance(value, bool | int):
        return f"{float(value):.4g}".replace("-", "−")
    return str(value)
