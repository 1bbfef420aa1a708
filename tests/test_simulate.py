"""The lab's promises: one run whatever the blocks and seeds, no compilation for new values, counts, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.dynamics import gradient_descent, sgd
from riron.errors import InputError
from riron.lab.running import simulate, trials
from riron.problems import LeastSquares, OnePass, TeacherStudent, from_arrays

SPECTRUM = np.linspace(0.5, 1.5, 16)


def line_problem(label_noise=0.25):
    return LeastSquares(SPECTRUM, np.ones(16) / 4, label_noise)


class Compilations:
    """Counts what JAX compiles inside a `with`."""

    def __enter__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def _hear(self, event, duration, **_):
        self.count += event.endswith("backend_compile_duration")

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._hear)


@pytest.fixture(autouse=True)
def compilation(request):
    """These runs are short: compiling them with few optimisations takes a quarter of the time."""
    jax.config.update("jax_disable_most_optimizations", "x64" not in request.fixturenames)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(("sampling", "x64"), [("with-replacement", True), ("epochs", False)])
def test_numbers_do_not_depend_on_block_or_number_of_seeds(sampling, x64):
    def run(seeds, block):
        dynamics = sgd(step_size=0.01, batch=2, sampling=sampling, momentum=0.5)
        return simulate(line_problem(), dynamics, n=32, record=np.arange(0, 90, 10), seeds=seeds, block=block)

    with jax.enable_x64(x64):
        few, many = run(2, 100), run(5, 7).isel(seed=slice(2))
    assert few.train_loss.dtype == (np.float64 if x64 else np.float32)
    for name in ("train_loss", "test_loss", "gradient_evaluations"):
        np.testing.assert_array_equal(few[name], many[name])


def test_the_root_seed_changes_everything_and_nothing_else_does():
    run = lambda seed: simulate(line_problem(), sgd(step_size=0.01), n=20, record=[0, 5], seeds=3, seed=seed).train_loss
    np.testing.assert_array_equal(run(4), run(4))
    assert not np.isin(run(4), run(5)).any()


def test_shared_data_start_alike_and_own_data_do_not():
    problem = line_problem()
    data = problem.sample(jax.random.key(0), 24)
    own = simulate(problem, sgd(step_size=0.02), n=24, record=[0, 8], seeds=3).train_loss
    shared = simulate(problem, sgd(step_size=0.02), data=data, record=[0, 8], seeds=3).train_loss
    assert np.ptp(shared.values[:, 0]) == 0
    assert np.ptp(shared.values[:, 1]) > 0
    assert np.ptp(own.values[:, 0]) > 0
    np.testing.assert_allclose(shared[0, 0], np.mean(np.asarray(data.y) ** 2) / 2, rtol=1e-6)
    table = from_arrays(*data)
    np.testing.assert_allclose(
        simulate(table, sgd(step_size=0.02), record=[0, 8], seeds=3).train_loss, shared, rtol=1e-6
    )


def test_a_swept_run_is_the_single_runs_zipped():
    steps, noises = np.array([0.01, 0.03]), np.array([0.25, 1.0])
    run = lambda step, noise, **sweep: simulate(
        line_problem(noise), sgd(step_size=step, batch=2), n=20, record=[0, 10], seeds=3, **sweep
    )
    swept = run(0.5, 0.5, sweep={"dynamics.step_size": steps, "problem.label_noise": noises})
    assert swept.train_loss.dims == ("point", "seed", "step")
    np.testing.assert_array_equal(swept.step_size, steps)
    np.testing.assert_array_equal(swept.label_noise, noises)
    for k in range(2):
        single = run(steps[k], noises[k])
        for name in ("train_loss", "test_loss", "gradient_evaluations"):
            np.testing.assert_allclose(swept[name][k], single[name], rtol=1e-5)


def test_sweeping_a_schedule_and_a_momentum():
    dynamics = sgd(step_size=[0.1, 0.1, 0.1], momentum=0.5)
    values = np.array([[0.1, 0.1, 0.1], [0.0, 0.0, 0.0]])
    sweep = {"dynamics.step_size.values": values, "dynamics.gradient.momentum": [0.5, 0.9]}
    swept = simulate(line_problem(), dynamics, n=20, record=[0, 3], seeds=2, sweep=sweep)
    assert "values" not in swept.coords
    np.testing.assert_array_equal(swept.train_loss[1, :, 0], swept.train_loss[1, :, 1])
    assert (swept.train_loss[0, :, 0] != swept.train_loss[0, :, 1]).all()


def test_new_values_compile_nothing():
    problem = line_problem()
    data = problem.sample(jax.random.key(0), 50)
    run = lambda values, noise, seed: simulate(
        line_problem(noise), sgd(step_size=0.5, batch=2), data=data, record=[0, 20], seeds=4, seed=seed,
        sweep={"dynamics.step_size": values},
    )  # fmt: skip
    with Compilations() as first:
        run(np.geomspace(1e-3, 1e-2, 16), 0.25, 0)
    with Compilations() as again:
        run(np.geomspace(2e-3, 3e-2, 16), 0.5, 1)
    assert first.count > 0
    assert again.count == 0
    single = lambda step_size: simulate(problem, sgd(step_size=step_size), data=data, record=[0, 20], seeds=4)
    single(0.01)
    values = (0.02, np.float64(0.03), np.float32(0.04), jnp.asarray(0.05))
    with Compilations() as other:
        for step_size in values:
            single(step_size)
    assert other.count == 0


def test_teacher_students_of_one_shape_share_a_compilation():
    run = lambda noise, seed: simulate(
        TeacherStudent(20, link="tanh", activation="tanh", label_noise=noise, seed=seed),
        sgd(step_size=0.5), n=30, record=[0, 10], seeds=2,
    )  # fmt: skip
    run(0.1, 0)
    with Compilations() as again:
        run(0.2, 1)
    assert again.count == 0


def test_the_record_labels_its_axis():
    record = xr.DataArray([0, 3, 3, 9], {"epoch": [0.0, 0.25, 0.3, 1.0]}, "epoch")
    runs = simulate(line_problem(), sgd(step_size=0.02), n=12, record=record, seeds=2)
    assert runs.train_loss.dims == ("seed", "epoch")
    np.testing.assert_array_equal(runs.epoch, record.epoch)
    np.testing.assert_array_equal(runs.step, [0, 3, 3, 9])
    np.testing.assert_array_equal(runs.train_loss[:, 1], runs.train_loss[:, 2])
    np.testing.assert_array_equal(runs.gradient_evaluations[0], [0, 3, 3, 9])
    plain = simulate(line_problem(), sgd(step_size=0.02), n=12, record=[9], seeds=2)
    np.testing.assert_array_equal(plain.train_loss[:, 0], runs.train_loss[:, 3])
    only_start = simulate(line_problem(), sgd(step_size=0.02), n=12, record=[0], seeds=2)
    np.testing.assert_array_equal(only_start.train_loss[:, 0], runs.train_loss[:, 0])


class Spendthrift(eqx.Module):
    """Spends 2^29 gradients a step, moves nothing, and reports its own state."""

    def init(self, objective, params):
        return params

    def draw(self, key, objective, shape):
        return ()

    def step(self, objective, state, draw, t):
        return state, jnp.asarray(2**29, jnp.int32)

    def params(self, state):
        return state

    def measure(self, objective, state):
        return {"entropy": jnp.zeros(3)}


def test_counts_pass_what_32_bits_hold_and_any_object_with_the_methods_runs():
    runs = simulate(line_problem(), Spendthrift(), n=5, record=[0, 3, 40], seeds=2, block=3)
    assert runs.gradient_evaluations.dtype == np.int64
    np.testing.assert_array_equal(runs.gradient_evaluations, np.array([[0, 3 << 29, 40 << 29]] * 2))
    assert runs.entropy.shape == (2, 3, 3)


def test_a_diverging_seed_is_data():
    runs = simulate(line_problem(), gradient_descent(step_size=50.0), n=8, record=[0, 200], seeds=2)
    assert not np.isfinite(runs.train_loss[:, 1]).any()
    assert np.isfinite(runs.train_loss[:, 0]).all()
    assert runs.attrs["complete"] == 1


def test_an_interrupted_run_keeps_what_is_done():
    def stop(done, total, label):
        if done >= 20:
            raise KeyboardInterrupt

    run = lambda **more: simulate(
        line_problem(), sgd(step_size=0.02), n=12, record=[0, 10, 20, 30], seeds=2, block=10, **more
    )
    partial, whole = run(progress=stop), run()
    assert (partial.attrs["complete"], whole.attrs["complete"]) == (0, 1)
    np.testing.assert_array_equal(partial.train_loss[:, :3], whole.train_loss[:, :3])
    np.testing.assert_array_equal(partial.gradient_evaluations[0, :3], [0, 10, 20])
    assert np.isnan(partial.train_loss[:, 3]).all()
    assert np.isnan(partial.gradient_evaluations[:, 3]).all()


def test_progress_reaches_the_end():
    seen = []
    simulate(line_problem(), sgd(step_size=0.02), n=12, record=[25], seeds=2, block=10,
             progress=lambda done, total, label: seen.append((done, total)))  # fmt: skip
    assert seen == [(10, 25), (20, 25), (25, 25)]


BAD = [
    ({"seeds": 0}, "seeds=0 must be a whole number >= 1"),
    ({"seeds": 2.0}, "seeds=2.0 must be a whole number"),
    ({"block": 0}, "block=0"),
    ({"n": None}, "neither n nor data"),
    ({"data": (np.ones((4, 16)), np.ones(4))}, "both n and data"),
    ({"n": 2.5}, "n=2.5 must be a whole number"),
    ({"n": None, "data": np.ones((4, 16))}, r"not a pair \(X, y\)"),
    ({"n": None, "data": (np.ones((4, 16)), np.ones(3))}, "X has 4 rows and y has 3"),
    (
        {"n": None, "data": (np.full((4, 16), np.inf), np.ones(4))},
        "X holds 64 values that are not finite; the first is at row 0",
    ),
    ({"n": None, "data": (np.ones((4, 9)), np.ones(4))}, "does not take X of shape"),
    ({"n": 2, "dynamics": sgd(step_size=0.1, batch=3)}, "batch=3 is larger than the 2 samples"),
    ({"record": []}, "record must be a list of steps"),
    ({"record": 5}, "record must be a list of steps"),
    ({"record": [-1, 3]}, "negative step -1"),
    ({"record": [4, 3]}, "step 4 stands before 3"),
    ({"record": [0.5]}, "whole numbers of steps"),
    ({"record": [np.nan]}, "whole numbers of steps"),
    ({"record": [2**31]}, "beyond the limit"),
    (
        {"sweep": {"dynamics.step_sise": [1.0]}},
        "dynamics has no field 'step_sise'; it has step_size, gradient, noise, geometry; did you mean 'step_size'",
    ),
    ({"sweep": {"dynamic.step_size": [1.0]}}, "must begin with 'problem.' or 'dynamics.'"),
    ({"sweep": {"dynamics": [1.0]}}, "names no field"),
    (
        {"sweep": {"dynamics.gradient.batch": [1, 2]}},
        "dynamics.gradient.batch is a shape, not a number; sweep it with one",
    ),
    (
        {"sweep": {"dynamics.gradient": [1.0]}},
        "dynamics.gradient is not a number or an array of numbers; name one of its parts: batch",
    ),
    ({"sweep": {"dynamics.step_size": 0.1}}, "not a list of numbers"),
    ({"sweep": {"dynamics.step_size": [0.1, np.nan]}}, "not all finite; the first is at 1"),
    ({"sweep": {"problem.signal": [0.1, 0.2]}}, r"shape \(\) and one of them needs \(16,\)"),
    (
        {"sweep": {"dynamics.step_size": [0.1, 0.2], "problem.label_noise": [1.0]}},
        "step_size has 2, problem.label_noise has 1",
    ),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_bad_input_is_one_sentence_before_anything_compiles(change, says):
    arguments = {
        "problem": line_problem(),
        "dynamics": sgd(step_size=0.1),
        "n": 8,
        "record": [0, 5],
        "seeds": 2,
    } | change
    with Compilations() as compiled, pytest.raises(InputError, match=says) as caught:
        simulate(arguments.pop("problem"), arguments.pop("dynamics"), **arguments)
    assert compiled.count == 0
    assert "\n" not in str(caught.value)


def average(key, scale, count):
    x = scale * jax.random.normal(key, (count,))
    return {"mean": x.mean(), "values": x}


def test_trials_do_not_depend_on_blocks_and_floats_compile_nothing():
    whole = trials(average, seeds=10, scale=2.0, count=3)
    parts = trials(average, seeds=7, scale=2.0, count=3, block=4)
    assert whole["values"].dims == ("seed", "values_0")
    np.testing.assert_array_equal(whole["mean"][:7], parts["mean"])
    assert len(np.unique(whole["mean"])) == 10
    with Compilations() as again:
        scaled = trials(average, seeds=7, scale=4.0, count=3, block=4)
    assert again.count == 0
    np.testing.assert_allclose(scaled["values"], 2 * parts["values"], rtol=1e-6)


def test_interrupted_trials_keep_what_is_done():
    def stop(done, total, label):
        raise KeyboardInterrupt

    partial = trials(average, seeds=10, scale=2.0, count=3, block=4, progress=stop)
    assert partial.attrs["complete"] == 0
    assert np.isfinite(partial["mean"][:4]).all()
    assert np.isnan(partial["mean"][4:]).all()


def test_one_pass_needs_no_data_and_draws_fresh_samples_in_any_block():
    run = lambda block: (
        simulate(OnePass(line_problem()), sgd(step_size=0.02, batch=3), record=[0, 20], seeds=2, block=block).test_loss
    )
    np.testing.assert_allclose(run(20), run(6), rtol=1e-6)
