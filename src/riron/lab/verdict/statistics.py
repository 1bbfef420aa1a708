"""The statistics of a verdict: skewness-corrected t, its critical value, and the intercept at infinite size.

Everything is float64 and vectorised over record points, the last axis.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

Real = np.ndarray | float


class Moments(NamedTuple):
    """Of S independent samples: the mean, the variance of the mean, the sample skewness (0 where nothing varies)."""

    mean: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray


def moments(samples: np.ndarray) -> Moments:
    """Moments along the first axis of (S, K) samples; overflow gives inf or nan, never a warning."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = samples.mean(axis=0)
        centred = samples - mean
        spread = np.abs(centred).max(axis=0, initial=0.0)
        unit = centred / np.where(spread > 0, spread, 1.0)  # cubes of large losses must not overflow
        second, third = (unit**2).mean(axis=0), (unit**3).mean(axis=0)
        skewness = np.where(second > 0, third / np.where(second > 0, second, 1.0) ** 1.5, 0.0)
        variance = spread**2 * second / (len(samples) - 1)
    # equal numbers may differ from their own mean by a rounding: that is no variance
    constant = (samples == samples[:1]).all(axis=0)
    return Moments(mean, np.where(constant, 0.0, variance), np.where(constant, 0.0, skewness))


def hall(gap: Real, error: Real, skewness: Real, seeds: int) -> Any:
    """Hall's skewness-corrected t of a gap with standard error `error` (> 0); increasing in the gap.

    T = sqrt(S) (W + g W^2/3 + g^2 W^3/27 + g/(6 S)), W = gap / (sqrt(S) error).

    Source: Hall, On the removal of skewness by transformation, J. R. Statist. Soc. B 54, 1992.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # diverged runs give nan
        w = gap / (np.sqrt(seeds) * error)
        return np.sqrt(seeds) * (w + skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / (6 * seeds))


def heavy(skewness: Real, seeds: int) -> Any:
    """Whether the mean is carried by few runs: |skewness| beyond sqrt(seeds)/4, and beyond 2.

    What is left of the error of Hall's t goes with skewness / sqrt(seeds). With correlated lognormal losses it keeps
    its false-alarm rate inside this limit (checked up to sigma = 0.8 with 128 to 512 seeds).
    """
    return np.abs(skewness) > heavy_limit(seeds)


def heavy_limit(seeds: int) -> float:
    """The largest skewness that `seeds` runs bear."""
    return max(2.0, np.sqrt(seeds) / 4)


def critical(level: float, freedom: Real) -> np.ndarray:
    """What |t| exceeds with probability `level` under `freedom` degrees of freedom (at least 1)."""
    return -stdtrit(np.clip(freedom, 1.0, 1e9), level / 2)


def satterthwaite(variances: np.ndarray, freedoms: np.ndarray) -> np.ndarray:
    """Degrees of freedom of a sum of independent variance estimates along the first axis.

    (sum V_i)^2 / sum(V_i^2 / f_i). Source: Satterthwaite, Biometrics Bulletin 2, 1946.
    """
    total, parts = variances.sum(axis=0), (variances**2 / freedoms).sum(axis=0)
    return np.where(parts > 0, total**2 / np.where(parts > 0, parts, 1.0), np.inf)


def intercept_weights(sizes: np.ndarray, errors: np.ndarray, rate: float) -> np.ndarray:
    """Weights (J, K) whose sum with J gaps is the intercept a of gap = a + b (size / largest)^-rate.

    Args:
      sizes: (J,) sizes > 0, not all equal.
      errors: (J, K) standard errors of the gaps; weighted least squares with 1/errors^2.
      rate: at which the limit is approached (> 0).
    """
    z = ((sizes / sizes.max()) ** -rate)[:, None]
    largest = errors.max(axis=0)
    # a size without noise must not take all the weight: the fit is a model, not an identity
    floored = np.where(largest > 0, np.maximum(errors, 0.01 * largest), 1.0)
    w = (largest + (largest == 0)) ** 2 / floored**2
    s, sz, szz = w.sum(axis=0), (w * z).sum(axis=0), (w * z**2).sum(axis=0)
    return w * (szz - z * sz) / (s * szz - sz**2)
