"""A table ready for a forecast: numbers, a target, and rows held out; and a record of how it came to be so."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...errors import InputError
from .column_kinds import Record

HELD_OUT = 30  # rows, at least
TRAINING = 10  # rows, at least


@dataclass(frozen=True, eq=False)
class Table:
    """A cleaned table, split into training and held-out rows; not standardised.

    Attributes:
      X, X_test: (n, d) and (m, d) float64 features.
      y, y_test: (n,) and (m,) float64 targets, or int64 class indices.
      classes: the labels by index, or None in regression.
      task: `classification` or `regression`.
      columns: names of the d features.
      target: name of the target.
      source: where the table is from.
      cleaning: what was done to each column: dicts of `column`, `action`, `detail`.
      notes: sentences on everything that was assumed.
      train_rows, test_rows: the rows' places in the source, from 0 (a file of held-out rows follows the table's own).
      total_rows: rows of the source, those left out included.
      groups: (n,) number of the group of each training row, or None.
      duplicate_rows: rows that repeat an earlier one, target included.
    """

    X: np.ndarray
    X_test: np.ndarray
    y: np.ndarray
    y_test: np.ndarray
    classes: list | None
    task: str
    columns: list[str]
    target: str
    source: str
    train_rows: np.ndarray
    test_rows: np.ndarray
    total_rows: int
    duplicate_rows: int = 0
    groups: np.ndarray | None = None
    cleaning: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Training rows."""
        return len(self.X)

    def __repr__(self) -> str:
        of = f"{len(self.classes)} classes" if self.classes else "numbers"
        shape = f"{self.n} + {len(self.X_test)} rows, {len(self.columns)} columns"
        return f"Table({self.source}: {shape} -> {self.target}, {of})"


def detect_task(target: pd.Series) -> tuple[str, str]:
    """Classification or regression, and why (a few words)."""
    if not pd.api.types.is_float_dtype(target):
        return "classification", "its values are labels"
    values, counts = np.unique(target.to_numpy(), return_counts=True)
    if not (values % 1 == 0).all():
        return "regression", "its values are numbers with fractions"
    levels, rows = len(values), len(target)
    if levels <= 2:
        return "classification", f"it has {levels} values"
    if levels <= 20 and 5 * levels <= rows:
        return "classification", f"it has only {levels} whole values"
    consecutive = values[0] in (0, 1) and values[-1] - values[0] == levels - 1
    if levels <= 100 and consecutive and 20 * levels <= rows and 4 * counts.min() >= counts.mean():
        return "classification", f"it has the whole values {values[0]:.0f} to {values[-1]:.0f}, about equally often"
    return "regression", f"it has {levels} different numbers"


def class_indices(target: pd.Series) -> tuple[np.ndarray, list]:
    """(n,) index of each label, and the labels in order; whole numbers stay whole."""
    labels = target.astype(object)
    if pd.api.types.is_float_dtype(target):
        whole = bool((target % 1 == 0).all())
        labels = target.astype(np.int64 if whole else np.float64)
    codes, found = pd.factorize(labels, sort=True)
    return codes.astype(np.int64), [k.item() if isinstance(k, np.generic) else k for k in found]


def check_classes(codes: np.ndarray, classes: list, target: str, rows: pd.Index) -> None:
    """InputError for a single class, a class with a single row, or as many classes as rows."""
    if len(classes) == 1:
        raise InputError(
            f"target '{target}' has one class only ('{classes[0]}')", do="pass rows of at least two classes"
        )
    counts = np.bincount(codes)
    alone = np.flatnonzero(counts == 1)
    if len(alone) > 20 and len(alone) > len(codes) / 10:
        raise InputError(
            f"target '{target}' has {len(classes)} different labels in {len(codes)} rows",
            why="these are no classes",
            do="name another column by --target",
        )
    if len(alone):
        row = int(rows[int(np.flatnonzero(codes == alone[0])[0])]) + 1
        others = f", as have {len(alone) - 1} others" if len(alone) > 1 else ""
        raise InputError(
            f"class '{classes[alone[0]]}' of target '{target}' has one row only (data row {row}){others}",
            why="it cannot be both learned and held out",
            do="add rows of it, or leave it out",
        )


def split(
    codes: np.ndarray | None, rows: int, fraction: float, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the training and the held-out rows, in order; classes are held out in proportion, groups whole."""
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise InputError(
            f"--test {fraction:g} is no fraction between 0 and 1", do="say for example --test 0.2, or a file"
        )
    if rows < HELD_OUT + TRAINING:
        raise InputError(
            f"the table has {rows} rows",
            why=f"{HELD_OUT} are held out and {TRAINING} at least are trained on",
            do=f"pass at least {HELD_OUT + TRAINING} rows, or held-out rows as a file: --test FILE",
        )
    held = max(HELD_OUT, round(fraction * rows), 0 if codes is None else int(codes.max()) + 1)
    least = max(TRAINING, 0 if codes is None else int(codes.max()) + 1)
    if rows - held < least:
        raise InputError(
            f"--test {fraction:g} holds {held} of {rows} rows out and leaves {rows - held}",
            do=f"leave at least {least}: a smaller --test, or more rows",
        )
    if groups is not None:
        return _split_by_groups(codes, groups, held / rows, least, seed)
    train, test = train_test_split(np.arange(rows), test_size=held, random_state=seed, stratify=codes)
    return np.sort(train), np.sort(test)


def _split_by_groups(
    codes: np.ndarray | None, groups: np.ndarray, share: float, least: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Whole groups held out, about `share` of the rows: the fold of that size that is nearest to it."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    folds = min(max(2, round(1 / share)), len(np.unique(groups)))
    cut = (GroupKFold if codes is None else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class of few rows: what matters of it is checked below
        cuts = list(cut.split(np.empty((len(groups), 0)), codes, groups))
    train, test = min(cuts, key=lambda each: abs(len(each[1]) / len(groups) - share))
    if len(test) < HELD_OUT or len(train) < least:
        raise InputError(
            f"held out by whole groups, {len(test)} rows are held out and {len(train)} left",
            why=f"at least {HELD_OUT} and {least} are needed",
            do="use another --test, or a column of smaller groups",
        )
    return train, test
