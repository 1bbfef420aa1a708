"""The results of a sweep, task by task in the store, as one labelled Dataset."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from .store import Store


def merge(store: "Store", places: Mapping[str, Mapping[str, Any]]) -> "xr.Dataset":
    """One Dataset of what the store holds by now of a sweep.

    Args:
      store: where the tasks' Datasets were put.
      places: address -> where its Dataset belongs: labels by dimension, a sequence for a dimension that the Dataset has
        (`seed=range(16, 32)`), one label for a dimension that it lacks (`point=3`).

    Returns: Dataset over these dimensions and the Datasets' own; missing values are NaN (text: empty); `status` (done,
      missing, failed) and `error` (text) stand over the dimensions of `places`; attribute `complete` (all are done).

    Raises: InputError if two Datasets differ in the labels of their own axes or in the shape of a variable.
    """
    import xarray as xr

    labels = _labels(places)
    sizes = {dim: len(known) for dim, known in labels.items()}
    shape = tuple(sizes.values())
    status, error = np.full(shape, "missing", dtype="<U7"), np.full(shape, "", dtype=object)
    laid: dict[str, _Whole] = {}
    coords: dict[str, Any] = {dim: list(known) for dim, known in labels.items()}
    for key, place in places.items():
        where = {dim: [labels[dim][label] for label in _as_list(place[dim])] for dim in sizes}
        block = np.ix_(*where.values())
        if key not in store:
            failure = store.failure(key)
            status[block], error[block] = ("failed", failure) if failure else ("missing", "")
            continue
        dataset = store.get_dataset(key).drop_vars(list(sizes), errors="ignore")
        status[block] = "done"
        lacking = [dim for dim in sizes if dim not in dataset.dims]
        for name, variable in dataset.variables.items():
            swept = [dim for dim in sizes if dim in variable.dims or dim in lacking]
            if name in dataset.coords and variable.ndim and not set(variable.dims) & set(sizes):
                if not coords.setdefault(str(name), variable).equals(variable):
                    raise InputError(f"the results of this sweep differ in their axis '{name}'", do="merge them apart")
            else:
                whole = laid.setdefault(str(name), _Whole(variable, {dim: sizes[dim] for dim in swept}))
                whole.lay(str(name), variable, [where[dim] for dim in swept])
                if name in dataset.coords:
                    coords[str(name)] = whole
    done = {name: whole.variable() for name, whole in laid.items()}
    coords.update({name: done.pop(name) for name in list(done) if name in coords})
    complete = {"complete": bool((status == "done").all())}
    return xr.Dataset(done, coords, complete).assign(
        status=(list(sizes), status), error=(list(sizes), error.astype(str))
    )


class _Whole:
    """One variable over the whole sweep, into which tasks lay their blocks; missing (NaN, empty text) until then."""

    def __init__(self, variable: "xr.Variable", sizes: Mapping[str, int]):
        self.dims = (*sizes, *(str(dim) for dim in variable.dims if dim not in sizes))
        self.attrs, self.dtype, self.swept = variable.attrs, variable.dtype, len(sizes)
        self.own = tuple(variable.sizes[dim] for dim in self.dims[self.swept :])
        text = self.dtype.kind in "US"
        kind = object if text else self.dtype if self.dtype.kind in "fc" else float
        self.values = np.full((*sizes.values(), *self.own), "" if text else np.nan, kind)

    def lay(self, name: str, variable: "xr.Variable", where: list[list[int]]) -> None:
        own = tuple(variable.sizes.get(dim, -1) for dim in self.dims[self.swept :])
        if own != self.own or not set(variable.dims) <= set(self.dims):
            raise InputError(f"the results of this sweep differ in the shape of '{name}'", do="merge them apart")
        sizes = dict(zip(self.dims, (*map(len, where), *self.own), strict=True))
        self.values[np.ix_(*where) if where else ...] = variable.set_dims(sizes).transpose(*self.dims).values

    def variable(self) -> tuple[tuple[str, ...], np.ndarray, dict]:
        if self.values.dtype == object:
            return self.dims, self.values.astype(str), self.attrs
        whole = self.dtype.kind in "iub" and not np.isnan(self.values).any()
        return self.dims, self.values.astype(self.dtype) if whole else self.values, self.attrs


def _labels(places: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[Any, int]]:
    """The labels of each dimension and their positions, in order of appearance."""
    labels: dict[str, dict[Any, int]] = {}
    for place in places.values():
        if labels and set(place) != set(labels):
            raise InputError(f"places name different dimensions: {sorted(labels)} and {sorted(place)}")
        for dim, given in place.items():
            known = labels.setdefault(dim, {})
            for label in _as_list(given):
                known.setdefault(label, len(known))
    return labels


def _as_list(labels: Any) -> list[Any]:
    if isinstance(labels, np.ndarray):
        return labels.ravel().tolist()
    return [labels] if isinstance(labels, str) or not isinstance(labels, Iterable) else list(labels)
