"""The spectrum of noise: Marchenko and Pastur's bulk, its edge, and the eigenvalues that stand above it.

For W of N rows and M <= N columns with independent entries of variance s^2, the eigenvalues of W^T W / N fill the
interval s^2 (1 -+ sqrt(M/N))^2. At finite size the largest fluctuates about the edge by a Tracy-Widom law of scale
N^(-2/3); a spike is an eigenvalue above the edge by three of its standard deviations.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_positive, as_vector
from ..errors import InputError

TRACY_WIDOM_SD = 1.2680  # of the law for real entries; its mean is -1.2065
ALLOWANCE = 3.0  # standard deviations; noise passes with probability 4e-4


@dataclass(frozen=True)
class Bulk:
    """What is noise in a spectrum and what is not.

    Attributes:
      variance: of the entries that make the bulk. lower, upper: its edges, for eigenvalues of W^T W (not divided by N).
      threshold: upper with the allowance for finite size. spikes: eigenvalues above it.
    """

    variance: float
    lower: float
    upper: float
    threshold: float
    spikes: int


def edges(rows: int, columns: int, variance: float = 1.0) -> tuple[float, float]:
    """Lower and upper edge of the eigenvalues of W^T W / N, N the larger side: variance (1 -+ sqrt(M/N))^2.

    Raises:
      InputError: sides that are not positive, or a variance that is not.

    Source: Marchenko & Pastur, Mathematics of the USSR-Sbornik 1967.
    """
    N, M = _sides(rows, columns)
    s2, ratio = as_positive(variance, "variance"), np.sqrt(M / N)
    return float(s2 * (1 - ratio) ** 2), float(s2 * (1 + ratio) ** 2)


def density(x: ArrayLike, rows: int, columns: int, variance: float = 1.0) -> np.ndarray:
    """Density of the eigenvalues of W^T W / N at x (without the zeros that a wide matrix has besides).

    Source: Marchenko & Pastur, 1967.
    """
    N, M = _sides(rows, columns)
    low, high = edges(N, M, variance)
    x = np.asarray(x, dtype=np.float64)
    inside = (x > max(low, 0)) & (x < high)
    safe = np.where(inside, x, 1.0)
    root = np.sqrt(np.clip((high - safe) * (safe - low), 0, None))
    return np.where(inside, root / (2 * np.pi * variance * (M / N) * safe), 0.0)


def edge_fluctuation(rows: int, columns: int, variance: float = 1.0) -> float:
    """Standard deviation of the largest eigenvalue of W^T W / N.

    Source: Johnstone, On the Distribution of the Largest Eigenvalue in Principal Components Analysis, Annals of
      Statistics 2001.
    """
    N, M = _sides(rows, columns)
    scale = (np.sqrt(N) + np.sqrt(M)) * (1 / np.sqrt(N) + 1 / np.sqrt(M)) ** (1 / 3)
    return float(TRACY_WIDOM_SD * as_positive(variance, "variance") * scale / N)


def bulk_and_spikes(eigenvalues: ArrayLike, rows: int, columns: int, copies: int = 1) -> Bulk:
    """Bulk and spikes of the eigenvalues of W^T W, of one matrix or of several of one shape pooled.

    The variance is that of what is left when the spikes are taken out; both are found in turn, from the variance of all
    entries on.

    Args:
      eigenvalues: (copies * min(rows, columns),), not divided by N.

    Raises:
      InputError: another number of eigenvalues, or none above 0.
    """
    values = np.sort(np.clip(as_vector(eigenvalues, "eigenvalues"), 0, None))
    N, M = _sides(rows, columns)
    if len(values) != copies * M:
        raise InputError(f"{len(values)} eigenvalues are not those of {copies} matrices of {rows} x {columns}")
    if values[-1] == 0:
        raise InputError("the matrix is zero", do="it has no spectrum")
    spikes, threshold = 0, np.inf
    while spikes < len(values):
        rest = values[: len(values) - spikes]
        variance = max(float(rest.mean()) / N, 1e-300)
        threshold = N * (edges(N, M, variance)[1] + ALLOWANCE * edge_fluctuation(N, M, variance))
        found = int((values > threshold).sum())
        if found <= spikes:
            break
        spikes = found
    low, high = edges(N, M, variance)
    return Bulk(variance, N * low, N * high, threshold, spikes)


def _sides(rows: int, columns: int) -> tuple[int, int]:
    if rows < 1 or columns < 1:
        raise InputError(f"a matrix of {rows} x {columns} has no spectrum")
    return max(rows, columns), min(rows, columns)
