# pyright: reportOptionalMemberAccess=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportMissingImports=false, reportOptionalOperand=false, reportOptionalSubscript=false
"""Tangent features: Jacobians against finite differences and closed forms, forecasts against trained networks."""

import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.forecast.features import make_features
from riron.forecast.networks.tangent import kernel_drift, tangent_features
from riron.forecast.tables.reading import read_table
from riron.theory.least_squares_forecast import least_squares_sgd
from riron.theory.spectrum import Spectrum
from riron.theory.stability import stability_edge

RNG = np.random.default_rng(0)
N, M, D = 40, 15, 6
X, X_TEST = RNG.normal(size=(N, D)) / np.sqrt(D), RNG.normal(size=(M, D)) / np.sqrt(D)


pytestmark = pytest.mark.usefixtures("float64")


def two_layers(width, outputs=None, seed=0):
    """relu(X W^T) a^T / sqrt(width), all parameters N(0, 1)."""
    rng = np.random.default_rng(seed)
    shape = (width,) if outputs is None else (outputs, width)
    params = {"W": jnp.asarray(rng.normal(size=(width, D))), "a": jnp.asarray(rng.normal(size=shape))}
    return lambda p, X: jax.nn.relu(X @ p["W"].T) @ p["a"].T / np.sqrt(width), params


def kernel_by_hand(params, A, B):
    """[relu'(u) relu'(v) a^2 x.x' + relu(u) relu(v)] / width, summed over neurons."""
    W, a = np.asarray(params["W"]), np.asarray(params["a"])
    u, v = A @ W.T, B @ W.T
    return (((u > 0) * a**2) @ (v > 0).T * (A @ B.T) + np.maximum(u, 0) @ np.maximum(v, 0).T) / len(a)


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize("width", [3, 64])
def test_inner_products_are_those_of_the_jacobian(width):
    """Both ways: fewer parameters than rows (the Jacobian itself), and more (the Gram matrix)."""
    apply, params = two_layers(width)
    T = tangent_features(apply, params, X, X_test=X_TEST)
    assert T.parameters == width * (D + 1)
    assert T.F.shape[1] <= min(N, T.parameters)
    np.testing.assert_allclose(T.F @ T.F.T, kernel_by_hand(params, X, X), atol=1e-12)
    np.testing.assert_allclose(T.F_test @ T.F.T, kernel_by_hand(params, X_TEST, X), atol=1e-12)
    np.testing.assert_allclose(T.start[:, 0], apply(params, X))
    np.testing.assert_allclose(T.start_test[:, 0], apply(params, X_TEST))


def test_blocks_of_parameters_and_rows_change_nothing():
    apply, params = two_layers(400, outputs=3)
    whole = tangent_features(apply, params, X, X_test=X_TEST)
    little = 8.0 * N * (2 * N + 3 * (N + M)) * 2
    pieces = tangent_features(apply, params, X, X_test=X_TEST, max_bytes=little)
    np.testing.assert_allclose(pieces.F @ pieces.F.T, whole.F @ whole.F.T, rtol=1e-10)
    np.testing.assert_allclose(pieces.F_test @ pieces.F.T, whole.F_test @ whole.F.T, rtol=1e-10)
    assert pieces.between_outputs == pytest.approx(whole.between_outputs)


def test_outputs_share_the_mean_kernel_and_what_is_left_out_falls_with_the_width():
    apply, params = two_layers(50, outputs=3)
    T = tangent_features(apply, params, X)
    each = [kernel_by_hand({"W": params["W"], "a": params["a"][k]}, X, X) for k in range(3)]
    np.testing.assert_allclose(T.F @ T.F.T, np.mean(each, axis=0), atol=1e-12)
    second = tangent_features(apply, params, X, outputs=1)
    np.testing.assert_allclose(second.F @ second.F.T, each[1], atol=1e-12)
    assert second.start.shape == (N, 1)
    assert second.between_outputs == 0
    wide = tangent_features(*two_layers(5000, outputs=3), X)
    assert wide.between_outputs < 0.2 * T.between_outputs  # 1/sqrt(100), times the luck of one draw


def test_a_linear_model_is_its_own_tangent_and_never_drifts():
    T = tangent_features(lambda p, X: X @ p, jnp.zeros(D), X, X_test=X_TEST)
    np.testing.assert_allclose(T.F, X)
    np.testing.assert_allclose(T.F_test, X_TEST)
    drift = kernel_drift(T, X[:, 0], batch=4, step_size=0.5, horizon=300, momentum=0.9, nesterov=True)
    assert drift.kernel_change == 0
    assert drift.tolerance < 1e-9
    assert drift.lazy


