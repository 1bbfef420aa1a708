"""The mean-field optimum, laws on a grid and fluctuations: exact identities, closed forms, NumPy simulations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad

from riron.errors import InputError
from riron.lab.compiling import use_persistent_cache
from riron.models.neurons import to_neuron
from riron.problems.mean_field import MeanFieldProblem
from riron.theory.dual_methods import coordinate_ascent_bound, dual_averaging
from riron.theory.linear_neurons import LinearNeurons, linear_neurons, objective_gap_of_small_steps
from riron.theory.mean_field_bounds import holley_stroock, mfld_bound, mfld_plan
from riron.theory.mean_field_fluctuations import fluctuations
from riron.theory.mean_field_law import LawOnGrid, finite_step_fluctuations, mean_field_law
from riron.theory.mean_field_optimum import mean_field_optimum
from riron.theory.spectral_gap import spectral_gap

LOSSES = ("squared", "logistic", "huber", "smoothed_hinge", "custom")


def cosh_loss(f, y):
    return jnp.log(jnp.cosh(f - y))


def step_neuron(w, x):
    return 2 * jnp.tanh(2 * (x[0] - w[0]))


@pytest.fixture(autouse=True, scope="module")
def double():
    """Short runs: compiling them with few optimisations takes a quarter of the time."""
    use_persistent_cache()
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def table(n=24, seed=0):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-2, 2, n))
    return x[:, None], np.sin(2 * x) + 0.3 * rng.standard_normal(n)


def make(loss="squared", neuron=None, lam1=0.1, lam2=0.08, **options):
    X, y = table()
    y = np.where(y > 0, 1.0, -1.0) if loss in ("logistic", "smoothed_hinge") else y
    neuron = to_neuron(step_neuron, parameters=1, bound=2.0) if neuron is None else neuron
    return MeanFieldProblem(X, y, neuron=neuron, loss=cosh_loss if loss == "custom" else loss,
                            lam1=lam1, lam2=lam2, **options)  # fmt: skip


def bregman(problem, f, z):
    values, slopes = problem.losses(z), problem.slopes(z)
    return float(np.mean(problem.losses(f) - values - slopes * (f - z)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dimension", [1, 2])
def test_exact_identities_of_any_measure(loss, dimension):
    problem = make(loss, neuron=None if dimension == 1 else to_neuron("tanh", scale=2.0))
    best = mean_field_optimum(problem)
    assert best.quadrature_error < 1e-10
    assert abs(best.duality_gap) < 1e-15
    grid, f_star, lam2 = best.grid, best.predictions, float(problem.lam2)
    log_star = np.log(best.density) + np.log(grid.volume)
    rng = np.random.default_rng(1)
    for _ in range(3):
        tilt = grid.outputs @ rng.normal(size=grid.n) / grid.n - grid.nodes @ rng.normal(size=dimension)
        log_mu = log_star + tilt - np.log(np.sum(np.exp(log_star + tilt)))
        f = np.exp(log_mu) @ grid.outputs
        excess = grid.objective_rel(log_mu) - best.objective_rel
        kl = float(np.sum(np.exp(log_mu) * (log_mu - log_star)))
        assert excess == pytest.approx(bregman(problem, f, f_star) + lam2 * kl, abs=1e-9)
        gibbs = grid.gibbs(f)
        upper = lam2 * float(np.sum(np.exp(log_mu) * (log_mu - gibbs.log_probabilities)))
        assert grid.objective_rel(log_mu) - gibbs.dual_value == pytest.approx(upper, abs=1e-9)
        assert lam2 * kl <= excess + 1e-9 <= upper + 2e-9
        # the Bregman gap of the Gibbs measure itself, and what a wrong reference point would give
        gap = grid.objective_rel(gibbs.log_probabilities) - gibbs.dual_value
        assert gap == pytest.approx(bregman(problem, gibbs.predictions, f), abs=1e-9)
        assert gap != pytest.approx(bregman(problem, f, gibbs.predictions), rel=1e-3) or loss == "squared"


def test_optimum_by_an_independent_quadrature():
    """The density is the fixed point of the Gibbs map, with integrals by adaptive quadrature."""
    problem, lam1, lam2 = make("logistic"), 0.1, 0.08
    best = mean_field_optimum(problem)
    X, y = np.asarray(problem.X)[:, 0], np.asarray(problem.y)
    slopes = -y / (1 + np.exp(y * best.predictions))
    h = lambda w: 2 * np.tanh(2 * (X - w))
    weight = lambda w: np.exp(-(slopes @ h(w) / len(y) + lam1 * w**2) / lam2)
    total = quad(weight, -6, 6, epsabs=1e-13, limit=300)[0]
    for i in (0, 11, 23):
        mean = quad(lambda w, i=i: weight(w) * h(w)[i], -6, 6, epsabs=1e-13, limit=300)[0] / total
        assert best.predictions[i] == pytest.approx(mean, abs=1e-10)
    reference = quad(lambda w: np.exp(-lam1 * w**2 / lam2), -9, 9)[0]
    assert best.log_partition == pytest.approx(np.log(total / reference), abs=1e-9)


def test_linear_neurons_have_a_closed_optimum():
    problem = make(neuron=to_neuron("identity", bias=False))
    best, X, y = mean_field_optimum(problem), np.asarray(problem.X), np.asarray(problem.y)
    S = float(X[:, 0] @ X[:, 0]) / len(y)
    w = float(X[:, 0] @ y) / len(y) / (S + 0.2)
    np.testing.assert_allclose(best.predictions, X[:, 0] * w, atol=1e-10)
    # KL of N(w, s0^2) from N(0, s0^2) is w^2 / (2 s0^2)
    assert best.objective_rel == pytest.approx(np.mean((X[:, 0] * w - y) ** 2) / 2 + 0.1 * w**2, abs=1e-10)
    # an Ornstein-Uhlenbeck process: rate 2 lam1
    assert best.gap == pytest.approx(0.2, rel=1e-3)
    C = best.covariance
    found = fluctuations(C, np.ones(len(y)), lam2=0.08)
    assert found.objective == pytest.approx(objective_gap_of_small_steps(X, lam1=0.1, lam2=0.08, width=1), rel=1e-8)
    assert found.prediction_error == pytest.approx(0.08 * S / (S + 0.2) / 2, rel=1e-8)
    assert found.without_interaction > 1.5 * found.prediction_error


def test_spectral_gap_of_a_double_well_is_kramers():
    T, w = 0.06, np.linspace(-2.2, 2.2, 2001)
    log_p = -((w**2 - 1) ** 2) / 4 / T
    log_p = log_p - np.log(np.exp(log_p).sum() * (w[1] - w[0]))
    kramers = 2 * np.sqrt(2 * 1) / (2 * np.pi) * np.exp(-0.25 / T)  # twice the escape rate of one well
    assert spectral_gap(log_p, w[1] - w[0], T) == pytest.approx(kramers, rel=0.2)


def test_bad_input_of_the_optimum():
    neuron = to_neuron("tanh", output_weight="bounded")
    four = MeanFieldProblem(np.ones((5, 2)), np.ones(5), neuron=neuron, lam1=1, lam2=1)
    with pytest.raises(InputError, match=r"4 parameters and quadrature takes 1 or 2.*optimality_gap"):
        mean_field_optimum(four)
    far = make(neuron=to_neuron("identity", bias=False), lam2=1e-8)
    with pytest.raises(InputError, match=r"does not end within .* standard deviations.*raise lam1|Newton"):
        mean_field_optimum(far, 101)
    with pytest.raises(InputError, match=r"unbounded; .*Holley-Stroock constant needs osc"):
        holley_stroock(np.ones(3), bound=None, lam1=0.1, lam2=0.1)


def numpy_mfld(problem, step_size, steps, N, seeds, batch=None, drift=1.0, rng=None):
    """Particles W (seeds, N) of one-parameter neurons, in NumPy."""
    X, y = np.asarray(problem.X)[:, 0], np.asarray(problem.y)
    lam1, lam2 = float(problem.lam1), float(problem.lam2)
    W = np.sqrt(lam2 / (2 * lam1)) * rng.standard_normal((seeds, N))
    for _ in range(steps):
        h = 2 * np.tanh(2 * (X - W[..., None]))
        g = h.mean(axis=1) - y
        slope = -4 * (1 - (h / 2) ** 2)
        force = np.einsum("si,sji->sj", g, slope) / len(y) + 2 * lam1 * W
        W = W - drift * step_size * force + np.sqrt(2 * step_size * lam2) * rng.standard_normal(W.shape)
    return W


def test_law_on_a_grid_against_particles_and_a_mutation():
    problem = make(lam2=0.1)
    law = LawOnGrid(problem, step_size=0.2)
    *_, p = law.march(12)
    W = numpy_mfld(problem, 0.2, 12, 2000, 40, rng=np.random.default_rng(2))
    for function in (np.tanh, np.square, lambda w: np.cos(2 * w)):
        runs = function(W).mean(axis=1)
        error = runs.std(ddof=1) / 40**0.5
        assert abs(runs.mean() - p @ function(law.w)) < 5 * error + 2e-4
    slow = numpy_mfld(problem, 0.2, 12, 2000, 40, drift=0.9, rng=np.random.default_rng(2))
    runs = np.square(slow).mean(axis=1)
    assert abs(runs.mean() - p @ law.w**2) > 5 * runs.std(ddof=1) / 40**0.5


def test_entropy_sandwich_and_dissipation_along_the_law():
    problem = make(lam2=0.1)
    steps = np.array([0, 1, 2, 5, 10, 20, 21, 40])
    run = mean_field_law(problem, step_size=0.02, record=xr.DataArray(steps, dims="step"), start_mean=1.0)
    excess = run.excess_objective.values
    assert (run.divergence.values <= excess + 1e-12).all()
    assert (excess <= run.duality_gap.values + 1e-12).all()
    assert (np.diff(excess) < 0).all()
    fall = (excess[5] - excess[6]) / 0.02
    assert fall == pytest.approx(float(run.dissipation[5]), rel=0.05)


def test_finite_step_fluctuations_tend_to_the_formula_and_agree_with_particles():
    problem = make(lam2=0.1)
    best = mean_field_optimum(problem)
    limit = fluctuations(best.covariance, np.ones(24), lam2=0.1)
    errors = [finite_step_fluctuations(problem, step_size=h).prediction_error for h in (0.1, 0.05)]
    assert 2 * errors[1] - errors[0] == pytest.approx(limit.prediction_error, rel=0.01)
    alone = finite_step_fluctuations(problem, step_size=0.05, interaction=0.0).prediction_error
    assert alone == pytest.approx(limit.without_interaction, rel=0.02)

    X = np.asarray(problem.X)[:, 0]
    W = numpy_mfld(problem, 0.1, 150, 48, 800, rng=np.random.default_rng(3))
    f = 2 * np.tanh(2 * (X - W[..., None])).mean(axis=1)
    runs = 48 * ((f - f.mean(axis=0)) ** 2).mean(axis=1) / 2 * 800 / 799
    error = runs.std(ddof=1) / 800**0.5
    assert abs(runs.mean() - errors[0]) < 5 * error + 0.02 * errors[0]
    assert abs(runs.mean() - alone) > 15 * error


@pytest.mark.parametrize("sampling", ["with-replacement", "without-replacement"])
def test_linear_neurons_against_particles_and_a_mutation(sampling):
    rng = np.random.default_rng(4)
    X, n, N, eta, lam1, lam2, B = rng.normal(size=(12, 2)), 12, 6, 0.25, 0.1, 0.2, 3
    y = X @ [1.0, -0.5] + 0.5 * rng.normal(size=12)
    steps = np.array([0, 3, 40])
    setting = {"lam1": lam1, "lam2": lam2, "step_size": eta, "width": N, "sampling": sampling}
    line = linear_neurons(X, y, **setting, batch=B, record=xr.DataArray(steps, dims="step"))
    seeds = 6000
    W = np.sqrt(lam2 / (2 * lam1)) * rng.standard_normal((seeds, N, 2))
    found = []
    for t in range(41):
        f = W.mean(axis=1) @ X.T
        if t in steps:
            found.append(((f - y) ** 2).mean(axis=1) / 2)
        if sampling == "with-replacement":
            rows = rng.integers(n, size=(seeds, B))
        else:
            rows = np.argsort(rng.random((seeds, n)), axis=1)[:, :B]
        residual = np.take_along_axis(f - y, rows, axis=1)
        gradient = np.einsum("sb,sbd->sd", residual, X[rows]) / B
        noise = np.sqrt(2 * eta * lam2) * rng.standard_normal(W.shape)
        W = W - eta * (gradient[:, None] + 2 * lam1 * W) + noise
    mean, error = np.mean(found, axis=1), np.std(found, axis=1) / seeds**0.5
    assert (np.abs(mean - line.train_loss) < 5 * error).all()
    wrong = linear_neurons(X, y, **setting, batch=1.3 * B, record=xr.DataArray(steps, dims="step"))
    assert (np.abs(mean - wrong.train_loss)[1:] > 5 * error[1:]).any()
    lab = LinearNeurons(X, y, **setting, batch=B)
    assert lab.excess(np.zeros(2), lab.stationary()) == pytest.approx(float(line.excess_risk[-1]), rel=0.02)


def test_linear_neurons_have_the_exponents_of_the_theory():
    X, y = table(12)
    setting = {"lam1": 0.1, "lam2": 0.2}
    gap = lambda N, eta: LinearNeurons(X, y, **setting, step_size=eta, width=N).objective_gap()
    small = objective_gap_of_small_steps(X, **setting, width=32)
    assert gap(32, 1e-4) == pytest.approx(small, rel=1e-3)
    bias = [gap(1e9, eta) for eta in (0.02, 0.04)]
    assert np.log2(bias[1] / bias[0]) == pytest.approx(2, abs=0.05)
    with pytest.raises(InputError, match="diverges; use one below"):
        gap(32, 3.0)


def test_bounds_hold_and_ask_for_too_much():
    problem = make(lam2=0.1)
    best = mean_field_optimum(problem)
    _, slopes, _ = best.grid.loss(best.predictions)
    V = best.grid.outputs @ slopes / len(slopes)
    sharp = holley_stroock(slopes, bound=2.0, lam1=0.1, lam2=0.1, oscillation=float(np.ptp(V)))
    rough = holley_stroock(slopes, bound=2.0, lam1=0.1, lam2=0.1)
    # lam2 alpha bounds the spectral gap from below, with the sharper oscillation more closely
    assert rough.alpha < sharp.alpha <= best.gap / 0.1
    assert rough.exponent < rough.a_priori_exponent
    plan = mfld_plan(sharp.log_alpha, 0.01, lam2=0.1)
    reached = mfld_bound(
        sharp.log_alpha, lam2=0.1, step_size=np.exp(plan.log_step_size), steps=np.exp(plan.log_steps),
        width=np.exp(plan.log_width), n=24,
    )  # fmt: skip
    assert 0.005 < reached <= 0.0101


def test_exact_dual_averaging_and_the_bound_of_coordinate_ascent():
    problem = make(neuron=to_neuron(lambda w, x: jnp.tanh(2 * (x[0] - w[0])), parameters=1, bound=1.0))
    T = np.array([16, 32, 64])
    full = dual_averaging(problem, record=xr.DataArray(T, {"T": T}, "T")).excess_objective.values
    assert np.diff(np.log2(full)) == pytest.approx([-2, -2], abs=0.1)
    flat = dual_averaging(problem, record=xr.DataArray(T, {"T": T}, "T"), growth=0.0).excess_objective.values
    assert flat[-1] > 10 * full[-1]

    # dual coordinate ascent written out, with the squared loss's closed form
    best, n, R, lam2 = mean_field_optimum(problem), 24, 1.0, 0.08
    grid, y, s = best.grid, np.asarray(problem.y), R**2 / (lam2 * 24)
    errors = []
    for seed in range(20):
        rng, g = np.random.default_rng(seed), -np.asarray(problem.y)
        for _ in range(2 * n):
            i = rng.integers(n)
            log_p = grid.log_reference - grid.outputs @ g / (n * lam2)
            p = np.exp(log_p - log_p.max())
            hbar = p @ grid.outputs[:, i] / p.sum()
            g = np.where(np.arange(n) == i, g + (hbar - y[i] - g[i]) / (1 + s), g)
        z = g + y
        errors.append(best.objective_rel - grid.gibbs_of_slopes(z, g**2 / 2, g).dual_value)
    k = xr.DataArray([2 * n], dims="k")
    bound = float(coordinate_ascent_bound(problem, record=k, smoothness=1.0).dual_error[0])
    wrong = float(coordinate_ascent_bound(problem, record=k, smoothness=1.0, speed=2.5).dual_error[0])
    assert wrong < np.mean(errors) < bound
