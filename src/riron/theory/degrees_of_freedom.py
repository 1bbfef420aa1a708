"""Degrees of freedom of a spectrum, and how many sampled nodes they ask for.

    N(lam) = tr S (S + lam I)^{-1} = sum_j mu_j/(mu_j + lam)

counts the eigenvalues of the second moment S above lam, smoothly. With nodes drawn by their leverage,
c N(lam) log(16 N(lam)/delta) of them reconstruct all others within 4 lam in operator norm.
"""

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_array, as_positive, as_vector
from ..errors import InputError

CONSTANT = 5.0  # of the theorem; 2 suffices in every spectrum tried


def degrees_of_freedom(eigenvalues: ArrayLike, lam: ArrayLike) -> np.ndarray:
    """N(lam), of the shape of lam.

    Args:
      eigenvalues: (m,) of a second moment; what rounding made negative counts as 0.
      lam: > 0, in units of the eigenvalues.

    Raises:
      InputError: values that are not finite, or lam that is not positive.

    Source: Bach, On the Equivalence between Kernel Quadrature Rules and Random Feature Expansions, JMLR 2017.
    """
    mu = np.clip(as_vector(eigenvalues, "eigenvalues"), 0, None)
    levels = as_array(lam, "lam", ndim=(0, 1, 2))
    if (levels <= 0).any():
        raise InputError(f"lam={levels.min():g} must be > 0", why="at 0 every eigenvalue counts, rounding included")
    return (mu / (mu + levels[..., None])).sum(axis=-1)


def at_relative_levels(eigenvalues: ArrayLike, levels: ArrayLike) -> np.ndarray:
    """N(lam) at lam = level times the mean eigenvalue, of the shape of levels; zeros for a spectrum that is zero."""
    mu = np.clip(as_vector(eigenvalues, "eigenvalues"), 0, None)
    if mu.max() == 0:
        return np.zeros(np.shape(levels))
    return degrees_of_freedom(mu, mu.mean() * as_array(levels, "levels", ndim=(0, 1)))


def nodes_needed(dof: ArrayLike, delta: float, constant: float = CONSTANT) -> np.ndarray:
    """constant N log(16 N/delta): draws with which ||R_J|| <= 4 lam has probability >= 1 - delta.

    Args:
      dof: N(lam) > 0. delta: allowed probability of failure, in (0, 1).

    Raises:
      InputError: delta outside (0, 1), or constant not positive.

    Source: Bach, JMLR 2017, proposition 1; Suzuki et al., IJCAI-PRICAI 2020 (spectral pruning).
    """
    if not 0 < delta < 1:
        raise InputError(f"delta={delta} is outside (0, 1)")
    N = np.asarray(dof, dtype=np.float64)
    return as_positive(constant, "constant") * N * np.log(16 * N / delta)


def level_of_nodes(eigenvalues: ArrayLike, nodes: ArrayLike, delta: float, constant: float = CONSTANT) -> np.ndarray:
    """The smallest lam for which so many sampled nodes suffice; the theorem's error is 4 lam.

    Args:
      eigenvalues: (m,). nodes: (...,) numbers of draws, > 0.

    Returns: lam, of the shape of nodes, in units of the eigenvalues. It is above the largest eigenvalue where the draws
      are fewer than even one degree of freedom asks for.

    Raises:
      InputError: as above, or a spectrum that is zero.
    """
    mu = np.clip(as_vector(eigenvalues, "eigenvalues"), 0, None)
    wanted = as_array(nodes, "nodes", ndim=(0, 1))
    if (wanted <= 0).any():
        raise InputError(f"nodes={wanted.min():g} must be > 0")
    if mu.max() <= 0:
        raise InputError("the spectrum is zero", do="there is nothing to reconstruct")
    low = np.full(wanted.shape, np.log(mu.max()) - 80.0)
    high = np.full(wanted.shape, np.log(mu.sum()) + 40.0)
    for _ in range(70):  # N log N falls with lam wherever it is positive
        middle = (low + high) / 2
        enough = nodes_needed(degrees_of_freedom(mu, np.exp(middle)), delta, constant) <= wanted
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.exp(high)
