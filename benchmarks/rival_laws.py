"""Other laws of the learning curve, fitted as they usually are: pow4 and MMF4 through the measured losses.

Source: Viering & Loog, The shape of learning curves: a review, IEEE TPAMI 2023.
"""

import numpy as np
from scipy.optimize import least_squares


def pow4(n, a, b, c, d):
    """a + b (n + d)^-c, all >= 0."""
    return a + b * (n + d) ** -c


def mmf4(n, a, b, c, d):
    """(a b + c n^d) / (b + n^d), all >= 0: from a at n = 0 to c far out."""
    return (a * b + c * n**d) / (b + n**d)


def fit(law, sizes, losses):
    """The law of least relative squared error, parameters as logarithms, from six starts: a function of n."""
    unit, scale = np.max(sizes), losses[-1]
    n, y = sizes / unit, losses / scale
    rng = np.random.default_rng(0)
    best = None
    for start in np.log([0.7, 0.3, 0.7, 0.3]) + rng.normal(size=(6, 4)):
        residual = lambda z: law(n, *np.exp(z)) / y - 1
        with np.errstate(all="ignore"):
            try:
                found = least_squares(residual, start, bounds=(-12, 5), max_nfev=300)
            except ValueError:  # a start at which the law overflows
                continue
        if best is None or found.cost < best.cost:
            best = found
    if best is None:
        return lambda at: np.full(np.shape(at), losses[-1])
    return lambda at: scale * law(np.asarray(at) / unit, *np.exp(best.x))
