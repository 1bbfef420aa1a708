"""A study over two of its parameters: a phase diagram of dots and line, with the theory's boundary on it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .. import __version__
from ..checks import nearest
from ..errors import InputError
from ..lab.files import new_folder
from ..lab.netcdf import write_dataset
from ..lab.progress import Progress, Show
from .base import Study, evaluate
from .cards import load
from .kept import Kept, check_seeds
from .one_thread import one_thread
from .reading import unknown_parameter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Sweep:
    """A study over two parameters.

    Attributes:
      study: the study at the first point.
      dataset: over the two parameters: for each observable the mean of the dots, `<name>_stderr`, and `<name>_line`.
      boundary: the theory's boundary as coordinates by parameter, and its name; None where the study names none.
      observable: which of the observables is drawn.
    """

    study: Study
    dataset: xr.Dataset
    boundary: tuple[dict[str, np.ndarray], str] | None
    observable: str

    def plot(self, observable: str | None = None) -> "Figure":
        """The phase diagram: dots as cells, the theory as contours, the boundary as a curve."""
        return draw(self, observable or self.observable)

    def save(self, folder: str | os.PathLike, *, force: bool = False) -> Path:
        """Writes sweep.nc, figure.png and figure.svg into a new folder."""
        with new_folder(folder, force=force) as place:
            self.write(place)
        return Path(folder)

    def write(self, place: Path) -> None:
        """Writes the files into a folder that is there."""
        from ..lab import plots

        write_dataset(place / "sweep.nc", self.dataset)
        plots.save(self.plot(), place, metadata=dict(self.dataset.attrs))

    def __repr__(self) -> str:
        axes = " x ".join(f"{name} ({self.dataset.sizes[name]})" for name in self.dataset.dims)
        return f"<riron.Sweep {self.study.name()}: {self.observable} over {axes}>"


def sweep(
    name: str,
    over: Mapping[str, Sequence[float]] | None = None,
    *,
    seeds: int = 16,
    size: str = "quick",
    observable: str | None = None,
    out: str | None = None,
    force: bool = False,
    cache: bool = True,
    progress: Show = None,
    **parameters: Any,
) -> Sweep:
    """Runs a study at one size over two of its parameters.

    Each point goes through the results store, so a sweep that was stopped goes on where it was.

    Args:
      name: of the study.
      over: values by parameter, for two parameters; default the diagram that the study names.
      seeds: independent runs at each point.
      size: "quick" or "paper": the size that the study names for its diagram, or the largest of its paper sizes.
      observable: which number to draw; default the study's.
      out: a folder to write sweep.nc, figure.png and figure.svg into; `force` although it holds files.
      cache, progress: as in `riron.run`.
      **parameters: of the study, held fixed.
    Returns: a Sweep, with `.dataset`, `.plot()`, `.boundary`.
    Raises: InputError for parameters that are not known or out of range, before anything runs.
    """
    if out is not None:
        with new_folder(out, force=force) as folder:
            found = sweep(
                name,
                over,
                seeds=seeds,
                size=size,
                observable=observable,
                cache=cache,
                progress=progress,
                **parameters,
            )
            found.write(folder)
        return found
    kind = load(name)
    plane = kind.diagram.get("over", {}) if over is None else over
    axes = {key: np.asarray(values) for key, values in plane.items()}
    if set(axes) == set(kind.diagram.get("over", {})):  # the study's own plane: with what else makes it a diagram
        parameters = dict(kind.diagram.get("parameters", {})) | parameters
    _check(kind, axes, parameters)
    check_seeds(seeds)
    points = list(product(*(values.tolist() for values in axes.values())))
    studies = [kind.make(**(parameters | dict(zip(axes, point, strict=True)))) for point in points]
    d = kind.diagram.get("size", studies[0].ladder(size)[-1]) if size == "quick" else studies[0].ladder(size)[-1]
    columns: dict[str, list[float]] = {}
    with Progress(len(points), f"{name}, {len(points)} points", progress) as bar:
        for study in studies:
            with one_thread():
                seen = _observe(study, d, seeds, cache, bar)
            for key, value in seen.items():
                columns.setdefault(key, []).append(value)
            bar.advance()
    shape = [len(values) for values in axes.values()]
    held = {key: value for key, value in studies[0].parameters().items() if key not in axes}
    dataset = xr.Dataset(
        {key: (tuple(axes), np.reshape(values, shape)) for key, values in columns.items()},
        coords=axes,
        attrs={
            "study": name,
            "parameters": json.dumps(held),
            "seeds": seeds,
            "size": d,
            "version": __version__,
        },
    )
    named = observable or kind.diagram.get("observable")
    if named not in columns:
        if observable is not None:
            raise InputError(f"{name} observes no '{observable}'", do=nearest(observable, columns))
        named = next(iter(columns))
    return Sweep(studies[0], dataset, studies[0].boundary(axes), named)


def _observe(study: Study, d: int, seeds: int, cache: bool, bar: Progress) -> dict[str, float]:
    """Each observable of the dots with its jackknife error, and of the line."""
    line = evaluate(study.predict(d))
    runs = Kept(study, cache=cache).dots(d, seeds, line, show=bar)
    with np.errstate(all="ignore"):  # a diverged run is shown as a hole
        predicted = study.observe(line)
        whole = study.observe(runs.mean("seed"))
        without = [study.observe(runs.drop_isel(seed=s).mean("seed")) for s in range(seeds)]
        found = {}
        for key in map(str, whole.data_vars):
            left_out = np.array([float(part[key]) for part in without])
            found[key] = float(whole[key])
            found[f"{key}_stderr"] = float(np.sqrt((seeds - 1) * left_out.var()))
            found[f"{key}_line"] = float(predicted[key])
    return found


def _check(kind: type[Study], over: Mapping[str, np.ndarray], parameters: Mapping[str, Any]) -> None:
    if len(over) != 2:
        raise InputError(
            f"a phase diagram needs two parameters, got {len(over)}", do="give over={'a': [...], 'b': [...]}"
        )
    known = [entry.name for entry in fields(kind)]
    for key, values in over.items():
        if key not in known:
            raise unknown_parameter(kind.name(), key, known)
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.number) or len(values) < 2:
            raise InputError(f"over['{key}'] must be a list of two numbers or more")
        if key in parameters:
            raise InputError(f"{key} is swept and held fixed at once", do="give it in one place")


def draw(found: Sweep, observable: str) -> "Figure":
    """The phase diagram of one observable."""
    if observable not in found.dataset:
        raise InputError(
            f"the sweep holds no '{observable}'", do=nearest(observable, map(str, found.dataset.data_vars))
        )
    from ..lab import plots

    return plots.phase_diagram(
        found.dataset[observable],
        line=found.dataset[f"{observable}_line"],
        boundary=found.boundary,
        title=f"{found.study.name()}: {observable.replace('_', ' ')}",
        labels=found.study.labels,
    )
