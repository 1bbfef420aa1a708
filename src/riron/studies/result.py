"""What a run of a study leaves: the verdict, the labelled numbers, and the picture with both on the same axes."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lab.files import new_folder, write_json, write_text
from ..lab.netcdf import write_datatree
from .report import as_html, as_lines, summary

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from .base import Study


@dataclass(frozen=True, repr=False)
class Result:
    """One run of a study.

    Attributes:
      verdict: the report as plain data: `verdict` (holds, fails, inconclusive), `comparisons`, `mutations`, ...
      dots: {size: Dataset with dims (seed, record)}, what was simulated.
      line: {size: Dataset with dims (record)}, what was predicted.
      beside: {name: {size: Dataset}}, other theories of the same dots.
    """

    study: "Study"
    verdict: dict[str, Any]
    dots: "Mapping[Any, xr.Dataset]"
    line: "Mapping[Any, xr.Dataset]"
    beside: "Mapping[str, Mapping[Any, xr.Dataset]]" = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the verdict is `holds`."""
        return self.verdict["verdict"] == "holds"

    @property
    def dataset(self) -> "xr.DataTree":
        """All numbers as one tree: `/dots/<size>`, `/line/<size>`, and `/<other theory>/<size>`."""
        import xarray as xr

        groups = self._groups().items()
        tree = xr.DataTree.from_dict(
            {f"/{kind}/{size}": data for kind, sizes in groups for size, data in sizes.items()}
        )
        tree.attrs.update(study=self.study.name(), parameters=json.dumps(self.study.parameters()))
        return tree

    def plot(self, **options: Any) -> "Figure":
        """Dots with error bars on the line, a panel for each compared variable; options as in `lab.plots.draw`."""
        from ..lab import plots

        options.setdefault("title", f"{self.study.name()}: {self.verdict['verdict']}")
        judged = [entry["variable"] for entry in self.verdict["comparisons"]]
        lines = list(self.line.values())  # an exponent is judged on dots that have no line
        options.setdefault("variables", [name for name in judged if all(name in line for line in lines)])
        options = {"beside": self.beside, "labels": self.study.labels} | options
        return plots.draw(self.dots, self.line, self.verdict, **options)

    def animate(self, path: str | os.PathLike | None = None, **options: Any) -> Any:
        """The run over its theory as a moving picture (GIF, HTML, or MP4 where ffmpeg is found)."""
        from ..lab import animation

        options = {"title": self.study.name(), "labels": self.study.labels} | options
        return animation.animate(self.dots, self.line, path, **options)

    def save(self, folder: str | os.PathLike, *, force: bool = False) -> Path:
        """Writes result.nc, verdict.json, figure.png, figure.svg and report.html into a new folder.

        Raises: InputError if it cannot be written, or holds files (without `force`).
        """
        with new_folder(folder, force=force) as place:
            self.write(place)
        return Path(folder)

    def write(self, place: Path) -> None:
        """Writes the five files into a folder that is there."""
        from ..lab import plots

        figure = self.plot()
        write_datatree(place / "result.nc", self._groups())
        write_json(place / "verdict.json", self.verdict)
        plots.save(figure, place, metadata=self.origin())
        write_text(place / "report.html", as_html(self, figure))

    def origin(self) -> dict[str, Any]:
        """What makes this picture again; kept inside it."""
        keys = ("study", "parameters", "size", "seeds", "version")
        return {key: self.verdict[key] for key in keys}

    def _groups(self) -> "dict[str, Mapping[Any, xr.Dataset]]":
        others = {name.replace(" ", "_"): sizes for name, sizes in self.beside.items()}
        return {"dots": self.dots, "line": self.line, **others}

    def __str__(self) -> str:
        return "\n".join(as_lines(self.verdict))

    def __repr__(self) -> str:
        return f"<riron.Result {self.study.name()}: {self.verdict['verdict']}, {self.verdict['seeds']} seeds>"

    def _repr_html_(self) -> str:
        from html import escape

        from ..lab import plots

        svg = plots.as_svg(self.plot())
        return f"<p><b>{escape(self.study.name())}</b>: {escape(summary(self.verdict))}</p>{svg[svg.index('<svg') :]}"
