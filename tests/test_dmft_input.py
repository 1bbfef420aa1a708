"""What `theory.dmft.solve` says of its input, its errors and its limits, and what does not change its numbers."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.problems import LeastSquares, TeacherStudent
from riron.theory.dmft import solve, solving
from riron.theory.dmft.stability import weighted_edge

COMMON = {"paths": 4096, "groups": 8}
WIDE = {"teacher_gram": 4.0, "overlap": 0.6, "start_gram": 1.5}


pytestmark = pytest.mark.usefixtures("quick_compilation")


def linear(**options):
    return TeacherStudent(50, label_noise=0.3, **options)


def test_the_record_keeps_its_labels_and_the_start_is_exact():
    record = xr.DataArray([0.0, 0.6, 1.2], {"epoch": [0.0, 1.0, 2.0]}, "epoch")
    line = solve(linear(**WIDE), delta=2.0, horizon=2.0, dt=0.3, record=record, **COMMON)
    assert line.train_loss.dims == ("epoch",)
    np.testing.assert_array_equal(line.epoch, [0.0, 1.0, 2.0])
    np.testing.assert_allclose([line.overlap[0], line.self_overlap[0]], [0.6, 1.5], rtol=1e-6)
    np.testing.assert_allclose(line.test_loss[0], (1.5 - 1.2 + 4.0 + 0.3) / 2, rtol=1e-6)
    assert line.train_loss_stderr_df == 7
    assert line.attrs["clock"] == "none"


def test_errors_are_estimated_and_said():
    with pytest.warns(UserWarning, match="beyond rtol=1e-05"):
        line = solve(
            TeacherStudent(50, link="tanh", activation="tanh"), delta=2.0, horizon=1.0, dt=0.5, rtol=1e-5,
            paths=2048, groups=4, clock="flow",
        )  # fmt: skip
    assert {"train_loss_dt_error", "train_loss_paths_error", "test_loss_stderr"} <= set(line)


def test_a_step_beyond_stability_is_named():
    with pytest.warns(UserWarning, match=r"diverged at t=.*dt < 0.686 is stable"):
        line = solve(linear(), delta=2.0, horizon=40.0, dt=1.0, paths=1024, groups=4)
    assert np.isfinite(line.train_loss[:2]).all()
    assert np.isnan(line.train_loss[-1])


STEEP = {"activation": lambda x: jnp.tanh(3 * x), "link": lambda s: jnp.sum(jnp.tanh(3 * s)), "start_gram": 4.0}


@pytest.mark.parametrize(
    ("problem", "told", "says"),
    [
        (linear(), {"dt": 50.0, "horizon": 50.0}, r"dt=50 is beyond stability.*dt < 0.686 is stable"),
        (linear(), {"dt": 0.7, "horizon": 1.4, "ridge": 0.5}, r"dt=0.7 is beyond stability.*dt < 0.586"),
        # Batches so small that their noise feeds itself: 1 = gain <x^2 / (1 - (1 - dt x)^2)> at a temperature of 1.67.
        (linear(), {"dt": 0.3, "horizon": 0.6, "batch_fraction": 0.05}, r"dt < 0.686.*delta\) < 1.67"),
        (linear(), {"dt": 0.3, "horizon": 0.6, "sgd_temperature": 3.0}, r"beyond stability"),
        (TeacherStudent(50, **STEEP), {"dt": 3.0, "horizon": 3.0}, r"dt=3 is beyond stability.*dt < 0.2"),
    ],
)
def test_steps_beyond_stability_are_noticed_in_runs_of_one_or_two_steps(problem, told, says):
    with pytest.warns(UserWarning, match=says):
        solve(problem, delta=2.0, paths=1024, groups=4, **told)


@pytest.mark.parametrize("told", [{"dt": 0.68}, {"dt": 0.3, "batch_fraction": 0.2}, {"dt": 1.2, "momentum": 0.9}])
def test_steps_within_stability_are_not(told):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(linear(), delta=2.0, horizon=2 * told["dt"], paths=1024, groups=4, **told)


def test_the_edge_of_a_weighted_covariance_is_that_of_a_drawn_one():
    """Weights of both signs; the largest of them times the edge without weights would be far too much."""
    rng, d, delta = np.random.default_rng(0), 600, 2.0
    weights, X = rng.uniform(-1, 3, round(delta * d)) ** 3, rng.normal(size=(round(delta * d), d)) / np.sqrt(d)
    largest = np.linalg.eigvalsh(X.T @ (weights[:, None] * X) / delta)[-1]
    np.testing.assert_allclose(weighted_edge(weights, delta), largest, rtol=0.03)
    np.testing.assert_allclose(weighted_edge(np.ones(4), delta), (1 + delta**-0.5) ** 2, rtol=1e-3)


def test_a_loss_that_is_not_finite_is_refused():
    broken = TeacherStudent(50, loss=lambda f, y: jnp.sqrt(f - y), label_noise=0.1)
    with pytest.raises(InputError, match=r"not finite at step 0 for r="):
        solve(broken, delta=2.0, horizon=1.0, dt=0.5, paths=1024, groups=4)


def test_an_overlap_that_never_grows_is_said():
    even = TeacherStudent(50, link=lambda s: s[0] ** 2, activation=lambda r: r**2 / 2)
    with pytest.warns(UserWarning, match="mirror image"):
        solve(even, delta=2.0, horizon=0.2, dt=0.1, paths=512, groups=4)


def test_few_paths_are_warned_of():
    with pytest.warns(UserWarning, match="32 paths in a group are few"):
        solve(linear(), delta=2.0, horizon=1.0, dt=0.1, paths=128, groups=4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"delta": 0.0}, "delta=0.0 must be"),
        ({"dt": -1.0}, "dt=-1.0 must be"),
        ({"horizon": 0.01}, "shorter than one step"),
        ({"clock": "poison"}, "did you mean 'poisson'"),
        ({"clock": "poisson"}, "needs batches"),
        ({"clock": "none", "batch_fraction": 0.5}, "has no batches"),
        ({"clock": "brownian", "batch_fraction": 0.5}, "needs sgd_temperature"),
        ({"sgd_temperature": 0.5, "batch_fraction": 0.5}, "both"),
        ({"batch_fraction": 1.5}, "outside"),
        ({"clock": "shuffle", "batch_fraction": 0.3}, "divide an epoch"),
        ({"sgd_temperature": 0.01}, "longer than an epoch"),
        ({"sgd_temperature": 0.5, "momentum": 0.9}, "pass dt and sgd_temperature times 10"),
        ({"momentum": 1.0}, "outside"),
        ({"record": [0.05]}, "no multiple of dt"),
        ({"record": [0.2, 0.1]}, "not in order"),
        ({"record": [9.0]}, "outside"),
        ({"groups": 1}, "groups=1"),
        ({"ridge": -1.0}, "ridge=-1.0"),
        ({"step_schedule": lambda t: 0.5 - t}, "negative at t=0.6"),
        ({"batch_schedule": lambda t: 1 + t}, "batch_schedule needs batches"),
        ({"batch_schedule": lambda t: 9 + t, "batch_fraction": 0.5}, r"is 5 somewhere, outside \(0, 1\]"),
        ({"blocks": None, "paths": 2**34, "groups": 2}, "compresses the past"),
    ],
)
def test_bad_input_is_said_in_one_sentence(change, says, monkeypatch):
    monkeypatch.setattr(solving.drawing, "draws", small_draws)
    with pytest.raises(InputError, match=says):
        solve(linear(), **({"delta": 2.0, "horizon": 1.0, "dt": 0.1, "paths": 256, "groups": 2} | change))


def test_too_few_paths_for_the_past_are_refused():
    with pytest.raises(InputError, match="13 paths in a group cannot carry 12 rows"):
        solve(linear(), delta=2.0, horizon=1.0, dt=0.1, paths=52, groups=4)


def small_draws(key, groups, paths, m, J):
    """Stands in for draws too large to make."""
    shape = np.broadcast_to
    return solving.drawing.Draws(shape(0.0, (groups, J, paths)), shape(0.0, (groups, paths)), np.zeros(1), key)


def test_other_problems_and_features_are_refused():
    with pytest.raises(InputError, match="needs a TeacherStudent problem and got LeastSquares"):
        solve(LeastSquares(np.ones(4), np.ones(4)), delta=2.0, horizon=1.0, dt=0.1)  # pyright: ignore
    with pytest.raises(InputError, match="variances that differ"):
        solve(TeacherStudent(4, spectrum=[1.0, 2.0, 1.0, 1.0]), delta=2.0, horizon=1.0, dt=0.1)


def test_teachers_of_another_dimension_are_refused():
    for teacher in (np.ones(40), np.ones((100, 1)), np.ones(100)):
        with pytest.raises(InputError, match=f"teacher has {len(teacher)} rows and d=50"):
            TeacherStudent(50, teacher=teacher)
    with pytest.raises(InputError, match=r"overlap \(1, 3\); they need \(2, 2\) and \(2, 1\)"):
        TeacherStudent(50, second=[1.0, 1.0], overlap=[[0.1, 0.1, 0.1]])
    with pytest.raises(InputError, match="teacher_gram is not positive definite"):
        TeacherStudent(50, teacher_gram=[[1.0, 2.0], [2.0, 1.0]])


def test_groups_all_at_once_are_groups_one_by_one(monkeypatch):
    """A graphics card takes all groups in one call."""
    told = {"delta": 2.0, "horizon": 1.0, "dt": 0.1, "batch_fraction": 0.5, "key": 3, **COMMON}
    one_by_one = solve(linear(), **told)
    monkeypatch.setattr(solving.jax, "default_backend", lambda: "gpu")
    together = solve(linear(), **told)
    np.testing.assert_allclose(together.train_loss, one_by_one.train_loss, rtol=1e-9)
    np.testing.assert_allclose(together.test_loss, one_by_one.test_loss, rtol=1e-9)


def test_the_same_key_gives_the_same_numbers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a, b, c = (
            solve(linear(), delta=2.0, horizon=2.4, dt=0.1, batch_fraction=0.5, key=k, **COMMON) for k in (7, 7, 8)
        )
    xr.testing.assert_identical(a, b)
    assert float(abs(a.train_loss - c.train_loss).max()) > 0
