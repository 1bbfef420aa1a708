"""Degrees of freedom, ranks, tails, noise and Rademacher complexities against brute force and simulation."""

import itertools

import numpy as np
import pytest

from riron.errors import InputError
from riron.theory import marchenko_pastur as mp
from riron.theory.degrees_of_freedom import at_relative_levels, degrees_of_freedom, level_of_nodes, nodes_needed
from riron.theory.power_law_tail import power_law_tail, share_as_small
from riron.theory.rademacher import ball_complexity, local_complexity
from riron.theory.spectral_ranks import polynomial_decay, ranks, tail_sums


def moment(m=30, n=80, seed=0, decay=1.0):
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, m)) * np.arange(1, m + 1.0) ** -decay
    return phi, phi.T @ phi / n


def gram_values(W):
    return np.linalg.svd(W, compute_uv=False) ** 2


# Degrees of freedom


def test_degrees_of_freedom_are_the_trace():
    _, S = moment()
    lam = np.array([1e-4, 1e-2, 1.0])
    direct = [np.trace(np.linalg.solve(S + x * np.eye(30), S)) for x in lam]
    np.testing.assert_allclose(degrees_of_freedom(np.linalg.eigvalsh(S), lam), direct, rtol=1e-9)
    levels = at_relative_levels(np.linalg.eigvalsh(S), lam / np.trace(S) * 30)
    np.testing.assert_allclose(levels, direct, rtol=1e-9)
    np.testing.assert_array_equal(at_relative_levels(np.zeros(3), lam), 0)
    wrong = [np.trace(np.linalg.solve(S + 1.01 * x * np.eye(30), S)) for x in lam]
    assert not np.allclose(degrees_of_freedom(np.linalg.eigvalsh(S), lam), wrong, rtol=1e-9)


def test_level_of_nodes_is_the_inverse_and_the_smallest():
    mu = np.arange(1, 101.0) ** -2
    for delta, c in ((0.1, 5.0), (0.01, 2.0)):
        k = np.array([20.0, 100.0, 1000.0])
        lam = level_of_nodes(mu, k, delta, c)
        np.testing.assert_allclose(nodes_needed(degrees_of_freedom(mu, lam), delta, c), k, rtol=1e-9)
        assert (nodes_needed(degrees_of_freedom(mu, lam / 1.001), delta, c) > k).all()
    assert level_of_nodes(mu, 1.0, 0.1) > mu[0]


def test_ranks_of_known_spectra():
    flat = ranks(np.ones(7))
    assert (flat.numerical, flat.stable) == (7, pytest.approx(7))
    assert flat.entropy == pytest.approx(7)
    assert flat.participation == pytest.approx(7)
    two = ranks([4.0, 1.0, 1e-18, -1e-19])
    assert two.numerical == 2
    assert two.stable == pytest.approx(5 / 4)
    assert two.participation == pytest.approx(25 / 17)
    assert two.entropy == pytest.approx(np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2)))
    assert ranks(np.zeros(3)).stable == 0
    _, S = moment()
    found = ranks(np.linalg.eigvalsh(S))
    assert found.stable <= found.participation <= found.entropy <= found.numerical


def test_tail_sums_are_the_errors_of_the_best_projections():
    phi, S = moment()
    values, vectors = np.linalg.eigh(S)
    tails = tail_sums(values)
    for k in (0, 1, 12, 30):
        U = vectors[:, 30 - k :]
        error = ((phi - phi @ U @ U.T) ** 2).sum() / len(phi)
        assert tails[k] == pytest.approx(error, abs=1e-12)


def test_decay_of_exact_and_of_other_spectra():
    j = np.arange(1, 101.0)
    fit = polynomial_decay(3 * j**-1.7)
    assert fit is not None
    assert fit.exponent == pytest.approx(1.7)
    assert (fit.first, fit.last) == (3, 50)
    assert fit.residual < 1e-12
    fast = polynomial_decay(np.exp(-j))
    assert fast is not None
    assert fast.last == 24  # 1e-10 of the largest
    assert fast.residual > 0.3
    assert polynomial_decay(np.ones(4)) is None


# Tails


def exponent_of(x):
    fit = power_law_tail(x)
    assert fit is not None
    return fit.alpha


def weightwatcher(x):
    """The loop of WeightWatcher 0.7.7: alpha and the number of points in its tail."""
    x = np.sort(x)
    log, N, found = np.log(x), len(x), []
    for i in range(N - 1):
        n, few = N - i, N < 20
        if few and n < 8:
            continue
        alpha = 1 + (n - few) / (log[i:].sum() - n * log[i])
        found.append((np.abs(1 - (x[i:] / x[i]) ** (1 - alpha) - np.arange(n) / n).max(), alpha, n))
    return min(found)[1:]


