"""The random numbers that a group of sample paths starts from, made to have exactly the moments of their law.

Quasi-random points carry the start (w_0, w*), the label noise and the first innovations: with smooth paths, as in
gradient flow, these few variables carry nearly all of the chance in a sweep.
"""

import warnings
from typing import NamedTuple

import jax
import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

EARLY = 16


class Draws(NamedTuple):
    """Of G groups of P paths: base (G, J, P) and z (G, P), centred, uncorrelated and of variance 1; early
    (G, EARLY, m, P) innovations of the first steps; keys (G, 2) of the later ones and of the clock."""

    base: np.ndarray
    z: np.ndarray
    early: np.ndarray
    keys: jax.Array


def draws(key: jax.Array, groups: int, paths: int, m: int, J: int) -> Draws:
    """Independent draws for each group.

    Args:
      key: of the whole computation.
      groups: number of groups.
      paths: P, paths in each.
      m: innovations of a step.
      J: number of Gaussian variables of the start, students and teachers.
    """
    seeds, keys = np.asarray(jax.random.key_data(jax.random.split(key, groups))), jax.random.split(key, (groups, 2))
    points = np.stack([gaussian_points(seed, J + 1 + EARLY * m, paths) for seed in seeds])
    fixed = np.stack([matched(p) for p in points[:, : J + 1]])
    return Draws(fixed[:, :J], fixed[:, J], points[:, J + 1 :].reshape(groups, EARLY, m, paths), keys)


def gaussian_points(seed: np.ndarray, dimensions: int, paths: int) -> np.ndarray:
    """(dimensions, paths) scrambled Sobol points, turned to normal."""
    sobol = qmc.Sobol(dimensions, rng=np.random.default_rng(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a number of paths that is not a power of 2 is no fault
        uniform = sobol.random(paths)
    return ndtri(np.clip(uniform.T, 1e-12, 1 - 1e-12))


def matched(rows: np.ndarray) -> np.ndarray:
    """The same points with mean 0 and covariance I in the sample."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.linalg.solve(np.linalg.cholesky(centred @ centred.T / rows.shape[1]), centred)


def first_half(draws: Draws) -> Draws:
    """The first half of the paths of each group, matched anew."""
    half = draws.z.shape[1] // 2
    rows = np.concatenate([draws.base, draws.z[:, None]], axis=1)[..., :half]
    fixed = np.stack([matched(p) for p in rows])
    return Draws(fixed[:, :-1], fixed[:, -1], draws.early[..., :half], draws.keys)
