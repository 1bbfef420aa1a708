"""One-pass SGD: closed forms against averages over random numbers, and the equations against simulations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from overlap_checks import check_overlaps
from scipy.special import erf

from riron.errors import InputError
from riron.problems import TeacherStudent
from riron.theory import erf_integrals, online_sgd
from riron.theory.online_averages import averages_of, hermite_nodes
from riron.theory.online_sgd import make_flow

pytestmark = pytest.mark.usefixtures("quick_compilation")


def one_pass_sgd(problem, **options):
    """The theory, its overlaps checked."""
    return check_overlaps(online_sgd.one_pass_sgd(problem, **options), problem)


def test_erf_integrals_are_gaussian_averages():
    S = np.array([[1.3, 0.4, -0.2], [0.4, 0.8, 0.3], [-0.2, 0.3, 2.0]])
    u = np.random.default_rng(0).multivariate_normal(np.zeros(3), S, 200_000)
    g, slope = erf(u / np.sqrt(2)), np.sqrt(2 / np.pi) * np.exp(-(u**2) / 2)

    def close(value, terms):
        error = terms.std(axis=0) / np.sqrt(len(u))
        np.testing.assert_array_less(np.abs(np.asarray(value) - terms.mean(axis=0)), 5 * error + 1e-12)

    with jax.enable_x64(True):
        S = jnp.asarray(S)
        close(erf_integrals.two(S), g[:, :, None] * g[:, None])
        close(erf_integrals.slopes(S), slope[:, :, None] * slope[:, None])
        three, four = erf_integrals.three(S, 2), erf_integrals.four(S, 2)
        for a in range(2):
            close(three[a], slope[:, a, None, None] * u[:, :, None] * g[:, None])
            for b in range(2):
                close(four[a, b], (slope[:, a] * slope[:, b])[:, None, None] * g[:, :, None] * g[:, None])


COMMITTEE = {
    "link": "erf", "activation": "erf", "second": [1.0, 0.5, 0.7], "teacher_gram": [[1.0, 0.4], [0.4, 2.0]],
    "start_gram": [[0.5, 0.1, 0.0], [0.1, 0.6, 0.0], [0.0, 0.0, 0.4]],
    "overlap": [[0.3, 0.0], [0.0, 0.2], [0.1, 0.1]], "label_noise": 0.1,
}  # fmt: skip


def test_closed_forms_and_quadrature_agree():
    problem = TeacherStudent(40, **COMMITTEE)
    small = TeacherStudent(40, **COMMITTEE | {"second": [0.8], "start_gram": 0.5, "overlap": [[0.3, 0.2]]})
    with jax.enable_x64(True):
        for law, averages, accuracy in ((problem, "sobol", 1e-3), (small, "hermite", 1e-5), (small, "sobol", 1e-3)):
            closed, nodes = (make_flow(law, 0.5, None, way)[0] for way in ("auto", averages))
            assert closed.nodes is None
            start = closed.problem.start_gram, closed.problem.start_overlap
            for exact, value in zip(*(averages_of(f.problem, f.nodes, *start) for f in (closed, nodes)), strict=True):
                np.testing.assert_allclose(value, exact, atol=accuracy)


def test_hermite_nodes_have_the_moments_of_a_gaussian():
    with jax.enable_x64(True):
        points, weights = (np.asarray(a) for a in hermite_nodes(1, 2))
    np.testing.assert_allclose(weights.sum(), 1)
    for power, moment in ((1, 0), (2, 1), (4, 3), (6, 15)):
        np.testing.assert_allclose(weights @ points**power, moment, atol=1e-7)


def test_least_squares_has_a_line_of_its_own():
    """q relaxes to rho / (1 + lam); Q obeys a linear equation."""
    tau, lam, rho, noise = 0.5, 0.2, 2.0, 0.3
    problem = TeacherStudent(40, teacher_gram=rho, overlap=0.4, start_gram=1.5, label_noise=noise, ridge=lam / 40)
    line = one_pass_sgd(problem, sgd_temperature=tau, horizon=3.0, record=[0.0, 1.0, 3.0])
    q, Q, dt, found = 0.4, 1.5, 1e-4, []
    for k in range(30_001):
        if k in (0, 10_000, 30_000):
            found.append((q, Q))
        error = Q - 2 * q + rho + noise
        dq, dQ = rho - q - lam * q, -2 * (Q - q) - 2 * lam * Q + tau * error
        middle = (q + dt / 2 * dq, Q + dt / 2 * dQ)
        error = middle[1] - 2 * middle[0] + rho + noise
        q += dt * (rho - middle[0] - lam * middle[0])
        Q += dt * (-2 * (middle[1] - middle[0]) - 2 * lam * middle[1] + tau * error)
    np.testing.assert_allclose(np.stack([line.overlap, line.self_overlap], axis=1), found, rtol=1e-5)
    np.testing.assert_allclose(line.test_loss, (line.self_overlap - 2 * line.overlap + rho + noise) / 2, rtol=1e-6)


def one_pass(rng, d, problem, act, slope, *, tau, batch, horizon, seeds):
    """Q and q at the end of one-pass SGD from the problem's start, written out."""
    rho, a = np.asarray(problem.teacher_gram), np.asarray(problem.second)
    start, shared = np.asarray(problem.start_gram), np.asarray(problem.start_overlap)
    m, K = shared.shape
    joint = np.linalg.cholesky(np.block([[rho, shared.T], [shared, start]]))
    noise, eta, found = float(problem.label_noise), tau * batch, []
    for _ in range(seeds):
        both = np.linalg.qr(rng.normal(size=(d, m + K)))[0] * np.sqrt(d) @ joint.T
        star, theta = both[:, :K], both[:, K:]
        for _ in range(round(horizon * d / eta)):
            X = rng.normal(size=(batch, d)) / np.sqrt(d)
            w = X @ theta
            gap = act(w) @ a - act(X @ star).sum(axis=1) - np.sqrt(noise) * rng.normal(size=batch)
            theta = theta - eta / batch * X.T @ (gap[:, None] * slope(w) * a)
        found.append(np.concatenate([(theta.T @ theta / d).ravel(), (theta.T @ star / d).ravel()]))
    found = np.array(found)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(seeds)


