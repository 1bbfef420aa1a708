"""Read a table of any usual kind, clean it, and hold rows out: one call from a file name to numbers."""

import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from ...checks import nearest
from ...errors import InputError
from .arrays import frame_of_arrays, read_npz, read_parquet
from .cleaning import clean
from .column_kinds import Columns
from .encoding import encode, leaks
from .named_sources import is_named, read_named
from .numbers import Decimal
from .raw_bytes import MAX_BYTES, read_bytes, size
from .table import TRAINING, Table, check_classes, class_indices, detect_task, split
from .text import looks_like_data, read_text

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class _Raw:
    """A frame as it was found, before cleaning."""

    frame: pd.DataFrame
    name: str
    target: str | None
    separator: str | None = None
    decimal: Decimal | None = None
    arrays: bool = False
    notes: list[str] = field(default_factory=list)


def read_table(
    source: Any,
    *,
    target: str | None = None,
    test: Any = 0.2,
    seed: int = 0,
    task: Task | None = None,
    decimal: Decimal | None = None,
    header: bool = True,
    impute: bool = False,
    groups: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Table:
    """Reads a table and makes it ready for a forecast; says what was assumed, and refuses what it cannot use.

    Args:
      source: a file (CSV with any usual separator, encoding and way of writing numbers, also gzipped; Parquet; NPZ
        with arrays X and y), `-` for text on standard input, `sklearn:NAME`, `openml:ID`, `hf:NAME`, a data frame, or
        a pair (X, y) of arrays.
      target: the column to forecast; for NPZ the array that holds it. Not needed for NPZ, `sklearn:`, `openml:`, pairs.
      test: the share of rows held out (at least 30 rows; in proportion to the classes; drawn by `seed`), or held-out
        rows of their own, as anything that `source` can be, with the same columns.
      seed: draws the held-out rows.
      task: overrides what is detected.
      decimal: `.` or `,`, where numbers in text leave it open.
      header: whether the first line of a text table names the columns; else they are called 1, 2, ...
      impute: fill in missing and infinite values (median of the training rows), leave out rows without a target.
      groups: a column whose equal values bind rows together (one patient, one site): they are held out together, and
        the column is no feature. Rows without a value are groups of their own.
      max_bytes: the most that a file may hold, or unpack to.

    Returns: the table, not yet standardised. Encoders are fitted on the training rows only.

    Raises: InputError with what is wrong, where, and what to do.
    """
    if decimal not in (None, ".", ","):
        raise InputError(f"--decimal {decimal!r} is not . or ,", do="say --decimal , for numbers like 3,14")
    if task not in (None, "classification", "regression"):
        raise InputError(
            f"task {task!r} is not 'classification' or 'regression'", do="leave it out to have it detected"
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"--seed {seed!r} is not a whole number >= 0")
    options: dict[str, Any] = {"decimal": decimal, "header": header, "max_bytes": max_bytes}
    raw = _read(source, target, **options)
    test = _fraction_or_source(test)
    held = None
    if not isinstance(test, float):
        held = _read(test, target, **options)
        raw = _joined(raw, held)
    own = len(raw.frame) - (0 if held is None else len(held.frame))
    raw = replace(raw, frame=raw.frame.reset_index(drop=True))
    raw, bound = _without_groups(raw, groups)
    columns = Columns(own, decimal=raw.decimal, separator=raw.separator)
    labels = clean(
        raw.frame,
        raw.target,
        columns,
        impute=impute,
        identifiers=not raw.arrays,
        faulty_names=raw.separator is not None and header and any(map(looks_like_data, raw.frame.columns)),
    )
    columns.notes[:0] = raw.notes
    fraction = test if held is None else None
    return _finished(labels, columns, raw, bound, task=task, fraction=fraction, seed=seed, impute=impute)


def _without_groups(raw: _Raw, groups: str | None) -> tuple[_Raw, np.ndarray | None]:
    """The frame without the column of groups, and (rows,) the group of each row."""
    if groups is None:
        return raw, None
    names = [str(c).strip() for c in raw.frame.columns]
    if groups not in names or groups == raw.target:
        why = "is the target" if groups == raw.target else "is not in the table"
        raise InputError(f"the column of groups '{groups}' {why}", do=nearest(groups, names) or "name another one")
    column = raw.frame.iloc[:, names.index(groups)]
    codes = pd.factorize(column)[0]
    alone = codes < 0
    codes[alone] = codes.max() + 1 + np.arange(alone.sum())
    count = len(np.unique(codes))
    if count < 4:
        raise InputError(f"column '{groups}' has {count} groups", do="name one with at least 4, or leave --groups out")
    frame = raw.frame.drop(columns=raw.frame.columns[names.index(groups)])
    note = f"Rows of one of the {count} groups of column '{groups}' are held out together; the column is no feature."
    return replace(raw, frame=frame, notes=[*raw.notes, note]), codes


def _finished(
    labels: Any,
    columns: Columns,
    raw: _Raw,
    groups: np.ndarray | None,
    *,
    task: Task | None,
    fraction: float | None,
    seed: int,
    impute: bool,
) -> Table:
    """The split, the encoders, and the sentences on both."""
    target, rows, own = str(labels.name), labels.index.to_numpy(), columns.own_rows
    here = int((rows < own).sum())
    if here < TRAINING:
        raise InputError(f"{raw.name} has {here} usable rows", do=f"pass at least {TRAINING}")
    found, why = detect_task(labels[rows < own])
    if task is None:
        columns.notes.append(f"The task is {found}: target '{target}': {why}.")
    chosen = task or found
    if chosen == "regression" and not pd.api.types.is_float_dtype(labels):
        raise InputError(f"target '{target}' holds labels, not numbers", do="leave the task to classification")
    codes, classes = class_indices(labels) if chosen == "classification" else (None, None)
    if codes is not None and classes is not None:
        mine = codes[rows < own]
        unknown = sorted(set(codes.tolist()) - set(mine.tolist()))
        if unknown:
            raise InputError(
                f"the held-out rows have a class '{classes[unknown[0]]}' of target '{target}' that the table lacks",
                do="pass held-out rows of the same classes",
            )
        check_classes(mine, classes, target, labels.index)
    elif np.ptp(labels.to_numpy()[rows < own]) == 0:
        raise InputError(f"target '{target}' is constant ({labels.iloc[0]:g})", do="name another column by --target")
    if fraction is None:
        train, test = np.flatnonzero(rows < own), np.flatnonzero(rows >= own)
        if not len(test):
            raise InputError("the file of held-out rows has no usable row", do="pass one with targets")
    else:
        train, test = split(codes, len(rows), fraction, seed, None if groups is None else groups[rows])
        how = "in proportion to the classes" if codes is not None else "at random"
        how += "" if groups is None else " by whole groups"
        columns.notes.append(f"{len(test)} of {len(rows)} rows are held out, drawn {how} by seed {seed}.")
    y = (labels.to_numpy(np.float64) if codes is None else codes)[train]
    y_test = (labels.to_numpy(np.float64) if codes is None else codes)[test]
    if codes is None and np.ptp(y) == 0:
        raise InputError(f"target '{target}' is constant on the training rows", do="hold fewer rows out by --test")
    unseen = sorted(set(range(len(classes or []))) - set(y.tolist()))
    if unseen and classes:
        raise InputError(
            f"class '{classes[unseen[0]]}' of target '{target}' has no training row", do="hold fewer rows out by --test"
        )
    X, X_test, names = encode(columns, train, test, impute=impute)
    Y = y[:, None] if codes is None else np.eye(len(classes or []))[y]
    for name, correlation in leaks(X, Y, names):
        columns.notes.append(
            f"Column '{name}' has correlation {correlation:.5f} with the target; drop it if it was made from that."
        )
    repeated = _repeated(X, y, X_test, y_test, columns)
    return Table(
        X=X,
        X_test=X_test,
        y=y,
        y_test=y_test,
        classes=classes,
        task=chosen,
        columns=names,
        target=target,
        source=raw.name,
        train_rows=rows[train],
        test_rows=rows[test],
        total_rows=len(raw.frame),
        duplicate_rows=repeated,
        groups=None if groups is None else groups[rows[train]],
        cleaning=columns.cleaning,
        notes=columns.notes,
    )


def _repeated(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, columns: Columns) -> int:
    """Rows that repeat an earlier one; also says how many held-out rows stand among the training rows."""
    marks = [hash(row.tobytes()) for row in np.column_stack([np.concatenate([X, X_test]), np.concatenate([y, y_test])])]
    repeated = len(marks) - len(set(marks))
    if repeated:
        known = set(marks[: len(X)])
        both = sum(mark in known for mark in marks[len(X) :])
        columns.notes.append(
            f"{repeated} rows repeat an earlier one exactly; {both} of {len(X_test)} held-out rows are also trained on."
        )
    return repeated


def _read(source: Any, target: str | None, *, decimal: Decimal | None, header: bool, max_bytes: int) -> _Raw:
    target = None if target is None else str(target).strip()
    if isinstance(source, pd.DataFrame):
        if source.empty:
            raise InputError(f"the data frame is empty (shape {source.shape})", do="pass one row per sample")
        return _Raw(source, "data frame", target, decimal=decimal)
    if isinstance(source, (tuple, list)) and len(source) == 2:
        name = target or "y"
        X, y = source
        return _Raw(frame_of_arrays(X, y, "the pair", name), "arrays", name, decimal=decimal, arrays=True)
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            f"{type(source).__name__} is no table", do="pass a file, a name like sklearn:digits, a data frame or (X, y)"
        )
    source = os.fspath(source)
    if is_named(source):
        frame, stated, note = read_named(source, max_bytes)
        if frame.empty:
            raise InputError(f"{source} is empty", do="pass another set")
        return _Raw(frame, source, target or stated, decimal=decimal, notes=[note])
    data, kind = read_bytes(source, max_bytes)
    name = "standard input" if source == "-" else f"'{source}'"
    if kind == "npz":
        frame, target = read_npz(data, name, max_bytes, target)
        return _Raw(frame, source, target, decimal=decimal, arrays=True)
    if kind == "parquet":
        frame = read_parquet(data, name, max_bytes)
        if frame.empty:
            raise InputError(f"{name} has no rows", do="pass a table with one row per sample")
        return _Raw(frame, source, target, decimal=decimal)
    text = read_text(data, name, header=header, decimal=decimal)
    notes = ([f"The file was unpacked by gzip to {size(len(data))}."] if kind == "gzip+text" else []) + text.notes
    return _Raw(text.frame, source, target, text.separator, text.decimal, notes=notes)


