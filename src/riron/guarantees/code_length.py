"""How many bits a quantised vector costs in a prefix code that was fixed before the data."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..errors import InputError

LEVEL_BITS = 16  # a level of the codebook is a float16


@dataclass(frozen=True)
class CodeLength:
    """Bits of a vector of `size` entries with `levels` values.

    Attributes:
      codebook: of the levels. counts: of how often each occurs. sequence: of the order, given the counts.
      choice: of which of the settings tried it was.
    """

    size: int
    levels: int
    codebook: float
    counts: float
    sequence: float
    choice: float

    @property
    def bits(self) -> float:
        """All of it."""
        return self.codebook + self.counts + self.sequence + self.choice


def code_length(indices: ArrayLike, levels: int, *, settings: int = 1, level_bits: int = LEVEL_BITS) -> CodeLength:
    """The enumerative code: the codebook, the counts (uniform among all), the sequence (uniform given the counts).

    16 c + log2 C(d + c - 1, c - 1) + log2( d!/prod count! ) + log2(settings).

    Args:
      indices: (d,) whole numbers in 0..levels-1, the place in the codebook of each entry.
      levels: c. settings: combinations of dimension, levels and seed among which this one was chosen.
      level_bits: bits of one level.

    Raises:
      InputError: indices that are not in 0..levels-1, fewer than one setting.

    Source: Zhou, Veitch, Austern, Adams & Orbanz, ICLR 2019; Lotfi et al., NeurIPS 2022, for the use; Cover,
      Enumerative source encoding, IEEE Transactions on Information Theory 1973, for the code.
    """
    index = np.asarray(indices)
    if index.ndim != 1 or index.size == 0 or not np.issubdtype(index.dtype, np.integer):
        raise InputError(f"the indices must be a vector of whole numbers and have shape {index.shape}")
    if index.min() < 0 or index.max() >= levels:
        raise InputError(f"an index is outside 0..{levels - 1}", do="pass places in the codebook")
    if settings < 1:
        raise InputError(f"settings={settings} must be at least 1")
    d, count = len(index), np.bincount(index, minlength=levels)
    counts = _log2_choose(d + levels - 1, levels - 1)
    sequence = float(special.gammaln(d + 1) - special.gammaln(count + 1).sum()) / math.log(2)
    return CodeLength(d, levels, float(level_bits * levels), counts, max(sequence, 0.0), math.log2(settings))


def _log2_choose(n: int, k: int) -> float:
    return float(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)) / math.log(2)
