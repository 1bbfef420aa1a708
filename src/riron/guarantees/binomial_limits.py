"""Upper limits on a probability from counts of errors: exact binomial, Chernoff's, and with the price of a code."""

import math

import numpy as np
from scipy import special, stats

from ..errors import InputError

STEPS = 200  # of bisection: more than float64 can use


def clopper_pearson(errors: int, n: int, delta: float) -> float:
    """The exact upper limit: the p at which s errors or fewer among n have the probability delta.

    Args:
      errors: s among n independent trials, 0 <= s <= n. delta: allowed probability of failure, in (0, 1).

    Raises:
      InputError: counts that do not fit, a delta outside (0, 1).

    Source: Clopper & Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
      Biometrika 1934.
    """
    s = check_counts(errors, n)
    check_delta(delta)
    return 1.0 if s == n else float(stats.beta.isf(delta, s + 1, n - s))


def kl(q: float, p: float) -> float:
    """Relative entropy of two coins, q log(q/p) + (1 - q) log((1 - q)/(1 - p)), in nats."""
    return float(special.rel_entr(q, p) + special.rel_entr(1 - q, 1 - p))


def kl_inverse(q: float, c: float) -> float:
    """The largest p with kl(q || p) <= c; an error rate q and c nats per example give an upper limit.

    Raises:
      InputError: q outside [0, 1], c negative or not a number.

    Source: Langford, Tutorial on practical prediction theory for classification, JMLR 2005.
    """
    if not 0 <= q <= 1:
        raise InputError(f"the error rate {q} is outside [0, 1]")
    if not c >= 0:
        raise InputError(f"the price {c} in nats per example is negative or not a number")
    if q == 0:
        return -math.expm1(-c)
    if q == 1 or math.isinf(c):
        return 1.0
    low, high = q, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if kl(q, middle) <= c:
            low = middle
        else:
            high = middle
    return low


def log_binomial_tail(errors: int, n: int, p: float) -> float:
    """log P(Bin(n, p) <= errors), summed term by term in the log domain: exact where the tail itself underflows."""
    if p <= 0 or errors >= n:
        return 0.0
    if p >= 1:
        return -math.inf
    k = np.arange(errors + 1)
    choose = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return float(special.logsumexp(choose + k * math.log(p) + (n - k) * math.log1p(-p)))


def occam_limit(errors: int, n: int, bits: float, delta: float) -> float:
    """The upper limit for a classifier that was chosen on the sample and costs `bits` in a code fixed beforehand.

    It is the p at which s errors or fewer have the probability delta 2^-bits, so that the union over all classifiers
    of the code costs delta: sum 2^-bits <= 1.

    Args:
      errors: s among the n examples on which it was chosen. bits: of a prefix code, >= 0.
      delta: allowed probability of failure, in (0, 1).

    Raises:
      InputError: counts that do not fit, negative bits, a delta outside (0, 1).

    Source: Langford, Tutorial on practical prediction theory for classification, JMLR 2005 (Occam's razor bound).
    """
    s = check_counts(errors, n)
    check_delta(delta)
    if not 0 <= bits < math.inf:
        raise InputError(f"a code of {bits} bits does not exist", do="count bits from 0 on")
    target = math.log(delta) - bits * math.log(2)
    low, high = s / n, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if log_binomial_tail(s, n, middle) >= target:
            low = middle
        else:
            high = middle
        if high - low <= 1e-15:
            break
    return high


def check_counts(errors: int, n: int) -> int:
    """s as a whole number in 0..n, n >= 1."""
    if n < 1 or not 0 <= errors <= n or errors != int(errors):
        raise InputError(f"{errors} errors among {n} examples", do="pass whole numbers, 0 <= errors <= n, n >= 1")
    return int(errors)


def check_delta(delta: float) -> float:
    """A probability of failure in (0, 1)."""
    if not 0 < delta < 1:
        raise InputError(f"delta={delta} is outside (0, 1)", do="pass 0.05, for example")
    return float(delta)
