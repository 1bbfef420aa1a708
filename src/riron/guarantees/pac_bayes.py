"""The error of a classifier that is drawn anew for every decision, from its error on the sample and its KL."""

import math

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .binomial_limits import check_delta, kl_inverse

FEWEST = 8  # examples for which Maurer's constant is proved


def pac_bayes_kl_limit(gibbs_error: float, kl: float, n: int, delta: float) -> float:
    """The upper limit on the error of the random classifier Q, at once for all Q.

    kl( err_S(Q) || err(Q) ) <= ( KL(Q || P) + log(2 sqrt(n)/delta) )/n  with probability 1 - delta.

    Args:
      gibbs_error: err_S(Q), the mean error of Q on the n examples, or an upper limit on it.
      kl: KL(Q || P) in nats, P fixed before the n examples. n: examples. delta: in (0, 1).

    Raises:
      InputError: fewer than 8 examples, a negative KL, an error or a delta out of range.

    Source: Seeger, PAC-Bayesian generalisation error bounds for Gaussian process classification, JMLR 2002; Maurer,
      A note on the PAC-Bayesian theorem, 2004, for 2 sqrt(n).
    """
    check_delta(delta)
    if n < FEWEST:
        raise InputError(f"PAC-Bayes-kl needs {FEWEST} examples and there are {n}")
    if not kl >= 0:
        raise InputError(f"the relative entropy {kl} is negative or not a number")
    return kl_inverse(gibbs_error, (kl + math.log(2 * math.sqrt(n) / delta)) / n)


def gaussian_kl(mean: ArrayLike, sd: ArrayLike, prior_mean: ArrayLike, prior_sd: ArrayLike) -> float:
    """KL(N(mean, diag sd^2) || N(prior_mean, diag prior_sd^2)) in nats, summed over all entries.

    Args:
      mean, sd, prior_mean, prior_sd: arrays that broadcast against each other; scalars for isotropic ones.

    Raises:
      InputError: a standard deviation that is not positive, shapes that do not broadcast.
    """
    values = (np.asarray(v, dtype=np.float64) for v in (mean, sd, prior_mean, prior_sd))
    try:
        m, s, m0, s0 = np.broadcast_arrays(*values)
    except ValueError as error:
        raise InputError("the means and standard deviations have shapes that do not fit each other") from error
    if not ((s > 0) & (s0 > 0)).all():
        raise InputError("a standard deviation is not positive")
    ratio = s / s0
    # ratio^2 - 1 - log ratio^2 is a difference of nearly equal numbers where the variances agree
    excess = (ratio - 1) * (ratio + 1) - 2 * np.log1p(ratio - 1)
    return float(0.5 * (excess + ((m - m0) / s0) ** 2).sum())


def gibbs_monte_carlo_limit(mean: float, draws: int, delta: float) -> float:
    """The upper limit on err_S(Q) from the mean of independent zero-one losses, one fresh classifier each.

    Chernoff's: it holds for independent losses of different means too, so that every one of n examples may be given
    R fresh classifiers, and draws = n R.

    Args:
      mean: of the losses. draws: how many. delta: in (0, 1).

    Source: Hoeffding, Probability inequalities for sums of bounded random variables, JASA 1963, Theorem 1.
    """
    check_delta(delta)
    if draws < 1:
        raise InputError(f"{draws} draws", do="draw at least once")
    return kl_inverse(mean, math.log(1 / delta) / draws)


def counted_price(j: int) -> float:
    """log(pi^2 j^2/6) nats: the price of a choice among j = 1, 2, 3, ... without an end."""
    if j < 1 or j != int(j):
        raise InputError(f"the choice number {j} is not among 1, 2, 3, ...")
    return math.log(math.pi**2 * j**2 / 6)


def listed_price(choices: int) -> float:
    """log J nats: the price of a choice among J that were fixed beforehand."""
    if choices < 1:
        raise InputError(f"a choice among {choices}", do="list at least one")
    return math.log(choices)
