"""PAC-Bayes-kl covers on a problem whose errors are known, and its prices are what they are said to be."""

import math

import numpy as np
import pytest

from riron.errors import InputError
from riron.guarantees.binomial_limits import kl_inverse
from riron.guarantees.pac_bayes import (
    counted_price,
    gaussian_kl,
    gibbs_monte_carlo_limit,
    listed_price,
    pac_bayes_kl_limit,
)


def test_the_limit_is_maurers():
    n, delta = 400, 0.05
    c = (3.0 + math.log(2 * math.sqrt(n) / delta)) / n
    assert pac_bayes_kl_limit(0.1, 3.0, n, delta) == pytest.approx(kl_inverse(0.1, c), rel=1e-12)
    # without the root of n, or without the 2, the limit is another one
    for wrong in (math.log(2 / delta), math.log(math.sqrt(n) / delta), math.log(2 * n / delta)):
        assert abs(pac_bayes_kl_limit(0.1, 3.0, n, delta) - kl_inverse(0.1, (3.0 + wrong) / n)) > 5e-4


def thresholds(draws, n, delta, seed):
    """Threshold classifiers on uniform inputs with 20 % label noise; Q is chosen on the sample, its error is known."""
    rng = np.random.default_rng(seed)
    t = (np.arange(50) + 0.5) / 50
    truth = 0.2 + 0.6 * np.abs(t - 0.4)
    limits, errors, prices = [], [], []
    for _ in range(draws):
        x = rng.random(n)
        y = (x > 0.4) ^ (rng.random(n) < 0.2)
        losses = ((x[:, None] > t) != y[:, None]).mean(0)
        for sharp in (0.0, n / 2, 3.0 * n):
            q = np.exp(-sharp * (losses - losses.min()))
            q /= q.sum()
            kl = float((q[q > 0] * np.log(50 * q[q > 0])).sum())
            limits.append(pac_bayes_kl_limit(float(q @ losses), max(kl, 0.0), n, delta))
            errors.append(float(q @ truth))
            prices.append(kl_inverse(float(q @ losses), math.log(1 / delta) / n))
    shape = (draws, 3)
    return tuple(np.array(v).reshape(shape) for v in (limits, errors, prices))


def test_it_covers_all_posteriors_at_once():
    draws, delta = 600, 0.1
    limits, errors, _ = thresholds(draws, 30, delta, seed=0)
    missed = (limits < errors).any(1).mean()
    assert missed <= delta + 4 * math.sqrt(delta * (1 - delta) / draws)
    assert np.median(limits[:, 1]) < 0.75  # it says something


def test_a_limit_without_the_kl_does_not_cover():
    # many classifiers that are all coins: the sharp posterior looks good on the sample
    rng, n, many, delta, draws = np.random.default_rng(1), 50, 400, 0.05, 200
    with_price, without = 0, 0
    for _ in range(draws):
        best = rng.binomial(n, 0.5, many).min() / n
        with_price += pac_bayes_kl_limit(best, math.log(many), n, delta) < 0.5
        without += pac_bayes_kl_limit(best, 0.0, n, delta) < 0.5
    allowed = delta * draws + 4 * math.sqrt(delta * draws)
    assert with_price <= allowed < without


def test_gaussian_kl_is_the_closed_form_and_the_mean_of_the_log_ratio():
    rng = np.random.default_rng(0)
    m, s, m0, s0 = rng.normal(size=5), rng.uniform(0.3, 2, 5), rng.normal(size=5), rng.uniform(0.5, 2, 5)
    w = m + s * rng.normal(size=(200_000, 5))
    log = lambda w, m, s: (-0.5 * ((w - m) / s) ** 2 - np.log(s)).sum(1)
    ratio = log(w, m, s) - log(w, m0, s0)
    assert abs(gaussian_kl(m, s, m0, s0) - ratio.mean()) < 5 * ratio.std() / math.sqrt(len(w))
    assert gaussian_kl(m, 0.3, m0, 0.3) == pytest.approx(((m - m0) ** 2).sum() / (2 * 0.3**2), rel=1e-12)
    assert gaussian_kl(m, s, m, s) == 0.0
    assert gaussian_kl(0.0, 1 + 1e-6, 0.0, 1.0) == pytest.approx(1e-12, rel=1e-3)  # no cancellation
    assert gaussian_kl(np.zeros(3), 2.0, 0.0, 1.0) == pytest.approx(3 * (1.5 - math.log(2)), rel=1e-12)


def test_the_monte_carlo_limit_covers_losses_of_different_means():
    rng, delta, draws = np.random.default_rng(0), 0.1, 20_000
    means = rng.uniform(0, 0.3, 60)
    drawn = (rng.random((draws, 60)) < means).mean(1)
    limits = {v: gibbs_monte_carlo_limit(v, 60, delta) for v in np.unique(drawn)}
    missed = np.mean([limits[v] < means.mean() for v in drawn])
    assert missed <= delta + 4 * math.sqrt(delta * (1 - delta) / draws)


def test_prices_are_those_of_a_union():
    assert sum(math.exp(-counted_price(j)) for j in range(1, 200_000)) == pytest.approx(1.0, abs=1e-5)
    assert listed_price(20) == pytest.approx(math.log(20))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: pac_bayes_kl_limit(0.1, 1.0, 7, 0.05), "needs 8 examples and there are 7"),
        (lambda: pac_bayes_kl_limit(0.1, -1.0, 70, 0.05), "-1.0 is negative"),
        (lambda: pac_bayes_kl_limit(0.1, math.nan, 70, 0.05), "nan is negative or not"),
        (lambda: pac_bayes_kl_limit(0.1, 1.0, 70, 0.0), r"delta=0.0 is outside \(0, 1\)"),
        (lambda: pac_bayes_kl_limit(1.1, 1.0, 70, 0.1), "1.1 is outside"),
        (lambda: gaussian_kl(0.0, 0.0, 0.0, 1.0), "not positive"),
        (lambda: gaussian_kl(np.zeros(3), 1.0, np.zeros(2), 1.0), "do not fit"),
        (lambda: gibbs_monte_carlo_limit(0.1, 0, 0.05), "0 draws"),
        (lambda: counted_price(0), "choice number 0"),
        (lambda: listed_price(0), "among 0"),
    ],
)
def test_bad_input_is_a_sentence(wrong, said):
    with pytest.raises(InputError, match=said):
        wrong()
