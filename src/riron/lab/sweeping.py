"""Sweeps: the leaves that a path names get an axis of points, everything else is shared."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..checks import nearest
from ..errors import InputError


class Sweep:
    """A (problem, dynamics) pair whose swept leaves are stacked.

    Attributes:
      pair: the pair with (points, ...) leaves at the paths.
      axes: for each array leaf of the pair, 0 if it is swept, else None.
      points: number of points, or None without a sweep.
      coords: coordinates of the dim `point`, for paths to plain numbers.
      touches_problem: whether a leaf of the problem is swept, so that data and start depend on the point.
    """

    def __init__(self, problem: Any, dynamics: Any, sweep: Mapping[str, ArrayLike] | None):
        self.pair = (problem, dynamics)
        self.points: int | None = None
        self.coords: dict[str, Any] = {}
        self.touches_problem = any(path.split(".")[0] == "problem" for path in sweep or ())
        lengths = {path: len(_as_values(path, values)) for path, values in (sweep or {}).items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{path} has {length}" for path, length in lengths.items())
            raise InputError(f"swept lists must be of one length: {listed}", do="repeat the shorter ones")
        swept: list[jax.Array] = []
        names = [path.split(".")[-1] for path in lengths]
        for path, values in (sweep or {}).items():
            leaf, stacked = self._stack(path, _as_values(path, values))
            self.pair = eqx.tree_at(lambda pair, path=path: _follow(pair, path), self.pair, stacked)
            swept.append(stacked)
            self.points = len(stacked)
            name = path.split(".")[-1]
            if leaf.ndim == 0:
                self.coords[name if names.count(name) == 1 else path] = ("point", np.asarray(values))

        leaves = jax.tree.leaves(eqx.filter(self.pair, eqx.is_array))
        self.axes = tuple(0 if any(leaf is one for one in swept) else None for leaf in leaves)

    def _stack(self, path: str, values: np.ndarray) -> tuple[jax.Array, jax.Array]:
        leaf = _follow(self.pair, path)
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            raise InputError(f"{path} is a shape, not a number", do="sweep it with one simulate call per value")
        if not isinstance(leaf, jax.Array):
            parts = _fields(leaf)
            do = f"name one of its parts: {', '.join(parts)}" if parts else "make one simulate call per value"
            raise InputError(f"{path} is not a number or an array of numbers", do=do)
        if values.shape[1:] != leaf.shape:
            raise InputError(f"the values for {path} have shape {values.shape[1:]} and one of them needs {leaf.shape}")
        return leaf, jnp.asarray(values, leaf.dtype)


def _as_values(path: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 0 or array.size == 0 or not np.issubdtype(array.dtype, np.number):
        raise InputError(f"the values for {path} are not a list of numbers", do="pass for example [0.1, 0.2]")
    if not np.isfinite(array).all():
        raise InputError(
            f"the values for {path} are not all finite; the first is at {np.argwhere(~np.isfinite(array))[0][0]}"
        )
    return array


def _fields(node: Any) -> list[str]:
    named = getattr(node, "_fields", None)
    return list(named if named is not None else getattr(node, "__dataclass_fields__", {}))


def _follow(pair: tuple[Any, Any], path: str) -> Any:
    """The part of (problem, dynamics) that a dotted path names; InputError with the fields there are."""
    head, *rest = path.split(".")
    if head not in ("problem", "dynamics"):
        raise InputError(
            f"the path '{path}' must begin with 'problem.' or 'dynamics.'", why=nearest(head, ["problem", "dynamics"])
        )
    node, walked = pair[0] if head == "problem" else pair[1], head
    if not rest:
        raise InputError(f"the path '{path}' names no field", do=f"it has {', '.join(_fields(node))}")
    for name in rest:
        fields = _fields(node)
        if name not in fields:
            there = f"it has {', '.join(fields)}" if fields else "it has no fields"
            raise InputError(f"{walked} has no field '{name}'", why=there, do=nearest(name, fields))
        node, walked = getattr(node, name), f"{walked}.{name}"
    return node
