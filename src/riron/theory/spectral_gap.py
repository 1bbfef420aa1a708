"""Spectral gap of one-dimensional overdamped Langevin dynamics, by finite volumes."""

import numpy as np
from scipy.linalg import eigh_tridiagonal

FAINT = 1e-14


def spectral_gap(log_density: np.ndarray, spacing: float, temperature: float) -> float:
    """Smallest positive eigenvalue of -div(temperature p grad(. / p)), the rate of dw = T grad log p dt + sqrt(2T) dB.

    Finite volumes make it a symmetric tridiagonal matrix whose entries are ratios of neighbouring densities. Ends
    where the density is below 1e-14 are cut off.

    Args:
      log_density: (M,) log p at equally spaced points.
      spacing: distance of the points.
      temperature: T.

    Returns:
      The gap, units of 1 / time: KL and chi-squared distances fall at twice this rate.
    """
    seen = np.flatnonzero(log_density > np.log(FAINT))
    half = np.diff(log_density[seen[0] : seen[-1] + 1]) / 2
    rate = temperature / spacing**2
    diagonal = np.zeros(len(half) + 1)
    diagonal[:-1] += rate * np.exp(half)
    diagonal[1:] += rate * np.exp(-half)
    values = eigh_tridiagonal(diagonal, np.full(len(half), -rate), select="i", select_range=(1, 1), eigvals_only=True)
    return float(values[0])
