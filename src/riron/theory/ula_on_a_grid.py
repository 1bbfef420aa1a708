"""The law of the unadjusted Langevin algorithm in one dimension, step by step, by its transition density on a grid."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import ndtr

from ..checks import as_positive, as_vector
from ..errors import InputError

POINTS = 2.5  # grid points in a standard deviation of the noise of a step, below which the law is not resolved
LEAK = 1e-8  # of the mass that may leave the grid in one step


def ula_on_a_grid(
    slope: Callable[[np.ndarray], ArrayLike],
    *,
    step_size: float,
    grid: ArrayLike,
    start: float,
    record: xr.DataArray,
    temperature: float = 1.0,
) -> xr.Dataset:
    """The law of x <- x - step_size slope(x) + sqrt(2 step_size T) N(0, 1), started at a point.

    Args:
      slope: derivative of the potential U, vectorised; the target is exp(-U / T).
      step_size: eta > 0; the noise of a step must span a few points of the grid.
      grid: (m,) equally spaced points, wide enough that no mass leaves.
      start: x at step 0, on the grid.
      record: steps >= 1, with the coordinates of the result.
      temperature: T > 0.
    Returns: density with dims (record, x), first_moment and second_moment of the law with dim (record).
    Raises: InputError for a grid that is too coarse or too narrow.
    Source: the Chapman-Kolmogorov equation, by the trapezoidal rule (exponentially accurate on the whole line).
    """
    x = as_vector(grid, "grid")
    dx = np.diff(x)
    if len(x) < 3 or not np.allclose(dx, dx[0], rtol=1e-6) or dx[0] <= 0:
        raise InputError("grid is not equally spaced and increasing", do="use np.linspace")
    sd = np.sqrt(2 * as_positive(step_size, "step_size") * as_positive(temperature, "temperature"))
    if sd < POINTS * dx[0]:
        raise InputError(
            f"the noise of a step has standard deviation {sd:.3g} and the grid has points {dx[0]:.3g} apart",
            do=f"use at least {int(np.ceil(POINTS * (x[-1] - x[0]) / sd)) + 1} points",
        )
    if not x[0] <= start <= x[-1]:
        raise InputError(f"start={start} is not on the grid {x[0]:g} .. {x[-1]:g}")
    steps = np.asarray(record, int)
    if steps.min() < 1:
        raise InputError("record holds step 0, where the law has no density", do="start at step 1")
    normal = lambda z: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / sd
    forward = lambda at: at - step_size * np.asarray(slope(at), float)
    mean = forward(x)
    kernel = normal((x[:, None] - mean) / sd) * dx[0]
    leaves = ndtr((x[0] - mean) / sd) + ndtr((mean - x[-1]) / sd)
    density, found = normal((x - forward(np.array([float(start)]))) / sd), {}
    for t in range(1, int(steps.max()) + 1):
        if t > 1:
            density = kernel @ density
        if density @ leaves * dx[0] > LEAK:
            raise InputError(f"the law leaves the grid {x[0]:g} .. {x[-1]:g} at step {t}", do="widen the grid")
        found[t] = density
    densities = np.array([found[t] for t in steps])
    axis = record.dims[0]
    moment = lambda power: (axis, densities @ x**power * dx[0])
    variables = {"density": ((axis, "x"), densities), "first_moment": moment(1), "second_moment": moment(2)}
    return xr.Dataset(variables, coords={**record.coords, "x": x})
