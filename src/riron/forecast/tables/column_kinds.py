"""What each column of a table is: numbers, dates, categories, or text that is one of the three."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from skrub import Cleaner

from .numbers import Decimal, plain_numbers, to_numbers

MOSTLY = 0.9  # a text column with this share of numbers is a column of numbers with faults
FEW = 20  # a text column with no more different numbers may as well be a category

Record = dict[str, str]


@dataclass
class Columns:
    """The columns of a table, sorted by kind, all on the same row index; what was done to them in `cleaning`.

    Attributes:
      own_rows: rows of the table itself; those that follow are a file of held-out rows.
      decimal, separator: of the text file, where known.
    """

    own_rows: int
    decimal: Decimal | None = None
    separator: str | None = None
    numbers: dict[str, pd.Series] = field(default_factory=dict)
    dates: dict[str, pd.Series] = field(default_factory=dict)
    categories: dict[str, pd.Series] = field(default_factory=dict)
    cleaning: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self, column: str, action: str, detail: str = "") -> None:
        """Keeps what was done to a column."""
        self.cleaning.append({"column": column, "action": action, "detail": detail})

    def kinds(self) -> tuple[dict[str, pd.Series], ...]:
        """The three kinds of feature columns."""
        return self.numbers, self.dates, self.categories

    def places(self, rows: Iterable[int]) -> str:
        """The first of some rows for people: counted from 1, the header not counted."""
        rows = sorted({int(k) for k in rows})
        words = [f"{k + 1}" if k < self.own_rows else f"{k - self.own_rows + 1} of the held-out" for k in rows[:5]]
        return f"data row{'s' if len(rows) > 1 else ''} {', '.join(words)}{', ...' if len(rows) > 5 else ''}"


def sort_columns(frame: pd.DataFrame, columns: Columns) -> None:
    """Puts every column among the numbers, dates or categories; empty ones and those that hold objects are dropped."""
    texts = {}
    for name, column in frame.items():
        name = str(name)
        settled = settle(column)
        if settled is None:
            columns.record(name, "dropped", "holds lists, bytes or other objects")
        elif settled.isna().all():
            columns.record(name, "dropped", "empty")
        elif isinstance(settled.dtype, pd.CategoricalDtype):
            columns.categories[name] = settled
        elif pd.api.types.is_datetime64_any_dtype(settled):
            columns.dates[name] = settled
        elif pd.api.types.is_numeric_dtype(settled):
            columns.numbers[name] = settled
            if pd.api.types.is_bool_dtype(column):
                columns.record(name, "read as numbers", "true is 1, false is 0")
        elif (read := to_numbers(settled, columns.decimal, columns.separator)) is not None:
            columns.numbers[name] = read[0]
            if read[1]:
                columns.record(name, "read as numbers", read[1])
        elif mostly_numbers(settled):
            columns.numbers[name] = plain_numbers(settled)
            columns.record(name, "text taken as missing", faulty_cells(settled, columns))
        else:
            texts[name] = settled
    if texts:
        _sort_texts(texts, columns)


def _sort_texts(texts: dict[str, pd.Series], columns: Columns) -> None:
    """Dates and null words in text are found by skrub's Cleaner; what stays text becomes a category."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' guesses at date formats
        tidy: Any = Cleaner().fit_transform(pd.DataFrame(texts))
    for name in texts:
        if name not in tidy:
            columns.record(name, "dropped", "empty")
        elif pd.api.types.is_datetime64_any_dtype(tidy[name]):
            columns.dates[name] = _without_zone(tidy[name])
        else:
            columns.categories[name] = tidy[name].astype(object).astype("category")


def settle(column: Any) -> pd.Series | None:
    """A column as float64 numbers, datetimes, categories or stripped text; None if it holds something else."""
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).map(str, na_action="ignore").astype("category")
    if types.is_timedelta64_dtype(column):
        return column.dt.total_seconds()
    if types.is_datetime64_any_dtype(column):
        return _without_zone(column)
    if types.is_complex_dtype(column):
        return None
    if types.is_bool_dtype(column) or types.is_numeric_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
        return pd.Series(values, index=column.index, name=column.name)
    inferred = types.infer_dtype(column, skipna=True)
    if inferred in ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty"):
        return column.astype(object).where(column.notna(), np.nan).astype(np.float64)
    if inferred in ("datetime", "datetime64", "date"):
        return pd.to_datetime(column, errors="coerce")
    objects = (list, tuple, dict, set, bytes, np.ndarray)
    if inferred not in ("string", "mixed-integer", "mixed") or any(isinstance(cell, objects) for cell in column):
        return None
    stripped = [
        None if missing else str(cell).strip() or None for cell, missing in zip(column, column.isna(), strict=True)
    ]
    return pd.Series(stripped, index=column.index, name=column.name, dtype=object)


def _without_zone(column: Any) -> pd.Series:
    return column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz else column


def mostly_numbers(text: pd.Series) -> bool:
    """Whether a text column is one of numbers with some faulty cells."""
    numbers = plain_numbers(text)
    return bool(numbers.notna().sum() >= MOSTLY * text.notna().sum() and numbers.nunique() > FEW)


def faulty_cells(text: Any, columns: Columns) -> str:
    """How many cells of a column of numbers are none, and which."""
    faults = text[text.notna() & plain_numbers(text).isna()]
    number = "1 cell is no number" if len(faults) == 1 else f"{len(faults)} cells are no numbers, the first"
    return f"{number}: '{str(faults.iloc[0])[:40]}' ({columns.places(faults.index)})"