def test_modules_and_odd_trees_are_networks_too():
    class Net(eqx.Module):
        layer: eqx.nn.Linear
        last: jax.Array
        name: str = "odd"

        def __call__(self, x):
            return self.last @ jnp.tanh(self.layer(x))

    net = Net(eqx.nn.Linear(D, 8, key=jax.random.key(0)), jnp.ones((2, 8), jnp.float32))
    T = tangent_features(net, None, X)
    assert T.parameters == 8 * D + 8 + 16
    assert T.start.shape == (N, 2)
    tree = {"w": np.zeros(D, np.float32), "steps": np.array(3)}  # a whole number is not trained
    assert tangent_features(lambda p, X: X @ p["w"], tree, X).parameters == D


def antisymmetric(width, key):
    half, keys = width // 2, jax.random.split(key)
    W, a = jax.random.normal(keys[0], (half, D)), jax.random.normal(keys[1], (half,))
    params = jnp.concatenate([W, W]), jnp.concatenate([a, -a])
    return lambda p, X: jax.nn.relu(X @ p[0].T) @ p[1] / np.sqrt(width), params


@pytest.mark.parametrize("width", [8, 2048])
def test_the_forecast_of_a_wide_network_is_its_training_and_that_of_a_narrow_one_is_refused(width):
    """Trained in a loop of its own. Wide: within 5 standard errors and the tolerance; narrow: not lazy, and off."""
    apply, params = antisymmetric(width, jax.random.key(1))
    y, y_test = np.sign(X[:, 0] * X[:, 1]), np.sign(X_TEST[:, 0] * X_TEST[:, 1])
    T = tangent_features(apply, params, X, X_test=X_TEST)
    assert np.abs(T.start).max() < 1e-12
    spectrum = Spectrum.of(T.F, y, T.F_test, y_test)
    batch, steps, seeds = 4, 200, 32
    step_size = 0.1 * stability_edge(spectrum, batch=batch).step_size
    record = xr.DataArray([20, 80, steps], dims="step")
    line = least_squares_sgd(
        spectrum, batch=batch, step_size=step_size, record=record, sampling="with-replacement", errors=False
    )
    drift = kernel_drift(T, y, batch=batch, step_size=step_size, horizon=steps)

    @jax.jit
    def run(key):
        def step(p, rows):
            loss = lambda p: jnp.mean((apply(p, jnp.asarray(X)[rows]) - jnp.asarray(y)[rows]) ** 2) / 2
            p = jax.tree.map(lambda a, g: a - step_size * g, p, jax.grad(loss)(p))
            return p, jnp.mean((apply(p, X) - y) ** 2) / 2

        return jax.lax.scan(step, params, jax.random.randint(key, (steps, batch), 0, N))[1]

    runs = np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(2), seeds)))[:, record.values - 1]
    mean, error = runs.mean(axis=0), runs.std(axis=0, ddof=1) / np.sqrt(seeds)
    gap = np.abs(line.train_loss.values - mean)
    if width > 1000:
        assert drift.lazy
        assert np.all(gap < 5 * error + drift.tolerance * mean)
        assert gap[0] < 5 * error[0] + 0.01 * mean[0]
    else:
        assert not drift.lazy
        assert "does not train lazily" in drift.sentence
        assert gap[-1] > 0.05 * mean[-1] + 5 * error[-1]


def test_the_jacobian_matters():
    """A mutation: a kernel without the first layer's part forecasts another curve."""
    apply, params = antisymmetric(512, jax.random.key(1))
    full = tangent_features(apply, params, X)
    last = tangent_features(lambda a, X: apply((params[0], a), X), params[1], X)
    assert np.linalg.norm(full.F @ full.F.T - last.F @ last.F.T) > 0.3 * np.linalg.norm(full.F @ full.F.T)


def test_bad_networks_are_refused_in_one_sentence():
    apply, params = two_layers(4)
    refused(lambda: tangent_features(apply, params), "rows X")
    refused(lambda: tangent_features(apply, None, X), "params")
    refused(lambda: tangent_features(3, params, X), "cannot be called")
    refused(lambda: tangent_features(apply, {}, X), "no parameters")
    refused(lambda: tangent_features(apply, params, X[:, :3]), "fails on X of shape (40, 3)")
    refused(lambda: tangent_features(lambda p, X: jnp.sum(X @ p), jnp.zeros(D), X), "shape")
    refused(lambda: tangent_features(lambda p, X: X @ p * np.nan, jnp.zeros(D), X), "not finite", "40 rows")
    refused(lambda: tangent_features(lambda p, X: X @ p * 0, jnp.zeros(D), X), "no parameter moves")
    normalised = lambda p, X: (X - X.mean(axis=0)) @ p
    refused(lambda: tangent_features(normalised, jnp.ones(D), X), "depends on the other rows")
    refused(lambda: tangent_features(apply, params, X, outputs=2), "outputs=2", "1 outputs")
    refused(lambda: tangent_features(apply, params, X, max_bytes=1000), "fewer rows")
    refused(lambda: tangent_features(apply, params, [[1.0, np.nan]]), "not finite")
    T = tangent_features(apply, params, X)
    refused(lambda: kernel_drift(T, np.zeros((N, 2)), batch=4, step_size=0.1, horizon=10), "2 outputs")
    refused(lambda: kernel_drift(T, X[:, 0], batch=400, step_size=0.1, horizon=10), "batch=400")
    refused(lambda: kernel_drift(T, X[:, 0], batch=4, step_size=0.1, horizon=10, steps=20), "20 steps")


