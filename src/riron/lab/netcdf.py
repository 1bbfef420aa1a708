"""Labelled results as netCDF files (HDF5): written in one step, the same bytes for the same content."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .files import replacing

if TYPE_CHECKING:  # workers and the command line load this module early, and most need no xarray
    import xarray as xr

_ENGINE = "h5netcdf"


def write_dataset(path: str | os.PathLike, dataset: "xr.Dataset") -> None:
    """Write one Dataset atomically. Attributes that netCDF cannot hold (lists, mappings, None) become JSON text."""
    with replacing(path) as temporary:
        _plain(dataset).to_netcdf(temporary, engine=_ENGINE)


def read_dataset(path: str | os.PathLike) -> "xr.Dataset":
    """Read what `write_dataset` wrote, whole, and close the file."""
    import xarray as xr

    _check(path)
    with xr.open_dataset(path, engine=_ENGINE) as dataset:
        return dataset.load()


def write_datatree(path: str | os.PathLike, tree: "Mapping[str, Mapping[Any, xr.Dataset]]") -> None:
    """Write Datasets by kind and size, `{"dots": {64: ...}, "line": {64: ...}}`, as groups `/dots/64`, `/line/64`."""
    import xarray as xr

    groups = {f"/{kind}/{size}": _plain(dataset) for kind, sizes in tree.items() for size, dataset in sizes.items()}
    with replacing(path) as temporary:
        xr.DataTree.from_dict(groups).to_netcdf(temporary, engine=_ENGINE)


def read_datatree(path: str | os.PathLike) -> "dict[str, dict[Any, xr.Dataset]]":
    """Read what `write_datatree` wrote: Datasets by kind and size; sizes that are numbers come back as numbers."""
    import xarray as xr

    _check(path)
    tree: dict[str, dict[Any, xr.Dataset]] = {}
    for group, dataset in xr.open_groups(path, engine=_ENGINE).items():
        with dataset:
            kind, _, size = group.strip("/").partition("/")
            if size:
                tree.setdefault(kind, {})[_number(size)] = dataset.load()
    return tree


def _check(path: str | os.PathLike) -> None:
    if not Path(path).is_file():
        raise InputError(f"there is no file '{path}'")


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _plain(dataset: "xr.Dataset") -> "xr.Dataset":
    """The Dataset with attributes that netCDF can hold, in an order of their own; the caller's is left alone."""
    dataset = dataset.copy()
    dataset.attrs = _attributes(dataset.attrs)
    for variable in dataset.variables.values():
        variable.attrs = _attributes(variable.attrs)
        variable.encoding = {}
    return dataset


def _attributes(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {}
    for name in sorted(attrs, key=str):
        value = attrs[name]
        if isinstance(value, (bool, np.bool_)):
            value = int(value)
        elif not isinstance(value, (int, float, str, np.number, np.ndarray)):
            value = json.dumps(value, sort_keys=True, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))
        plain[str(name)] = value
    return plain
