"""BibTeX of the papers that a study rests on."""

import re
from functools import cache
from pathlib import Path

from .cards import find_card


def cite(name: str) -> str:
    """BibTeX entries of the papers that a study cites.

    Args:
      name: of the study, as `riron list` shows it.
    Returns: the entries, in the order of the study's `cites`, separated by empty lines.
    Raises: InputError if no study has that name.
    """
    entries = references()
    return "\n\n".join(entries[key] for key in find_card(name).cites)


@cache
def references() -> dict[str, str]:
    """All entries of references.bib by key. An entry begins with @ at the start of a line and ends before the next."""
    text = Path(__file__).with_name("references.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{([^,]+),.*?(?=^@|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    entries = re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]
    return {key: entry.strip() for key, entry in zip(found, entries, strict=True)}
