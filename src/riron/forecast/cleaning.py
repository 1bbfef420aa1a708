"""From a table as people keep it to columns of numbers: what each column is, what is dropped, and a record of both."""

import re
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from skrub import Cleaner

from ..checks import nearest
from ..errors import InputError
from .reading_numbers import Decimal, plain_numbers, to_numbers

LEVELS = 20  # one-hot columns of a category at most; further levels share the last one
ROWS_PER_LEVEL = 10  # a category with more than LEVELS levels is kept if it has this many rows a level
MOSTLY = 0.9  # a text column with this share of numbers is a column of numbers with faults
LONG_TEXT = 40  # characters: the median length from which text is prose, not a category
_ID_NAME = re.compile(r"(.*[_\s.-])?(id|uuid|guid|index|key)", re.IGNORECASE)

def clean(
    frame: pd.DataFrame,
    target: str | None,
    *,
    decimal: Decimal | None = None,
    separator: str | None = None,
    impute: bool = False,
    identifiers: bool = True,
    own_rows: int | None = None,
    faulty_names: bool = False,
) -> Columns:
    """Cleans the columns of a table; nothing is learned from the target, and nothing is scaled or filled in.

    Args:
      frame: rows are samples; any dtypes.
      target: the name of the column to be forecast.
      decimal: the decimal character, if known; separator: of the text file, if it was one.
      impute: whether missing values are allowed (they are filled in after the split).
      identifiers: whether columns that only name or number the rows are dropped.
      own_rows: the first rows that belong to the table itself, where a file of held-out rows follows.
      faulty_names: whether some names look like data (the hint at `--no-header`).

    Returns: the columns by kind; numbers may hold NaN only if `impute`.

    Raises: InputError for a missing target, values that are missing without `impute`, a table with no features.
    """
    frame = _named(frame)
    target = find_target(list(frame.columns), target, faulty_names=faulty_names)
    empty = frame.isna().all(axis=1)
    columns = Columns(target=pd.Series(dtype=float))
    if empty.any():
        columns.notes.append(f"{int(empty.sum())} empty rows are left out.")
        frame = frame[~empty]
    columns.target = _target(frame[target], columns, decimal, separator, impute=impute)
    frame = frame.loc[columns.target.index]
    texts = {}
    for name in frame.columns.drop(target):
        _sort_column(frame[name], name, columns, texts, decimal, separator)
    _sort_texts(texts, columns, frame.index)
    _drop_useless(columns, identifiers=identifiers, own_rows=own_rows or len(frame))
    _count_missing(columns, impute=impute)
    if not any(columns.kinds()):
        dropped = "; ".join(f"'{r['column']}': {r['detail']}" for r in columns.cleaning if r["action"] == "dropped")
        raise InputError(
            f"no column is left to forecast '{target}' from", why=dropped[:300], do="pass a table with features"
        )
    return columns


def find_target(names: list[str], target: str | None, *, faulty_names: bool = False) -> str:
    """The target's column; InputError lists the columns, or names the nearest."""
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    hint = "; say --no-header if the first line is data" if faulty_names else ""
    if target is None:
        raise InputError("no target is named", do=f"say --target COLUMN, one of {shown}{hint}")
    if target not in names:
        close = nearest(target, names) or "say --target COLUMN with one of these"
        raise InputError(f"no column is called '{target}'; the columns are {shown}", do=close + hint)
    return target


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = [" ".join(map(str, n)).strip() if isinstance(n, tuple) else str(n).strip() for n in frame.columns]
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(f"{count} columns are called '{name}'", do="rename them")
    return frame.set_axis(names, axis=1)


def _target(
    column: pd.Series, columns: Columns, decimal: Decimal | None, separator: str | None, *, impute: bool
) -> pd.Series:
    """The target with missing and infinite values left out (if allowed); numbers, booleans or text."""
    if not (isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column)):
        settled = _settled(column)
        if settled is None or pd.api.types.is_datetime64_any_dtype(settled):
            kind = "dates" if settled is not None else "lists or objects"
            raise InputError(f"target '{column.name}' holds {kind}", do="pass numbers or classes")
        if not pd.api.types.is_numeric_dtype(settled):
            read = to_numbers(settled, decimal, separator)
            if read is None and _mostly_numbers(settled):
                first = settled[settled.notna() & plain_numbers(settled).isna()]
                where = _rows_named(first.index)
                raise InputError(
                    f"target '{column.name}' holds numbers and {len(first)} cells that are none, the first "
                    f"'{str(first.iloc[0])[:40]}' ({where})",
                    do="correct these rows, or leave them empty and say --impute to drop them",
                )
            if read is not None and read[1]:
                columns.record(str(column.name), "read as numbers", read[1])
            settled = settled if read is None else read[0]
        column = settled
    numeric = pd.api.types.is_float_dtype(column)
    bad = column.isna() | (np.isinf(column.to_numpy(np.float64)) if numeric else False)
    if bad.any():
        where = _rows_named(column.index[bad])
        if not impute:
            raise InputError(
                f"target '{column.name}' has no finite value in {int(bad.sum())} of {len(column)} rows ({where})",
                do="fill them in, or say --impute to leave these rows out",
            )
        columns.record(str(column.name), "rows left out", f"{int(bad.sum())} rows without a target ({where})")
        columns.notes.append(f"{int(bad.sum())} rows without a target are left out.")
    return column[~bad]


