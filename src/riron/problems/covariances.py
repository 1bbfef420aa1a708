"""Spectra of feature covariances, as NumPy vectors in decreasing order."""

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_vector
from ..errors import InputError


def isotropic(d: int, *, mean: float = 1.0) -> np.ndarray:
    """(d,) eigenvalues that are all `mean`."""
    return np.full(d, float(mean))


def power_law(d: int, decay: float, *, mean: float = 1.0) -> np.ndarray:
    """(d,) eigenvalues proportional to j^-decay, j = 1..d, scaled to the average `mean`."""
    spectrum = np.arange(1.0, d + 1) ** -float(decay)
    return mean * spectrum / spectrum.mean()


def spiked(d: int, spikes: ArrayLike, *, bulk: float = 1.0) -> np.ndarray:
    """(d,) eigenvalues `bulk`, but for the first ones, which are `spikes` in decreasing order."""
    spikes = np.sort(as_vector(spikes, "spikes"))[::-1]
    if len(spikes) > d:
        raise InputError(f"{len(spikes)} spikes do not fit into d={d} dimensions")
    return np.concatenate([spikes, np.full(d - len(spikes), float(bulk))])
