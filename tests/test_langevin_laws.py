"""Exact laws of Langevin dynamics on sums of quadratics, against 40 000 chains written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.dynamics import Coin, cv_sgld, gld, sarah_ld, sgld, svrg_ld, ula
from riron.errors import InputError
from riron.lab.running import simulate
from riron.problems import Chains, LogDensity, QuadraticSum
from riron.theory.langevin_cost import first_below, gradients_of, gradients_to_reach, least_cost, steps_to_reach
from riron.theory.langevin_laws import batch_factor, gaussian_kl, quadratic_langevin, refreshes, sum_moments
from riron.theory.langevin_stationary import largest_stable_step, stationary_second_moment
from riron.theory.ula_on_a_grid import ula_on_a_grid

RNG = np.random.default_rng(5)


pytestmark = pytest.mark.usefixtures("quick_compilation")

N, D, B, PERIOD, STEPS, CHAINS = 12, 2, 3, 4, 18, 40_000
H = RNG.exponential(size=(N, D)) * [1.0, 2.0]
SLOPE = H * RNG.normal(size=(N, D)) + 0.5
ETA, T, START, CENTRE = 0.25, 0.2, np.array([1.5, -1.0]), np.array([0.4, 0.3])
LEVEL = 4.9  # 1e-4 over about 100 numbers
MOMENTS = sum_moments(H, SLOPE)
LAW = {**MOMENTS._asdict(), "step_size": ETA, "temperature": T, "n": N, "start": START, "batch": B, "period": PERIOD}


def chains(method, sampling="without-replacement", refresh=None, coin=None):
    """(STEPS + 1, CHAINS, D) displacements from the minimum, from the definitions of the estimators."""
    rng = np.random.default_rng(11)
    minimum = SLOPE.mean(axis=0) / H.mean(axis=0)
    full = lambda x: H.mean(axis=0) * x - SLOPE.mean(axis=0)
    part = lambda x, rows: H[rows].mean(axis=1) * x - SLOPE[rows].mean(axis=1)
    x = np.tile(minimum + START, (CHAINS, 1))
    snapshot = last = v = x
    path = [x - minimum]
    for t in range(STEPS):
        if sampling == "without-replacement":
            rows = np.argpartition(rng.random((CHAINS, N)), B, axis=1)[:, :B]
        else:
            rows = rng.integers(N, size=(CHAINS, B))
        renew = np.full((CHAINS, 1), t % PERIOD == 0 if refresh is None else refresh[t])
        if coin is not None:
            renew = (rng.random((CHAINS, 1)) < coin) | (t == 0)
        if method == "svrg":
            snapshot = np.where(renew, x, snapshot)
            v = np.where(renew, full(x), part(x, rows) - part(snapshot, rows) + full(snapshot))
        elif method == "sarah":
            v = np.where(renew, full(x), part(x, rows) - part(last, rows) + v)
        else:
            centre = minimum + CENTRE
            v = {
                "gld": lambda x: full(x),
                "sgld": lambda x, r=rows: part(x, r),
                "cv": lambda x, r=rows, c=centre: part(x, r) - part(c, r) + full(c),
            }[method](x)
        last = x
        x = x - ETA * v + np.sqrt(2 * ETA * T) * rng.standard_normal(x.shape)
        path.append(x - minimum)
    return np.array(path)


def worst(sample, line):
    """Largest |z| of means over chains (axis 1)."""
    error = sample.std(axis=1, ddof=1) / np.sqrt(sample.shape[1])
    return np.abs((sample.mean(axis=1) - line) / error).max()


RECORD = xr.DataArray(np.arange(1, STEPS + 1), {"step": np.arange(1, STEPS + 1)}, "step")
COIN = np.array([1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("method", "how", "told"),
    [
        ("gld", {}, {}),
        ("sgld", {}, {}),
        ("sgld", {"sampling": "with-replacement"}, {"sampling": "with-replacement"}),
        ("cv", {}, {"centre": CENTRE}),
        ("svrg", {}, {}),
        ("svrg", {"refresh": COIN}, {"refresh": COIN}),
        ("svrg", {"coin": 1 / PERIOD}, {"loopless": True}),
        ("sarah", {}, {}),
        ("sarah", {"refresh": COIN}, {"refresh": COIN}),
        ("sarah", {"coin": 1 / PERIOD}, {"loopless": True}),
    ],
)
def test_moments_are_those_of_chains(method, how, told):
    x = chains(method, **how)[1:]
    line = quadratic_langevin(**{**LAW, **told}, method=method, record=RECORD)
    assert worst(x, line.displacement.values) < LEVEL
    assert worst(x**2, line.second_moment.values) < LEVEL
    for name, wrong in {"curvature_variance": 0.0, "temperature": 1.1 * T, "step_size": 1.05 * ETA}.items():
        if method == "gld" and name == "curvature_variance":
            continue
        scaled = {name: wrong * MOMENTS.curvature_variance if name == "curvature_variance" else wrong}
        line = quadratic_langevin(**{**LAW, **told, **scaled}, method=method, record=RECORD)
        assert worst(x**2, line.second_moment.values) > LEVEL, name
    if method != "gld" and not how:
        line = quadratic_langevin(**{**LAW, **told, "sampling": "with-replacement"}, method=method, record=RECORD)
        assert worst(x**2, line.second_moment.values) > LEVEL


@pytest.mark.parametrize(
    ("dynamics", "told"),
    [
        (gld, {"method": "gld"}),
        (sgld, {"method": "sgld"}),
        (cv_sgld, {"method": "cv", "centre": CENTRE}),
        (svrg_ld, {"method": "svrg"}),
        (sarah_ld, {"method": "sarah"}),
        (svrg_ld, {"method": "svrg", "refresh": Coin(PERIOD)}),
        (sarah_ld, {"method": "sarah", "refresh": Coin(PERIOD)}),
    ],
)
def test_dynamics_have_these_moments_and_counts(dynamics, told):
    with jax.enable_x64(True):
        problem, coin = QuadraticSum(H, SLOPE, START), told.get("refresh")
        rest = {} if dynamics is gld else {"batch": B}
        rest |= {"period": PERIOD, "loopless": coin is not None} if told["method"] in ("svrg", "sarah") else {}
        rest |= {"centre": problem.minimum + CENTRE} if dynamics is cv_sgld else {}
        runs = simulate(problem, dynamics(step_size=ETA, temperature=T, **rest), record=RECORD, seeds=8000)
    told = told | ({"refresh": coin.table(STEPS)} if coin is not None else {})
    line = quadratic_langevin(**{**LAW, **told}, record=RECORD)
    for name in ("displacement", "second_moment"):
        assert worst(runs[name].transpose("step", "seed", "coordinate").values, line[name].values) < LEVEL
    assert (runs.gradient_evaluations == line.gradient_evaluations).all()


@pytest.mark.parametrize("method", ["gld", "sgld", "cv", "svrg", "sarah"])
@pytest.mark.parametrize("loopless", [False, True])
def test_the_long_run_is_the_stationary_value_up_to_the_edge(method, loopless):
    sizes = {"method": method, "n": N, "batch": B, "period": PERIOD, "loopless": loopless}
    edge = largest_stable_step(MOMENTS, **sizes)
    centre = {"centre": CENTRE} if method == "cv" else {}
    last = xr.DataArray([4000], {"step": [4000]}, "step")
    run = lambda eta: quadratic_langevin(
        **{**LAW, **sizes, **centre, "step_size": eta}, record=last
    ).second_moment.values[0]
    for share in (0.3, 0.98):
        fixed = stationary_second_moment(MOMENTS, step_size=share * edge, temperature=T, **sizes, **centre)
        np.testing.assert_allclose(run(share * edge), fixed, rtol=1e-6)
    assert run(1.02 * edge).max() > 1e6 * run(0.98 * edge).max()
    with pytest.raises(InputError, match=rf"not stable in mean square for {method}; use one below {edge:.4g}"):
        stationary_second_moment(MOMENTS, step_size=edge, temperature=T, **sizes, **centre)


def test_closed_forms():
    H1, eta, gamma = MOMENTS.curvature, 0.2, 1 / T
    exact = stationary_second_moment(MOMENTS, method="gld", step_size=eta, temperature=T, n=N)
    np.testing.assert_allclose(exact, 1 / (gamma * H1 * (1 - eta * H1 / 2)), rtol=1e-12)
    c, a, q = (N - B) / (B * (N - 1)), 1 - eta * H1, 2 * eta * T
    exact = stationary_second_moment(MOMENTS, method="sgld", step_size=eta, temperature=T, n=N, batch=B)
    expected = (q + eta**2 * c * MOMENTS.slope_variance) / (1 - a**2 - eta**2 * c * MOMENTS.curvature_variance)
    np.testing.assert_allclose(exact, expected, rtol=1e-12)
    assert batch_factor(N, N) == 0
    # KL of the stationary law of gld: sum (eta H)^2 / 16 (1 + O(eta H))
    for eta in (1e-2, 1e-3):
        square = stationary_second_moment(MOMENTS, method="gld", step_size=eta, temperature=T, n=N)
        kl = gaussian_kl(np.zeros(D), square, H1 / T)
        assert kl == pytest.approx(((eta * H1) ** 2).sum() / 16, rel=3 * eta)


def test_kl_is_the_integral():
    mean, sd, precision = 0.3, 0.8, 2.5
    x = np.linspace(-12, 12, 200_001)
    rho = np.exp(-((x - mean) ** 2) / (2 * sd**2)) / np.sqrt(2 * np.pi) / sd
    log_ratio = -((x - mean) ** 2) / (2 * sd**2) - np.log(sd) + precision * x**2 / 2 - np.log(precision) / 2
    integral = (rho * log_ratio).sum() * (x[1] - x[0])
    assert gaussian_kl([mean], [sd**2 + mean**2], [precision]) == pytest.approx(integral, rel=1e-9)


def test_ula_on_a_grid_is_the_recursion_and_the_chains():
    eta, steps = 0.3, np.array([1, 2, 5, 20])
    record = xr.DataArray(steps, {"step": steps}, "step")
    told = {"step_size": eta, "grid": np.linspace(-10, 10, 501), "start": 1.0, "record": record}
    law = ula_on_a_grid(lambda x: 1.5 * x, temperature=0.7, **told)
    S, seen = 1.0, []
    for _ in range(20):
        S = (1 - 1.5 * eta) ** 2 * S + 2 * eta * 0.7
        seen.append(S)
    np.testing.assert_allclose(law.second_moment, np.array(seen)[steps - 1], rtol=1e-9)
    np.testing.assert_allclose(law.density.sum("x") * 0.04, 1, rtol=1e-9)
    two = lambda x: jnp.logaddexp(-((x - 2) ** 2) / 2, -((x + 2) ** 2) / 2 - 0.5)
    slope = np.vectorize(lambda x: x - 2 * np.tanh(2 * x + 0.25))
    law = ula_on_a_grid(slope, **told)
    runs = simulate(Chains(LogDensity(two, 1.0)), ula(step_size=eta), record=record, seeds=16_000)
    x = runs.position.values.T
    assert worst(x, law.first_moment.values) < 4.2
    assert worst(x**2, law.second_moment.values) < 4.2
    assert worst(x**2, ula_on_a_grid(slope, **{**told, "step_size": 1.2 * eta}).second_moment.values) > 4.2


def test_costs_add_up():
    """Gradients to reach eps read off the recursion itself, and the crossing between two steps."""
    told = {"method": "svrg", "temperature": T, "n": N, "batch": B, "period": PERIOD, "start": START}
    steps = np.arange(200)
    line = quadratic_langevin(
        **MOMENTS._asdict(), **told, step_size=0.05, record=xr.DataArray(steps, {"step": steps}, "step")
    )
    k = int(np.argmax(line.gaussian_kl.values <= 0.01))
    found = float(steps_to_reach(MOMENTS, **told, step_size=0.05, eps=0.01))
    assert k - 1 < found <= k
    gradients = float(gradients_to_reach(MOMENTS, **told, step_size=0.05, eps=0.01))
    assert line.gradient_evaluations[k - 1] < gradients <= line.gradient_evaluations[k]
    assert np.isinf(steps_to_reach(MOMENTS, **told, step_size=[0.05, 0.7], eps=1e-4)).all()
    exact = gradients_of(4.0, method="svrg", n=N, batch=B, period=PERIOD)
    assert exact == N + 3 * 2 * B
    np.testing.assert_allclose(first_below(np.array([[4.0], [1.0], [0.25]]), 0.5), 1.5)
    setting = {"temperature": T, "n": N, "start": START, "eps": 0.05}
    best = least_cost(MOMENTS, method="sgld", batches=[1, 2, 4], **setting)
    tried = gradients_to_reach(
        MOMENTS, method="sgld", step_size=best.step_size, batch=best.batch, temperature=T, n=N, start=START, eps=0.05
    )
    assert best.gradients == pytest.approx(float(tried))


LINE = {**LAW, "method": "svrg", "record": RECORD}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "swrg"}, "no method is called 'swrg'.*did you mean 'svrg'"),
        ({"batch": N + 1}, "batch=13 is outside 1 .. n = 12"),
        ({"sampling": "without"}, "no sampling is called 'without'"),
        ({"temperature": 0.0}, "temperature=0.0 must be a finite number > 0"),
        ({"step_size": -1.0}, "must be finite and > 0"),
        ({"period": 0}, "period=0 must be >= 1"),
        ({"refresh": [1, 0]}, "refresh has 2 steps and the record ends at 18"),
    ],
)
def test_laws_say_what_is_wrong(change, says):
    with pytest.raises(InputError, match=says):
        quadratic_langevin(**{**LINE, **change})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"grid": np.linspace(-8, 8, 20)}, "use at least"),
        ({"grid": np.linspace(-2, 2, 201)}, "the law leaves the grid -2 .. 2"),
        ({"grid": np.array([0.0, 1.0, 3.0])}, "not equally spaced"),
        ({"start": 9.0}, "start=9.0 is not on the grid"),
        ({"record": xr.DataArray([0, 1], dims="step")}, "step 0"),
    ],
)
def test_the_grid_must_resolve_the_law(change, says):
    told = {"step_size": 0.3, "grid": np.linspace(-8, 8, 401), "start": 1.0, "record": RECORD}
    with pytest.raises(InputError, match=says):
        ula_on_a_grid(lambda x: x, **{**told, **change})


def test_refreshes_and_sums_that_are_not_convex():
    assert (refreshes(5, 2) == [1, 0, 1, 0, 1]).all()
    with pytest.raises(InputError, match="mean curvature of coordinate 1 is -1"):
        sum_moments([[1.0, -1.0]], [[0.0, 0.0]])
