"""Held-out rows in two halves: one chooses, the other judges, so that a choice does not flatter itself."""

import dataclasses

import numpy as np

from ...errors import InputError
from ...theory.spectrum import Spectrum

MOST = 4000  # held-out rows used at most


def halves(spectrum: Spectrum, seed: int, wanted_by: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows that choose and of those that judge.

    Raises: InputError if there are fewer than 4 held-out rows.
    """
    if spectrum.test_rows is None or spectrum.test_targets is None or len(spectrum.test_rows) < 4:
        raise InputError(f"the {wanted_by} needs at least 4 held-out rows", do="pass X_test and y_test")
    chosen = np.random.default_rng(seed).permutation(len(spectrum.test_rows))[:MOST]
    first, second = np.array_split(chosen, 2)
    return first, second


def with_held_out(spectrum: Spectrum, chosen: np.ndarray) -> Spectrum:
    """The spectrum with some of its held-out rows only."""
    assert spectrum.test_rows is not None
    assert spectrum.test_targets is not None
    return dataclasses.replace(
        spectrum, test_rows=spectrum.test_rows[chosen], test_targets=spectrum.test_targets[chosen]
    )
