"""Arrays as a data frame: NPZ archives, pairs (X, y), Parquet; sizes are checked before anything is loaded."""

import importlib
import io
import zipfile
from typing import IO, Any

import numpy as np
import pandas as pd

from ...checks import nearest
from ...errors import InputError
from .raw_bytes import npz_members, read_bytes, size


def frame_of_arrays(X: Any, y: Any, name: str, target: str = "y") -> pd.DataFrame:
    """Features and target side by side; columns x1, x2, ... where X brings no names.

    Args:
      X: (n, d) numbers or text, or a data frame; images (n, h, w, ...) are laid out flat.
      y: (n,) target, or (n, 1), or (n, K) one-hot.
      name: what errors call the two.
      target: what the target's column is called.
    """
    if hasattr(X, "toarray"):
        X = X.toarray()
    values, labels = np.asarray(X), np.asarray(y)
    for letter, array in (("X", values), ("y", labels)):
        if array.dtype.kind == "c":
            raise InputError(f"{letter} of {name} holds complex numbers", do="pass real ones")
        if array.ndim == 0 or array.size == 0:
            raise InputError(f"{letter} of {name} is empty (shape {array.shape})", do="pass one row per sample")
    if len(values) != len(labels):
        raise InputError(
            f"X of {name} has {len(values)} rows and y has {len(labels)}", do="pass one target for each row"
        )
    if labels.ndim > 1:
        labels = _one_target(labels.reshape(len(labels), -1), name)
    elif isinstance(y, pd.Series):
        labels = y.array
    if not isinstance(X, pd.DataFrame):
        values = values.reshape(len(values), -1)
        if values.dtype.kind == "S":
            values = values.astype("U")
        X = pd.DataFrame(values, columns=[f"x{j + 1}" for j in range(values.shape[1])])
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "S":
        labels = labels.astype("U")
    if target in map(str, X.columns):
        raise InputError(f"X of {name} has a column called '{target}', as the target is", do="rename that column")
    column = pd.Series(labels, index=X.index, name=target)
    return pd.concat([X, column], axis=1)


def _one_target(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.shape[1] == 1:
        return labels[:, 0]
    if labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        return labels.argmax(axis=1)
    raise InputError(
        f"y of {name} has {labels.shape[1]} columns", why="one target is forecast at a time", do="pass one of them"
    )


def read_npz(data: bytes, name: str, max_bytes: int, target: str | None = None) -> tuple[pd.DataFrame, str]:
    """The arrays X and y of an NPZ archive as a frame, and the target's name (the array that `target` names, or y)."""
    with npz_members(data, name, max_bytes) as archive:
        stored = {n.removesuffix(".npy"): n for n in archive.namelist()}
        if {"data", "indices", "indptr"} <= set(stored):
            raise InputError(f"{name} holds a sparse matrix", do="save it dense, as arrays X and y")
        target = target or "y"
        for wanted in ("X", target):
            if wanted not in stored:
                found = f"{name} has no array '{wanted}'; it has {', '.join(list(stored)[:10])}"
                raise InputError(found, do=nearest(wanted, stored) or "save it as numpy.savez('data.npz', X=X, y=y)")
        X, y = (read_member(archive, stored[k], f"array '{k}' of {name}", max_bytes) for k in ("X", target))
    return frame_of_arrays(X, y, name, target), target


def read_member(archive: zipfile.ZipFile, member: str, name: str, max_bytes: int) -> np.ndarray:
    """One array of an NPZ archive; its header is held against its size before memory is taken, objects are refused."""
    try:
        with archive.open(member) as stream:
            shape, dtype = _npy_header(stream)
            if dtype.hasobject:
                raise InputError(
                    f"{name} holds Python objects",
                    why="they are pickles, which riron never opens",
                    do="save numbers or text (for example X.astype(float))",
                )
            needed = int(np.prod([int(k) for k in shape], dtype=object)) * dtype.itemsize
            if needed > min(archive.getinfo(member).file_size, max_bytes):
                raise InputError(f"{name} claims {size(needed)}, more than the file holds", do="save it again")
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # the archive's bytes decide which one of very many
        raise InputError(f"{name} is damaged ({type(error).__name__})", do="save it again") from None


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def read_embeddings(path: str, max_bytes: int) -> np.ndarray:
    """The array X of an NPZ file, or its only array, as (rows, columns) numbers."""
    data, kind = read_bytes(path, max_bytes)
    if kind != "npz":
        raise InputError(f"'{path}' is not an NPZ file", do="save the embeddings by numpy.savez('embeddings.npz', X=X)")
    with npz_members(data, f"'{path}'", max_bytes) as archive:
        stored = {n.removesuffix(".npy"): n for n in archive.namelist()}
        if "X" not in stored and len(stored) != 1:
            raise InputError(f"'{path}' has no array 'X'; it has {', '.join(stored)}", do="save the embeddings as X")
        key = "X" if "X" in stored else next(iter(stored))
        array = read_member(archive, stored[key], f"array '{key}' of '{path}'", max_bytes)
    if array.dtype.kind not in "biuf" or array.ndim == 0 or array.size == 0:
        raise InputError(
            f"array '{key}' of '{path}' is not a matrix of numbers", do="save one row of numbers per sample"
        )
    return array.reshape(len(array), -1).astype(np.float64)


def read_parquet(data: bytes, name: str, max_bytes: int) -> pd.DataFrame:
    """A Parquet table, its size taken from its own directory before it is loaded."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            f"{name} is Parquet, which needs pyarrow", do="pip install 'riron[data]', or save the table as CSV"
        ) from None
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        about = file.metadata
        stated = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        needed = max(stated, 8 * about.num_rows * about.num_columns)
        if needed > max_bytes:
            raise InputError(
                f"{name} would unpack to {size(needed)} and the limit is {size(max_bytes)}",
                do="save fewer rows or columns, or raise max_bytes",
            )
        return file.read().to_pandas()
    except InputError:
        raise
    except Exception as error:  # the file's bytes decide which one of very many
        raise InputError(f"{name} is a damaged Parquet file ({type(error).__name__})", do="save it again") from None
