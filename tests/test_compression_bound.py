"""The a-posteriori bound on the distance of a compressed network against both networks, run in NumPy."""

from itertools import pairwise

import numpy as np
import pytest

from riron.theory.compression_bound import output_error_bound


def run(weights, X):
    """Outputs of a ReLU network."""
    for layer, W in enumerate(weights):
        X = (X if layer == 0 else np.maximum(X, 0)) @ W.T
    return X


def distance(a, b):
    """Root mean squared distance of the rows."""
    return np.sqrt(((a - b) ** 2).sum(1).mean())


@pytest.mark.parametrize("seed", range(20))
def test_no_compression_is_further_away_than_the_bound(seed):
    rng = np.random.default_rng(seed)
    widths = [5, *rng.integers(4, 12, size=rng.integers(1, 4)), 3]
    weights = [rng.normal(size=(b, a)) / a**0.5 for a, b in pairwise(widths)]
    kept = [np.sort(rng.permutation(m)[: rng.integers(1, m + 1)]) for m in widths[1:-1]]
    rows, columns = [*kept, np.arange(3)], [np.arange(5), *kept]
    cut = [W[np.ix_(r, c)] + 0.3 * rng.normal() for W, r, c in zip(weights, rows, columns, strict=True)]
    X = rng.normal(size=(200, 5))
    assert distance(run(weights, X), run(cut, X)) <= output_error_bound(X, weights, cut, kept) * (1 + 1e-12)


def test_bound_is_attained_by_one_layer_and_by_a_chain_of_single_nodes():
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(50, 4)), rng.normal(size=(3, 4))
    cut = W + rng.normal(size=W.shape)
    assert output_error_bound(X, [W], [cut], []) == pytest.approx(distance(X @ W.T, X @ cut.T), rel=1e-12)
    x, one = np.abs(X[:, :1]), np.ones((1, 1))
    chain, thinner = [one, 2 * one, 3 * one], [0.9 * one, 2 * one, 3 * one]
    kept = [np.array([0]), np.array([0])]
    exact = distance(run(chain, x), run(thinner, x))
    assert output_error_bound(x, chain, thinner, kept) == pytest.approx(exact, rel=1e-12)
    assert output_error_bound(x, chain, thinner, kept, lipschitz=0.9) < 0.9 * exact  # a wrong constant is caught