@pytest.mark.parametrize("name", ["erf", "relu"])
def test_the_equations_are_those_of_the_algorithm(name):
    act, slope = {
        "erf": (lambda x: erf(x / np.sqrt(2)), lambda x: np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)),
        "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    }[name]
    problem = TeacherStudent(40, **COMMITTEE | {"link": name, "activation": name})
    tau, horizon = 0.6, 4.0
    dots, error = one_pass(
        np.random.default_rng(1), 300, problem, act, slope, tau=tau, batch=2, horizon=horizon, seeds=24
    )
    line = one_pass_sgd(problem, sgd_temperature=tau, horizon=horizon, record=[horizon])
    values = lambda line: np.concatenate([line.self_overlap.values[-1].ravel(), line.overlap.values[-1].ravel()])
    allowed = 4.5 * error + 0.01
    assert (np.abs(values(line) - dots) < allowed).all()
    wrong = one_pass_sgd(problem, sgd_temperature=1.4 * tau, horizon=horizon, record=[horizon])
    assert (np.abs(values(wrong) - dots) > allowed).any()


def test_runs_have_the_starts_that_they_had():
    problem = TeacherStudent(400, link="erf", activation="erf")
    record = xr.DataArray([1.0, 4.0], {"epoch": [1.0, 4.0]}, "epoch")
    q = np.array([0.01, 0.3])
    line = one_pass_sgd(problem, sgd_temperature=0.5, horizon=4.0, record=record, overlap=q)
    assert line.overlap.dims == ("seed", "epoch")
    alone = one_pass_sgd(
        TeacherStudent(400, link="erf", activation="erf", overlap=0.3), sgd_temperature=0.5, horizon=4.0, record=record
    )
    np.testing.assert_allclose(line.overlap[1], alone.overlap, rtol=1e-5)
    assert (line.overlap[1] > line.overlap[0]).all()
    assert (line.overlap**2 <= line.self_overlap + 1e-9).all()


def test_a_start_that_never_escapes_is_said():
    even = TeacherStudent(40, link=lambda s: s[0] ** 2 - 1, activation=lambda x: x**2 - 1)
    with pytest.warns(UserWarning, match="never escapes"):
        line = one_pass_sgd(even, sgd_temperature=0.01, horizon=0.5, record=[0.5])
    assert abs(float(line.overlap[0])) < 1e-2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sgd_temperature": -1.0}, "sgd_temperature=-1.0"),
        ({"record": [2.0, 1.0]}, "in order"),
        ({"record": [9.0]}, "lie in"),
        ({"overlap": [[0.1, 0.2]]}, "overlap has shape"),
        ({"overlap": 2.0}, "not a covariance"),
        ({"overlap": [0.1, 0.2], "self_overlap": [1.0, 1.0, 1.0]}, r"\[2, 3\] runs"),
        ({"averages": "closed"}, "committees of erf"),
    ],
)
def test_bad_input_is_said_in_one_sentence(change, says):
    problem = TeacherStudent(40, link="tanh", activation="tanh")
    with pytest.raises(InputError, match=says):
        one_pass_sgd(problem, **({"sgd_temperature": 0.5, "horizon": 4.0} | change))


def test_a_schedule_is_a_factor_on_the_step():
    """Twice the step size is twice the speed and twice the temperature."""
    problem = TeacherStudent(40, **COMMITTEE)
    record = np.array([0.0, 1.0, 2.0])
    twice = one_pass_sgd(problem, sgd_temperature=0.3, horizon=2.0, record=record, step_schedule=lambda t: 2.0 + 0 * t)
    faster = one_pass_sgd(problem, sgd_temperature=0.6, horizon=4.0, record=2 * record)
    np.testing.assert_allclose(twice.overlap, faster.overlap, rtol=1e-6)


def test_the_integrator_is_as_accurate_as_it_says():
    from scipy.integrate import solve_ivp

    problem = TeacherStudent(40, **COMMITTEE)
    line = one_pass_sgd(problem, sgd_temperature=0.5, horizon=20.0, record=[20.0])
    with jax.enable_x64(True):
        flow, _ = make_flow(problem, 0.5, None, "auto")
        m, K = flow.problem.start_overlap.shape
        split = lambda y: (y[: m * m].reshape(m, m), y[m * m :].reshape(m, K))
        speed = jax.jit(lambda y: jnp.concatenate([part.ravel() for part in flow(0.0, split(y))]))
        start = np.concatenate([np.ravel(flow.problem.start_gram), np.ravel(flow.problem.start_overlap)])
        exact = solve_ivp(lambda t, y: np.asarray(speed(y)), (0, 20), start, method="DOP853", rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(line.overlap[-1], split(exact.y[:, -1])[1], atol=1e-7)
