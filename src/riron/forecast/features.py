"""The features that SGD is forecast on: standardised columns, random features of them, or embeddings of your own."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks import nearest
from ..errors import InputError
from .networks.tangent import Tangent, tangent_features
from .tables.arrays import read_embeddings
from .tables.raw_bytes import MAX_BYTES, size
from .tables.table import Table

SHARE = 0.6  # of the memory that is free, for the feature matrices
PAIRS = 1000  # of rows, whose median distance is the scale of fourier features
NOTICED = 0.05  # size from which a note is made of a network's outputs at its start, and of its kernel between outputs
CONSTANT = 1e-10  # a feature whose standard deviation is below this share of its largest value is constant


@dataclass(frozen=True, eq=False)
class Features:
    """Features and targets as the model sees them: linear in F, start 0.

    Attributes:
      F, F_test: (n, p) and (m, p) float64 features; the last column is constant 1 (0 for `ntk`: a network has its
        own biases).
      Y, Y_test: (n, K) and (m, K) targets: centred and scaled to unit variance (K = 1), or one-hot.
      target_mean, target_scale: (K,), y = target_mean + target_scale * Y in the target's units; 0 and 1 for classes.
      classes: labels by column of Y, or None in regression.
      names: names of the p features.
      spec: what was asked for, as `relu:300`.
      notes: sentences on what was dropped.
      tangent: the network behind `ntk` features, for `kernel_drift`; else None.
    """

    F: np.ndarray
    F_test: np.ndarray
    Y: np.ndarray
    Y_test: np.ndarray
    target_mean: np.ndarray
    target_scale: np.ndarray
    classes: list | None
    names: list[str]
    spec: str
    notes: list[str]
    tangent: Tangent | None = None


def make_features(table: Table, spec: str = "raw", seed: int = 0, *, max_bytes: int | None = None) -> Features:
    """Features of a table's rows, everything measured on the training rows and applied to both.

    Args:
      table: from `read_table`.
      spec: `raw` (the columns standardised); `relu:P` (relu(W x), W ~ N(0, I/d)) or `fourier:P` (cos(w.x + b),
        w ~ N(0, I/s^2), b uniform, s the median distance of 1000 pairs of rows), P features of the standardised
        columns, centred; `npz:FILE` (embeddings, one row per row of the source, standardised); `ntk:FILE.py` (tangent
        features of the network that `network(inputs, outputs, key)` of this file builds, on the standardised columns,
        less its outputs at the start; the file is executed).
      seed: draws W, w and b.
      max_bytes: memory for the features of all rows; None for 60 % of what is free.

    Raises: InputError for an unknown spec, too little memory (with what it needs), or embeddings of other rows.
    """
    limit = SHARE * free_memory() if max_bytes is None else max_bytes
    kind, argument = _parsed(spec)
    rows = len(table.X) + len(table.X_test)
    _check_memory(rows, len(table.columns), limit, spec="raw")
    if kind == "npz":
        train, test, names, notes = _embedded(table, argument, limit)
    else:
        train, test, names, notes = _standardised(table.X, table.X_test, table.columns)
    if kind in ("relu", "fourier"):
        count = int(argument)
        _check_memory(rows, count, limit, spec=spec)
        mapping = (_relu if kind == "relu" else _fourier)(train, count, np.random.default_rng(seed))
        train, test = mapping(train), mapping(test)
        train, test, names, more = _centred(train, test, [f"{kind} {j + 1}" for j in range(count)])
        notes = notes + more
    Y, Y_test, mean, scale = _targets(table)
    tangent = None
    if kind == "ntk":
        tangent, more = _tangent(train, test, Y, argument, seed, limit)
        train, test = tangent.F, tangent.F_test
        names, notes = [f"tangent {j + 1}" for j in range(train.shape[1])], notes + more
    last = float(tangent is None)
    one = lambda A: np.concatenate([A, np.full((len(A), 1), last)], axis=1)
    return Features(
        F=one(train),
        F_test=one(test),
        Y=Y,
        Y_test=Y_test,
        target_mean=mean,
        target_scale=scale,
        classes=table.classes,
        names=[*names, "constant"],
        spec=spec.strip(),
        notes=notes,
        tangent=tangent,
    )


def _parsed(spec: str) -> tuple[str, str]:
    kind, _, argument = spec.strip().partition(":")
    if kind == "raw" and not argument:
        return kind, ""
    if kind in ("relu", "fourier"):
        if not re.fullmatch(r"[0-9]{1,12}", argument) or int(argument) == 0:
            raise InputError(
                f"--features {spec} does not say how many features", do=f"say a whole number, for example {kind}:300"
            )
        return kind, argument
    if kind in ("npz", "ntk") and argument:
        return kind, argument
    known = ("raw", "relu:P", "fourier:P", "npz:FILE", "ntk:FILE.py")
    guess = nearest(kind, [k.partition(":")[0] for k in known])
    raise InputError(f"--features {spec} is not one of {', '.join(known)}", do=guess or "say one of these")


def _standardised(
    train: np.ndarray, test: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    train, test, names, notes = _centred(train.copy(), test.copy(), names)
    scale = train.std(axis=0)
    return train / scale, test / scale, names, notes


def _centred(
    train: np.ndarray, test: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Minus the mean of the training rows, in place; columns that are constant there are dropped, and said."""
    largest = np.maximum(train.max(axis=0), -train.min(axis=0))
    mean = train.mean(axis=0)
    train -= mean
    test -= mean
    deviation = np.sqrt(np.einsum("ij,ij->j", train, train) / len(train))
    vary = deviation > CONSTANT * largest
    if vary.all():
        return train, test, names, []
    if not vary.any():
        raise InputError("every feature is constant on the training rows", do="pass a table whose columns vary")
    dropped = [name for name, varies in zip(names, vary, strict=True) if not varies]
    shown = ", ".join(f"'{name}'" for name in dropped[:5]) + (", ..." if len(dropped) > 5 else "")
    are = "features are" if len(dropped) > 1 else "feature is"
    note = f"{len(dropped)} {are} constant on the training rows and dropped: {shown}."
    return train[:, vary], test[:, vary], [n for n, varies in zip(names, vary, strict=True) if varies], [note]


