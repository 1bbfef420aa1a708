"""Langevin dynamics by the name of the gradient: GLD, ULA, SGLD, SVRG-LD, SARAH-LD."""

from jax.typing import ArrayLike

from ..checks import as_positive
from .assembly import Assembly
from .control_variate import ControlVariate
from .geometries import Euclidean, Geometry
from .gradients import Estimator, Full, Minibatch, Params
from .noises import Gaussian
from .refresh import Coin, Every, Refresh
from .sarah import SARAH
from .schedules import Schedule
from .svrg import SVRG, to_rows

StepSize = ArrayLike | Schedule


def gld(*, step_size: StepSize, temperature: float, geometry: Geometry | None = None) -> Assembly:
    """Langevin dynamics with the full gradient: x <- x - step_size grad + sqrt(2 step_size temperature) N(0, I).

    Its law tends to exp(-objective / temperature), with a bias of the order of the step size. The posterior of n
    samples with a mean loss as objective is at temperature 1 / n.

    Args:
      step_size: a number, an array with one number for each step, or a schedule. Swept as `dynamics.step_size`.
      temperature: > 0. Swept as `dynamics.noise.temperature`.
      geometry: the metric; Euclidean unless given.

    Raises:
      InputError: a value out of range.

    Source: Vempala & Wibisono, NeurIPS 2019 (vempala2019).
    """
    return _langevin(step_size, temperature, Full(), geometry)


def ula(*, step_size: StepSize, temperature: float = 1.0, geometry: Geometry | None = None) -> Assembly:
    """The unadjusted Langevin algorithm: `gld` under the name it has for log-densities, at temperature 1."""
    return _langevin(step_size, temperature, Full(), geometry)


def sgld(
    *, step_size: StepSize, temperature: float, batch: int | Minibatch, geometry: Geometry | None = None
) -> Assembly:
    """Stochastic gradient Langevin dynamics: `gld` with the gradient of a minibatch.

    Args:
      batch: rows a step, different ones; or a sampling such as `Minibatch(8)` (with replacement) or `Epochs(8)`.
      step_size, temperature, geometry: as in `gld`. A schedule that decays to 0 takes the bias away.

    Source: Welling & Teh, ICML 2011 (welling2011).
    """
    return _langevin(step_size, temperature, to_rows(batch), geometry)


def svrg_ld(
    *,
    step_size: StepSize,
    temperature: float,
    batch: int | Minibatch,
    period: int | None = None,
    loopless: bool = False,
    geometry: Geometry | None = None,
) -> Assembly:
    """Langevin dynamics with the `SVRG` gradient.

    Args:
      batch: as in `sgld`; about the square root of n is best.
      period: steps between snapshots (on average, if loopless); the batch size unless given.
      loopless: renew the snapshot by a coin, one for all seeds.
      step_size, temperature, geometry: as in `gld`.

    Source: Kinoshita & Suzuki, NeurIPS 2022 (kinoshita2022).
    """
    rows = to_rows(batch)
    return _langevin(step_size, temperature, SVRG(rows, _refresh(rows, period, loopless)), geometry)


def sarah_ld(
    *,
    step_size: StepSize,
    temperature: float,
    batch: int | Minibatch,
    period: int | None = None,
    loopless: bool = False,
    geometry: Geometry | None = None,
) -> Assembly:
    """Langevin dynamics with the `SARAH` gradient; arguments as in `svrg_ld`."""
    rows = to_rows(batch)
    return _langevin(step_size, temperature, SARAH(rows, _refresh(rows, period, loopless)), geometry)


def cv_sgld(
    *,
    step_size: StepSize,
    temperature: float,
    batch: int | Minibatch,
    centre: Params,
    geometry: Geometry | None = None,
) -> Assembly:
    """Langevin dynamics with the `ControlVariate` gradient around a fixed centre; other arguments as in `sgld`."""
    return _langevin(step_size, temperature, ControlVariate(to_rows(batch), centre), geometry)


def _refresh(rows: Minibatch, period: int | None, loopless: bool) -> Refresh:
    return (Coin if loopless else Every)(rows.batch if period is None else period)


def _langevin(step_size: StepSize, temperature: float, gradient: Estimator, geometry: Geometry | None) -> Assembly:
    return Assembly(step_size, gradient, Gaussian(as_positive(temperature, "temperature")), geometry or Euclidean())
