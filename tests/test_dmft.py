"""Dynamical mean-field theory against closed forms of least squares and against direct simulations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from overlap_checks import check_overlaps

from riron.problems import TeacherStudent
from riron.theory import dmft
from riron.theory.dmft import solving
from riron.theory.dmft.clocks import CLOCKS, Place, Rate
from riron.theory.dmft.past import plan

pytestmark = pytest.mark.usefixtures("quick_compilation")


def solve(problem, **options):
    """The theory, its overlaps checked."""
    return check_overlaps(dmft.solve(problem, **options), problem)


def marchenko_pastur(delta, nodes=2000):
    """Nodes and weights of the law of the eigenvalues of X^T X / delta, the mass at 0 last."""
    low, high = (1 - delta**-0.5) ** 2, (1 + delta**-0.5) ** 2
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    x = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    weight = delta * ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * np.pi * x) * np.pi / nodes
    return np.append(x, 0.0), np.append(weight, max(0.0, 1 - delta))


def least_squares(
    delta, dt, steps, *, noise, ridge=0.0, rho=1.0, overlap=0.0, start=1.0, variance=0.0, momentum=0.0, factor=None
):
    """train_loss, test_loss, overlap, self_overlap of SGD on least squares, mode by mode of X^T X / delta.

    Along a mode of eigenvalue x the parameter is a combination of its start, the teacher and the noise, plus a
    fluctuation, fed by `variance` = Var(c) of the clock.
    """
    x, weight = marchenko_pastur(delta)
    S = np.array([[start, overlap, 0], [overlap, rho, 0], [0, 0, noise]])
    square = lambda a: np.einsum("xi,ij,xj->x", a, S, a)
    a = last = np.tile([1.0, 0.0, 0.0], (len(x), 1))
    v, found = np.zeros(len(x)), []
    factor = np.ones(steps + 1) if factor is None else factor
    variance = np.broadcast_to(variance, steps + 1)
    for k in range(steps + 1):
        error = a - [0, 1, 0]
        each = square(np.sqrt(delta * x)[:, None] * error - [0, 0, 1]) + delta * x * v
        L2 = (weight * (x > 0)) @ each / delta + max(0, 1 - 1 / delta) * noise
        test = weight @ (square(error) + v) + noise
        found.append((L2 / 2, test / 2, weight @ (a @ S)[:, 1], weight @ (square(a) + v)))
        h = dt * factor[k]
        beta = momentum * factor[k] / factor[k - 1] if k else momentum
        pull = h * (ridge * a + x[:, None] * error - np.sqrt(x / delta)[:, None] * [0, 0, 1])
        a, last = a - pull + beta * (a - last), a
        v = (1 - h * (ridge + x)) ** 2 * v + variance[k] * factor[k] ** 2 / delta * x * L2
    return dict(zip(("train_loss", "test_loss", "overlap", "self_overlap"), np.array(found).T, strict=True))


def linear(**options):
    return TeacherStudent(50, label_noise=0.3, **options)


COMMON = {"paths": 4096, "groups": 8}
WIDE = {"teacher_gram": 4.0, "overlap": 0.6, "start_gram": 1.5}


@pytest.mark.parametrize(
    ("problem", "options", "exact", "rtol"),
    [
        (linear(**WIDE, ridge=0.1 / 50), {"delta": 0.5, "dt": 0.3, "blocks": (24, 4)},
         {"delta": 0.5, "dt": 0.3, "ridge": 0.1, "rho": 4.0, "overlap": 0.6, "start": 1.5}, 5e-3),
        # Beyond the stability edge: the loss grows by 10^5, and the theory follows.
        (linear(), {"delta": 2.0, "dt": 0.8, "ridge": 0.1, "blocks": None},
         {"delta": 2.0, "dt": 0.8, "ridge": 0.1}, 5e-3),
        (linear(), {"delta": 2.0, "dt": 0.1, "momentum": 0.8, "step_schedule": lambda t: 1 / (1 + t)},
         {"delta": 2.0, "dt": 0.1, "momentum": 0.8, "factor": 1 / (1 + 0.1 * np.arange(25))}, 5e-3),
        (linear(), {"delta": 2.0, "dt": 0.1, "blocks": None}, {"delta": 2.0, "dt": 0.1}, 1e-4),
    ],
)  # fmt: skip
def test_gradient_descent_on_least_squares_is_exact(problem, options, exact, rtol):
    """No chance is left: with samples matched in their first two moments, a linear theory has no Monte Carlo error."""
    steps = 24
    line = solve(problem, horizon=steps * options["dt"], key=1, **COMMON, **options)
    for name, value in least_squares(steps=steps, noise=0.3, **exact).items():
        np.testing.assert_allclose(line[name], value, rtol=rtol, atol=2e-3, err_msg=name)


def chi(line, name, value):
    """Largest deviation in standard errors along a line."""
    return float(np.max(np.abs(line[name].values - value)[1:] / line[f"{name}_stderr"].values[1:]))


@pytest.mark.parametrize(("clock", "spread"), [("bernoulli", 0.75 / 0.25), ("poisson", 1 / 0.25)])
def test_batches_on_least_squares_follow_the_volterra_recursion(clock, spread):
    dt, steps = 0.3, 20
    line = solve(
        linear(teacher_gram=4.0), delta=2.0, horizon=steps * dt, dt=dt, clock=clock, batch_fraction=0.25,
        record=dt * np.array([0, 3, 10, 20]), paths=16_384, groups=16, key=2,
    )  # fmt: skip
    recursion = lambda spread: {
        name: value[[0, 3, 10, 20]]
        for name, value in least_squares(2.0, dt, steps, noise=0.3, rho=4.0, variance=dt**2 * spread).items()
    }
    for name, value in recursion(spread).items():
        assert chi(line, name, value) < 6.5, name  # t quantile at 15 degrees of freedom
    for wrong in (spread * 1.3, spread / 1.3):
        assert chi(line, "train_loss", recursion(wrong)["train_loss"]) > 6.5


def test_batches_that_grow_follow_the_recursion():
    dt, steps = 0.3, 20
    grown = lambda t: 1 + t / 2
    line = solve(
        linear(), delta=2.0, horizon=steps * dt, dt=dt, batch_fraction=0.1, batch_schedule=grown, record=[3.0, 6.0],
        paths=32_768, groups=16, key=4,
    )  # fmt: skip
    share = 0.1 * grown(dt * np.arange(steps + 1))
    exact = least_squares(2.0, dt, steps, noise=0.3, variance=dt**2 * (1 / share - 1))
    for name in ("train_loss", "test_loss"):
        error = 6.5 * line[f"{name}_stderr"].values + 0.01 * line[name].values
        np.testing.assert_array_less(np.abs(line[name].values - exact[name][[10, 20]]), error)
        constant = least_squares(2.0, dt, steps, noise=0.3, variance=dt**2 * 9)[name][[10, 20]]
        assert (np.abs(line[name].values - constant) > error).any()


def test_small_batches_are_the_limit_of_small_steps():
    line = solve(
        linear(), delta=2.0, horizon=4.0, dt=0.2, sgd_temperature=0.8, record=[0, 2.0, 4.0], paths=16_384, groups=16
    )
    steps = 2000
    exact = least_squares(2.0, 0.002, steps, noise=0.3, variance=0.8 * 2.0 * 0.002)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_array_less(
            np.abs(line[name].values - exact[name][[0, 1000, 2000]]),
            6.5 * line[f"{name}_stderr"].values + 0.01 * line[name].values,
        )
        assert line[f"{name}_dt_error"][0] == pytest.approx(0, abs=1e-9)  # both resolutions start alike
    without = least_squares(2.0, 0.002, steps, noise=0.3)["train_loss"][-1]
    assert line.train_loss[-1] - without > 0.1 * without


def test_correlation_and_response_of_least_squares():
    dt, times = 0.1, [0.0, 0.5, 1.5, 2.4]
    line = solve(linear(**WIDE), delta=2.0, horizon=2.4, dt=dt, correlations_at=times, blocks=None, **COMMON)
    x, weight = marchenko_pastur(2.0)
    S = np.array([[1.5, 0.6, 0], [0.6, 4.0, 0], [0, 0, 0.3]])
    a = [np.tile([1.0, 0.0, 0.0], (len(x), 1))]
    for _ in range(24):
        a.append(a[-1] - dt * (x[:, None] * (a[-1] - [0, 1, 0]) - np.sqrt(x / 2)[:, None] * [0, 0, 1]))
    steps = [0, 5, 15, 24]
    C = [[weight @ np.einsum("xi,ij,xj->x", a[k], S, a[s]) for s in steps] for k in steps]
    R = [[weight @ (1 - dt * x) ** (k - s - 1) if s < k else 0.0 for s in steps] for k in steps]
    np.testing.assert_allclose(line.correlation, C, rtol=1e-3)
    np.testing.assert_allclose(line.response, R, atol=1e-3)


def test_correlation_and_response_of_a_tanh_unit_are_those_of_a_run():
    """Response: what a kick at step s has become at step t, in a run beside an equal one without the kick."""
    d, dt, steps, kicked, seeds = 300, 0.25, 12, 4, 24
    rng, found = np.random.default_rng(5), []
    for _ in range(seeds):
        X, star, start = rng.normal(size=(2 * d, d)) / np.sqrt(d), rng.normal(size=d), rng.normal(size=d)
        star *= np.sqrt(2.0 * d) / np.linalg.norm(star)
        start *= np.sqrt(d) / np.linalg.norm(start)
        y, kick = np.tanh(X @ star) + 0.3 * rng.normal(size=2 * d), 1e-5 * rng.normal(size=d)
        runs = []
        for size in (0, 1):
            theta, path = start, [start]
            for k in range(steps):
                r = X @ theta
                theta = theta - dt / 2 * X.T @ ((np.tanh(r) - y) * (1 - np.tanh(r) ** 2))
                theta = theta + size * kick * (k == kicked)
                path.append(theta)
            runs.append(np.array(path))
        moved = (runs[1] - runs[0])[[8, 12]] @ kick / (kick @ kick)
        found.append([*moved, runs[0][12] @ runs[0][4] / d, runs[0][8] @ runs[0][0] / d])
    found = np.array(found)
    times = dt * np.array([0, 4, 8, 12])
    problem = TeacherStudent(50, activation="tanh", link="tanh", teacher_gram=2.0, label_noise=0.09)
    line = solve(problem, delta=2.0, horizon=3.0, dt=dt, correlations_at=times, paths=32_768, groups=8)
    R, C = line.response.values, line.correlation.values
    values = np.array([R[2, 1], R[3, 1], C[3, 1], C[2, 0]])
    error = np.hypot(found.std(axis=0, ddof=1) / np.sqrt(seeds), [
        line.response_stderr.values[2, 1], line.response_stderr.values[3, 1],
        line.correlation_stderr.values[3, 1], line.correlation_stderr.values[2, 0],
    ])  # fmt: skip
    np.testing.assert_array_less(np.abs(values - found.mean(axis=0)), 5 * error + 0.005)
    assert abs(R[3, 1] - R[2, 1]) > 5 * error[0] + 0.01  # the wrong step would be seen


def direct(
    rng, d, delta, steps, dt, *, gradient, measure, m=1, teacher=None, noise=0.0, fraction=None, epochs=False, seeds=16
):
    """Mean and standard error over seeds of `measure` of SGD, written out for a student of m units."""
    runs, n = [], round(delta * d)
    for _ in range(seeds):
        basis = np.linalg.qr(rng.normal(size=(d, m + teacher.shape[0])))[0] * np.sqrt(d)
        theta, star = basis[:, :m], basis[:, m:] @ np.linalg.cholesky(teacher).T
        X, z = rng.normal(size=(n, d)) / np.sqrt(d), rng.normal(size=n)
        r_star = X @ star
        for k in range(steps):
            r = X @ theta
            if fraction is None:
                weight = np.ones(n)
            elif epochs:
                size = round(fraction * n)
                if k % round(1 / fraction) == 0:
                    order = rng.permutation(n)
                place = k % round(1 / fraction)
                weight = np.isin(np.arange(n), order[place * size : (place + 1) * size]) / fraction
            else:
                weight = np.isin(np.arange(n), rng.permutation(n)[: round(fraction * n)]) / fraction
            theta = theta - dt / delta * X.T @ (weight[:, None] * gradient(r, r_star, np.sqrt(noise) * z))
        runs.append(measure(X @ theta, r_star, np.sqrt(noise) * z, theta.T @ theta / d, theta.T @ star / d))
    runs = np.array(runs)
    return runs.mean(axis=0), runs.std(axis=0, ddof=1) / np.sqrt(seeds)


def agree(line, dots, errors, names, finite_size):
    """The largest deviation, in the sum of 4.5 standard errors and of what finite d is allowed."""
    worst = 0.0
    for name, dot, error in zip(names, dots, errors, strict=True):
        value, own = line[name].values[-1], line[f"{name}_stderr"].values[-1]
        worst = max(worst, np.max(np.abs(value - dot) / (4.5 * np.hypot(error, own) + finite_size * np.abs(dot))))
    return worst


def test_batches_of_a_relu_network_follow_the_theory():
    """Kinks in the activation; the wrong lines, without response or without batches, are seen."""
    relu = lambda x: np.maximum(x, 0)
    dots, errors = direct(
        np.random.default_rng(0), 300, 2.0, 16, 0.3, teacher=np.eye(1) * 2, noise=0.1, fraction=0.1, seeds=32,
        gradient=lambda r, s, z: (relu(r) - relu(s) - z[:, None]) * (r > 0),
        measure=lambda r, s, z, Q, q: (np.mean((relu(r) - relu(s) - z[:, None]) ** 2) / 2, q[0, 0], Q[0, 0]),
    )  # fmt: skip
    names = ("train_loss", "overlap", "self_overlap")
    problem = TeacherStudent(50, link="relu", activation="relu", label_noise=0.1, teacher_gram=2.0)
    run = lambda **options: solve(problem, delta=2.0, horizon=4.8, dt=0.3, record=[0, 4.8], key=3, **options)
    assert agree(run(batch_fraction=0.1), dots, errors, names, 0.01) < 1
    assert agree(run(), dots, errors, names, 0.01) > 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solving, "RESPONSE_SCALE", 1e-4)
        with pytest.warns(UserWarning, match="ridge of the regression"):
            without = run(batch_fraction=0.1)
        assert agree(without, dots, errors, names, 0.01) > 1


def test_epochs_of_a_logistic_regression_follow_the_theory():
    sigmoid = lambda u: 1 / (1 + np.exp(-u))
    label = lambda s, z: np.sign(s[:, 0] + z)
    nodes = np.random.default_rng(9).normal(size=(200_000, 3))

    def measure(r, s, z, Q, q):
        y = label(s, z)
        w_star = nodes[:, 0] * np.sqrt(2.0)
        w = q[0, 0] / 2.0 * w_star + np.sqrt(Q[0, 0] - q[0, 0] ** 2 / 2.0) * nodes[:, 1]
        fresh = label(w_star[:, None], np.sqrt(0.2) * nodes[:, 2])
        return np.logaddexp(0, -y * r[:, 0]).mean(), np.logaddexp(0, -fresh * w).mean(), (fresh * w < 0).mean()

    dots, errors = direct(
        np.random.default_rng(1), 300, 2.0, 16, 0.5, teacher=np.eye(1) * 2, noise=0.2, fraction=0.25, epochs=True,
        gradient=lambda r, s, z: -(label(s, z) * sigmoid(-label(s, z) * r[:, 0]))[:, None], measure=measure, seeds=24,
    )  # fmt: skip
    problem = TeacherStudent(50, loss="logistic", sign=True, label_noise=0.2, teacher_gram=2.0)
    run = lambda clock: solve(
        problem, delta=2.0, horizon=8.0, dt=0.5, record=[0, 8.0], clock=clock, batch_fraction=0.25, key=4
    )
    names = ("train_loss", "test_loss", "test_error")
    assert agree(run("shuffle"), dots, errors, names, 0.01) < 1
    assert agree(run("bernoulli"), dots, errors, names, 0.01) > 1


def test_a_committee_with_a_teacher_of_another_width():
    """m = 3 students, K = 2 teachers that are correlated, half weights."""
    gram, second = np.array([[1.0, 0.4], [0.4, 1.5]]), np.full(3, 0.5)
    act, slope = np.tanh, lambda r: 1 - np.tanh(r) ** 2
    residual = lambda r, s, z: act(r) @ second - act(s).sum(axis=1) - z
    dots, errors = direct(
        np.random.default_rng(2), 300, 2.0, 12, 0.5, m=3, teacher=gram, noise=0.1,
        gradient=lambda r, s, z: residual(r, s, z)[:, None] * slope(r) * second,
        measure=lambda r, s, z, Q, q: np.concatenate(
            [[np.mean(residual(r, s, z) ** 2) / 2], q.mean(axis=0), [np.trace(Q) / 3, (Q.sum() - np.trace(Q)) / 6]]
        ),
    )  # fmt: skip
    problem = TeacherStudent(
        50, link="tanh", activation="tanh", second=second, teacher_gram=gram, label_noise=0.1, start_gram=1.0
    )
    line = solve(problem, delta=2.0, horizon=6.0, dt=0.5, record=[0.0, 6.0], correlations_at=[3.0, 6.0], **COMMON)
    assert line.overlap.dims == ("t", "student", "teacher")
    assert line.correlation.dims == ("time", "other_time", "student", "other_student")
    np.testing.assert_allclose(line.correlation[1, 1], line.self_overlap[-1], rtol=1e-3)
    Q, q = line.self_overlap.values[-1], line.overlap.values[-1]
    value = np.concatenate(
        [[line.train_loss.values[-1]], q.mean(axis=0), [np.trace(Q) / 3, (Q.sum() - np.trace(Q)) / 6]]
    )
    own = np.concatenate([[line.train_loss_stderr.values[-1]], np.full(4, line.self_overlap_stderr.values[-1].max())])
    np.testing.assert_array_less(np.abs(value - dots), 4.5 * np.hypot(errors, own) + 0.015 * np.abs(dots))
    residual_gram = Q - q @ np.linalg.solve(gram, q.T)
    assert np.linalg.eigvalsh(residual_gram)[0] > -1e-9  # Cauchy and Schwarz


def test_the_stochastic_differential_equation_is_not_the_limit_of_sgd():
    """At temperature 1 a ReLU unit trained by the diffusion has a training loss some 20 % higher."""
    problem = TeacherStudent(50, link="relu", activation="relu", label_noise=0.09)
    run = lambda clock: solve(
        problem, delta=2.0, horizon=5.0, dt=0.125, clock=clock, sgd_temperature=1.0, record=[5.0], paths=49_152, key=5
    )
    sgd, diffusion = run("poisson"), run("brownian")
    ratio = float(diffusion.train_loss[0] / sgd.train_loss[0])
    error = np.hypot(*(float(x.train_loss_stderr[0] / x.train_loss[0]) for x in (sgd, diffusion)))
    assert ratio - 1 > 4.5 * error
    assert 1.05 < ratio < 1.4


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "brownian", "shuffle"])
def test_pairs_of_fine_steps_have_the_law_of_a_coarse_step(name):
    """Mean dt, and the variance of the clock, for single steps and for pairs."""
    with jax.enable_x64(True):
        P, dt, b = 400_000, 0.4, 0.25
        rate = Rate(*map(jnp.asarray, (dt, b, dt / (b * 2.0), 2.0)))
        variance = {"bernoulli": (1 - b) / b, "poisson": 1 / b, "brownian": 1 / b, "shuffle": (1 - b) / b}[name] * dt**2
        for pairs in (False, True):
            c, cbar = CLOCKS[name](rate, Place(jax.random.key(0), jnp.asarray(2), P, pairs))
            assert abs(c.mean() - dt) < 4.5 * np.sqrt(variance / P)
            np.testing.assert_allclose(c.var(), variance, rtol=0.03)
            assert abs(cbar.mean() - dt) < 4.5 * np.sqrt(variance / P)


def test_fine_and_coarse_coins_fall_together():
    with jax.enable_x64(True):
        place = lambda k, pairs: Place(jax.random.key(0), jnp.asarray(k), 100_000, pairs)
        rate = lambda b: Rate(*map(jnp.asarray, (1.0, b, 1.0, 1.0)))
        coarse = CLOCKS["bernoulli"](rate(0.2), place(3, True))[0] > 0
        fine = [CLOCKS["bernoulli"](rate(0.1), place(k, False))[0] > 0 for k in (6, 7)]
        assert np.all(coarse >= (fine[0] | fine[1]))
        assert np.mean(coarse & ~(fine[0] | fine[1])) < 0.02


@pytest.mark.parametrize("blocks", [(8, 4), (3, 2), None])
def test_the_past_is_kept_in_blocks_of_growing_length(blocks):
    steps, asked = 1000, (5, 500, 1000)
    planned = plan(steps, blocks, asked)
    for k in asked:
        rows = planned.owner[k]
        assert rows.shape == (k,)
        lengths = np.diff(np.flatnonzero(np.append(True, np.diff(rows) != 0)), append=k)
        assert len(lengths) == len(set(rows.tolist()))  # every row is one stretch of steps
        assert (np.diff(lengths) <= 0).all()
        if blocks:
            assert (lengths[-blocks[0] :] == 1).all()
    assert planned.capacity == steps if blocks is None else planned.capacity < blocks[0] + 3 + (blocks[1] + 2) * 10


def test_a_start_at_zero_is_allowed():
    line = solve(linear(start_gram=0.0), delta=2.0, horizon=2.4, dt=0.1, **COMMON)
    exact = least_squares(2.0, 0.1, 24, noise=0.3, start=0.0)
    np.testing.assert_allclose(line.test_loss, exact["test_loss"], rtol=5e-3)
