"""The loss floor: below every network on the same data, tight where it should be; wrong constants are caught."""

import sys
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.neural_network import MLPClassifier, MLPRegressor

from riron.errors import InputError
from riron.guarantees import ReLUNetwork, improve, loss_floor, read_network
from riron.guarantees.directions import search, upper_bound
from riron.guarantees.penalised import LOSSES, read_setting

pytestmark = pytest.mark.usefixtures("quick_compilation")


def table(name, rows=None):
    X, y = {"cancer": load_breast_cancer, "diabetes": load_diabetes}[name](return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0) / np.sqrt(X.shape[1])
    y = 2.0 * y - 1 if name == "cancer" else (y - y.mean()) / y.std()
    return X[:rows], y[:rows], "logistic" if name == "cancer" else "squared"


def train(X, y, loss, c, width, seed, *, steps=600, bias_decayed=True):
    """Adam in NumPy on F, gradients by hand."""
    rng = np.random.default_rng(seed)
    d = X.shape[1]
    P = [rng.normal(size=(width, d)) / d**0.5, np.zeros(width), rng.normal(size=width) / width**0.5, np.zeros(1)]
    m, v = [[np.zeros_like(p) for p in P] for _ in range(2)]
    cb = c if bias_decayed else 0.0
    for k in range(steps):
        W, b, a, b0 = P
        U = X @ W.T + b
        H = np.maximum(U, 0)
        f = H @ a + b0
        g = (f - y if loss == "squared" else -y / (1 + np.exp(y * f))) / len(y)
        back = (U > 0) * np.outer(g, a)
        G = [back.T @ X + c * W, back.sum(axis=0) + cb * b, H.T @ g + c * a, g.sum() + cb * b0]
        for i, grad in enumerate(G):
            m[i] = 0.9 * m[i] + 0.1 * grad
            v[i] = 0.99 * v[i] + 0.01 * grad**2
            size = 0.02 * (1 + np.cos(np.pi * k / steps)) / 2
            P[i] = P[i] - size * (m[i] / (1 - 0.9 ** (k + 1))) / (np.sqrt(v[i] / (1 - 0.99 ** (k + 1))) + 1e-9)
    return P[0], P[1], P[2], P[3][0]


def objective(net, X, y, loss, c, bias_decayed=True):
    W, b, a, b0 = net
    f = np.maximum(X @ W.T + b, 0) @ a + b0
    ell = (f - y) ** 2 / 2 if loss == "squared" else np.logaddexp(0, -y * f)
    penalty = (W**2).sum() + (a**2).sum() + ((b**2).sum() + b0**2 if bias_decayed else 0)
    return ell.mean() + c / 2 * penalty


@pytest.mark.parametrize("name", ["cancer", "diabetes"])
def test_the_floor_lies_below_every_network_and_touches_the_best(name):
    """Widths 1 to 512 and 5 seeds; within 0.1 % at c = .03."""
    X, y, loss = table(name, 300)
    c = 0.03
    nets = [train(X, y, loss, c, width, s, steps=100) for width in (1, 8, 64) for s in range(5)]
    nets += [train(X, y, loss, c, 512, 0, steps=20), train(X, y, loss, c, 8, 0, steps=2500)]
    reached = [objective(net, X, y, loss, c) for net in nets]
    floors = [loss_floor(net, X, y, weight_decay=c, bias_decayed=True) for net in nets[-3:]]
    assert np.allclose([floor.objective for floor in floors], reached[-3:], rtol=1e-9)
    best = max(floor.floor for floor in floors)
    assert best <= min(reached) * (1 + 1e-6)
    assert best > 0.999 * min(reached)
    assert all(floor.proved_floor <= floor.floor for floor in floors)
    assert floors[-1].status == "estimated"
    assert abs(floors[-1].psi_over_c - 1) < 2e-3


@pytest.fixture(scope="module")
def trained():
    X, y, loss = table("diabetes", 150)
    X = X[:, :4] * np.sqrt(10 / 4)
    return (
        X,
        y,
        train(X, y, loss, 0.03, 12, 0, steps=2500),
        train(X, y, loss, 0.03, 12, 0, steps=2500, bias_decayed=False),
    )


def test_mutations_break_the_floor(trained):
    """c doubled, a decayed bias forgotten, the mean of g kept with a free bias, the sign of g."""
    X, y, net, free = trained
    F, F_free = objective(net, X, y, "squared", 0.03), objective(free, X, y, "squared", 0.03, False)
    right = loss_floor(net, X, y, weight_decay=0.03, bias_decayed=True)
    right_free = loss_floor(free, X, y, weight_decay=0.03, bias_decayed=False)
    assert 0.99 * F < right.floor <= F
    assert 0.99 * F_free < right_free.floor <= F_free
    setting = read_setting(net, X, y, weight_decay=0.03, bias_decayed=True, loss=None)
    g, psi = setting.dual_vector, right.psi_over_c * 0.03
    assert setting._replace(c=0.06).floor(g, psi) > 1.002 * F
    assert setting._replace(output="none").floor(g + 0.2, psi) > setting.floor(g + 0.2, psi) + 1e-4
    unlike = setting._replace(bias="free", output="free")
    assert unlike.dual_vector.mean() == pytest.approx(0, abs=1e-12)
    assert setting.floor(-g, psi) < 0.5 * F
    # Psi of the features without the constant column is smaller: the floor would come out too high.
    less = search(X, g, "none", net[0], jax.random.key(0), starts=200, steps=100).values[0]
    assert setting.floor(g, less) > right.floor


