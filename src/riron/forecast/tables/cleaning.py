"""From a table as people keep it to columns that can be encoded: the target, what is dropped, what is missing."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ...checks import nearest
from ...errors import InputError
from .column_kinds import Columns, faulty_cells, mostly_numbers, settle, sort_columns
from .numbers import to_numbers

LEVELS = 20  # one-hot columns of a category at most; further levels share the last one
ROWS_PER_LEVEL = 10  # a category with more than LEVELS levels is kept if it has this many rows a level
LONG_TEXT = 40  # characters: the median length from which text is prose, not a category
_ID_NAME = re.compile(r"(.*[_\s.-])?(id|uuid|guid)", re.IGNORECASE)


def clean(
    frame: pd.DataFrame,
    target: str | None,
    columns: Columns,
    *,
    impute: bool = False,
    identifiers: bool = True,
    faulty_names: bool = False,
) -> pd.Series:
    """Cleans the columns of a table; nothing is learned from the target, and nothing is scaled or filled in.

    Args:
      frame: rows are samples, on a range index; any dtypes.
      target: the name of the column to be forecast.
      columns: receives the feature columns by kind, and the record; numbers hold NaN only if `impute`.
      impute: whether missing values are allowed (they are filled in after the split).
      identifiers: whether columns that only name or number the rows are dropped.
      faulty_names: whether some names look like data (the hint at `--no-header`).

    Returns: the target, without rows where it is missing.

    Raises: InputError for a missing target, values that are missing without `impute`, a table with no features.
    """
    frame = _named(frame)
    target = find_target(list(frame.columns), target, faulty_names=faulty_names)
    empty = frame.isna().all(axis=1)
    if empty.any():
        columns.notes.append(f"{int(empty.sum())} empty rows are left out ({columns.places(frame.index[empty])}).")
    kept: Any = frame[~empty]
    labels = _target(kept[target], columns, impute=impute)
    sort_columns(kept.loc[labels.index].drop(columns=[target]), columns)
    _drop_useless(columns, identifiers=identifiers)
    _count_missing(columns, impute=impute)
    if not any(columns.kinds()):
        dropped = "; ".join(f"'{r['column']}': {r['detail']}" for r in columns.cleaning if r["action"] == "dropped")
        raise InputError(
            f"no column is left to forecast '{target}' from", why=dropped[:300], do="pass a table with features"
        )
    return labels


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


def _target(column: Any, columns: Columns, *, impute: bool) -> pd.Series:
    """The target with missing and infinite values left out (if allowed); numbers, booleans or labels."""
    name = str(column.name)
    if not (isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column)):
        column = _numbers_or_text(column, name, columns)
    bad = column.isna().to_numpy()
    if pd.api.types.is_float_dtype(column):
        bad = bad | np.isinf(column.to_numpy())
    if bad.any():
        where = columns.places(column.index[bad])
        if not impute:
            raise InputError(
                f"target '{name}' has no finite value in {int(bad.sum())} of {len(column)} rows ({where})",
                do="fill them in, or say --impute to leave these rows out",
            )
        columns.record(name, "rows left out", f"{int(bad.sum())} rows without a target ({where})")
        columns.notes.append(f"{int(bad.sum())} rows without a target are left out.")
    return column[~bad]


def _numbers_or_text(column: Any, name: str, columns: Columns) -> Any:
    settled = settle(column)
    if settled is None or pd.api.types.is_datetime64_any_dtype(settled):
        kind = "dates" if settled is not None else "lists or other objects"
        raise InputError(f"target '{name}' holds {kind}", do="name a column of numbers or classes by --target")
    if pd.api.types.is_numeric_dtype(settled):
        return settled
    read = to_numbers(settled, columns.decimal, columns.separator)
    if read is None and mostly_numbers(settled):
        raise InputError(
            f"target '{name}' holds numbers, but {faulty_cells(settled, columns)}",
            do="correct these rows, or leave them empty and say --impute to leave them out",
        )
    if read is not None and read[1]:
        columns.record(name, "read as numbers", read[1])
    return settled if read is None else read[0]


def _drop_useless(columns: Columns, *, identifiers: bool) -> None:
    """Drops constant, repeated and identifying columns and prose, and says so."""
    for kind in columns.kinds():
        seen: dict[int, list[str]] = {}
        for name in list(kind):
            reason = _why_useless(name, kind[name], columns.own_rows, identifiers=identifiers)
            if not reason:
                alike = seen.setdefault(_digest(kind[name]), [])
                twin = next((other for other in alike if kind[other].equals(kind[name])), None)
                reason = f"repeats column '{twin}'" if twin is not None else ""
                alike.append(name)
            if reason:
                del kind[name]
                columns.record(name, "dropped", reason)


def _digest(column: Any) -> int:
    values = column.cat.codes if isinstance(column.dtype, pd.CategoricalDtype) else column
    return hash(values.to_numpy().tobytes())


def _why_useless(name: str, column: Any, own_rows: int, *, identifiers: bool) -> str:
    levels = column.nunique(dropna=False)
    if levels == 1:
        return f"constant ({str(column.iloc[0])[:40]})"
    own = column[column.index < own_rows]
    distinct = own.is_unique and own.notna().all()
    if isinstance(column.dtype, pd.CategoricalDtype):
        if distinct and len(own) > LEVELS // 2:
            return "an identifier: every row has its own text"
        if levels > LEVELS and np.median(column.cat.categories.astype(str).str.len()) > LONG_TEXT:
            return f"prose (half of its texts have more than {LONG_TEXT} characters)"
        if levels > LEVELS and len(column) < ROWS_PER_LEVEL * levels:
            return f"too many levels ({levels} in {len(column)} rows)"
    elif identifiers and distinct and pd.api.types.is_float_dtype(column):
        values = own.to_numpy()
        if values[0] in (0, 1) and (np.diff(values) == 1).all():
            return "an identifier: it numbers the rows"
        if _ID_NAME.fullmatch(name) and (values % 1 == 0).all():
            return "an identifier: every row has its own number"
    return ""


def _count_missing(columns: Columns, *, impute: bool) -> None:
    """Missing and infinite values: refused with their place, or left missing for the imputer."""
    rows: list[int] = []
    found, missing, infinite = [], 0, 0
    for kind in (columns.numbers, columns.dates):
        for name, column in kind.items():
            absent = column.isna().to_numpy()
            endless = np.isinf(column.to_numpy()) if kind is columns.numbers else np.zeros_like(absent)
            parts = [(int(absent.sum()), "missing"), (int(endless.sum()), "infinite")]
            if not (absent | endless).any():
                continue
            places = column.index[absent | endless]
            found.append((len(places), name))
            rows.extend(places[:5])
            missing, infinite = missing + parts[0][0], infinite + parts[1][0]
            if impute:
                kind[name] = column.mask(endless)
                said = " and ".join(f"{count} {word}" for count, word in parts if count)
                detail = f"{said} values become the median of the training rows ({columns.places(places)})"
                columns.record(name, "imputed", detail)
    if found and not impute:
        counts = [f"{missing} missing"] * bool(missing) + [f"{infinite} infinite"] * bool(infinite)
        worst = [f"'{name}' ({count})" for count, name in sorted(found, key=lambda f: -f[0])[:5]]
        text = next((r for r in columns.cleaning if r["action"] == "text taken as missing"), None)
        raise InputError(
            f"the features hold {' and '.join(counts)} values, in column{'s' if len(found) > 1 else ''} "
            f"{', '.join(worst)}{', ...' if len(found) > 5 else ''}; {columns.places(rows)}",
            why=f"in '{text['column']}' {text['detail']}" if text else "",
            do="say --impute to fill them in with the median of the training rows",
        )
