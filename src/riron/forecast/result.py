"""What a forecast found: every number of it, as labelled arrays, as one JSON object, and as a picture."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from .._version import __version__
from .options import Options
from .training import Training

if TYPE_CHECKING:
    from .verification import Verification

EXIT = {"holds": 0, "fails": 1, "inconclusive": 3}
STOPPED = 130


@dataclass
class Forecast:
    """The result of `riron.forecast.forecast_table`.

    Attributes:
      options: what was asked for; training: the way of training that was forecast (batch, step_size, steps, loss, ...).
      about: the table in numbers: data, target, task, classes, n, n_test, features, columns, scale (of the target).
      edges: one mapping for each batch size: batch, exact, homogenized, method; None for a loss without an edge.
      edge: None, or at the batch size used: step_size (the edge), fraction, growth_factor and doubling_steps if above
        it, ceiling (2 / largest curvature), rows (those that set it), share, without_them.
      curve: Dataset over `step`, with coordinate `epoch`.
      advice: settings within the noise of the best, cheapest first; best_step: the best step size by batch size.
      heavy_rows: what `riron.forecast.breaking_rows` found, over `row` (place in the table) and `removed`; or None.
      learning_curve: Dataset over `n_samples` and `backtest`.
      verification: verdict, runs and line, or None.
      cleaning: what was done to each column.
      notes: sentences on what was assumed, and on what is weak.
      seconds: time of each part, and of one compiled training run.
    """

    options: Options
    training: Training
    about: dict[str, Any]
    edges: list[dict[str, Any]] | None
    edge: dict[str, Any] | None
    curve: xr.Dataset
    advice: list[dict[str, Any]]
    best_step: dict[int, float]
    considered: int
    learning_curve: xr.Dataset
    heavy_rows: xr.Dataset | None = None
    verification: "Verification | None" = None
    interrupted: bool = False
    cleaning: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Exit status: that of the verdict, 0 without one, 130 if it was interrupted."""
        if self.interrupted:
            return STOPPED
        return 0 if self.verification is None else EXIT[self.verification.report["verdict"]]

    @property
    def batch(self) -> int:
        """Rows per step."""
        return self.training.batch

    @property
    def step_size(self) -> float:
        """The step size, or the largest of a schedule."""
        return self.training.step_size

    @property
    def steps(self) -> int:
        """Length of the run."""
        return self.training.steps

    @property
    def above_edge(self) -> bool:
        """Whether the mean loss diverges at the step size used."""
        return self.edge is not None and "growth_factor" in self.edge

    @property
    def classes(self) -> bool:
        """Whether the target is a class, so that there is an error rate."""
        return self.about["task"] == "classification"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the runs, ready for JSON."""
        parameters = {k: v for k, v in plain(self.options).items() if k != "data"}
        used = {"batch": self.batch, "step_size": self.step_size, "steps": self.steps, "loss": self.training.loss}
        return {
            "riron": __version__,
            "data": self.about,
            "parameters": parameters | used,
            "stability_edge": self.edges,
            "edge": self.edge,
            "curve": curve_to_dict(self.curve),
            "advice": self.advice,
            "best_step": self.best_step,
            "learning_curve": learning_curve_to_dict(self.learning_curve),
            "verify": None if self.verification is None else self.verification.report,
            "interrupted": self.interrupted,
            "cleaning": self.cleaning,
            "notes": self.notes,
            "seconds": self.seconds,
        }

    def plot(self):
        """The picture, a matplotlib Figure."""
        from .figures import draw

        return draw(self)

    def save(self, folder, *, force: bool = False) -> None:
        """Write forecast.json, forecast.nc, figure.png, figure.svg, report.html and cleaning.json into a new folder."""
        from ..lab.files import new_folder
        from .writing import write

        with new_folder(folder, force=force) as place:
            write(self, place)

    def __str__(self) -> str:
        from .summary import as_text

        return as_text(self)


def plain(options: Options) -> dict[str, Any]:
    """Options as JSON can hold them: data that have no name are described by their type."""
    simple = (str, int, float, bool, type(None))
    return {name: v if isinstance(v, simple) else type(v).__name__ for name, v in vars(options).items()}


def curve_to_dict(curve: xr.Dataset) -> dict[str, Any]:
    """`step`, `epoch` and every variable as lists; quantiles between runs as one list for each step."""
    arrays = {"step": curve.step.values, "epoch": curve.epoch.values}
    if "quantile" in curve.coords:
        arrays["quantile"] = curve["quantile"].values
    return arrays | {str(name): curve[name].values for name in curve.data_vars}


def learning_curve_to_dict(curve: xr.Dataset) -> dict[str, Any]:
    """Lists over `n`, and the backtest as one mapping for each draw."""
    names = {"test_loss": "test_loss", "test_loss_low": "low", "test_loss_high": "high", "power_law": "power_law"}
    names |= {"at_cap": "upper_estimate", "test_error": "test_error"}
    names |= {"power_law_error": "power_law_error", "at_end": "upper_estimate"}
    names |= {"test_error_low": "error_low", "test_error_high": "error_high"}
    found: dict[str, Any] = {"n": curve.n_samples.values}
    found |= {new: curve[old].values for old, new in names.items() if old in curve}
    tested = [str(name) for name in curve.data_vars if curve[name].dims == ("backtest",)]
    table = {name.removeprefix("backtest_"): np.asarray(curve[name]) for name in tested}
    found["backtest"] = [
        {name: values[k].item() for name, values in table.items()} for k in range(curve.sizes.get("backtest", 0))
    ]
    found["level"] = curve.attrs["level"]
    found["warnings"] = json.loads(curve.attrs["warnings"])
    return found
