"""Numbers written as text: thousands, decimal commas, percent, currency, full-width digits; read only where certain."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ...errors import InputError

Decimal = Literal[".", ","]

_EXPONENT = r"([eE][+-]?\d+)?"
_PLAIN = re.compile(rf"[+-]?(\d+\.?\d*|\.\d+){_EXPONENT}|[+-]?(inf|infinity)", re.IGNORECASE)
_THOUSANDS_COMMA = re.compile(r"[+-]?([1-9]\d{0,2}(,\d{3})+|\d{1,3})(\.\d+)?")
_DECIMAL_COMMA = re.compile(rf"[+-]?(\d+|\d*,\d+|[1-9]\d{{0,2}}(\.\d{{3}})+,\d+){_EXPONENT}")
_THOUSANDS_POINT = re.compile(r"[+-]?([1-9]\d{0,2}(\.\d{3})+|\d{1,3})(,\d+)?")
_SPACED = re.compile(r"[+-]?(\d{1,3}([ '’]\d{3})+|\d{1,3})([.,]\d+)?")
_LONGEST = 64  # characters of a number; longer cells are text
_CURRENCY = "$€£¥₩₹"
_AFFIXED = re.compile(rf"([+-]?)\s*([{_CURRENCY}]?)\s*([+-]?[^\s%{_CURRENCY}].*?)\s*([%{_CURRENCY}円]?)")


@dataclass(frozen=True)
class Reading:
    """How the numbers of one column are written."""

    decimal: Decimal  # which character stands before the fraction
    certain: bool  # whether the values leave no other reading


def number_texts(column: pd.Series) -> pd.Series:
    """The distinct values of a text column, normalised (NFKC, minus sign, blanks), indexed by what was written."""
    written = pd.unique(column.dropna())
    tidy = [unicodedata.normalize("NFKC", str(value)).strip().replace("\u2212", "-") for value in written]
    return pd.Series(tidy, index=pd.Index(written, dtype=object), dtype=object)


def reading_of(values: list[str]) -> Reading | None:
    """How these values are to be read if every one is a number, else None. Certain if no other reading fits."""
    if not values or max(map(len, values)) > _LONGEST:
        return None
    values = _without_spaces(_without_affix(values)[0])[0]
    fits = lambda pattern: all(pattern.fullmatch(value) for value in values)
    if fits(_PLAIN):
        return Reading(".", certain=not (any("." in v for v in values) and fits(_THOUSANDS_POINT)))
    if fits(_THOUSANDS_POINT) and any(v.count(".") > 1 for v in values):
        return Reading(",", certain=True)
    thousands, decimals = fits(_THOUSANDS_COMMA), fits(_DECIMAL_COMMA)
    if thousands:
        return Reading(".", certain=not decimals)
    return Reading(",", certain=True) if decimals else None


def decimal_of_file(columns: list[pd.Series]) -> Decimal | None:
    """The decimal character that the certain columns agree on; None if they say nothing or differ."""
    found = set()
    for column in columns:
        values = list(number_texts(column))
        reading = reading_of(values)
        if reading and reading.certain and any("," in v or "." in v for v in values):
            found.add(reading.decimal)
    return found.pop() if len(found) == 1 else None


def to_numbers(column: pd.Series, decimal: Decimal | None, separator: str | None) -> tuple[pd.Series, str] | None:
    """A text column as float64 numbers and a few words on how it was read; None if it is not numbers.

    Args:
      column: text with missing values.
      decimal: the decimal character of the whole file, where it is known.
      separator: what separates the file's columns; None for data that came from no text file.

    Raises: InputError if the values fit two readings (`1,234`) and nothing says which is meant.
    """
    texts = number_texts(column)
    reading = reading_of(list(texts))
    if reading is None:
        return None
    values, affix = _without_affix(list(texts))
    values, blanks = _without_spaces(values)
    commas, points = any("," in v for v in values), any("." in v for v in values)
    chosen = reading.decimal if reading.certain else decimal or "."
    if commas and not reading.certain and decimal is None and separator != ",":
        raise InputError(
            f"column '{column.name}' holds numbers like '{next(v for v in texts if ',' in v)}'",
            why="the comma can be a decimal comma or group the thousands",
            do="say which: --decimal , or --decimal .",
        )
    group = "." if chosen == "," else ","
    grouping = "commas group the thousands" if chosen == "." and commas else ""
    grouping = "points group the thousands" if chosen == "," and points else grouping
    said = [affix, blanks, grouping, "decimal commas" if chosen == "," and commas else ""]
    numbers = [float(v.replace(group, "").replace(chosen, ".")) for v in values]
    return _mapped(column, dict(zip(texts.index, numbers, strict=True))), "; ".join(filter(None, said))


def plain_numbers(column: pd.Series) -> pd.Series:
    """Each cell of a text column as a number if it is written plainly, else missing."""
    texts = number_texts(column)
    return _mapped(column, {w: float(t) for w, t in texts.items() if len(t) <= _LONGEST and _PLAIN.fullmatch(t)})


def _mapped(column: pd.Series, numbers: dict) -> pd.Series:
    cells = [numbers.get(cell, np.nan) if isinstance(cell, str) else np.nan for cell in column]
    return pd.Series(cells, index=column.index, name=column.name, dtype=np.float64)


def _without_affix(values: list[str]) -> tuple[list[str], str]:
    """Takes one currency or percent sign off, if every value carries the same one."""
    parts = [_AFFIXED.fullmatch(value) for value in values]
    signs = {(part[2], part[4]) for part in parts if part}
    if len(signs) != 1 or not all(parts) or signs == {("", "")}:
        return values, ""
    before, after = signs.pop()
    if before and after:
        return values, ""
    return [part[1] + part[3] for part in parts if part], f"the sign {before or after} taken off"


def _without_spaces(values: list[str]) -> tuple[list[str], str]:
    """Takes out blanks and apostrophes that group the thousands, if every value is written so or is short."""
    if all(_SPACED.fullmatch(v) for v in values) and any(re.search(r"\d[ '’]\d", v) for v in values):
        return [re.sub(r"[ '’]", "", v) for v in values], "blanks or apostrophes group the thousands"
    return values, ""
