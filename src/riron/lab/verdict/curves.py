"""One variable of dots and line at one size, checked and laid out as plain float64 arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from ...checks import nearest
from ...errors import InputError

FEWEST_SEEDS = 4
MOST_TOLERANCE = 0.1

Datasets = Mapping[Any, xr.Dataset]


@dataclass(frozen=True)
class Curve:
    """S runs of one variable at K points (a record, or a single number as K = 1), and what was predicted there."""

    variable: str
    size: Any
    dots: np.ndarray  # (S, K)
    line: np.ndarray  # (K,), nan where the claim needs no line
    stderr: np.ndarray  # (K,) standard error of the line itself
    freedom: np.ndarray  # (K,) degrees of freedom of that error; inf if it is known
    tolerance: np.ndarray  # (K,) relative error that the theory states for itself
    rounding: np.ndarray  # (K,) absolute error of floating-point numbers of the dots' precision
    points: list[dict]  # where each point lies, by coordinate
    seeds: np.ndarray  # (S,) their names

    @property
    def finite(self) -> np.ndarray:
        """(K,) whether every seed is finite there: a mean over the survivors is no mean."""
        return np.asarray(np.isfinite(self.dots).all(axis=0))

    @property
    def diverged(self) -> list:
        """Names of the seeds that are not finite somewhere."""
        return [plain(s) for s in self.seeds[~np.isfinite(self.dots).all(axis=1)]]


def as_datasets(data: Datasets | xr.Dataset, name: str) -> dict:
    """{size: Dataset}; a single Dataset becomes one entry without a size."""
    if isinstance(data, xr.Dataset):
        return {None: data}
    if not isinstance(data, Mapping) or not data or not all(isinstance(v, xr.Dataset) for v in data.values()):
        raise InputError(f"{name} must be an xarray.Dataset, or a mapping from sizes to Datasets that is not empty")
    wrong = [size for size in data if not isinstance(size, Real | None) or isinstance(size, bool)]
    if wrong:
        raise InputError(f"{name} has the size {wrong[0]!r}", do="use numbers as sizes")
    return {size: data[size] for size in sorted(data, key=lambda s: (s is not None, s))}


def read(variable: str, size: Any, dots: xr.Dataset, line: xr.Dataset | None = None) -> Curve:
    """The curve of `variable` at one size; `line=None` for claims that speak of the dots alone.

    Raises: InputError for a variable or a dimension that is missing, fewer than 4 seeds, coordinates that differ,
      a line that is not finite, a tolerance beyond 10 %.
    """
    here = "" if size is None else f" at size {plain(size)}"
    runs = pick(dots, variable, f"the dots{here}")
    if "seed" not in runs.dims:
        raise InputError(
            f"the dots of {variable}{here} have no dimension 'seed' (they have {', '.join(map(str, runs.dims))})"
        )
    if runs.sizes["seed"] < FEWEST_SEEDS:
        raise InputError(
            f"{runs.sizes['seed']} seeds of {variable}{here} give no error bar",
            do="use at least 16, the fewest that can decide at the default false-alarm rate (64 is the default)",
        )
    runs = runs.transpose("seed", ...)
    axes = [str(d) for d in runs.dims if d != "seed"]
    extra = {"stderr": 0.0, "stderr_df": np.inf, "tolerance": 0.0}
    if line is None:
        shape = tuple(runs.sizes[d] for d in axes)
        predicted = np.full(shape, np.nan)
        parts = {name: np.broadcast_to(value, shape) for name, value in extra.items()}
    else:
        theory = pick(line, variable, f"the line{here}")
        aligned = align(runs, theory, variable, here)
        runs, theory = aligned.transpose("seed", ...), theory.transpose(*axes)
        predicted = np.asarray(theory, dtype=np.float64)
        refuse_not_finite(theory, variable, here, line.attrs.get("theory"))
        parts = {}
        for name, default in extra.items():
            part = line.get(f"{variable}_{name}", xr.DataArray(default))
            parts[name] = np.asarray(part.broadcast_like(theory).transpose(*axes), dtype=np.float64)
            if name != "stderr_df" and not (np.isfinite(parts[name]).all() and (parts[name] >= 0).all()):
                raise InputError(f"{variable}_{name} of the line{here} holds a value that is negative or not finite")
        if (parts["tolerance"] > MOST_TOLERANCE).any():
            worst = parts["tolerance"].max()
            raise InputError(
                f"the line{here} states a tolerance of {100 * worst:.3g} % for {variable}",
                why=f"a closure looser than {100 * MOST_TOLERANCE:.0f} % can be confirmed by anything",
                do="compare where the theory is sharper",
            )
    flat = lambda values: np.asarray(values, dtype=np.float64).reshape(-1)
    samples = np.asarray(runs, dtype=np.float64).reshape(runs.sizes["seed"], -1)
    precision = np.finfo(runs.dtype if np.issubdtype(runs.dtype, np.floating) else np.float64).eps
    scale = np.nan_to_num(np.abs(flat(predicted)))
    return Curve(
        variable=variable,
        size=size,
        dots=samples,
        line=flat(predicted),
        stderr=flat(parts["stderr"]),
        freedom=flat(parts["stderr_df"]),
        tolerance=flat(parts["tolerance"]),
        rounding=precision * (100 * scale + scale.max(initial=0.0)),
        points=points_of(runs.isel(seed=0)),
        seeds=np.asarray(runs["seed"]) if "seed" in runs.coords else np.arange(len(samples)),
    )


def pick(dataset: xr.Dataset, variable: str, where: str) -> xr.DataArray:
    """The variable, or one sentence that names the nearest."""
    if variable not in dataset.data_vars:
        known = [str(name) for name in dataset.data_vars]
        hint = nearest(variable, known) or f"there are {', '.join(known)}"
        raise InputError(f"{where} have no variable '{variable}'".replace("line have", "line has"), do=hint)
    return dataset[variable]


def align(runs: xr.DataArray, theory: xr.DataArray, variable: str, here: str) -> xr.DataArray:
    """The runs, if their dimensions and coordinates are exactly the line's; nothing is ever interpolated."""
    wanted, given = [d for d in runs.dims if d != "seed"], list(theory.dims)
    if set(wanted) != set(given):
        raise InputError(
            f"the dots of {variable}{here} have the record {tuple(wanted)} and the line has {tuple(given)}",
            do="give both the same labelled record",
        )
    for axis in wanted:
        if runs.sizes[axis] != theory.sizes[axis]:
            raise InputError(
                f"the dots of {variable}{here} have {runs.sizes[axis]} points along {axis} "
                f"and the line has {theory.sizes[axis]}",
                do="record both at the same points",
            )
        if axis in runs.indexes and axis in theory.indexes and not runs.indexes[axis].equals(theory.indexes[axis]):
            differ = np.flatnonzero(np.asarray(runs.indexes[axis]) != np.asarray(theory.indexes[axis]))[0]
            raise InputError(
                f"dots and line of {variable}{here} lie at different points: {axis}="
                f"{plain(runs.indexes[axis][differ])} and {plain(theory.indexes[axis][differ])} at position {differ}",
                why="riron never interpolates silently",
                do="record both at the same points",
            )
    return runs