@pytest.mark.parametrize("n", [8, 12, 19, 20, 57, 300])
def test_exponent_is_that_of_the_loop(n):
    rng = np.random.default_rng(n)
    for scale in (0.3, 1.0, 2.0):
        for x in (np.exp(scale * rng.normal(size=n)), (1 - rng.random(n)) ** -scale):
            fit = power_law_tail(np.append(x, [1e-6, 0.0]))
            assert fit is not None
            alpha, tail = weightwatcher(x)
            assert fit.alpha == pytest.approx(alpha)
            assert (fit.tail, fit.n) == (tail, n)
            assert fit.sigma == pytest.approx((alpha - 1) / np.sqrt(tail))


@pytest.mark.parametrize(("exponent", "sd"), [(2, 0.09), (3, 0.16), (5, 0.40)])
def test_exponent_of_pareto_samples(exponent, sd):
    rng = np.random.default_rng(exponent)
    found = [exponent_of((1 - rng.random(300)) ** (-1 / (exponent - 1))) for _ in range(150)]
    assert np.mean(found) == pytest.approx(exponent, abs=0.01 * exponent + 4 * sd / np.sqrt(150))
    assert np.std(found) == pytest.approx(sd, rel=0.3)
    assert abs(np.mean(found) - 1.05 * exponent) > 4 * sd / np.sqrt(150)  # a wrong constant would show


def test_noise_in_a_small_layer_reads_as_well_trained():
    rng = np.random.default_rng(0)
    found = [exponent_of(gram_values(rng.normal(size=(128, 10)))) for _ in range(200)]
    assert np.mean([2 < alpha < 6 for alpha in found]) > 0.95


def test_few_eigenvalues_or_equal_ones_have_no_exponent():
    assert power_law_tail(np.arange(1, 8.0)) is None
    assert power_law_tail(np.ones(30)) is None
    assert power_law_tail(np.full(30, 1e-6)) is None


def test_share_as_small_counts_itself():
    assert share_as_small(0.5, [1.0, 2.0, 3.0]) == 0.25
    assert share_as_small(2.0, [1.0, 2.0, 3.0]) == 0.75


# Noise


def test_bulk_has_the_marchenko_pastur_law():
    rng = np.random.default_rng(0)
    N, M, s2 = 600, 200, 2.5
    values = np.sort(gram_values(np.sqrt(s2) * rng.normal(size=(N, M))) / N)
    empirical = np.arange(1, M + 1) / M

    def distance(variance):
        x = np.linspace(*mp.edges(N, M, variance), 4001)
        below = np.cumsum(mp.density(x, N, M, variance)) * (x[1] - x[0])
        assert below[-1] == pytest.approx(1, abs=1e-3)
        return np.abs(np.interp(values, x, below) - empirical).max()

    assert distance(s2) < 0.02
    assert distance(1.08 * s2) > 0.05
    np.testing.assert_array_equal(mp.density([-1.0, 0.0, 100.0], N, M, s2), 0)


def test_edge_and_its_fluctuation():
    rng = np.random.default_rng(1)
    N, M, draws = 200, 100, 500
    largest = np.array([np.linalg.norm(rng.normal(size=(N, M)), 2) ** 2 / N for _ in range(draws)])
    edge, sd = mp.edges(M, N)[1], mp.edge_fluctuation(N, M)
    assert edge == pytest.approx((1 + np.sqrt(0.5)) ** 2)
    assert largest.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * draws) + 0.05)
    shift = (largest.mean() - edge) / sd * mp.TRACY_WIDOM_SD
    assert shift == pytest.approx(-1.2065, abs=4 * 1.268 / np.sqrt(draws) + 0.1)


def test_spikes_are_those_planted():
    rng = np.random.default_rng(2)
    N, M = 300, 100
    u, v = np.linalg.qr(rng.normal(size=(N, 3)))[0], np.linalg.qr(rng.normal(size=(M, 3)))[0]
    noise = 0.3 * rng.normal(size=(N, M))
    detectable = 0.3 * (N * M) ** 0.25  # singular value at which a spike leaves the bulk
    for factors, count in (((2.0, 2.5, 40.0), 3), ((0.3, 0.3, 40.0), 1), ((0.2, 0.3, 0.4), 0)):
        W = noise + (u * np.array(factors) * detectable) @ v.T
        bulk = mp.bulk_and_spikes(gram_values(W), N, M)
        assert bulk.spikes == count
        assert bulk.variance == pytest.approx(0.09, rel=0.05)
        assert mp.bulk_and_spikes(gram_values(W.T), M, N).threshold == pytest.approx(bulk.threshold)


