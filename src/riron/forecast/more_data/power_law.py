"""Power laws a + b n^-c through measured losses: the classical extrapolation of a learning curve.

Source: Viering & Loog, The shape of learning curves: a review, IEEE TPAMI 2023 (viering2023), for the family
(pow3 there).
"""

from typing import NamedTuple

import numpy as np

EXPONENTS = np.geomspace(0.02, 4.0, 240)


class PowerLaw(NamedTuple):
    """a + b n^-c, all three >= 0."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, n) -> np.ndarray:
        return self.floor + self.scale * np.asarray(n, dtype=float) ** -self.exponent


def fit_power_law(sizes: np.ndarray, losses: np.ndarray) -> PowerLaw:
    """The power law of least relative squared error, floor and scale >= 0.

    For a given exponent the two others solve a linear problem, so the fit is a scan over 240 exponents from 0.02 to 4
    (no starting points, no local minima).

    Args:
      sizes: (m,) numbers of samples, m >= 3, different.
      losses: (m,) losses there, > 0.
    """
    unit = np.max(sizes)
    decay = (np.asarray(sizes, dtype=float) / unit) ** -EXPONENTS[:, None]  # (exponents, m)
    one, power = (
        np.broadcast_to(1 / losses, decay.shape),
        decay / losses,
    )  # relative residual: floor one + scale power - 1
    s11, s12, s22 = (one * one).sum(1), (one * power).sum(1), (power * power).sum(1)
    t1, t2 = one.sum(1), power.sum(1)
    determinant = s11 * s22 - s12**2
    determinant = np.where(determinant > 0, determinant, np.inf)
    floor, scale = (s22 * t1 - s12 * t2) / determinant, (s11 * t2 - s12 * t1) / determinant
    scale = np.where(floor < 0, t2 / s22, scale)
    floor = np.where(floor < 0, 0.0, floor)
    floor = np.where(scale < 0, t1 / s11, floor)
    scale = np.where(scale < 0, 0.0, scale)
    residual = floor[:, None] * one + scale[:, None] * power - 1
    best = int(np.argmin((residual**2).sum(1)))
    exponent = float(EXPONENTS[best])
    return PowerLaw(float(floor[best]), float(scale[best] * unit**exponent), exponent)
