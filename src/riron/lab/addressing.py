"""Content keys: the SHA-256 of a mapping's one canonical text, the same in every process, order and Python version.

Never Python's `hash` (salted per process) nor pickle (bytes differ between versions for equal values).
"""

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import InputError

_NAN = "NaN equals nothing, so it makes no key"
_ARRAY_KINDS = "biufcmMSU"  # no objects, whose bytes are addresses, and no records


def address(mapping: Mapping[str, Any]) -> str:
    """The content key of a mapping: 64 hexadecimal digits.

    Args:
      mapping: names to None, bool, int, float, str, sequences, mappings with text keys, NumPy or JAX scalars and
        arrays. 1 and 1.0 are two keys: cast values to their declared type first (`declared`).

    Raises: InputError for NaN, for keys that are not text, and for values that have no canonical form.
    """
    return hashlib.sha256(canonical(mapping).encode("ascii")).hexdigest()


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, floats by repr (exact), -0.0 as 0.0, arrays by dtype, shape, digest."""
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def declared(fields: Any) -> dict[str, Any]:
    """The fields of a dataclass instance, each cast to its declared type: 1 and 1.0 for a float are then one key."""
    types_ = get_type_hints(type(fields))
    names = [field.name for field in dataclasses.fields(fields)]
    return {name: cast(getattr(fields, name), types_[name], name) for name in names}


def cast(value: Any, kind: Any, name: str = "value") -> Any:
    """`value` as the declared type `kind`: float, int, bool, str, or a tuple, list, Optional, union or Literal.

    Other types pass through unchanged.

    Raises: InputError if the cast would change the value (2.5 as a whole number, text as a number).
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _cast_union(value, inner, name)
    if origin is Literal:
        return next((choice for choice in inner if choice == value and type(choice) is type(value)), value)
    if origin in (tuple, list) and isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        repeated = origin is list or inner[-1:] == (Ellipsis,)
        kinds = inner[:1] * len(value) if repeated else inner
        if len(kinds) != len(value):
            raise InputError(f"{name} must have {len(kinds)} entries and has {len(value)}")
        return origin(cast(item, k, f"{name}[{i}]") for i, (item, k) in enumerate(zip(value, kinds, strict=True)))
    value = _unwrap(value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise InputError(f"{name} must be true or false, got {value!r}")
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and value != value // 1):
            raise InputError(f"{name} must be a {'whole ' if kind is int else ''}number, got {value!r}")
        return kind(value)
    if kind is str and not isinstance(value, str):
        raise InputError(f"{name} must be text, got {value!r}")
    return value


def _cast_union(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    exact = [kind for kind in kinds if type(value) is kind]  # int | float keeps what it is given
    for kind in exact or kinds:
        try:
            return cast(value, kind, name)
        except InputError:
            if kind is kinds[-1]:
                raise
    return value


def _unwrap(value: Any) -> Any:
    """A NumPy or JAX scalar (or array of no dimensions) as Python's own."""
    if isinstance(value, np.generic) or getattr(value, "ndim", None) == 0:
        return np.asarray(value).item()
    return value


def _plain(value: Any, place: str) -> Any:
    value = _unwrap(value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise InputError(f"{place} is NaN", why=_NAN, do="leave it out or use None")
        return float(value) + 0.0  # -0.0 equals 0.0 and must make the same key
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key.startswith("__"):
                raise InputError(f"{place} has the key {key!r}", do="use text that does not begin with '__'")
        return {key: _plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "__array__"):
        return {"__array__": _digest(np.asarray(value), place)}
    kind = type(value).__name__
    raise InputError(f"{place} is a {kind}, which has no canonical form", do="pass numbers, text or arrays")


def _digest(array: np.ndarray, place: str) -> list[Any]:
    if array.dtype.kind not in _ARRAY_KINDS:
        raise InputError(f"{place} is an array of {array.dtype}, which has no canonical form", do="cast it to numbers")
    if array.dtype.kind in "fcmM" and (missing := np.isnan(array)).any():
        raise InputError(f"{place} holds {int(missing.sum())} NaN", why=_NAN)
    if array.dtype.kind in "fc":
        array = array + array.dtype.type(0)  # -0.0 as 0.0
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return [array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
