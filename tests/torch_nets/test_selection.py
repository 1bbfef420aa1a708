"""Greedy choice, leverage sampling and width allocation against direct formulas."""

import numpy as np
import pytest

from riron.theory.degrees_of_freedom import degrees_of_freedom
from riron.theory.node_selection import (
    Target,
    greedy,
    leverage_sample,
    leverage_scores,
    loss_of,
    residual_moment,
    swap,
    target,
)
from riron.torch.widths import marginal


def problem(m=24, p=7, seed=0, decay=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(300, m)) @ np.diag(np.arange(1, m + 1.0) ** -decay) @ rng.normal(size=(m, m))
    return X.T @ X / 300, rng.normal(size=(p, m))


@pytest.mark.parametrize("p", [3, 7, 60])
def test_greedy_curve_is_the_residual_in_the_metric(p):
    S, Z = problem(m=90, p=p)
    tau = 1e-4
    choice = greedy([target(S, Z=Z)], 80, tau=tau)
    level = tau * np.trace(S) / len(S)
    for k in (1, 2, 5, 40, 64, 65, 80):
        R = residual_moment(S, choice.order[:k], level)
        exact = np.trace(Z @ R @ Z.T)
        assert choice.losses[k] == pytest.approx(exact, rel=1e-8, abs=1e-9 * choice.losses[0])
    assert choice.losses[0] == pytest.approx(np.trace(Z @ S @ Z.T), rel=1e-9)


def test_greedy_takes_the_best_node_at_every_step():
    S, Z = problem(m=10, p=4)
    t = target(S, Z=Z)
    chosen = []
    for j in greedy([t], 4).order:
        losses = [loss_of([t], np.array([*chosen, i])) if i not in chosen else np.inf for i in range(10)]
        assert int(np.argmin(losses)) == j
        chosen.append(int(j))


def test_several_readers_are_added():
    S, Z = problem(m=12, p=4)
    S2, Z2 = problem(m=12, p=5, seed=1)
    parts = [target(S, Z=Z, weight=0.3), target(S2, Z=Z2, weight=2.0)]
    choice = greedy(parts, 6)
    assert choice.losses[6] == pytest.approx(loss_of(parts, choice.order), rel=1e-8)


def test_a_metric_and_its_root_are_one():
    S, Z = problem()
    a, b = greedy([target(S, Z=Z)], 12), greedy([target(S, M=Z.T @ Z)], 12)
    np.testing.assert_array_equal(a.order, b.order)
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-7, atol=1e-10 * a.losses[0])


def test_no_choice_beats_the_tail_sum():
    S, _ = problem(m=30)
    values = np.linalg.eigvalsh(S)[::-1]
    tail = np.concatenate([[values.sum()], values.sum() - np.cumsum(values)])
    losses = greedy([target(S)], 30).losses
    assert (losses >= tail - 1e-10 * tail[0]).all()
    assert (losses[:20] < 6 * tail[:20] + 1e-3 * tail[0]).all()


def test_dead_nodes_come_last():
    S, Z = problem(m=20)
    dead = [3, 4, 11]
    S[dead], S[:, dead] = 0, 0
    assert set(greedy([Target(S, Z)], 20).order[-3:]) == set(dead)


def test_swap_never_makes_it_worse():
    S, Z = problem(m=16, p=5)
    t = target(S, Z=Z)
    start = np.arange(5)
    better = swap([t], start)
    assert len(set(better)) == 5
    assert loss_of([t], better) < loss_of([t], start)
    assert loss_of([t], better) <= 1.05 * loss_of([t], greedy([t], 5).order)


def test_leverage_sampling_keeps_its_theorem_and_a_quarter_of_it_does_not():
    m, lam, delta = 200, 1e-2, 0.1
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(m, m)))[0]
    S = Q @ np.diag(np.arange(1, m + 1.0) ** -2) @ Q.T
    N = degrees_of_freedom(np.linalg.eigvalsh(S), lam)
    assert pytest.approx(1) == leverage_scores(S, lam).sum()
    worst = {}
    for c in (5, 0.1):
        k = int(np.ceil(c * N * np.log(16 * N / delta)))
        norms = []
        for _ in range(10):
            nodes, tau = leverage_sample(S, lam, k, rng)
            norms.append(np.linalg.norm(residual_moment(S, nodes, tau), 2) / lam)
        worst[c] = max(norms)
    assert worst[5] <= 4 < worst[0.1]


def test_marginal_widths_balance_error_against_cost():
    curves = {"a": 10.0 * 0.5 ** np.arange(33), "b": 10.0 * 0.8 ** np.arange(33)}
    cost = lambda w: w["a"] + w["b"]
    widths = marginal(curves, cost, budget=24)
    assert cost(widths) == 24
    best = min((curves["a"][a] + curves["b"][24 - a], a) for a in range(1, 24))
    assert widths["a"] == best[1]
    assert sum(curves[n][k] for n, k in marginal(curves, cost, most=0.5).items()) <= 0.5
