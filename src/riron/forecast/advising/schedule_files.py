"""Schedules in files: one step size a line, or a CSV file with one column."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ...checks import as_vector
from ...errors import InputError

HEADER = "step_size"


def write_schedule(path: str | Path, step_sizes: ArrayLike) -> None:
    """Write one step size a line under the heading `step_size`, in as many digits as reading back needs.

    Raises: InputError if the values are no step sizes, or the file cannot be written.
    """
    table = _checked(as_vector(step_sizes, "step_sizes"), "step_sizes")
    try:
        Path(path).write_text("\n".join([HEADER, *(repr(float(x)) for x in table)]) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written", why=error.strerror or str(error)) from None


def read_schedule(path: str | Path) -> np.ndarray:
    """The step sizes in a text or CSV file with one number a line; a heading, and empty or # lines, are passed over.

    Raises: InputError if the file cannot be read or a line is not a step size.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"the schedule {path} cannot be read", why=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise InputError(f"the schedule {path} is not a text file", do="write one step size on each line") from None
    values: list[float] = []
    heading = False
    for number, line in enumerate(lines, 1):
        entry = line.strip().strip('"').strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            values.append(float(entry))
        except ValueError:
            if not values and not heading and not set(entry) & set(",;\t"):
                heading = True
                continue
            raise InputError(
                f"line {number} of the schedule {path}, '{entry[:40]}', is not a number",
                do="write one step size on each line",
            ) from None
    if not values:
        raise InputError(f"the schedule {path} holds no numbers", do="write one step size on each line")
    return _checked(np.array(values), f"the schedule {path}")


def _checked(table: np.ndarray, name: str) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(table) | (table < 0))
    if bad.size:
        raise InputError(f"{name} has {table[bad[0]]:g} at step {bad[0]}", do="step sizes are finite numbers >= 0")
    if not table.any():
        raise InputError(f"{name} holds zeros only", do="at least one step size must be > 0")
    return table
