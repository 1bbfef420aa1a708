"""The stability edge of SGD on your own rows."""

from typing import Literal

from numpy.typing import ArrayLike

from ..errors import InputError
from ..theory import stability
from ..theory.linear_optimiser import optimiser_of
from ..theory.spectrum import Spectrum, check_setting

Method = Literal["exact", "hybrid", "homogenized"]


def stability_edge(
    X: ArrayLike,
    *,
    batch: float,
    ridge: float = 0.0,
    method: Method = "exact",
    momentum: float = 0.0,
    nesterov: bool = False,
) -> float:
    """Largest step size at which SGD on least squares converges in mean square.

    Args:
      X: (n, p) features as SGD sees them (no hidden scaling or intercept); their unit u sets the step's, 1/u^2.
      batch: rows per step, in [1, n], drawn with replacement.
      ridge: penalty ridge/2 |theta|^2 (>= 0).
      method: "exact" (to 0.1 %); "hybrid": heavy rows exactly and a weighted sample of the others, for large tables;
        "homogenized": what homogenised SGD says, which knows only the spectrum (up to 26 times too large on real
        tables; that of plain SGD, times 1 - momentum).
      momentum: m in [0, 1) of v <- m v + g, theta <- theta - step_size v (PyTorch's convention).
      nesterov: step along g + m v in place of v.
    Returns: the step size.
    Raises: InputError if X is not a finite matrix, or batch, ridge or momentum is out of range.
    Source: exact second moments through the leverages; homogenised: Paquette, Lee, Pedregosa & Paquette, COLT 2021.
    """
    if method == "homogenized":
        from ..theory.homogenized_sgd import homogenized_edge

        optimiser_of(momentum, nesterov)  # refuses what is none
        return (1 - momentum) * float(homogenized_edge(X, batch=batch))
    if method not in ("exact", "hybrid"):
        raise InputError(f"method={method!r} is unknown", do="use exact, hybrid or homogenized")
    spectrum = Spectrum.of(X, _no_targets(X))
    rows = stability.HEAVY_ROWS if method == "hybrid" else None
    return stability.stability_edge(
        spectrum, batch=batch, ridge=ridge, momentum=momentum, nesterov=nesterov, rows=rows
    ).step_size


def growth_factor(
    X: ArrayLike,
    *,
    batch: float,
    step_size: float,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> float:
    """Factor by which the mean loss grows per step, in the long run (below the edge it is < 1).

    Args: as for `stability_edge`; step_size > 0.
    Returns: the factor; the mean loss doubles every log(2) / log(factor) steps. The mean is carried by rare runs.
    Raises: InputError as `stability_edge`, or if step_size <= 0.
    """
    spectrum = Spectrum.of(X, _no_targets(X))
    check_setting(spectrum, batch=batch, ridge=ridge)
    optimiser = {"momentum": momentum, "nesterov": nesterov}
    return stability.growth_factor(spectrum, batch=batch, step_size=step_size, ridge=ridge, **optimiser)


def _no_targets(X: ArrayLike):
    import numpy as np

    return np.zeros(len(np.asarray(X)))