def _drop_useless(columns: Columns, *, identifiers: bool, own_rows: int) -> None:
    """Drops constant, repeated and identifying columns and prose, and says so."""
    seen: dict[tuple, list[str]] = {}
    for kind in columns.kinds():
        for name in list(kind):
            reason = _why_useless(name, kind[name], identifiers=identifiers, own_rows=own_rows)
            if not reason:
                mark = (id(kind), pd.util.hash_pandas_object(kind[name], index=False).sum())
                twins = [other for other in seen.setdefault(mark, []) if kind[other].equals(kind[name])]
                seen[mark].append(name)
                reason = f"repeats column '{twins[0]}'" if twins else ""
                if twins:
                    seen[mark].pop()
            if reason:
                del kind[name]
                columns.record(name, "dropped", reason)


def _why_useless(name: str, column: pd.Series, *, identifiers: bool, own_rows: int) -> str:
    levels = column.nunique(dropna=False)
    if levels == 1:
        return f"constant ({str(column.iloc[0])[:40]})"
    own = column.iloc[:own_rows]
    present = own.dropna()
    distinct = present.nunique() == len(present)
    if isinstance(column.dtype, pd.CategoricalDtype):
        lengths = column.cat.categories.astype(str).str.len()
        if distinct and len(present) > LEVELS // 2:
            return "an identifier: every row has its own text"
        if levels > LEVELS and np.median(lengths) > LONG_TEXT:
            return f"prose (half of its texts have more than {LONG_TEXT} characters)"
        if levels > LEVELS and len(column) < ROWS_PER_LEVEL * levels:
            return f"too many levels ({levels} in {len(column)} rows)"
        return ""
    if identifiers and distinct and pd.api.types.is_float_dtype(column) and len(present) == len(own):
        if (np.diff(present.to_numpy()) == 1).all():
            return "an identifier: it numbers the rows"
        if _ID_NAME.fullmatch(name) and (present % 1 == 0).all():
            return "an identifier: every row has its own number"
    return ""


def _count_missing(columns: Columns, *, impute: bool) -> None:
    """Missing and infinite values: refused with their place, or left missing for the imputer."""
    rows: list = []
    found, missing, infinite = [], 0, 0
    for kind in (columns.numbers, columns.dates):
        for name, column in kind.items():
            absent = column.isna()
            endless = np.isinf(column) if kind is columns.numbers else absent & False
            count = int(absent.sum() + endless.sum())
            if not count:
                continue
            found.append((count, name))
            missing, infinite = missing + int(absent.sum()), infinite + int(endless.sum())
            rows.extend(column.index[absent | endless][:5])
            if impute:
                kind[name] = column.mask(endless)
                parts = [(int(absent.sum()), "missing"), (int(endless.sum()), "infinite")]
                said = " and ".join(f"{k} {word}" for k, word in parts if k)
                detail = f"{said} values become the median of the training rows"
                columns.record(name, "imputed", detail + f" ({_rows_named(column.index[absent | endless])})")
    if found and not impute:
        counts = [f"{missing} missing"] * bool(missing) + [f"{infinite} infinite"] * bool(infinite)
        worst = [f"'{name}' ({count})" for count, name in sorted(found, key=lambda f: -f[0])[:5]]
        text = next((r for r in columns.cleaning if r["action"] == "text taken as missing"), None)
        raise InputError(
            f"the table holds {' and '.join(counts)} values, in {len(found)} columns: {', '.join(worst)}"
            f"{', ...' if len(found) > 5 else ''} ({_rows_named(sorted(set(rows)))})",
            why=f"in '{text['column']}' {text['detail']}" if text else "",
            do="say --impute to fill them in with the median of the training rows",
        )


