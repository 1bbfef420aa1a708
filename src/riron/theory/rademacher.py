"""Empirical Rademacher complexities of linear classes on given features, by Monte Carlo over the signs.

With signs s_i = -1 or +1 and g = (1/n) sum_i s_i phi_i, S = (1/n) sum_i phi_i phi_i^T:

    ball     {w . phi : |w| <= B}                           B E|g|                               <= B sqrt(tr S / n)
    local    {w . phi : |w|^2/B^2 + w^T S w/r^2 <= 1}       E sqrt(g^T (I/B^2 + S/r^2)^{-1} g)   <= r sqrt(N(r^2/B^2)/n)

N is the number of degrees of freedom: what survives of the ball among functions of size at most r. The local class
contains the intersection of ball and ellipsoid scaled by 1/sqrt 2 and is contained in it. Both bounds are Jensen's.
"""

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_matrix, as_positive
from ..errors import InputError

BLOCK = 2**24  # numbers of signs held at a time


def ball_complexity(features: ArrayLike, B: float, draws: int = 200, seed: int = 0) -> tuple[float, float]:
    """Rademacher complexity of the functions w . phi with |w| <= B.

    Args:
      features: (n, m) rows phi_i.
      B: radius of the weights, units of output/feature.
      draws: of all n signs. seed: of the draws.

    Returns: mean and its standard error, units of output.

    Raises:
      InputError: features that are no finite matrix, B not positive, fewer than 2 draws.

    Source: Bartlett & Mendelson, Rademacher and Gaussian Complexities, JMLR 2002.
    """
    phi = as_matrix(features, "features")
    return _mean(as_positive(B, "B") * np.linalg.norm(_signed_means(phi, draws, seed), axis=1))


def local_complexity(features: ArrayLike, B: float, r: float, draws: int = 200, seed: int = 0) -> tuple[float, float]:
    """Rademacher complexity of the functions w . phi with |w|^2/B^2 + w^T S w/r^2 <= 1.

    Args:
      features: (n, m) rows phi_i.
      B: radius of the weights, units of output/feature. r: of the functions in the empirical L2 norm, units of output.
      draws: of all n signs. seed: of the draws.

    Returns: mean and its standard error, units of output.

    Raises:
      InputError: features that are no finite matrix, B or r not positive, fewer than 2 draws.

    Source: Bartlett, Bousquet & Mendelson, Local Rademacher Complexities, Annals of Statistics 2005.
    """
    phi = as_matrix(features, "features")
    B, r = as_positive(B, "B"), as_positive(r, "r")
    g = _signed_means(phi, draws, seed)
    _, singular, directions = np.linalg.svd(phi / np.sqrt(len(phi)), full_matrices=False)
    inside = g @ directions.T  # g lies in the span of the rows of phi
    return _mean(np.sqrt((inside**2 / (1 / B**2 + singular**2 / r**2)).sum(axis=1)))


def _signed_means(phi: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """g for each draw, (draws, m)."""
    if draws < 2:
        raise InputError(f"draws={draws} gives no standard error", do="ask for 2 or more")
    rng = np.random.default_rng(seed)
    n, block = len(phi), max(1, BLOCK // len(phi))
    parts = [
        (2.0 * rng.integers(0, 2, size=(min(block, draws - start), n), dtype=np.int8) - 1) @ phi / n
        for start in range(0, draws, block)
    ]
    return np.concatenate(parts)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