def test_noise_has_no_spikes():
    rng = np.random.default_rng(3)
    alarms = sum(mp.bulk_and_spikes(gram_values(rng.normal(size=(40, 25))), 40, 25).spikes > 0 for _ in range(2000))
    assert alarms <= 8  # 4e-4 each; 9 or more have probability 1e-5 at twice that


# Rademacher complexities


def test_complexities_are_suprema_over_all_signs():
    rng = np.random.default_rng(4)
    phi, B, r = rng.normal(size=(10, 2)) * [2.0, 0.3], 0.7, 0.4
    S = phi.T @ phi / 10
    angle = np.linspace(0, 2 * np.pi, 3000)
    w = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inside = {
        "ball": B * w,
        "local": w / np.sqrt((w**2).sum(1) / B**2 + np.einsum("ai,ij,aj->a", w, S, w) / r**2)[:, None],
    }
    signs = np.array(list(itertools.product((-1, 1), repeat=10)))
    exact = {name: (signs @ phi / 10 @ weights.T).max(axis=1).mean() for name, weights in inside.items()}
    found = {"ball": ball_complexity(phi, B, 40_000), "local": local_complexity(phi, B, r, 40_000)}
    for name, (mean, error) in found.items():
        assert error < 0.01 * mean
        assert abs(mean - exact[name]) < 4.2 * error + 1e-5, name
        assert abs(1.05 * mean - exact[name]) > 4.2 * error, name  # a wrong constant would show


def test_local_complexity_is_given_by_the_degrees_of_freedom():
    phi, S = moment(m=128, n=2000, decay=0.3)
    values = np.linalg.eigvalsh(S)
    B, r = 2.0, 0.5
    mean, error = local_complexity(phi, B, r, 100)
    bound = r * np.sqrt(degrees_of_freedom(values, r**2 / B**2) / len(phi))
    assert mean - 4.2 * error < bound
    assert mean == pytest.approx(bound, rel=0.02)
    ball, _ = ball_complexity(phi, B, 100)
    assert mean < ball < B * np.sqrt(np.trace(S) / len(phi))
    wide, spread = local_complexity(phi, B, 1e6, 100)  # without the ellipsoid it is the ball
    assert wide == pytest.approx(ball, abs=5 * spread)


def test_more_features_than_samples():
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(6, 40))
    S = phi.T @ phi / 6
    signs = np.array(list(itertools.product((-1, 1), repeat=6)))
    g = signs @ phi / 6
    exact = np.sqrt((g * np.linalg.solve(np.eye(40) / 0.5**2 + S / 0.2**2, g.T).T).sum(axis=1)).mean()
    mean, error = local_complexity(phi, 0.5, 0.2, 20_000)
    assert abs(mean - exact) < 4.2 * error + 1e-12


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: degrees_of_freedom([1.0], 0.0), "lam=0 must be > 0"),
        (lambda: degrees_of_freedom([1.0, np.nan], 1.0), "eigenvalues holds 1 value that is not finite"),
        (lambda: degrees_of_freedom([[1.0]], 1.0), "eigenvalues must have 1 dimensions"),
        (lambda: nodes_needed(3.0, 1.0), r"delta=1.0 is outside \(0, 1\)"),
        (lambda: nodes_needed(3.0, 0.1, -1.0), "constant=-1.0 must be a finite number > 0"),
        (lambda: level_of_nodes([0.0, 0.0], 3.0, 0.1), "spectrum is zero"),
        (lambda: level_of_nodes([1.0], 0.0, 0.1), "nodes=0 must be > 0"),
        (lambda: polynomial_decay(np.ones(9), 0), r"0\.\.4 is outside 1\.\.9"),
        (lambda: polynomial_decay(np.ones(9), 3, 10), r"3\.\.10 is outside 1\.\.9"),
        (lambda: power_law_tail([1.0, np.inf]), "not finite"),
        (lambda: share_as_small(np.nan, [1.0]), "value=nan must be finite"),
        (lambda: share_as_small(1.0, []), "draws is empty"),
        (lambda: mp.edges(0, 3), "0 x 3 has no spectrum"),
        (lambda: mp.edges(3, 3, -1.0), "variance=-1.0"),
        (lambda: mp.bulk_and_spikes([1.0, 2.0], 5, 3), "2 eigenvalues are not those of 1 matrices of 5 x 3"),
        (lambda: mp.bulk_and_spikes([0.0, 0.0], 5, 2), "matrix is zero"),
        (lambda: ball_complexity(np.ones(3), 1.0), "features must have 2 dimensions"),
        (lambda: ball_complexity(np.ones((3, 1)), 0.0), "B=0.0 must be"),
        (lambda: local_complexity(np.ones((3, 1)), 1.0, -1.0), "r=-1.0 must be"),
        (lambda: local_complexity(np.ones((3, 1)), 1.0, 1.0, 1), "draws=1 gives no standard error"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(InputError, match=says):
        call()
