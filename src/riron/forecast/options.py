"""What the user asked for, checked before anything is read or computed."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

LEAST_SEEDS = 16  # below 16 seeds nothing can be decided at a false-alarm rate of 1e-4
USUAL_BATCH = 32  # the default of the common training libraries


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that decides a forecast; two equal Options give the same numbers.

    Attributes:
      data: the table, as `riron.forecast.read_table` takes it: a path, `sklearn:NAME`, a data frame, (X, y).
      target: name of the column to predict; None where the source has its own.
      features: "raw", "relu:P", "fourier:P" or "npz:FILE".
      batch: rows per step; None takes 32, or all rows if there are fewer.
      step_size: None takes the step size that the advice finds best for the batch.
      epochs: length of the forecast curve, passes over the training rows.
      budget: longest training that the advice considers, epochs; None takes `epochs`.
      ridge: penalty (ridge/2) |theta|^2.
      shuffle: "epochs" (a fresh permutation each epoch) or "with-replacement".
      test: held-out share of the rows, or held-out rows of their own (as `data`).
      verify: number of training runs that check the forecast; None for none.
      impute: fill missing values with the median.
      decimal: the decimal sign of numbers in text, "." or ","; None finds out.
      header: the first line of the file names the columns.
      seed: of the held-out rows, the random features and the verification.
    """

    data: Any
    target: str | None = None
    features: str = "raw"
    batch: int | None = None
    step_size: float | None = None
    epochs: float = 10.0
    budget: float | None = None
    ridge: float = 0.0
    shuffle: str = "epochs"
    test: Any = 0.2
    verify: int | None = None
    impute: bool = False
    decimal: str | None = None
    header: bool = True
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
