"""Limits from counts: exact where scipy or a term-by-term sum can say so, and the Occam limit covers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

from riron.errors import InputError
from riron.guarantees.binomial_limits import clopper_pearson, kl, kl_inverse, log_binomial_tail, occam_limit
from riron.guarantees.code_length import code_length


@pytest.mark.parametrize(("errors", "n"), [(0, 1), (0, 59), (3, 50), (54, 1000), (999, 1000)])
def test_clopper_pearson_is_where_the_tail_is_delta(errors, n):
    for delta in (0.3, 0.05, 1e-12):
        p = clopper_pearson(errors, n, delta)
        assert stats.binom.cdf(errors, n, p) == pytest.approx(delta, rel=1e-7)
    assert clopper_pearson(n, n, 0.05) == 1.0


@pytest.mark.parametrize("q", [0.0, 1e-9, 0.01, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("c", [0.0, 1e-8, 0.02, 0.5, 4.0])
def test_kl_inverse_is_the_largest_root(q, c):
    p = kl_inverse(q, c)
    assert q <= p <= 1
    grid = np.linspace(q, 1, 2001)[1:-1]
    if p < 1 - 1e-12:
        assert all(kl(q, x) > c for x in grid if x > p * (1 + 1e-9) + 1e-12)
        assert all(kl(q, x) <= c for x in grid if x < p * (1 - 1e-9) - 1e-12)
    if 0 < q < 0.9 and 0.01 < c < 1:
        assert p == pytest.approx(optimize.root_scalar(lambda x: kl(q, x) - c, bracket=(q, 1 - 1e-13)).root, abs=1e-10)


def test_kl_inverse_at_zero_errors_is_the_closed_form():
    assert kl_inverse(0.0, 1e-12) == pytest.approx(1e-12, rel=1e-9)
    assert kl_inverse(1e-300, 0.2) == pytest.approx(-math.expm1(-0.2), rel=1e-9)
    assert kl_inverse(0.3, math.inf) == 1.0


def test_the_tail_in_the_log_domain_is_the_exact_sum():
    for s, n, p in ((3, 40, Fraction(9, 10)), (100, 400, Fraction(19, 20)), (0, 2000, Fraction(1, 2))):
        exact = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(s + 1))
        log = math.log(exact.numerator) - math.log(exact.denominator)  # the fraction itself underflows
        assert log_binomial_tail(s, n, float(p)) == pytest.approx(log, rel=1e-12)
    assert log_binomial_tail(54, 1000, 0.07) == pytest.approx(float(stats.binom.logcdf(54, 1000, 0.07)), rel=1e-12)


@pytest.mark.parametrize("bits", [0, 8, 300, 1000, 5000])
def test_the_occam_limit_solves_its_equation_and_beats_chernoff(bits):
    s, n, delta = 800, 4000, 0.05
    p = occam_limit(s, n, bits, delta)
    assert log_binomial_tail(s, n, p) == pytest.approx(math.log(delta) - bits * math.log(2), rel=1e-9)
    loose = kl_inverse(s / n, (bits * math.log(2) + math.log(1 / delta)) / n)
    assert loose - 0.02 < p <= loose + 1e-12
    # a code in nats, or a price of bits log 2 forgotten, is far off where there are many bits
    if bits >= 300:
        assert abs(p - kl_inverse(s / n, (bits + math.log(1 / delta)) / n)) > 0.01


def test_the_occam_limit_without_bits_is_clopper_pearson():
    for s, n in ((0, 10), (7, 30), (54, 1000)):
        assert occam_limit(s, n, 0, 0.05) == pytest.approx(clopper_pearson(s, n, 0.05), abs=1e-10)
    assert occam_limit(5, 5, 3, 0.05) == 1.0
    assert occam_limit(0, 10, 1e6, 0.05) == pytest.approx(1.0)


def test_the_occam_limit_covers_the_best_of_many_classifiers():
    # 16 classifiers of 4 bits and error .3 each: the one with the fewest errors is chosen on the sample
    rng, n, p, delta, draws = np.random.default_rng(0), 60, 0.3, 0.1, 20_000
    least = rng.binomial(n, p, (draws, 16)).min(1)
    with_price = np.array([occam_limit(s, n, 4, delta) for s in range(n + 1)])[least]
    without = np.array([occam_limit(s, n, 0, delta) for s in range(n + 1)])[least]
    allowed = delta + 4 * math.sqrt(delta * (1 - delta) / draws)
    assert (with_price < p).mean() <= allowed
    assert (without < p).mean() > 3 * delta  # the mutation: forgetting the bits does not cover


def test_the_code_length_counts_all_parts():
    index = np.repeat([0, 1, 2], [5, 3, 2])
    code = code_length(index, 3, settings=8)
    ways = math.factorial(10) // (math.factorial(5) * math.factorial(3) * math.factorial(2))
    assert code.bits == pytest.approx(48 + math.log2(math.comb(12, 2)) + math.log2(ways) + 3, rel=1e-12)
    assert code_length(index, 4).codebook == 64  # a level that nobody uses is still in the codebook


def test_the_code_is_a_code():
    # Kraft: over all vectors of 4 entries with 3 levels, without codebook and choice, 2^-bits sums to 1
    total = 0.0
    for k in range(81):
        code = code_length(np.array([k // 3**j % 3 for j in range(4)]), 3)
        total += 2 ** -(code.counts + code.sequence)
    assert total == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: clopper_pearson(5, 3, 0.05), "5 errors among 3"),
        (lambda: clopper_pearson(0, 0, 0.05), "among 0"),
        (lambda: clopper_pearson(1, 3, 1.0), r"delta=1.0 is outside \(0, 1\)"),
        (lambda: occam_limit(1, 3, -1, 0.05), "-1 bits"),
        (lambda: occam_limit(-1, 3, 1, 0.05), "-1 errors"),
        (lambda: occam_limit(1, 3, math.inf, 0.05), "inf bits"),
        (lambda: kl_inverse(1.2, 0.1), "1.2 is outside"),
        (lambda: kl_inverse(0.2, -0.1), "-0.1 in nats"),
        (lambda: kl_inverse(0.2, math.nan), "nan in nats"),
        (lambda: code_length(np.array([0, 5]), 3), "outside 0..2"),
        (lambda: code_length(np.array([0.5]), 3), "whole numbers"),
        (lambda: code_length(np.array([0]), 3, settings=0), "settings=0"),
    ],
)
def test_bad_input_is_a_sentence(wrong, said):
    with pytest.raises(InputError, match=said):
        wrong()
