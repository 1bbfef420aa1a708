"""Docstrings as plain text: sections become fields, indented lines become literal blocks, formulas need no escaping.

The docstrings of riron are written for the person who reads the code. They hold formulas such as |y - X theta|^2, which
reStructuredText would take for markup; here nothing but `code` between backticks is markup.
"""

import re
from itertools import groupby
from textwrap import dedent

LABELS = {"Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Yields": "Yields", "Raises": "Raises"}
LABELS |= {"Source": "Source", "Sources": "Source"}
NAMED = ("Args", "Attributes", "Raises")  # sections that explain one name after another
SECTIONS = (*LABELS, "Example", "Examples", "Note", "Notes")
HEADER = re.compile(rf"^({'|'.join(SECTIONS)}):\s*(.*)$")
ENTRY = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: \([^)]*\))?:\s+(.*)$")


def inline(text: str) -> str:
    """One paragraph with everything escaped that reStructuredText would read as markup, but for `code`."""
    parts = re.split(r"(`+)(.+?)\1", text)
    plain = [re.sub(r"([\\*|_`<>])", r"\\\1", part) for part in parts[0::3]]
    code = [f"\\ ``{part}``\\ " for part in parts[2::3]]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


def paragraphs(lines: list[str]) -> list[str]:
    """Free text: paragraphs escaped, indented runs as literal blocks, lists of dashes as lists."""
    out: list[str] = []
    lines = dedent("\n".join(lines)).splitlines()

    def kind(line: str) -> str:
        return "blank" if not line.strip() else "literal" if line.startswith("  ") else "text"

    for name, run in groupby(lines, kind):
        block = list(run)
        if name == "literal" and out and out[-1].startswith("- "):
            out[-1] += " " + " ".join(inline(line.strip()) for line in block)
        elif name == "literal":
            out += ["::", "", *("    " + line for line in dedent("\n".join(block)).splitlines()), ""]
        elif name == "text" and block[0].startswith((">>> ", "```")):
            out += ["::", "", *("    " + line for line in block if not line.startswith("```")), ""]
        elif name == "text":
            for line in block:
                start = re.match(r"^[-*] ", line)
                if start:
                    out += ["- " + inline(line[2:])]
                else:
                    out += [inline(line)]
            out += [""]
    return out


def entries(lines: list[str]) -> list[tuple[str, str]]:
    """`name: text` with indented continuations -> (name, text); nothing if the lines begin otherwise."""
    found: list[tuple[str, str]] = []
    lines = dedent("\n".join(lines)).strip("\n").splitlines()
    if not lines or not ENTRY.match(lines[0]):
        return []
    for line in lines:
        match = ENTRY.match(line)
        if match and not line.startswith(" "):
            found.append((match[1], match[2]))
        elif found and line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def convert(lines: list[str]) -> list[str]:
    """A docstring in Google's style -> reStructuredText."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        match = HEADER.match(line)
        if match:
            sections.append((match[1], [match[2]] if match[2] else []))
        else:
            sections[-1][1].append(line)
    out: list[str] = []
    fields: list[str] = []
    for name, body in sections:
        text = " ".join(inline(line.strip()) for line in body if line.strip())
        if not name:
            out += paragraphs(body)
        elif name in NAMED and (found := entries(body)):
            fields += [f":{LABELS[name]}:", *(f"   - **{inline(key)}**: {inline(value)}" for key, value in found)]
        elif name in ("Example", "Examples"):
            out += ["Example::", "", *("    " + line for line in dedent("\n".join(body)).splitlines()), ""]
        elif name in ("Note", "Notes"):
            out += paragraphs(body)
        else:
            fields += [f":{LABELS[name]}: {text}"]
    return [*out, "", *fields, ""]


def process(app, what, name, obj, options, lines):
    lines[:] = convert(lines)


def setup(app):
    app.connect("autodoc-process-docstring", process)
    return {"version": "1", "parallel_read_safe": True}