GOOD = """
import jax, jax.numpy as jnp
from neighbour import SCALE

def network(inputs, outputs, key):
    keys = jax.random.split(key)
    params = jax.random.normal(keys[0], (30, inputs)), jax.random.normal(keys[1], (outputs, 30))
    return (lambda p, X: SCALE * jax.nn.relu(X @ p[0].T) @ p[1].T), params
"""


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(100, D))
    return read_table((X, np.array(["p", "q", "r"])[np.argmax(X[:, :3], axis=1)]))


@pytest.fixture
def write(tmp_path):
    (tmp_path / "neighbour.py").write_text("SCALE = 0.05")

    def write(code):
        path = tmp_path / "net.py"
        path.write_text(textwrap.dedent(code))
        return f"ntk:{path}"

    return write


def test_features_of_a_network_in_a_file(table, write):
    features = make_features(table, write(GOOD), seed=5)
    assert features.tangent is not None
    assert features.tangent.parameters == 30 * (D + 3)
    assert features.F.shape == (table.n, features.tangent.F.shape[1] + 1)
    assert not features.F[:, -1].any()
    assert features.F_test.shape == (len(table.X_test), features.F.shape[1])
    assert any("parameters" in note for note in features.notes)
    assert any("share one kernel" in note for note in features.notes)
    again = make_features(table, write(GOOD), seed=5)
    np.testing.assert_array_equal(features.F, again.F)
    assert not np.allclose(make_features(table, write(GOOD), seed=6).tangent.start, features.tangent.start)


def test_an_equinox_module_from_a_file(table, write):
    code = """
    import equinox as eqx
    def network(inputs, outputs, key):
        return eqx.nn.MLP(inputs, outputs, 16, 2, key=key)
    """
    features = make_features(table, write(code))
    assert features.tangent.parameters == (D + 1) * 16 + 17 * 16 + 17 * 3


def test_a_flax_module_from_a_file(table, write):
    pytest.importorskip("flax")
    code = """
    import flax.linen as nn
    class Net(nn.Module):
        outputs: int
        @nn.compact
        def __call__(self, x):
            return nn.Dense(self.outputs)(nn.relu(nn.Dense(16)(x)))
    def network(inputs, outputs, key):
        return Net(outputs)
    """
    assert make_features(table, write(code)).tangent.parameters == (D + 1) * 16 + 17 * 3


def test_a_pytorch_module_from_a_file_agrees_with_jax(table, write):
    torch = pytest.importorskip("torch")
    code = """
    from torch import nn
    def network(inputs, outputs, key):
        return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs))
    """
    T = make_features(table, write(code)).tangent
    assert T.parameters == (D + 1) * 16 + 17 * 3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Linear(D, 16), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3)
        )
    W, b, A, c = [p.detach().double().numpy() for p in module.parameters()]
    jax_twin = tangent_features(
        lambda p, X: jax.nn.relu(X @ p[0].T + p[1]) @ p[2].T + p[3], tuple(map(jnp.asarray, (W, b, A, c))), T.X
    )
    np.testing.assert_allclose(T.start, jax_twin.start, atol=1e-12)
    np.testing.assert_allclose(T.F @ T.F.T, jax_twin.F @ jax_twin.F.T, atol=1e-10)
    y = np.eye(3)[table.y]
    ours, twin = (kernel_drift(t, y, batch=4, step_size=0.05, horizon=60) for t in (T, jax_twin))
    assert ours.loss_gap == pytest.approx(twin.loss_gap, rel=1e-6)
    assert ours.kernel_change == pytest.approx(twin.kernel_change, rel=1e-6)


def test_bad_files_are_refused_in_one_sentence(table, write, tmp_path):
    refused(lambda: make_features(table, f"ntk:{tmp_path / 'none.py'}"), "no file")
    refused(lambda: make_features(table, "ntk:"), "ntk:FILE.py")
    refused(lambda: make_features(table, write("1/0")), "ZeroDivisionError", "fails when executed")
    refused(lambda: make_features(table, write("x = 1")), "no function named network")
    refused(lambda: make_features(table, write("def network(inputs): return 1")), "fails", "TypeError")
    refused(lambda: make_features(table, write("def network(inputs, outputs, key): return 1")), "returned a int")
    two = GOOD.replace("(outputs, 30)", "(2, 30)")
    refused(lambda: make_features(table, write(two)), "2 outputs", "needs 3")
    nan = GOOD.replace("SCALE *", "jnp.nan *")
    refused(lambda: make_features(table, write(nan)), "not finite")
    (tmp_path / "net.txt").write_text(GOOD)
    refused(lambda: make_features(table, f"ntk:{tmp_path / 'net.txt'}"), ".py")
