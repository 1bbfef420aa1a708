"""`.. study-catalogue::` shows every study's card, read from its file and not imported: claim, parameters, sources."""

import re

from docutils import nodes
from docutils.parsers.rst import Directive

from riron.studies.cards import Card, Parameter, cards
from riron.studies.citations import references


def texts(text: str) -> list[nodes.Node]:
    """Words with `code` between backticks."""
    parts = re.split(r"`([^`]+)`", text)
    return [nodes.literal("", p) if i % 2 else nodes.Text(p) for i, p in enumerate(parts) if p]


def row(cells: list[str], code: tuple[int, ...] = ()) -> nodes.row:
    """A row of a table; the cells of the columns in `code` are set as code."""
    made = nodes.row()
    for i, cell in enumerate(cells):
        inside = [nodes.literal("", cell)] if i in code and cell else texts(cell)
        made += nodes.entry("", nodes.paragraph("", "", *inside))
    return made


def table(head: list[str], rows: list[list[str]], code: tuple[int, ...] = ()) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", row(head))
    group += nodes.tbody("", *(row(cells, code) for cells in rows))
    return nodes.table("", group)


def extent(parameter: Parameter) -> str:
    """What a parameter may be."""
    if parameter.choices:
        return ", ".join(parameter.choices)
    if parameter.type == "bool" or parameter.low is None:
        return "yes or no" if parameter.type == "bool" else ""
    as_number = "d" if parameter.type == "int" else "g"
    return f"{parameter.low:{as_number}} to {parameter.high:{as_number}}"


def parameters(card: Card) -> nodes.table:
    rows = [
        [p.name, str(p.default), extent(p), p.meaning + (f" ({p.unit.replace('^2', '²')})" if p.unit else "")]
        for p in card.parameters
    ]
    return table(["parameter", "default", "range", "meaning"], rows, code=(0,))


def field(entry: str, name: str) -> str:
    """One field of a BibTeX entry, without braces and accents' markup."""
    found = re.search(rf"\b{name}\s*=\s*[{{\"](.*?)[}}\"],?\s*$", entry, re.IGNORECASE | re.MULTILINE)
    text = found[1] if found else ""
    accents = {"\\'e": "é", "\\`e": "è", '\\"o': "ö", '\\"u': "ü", '\\"a': "ä", "\\'a": "á", "\\'o": "ó", "\\~n": "ñ"}
    text = text.replace("{", "").replace("}", "")
    for marked, letter in accents.items():
        text = text.replace(marked, letter)
    return text


def source(key: str) -> nodes.list_item:
    """Authors, title, venue, year of an entry of references.bib."""
    entry = references()[key]
    people = [" ".join(reversed(name.split(", ", 1))) for name in field(entry, "author").split(" and ")]
    authors = people[0] if len(people) == 1 else ", ".join(people[:-1]) + " and " + people[-1]
    venue = field(entry, "journal") or field(entry, "booktitle") or field(entry, "publisher")
    item = nodes.paragraph("", f"{authors}, ")
    item += nodes.emphasis("", field(entry, "title"))
    item += nodes.Text(f", {', '.join(filter(None, [venue, field(entry, 'year')]))}")
    return nodes.list_item("", item)


def describe(card: Card) -> nodes.section:
    """A section for one study."""
    section = nodes.section(ids=[nodes.make_id(card.name)], names=[card.name])
    section += nodes.title("", card.name)
    claim = nodes.paragraph()
    claim += nodes.strong("", "", *texts(card.claim))
    section += claim
    for paragraph in filter(None, re.split(r"\n\s*\n", card.text)):
        section += nodes.paragraph("", "", *texts(" ".join(paragraph.split())))
    command = f"riron run {card.name}"
    section += nodes.literal_block(command, command, language="sh")
    section += parameters(card)
    if card.cites:
        section += nodes.bullet_list("", *(source(key) for key in card.cites))
    return section


class StudyCatalogue(Directive):
    def run(self):
        known = cards().values()
        overview = table(
            ["study", "claim", "catalogue"], [[card.name, card.claim, card.catalogue] for card in known], code=(0,)
        )
        return [overview, *(describe(card) for card in known)]


def setup(app):
    app.add_directive("study-catalogue", StudyCatalogue)
    return {"version": "1", "parallel_read_safe": True}