def test_psi_in_one_dimension_is_that_of_a_grid():
    rng = np.random.default_rng(0)
    X, g = rng.normal(size=(40, 1)), rng.normal(size=40)
    angles = np.linspace(0, 2 * np.pi, 200_001)
    V = np.column_stack([np.cos(angles), np.sin(angles)])
    exact = max(
        np.abs(np.maximum(part @ np.column_stack([X, np.ones(40)]).T, 0) @ g).max() / 40
        for part in np.split(V[:-1], 20)
    )
    found = search(X, g, "decayed", np.zeros((0, 2)), jax.random.key(0), starts=200, steps=200)
    assert found.values[0] == pytest.approx(exact, rel=1e-4)
    assert exact <= upper_bound(X, g, "decayed") < 1.001 * exact
    g -= g.mean()
    biases = np.linspace(-4, 4, 100_001)
    slopes = [np.abs(np.maximum(s * X[:, 0] + biases[:, None], 0) @ g).max() / 40 for s in (-1, 1)]
    free = search(X, g, "free", np.zeros((0, 2)), jax.random.key(0), starts=200, steps=200)
    assert free.values[0] == pytest.approx(max(slopes), rel=1e-3)
    assert upper_bound(X, g, "free") == pytest.approx(max(slopes), rel=1e-4)
    t, b = free.V[0]
    assert abs(abs(t) - 1) < 1e-9
    assert np.abs(np.maximum(t * X[:, 0] + b, 0) @ g) / 40 == pytest.approx(free.values[0])


@pytest.mark.parametrize("bias", ["decayed", "free", "none"])
def test_the_proved_bound_is_above_every_direction(bias):
    rng = np.random.default_rng(1)
    X, g = rng.normal(size=(60, 5)) + 1.0, rng.normal(size=60)
    g -= g.mean() if bias == "free" else 0
    k = 5 + (bias != "none")
    V = rng.normal(size=(20_000, k)) * np.where(np.arange(k) < 5, 1, 3 if bias == "free" else 1)
    V /= np.linalg.norm(V[:, : 5 + (bias == "decayed")], axis=1, keepdims=True)
    A = X if bias == "none" else np.column_stack([X, np.ones(60)])
    seen = np.abs(np.maximum(V @ A.T, 0) @ g).max() / 60
    found = search(X, g, bias, V[:5], jax.random.key(0), starts=200, steps=200).values[0]
    assert seen <= found * (1 + 1e-9)
    assert found <= upper_bound(X, g, bias)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_conjugates(loss):
    """-loss*(g) = min_f loss(f) - g f, on a grid."""
    f, y = np.linspace(-30, 30, 600_001), -1.0
    for g in (0.2, 0.7, 0.95):
        parts = LOSSES[loss]
        exact = np.min(parts.value(f, y) - g * f)
        assert parts.dual(np.array([g]), np.array([y]))[0] == pytest.approx(exact, abs=1e-6)
        middle = np.array([0.3])
        numeric = (parts.value(middle + 1e-5, y) - parts.value(middle - 1e-5, y)) / 2e-5
        assert parts.slope(middle, y) == pytest.approx(numeric, abs=1e-7)


def test_improve_adds_the_missing_neurons():
    X, y, loss = table("cancer", 200)
    c = 0.003
    net = train(X, y, loss, c, 1, 0, steps=300)
    found = improve(net, X, y, weight_decay=c, bias_decayed=True, rounds=1, iterations=1500, starts=200, steps=150)
    assert found.added >= 1
    assert found.network.width == 1 + found.added
    assert found.after.objective < found.before.objective
    assert found.after.relative < 0.5 * found.before.relative
    again = loss_floor(found.network, X, y, weight_decay=c, bias_decayed=True, starts=200, steps=150)
    assert again.objective == pytest.approx(found.after.objective)


