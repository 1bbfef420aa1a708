"""What each column of a table is: numbers, dates, categories, or text that is one of the three."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from skrub import Cleaner

from .reading_numbers import Decimal, plain_numbers, to_numbers

MOSTLY = 0.9  # a text column with this share of numbers is a column of numbers with faults
FEW = 20  # a text column with no more different numbers may as well be a category

Record = dict[str, str]


@dataclass
class Columns:
    """The columns of a table, sorted by kind, all on the same row index; what was done to them in `cleaning`."""

    target: pd.Series
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


def _sort_column(
    column: pd.Series, name: str, columns: Columns, texts: dict, decimal: Decimal | None, separator: str | None
) -> None:
    """Puts one column among the numbers, the dates, the categories, or the texts that are still to be judged."""
    settled = _settled(column)
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
    else:
        read = to_numbers(settled, decimal, separator)
        if read is not None:
            columns.numbers[name] = read[0]
            if read[1]:
                columns.record(name, "read as numbers", read[1])
        elif _mostly_numbers(settled):
            columns.numbers[name] = numbers = plain_numbers(settled)
            faults = settled[settled.notna() & numbers.isna()]
            columns.record(
                name,
                "text taken as missing",
                f"{len(faults)} cells are no numbers, the first '{str(faults.iloc[0])[:40]}' "
                f"({_rows_named(faults.index)})",
            )
        else:
            texts[name] = settled


def _sort_texts(texts: dict[str, pd.Series], columns: Columns, index: pd.Index) -> None:
    """Dates and null words in text are found by skrub's Cleaner; what stays text becomes a category."""
    if not texts:
        return
    frame = pd.DataFrame(texts, index=index).astype("string").astype(object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' guesses at date formats
        tidy = Cleaner(drop_null_fraction=None).fit_transform(frame.where(frame.notna(), None))
    for name in texts:
        column = tidy[name]
        if column.isna().all():
            columns.record(name, "dropped", "empty")
        elif pd.api.types.is_datetime64_any_dtype(column):
            columns.dates[name] = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz else column
        else:
            columns.categories[name] = column.astype(object).astype("category")


def _settled(column: pd.Series) -> pd.Series | None:
    """A column as float64 numbers, datetimes, categories or stripped text; None if it holds something else."""
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).map(str, na_action="ignore").astype("category")
    if types.is_timedelta64_dtype(column):
        return column.dt.total_seconds()
    if types.is_datetime64_any_dtype(column):
        return column.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(column.dt, "tz", None) else column
    if types.is_complex_dtype(column):
        return None
    if types.is_bool_dtype(column) or types.is_numeric_dtype(column):
        return pd.Series(
            column.to_numpy(np.float64, na_value=np.nan), index=column.index, name=column.name, dtype=np.float64
        )
    inferred = types.infer_dtype(column, skipna=True)
    if inferred in ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "empty"):
        return column.astype(object).where(column.notna(), np.nan).astype(np.float64)
    if inferred in ("datetime", "datetime64", "date"):
        return pd.to_datetime(column, errors="coerce")
    if inferred not in ("string", "mixed-integer", "mixed") or any(
        isinstance(cell, (list, tuple, dict, set, bytes, np.ndarray)) for cell in column
    ):
        return None
    text = column.astype(object).where(column.notna(), None)
    return text.map(lambda cell: cell if cell is None else str(cell).strip() or None).astype(object)


def _mostly_numbers(text: pd.Series) -> bool:
    numbers = plain_numbers(text)
    return numbers.notna().sum() >= MOSTLY * text.notna().sum() and numbers.nunique() > LEVELS


