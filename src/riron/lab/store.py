"""Results on disk, one small file a task, named by the content key of what was asked (`addressing.address`).

A file is an NPZ of fixed bytes (no pickle) and the SHA-256 of those bytes. It is whole or absent: a file that was cut
short or changed is found when it is read, moved aside as `.damaged` and computed again. Two runs may write into one
folder: they write the same bytes under the same names. A folder made by another version holds other keys.
"""

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from .addressing import address as address
from .files import as_json, remove_leftovers, write_bytes, write_text
from .merging import merge as merge
from .netcdf import read_dataset as read_dataset
from .netcdf import read_datatree as read_datatree
from .netcdf import write_dataset as write_dataset
from .netcdf import write_datatree as write_datatree

if TYPE_CHECKING:
    import xarray as xr

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_DIGEST = hashlib.sha256().digest_size
_ATTRS = "__attrs__"
_VOLATILE = ("seconds",)  # attributes that differ between two equal runs; a stored result must not


class Record(NamedTuple):
    """What one task left: named arrays, and attributes that JSON can hold."""

    arrays: dict[str, np.ndarray]
    attrs: dict[str, Any]


class Store:
    """A folder of results by content key.

    Args:
      root: the folder; default the environment's RIRON_STORE, else the user's cache folder / riron / results.
      report: called with one sentence for each damaged file that is found; default a UserWarning.
    """

    def __init__(self, root: str | os.PathLike | None = None, *, report: Callable[[str], object] = warnings.warn):
        self.root = _root(root)
        self.report = report
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.root, error) from None
        self.clean()

    def path(self, address: str) -> Path:
        """Where the result of `address` is, or would be."""
        if not _ADDRESS.fullmatch(address):
            raise InputError(f"{address!r} is not a content key", do="make one with address(mapping)")
        return self.root / address[:2] / f"{address}.npz"

    def put(self, address: str, arrays: Mapping[str, Any], attrs: Mapping[str, Any] | None = None) -> Path:
        """Write a result atomically: arrays by name (no objects), attributes that JSON can hold; forgets a failure."""
        body = _encode(arrays, attrs or {})
        path = self.path(address)
        try:
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, body + hashlib.sha256(body).digest())
        except OSError as error:
            raise _unwritable(path.parent, error) from None
        self.forget_failure(address)
        return path

    def get(self, address: str) -> Record:
        """Read a result; KeyError if there is none, or if it was damaged (it is then moved aside and reported)."""
        body = self._verified(address)
        if body is None:
            raise KeyError(address)
        return _decode(body)

    def __contains__(self, address: str) -> bool:
        """Whether a whole result is there: its bytes are read and compared with their digest."""
        return self._verified(address) is not None

    def __iter__(self) -> Iterator[str]:
        """The addresses of all results, unverified, in order."""
        return (path.stem for path in sorted(self.root.glob("??/*.npz")))

    def put_dataset(self, address: str, dataset: "xr.Dataset") -> Path:
        """Write a Dataset, but for those attributes that differ between two equal runs (seconds)."""
        return self.put(address, *_flatten(dataset))

    def get_dataset(self, address: str) -> "xr.Dataset":
        """Read a result that `put_dataset` wrote; KeyError as `get`."""
        return _unflatten(self.get(address))

    def fail(self, address: str, error: str) -> None:
        """Record, in one sentence, why a task has no result. The address stays missing, so a later run tries again."""
        path = self._failed(address)
        try:
            path.parent.mkdir(exist_ok=True)
            write_text(path, as_json({"error": error}))
        except OSError as reason:
            raise _unwritable(path.parent, reason) from None

    def forget_failure(self, address: str) -> None:
        """Remove the record of a failure, before the task is tried again."""
        self._failed(address).unlink(missing_ok=True)

    def failure(self, address: str) -> str | None:
        """Why a task has no result, if it failed."""
        try:
            return json.loads(self._failed(address).read_text(encoding="utf-8"))["error"]
        except FileNotFoundError:
            return None

    def missing(self, addresses: Iterable[str]) -> list[str]:
        """Those addresses that have no whole result, in order."""
        return [address for address in addresses if address not in self]

    def clean(self) -> list[Path]:
        """Remove the temporaries of processes that have died; returns them."""
        folders = [self.root, *(folder for folder in self.root.glob("??") if folder.is_dir())]
        return [path for folder in folders for path in remove_leftovers(folder)]

    def _failed(self, address: str) -> Path:
        return self.path(address).with_suffix(".failed.json")

    def _verified(self, address: str) -> bytes | None:
        path = self.path(address)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        body, digest = content[:-_DIGEST], content[-_DIGEST:]
        if hashlib.sha256(body).digest() == digest:
            return body
        os.replace(path, path.with_suffix(".damaged"))
        self.report(f"the result '{path}' was damaged; it is kept as '{path.stem}.damaged' and will be computed again")
        return None


def _root(root: str | os.PathLike | None) -> Path:
    if root is None:
        root = os.environ.get("RIRON_STORE") or None
    if root is None:
        import platformdirs

        return Path(platformdirs.user_cache_dir("riron", appauthor=False)) / "results"
    return Path(root).expanduser().absolute()


def _unwritable(folder: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(
        f"the results folder '{folder}' cannot be written ({reason})", do="set RIRON_STORE to another one"
    )


def _encode(arrays: Mapping[str, Any], attrs: Mapping[str, Any]) -> bytes:
    """NPZ bytes that depend on the content only: names sorted, no dates, no compression, nothing of the machine."""
    text = json.dumps(attrs, sort_keys=True, default=_as_python)
    entries = {name: np.asarray(array) for name, array in arrays.items()}
    entries[_ATTRS] = np.frombuffer(text.encode("utf-8"), np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            if entries[name].dtype.hasobject:
                raise InputError(f"the result '{name}' is an array of Python objects", do="store numbers or text")
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, entries[name], allow_pickle=False)
    return buffer.getvalue()


def _decode(body: bytes) -> Record:
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Record(arrays, json.loads(arrays.pop(_ATTRS).tobytes().decode("utf-8")))


def _flatten(dataset: "xr.Dataset") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = {str(name): _text(variable.values) for name, variable in dataset.variables.items()}
    layout = {str(name): [list(variable.dims), dict(variable.attrs)] for name, variable in dataset.variables.items()}
    attrs = {str(name): value for name, value in dataset.attrs.items() if name not in _VOLATILE}
    return arrays, {"variables": layout, "coords": sorted(map(str, dataset.coords)), "attrs": attrs}


def _unflatten(record: Record) -> "xr.Dataset":
    import xarray as xr

    layout, coords = record.attrs["variables"], record.attrs["coords"]
    variables = {name: (dims, record.arrays[name], attrs) for name, (dims, attrs) in layout.items()}
    data = {name: variable for name, variable in variables.items() if name not in coords}
    return xr.Dataset(data, {name: variables[name] for name in coords}, record.attrs["attrs"])


def _text(values: np.ndarray) -> np.ndarray:
    """Text that pandas or xarray keeps as objects, as NumPy's own text."""
    return values.astype(str) if values.dtype == object and all(isinstance(v, str) for v in values.flat) else values


def _as_python(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise InputError(f"an attribute is a {type(value).__name__}, which JSON cannot hold", do="store numbers or text")
