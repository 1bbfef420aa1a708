"""One way of training: all that a forecast and the runs that check it must agree on, and nothing else."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ..dynamics import Dynamics, average, sgd
from ..models.base import Model
from ..problems import from_arrays
from ..problems.arrays import Table
from ..theory.convex_forecast import convex_sgd
from ..theory.least_squares_forecast import least_squares_sgd
from ..theory.schedule_tables import schedule_table
from ..theory.spectrum import Spectrum

LOSSES = {"square": "squared", "logistic": "logistic", "softmax": "softmax"}  # their names in `problems`


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """How a linear model is trained.

    Attributes:
      batch: rows per step.
      step_size: of every step; the largest of a schedule.
      steps: length of the run.
      loss: "square", "logistic" (two classes, one output) or "softmax".
      shuffle: "epochs" or "with-replacement".
      ridge: penalty ridge/2 |theta|^2, trained against.
      momentum, nesterov: in PyTorch's convention; 0 for plain SGD.
      schedule: "constant", "linear", "cosine", or (steps,) step sizes, which `step_size` then does not change.
      warmup: steps of a linear rise before the schedule.
      average_from: step from which on the iterates are averaged; None for the last iterate.
    """

    batch: int
    step_size: float
    steps: int
    loss: str = "square"
    shuffle: str = "epochs"
    ridge: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str | np.ndarray = "constant"
    warmup: int = 0
    average_from: int | None = None

    @property
    def step_sizes(self) -> float | np.ndarray:
        """One number, or (steps,) numbers."""
        if isinstance(self.schedule, np.ndarray):
            return self.schedule[: self.steps]
        if self.schedule == "constant" and not self.warmup:
            return self.step_size
        return schedule_table(self.schedule, self.step_size, self.steps, self.warmup)

    def scaled(self, factor: float) -> "Training":
        """The same with all step sizes times a factor."""
        schedule = self.schedule * factor if isinstance(self.schedule, np.ndarray) else self.schedule
        return replace(self, step_size=self.step_size * factor, schedule=schedule)

    def forecast(
        self,
        spectrum: Spectrum,
        record: xr.DataArray,
        *,
        covariance: str = "auto",
        rows: int | None = None,
        errors: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """What theory expects of it; `spectrum` holds the targets as `targets` makes them."""
        setting: dict[str, Any] = {
            "batch": self.batch,
            "step_size": self.step_sizes,
            "record": record,
            "sampling": self.shuffle,
            "ridge": self.ridge,
            "covariance": covariance,
            "errors": errors,
            "seed": seed,
        }
        if self.loss != "square":
            return convex_sgd(spectrum, loss=self.loss, **setting)
        optimiser = {"momentum": self.momentum, "nesterov": self.nesterov, "average_from": self.average_from}
        return least_squares_sgd(spectrum, rows=rows, **optimiser, **setting)

    def problem(
        self, X: np.ndarray, Y: np.ndarray, X_test: np.ndarray, Y_test: np.ndarray, *, model: Model | None = None
    ) -> Table:
        """The same as a problem to be trained, linear unless a model is given; targets as `targets` makes them."""
        y, y_test = (a[:, 0] if self.loss == "logistic" else a for a in (Y, Y_test))
        return from_arrays(X, y, X_test=X_test, y_test=y_test, loss=LOSSES[self.loss], ridge=self.ridge, model=model)

    def dynamics(self) -> Dynamics:
        """The same as a dynamics."""
        run = sgd(
            step_size=self.step_sizes,
            batch=self.batch,
            sampling=self.shuffle,  # type: ignore[arg-type]
            momentum=self.momentum,
            nesterov=self.nesterov,
        )
        return run if self.average_from is None else average(run, self.average_from)


def targets(Y: np.ndarray, loss: str) -> np.ndarray:
    """Targets of a loss: one-hot classes as one column of -1 and +1 for the logistic loss, else as they are."""
    return Y[:, 1:] - Y[:, :1] if loss == "logistic" else Y


def steps_per_epoch(n: int, batch: float, shuffle: str) -> float:
    """n // batch where left-over rows are dropped, n / batch with replacement."""
    return float(n // batch) if shuffle == "epochs" else n / batch


def number_of_steps(n: int, batch: float, epochs: float, shuffle: str) -> int:
    """Steps in so many passes over the rows (at least one)."""
    return max(1, round(epochs * steps_per_epoch(n, batch, shuffle)))
