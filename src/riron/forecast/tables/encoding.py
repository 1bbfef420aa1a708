"""Columns of all kinds as one matrix of numbers: every encoder is fitted on the training rows and applied to all."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder
from skrub import DatetimeEncoder, TableVectorizer

from .cleaning import LEVELS
from .column_kinds import Columns

LEAK = 0.999  # a correlation with the target above this is named


def encode(
    columns: Columns, train: np.ndarray, test: np.ndarray, *, impute: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Numbers as they are, categories one-hot, dates as days and parts of the calendar; then missing values filled in.

    Args:
      columns: cleaned; missing numbers only if `impute`.
      train, test: places of the rows.
      impute: median of the training rows, and a column that marks what was missing.

    Returns: (n, d) and (m, d) float64 matrices and the d names. What was done is added to `columns.cleaning`.
    """
    blocks, names = [], []
    if columns.numbers:
        blocks.append(np.column_stack([c.to_numpy(np.float64) for c in columns.numbers.values()]))
        names += list(columns.numbers)
    for name, column in columns.dates.items():
        days = (column - pd.Timestamp(0)) / pd.Timedelta(days=1)  # in float64: skrub's seconds are float32
        blocks.append(days.to_numpy(np.float64)[:, None])
        names.append(f"{name}_days")
    if columns.dates or columns.categories:
        block, encoded = _vectorize(columns, train)
        blocks.append(block)
        names += encoded
    matrix = np.concatenate(blocks, axis=1)
    if impute:
        matrix, names = _imputed(matrix, names, train)
    matrix, names = _without_twins(matrix, names, columns)
    X, X_test = matrix[train], matrix[test]
    handled = {r["column"] for r in columns.cleaning}
    for name in columns.numbers:
        if name not in handled:
            columns.record(name, "number")
    return X, X_test, names


def _vectorize(columns: Columns, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    onehot: Any = OneHotEncoder(
        max_categories=LEVELS, drop="if_binary", handle_unknown="infrequent_if_exist", sparse_output=False
    )
    vectorizer = TableVectorizer(
        cardinality_threshold=LEVELS,
        low_cardinality=onehot,
        high_cardinality=onehot,
        datetime=DatetimeEncoder(add_total_seconds=False),
    )
    frame: Any = pd.DataFrame({**columns.categories, **columns.dates}).reset_index(drop=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # levels that only held-out rows have: counted below instead
        fitted = vectorizer.fit(frame.iloc[train])
        encoded = fitted.transform(frame)
    outputs = fitted.input_to_outputs_
    for name, column in columns.categories.items():
        levels = column.nunique()
        missing = int(column.isna().sum())
        unseen = set(column.dropna()) - set(column.iloc[train].dropna())
        count = len(outputs.get(name, []))
        detail = f"{levels} levels in {count} one-hot column{'s' if count != 1 else ''}"
        detail += f"; {missing} missing values are a level of their own" if missing else ""
        detail += f"; {len(unseen)} levels occur in held-out rows only" if unseen else ""
        columns.record(name, "category", detail)
    for name in columns.dates:
        columns.record(name, "date", ", ".join([f"{name}_days", *outputs.get(name, [])]))
    return encoded.to_numpy(np.float64), [str(c) for c in encoded.columns]


def _imputed(matrix: np.ndarray, names: list[str], train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    if not np.isnan(matrix).any():
        return matrix, names
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(matrix[train])
    called = [str(n).replace("missingindicator_", "missing ") for n in imputer.get_feature_names_out(names)]
    return np.asarray(imputer.transform(matrix), dtype=np.float64), called


def _without_twins(matrix: np.ndarray, names: list[str], columns: Columns) -> tuple[np.ndarray, list[str]]:
    """Drops encoded columns that repeat another exactly (skrub's DropSimilar also drops columns that differ)."""
    first: dict[bytes, int] = {}
    keep = []
    for j, name in enumerate(names):
        twin = first.setdefault(matrix[:, j].tobytes(), j)
        if twin == j:
            keep.append(j)
        else:
            columns.record(name, "dropped", f"repeats encoded column '{names[twin]}'")
    return (matrix if len(keep) == len(names) else matrix[:, keep]), [names[j] for j in keep]


def leaks(X: np.ndarray, Y: np.ndarray, names: list[str]) -> list[tuple[str, float]]:
    """Features whose correlation with the target (any column of Y) is above .999 on the training rows."""
    scaled = lambda A: (A - A.mean(axis=0)) / np.maximum(A.std(axis=0), np.finfo(float).tiny)
    with np.errstate(all="ignore"):
        correlation = np.abs(scaled(X).T @ scaled(Y)).max(axis=1) / len(X)
    return [(names[j], float(correlation[j])) for j in np.flatnonzero(correlation > LEAK)]
