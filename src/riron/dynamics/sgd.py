"""Stochastic gradient descent, gradient descent and Langevin dynamics: the assemblies that have a name."""

from typing import Literal

from jax.typing import ArrayLike

from ..checks import as_positive, nearest
from ..errors import InputError
from .assembly import Assembly
from .geometries import Euclidean, Geometry
from .gradients import SAMPLINGS, Estimator, Full
from .momentum import Momentum
from .noises import Gaussian
from .schedules import Schedule

Sampling = Literal["with-replacement", "without-replacement", "epochs"]


def sgd(
    *,
    step_size: ArrayLike | Schedule,
    batch: int = 1,
    sampling: Sampling = "with-replacement",
    momentum: float = 0.0,
    nesterov: bool = False,
) -> Assembly:
    """SGD: params <- params - step_size x the average gradient of a batch (and of the penalty).

    On a stream (`OnePass`), every batch is fresh; the sampling is then "with-replacement".

    Args:
      step_size: a number, an array with one number for each step, or a schedule. Swept as `dynamics.step_size`.
      batch: samples a step, 1 to n.
      sampling: "with-replacement"; "without-replacement": different rows within a step; "epochs": a fresh permutation
        each epoch of n // batch steps, rows left over are dropped.
      momentum: m in [0, 1), v <- m v + g as in PyTorch. Swept as `dynamics.gradient.momentum` if it is not 0.
      nesterov: step along g + m v.

    Raises:
      InputError: a value out of range, or an unknown sampling.
    """
    return Assembly(step_size, estimator(batch, sampling, momentum, nesterov))


def estimator(batch: int, sampling: str, momentum: float, nesterov: bool) -> Estimator:
    """The gradient estimator of a batch size, a sampling and a momentum."""
    if sampling not in SAMPLINGS:
        known = ", ".join(SAMPLINGS)
        raise InputError(
            f"no sampling is called '{sampling}'", why=nearest(sampling, SAMPLINGS), do=f"known are {known}"
        )
    gradient = SAMPLINGS[sampling](batch)
    if momentum == 0 and nesterov:
        raise InputError("nesterov is asked for without a momentum", do="pass momentum > 0")
    return gradient if momentum == 0 else Momentum(gradient, momentum, nesterov)


def gradient_descent(*, step_size: ArrayLike | Schedule, momentum: float = 0.0, nesterov: bool = False) -> Assembly:
    """Gradient descent on all samples; arguments as in `sgd`."""
    if momentum == 0 and nesterov:
        raise InputError("nesterov is asked for without a momentum", do="pass momentum > 0")
    return Assembly(step_size, Full() if momentum == 0 else Momentum(Full(), momentum, nesterov))


def langevin(
    *,
    step_size: ArrayLike | Schedule,
    temperature: float,
    gradient: Estimator | None = None,
    geometry: Geometry | None = None,
) -> Assembly:
    """Langevin dynamics: gradient step plus sqrt(2 step_size temperature) N(0, I), per parameter.

    Args:
      step_size: as in `sgd`.
      temperature: >= 0; the law of the parameters tends to exp(-objective / temperature) for small steps.
      gradient: the estimator; the full gradient unless given.
      geometry: the metric; Euclidean unless given.
    """
    noise = Gaussian(as_positive(temperature, "temperature", zero=True))
    return Assembly(step_size, gradient or Full(), noise, geometry or Euclidean())