def _relu(X: np.ndarray, count: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    W = rng.standard_normal((X.shape[1], count)) / np.sqrt(X.shape[1])

    def relu(Z: np.ndarray) -> np.ndarray:
        F = Z @ W
        return np.maximum(F, 0.0, out=F)

    return relu


def _fourier(X: np.ndarray, count: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    first = rng.integers(len(X), size=PAIRS)
    second = (first + rng.integers(1, len(X), size=PAIRS)) % len(X)  # never the same row
    distance = np.linalg.norm(X[first] - X[second], axis=1)
    s = np.median(distance[distance > 0]) if (distance > 0).any() else np.nan
    if not np.isfinite(s):
        raise InputError("the rows hardly differ, so fourier features have no scale", do="say --features raw")
    W = rng.standard_normal((X.shape[1], count)) / s
    b = rng.uniform(0.0, 2 * np.pi, count)

    def wave(Z: np.ndarray) -> np.ndarray:
        F = Z @ W
        F += b
        return np.cos(F, out=F)

    return wave


def _embedded(table: Table, path: str, limit: float) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    array = read_embeddings(path, int(min(limit, MAX_BYTES)))
    if len(array) != table.total_rows:
        raise InputError(
            f"'{path}' has {len(array)} rows and {table.source} has {table.total_rows}",
            why="embeddings need one row for each row of the table, in its order, held-out rows of a file last",
            do="compute them for the same rows",
        )
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"'{path}' holds {int(bad.sum())} values that are not finite, first in row {row + 1}, column {column + 1}",
            do="compute the embeddings of these rows again",
        )
    names = [f"embedding {j + 1}" for j in range(array.shape[1])]
    return _standardised(array[table.train_rows], array[table.test_rows], names)


def _tangent(
    train: np.ndarray, test: np.ndarray, Y: np.ndarray, path: str, seed: int, limit: float
) -> tuple[Tangent, list[str]]:
    from .networks.network_files import load_network

    apply, params = load_network(path, train.shape[1], Y.shape[1], seed)
    tangent = tangent_features(apply, params, train, X_test=test, max_bytes=limit)
    if tangent.start.shape[1] != Y.shape[1]:
        raise InputError(
            f"the network of '{path}' has {tangent.start.shape[1]} outputs and the target needs {Y.shape[1]}",
            do="give as many outputs as network(inputs, outputs, key) is asked for",
        )
    P, rank = tangent.parameters, tangent.F.shape[1]
    notes = [f"The network has {P} parameters; near its start they act on these rows as {rank} features."]
    share = float(np.sqrt(np.mean(tangent.start**2) / np.mean(Y**2)))
    if share > NOTICED:
        notes.append(
            f"The network's outputs at the start are {100 * share:.0f} % of the targets (root mean square); the "
            "forecast is for the network less these outputs: train that, or start antisymmetrically."
        )
    if tangent.between_outputs > NOTICED:
        notes.append(
            f"All outputs share one kernel here, which leaves out {100 * tangent.between_outputs:.0f} % of the "
            "network's own (less for wider networks)."
        )
    return tangent, notes


def _targets(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if table.classes is not None:
        one_hot = np.eye(len(table.classes))
        return one_hot[table.y], one_hot[table.y_test], np.zeros(len(one_hot)), np.ones(len(one_hot))
    mean, scale = table.y.mean(), table.y.std()
    scaled = [((y - mean) / scale)[:, None] for y in (table.y, table.y_test)]
    return scaled[0], scaled[1], np.array([mean]), np.array([scale])


def _check_memory(rows: int, count: int, limit: float, *, spec: str) -> None:
    needed = 2 * 8.0 * rows * (count + 1)  # the features, and the copy that gains the constant column
    if needed > limit:
        kind = spec.partition(":")[0]
        fitting = int(limit / 16 / rows) - 1
        smaller = f"say --features {kind}:{fitting} or less, or " if kind != "raw" and fitting > 0 else ""
        raise InputError(
            f"--features {spec} needs {size(needed)} for {rows} rows and {size(limit)} may be used",
            do=f"{smaller}pass fewer rows",
        )


def free_memory() -> float:
    """Bytes of memory that are free for this process, by the system and by the container's limit."""
    free = [float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    for line in _read_lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(1024.0 * int(line.split()[1]))
    top, used = _read_lines("/sys/fs/cgroup/memory.max"), _read_lines("/sys/fs/cgroup/memory.current")
    if top and used and top[0].isdigit() and used[0].isdigit():
        free.append(max(0.0, float(top[0]) - float(used[0])))
    return min(free, default=float(4 * 2**30))


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().split("\n")
    except OSError:
        return []