def refuse_not_finite(theory: xr.DataArray, variable: str, here: str, name: str | None) -> None:
    """InputError that names the theory function and the first record point where the line is not finite."""
    values = np.asarray(theory, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        value, place = values[bad[0]], points_of(theory)[bad[0]]
        raise InputError(
            f"the line of {variable}{here}{f' by {name}' if name else ''} is {value}{place_text(place)}"
            + (f" and at {len(bad) - 1} more points" if len(bad) > 1 else ""),
            do="compare where the theory gives a number",
        )


def stack(curves: Sequence[Curve], least: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (J,) and dots (J, S, K) of one variable at several sizes, for an extrapolation in the size.

    Raises: InputError with fewer than `least` sizes, or where points or numbers of seeds differ between sizes.
    """
    first = curves[0]
    if len(curves) < least or first.size is None:
        count = 0 if first.size is None else len(curves)
        raise InputError(
            f"{first.variable} is claimed in the limit of large sizes and there {'is' if count == 1 else 'are'} "
            f"{count} size{'' if count == 1 else 's'}",
            do=f"give at least {least}, or rates=() if the line is exact at every size",
        )
    for curve in curves[1:]:
        if curve.points != first.points:
            raise InputError(
                f"the record of {first.variable} differs between the sizes {plain(first.size)} and {plain(curve.size)}",
                do="label the record with a coordinate that means the same at every size, such as the epoch",
            )
        if len(curve.seeds) != len(first.seeds):
            raise InputError(
                f"{first.variable} has {len(first.seeds)} seeds at size {plain(first.size)} and {len(curve.seeds)} "
                f"at size {plain(curve.size)}",
                do="use the same number at every size",
            )
    sizes = np.array([curve.size for curve in curves], dtype=np.float64)
    if sizes.min() <= 0:
        raise InputError(f"a size is {sizes.min():g}", why="a rate needs sizes > 0", do="use numbers > 0 as sizes")
    return sizes, np.stack([curve.dots for curve in curves])


def points_of(array: xr.DataArray) -> list[dict]:
    """Coordinates of each point of the array in row-major order; a dimension without labels gives its position."""
    axes = [np.asarray(array[d]) if d in array.coords else np.arange(array.sizes[d]) for d in array.dims]
    names = [str(d) for d in array.dims]
    return [
        {name: plain(axis[i]) for name, axis, i in zip(names, axes, index, strict=True)}
        for index in np.ndindex(*array.shape)
    ]


def place_text(point: dict) -> str:
    """` at epoch=2, size=64` for a sentence, or nothing."""
    parts = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in point.items()]
    return " at " + ", ".join(parts) if parts else ""


def plain(value: Any) -> Any:
    """What JSON knows: Python numbers, text, lists and mappings; None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
