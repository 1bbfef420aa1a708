"""Rows that must stay together, and random splits that keep them so: folds, and nested subsets of a training part."""

from typing import Any

import numpy as np

from ...errors import InputError


def group_rows(groups: Any, copies: np.ndarray, n: int) -> np.ndarray:
    """(n,) integers, equal for rows that must be kept together: of one group, or exact copies, or linked by both.

    Args:
      groups: (n,) labels of any kind, or None.
      copies: (n,) integers, equal for exact copies.
      n: number of rows.

    Raises:
      InputError: labels of another number of rows, missing labels, or one group only.
    """
    if groups is None:
        return np.unique(copies, return_inverse=True)[1]
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InputError(f"groups has shape {labels.shape} and X has {n} rows", do="pass one label for each row")
    missing = np.array([label is None or label != label for label in labels.tolist()])
    if missing.any():
        raise InputError(f"groups has no label at row {int(np.argmax(missing))}", do="label every row")
    own = np.unique(labels.astype(str) if labels.dtype == object else labels, return_inverse=True)[1]
    if own.max() == 0:
        raise InputError("all rows are of one group", why="no row can be left out alone", do="leave groups out")
    return _joined(own, np.unique(copies, return_inverse=True)[1])


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The finest grouping that keeps together what either keeps together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shift = one.max() + 1  # a graph of both kinds of groups, with one edge for each row
    size = shift + other.max() + 1
    edges = coo_array((np.ones(len(one)), (one, other + shift)), shape=(size, size))
    return np.unique(connected_components(edges, directed=False)[1][one], return_inverse=True)[1]


def shuffled(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of the rows in which each group stands together."""
    place = rng.permutation(groups.max() + 1)[groups]
    return np.lexsort((rng.random(len(groups)), place))


def subset(groups: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Random rows, whole groups, as near to `size` as the order drawn allows (one group at least)."""
    order = shuffled(groups, rng)
    return order[: nearest_cut(groups[order], size)]


def nearest_cut(ordered: np.ndarray, size: int) -> int:
    """Where rows in which each group stands together are cut to keep about `size` of them."""
    cuts = np.append(np.flatnonzero(np.diff(ordered)) + 1, len(ordered))
    return int(cuts[np.argmin(np.abs(cuts - size))])


def folds(groups: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training rows, in random order with groups together, and rows left out: each row is left out once."""
    order = shuffled(groups, rng)
    ordered = groups[order]
    starts = np.append(0, np.flatnonzero(np.diff(ordered)) + 1)
    middle = (starts + np.append(starts[1:], len(order))) / 2  # a group goes where its middle lies
    own = np.minimum((middle * count / len(order)).astype(int), count - 1)
    fold = np.repeat(own, np.diff(np.append(starts, len(order))))
    out = []
    for k in np.unique(fold):
        train, test = order[fold != k], order[fold == k]
        if len(train):
            out.append((train[shuffled(groups[train], rng)], test))
    return out
