"""Step sizes of named schedules, one for each step: constant, linear and cosine decay, with a straight warm-up."""

import numpy as np

from ..checks import as_positive, nearest
from ..errors import InputError

SCHEDULES = ("constant", "linear", "cosine")


def schedule_table(kind: str, peak: float, steps: int, warmup: int = 0) -> np.ndarray:
    """The step size of each step t = 0 .. steps - 1.

    The decay would reach 0 at t = steps, as PyTorch's CosineAnnealingLR(T_max=steps) and Optax's schedules do. In the
    warm-up step t has (t + 1) / warmup of the peak, and the decay takes the steps that are left.

    Args:
      kind: "constant", "linear" or "cosine".
      peak: largest step size, > 0.
      steps: length of the run, >= 1.
      warmup: steps of the straight rise, in [0, steps).
    Returns: (steps,) step sizes.
    Raises: InputError if the kind is unknown or a number is out of range.
    """
    if kind not in SCHEDULES:
        raise InputError(
            f"schedule '{kind}' is unknown", why=nearest(kind, SCHEDULES), do=f"use {', '.join(SCHEDULES)}"
        )
    if int(steps) != steps or steps < 1:
        raise InputError(f"steps={steps} must be a whole number >= 1")
    if int(warmup) != warmup or not 0 <= warmup < steps:
        raise InputError(f"warmup={warmup} must be a whole number of steps in [0, {steps})")
    peak, steps, warmup = as_positive(peak, "peak"), int(steps), int(warmup)
    done = np.arange(steps - warmup) / (steps - warmup)
    decay = {"constant": np.ones_like(done), "linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2}[kind]
    rise = (np.arange(warmup) + 1) / max(warmup, 1)
    return peak * np.concatenate([rise, decay])