def _fraction_or_source(test: Any) -> Any:
    """`test` as a float if it is a number, also in text; else as it is."""
    if isinstance(test, (int, float, np.number)) and not isinstance(test, bool):
        return float(test)
    if isinstance(test, str):
        try:
            return float(test)
        except ValueError:
            return test
    return test


def _joined(raw: _Raw, held: _Raw) -> _Raw:
    """The table with the held-out rows below it; both are cleaned as one, so that a column means the same in both."""
    ours = [str(c).strip() for c in raw.frame.columns]
    theirs = [str(c).strip() for c in held.frame.columns]
    lacking = [name for name in ours if name not in set(theirs)]
    if lacking:
        raise InputError(
            f"the held-out rows ({held.name}) have no column '{lacking[0]}'"
            + (f" (nor {len(lacking) - 1} others)" if len(lacking) > 1 else ""),
            do="pass a file with the same columns as the table",
        )
    other = held.frame.set_axis(theirs, axis=1)[ours]
    notes = [*raw.notes, f"{len(other)} held-out rows are those of {held.name}."]
    extra = len(theirs) - len(ours)
    notes += [f"{extra} columns that only the held-out rows have are left out."] if extra else []
    both = pd.concat([raw.frame.set_axis(ours, axis=1), other], ignore_index=True)
    return replace(raw, frame=both, notes=notes, decimal=raw.decimal or held.decimal)
