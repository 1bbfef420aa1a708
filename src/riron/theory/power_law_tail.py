"""The exponent of a power-law tail as WeightWatcher 0.7.7 defines it, all thresholds at once.

For sorted data x_1 <= ... <= x_N and each threshold x_i, with n_i = N - i + 1 points in the tail:

    alpha_i = 1 + n_i / sum_{j >= i} log(x_j / x_i)
    D_i     = max_{j >= i} |1 - (x_j/x_i)^(1 - alpha_i) - (j - i)/n_i|

The threshold with the smallest D_i is taken, and its alpha with it. That choice looks at all of the data, so the usual
standard error (alpha - 1)/sqrt(n) is too small: compare with matrices of noise of the same shape instead.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_vector
from ..errors import InputError

LEAST_EIGENVALUE = 1e-5  # smaller ones are left out, whatever the unit
FEWEST = 8  # eigenvalues below which there is no exponent
FEW = 20  # below: the estimator without bias, n - 1 in the place of n, and tails of at least SHORTEST
SHORTEST = 8
BLOCK = 2**15  # numbers held at a time: they stay in the cache


@dataclass(frozen=True)
class PowerLawTail:
    """A fitted tail: density proportional to x^-alpha above xmin.

    Attributes:
      tail: number of points at or above xmin. n: of all points. distance: Kolmogorov-Smirnov, of the tail.
      sigma: (alpha - 1)/sqrt(tail), which ignores that xmin was chosen.
    """

    alpha: float
    xmin: float
    tail: int
    n: int
    distance: float
    sigma: float


def power_law_tail(eigenvalues: ArrayLike) -> PowerLawTail | None:
    """The tail of a spectrum; None with fewer than 8 eigenvalues above 1e-5, or where all of them are equal.

    Args:
      eigenvalues: (m,) of W^T W, in the units of W squared: the threshold of 1e-5 is absolute.

    Raises:
      InputError: values that are not finite.

    Source: Martin, Peng & Mahoney, Nature Communications 2021, as in WeightWatcher 0.7.7; Clauset, Shalizi & Newman,
      SIAM Review 2009.
    """
    x = np.sort(as_vector(eigenvalues, "eigenvalues"))
    x = x[x > LEAST_EIGENVALUE]
    n, few = len(x), len(x) < FEW
    if n < FEWEST:
        return None
    logs = np.log(x)
    left = np.arange(n, 1, -1.0)  # points in the tail of each threshold but the last
    sums = (np.cumsum(logs[::-1])[::-1] - np.arange(n, 0, -1) * logs)[:-1]
    sound = sums > 1e-12 * left
    with np.errstate(divide="ignore"):
        alphas = np.where(sound, 1 + (left - few) / np.where(sound, sums, 1.0), np.inf)
    if not sound.any():
        return None
    distances = np.where(sound, _distances(logs, np.where(sound, alphas, 1.0), left), np.inf)
    if few:
        # 0.7.7 also computes D - 0.868/sqrt(n) here, but its constructor then takes the threshold of the smallest D
        distances = np.where(left >= SHORTEST, distances, np.inf)
    i = int(np.argmin(distances))
    alpha, tail = float(alphas[i]), int(left[i])
    return PowerLawTail(alpha, float(x[i]), tail, n, float(distances[i]), (alpha - 1) / tail**0.5)


def _distances(logs: np.ndarray, alphas: np.ndarray, left: np.ndarray) -> np.ndarray:
    """D_i for each threshold, some thresholds at a time."""
    left = left[:, None]
    alphas = alphas[:, None]
    n, found, start = len(logs), np.empty(len(alphas)), 0
    places = np.arange(n)
    while start < len(alphas):
        stop = min(start + max(1, BLOCK // (n - start)), len(alphas))
        i = places[start:stop, None]
        gaps = logs[start:] - logs[i]
        gaps *= 1 - alphas[start:stop]
        np.minimum(gaps, 0, out=gaps)  # what lies below a threshold is not its tail: it gets the share of the threshold
        np.exp(gaps, out=gaps)  # share above x_j
        gaps += np.maximum(places[start:] - i, 0) / left[start:stop]
        gaps -= 1
        found[start:stop] = np.abs(gaps, out=gaps).max(axis=1)
        start = stop
    return found


def share_as_small(value: float, draws: ArrayLike) -> float:
    """(1 + number of draws <= value)/(1 + draws): a p-value that is valid and never 0.

    Raises:
      InputError: no draws.

    Source: Phipson & Smyth, Permutation P-values Should Never Be Zero, Stat. Appl. Genet. Mol. Biol. 2010.
    """
    found = as_vector(draws, "draws")
    if not np.isfinite(value):
        raise InputError(f"value={value} must be finite")
    return float((1 + (found <= value).sum()) / (1 + len(found)))