def test_scikit_learn_says_its_own_penalty():
    X, y, _ = table("diabetes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPRegressor(hidden_layer_sizes=(10,), solver="lbfgs", alpha=10.0, max_iter=2000, random_state=0)
        net.fit(X, y)
        floor = loss_floor(net, X, y)
        assert floor.objective == pytest.approx(net.loss_, rel=1e-3)  # their loss_ is of the step before the last
        assert 0.98 * floor.objective < floor.floor <= floor.objective
        tiny = MLPRegressor(hidden_layer_sizes=(10,), solver="lbfgs", alpha=1e-4, max_iter=300, random_state=0).fit(
            X, y
        )
    said = loss_floor(tiny, X, y, starts=100, steps=50)
    assert said.status == "too-small-decay"
    assert np.isnan(said.floor)
    assert "too small for a statement" in str(said)
    assert read_network(tiny, rows=len(X)).weight_decay == pytest.approx(1e-4 / len(X))
    tiny.set_params(solver="adam")
    assert read_network(tiny, rows=len(X)).weight_decay == pytest.approx(1e-4 / 200)


def fake_torch(*layers):
    """Modules that look like PyTorch's, which need not be installed."""

    def module(kind, **parameters):
        tensor = lambda a: SimpleNamespace(
            detach=lambda: SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: a)), shape=a.shape
        )
        made = {name: None if a is None else tensor(np.asarray(a)) for name, a in parameters.items()}
        return type(kind, (), made)()

    children = [module(kind, **parameters) for kind, parameters in layers]
    return type(
        "Sequential", (), {"children": lambda self: iter(children), "named_parameters": lambda self: iter(())}
    )()


def test_pytorch_networks_are_read_without_pytorch():
    W, b, a, b0 = np.ones((3, 2)), np.zeros(3), np.ones((1, 3)), np.array([0.5])
    good = fake_torch(("Linear", {"weight": W, "bias": b}), ("ReLU", {}), ("Linear", {"weight": a, "bias": b0}))
    network = read_network(good).network
    assert network(np.ones((1, 2)))[0] == 6.5
    without = fake_torch(("Linear", {"weight": W, "bias": None}), ("ReLU", {}), ("Linear", {"weight": a, "bias": None}))
    assert read_network(without).network.b is None
    deep = fake_torch(*[("Linear", {"weight": W, "bias": b}), ("ReLU", {})] * 2, ("Linear", {"weight": a, "bias": b0}))
    for net, said in (
        (deep, "2 hidden layers"),
        (fake_torch(("Linear", {"weight": W, "bias": b}), ("Tanh", {}), ("Linear", {"weight": a, "bias": b0})), "Tanh"),
        (
            fake_torch(("Linear", {"weight": W, "bias": b}), ("ReLU", {}), ("Linear", {"weight": W.T, "bias": b})),
            "outputs",
        ),
    ):
        with pytest.raises(InputError, match=said):
            read_network(net)
    assert "torch" not in sys.modules


def test_adamw_is_refused_and_adam_is_read(trained):
    X, y, net, _ = trained
    adam = type("Adam", (), {"param_groups": [{"weight_decay": 0.03}]})()
    quick = {"starts": 100, "steps": 50}
    read = loss_floor(net, X, y, weight_decay=adam, **quick)
    assert read.objective == pytest.approx(objective(net, X, y, "squared", 0.03))
    with pytest.raises(InputError, match="AdamW decays weights apart from the gradient"):
        loss_floor(net, X, y, weight_decay=type("AdamW", (), {"param_groups": []})(), **quick)
    several = type("SGD", (), {"param_groups": [{"weight_decay": 0.03}, {"weight_decay": 0.0}]})()
    with pytest.raises(InputError, match="several weight decays"):
        loss_floor(net, X, y, weight_decay=several, **quick)


def test_bad_input(trained):
    X, y, net, _ = trained
    told = {"weight_decay": 0.03, "bias_decayed": True}
    for call, said in (
        (lambda: loss_floor(net, X, y, bias_decayed=True), "weight_decay is not given"),
        (lambda: loss_floor(net, X, y, weight_decay=0.03), "bias_decayed is not given"),
        (lambda: loss_floor(net, X, y, weight_decay=0.0, bias_decayed=True), "no statement"),
        (lambda: loss_floor(net, X, y, weight_decay=-1.0, bias_decayed=True), "weight_decay=-1.0"),
        (lambda: loss_floor(net, X[:, :2], y, **told), "X has 2 columns and the network takes 4"),
        (lambda: loss_floor(net, X, y[:5], **told), "y has 5 values and X has 150 rows"),
        (lambda: loss_floor(net, X, y, loss="hinge", **told), "no floor is known for the loss 'hinge'"),
        (lambda: loss_floor(net[:2], X, y, **told), "net has 2 arrays"),
        (lambda: loss_floor(3.0, X, y, **told), "net is a float"),
        (lambda: ReLUNetwork(np.ones((2, 2)), np.ones(3), np.ones(2), 0.0), "b has 3 entries and W has 2 rows"),
        (lambda: improve(net, X, y, rounds=0, **told), "rounds=0"),
    ):
        with pytest.raises(InputError, match=said):
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rng = np.random.default_rng(0)
        many = MLPClassifier(max_iter=2).fit(X, rng.integers(0, 3, len(X)))
        wrong = MLPRegressor(activation="tanh", max_iter=2).fit(X, y)
        deep = MLPRegressor(hidden_layer_sizes=(3, 3), max_iter=2).fit(X, y)
    for net, said in ((many, "3 outputs"), (wrong, "activation 'tanh'"), (deep, "2 hidden layers")):
        with pytest.raises(InputError, match=said):
            loss_floor(net, X, y)
