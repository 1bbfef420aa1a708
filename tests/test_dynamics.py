"""Dynamics against exact second moments: every update of least squares is affine, so E u u^T obeys a linear recursion.

With u = (w, velocity, 1), a step with the batch i is u <- A_i u, and S <- mean_i A_i S A_i^T over all batches that can
occur, listed one by one in NumPy. Epochs: the mean over all orders of the product of their steps.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riron.dynamics import (
    Assembly,
    Full,
    Preconditioned,
    constant,
    cosine,
    gradient_descent,
    langevin,
    linear,
    sgd,
    table,
    warmup,
)
from riron.errors import InputError
from riron.lab.running import simulate
from riron.problems import LeastSquares, OnePass, from_arrays

pytestmark = pytest.mark.usefixtures("quick_compilation", "float64")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 2)), RNG.normal(size=5) + 1
RIDGE = 0.1
SEEDS = 4000


def affine(rows, step_size, momentum=0.0, nesterov=False):
    """A of u = (w, v, 1) for one batch: g = H w - b; v <- m v + g; w <- w - eta v, or w - eta (g + m v)."""
    rows, d = list(rows), X.shape[1]
    H = X[rows].T @ X[rows] / len(rows) + RIDGE * np.eye(d)
    b = X[rows].T @ Y[rows] / len(rows)
    g = np.hstack([H, np.zeros((d, d)), -b[:, None]])
    v = np.hstack([np.zeros((d, d)), momentum * np.eye(d), np.zeros((d, 1))]) + g
    move = g + momentum * v if nesterov else v
    w = np.hstack([np.eye(d), np.zeros((d, d + 1))]) - step_size * move
    return np.vstack([w, v, np.eye(2 * d + 1)[-1:]])


def batches(sampling, batch):
    rows = range(len(X))
    if sampling == "with-replacement":
        return list(itertools.product(rows, repeat=batch))
    return list(itertools.combinations(rows, batch))


def expected_loss(sampling, batch, steps, step_size, **momentum):
    """E train_loss after `steps` steps (whole epochs for epochs), from the start 0."""
    d = X.shape[1]
    u = np.zeros(2 * d + 1)
    u[-1] = 1
    if sampling == "epochs":
        per_epoch = len(X) // batch
        products = []
        for order in itertools.permutations(range(len(X))):
            A = np.eye(2 * d + 1)
            for k in range(per_epoch):
                A = affine(order[k * batch : (k + 1) * batch], step_size, **momentum) @ A
            products.append(A)
        assert steps % per_epoch == 0
        products, steps = np.stack(products), steps // per_epoch
    else:
        products = np.stack([affine(rows, step_size, **momentum) for rows in batches(sampling, batch)])
    S = np.outer(u, u)
    for _ in range(steps):
        S = np.einsum("kab,bc,kdc->ad", products, S, products) / len(products)
    residual = np.hstack([X, np.zeros_like(X), -Y[:, None]])
    return np.einsum("ia,ab,ib->i", residual, S, residual).mean() / 2


def gap(runs, exact):
    """Distance of the mean from the exact value, in standard errors."""
    values = runs.train_loss.values[:, -1]
    return abs(values.mean() - exact) / (values.std(ddof=1) / np.sqrt(len(values)))


HEAVY_BALL, NESTEROV = {"momentum": 0.6}, {"momentum": 0.6, "nesterov": True}


@pytest.mark.parametrize(
    ("sampling", "batch", "momentum"),
    [
        ("with-replacement", 1, {}),
        ("with-replacement", 2, HEAVY_BALL),
        ("with-replacement", 1, NESTEROV),
        ("without-replacement", 3, HEAVY_BALL),
        ("without-replacement", 4, {}),
        ("epochs", 1, {}),
        ("epochs", 1, HEAVY_BALL),
        ("epochs", 2, NESTEROV),
    ],
)
def test_sgd_has_its_exact_second_moments(sampling, batch, momentum):
    steps = 10
    problem = from_arrays(X, Y, ridge=RIDGE)
    dynamics = sgd(step_size=0.15, batch=batch, sampling=sampling, **momentum)
    runs = simulate(problem, dynamics, record=[0, steps], seeds=SEEDS)
    assert gap(runs, expected_loss(sampling, batch, steps, 0.15, **momentum)) < 4.2
    assert gap(runs, expected_loss(sampling, batch, steps, 0.15 * 1.25, **momentum)) > 6, "a wrong step must be seen"
    if sampling != "with-replacement" and batch < 4:
        assert gap(runs, expected_loss("with-replacement", batch, steps, 0.15, **momentum)) > 6


def test_every_row_is_seen_once_an_epoch():
    """With X = I a visit moves one coordinate, so after e epochs all of them stand at 1 - (1 - step)^e."""
    problem = from_arrays(np.eye(6), np.ones(6))
    for batch, steps_an_epoch in ((1, 6), (2, 3), (3, 2), (6, 1)):
        runs = simulate(problem, sgd(step_size=0.25 * batch, batch=batch, sampling="epochs"),
                        record=np.arange(5) * steps_an_epoch, seeds=4)  # fmt: skip
        expected = np.broadcast_to((1 - 0.25) ** (2 * np.arange(5)) / 2, (4, 5))
        np.testing.assert_allclose(runs.train_loss, expected, rtol=1e-12)


def test_rows_left_over_are_dropped_and_change_from_epoch_to_epoch():
    problem = from_arrays(np.eye(7), np.ones(7))
    runs = simulate(problem, sgd(step_size=3.0, batch=3, sampling="epochs"), record=[2], seeds=3)
    np.testing.assert_allclose(runs.train_loss, 1 / 14, rtol=1e-12)  # 6 of 7 fitted
    runs = simulate(problem, sgd(step_size=3.0, batch=3, sampling="epochs"), record=[40], seeds=3)
    np.testing.assert_allclose(runs.train_loss, 0, atol=1e-12)


@pytest.mark.parametrize("epoch", [0, 1])
def test_orders_are_uniform(epoch):
    """All 24 orders of 4 rows are equally likely, in the second epoch as in the first."""
    dynamics = sgd(step_size=1.0, sampling="epochs")
    problem = from_arrays(np.eye(4), np.ones(4))
    objective = problem.objective(problem.data)
    steps = 4 * (epoch + 1)

    def order(key):
        state = dynamics.init(objective, jnp.zeros(4))
        for t in range(steps):
            draw = dynamics.draw(jax.random.fold_in(key, t), objective, None)
            state, _ = dynamics.step(objective, state, draw, jnp.asarray(t))
        return state.memory

    trials = 4800
    orders = np.asarray(jax.jit(jax.vmap(order))(jax.random.split(jax.random.key(1), trials)))
    assert (np.sort(orders, axis=1) == np.arange(4)).all()
    counts = np.unique(orders @ 4 ** np.arange(4), return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 56.4  # 1e-4 of chi-square with 23 degrees of freedom


def test_one_pass_follows_its_exact_recursion():
    """M = E (w - s)(w - s)^T: M <- M - eta (SM + MS) + (eta^2/B)(2 SMS + tr(SM) S - SMS + noise S) + eta^2 SMS."""
    spectrum, noise, step_size, batch, steps = np.array([1.5, 0.5, 0.2]), 0.3, 0.1, 2, 30
    S, signal = np.diag(spectrum), np.array([1.0, -1.0, 0.5])
    M = np.outer(signal, signal)
    for _ in range(steps):
        one = S @ M @ S + np.trace(S @ M) * S + noise * S
        M = M - step_size * (S @ M + M @ S) + step_size**2 * (S @ M @ S + one / batch)
    runs = simulate(OnePass(LeastSquares(spectrum, signal, noise)), sgd(step_size=step_size, batch=batch),
                    record=[steps], seeds=SEEDS)  # fmt: skip
    values = runs.excess_risk.values[:, -1]
    error = values.std(ddof=1) / np.sqrt(SEEDS)
    assert abs(values.mean() - np.trace(S @ M) / 2) < 4.2 * error


def test_langevin_has_its_exact_covariance():
    step_size, temperature, steps = 0.1, 0.3, 25
    H, b = X.T @ X / len(X), X.T @ Y / len(X)
    mean, C = np.zeros(2), np.zeros((2, 2))
    for _ in range(steps):
        mean = mean - step_size * (H @ mean - b)
        A = np.eye(2) - step_size * H
        C = A @ C @ A + 2 * step_size * temperature * np.eye(2)
    exact = ((X @ mean - Y) ** 2).mean() / 2 + np.trace(H @ C) / 2
    run = lambda gradient: simulate(
        from_arrays(X, Y), langevin(step_size=step_size, temperature=temperature, gradient=gradient),
        record=[steps], seeds=SEEDS,
    )  # fmt: skip
    assert gap(run(None), exact) < 4.2
    assert gap(run(None), exact * 1.1) > 6


def test_preconditioned_langevin_keeps_the_temperature():
    """The factors change speed, not the stationary law: at small steps E train_loss = minimum + d temperature / 2."""
    from riron.dynamics.noises import Gaussian

    P, temperature, step_size, steps = np.array([2.0, 0.5]), 0.3, 0.02, 600
    dynamics = Assembly(step_size, Full(), Gaussian(temperature), Preconditioned(P))
    H, b = X.T @ X / len(X), X.T @ Y / len(X)
    A, C = np.eye(2) - step_size * np.diag(P) @ H, np.zeros((2, 2))
    for _ in range(steps):
        C = A @ C @ A.T + 2 * step_size * temperature * np.diag(P)
    least = ((X @ np.linalg.solve(H, b) - Y) ** 2).mean() / 2
    runs = simulate(from_arrays(X, Y), dynamics, record=[steps], seeds=1000)
    assert gap(runs, least + np.trace(H @ C) / 2) < 4.2
    np.testing.assert_allclose(np.trace(H @ C) / 2, temperature, rtol=0.03)


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.7}, {"momentum": 0.7, "nesterov": True}])
def test_gradient_descent_is_the_recursion(momentum):
    A, u = affine(range(5), 0.2, **momentum), np.eye(5)[-1]
    losses = []
    for _ in range(9):
        losses.append(((X @ u[:2] - Y) ** 2).mean() / 2)
        u = A @ u
    runs = simulate(from_arrays(X, Y, ridge=RIDGE), gradient_descent(step_size=0.2, **momentum),
                    record=np.arange(9), seeds=1)  # fmt: skip
    np.testing.assert_allclose(runs.train_loss[0], losses, rtol=1e-12)
    assert (runs.gradient_evaluations[0] == 5 * np.arange(9)).all()


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (lambda: constant(0.2), [0.2] * 5),
        (lambda: linear(0.4, 0.0, 4), [0.4, 0.3, 0.2, 0.1, 0.0]),
        (lambda: linear(0.4, 0.2, 2), [0.4, 0.3, 0.2, 0.2, 0.2]),
        (lambda: cosine(0.4, 4), [0.4, 0.2 * (1 + np.sqrt(0.5)), 0.2, 0.2 * (1 - np.sqrt(0.5)), 0.0]),
        (lambda: cosine(0.4, 2, 0.1), [0.4, 0.25, 0.1, 0.1, 0.1]),
        (lambda: warmup(0.4, 4), [0.1, 0.2, 0.3, 0.4, 0.4]),
        (lambda: warmup(linear(0.4, 0.0, 2), 2), [0.2, 0.4, 0.4, 0.2, 0.0]),
        (lambda: table([0.1, 0.3, 0.2, 0.5, 0.1]), [0.1, 0.3, 0.2, 0.5, 0.1]),
        (lambda: [0.1, 0.3, 0.2, 0.5, 0.1], [0.1, 0.3, 0.2, 0.5, 0.1]),
    ],
)
def test_schedules_have_their_values(schedule, values):
    """With X = 1, y = 1 a step of gradient descent multiplies 1 - w by 1 - step size."""
    runs = simulate(from_arrays(np.ones((1, 1)), np.ones(1)), gradient_descent(step_size=schedule()),
                    record=np.arange(6), seeds=1)  # fmt: skip
    expected = np.concatenate([[1], np.cumprod(1 - np.array(values))]) ** 2 / 2
    np.testing.assert_allclose(runs.train_loss[0], expected, rtol=1e-12)


def test_a_run_beyond_a_table_of_steps_is_refused():
    for step_size in ([0.1, 0.1], warmup(table([0.1]), 1)):
        with pytest.raises(InputError, match="step 3 and the schedule ends after 2"):
            simulate(from_arrays(X, Y), sgd(step_size=step_size), record=[3], seeds=1)


def test_the_same_keys_are_a_coupling():
    """Two step sizes on the same draws: their difference varies far less than with independent draws."""
    run = lambda step_size, seed: simulate(
        from_arrays(X, Y), sgd(step_size=step_size), record=[20], seeds=200, seed=seed
    ).train_loss.values[:, -1]
    coupled = np.var(run(0.10, 0) - run(0.12, 0))
    independent = np.var(run(0.10, 0) - run(0.12, 1))
    assert coupled < 0.2 * independent


def test_two_fine_langevin_draws_make_a_coarse_one():
    noise = langevin(step_size=0.1, temperature=0.2).noise
    shape = jnp.zeros(20_000)
    fine = [noise.draw(jax.random.key(k), shape) for k in (0, 1)]
    coarse = noise.coarsen(*fine)
    assert abs(coarse.var() - 1) < 4.5 * np.sqrt(2 / 20_000)
    np.testing.assert_allclose(noise(coarse, 0.2), noise(fine[0], 0.1) + noise(fine[1], 0.1), rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"batch": 0}, "batch=0 must be a whole number"),
        ({"batch": 2.5}, "batch=2.5 must be a whole number"),
        ({"sampling": "epoch"}, "did you mean 'epochs'"),
        ({"momentum": 1.0}, r"momentum=1 is outside \[0, 1\)"),
        ({"nesterov": True}, "without a momentum"),
        ({"step_size": -0.1}, "step_size=-0.1 must be finite and >= 0"),
        ({"step_size": np.nan}, "must be finite"),
        ({"step_size": np.ones((2, 2))}, "step_size has shape"),
        ({"step_size": lambda t: 0.1}, "pass table"),
    ],
)
def test_sgd_says_what_is_wrong(arguments, says):
    with pytest.raises(InputError, match=says):
        sgd(**({"step_size": 0.1} | arguments))


@pytest.mark.parametrize("dynamics", [gradient_descent(step_size=0.1), sgd(step_size=0.1, sampling="epochs")])
def test_a_stream_has_no_rows(dynamics):
    with pytest.raises(InputError, match="stream of fresh samples"):
        simulate(OnePass(LeastSquares(np.ones(2), np.ones(2))), dynamics, record=[1], seeds=1)


def test_batch_beyond_the_rows_is_refused():
    for sampling in ("with-replacement", "without-replacement", "epochs"):
        with pytest.raises(InputError, match="batch=6 is larger than the 5 samples"):
            simulate(from_arrays(X, Y), sgd(step_size=0.1, batch=6, sampling=sampling), record=[1], seeds=1)
