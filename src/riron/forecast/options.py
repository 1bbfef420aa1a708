"""What the user asked for, checked before anything is read or computed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import nearest
from ..errors import InputError

LEAST_SEEDS = 16  # below 16 seeds nothing can be decided at a false-alarm rate of 1e-4
LOSSES = ("square", "logistic", "softmax")
SCHEDULES = ("constant", "linear", "cosine")
SEARCHED = "best"  # the schedule that is searched
USUAL_BATCH = 32  # the default of the common training libraries


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that decides a forecast; two equal Options give the same numbers.

    Attributes:
      data: the table, as `riron.forecast.read_table` takes it: a path, `sklearn:NAME`, a data frame, (X, y).
      target: name of the column to predict; None where the source has its own.
      features: "raw", "relu:P", "fourier:P", "npz:FILE" or "ntk:FILE.py".
      loss: "square", "logistic" (two classes) or "softmax"; None takes "square", for classes too.
      batch: rows per step; None takes 32, or all rows if there are fewer.
      step_size: None takes the step size that the advice finds best for the batch; the largest one of a schedule.
      momentum: m in [0, 1), v <- m v + g as in PyTorch; nesterov: step along g + m v.
      schedule: "constant", "linear" or "cosine" (both fall to 0), "best" (searched by differentiating the forecast), or
        a file with one step size a line.
      warmup: steps of a linear rise before the schedule.
      average_from: epoch from which on the iterates are averaged; None for none.
      epochs: length of the forecast curve, passes over the training rows.
      budget: longest training that the advice considers, epochs; None takes `epochs`.
      ridge: penalty (ridge/2) |theta|^2.
      shuffle: "epochs" (a fresh permutation each epoch) or "with-replacement".
      test: held-out share of the rows, or held-out rows of their own (as `data`).
      verify: number of training runs that check the forecast; None for none.
      impute: fill missing values with the median.
      decimal: the decimal sign of numbers in text, "." or ","; None finds out.
      header: the first line of the file names the columns.
      groups: name of a column; rows that share its value are held out, or left out, together. It is not a feature.
      estimator: what the learning curve is forecast for: None for well-tuned ridge regression, the name of a
        scikit-learn estimator, or one.
      seed: of the held-out rows, the random features and the verification.
    """

    data: Any
    target: str | None = None
    features: str = "raw"
    batch: int | None = None
    step_size: float | None = None
    loss: str | None = None
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    warmup: int = 0
    average_from: float | None = None
    epochs: float = 10.0
    budget: float | None = None
    ridge: float = 0.0
    shuffle: str = "epochs"
    test: Any = 0.2
    verify: int | None = None
    impute: bool = False
    decimal: str | None = None
    header: bool = True
    groups: str | None = None
    estimator: Any = None
    seed: int = 0

    def __post_init__(self):
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch={self.batch} must be at least 1", do="it is the number of rows in one step")
        for name in ("step_size", "epochs", "budget"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                do = "use a positive number, or auto" if name == "step_size" else "use a positive number of passes"
                raise InputError(f"{name.replace('_', ' ')}={value:g} must be finite and above 0", do=do)
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(f"ridge={self.ridge:g} must be finite and at least 0", do="0 means no penalty")
        if self.shuffle not in ("epochs", "with-replacement"):
            raise InputError(f"shuffle={self.shuffle!r} is not known", do="use epochs or with-replacement")
        self._check_training()
        if isinstance(self.test, int | float) and not 0 < self.test < 1:
            raise InputError(
                f"test={self.test:g} is not a share between 0 and 1",
                do="use for example 0.2, or a file of held-out rows",
            )
        if self.verify is not None and self.verify < LEAST_SEEDS:
            raise InputError(
                f"verify={self.verify} runs cannot decide anything",
                do=f"use at least {LEAST_SEEDS} (32 tell more)",
            )
        if self.decimal not in (None, ".", ","):
            raise InputError(f"decimal={self.decimal!r} is not a decimal sign", do="use . or ,")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed={self.seed} must be a whole number from 0 to 2147483647")

    def _check_training(self) -> None:
        if self.loss not in (None, *LOSSES):
            raise InputError(f"loss={self.loss!r} is not known", do=f"use one of {', '.join(LOSSES)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum={self.momentum:g} is outside [0, 1)", do="0.9 is usual, 0 is plain SGD")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov is asked for without a momentum", do="add --momentum 0.9")
        if self.warmup < 0:
            raise InputError(f"warmup={self.warmup} must be a number of steps, at least 0")
        if self.average_from is not None and not 0 <= self.average_from < self.epochs:
            raise InputError(
                f"average-from={self.average_from:g} is not an epoch of the run (0 to {self.epochs:g})",
                do="use an epoch before the last",
            )
        known = (*SCHEDULES, SEARCHED)
        if self.schedule not in known and not Path(self.schedule).is_file():
            raise InputError(
                f"schedule '{self.schedule}' is none of {', '.join(known)}, and no file",
                do=nearest(self.schedule, known) or "name a file with one step size a line",
            )
        if self.schedule not in SCHEDULES and self.step_size is not None:
            whence = "the best schedule" if self.schedule == SEARCHED else "a schedule from a file"
            raise InputError(f"{whence} holds the step sizes itself", do="leave --step-size out")
        if self.schedule == SEARCHED and (self.loss in LOSSES[1:] or self.momentum or self.average_from is not None):
            raise InputError(
                "the best schedule is searched for plain SGD on the squared loss only",
                do="leave --loss, --momentum and --average-from out, or choose another schedule",
            )
        if self.loss in ("logistic", "softmax") and (self.momentum or self.average_from is not None):
            raise InputError(
                f"momentum and averaging are forecast for the square loss only, not for {self.loss}",
                do="leave them out, or use --loss square",
            )


def parse_step_size(text: str) -> float | None:
    """A number, or None for `auto`."""
    if text.strip().lower() == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"step-size={text!r} is not a number", do="use a positive number, or auto") from None


def parse_test(text: str) -> float | str:
    """A share of the rows, or the name of the source that holds the held-out ones."""
    try:
        return float(text)
    except ValueError:
        return text
