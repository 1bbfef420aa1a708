"""How many directions a spectrum has: four ranks, what is left beyond k directions, and how fast it decays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_vector
from ..errors import InputError

FLOOR = 1e-10  # of the largest eigenvalue, below which a decay is rounding


@dataclass(frozen=True)
class Ranks:
    """Four counts of directions, from the most generous to the strictest way of counting.

    Attributes:
      numerical: eigenvalues above m eps mu_1. entropy: exp of the entropy of mu / sum mu.
      participation: (sum mu)^2 / sum mu^2. stable: sum mu / mu_1.
    """

    numerical: int
    entropy: float
    participation: float
    stable: float


@dataclass(frozen=True)
class Decay:
    """mu_j ~ j^-exponent between two places.

    Attributes:
      exponent: the slope, with its least-squares standard error (the points are no independent sample).
      first, last: the interval of j, counted from 1.
      residual: root mean square of what is left of log10 mu: 0.3 is a factor of 2, and then it is no power law.
    """

    exponent: float
    stderr: float
    first: int
    last: int
    residual: float


def descending(eigenvalues: ArrayLike) -> np.ndarray:
    """(m,) largest first; what rounding made negative becomes 0."""
    return np.clip(np.sort(as_vector(eigenvalues, "eigenvalues"))[::-1], 0, None)


def ranks(eigenvalues: ArrayLike) -> Ranks:
    """All four; zeros for a spectrum that is zero.

    Source: Roy & Vetterli, EUSIPCO 2007 (entropy rank); Rudelson & Vershynin, J. ACM 2007 (stable rank).
    """
    mu = descending(eigenvalues)
    if mu[0] == 0:
        return Ranks(0, 0.0, 0.0, 0.0)
    share = mu / mu.sum()
    present = share[share > 0]
    return Ranks(
        numerical=int((mu > len(mu) * np.finfo(np.float64).eps * mu[0]).sum()),
        entropy=float(np.exp(-(present * np.log(present)).sum())),
        participation=float(1 / (share**2).sum()),
        stable=float(mu.sum() / mu[0]),
    )


def tail_sums(eigenvalues: ArrayLike) -> np.ndarray:
    """(m + 1,) sum of the eigenvalues beyond the k largest, k = 0..m.

    No linear reconstruction from k numbers has a smaller expected squared error.

    Source: Eckart & Young, Psychometrika 1936.
    """
    return np.append(np.cumsum(descending(eigenvalues)[::-1])[::-1], 0.0)


def polynomial_decay(eigenvalues: ArrayLike, first: int = 3, last: int | None = None) -> Decay | None:
    """Least squares of log mu_j on log j for j from `first` to `last` (m/2), as far as mu_j > 1e-10 mu_1.

    Returns: a Decay, or None where fewer than 3 eigenvalues are left.

    Raises:
      InputError: an interval that is none.
    """
    mu = descending(eigenvalues)
    last = len(mu) // 2 if last is None else last
    if first < 1 or last > len(mu):
        raise InputError(f"the interval {first}..{last} is outside 1..{len(mu)}")
    last = min(last, int((mu > FLOOR * mu[0]).sum()))
    if last - first < 2:
        return None
    x, y = np.log(np.arange(first, last + 1)), np.log(mu[first - 1 : last])
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    left = y - y.mean() - slope * centred
    error = float(np.sqrt((left @ left) / (len(x) - 2) / (centred @ centred)))
    return Decay(-slope, error, first, last, float(np.sqrt(np.mean(left**2)) / np.log(10)))
