"""Schedules: derivatives of the forecast, its grid against the adaptive march, the optimum, known cases, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.forecast.advising.schedule_files import read_schedule, write_schedule
from riron.forecast.advising.schedules import best_schedule
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.problem_arrays import prepare
from riron.theory.schedule_design import Intervals, end_losses, make_grid
from riron.theory.schedule_search import Basis, Limits, grid_arrays, search, table_losses, value_and_slope
from riron.theory.schedule_tables import schedule_table
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

N, P, BATCH, STEPS = 60, 5, 4, 90


pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    theta = rng.standard_normal(P)
    X, X_test = (rng.standard_normal((n, P)) * [2, 1.4, 1, 0.6, 0.3] for n in (N, 80))
    X[0] *= 2.5  # one heavy row
    y, y_test = (A @ theta + 1.5 * rng.standard_normal(len(A)) for A in (X, X_test))
    return X, y, X_test, y_test


@pytest.fixture(scope="module")
def spectrum(rows):
    return Spectrum.of(*rows)


@pytest.fixture(scope="module")
def half(spectrum):
    """With the held-out rows that choose: the shapes of `best_schedule`, to share its compilations."""
    chooses = np.random.default_rng(0).permutation(80)[:40]
    return Spectrum.of(spectrum.rows, spectrum.targets, spectrum.test_rows[chooses], spectrum.test_targets[chooses])


@pytest.fixture(scope="module")
def edge(spectrum):
    return stability_edge(spectrum, batch=BATCH).step_size


def forecast(spectrum, tables, epoch):
    """(tables, 2) train and held-out loss at the end of each."""
    data = prepare(spectrum, k=P, dtype=jnp.float64)
    return table_losses(data, 0.0, make_grid(len(tables[0]), epoch), epoch, tables, BATCH)


@pytest.mark.parametrize("epoch", [None, N // BATCH])
@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_the_fixed_grid_agrees_with_the_adaptive_march(half, edge, epoch, kind):
    steps = 40 * STEPS if epoch is None else STEPS  # long, so that intervals are
    table = schedule_table(kind, 0.4 * edge, steps)
    adaptive = least_squares_sgd(
        half, batch=BATCH, step_size=table, record=xr.DataArray([steps], dims="step"), rtol=1e-5,
        sampling="epochs" if epoch else "with-replacement", errors=False,
    )  # fmt: skip
    found, other = forecast(half, [table, 1.05 * table], epoch)
    assert found == pytest.approx([float(adaptive.train_loss[0]), float(adaptive.test_loss[0])], rel=1e-3)
    if kind == "constant":  # a decay ends at the minimum, whatever its peak
        assert abs(other[1] / float(adaptive.test_loss[0]) - 1) > 1e-3  # the comparison sees 5 % in the step size


@pytest.mark.parametrize("epoch", [None, N // BATCH])
def test_derivatives_are_those_of_central_differences(half, edge, epoch):
    grid = make_grid(STEPS, epoch)
    data = prepare(half, k=P, dtype=jnp.float64)
    basis = Basis.of(grid, 8)
    # With as many limits as `best_schedule` has, which then shares the compilation.
    batches = np.array([1.0, 2, 4, 16] if epoch is None else [1.0, 2])
    limits = Limits(jnp.log(jnp.asarray(batches)), jnp.log(edge * jnp.asarray(batches / batches[-1])))
    fixed = (data, jnp.asarray(0.0), grid_arrays(grid), basis._replace(hats=()), limits, jnp.asarray(float(BATCH)))
    loss = lambda x: value_and_slope(*fixed, x, epoch)
    x = jnp.linspace(-0.5, -2.0, 16)  # step sizes that fall, then batches that do
    slopes = loss(x)[1]
    assert np.abs(slopes).max() > 1e-3
    h = 1e-5 if epoch is None else 3e-3  # contributions within an epoch are kept in float32: a wide difference
    for j in (0, 4, 7, 8, 12, 15):
        up, down = (float(loss(x.at[j].add(sign * h))[0]) for sign in (1, -1))
        wanted = (up - down) / (2 * h)
        assert float(slopes[j]) == pytest.approx(wanted, rel=1e-4 if epoch is None else 0.02, abs=2e-5)


def one_direction(noise=1.0, signal=2.0):
    """Rows +-1 with targets signal x +- noise: the loss depends on S = E (theta - signal)^2 only, and the recursion is
    S <- (1 - eta)^2 S + eta^2 noise^2 / B with replacement."""
    x = np.array([1.0, 1.0, -1.0, -1.0])
    y = signal * x + noise * np.array([1.0, -1.0, 1.0, -1.0])
    return Spectrum.of(x[:, None], y, np.ones((4, 1)), np.full(4, signal))


@pytest.mark.parametrize("batch", [1, 4])
def test_in_one_direction_the_search_finds_the_optimal_step_sizes(batch):
    spectrum, steps, noise, start = one_direction(), 200, 1.0, 4.0
    optimal = 1 / (1 / start + steps * batch / noise**2)  # S of eta_t = S_t / (S_t + noise^2 / B), which decay like 1/t
    largest = float(stability_edge(spectrum, batch=batch).step_size)
    data = prepare(spectrum, k=1, dtype=jnp.float64)
    grid = make_grid(steps)
    basis = Basis.of(grid, 16)
    limits = Limits(jnp.array([0.0, 1.0]), jnp.full(2, jnp.log(largest)))
    constant = schedule_table("constant", 0.05, steps)
    found = search(data, 0.0, grid, None, basis, limits, batch, constant, False)

    S = start
    for step_size in found.step_sizes:
        S = (1 - step_size) ** 2 * S + step_size**2 * noise**2 / batch
    # Straight lines between 16 knots cannot follow 1/t exactly, and nothing can beat the optimum.
    assert optimal * (1 - 1e-9) <= S < 1.1 * optimal
    assert found.loss == pytest.approx(S / 2, rel=0.01)
    flat = (1 - 0.05) ** (2 * steps) * start + noise**2 / batch * 0.05 / (2 - 0.05)
    assert 0.5 * flat > S


def test_the_optimal_steps_themselves_leave_no_slope():
    spectrum, steps, start = one_direction(), 60, 4.0
    S, table = start, []
    for _ in range(steps):
        table.append(S / (S + 1))
        S = S / (S + 1)
    grid = make_grid(steps, finer=4)._replace(times=np.arange(steps + 1), ends=np.zeros(steps, bool))
    data = prepare(spectrum, k=1, dtype=jnp.float64)

    @jax.jit
    @jax.value_and_grad
    def loss(table):
        return end_losses(data, jnp.zeros(()), grid, Intervals(table, table**2, jnp.ones(steps)), None)[1]

    value, slope = loss(jnp.asarray(table))
    assert float(value) == pytest.approx(S / 2, rel=1e-9)  # every step its own interval: exact
    assert np.abs(slope).max() < 1e-9 * float(value) * steps
    assert np.abs(loss(1.1 * jnp.asarray(table))[1]).max() > 1e-3 * float(value)


@pytest.fixture(scope="module")
def schedule(rows):
    return best_schedule(*rows[:2], X_test=rows[2], y_test=rows[3], batch=BATCH, budget_epochs=6)


def test_the_best_schedule_is_not_behind_any_named_one(schedule, half, edge):
    forecasts = schedule.forecasts
    assert set(forecasts) == {"optimised", "constant", "linear", "cosine"}
    assert forecasts[schedule.kind]["chosen_loss"] == min(f["chosen_loss"] for f in forecasts.values())
    assert len(schedule.step_sizes) == 6 * (N // BATCH)
    assert 0 <= schedule.step_sizes.min() < schedule.step_sizes.max() <= 0.9 * edge * 1.05  # the edge is a sampled one
    assert abs(schedule.grid_error) < 2e-3
    for kind in ("constant", "cosine"):  # each is at its own best peak
        peak = forecasts[kind]["peak"]
        losses = forecast(half, [schedule_table(kind, f * peak, 90) for f in (0.8, 1.0, 1.25)], N // BATCH)[:, 1]
        assert losses[1] == pytest.approx(forecasts[kind]["chosen_loss"], rel=1e-6)
        assert losses[1] <= min(losses) * (1 + 1e-4) or peak > 0.88 * edge


def test_training_with_it_gives_what_was_forecast(schedule, rows):
    X, y, X_test, y_test = rows
    rng = np.random.default_rng(4)
    judges = np.random.default_rng(0).permutation(80)[40:]
    seeds, table = 1000, schedule.step_sizes
    theta = np.zeros((seeds, P))
    for t in range(len(table)):
        if t % (N // BATCH) == 0:
            order = rng.permuted(np.tile(np.arange(N), (seeds, 1)), axis=1)
        picked = order[:, (t % (N // BATCH)) * BATCH :][:, :BATCH]
        residual = np.einsum("sbp,sp->sb", X[picked], theta) - y[picked]
        theta -= table[t] / BATCH * np.einsum("sb,sbp->sp", residual, X[picked])
    losses = np.mean((theta @ X_test[judges].T - y_test[judges]) ** 2, axis=1) / 2
    error = losses.std(ddof=1) / np.sqrt(seeds)
    promised = schedule.forecasts[schedule.kind]["test_loss"]
    assert abs(losses.mean() - promised) < 4.5 * error + 0.01 * promised  # the shuffled closure is good to 1 % here


def test_batches_searched_keep_steps_and_passes(rows):
    found = best_schedule(
        *rows[:2], X_test=rows[2], y_test=rows[3], batch=BATCH, budget_epochs=6, sampling="with-replacement",
        over=("step_size", "batch"),
    )  # fmt: skip
    steps_only = found.forecasts["cosine"]["chosen_loss"]
    assert found.forecasts["optimised"]["chosen_loss"] <= steps_only * (1 + 1e-3)
    if found.batches is not None:
        assert found.batches.sum() == 360
        assert found.batches.min() >= 1
    assert len(found.step_sizes) == STEPS
    assert found.to_dict()["steps"] == STEPS


def test_named_tables():
    assert schedule_table("constant", 0.5, 3).tolist() == [0.5, 0.5, 0.5]
    assert schedule_table("linear", 1.0, 4).tolist() == [1.0, 0.75, 0.5, 0.25]
    assert schedule_table("cosine", 2.0, 4) == pytest.approx([2, 1 + np.sqrt(0.5), 1, 1 - np.sqrt(0.5)])
    assert schedule_table("linear", 1.0, 6, warmup=2).tolist() == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_files_come_back_as_written(tmp_path):
    table = schedule_table("cosine", 0.3, 7)
    path = tmp_path / "steps.csv"
    write_schedule(path, table)
    assert (read_schedule(path) == table).all()
    path.write_text("# made by hand\n0.1\n\n0.05\n")
    assert read_schedule(path).tolist() == [0.1, 0.05]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no numbers"), ("0.1\nx\n", "line 2"), ("0.1,0.2\n", "line 1"), ("0.1\n-1\n", "step 1"), ("0\n0\n", "zeros")],
)
def test_files_that_are_no_schedule_are_refused(tmp_path, text, said):
    path = tmp_path / "steps.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_schedule(path)


def test_refusals(rows, tmp_path):
    X, y, X_test, y_test = rows
    common = {"X_test": X_test, "y_test": y_test, "batch": 4, "budget_epochs": 2}
    for change, said in [
        ({"over": ("momentum",)}, "over"),
        ({"over": ("step_size", "batch")}, "with replacement"),
        ({"knots": 1}, "knots"),
        ({"budget_epochs": 0}, "budget"),
        ({"X_test": None, "y_test": None}, "held-out"),
        ({"sampling": "sorted"}, "sampling"),
    ]:
        with pytest.raises(InputError, match=said):
            best_schedule(X, y, **(common | change))
    with pytest.raises(InputError, match="cosine"):
        schedule_table("cosin", 1.0, 5)
    with pytest.raises(InputError, match="warmup"):
        schedule_table("cosine", 1.0, 5, warmup=5)
    with pytest.raises(InputError, match="cannot be read"):
        read_schedule(tmp_path / "none.txt")
