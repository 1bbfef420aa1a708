"""Gradient estimators with a memory, on any tree of parameters, against formulas in NumPy; counts; MALA; chains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.dynamics import (
    MALA,
    SARAH,
    SVRG,
    Blocks,
    Coin,
    ControlVariate,
    Epochs,
    Every,
    Minibatch,
    WithoutReplacement,
    cv_sgld,
    gld,
    mala,
    mode,
    sarah_ld,
    sgld,
    svrg_ld,
    ula,
)
from riron.dynamics.control_variate import refuse_not_finite
from riron.errors import InputError
from riron.lab.chains import to_arviz
from riron.lab.running import simulate
from riron.models.base import Model
from riron.problems import Chains, LeastSquares, LogDensity, OnePass, QuadraticSum, from_arrays

pytestmark = pytest.mark.usefixtures("quick_compilation", "float64")

RNG = np.random.default_rng(1)
N, D = 5, 2
X, Y = RNG.normal(size=(N, D)), np.sign(RNG.normal(size=N))
RIDGE = 0.3


class Affine(Model):
    """A tree of parameters: weights and an intercept."""

    def init(self, key):
        return {"w": jnp.array([0.5, -1.0]), "c": jnp.array(0.2)}

    def __call__(self, params, X):
        return X @ params["w"] + params["c"]


with jax.enable_x64(True):
    PROBLEM = from_arrays(X, Y, loss="logistic", ridge=RIDGE, model=Affine())
    GAUSSIAN = LogDensity(lambda x: -jnp.sum(x**2) / 2, np.zeros(2))
POINTS = [RNG.normal(size=D + 1) for _ in range(4)]


def as_tree(u):
    return {"w": jnp.asarray(u[:D]), "c": jnp.asarray(u[D])}


def as_vector(tree):
    return np.concatenate([np.asarray(tree["w"]), [float(tree["c"])]])


def gradient(u, rows=None):
    """Mean over rows of -y s(-y f) (x, 1), plus ridge u."""
    rows = np.arange(N) if rows is None else np.asarray(rows)
    inputs = np.column_stack([X[rows], np.ones(len(rows))])
    slope = -Y[rows] / (1 + np.exp(Y[rows] * (inputs @ u)))
    return (slope[:, None] * inputs).mean(axis=0) + RIDGE * u


def every_draw(estimator, batch, points, start=0):
    """Estimates at the last of some points, reached at steps start, start + 1, ..., for each possible last draw."""
    objective = PROBLEM.objective(PROBLEM.data)
    memory = estimator.init(objective, as_tree(points[0]))
    draw = jnp.arange(batch)
    for t, u in enumerate(points[:-1]):
        _, memory, _ = estimator(objective, as_tree(u), memory, draw, jnp.asarray(start + t))
    draws = jnp.asarray(list(itertools.product(range(N), repeat=batch)))
    t = jnp.asarray(start + len(points) - 1)
    one = lambda draw: estimator(objective, as_tree(points[-1]), memory, draw, t)[0]
    found = jax.vmap(one)(draws)
    return np.column_stack([found["w"], found["c"]]), np.asarray(draws)


def test_svrg_is_its_formula_and_unbiased():
    a, b, c, _ = POINTS
    found, draws = every_draw(SVRG(Minibatch(2), 3), 2, [a, b, c])
    expected = [gradient(c, rows) - gradient(a, rows) + gradient(a) for rows in draws]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(found.mean(axis=0), gradient(c), atol=1e-13)
    plain = np.array([gradient(c, rows) for rows in draws])
    assert np.abs(found - plain).max() > 0.1
    fresh, _ = every_draw(SVRG(Minibatch(2), 2), 2, [a, b, c])  # step 2 renews the snapshot: exact for every draw
    np.testing.assert_allclose(fresh, np.tile(gradient(c), (len(draws), 1)), atol=1e-13)


def test_sarah_is_its_recursion():
    a, b, c, _ = POINTS
    found, draws = every_draw(SARAH(Minibatch(2), 5), 2, [a, b, c])
    first = gradient(b, [0, 1]) - gradient(a, [0, 1]) + gradient(a)
    expected = [gradient(c, rows) - gradient(b, rows) + first for rows in draws]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    drift = first - gradient(b)  # the error of the step before stays: SARAH is unbiased only given no error before
    np.testing.assert_allclose(found.mean(axis=0), gradient(c) + drift, atol=1e-13)
    fresh, _ = every_draw(SARAH(Minibatch(2), 2), 2, [a, b, c])
    np.testing.assert_allclose(fresh, np.tile(gradient(c), (len(draws), 1)), atol=1e-13)


def test_control_variate_keeps_its_centre():
    a, b, c, centre = POINTS
    found, draws = every_draw(ControlVariate(Minibatch(2), as_tree(centre)), 2, [a, b, c])
    expected = [gradient(c, rows) - gradient(centre, rows) + gradient(centre) for rows in draws]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(found.mean(axis=0), gradient(c), atol=1e-13)


@pytest.mark.parametrize(("y", "loss"), [(Y, "logistic"), (np.eye(3)[[0, 2, 1, 1, 0]], "softmax")])
def test_linear_models_by_hand_are_automatic_differentiation(y, loss):
    """The gradient of a batch, and the control variate from numbers that are kept: with one output and with three."""
    problem = from_arrays(X, y, loss=loss, ridge=RIDGE)
    objective = problem.objective(problem.data)
    here, centre = (jnp.asarray(RNG.normal(size=np.shape(problem.initial(None)))) for _ in range(2))
    index = jnp.array([3, 1, 1])
    batch, _, spent = Minibatch(3)(objective, here, (), index, jnp.asarray(1))
    np.testing.assert_allclose(batch, objective.gradient(here, index), atol=1e-14)
    estimator = ControlVariate(Minibatch(3), centre)
    found, _, kept_spent = estimator(objective, here, estimator.init(objective, here), index, jnp.asarray(1))
    expected = objective.gradient(here, index) - objective.gradient(centre, index) + objective.gradient(centre)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert (int(spent), int(kept_spent)) == (3, 3)


@pytest.mark.parametrize("rows", [WithoutReplacement(2), Epochs(2)])
def test_any_sampling_of_rows_goes_in(rows):
    """Rows without replacement: all estimates of a step are those of the C(5, 2) pairs, equally often."""
    a, b = POINTS[:2]
    objective = PROBLEM.objective(PROBLEM.data)
    estimator = SVRG(rows, 5)
    memory = estimator.init(objective, as_tree(a))

    def second(key):
        keys = jax.random.split(key)
        draw = lambda k: estimator.draw(k, objective)
        _, now, _ = estimator(objective, as_tree(a), memory, draw(keys[0]), jnp.asarray(0))
        return estimator(objective, as_tree(b), now, draw(keys[1]), jnp.asarray(1))[0]["c"]

    trials = 4000
    found = np.asarray(jax.jit(jax.vmap(second))(jax.random.split(jax.random.key(2), trials)))
    pairs = np.sort([(gradient(b, p) - gradient(a, p) + gradient(a))[D] for p in itertools.combinations(range(N), 2)])
    which = np.abs(found[:, None] - pairs).argmin(axis=1)
    np.testing.assert_allclose(found, pairs[which], atol=1e-12)
    counts = np.bincount(which, minlength=10)
    assert ((counts - trials / 10) ** 2 / (trials / 10)).sum() < 33.7  # 1e-4 of chi-square with 9 degrees of freedom


@pytest.mark.parametrize("problem", [PROBLEM, from_arrays(X, Y, loss="logistic", ridge=RIDGE)])
def test_blocks_are_neighbouring_rows(problem):
    """Two blocks of two rows, each every other time; the fifth row is never seen. Also inside SVRG."""
    objective = problem.objective(problem.data)
    here, there = (jax.tree.map(lambda leaf, s=s: leaf + s, problem.initial(jax.random.key(0))) for s in (0.3, -0.2))
    draws = jax.vmap(lambda k: Blocks(2).draw(k, objective))(jax.random.split(jax.random.key(3), 400))
    found = jax.vmap(lambda d: Blocks(2)(objective, here, (), d, jnp.asarray(1))[0])(draws)
    both = [objective.gradient(here, jnp.array(rows)) for rows in ([0, 1], [2, 3])]
    flat = lambda tree: np.column_stack([np.reshape(leaf, (len(draws), -1)) for leaf in jax.tree.leaves(tree)])
    gap = [np.abs(flat(jax.tree.map(lambda f, b: f - b, found, one))).max(axis=1) for one in both]
    assert (np.minimum(*gap) < 1e-6).all()
    assert abs((gap[0] < 1e-6).mean() - 0.5) < 4 * 0.5 / np.sqrt(400)
    estimator = SVRG(Blocks(2), 5)
    _, memory, _ = estimator(objective, there, estimator.init(objective, there), draws[0], jnp.asarray(0))
    g, _, _ = estimator(objective, here, memory, draws[0], jnp.asarray(1))
    rows = jnp.array([0, 1]) if gap[0][0] < 1e-6 else jnp.array([2, 3])
    expected = jax.tree.map(
        lambda a, b, c: a - b + c,
        *(objective.gradient(p, rows) for p in (here, there)),
        objective.gradient(there),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), g, expected)


PERIODIC = np.arange(40) % 10 == 0


@pytest.mark.parametrize(
    ("dynamics", "each"),
    [
        (gld(step_size=0.1, temperature=0.1), np.full(40, 20)),
        (sgld(step_size=0.1, temperature=0.1, batch=3), np.full(40, 3)),
        (svrg_ld(step_size=0.1, temperature=0.1, batch=3, period=10), np.where(PERIODIC, 20, 6)),
        (sarah_ld(step_size=0.1, temperature=0.1, batch=3, period=10), np.where(PERIODIC, 20, 6)),
        (
            svrg_ld(step_size=0.1, temperature=0.1, batch=3, period=4, loopless=True),
            np.where(Coin(4).table(40), 20, 6),
        ),
        (cv_sgld(step_size=0.1, temperature=0.1, batch=3, centre=np.zeros(2)), np.r_[23, np.full(39, 3)]),
        (mala(step_size=0.1, temperature=0.1), np.r_[40, np.full(39, 20)]),
    ],
)
def test_gradients_are_counted_exactly(dynamics, each):
    problem = from_arrays(RNG.normal(size=(20, 2)), RNG.normal(size=20))
    steps = np.arange(41)
    runs = simulate(problem, dynamics, record=steps, seeds=2, block=7)
    assert (runs.gradient_evaluations.values == np.r_[0, np.cumsum(each)]).all()


def test_the_full_gradient_is_computed_at_refreshes_only_whatever_the_number_of_seeds():
    problem = from_arrays(np.zeros((50, 2)), np.zeros(50))
    objective = problem.objective(problem.data)
    start = jnp.zeros((8, 2))
    for dynamics in (
        svrg_ld(step_size=0.1, temperature=0.1, batch=3),
        sarah_ld(step_size=0.1, temperature=0.1, batch=3, loopless=True),
    ):
        state = jax.vmap(lambda p, d=dynamics: d.init(objective, p))(start)
        draw = jax.vmap(lambda k, d=dynamics: d.draw(k, objective, start[0]))(jax.random.split(jax.random.key(0), 8))
        steps = jax.vmap(lambda s, x, t, d=dynamics: d.step(objective, s, x, t), in_axes=(0, 0, None))
        assert " cond[" in str(jax.make_jaxpr(steps)(state, draw, jnp.asarray(3)))


def test_the_coin_has_its_frequency_and_starts_with_a_refresh():
    table = Coin(5, seed=3).table(20_000)
    assert table[0]
    assert abs(table.mean() - 0.2) < 4 * np.sqrt(0.16 / 20_000)
    assert (Every(3).table(7) == [1, 0, 0, 1, 0, 0, 1]).all()
    assert (Coin(5, seed=4).table(100) != table[:100]).any()


def test_mode_is_where_the_gradient_vanishes():
    objective = PROBLEM.objective(PROBLEM.data)
    found = mode(objective, PROBLEM.initial(jax.random.key(0)), tolerance=1e-9)
    assert np.abs(gradient(as_vector(found))).max() < 1e-7


def test_mala_is_exact_where_ula_is_not():
    """A standard normal in 2-D by steps that are too long: MALA keeps E|x|^2 = 2, ULA has 2 / (1 - h/2)."""
    h, seeds = 0.8, 4000
    problem = LogDensity(lambda x: -jnp.sum(x["a"] ** 2) / 2, lambda key: {"a": jax.random.normal(key, (2,))})
    run = lambda dynamics: simulate(Chains(problem), dynamics, record=[25], seeds=seeds)
    square = lambda runs: (runs.a.values[:, -1] ** 2).sum(axis=-1)
    exact, biased = square(run(mala(step_size=h))), square(run(ula(step_size=h)))
    gap = lambda sample, value: abs(sample.mean() - value) / (sample.std(ddof=1) / np.sqrt(seeds))
    assert gap(exact, 2) < 4.2
    assert gap(biased, 2 / (1 - h / 2)) < 4.2
    assert gap(biased, 2) > 8


def test_mala_accepts_as_often_as_quadrature_says():
    """Mean acceptance from the normal law itself, E min(1, ratio) over x and the noise, by quadrature in 2-D."""
    h, seeds = 1.2, 10_000
    z, weight = np.polynomial.hermite_e.hermegauss(120)
    x, xi = z[:, None], z[None, :]
    y = x - h * x + np.sqrt(2 * h) * xi
    back = (x - y + h * y) / np.sqrt(2 * h)
    ratio = np.exp(np.minimum(0, x**2 / 2 - y**2 / 2 + xi**2 / 2 - back**2 / 2))
    expected = (weight[:, None] * weight * ratio).sum() / weight.sum() ** 2
    problem = LogDensity(lambda x: -(x**2) / 2, lambda key: jax.random.normal(key))
    runs = simulate(problem, MALA(h), record=[1], seeds=seeds)
    sample = runs.acceptance.values[:, -1]
    assert abs(sample.mean() - expected) < 4.2 * sample.std(ddof=1) / np.sqrt(seeds) + 2e-3  # of the quadrature


def test_mala_targets_the_temperature_and_refuses_what_is_not_finite():
    """exp(-F / T) on x > 0 with F = x: mean T."""
    T, seeds = 0.4, 4000
    law = lambda x: jnp.where(x > 0, -x, jnp.nan)
    problem = LogDensity(law, lambda key: T * jax.random.exponential(key))
    runs = simulate(Chains(problem), mala(step_size=0.1, temperature=T), record=[40], seeds=seeds)
    sample = runs.position.values[:, -1]
    assert (sample > 0).all()
    assert abs(sample.mean() - T) < 4.2 * sample.std(ddof=1) / np.sqrt(seeds)
    assert 0.3 < float(runs.acceptance.mean()) < 0.99


def test_chains_go_to_arviz():
    pytest.importorskip("arviz_base")
    problem = LogDensity(lambda p: -jnp.sum(p["mu"] ** 2) - p["s"] ** 2, {"mu": np.zeros(3), "s": 0.5})
    runs = simulate(Chains(problem), mala(step_size=0.2), record=np.arange(0, 60, 2), seeds=4)
    tree = to_arviz(runs, burn_in=10)
    assert dict(tree["posterior"].sizes) == {"chain": 4, "draw": 20, "mu_dim_0": 3}
    np.testing.assert_array_equal(tree["posterior"]["mu"], runs.mu[:, 10:])
    assert set(tree["posterior"].data_vars) == {"mu", "s"}
    assert set(tree["sample_stats"].data_vars) == {"lp", "acceptance_rate", "gradient_evaluations"}
    with_data = simulate(Chains(PROBLEM), gld(step_size=0.1, temperature=1 / N), record=np.arange(5), seeds=2)
    assert set(to_arviz(with_data)["posterior"].data_vars) == {"w", "c"}
    for bad, says in [
        ({"burn_in": 30}, "burn_in=30 leaves none of the 30"),
        ({"parameters": ["nu"]}, "no variable 'nu'.*did you mean 'mu'"),
    ]:
        with pytest.raises(InputError, match=says):
            to_arviz(runs, **bad)
    with pytest.raises(InputError, match="holds no parameters"):
        to_arviz(runs.drop_vars(["mu", "s"]))
    with pytest.raises(InputError, match=r"runs.isel\(point=0\)"):
        to_arviz(xr.concat([runs, runs], "point"))


@pytest.mark.parametrize(
    "dynamics",
    [
        sgld(step_size=0.1, temperature=1.0, batch=1),
        sgld(step_size=0.1, temperature=1.0, batch=Minibatch(1)),
        svrg_ld(step_size=0.1, temperature=1.0, batch=1),
        sarah_ld(step_size=0.1, temperature=1.0, batch=1),
        cv_sgld(step_size=0.1, temperature=1.0, batch=1, centre=np.zeros(2)),
    ],
)
def test_a_log_density_is_no_sum(dynamics):
    with pytest.raises(InputError, match="a minibatch needs a finite sum and a log-density is a single term"):
        simulate(GAUSSIAN, dynamics, record=[1], seeds=1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gld(step_size=0.1, temperature=0.0), "temperature=0.0 must be a finite number > 0"),
        (lambda: ula(step_size=0.1, temperature=-1.0), "temperature=-1.0 must be"),
        (lambda: mala(step_size=0.1, temperature=0.0), "temperature=0.0 must be"),
        (lambda: mala(step_size=0.0), "step_size=0.0 must be"),
        (lambda: svrg_ld(step_size=0.1, temperature=1.0, batch=2, period=0), "period=0 must be a whole number >= 1"),
        (lambda: SARAH(2, 1.5), "period=1.5 must be a whole number"),
        (lambda: Coin(0), "period=0 must be"),
        (lambda: SVRG(0, 2), "batch=0 must be a whole number"),
        (lambda: LogDensity(3.0, 0.0), "not a function"),
        (lambda: LogDensity(lambda x: x, np.zeros(2)), r"gives \(2,\) and not one number"),
        (lambda: LogDensity(jnp.log, 0.0), "-inf at the start"),
        (lambda: QuadraticSum(np.ones((3, 2)), np.ones((3, 1))), r"h has shape \(3, 2\) and b has \(3, 1\)"),
        (lambda: QuadraticSum(-np.ones((3, 2)), np.ones((3, 2))), "mean curvature of coordinate 0 is -1"),
    ],
)
def test_bad_input_is_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize("name", ["sgld", "svrg_ld", "sarah_ld", "cv_sgld"])
def test_a_batch_larger_than_the_sum_is_refused(name):
    make = {"sgld": sgld, "svrg_ld": svrg_ld, "sarah_ld": sarah_ld, "cv_sgld": cv_sgld}[name]
    extra = {"centre": np.zeros(2)} if name == "cv_sgld" else {}
    with pytest.raises(InputError, match="batch=6 is larger than the 5 samples"):
        simulate(from_arrays(X, Y), make(step_size=0.1, temperature=1.0, batch=6, **extra), record=[1], seeds=1)


def test_other_objectives_that_do_not_fit_are_refused():
    stream = OnePass(LeastSquares(np.ones(2), np.ones(2)))
    with pytest.raises(InputError, match="stream of fresh samples"):
        simulate(stream, svrg_ld(step_size=0.1, temperature=1.0, batch=Minibatch(2)), record=[1], seeds=1)
    centre = cv_sgld(step_size=0.1, temperature=1.0, batch=2, centre=np.zeros(3))
    with pytest.raises(InputError, match=r"the centre has shapes \[\(3,\)\] and the parameters have \[\(2,\)\]"):
        simulate(from_arrays(X, Y), centre, record=[1], seeds=1)


def test_a_gradient_that_is_not_finite_names_its_sample():
    loss = lambda f, y: jnp.log(y - f)
    problem = from_arrays(X, np.array([1.0, 2.0, 3.0, 0.0, 1.0]), loss=loss)
    objective = problem.objective(problem.data)
    with pytest.raises(InputError, match="not finite; the first of 1 such samples is number 3"):
        refuse_not_finite(objective, jnp.zeros(2))
    with pytest.raises(InputError, match="number 3"):
        mode(objective, jnp.zeros(2))
    refuse_not_finite(PROBLEM.objective(PROBLEM.data), as_tree(POINTS[0]))
