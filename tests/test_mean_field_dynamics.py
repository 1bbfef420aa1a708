"""Mean-field problems and dynamics against formulas written out in NumPy, and what they refuse."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import riron.problems.mean_field as mean_field_room
from riron.dynamics import SVRG, langevin
from riron.dynamics.inner_samplers import Chains, Tempering
from riron.dynamics.jko import jko_step, optimal_pairing
from riron.dynamics.mean_field_langevin import mfld, particle_flow, spgd, stable_step_size
from riron.dynamics.particle_dual_averaging import ParticleDualAveraging
from riron.dynamics.particle_dual_coordinate_ascent import ParticleDualCoordinateAscent, dual_update
from riron.dynamics.particles import run_particles, shard_particles
from riron.errors import InputError
from riron.lab.compiling import use_persistent_cache
from riron.lab.running import simulate
from riron.models import MeanField, to_neuron
from riron.problems import MeanFieldProblem, from_arrays, losses
from riron.problems.base import OnePass
from riron.problems.mean_field import frozen


@pytest.fixture(autouse=True, scope="module")
def double():
    """Short runs: compiling them with few optimisations takes a quarter of the time."""
    use_persistent_cache()
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def table(n=11, d=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, np.sin(2 * X[:, 0]) + 0.2 * rng.normal(size=n)


def make(loss="squared", neuron="tanh", lam1=0.1, lam2=0.05, width=13, **options):
    X, y = table()
    if loss in ("logistic", "smoothed_hinge"):
        y = (y > 0).astype(float)
    return MeanFieldProblem(X, y, neuron=neuron, loss=loss, lam1=lam1, lam2=lam2, width=width, **options)


def output(W, X):
    """tanh(v . x + b), written out."""
    return np.tanh(W[:, :2] @ X.T + W[:, 2:])


def first_variation(W, X, y, lam1):
    """grad_w [(1/n) sum (f - y) h_w + lam1 |w|^2] for squared loss and tanh neurons."""
    h = output(W, X)
    g = h.mean(axis=0) - y
    slope = (1 - h**2) * g / len(y)
    return np.concatenate([slope @ X, slope.sum(axis=1, keepdims=True)], axis=1) + 2 * lam1 * W


@pytest.mark.parametrize("chunk", [2**22, 13 * 4])
def test_gradient_of_the_objective_is_the_first_variation(chunk, monkeypatch):
    monkeypatch.setattr(mean_field_room, "CHUNK", chunk)
    problem = make()
    objective, W = problem.objective(problem.data), problem.initial(jax.random.key(0))
    X, y = table()
    np.testing.assert_allclose(objective.gradient(W), first_variation(np.asarray(W), X, y, 0.1), atol=1e-13)
    rows = jnp.array([3, 3, 7])
    expected = first_variation(np.asarray(W), X[[3, 3, 7]], y[[3, 3, 7]], 0.1)
    np.testing.assert_allclose(objective.gradient(W, rows), expected, atol=1e-13)


def test_mfld_is_its_formula_step_by_step():
    problem = make()
    dynamics, (X, y) = mfld(problem, step_size=0.3), table()
    objective, W = problem.objective(problem.data), problem.initial(jax.random.key(0))
    state, mine = dynamics.init(objective, W), np.asarray(W)
    for t in range(5):
        draw = dynamics.draw(jax.random.key(t), objective, jax.eval_shape(lambda: W))
        state, spent = dynamics.step(objective, state, draw, jnp.asarray(t))
        mine = mine - 0.3 * first_variation(mine, X, y, 0.1) + np.sqrt(2 * 0.3 * 0.05) * np.asarray(draw.noise)
    np.testing.assert_allclose(state.params, mine, atol=1e-12)
    assert int(spent) == 11


def test_variance_reduced_and_full_gradients_are_coupled():
    problem = make(width=20)
    run = lambda **options: simulate(problem, mfld(problem, step_size=0.2, **options), record=[40], seeds=8).train_loss
    full, reduced, small = run(), run(gradient=SVRG(4, 4)), run(batch=4)
    assert float(((reduced - full) ** 2).mean()) < 0.5 * float(((small - full) ** 2).mean())


def test_flow_without_noise_descends_and_spgd_decays():
    problem = make(width=40)
    flow = simulate(problem, particle_flow(step_size=0.2), record=np.arange(0, 60, 20), seeds=2)
    assert (np.diff(flow.train_loss.values, axis=1) < 0).all()
    fresh = simulate(OnePass(problem), spgd(step_size=0.2, halving=50, batch=2), record=[0, 50], seeds=2)
    assert fresh.gradient_evaluations.values[0].tolist() == [0, 100]


def test_neurons_know_their_size_and_shape():
    X, _ = table()
    for options, p, bound in [
        ({}, 3, 1.0), ({"bias": False, "scale": 2.0}, 2, 2.0), ({"output_weight": "bounded"}, 4, 1.0),
        ({"output_weight": "linear"}, 4, None),
    ]:  # fmt: skip
        neuron = to_neuron("tanh", **options)
        assert (neuron.dim(2), neuron.bound) == (p, bound)
        W = 5 * np.random.default_rng(0).normal(size=(6, p))
        H = np.asarray(neuron.features(jnp.asarray(W), jnp.asarray(X)))
        field = W[:, :2] @ X.T + (W[:, 2:3] if options.get("bias", True) else 0)
        front = {"none": 1.0, "bounded": np.tanh(W[:, -1:]), "linear": W[:, -1:]}[options.get("output_weight", "none")]
        np.testing.assert_allclose(H, options.get("scale", 1.0) * front * np.tanh(field), atol=1e-13)
        assert H[2, 3] == pytest.approx(float(neuron(jnp.asarray(W[2]), jnp.asarray(X[3]))), abs=1e-13)
        assert bound is None or np.abs(H).max() <= bound
    clipped = to_neuron("relu-clipped")
    assert clipped.bound == 1.0
    assert not clipped.differentiable
    assert to_neuron("relu").bound is None
    mine = to_neuron(lambda w, x: jnp.tanh(w @ x), bound=1.0)
    assert (mine.dim(2), mine.bound) == (2, 1.0)
    network = MeanField(mine, 2, 5)
    W = network.init(jax.random.key(0))
    assert float(network.penalty(W)) == pytest.approx(float((W**2).sum(axis=1).mean()) / 2)


def test_reference_losses_and_labels():
    problem = make("logistic")
    assert set(np.unique(problem.y)) == {-1.0, 1.0}
    assert float(problem.reference_sd) == pytest.approx(0.5)
    z = jnp.linspace(-2, 2, 11)
    for name, curvature in [("squared", 1.0), ("logistic", None)]:
        problem = make(name)
        step = 1e-5
        slopes = (problem.losses(z + step) - problem.losses(z - step)) / (2 * step)
        np.testing.assert_allclose(problem.slopes(z), slopes, atol=1e-8)
        second = (problem.slopes(z + step) - problem.slopes(z - step)) / (2 * step)
        np.testing.assert_allclose(problem.curvatures(z), second, atol=1e-8)
        assert curvature is None or float(problem.curvatures(z)[0]) == curvature
    g = problem.slopes(z)
    W = problem.initial(jax.random.key(1))
    V = (np.asarray(problem.features(W)) * np.asarray(g)).mean(axis=1)
    np.testing.assert_allclose(problem.potential(g, W), V, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lam1": 0.0}, r"lam1=0.0 must be > 0; .*no reference measure"),
        ({"lam2": -1.0}, r"lam2=-1.0 must be > 0"),
        ({"loss": "hinge"}, "'hinge' is not differentiable; use its smoothed form 'smoothed_hinge'"),
        ({"loss": "absolute"}, "smoothed form 'huber'"),
        ({"loss": lambda f, y: jnp.cos(f - y)}, "is not convex: its derivative falls near prediction"),
        ({"loss": lambda f, y: jnp.abs(f - y)}, "is not differentiable near prediction"),
        ({"loss": "logisitc"}, "no loss is called 'logisitc'; did you mean 'logistic'"),
        ({"neuron": "tahn"}, "no neuron is called 'tahn'; did you mean 'tanh'"),
        ({"width": 0}, "width=0 must be a whole number"),
    ],
)
def test_problems_refuse(change, says):
    with pytest.raises(InputError, match=says):
        make(**change)


def test_problems_refuse_bad_tables_and_labels():
    X, y = table()
    with pytest.raises(InputError, match=r"the labels y hold .*; pass -1 and 1, or 0 and 1"):
        MeanFieldProblem(X, y, loss="logistic", lam1=0.1, lam2=0.1)
    with pytest.raises(InputError, match="X holds 1 value that is not finite; it is at row 2, column 1"):
        MeanFieldProblem(np.where(np.arange(22).reshape(11, 2) == 5, np.nan, X), y, lam1=0.1, lam2=0.1)
    with pytest.raises(InputError, match="y has 10 values and X has 11 rows"):
        MeanFieldProblem(X, y[1:], lam1=0.1, lam2=0.1)
    assert make(loss=lambda f, y: jnp.log(jnp.cosh(f - y))).loss is not None


def test_steps_beyond_the_edge_are_refused_and_named():
    problem = make(neuron=to_neuron("tanh", scale=8.0), width=200)
    edge = stable_step_size(problem)
    with pytest.raises(InputError, match=r"is beyond the stability edge .* use at most"):
        mfld(problem, step_size=1.01 * edge)
    W = np.asarray(problem.initial(jax.random.key(0)))
    X, _ = table()
    h = 8 * output(W, X)
    slope = (8 * (1 - output(W, X) ** 2))[:, :, None] * np.append(X, np.ones((11, 1)), axis=1)
    kernel = np.einsum("jip,jkp->ik", slope, slope) / (11 * len(h))
    assert edge == pytest.approx(2 / (np.linalg.eigvalsh(kernel)[-1] + 0.2), rel=1e-9)
    with pytest.raises(InputError, match=r"diverged between steps \d+ and \d+; lower the step size"):
        run_particles(problem, langevin(step_size=50.0, temperature=0.05), jax.random.key(0), steps=400)
    with pytest.raises(InputError, match="batch=12 is larger than the 11 samples"):
        run_particles(problem, mfld(problem, step_size=0.01, batch=12), jax.random.key(0), steps=1)


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "smoothed_hinge"])
def test_dual_updates_maximise(loss):
    y, g, mean, s = 1.0, -0.3, 0.7, 0.6
    function = losses.to_loss(loss)
    slope = jax.grad(function)

    def dual(new):
        """-loss*(new) by the definition of the conjugate, and the other terms of the update."""
        z = jnp.linspace(-60, 60, 240_001)
        return (
            -float(jnp.max(new * z - jax.vmap(function, (0, None))(z, y))) + (new - g) * mean - s * (new - g) ** 2 / 2
        )

    low, high = (float(slope(jnp.asarray(z), y)) for z in (-40.0, 40.0))
    best = minimize_scalar(lambda v: -dual(v), bounds=(max(low, -30), min(high, 30)), method="bounded",
                           options={"xatol": 1e-7}).x  # fmt: skip
    assert float(dual_update(function, jnp.asarray(y), jnp.asarray(g), jnp.asarray(mean), s)) == pytest.approx(
        best, abs=1e-4
    )


@pytest.mark.parametrize("sampler", ["chains", "tempering"])
def test_inner_samplers_sample_the_gibbs_measure(sampler):
    X, y = table(8, 1)
    neuron = to_neuron(lambda w, x: 2 * jnp.tanh(2 * (x[0] - w[0])), parameters=1, bound=2.0)
    problem = MeanFieldProblem(X, y, neuron=neuron, lam1=0.1, lam2=0.2, width=4000)
    g = jnp.asarray(np.random.default_rng(3).normal(size=8))
    objective = frozen(problem.objective(problem.data), g, problem.ridge)
    inner = Chains(langevin(step_size=0.05, temperature=0.2), 400) if sampler == "chains" else Tempering(moves=12)
    W = problem.initial(jax.random.key(0))
    draw = inner.draw(jax.random.key(1), objective, jax.eval_shape(lambda: W))
    found = np.asarray(inner(objective, W, draw, jnp.asarray(0.2)))[:, 0]
    w = np.linspace(-8, 8, 4001)
    V = np.asarray(g) @ (2 * np.tanh(2 * (X - w))) / 8 + 0.1 * w**2
    p = np.exp(-(V - V.min()) / 0.2)
    p /= p.sum()
    for f in (np.tanh, np.square):
        # resampled points repeat: their error is a few times that of independent ones
        error = 3 * f(found).std() / 4000**0.5
        assert abs(f(found).mean() - p @ f(w)) < 4 * error + 0.02


def test_dual_methods_run_and_refuse():
    X, y = table(8, 1)
    neuron = to_neuron(lambda w, x: jnp.tanh(2 * (x[0] - w[0])), parameters=1, bound=1.0)
    problem = MeanFieldProblem(X, y, neuron=neuron, lam1=0.1, lam2=0.1, width=60)
    average = ParticleDualAveraging(0.1, None, Chains(langevin(step_size=0.1, temperature=0.1), 20))
    run = simulate(problem, average, record=[0, 1, 5], seeds=2)
    assert run.dual.dims == ("seed", "step", "sample")
    assert run.gradient_evaluations.values[0].tolist() == [0, 8, 40]
    # after one outer step g = S / 3 = loss'(f_1) / 3
    first = simulate(problem, ParticleDualAveraging(0.1, None, average.sampler), record=[1], seeds=1)
    W = problem.initial(jax.random.key(0))
    assert W.shape == (60, 1)
    assert np.abs(3 * first.dual.values[0, 0] + y).max() < 1  # f of the start is at most 1
    unbounded = MeanFieldProblem(X, y, neuron="relu", lam1=0.1, lam2=0.1, width=60)
    with pytest.raises(InputError, match=r"unbounded; particle dual coordinate ascent needs R = sup\|h\|"):
        simulate(unbounded, ParticleDualCoordinateAscent(0.1), record=[1], seeds=1)
    with pytest.raises(InputError, match="needs particles; pass a MeanFieldProblem"):
        simulate(from_arrays(X, y), average, record=[1], seeds=1)
    with pytest.raises(InputError, match="batch=9 is larger than the 8 samples"):
        simulate(problem, ParticleDualAveraging(0.1, 9), record=[1], seeds=1)


def test_proximal_steps():
    X, y = table(8, 1)
    problem = MeanFieldProblem(X, y, neuron=to_neuron("tanh", scale=2.0), lam1=0.05, lam2=0.05, width=30)
    W = np.asarray(problem.initial(jax.random.key(0)))
    objective = problem.objective(problem.data)
    value = lambda W: float(jnp.mean(objective.losses(W))) + 0.05 * float((np.asarray(W) ** 2).sum(axis=1).mean())
    for eta in (0.01, 5.0):
        step = jko_step(problem, W, step_size=eta)
        assert step.objective == pytest.approx(value(step.W), abs=1e-12)
        assert step.objective + step.distance_squared / (2 * eta) <= value(W) + 1e-12
        # the proximal point solves w = w_old - eta grad at w
        if step.matched:
            residual = step.W - W + eta * np.asarray(objective.gradient(jnp.asarray(step.W)))
            assert np.abs(residual).max() < 1e-4 * max(eta, 0.01)
    explicit = W - 0.01 * np.asarray(objective.gradient(jnp.asarray(W)))
    assert np.abs(jko_step(problem, W, step_size=0.01).W - explicit).max() < 1e-3
    line = np.random.default_rng(0).normal(size=(7, 1))
    other = np.random.default_rng(1).normal(size=(7, 1))
    pairing = optimal_pairing(line, other)
    assert (np.argsort(line[pairing], axis=0) == np.argsort(other, axis=0)).all()  # sorted to sorted
    with pytest.raises(InputError, match="one or two parameters"):
        jko_step(make(), np.zeros((4, 3)), step_size=0.1)


SHARDED = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from riron.dynamics.mean_field_langevin import mfld
from riron.dynamics.particles import run_particles
from riron.problems import MeanFieldProblem
rng = np.random.default_rng(0)
problem = MeanFieldProblem(rng.normal(size=(9, 2)), rng.normal(size=9), lam1=0.1, lam2=0.1, width=16)
run = lambda devices: run_particles(problem, mfld(problem, step_size=0.1), jax.random.key(3), steps=60, devices=devices)
assert len(jax.devices()) == 4
spread, alone = run(jax.devices()), run(None)
assert len({shard.device for shard in spread.addressable_shards}) == 4
assert spread.addressable_shards[0].data.shape == (4, 3)
np.testing.assert_allclose(spread, alone, atol=1e-12)
print("same")
"""


def test_particles_on_four_devices_are_those_on_one():
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    found = subprocess.run([sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "same", found.stderr[-2000:]
    with pytest.raises(InputError, match="13 particles cannot be spread over 2 devices; use 14 particles"):
        shard_particles(jnp.zeros((13, 1)), [jax.devices()[0]] * 2)
