"""Bounds of a network: the layers that are read, their norms as operators, refusals, and the report."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_nets import Chain, Encoder, GatedMLP, InvertedResidual, PreActivation, ResNet, made
from torch import nn

from riron.errors import InputError
from riron.torch import bounds, compress
from riron.torch.generalisation import operators as ops
from riron.torch.generalisation.bounding import NORMS
from riron.torch.generalisation.feedforward import read_network
from riron.torch.generalisation.norms import cushions, margins, measure_norms
from riron.torch.generalisation.operators import operators
from riron.torch.generalisation.watching import NotFeedForward
from riron.torch.inputs import as_batches

torch.set_num_threads(1)
MEASURED = (*NORMS, "test-set", "last-layer")


class Mixed(nn.Module):
    """Borders, strides, groups, norms before and after, shifts of the input, both kinds of pooling, functions."""

    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.b2, self.c2 = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, stride=2, groups=2)
        self.pool, self.fc, self.bn, self.out = nn.AvgPool2d(2), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu(self.b1(self.c1((x.float() - 0.1) / 0.5)))
        x = F.dropout(F.max_pool2d(x, 2), 0.5, self.training)
        x = self.pool(torch.relu_(self.c2(self.b2(x))))
        x = x.mean((2, 3))
        return self.out(F.leaky_relu(self.bn(self.fc(x)), 0.1))


class Overlapping(nn.Module):
    """An average over overlapping windows, a dilation, a reshape by hand, a product with a bare weight."""

    def __init__(self):
        super().__init__()
        self.c, self.n = nn.Conv2d(1, 3, 3, padding="same"), nn.BatchNorm2d(3)
        self.c2, self.p = nn.Conv2d(3, 2, 3, dilation=2, padding=2, bias=False), nn.AvgPool2d(3, 2, 1)
        self.W = nn.Parameter(torch.randn(32, 2))

    def forward(self, x):
        x = self.n(torch.relu(self.c(x)))
        return self.p(self.c2(x)).relu().view(x.size(0), -1) @ self.W


class Tokens(nn.Module):
    """The same linear layers for each token, then their mean."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))).mean(1))


def mlp(*widths, bias=False):
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


CHAINS = {
    "mixed": (Mixed, (2, 12, 12)),
    "overlapping": (Overlapping, (1, 8, 8)),
    "chain": (Chain, (1, 8, 8)),
    "tokens": (Tokens, (7, 4)),
    "biases": (lambda: mlp(6, 8, 7, 3, bias=True), (6,)),
    "one-bias": (
        lambda: nn.Sequential(nn.Linear(5, 4, False), nn.ReLU(), nn.Linear(4, 6), nn.Linear(6, 3, False)),
        (5,),
    ),
}


def by_unit_vectors(operator):
    """The matrix with its appended row and column, one unit vector at a time."""
    layer, shape = operator.layer, operator.layer.inputs
    zero = layer.affine(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = []
    for k in range(math.prod(shape)):
        unit = torch.zeros(math.prod(shape), dtype=torch.float64)
        unit[k] = 1
        columns.append(layer.affine(unit.reshape(1, *shape)).flatten() - zero)
    if operator.appended:
        columns.append(zero)
    W = torch.stack(columns, 1)
    if operator.carries:
        W = torch.cat([W, torch.eye(W.shape[1], dtype=torch.float64)[-1:]])
    return W


@pytest.mark.parametrize("name", CHAINS)
def test_layers_are_the_network_and_norms_are_those_of_their_matrices(name, monkeypatch):
    make, shape = CHAINS[name]
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    model, start = made(make, x, seed=1), made(make, x, seed=2)
    chain = read_network(model, as_batches(x, model))
    torch.testing.assert_close(chain(x.double()).float(), model(x).detach(), rtol=1e-4, atol=1e-5)
    found = operators(chain.layers)
    before = operators(read_network(start, as_batches(x, start)).layers)
    phi = torch.cat([x.double().flatten(1), torch.ones(6, int(found[0].appended), dtype=torch.float64)], 1)
    for operator, other in zip(found, before, strict=True):
        W, M = by_unit_vectors(operator), by_unit_vectors(other)
        torch.testing.assert_close(operator.dense(), W)
        assert W.shape == (operator.outputs, operator.inputs)
        exact = {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(operator.rows(), W.norm(dim=1)[: len(W) - operator.carries], **exact)
        assert operator.frobenius() == pytest.approx(float(W.norm()), rel=1e-10)
        assert operator.group() == pytest.approx(float(W.norm(dim=1).sum()), rel=1e-10)
        assert operator.change(other) == pytest.approx(float((W - M).norm(dim=1).sum()), rel=1e-10)
        norm = float(torch.linalg.matrix_norm(W, ord=2))
        assert operator.spectral() == pytest.approx(norm, rel=1e-10)
        monkeypatch.setattr(ops, "DENSE", 0)
        assert operator.spectral() == pytest.approx(norm, rel=1e-8)
        monkeypatch.undo()
        z = phi @ W.T  # the chain of matrices is the network, with the 1 handed on
        own = z[:, : z.shape[1] - operator.carries].reshape(6, *operator.layer.outputs)
        phi = torch.cat([operator.layer.activate(own).flatten(1), z[:, z.shape[1] - operator.carries :]], 1)
    torch.testing.assert_close(phi.float(), model(x).detach(), rtol=1e-4, atol=1e-5)


REFUSED = {
    "shortcut": (ResNet, torch.randn(4, 3, 8, 8), "'layer1.0' contains a shortcut"),
    "bare shortcut": (PreActivation, torch.randn(4, 3, 8, 8), "a shortcut, a sum of two branches"),
    "silu": (InvertedResidual, torch.randn(4, 3, 8, 8), r"not positively homogeneous, as ReLU is, \(silu\)"),
    "tokens": (Encoder, torch.randint(0, 9, (4, 7)), "whole numbers"),
    "gelu": (lambda: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)), torch.randn(4, 6), r"'1'.*\(gelu\)"),
    "softmax": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Softmax(1)), torch.randn(4, 6), "'1' contains a softmax"),
    "norm": (
        lambda: nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(4, 6),
        "'1' contains a normalisation by the input's own moments",
    ),
    "gating": (GatedMLP, torch.randn(4, 12), "silu"),
    "attention": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(4, 5, 8),
        "'self_attn' contains attention",
    ),
    "relu at the end": (lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU()), torch.randn(4, 6), "after the last layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused_by_name(name):
    make, x, says = REFUSED[name]
    model = made(make, x)
    with pytest.raises(NotFeedForward, match=says):
        read_network(model, as_batches(x, model))


def test_gates_and_hidden_branches_are_refused():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.act(x) * self.b(x)

        def act(self, x):
            return F.relu(self.a(x))

    class Sometimes(Gate):
        """Another function on rows that the watched run does not see."""

        def forward(self, x):
            z = self.a(x)
            return 2 * z if x.numpy().max() > 50 else z

    x = torch.randn(200, 6)
    with pytest.raises(NotFeedForward, match=r"branch|gating"):
        read_network(Gate().eval(), as_batches(x, Gate()))
    x[-1] = 100.0
    with pytest.raises(NotFeedForward, match="do not give the network's outputs"):
        read_network(Sometimes().eval(), as_batches(x, Sometimes()))


def blobs(n, seed, d=6, classes=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = 2 * np.random.default_rng(99).standard_normal((classes, d))
    return (centres[y] + rng.standard_normal((n, d))).astype(np.float32), y


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = mlp(6, 16, 12, 3)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    X, y = map(torch.as_tensor, blobs(500, 1))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        F.cross_entropy(model(X), y).backward()
        optimiser.step()
    return model.eval(), start


def test_cushions_by_automatic_differentiation(trained):
    model, _ = trained
    x = torch.as_tensor(blobs(20, 5)[0])
    chain = read_network(model, as_batches(x, model))
    found = cushions(chain, x)
    W = [p.detach().double() for p in model.parameters()]
    mu, into, c = [math.inf] * 3, [1 / math.sqrt(len(w)) for w in W], 0.0
    for row in x.double():
        phi, z = row, []
        for k, w in enumerate(W):
            z.append(w @ phi)
            mu[k] = min(mu[k], float(z[k].norm() / (w.norm() * phi.norm())))
            phi = z[k].relu()
            if k < 2:
                c = max(c, float(z[k].norm() / phi.norm()))
        for k in range(3):
            for j in range(k + 1, 3):
                tail = lambda v, k=k, j=j: nn.Sequential(*[Times(W[i]) for i in range(k + 1, j + 1)])(v)
                J = torch.autograd.functional.jacobian(tail, z[k])
                into[k] = min(into[k], float((J @ z[k]).norm() / (J.norm() * z[k].norm())))
    np.testing.assert_allclose(found["cushions"], mu, rtol=1e-10)
    np.testing.assert_allclose(found["interlayer"], into, rtol=1e-10)
    assert found["contraction"] == pytest.approx(c, rel=1e-10)
    assert found["largest_output"] == pytest.approx(float(model(x).detach().norm(dim=1).max()), rel=1e-5)


class Times(nn.Module):
    def __init__(self, W):
        super().__init__()
        self.W = W

    def forward(self, z):
        return self.W @ z.relu()


def test_margins():
    z = np.array([[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]])
    np.testing.assert_array_equal(margins(z, np.array([1, 2])), [1.0, -5.0])


def test_one_scale_with_the_measured_gap(trained):
    model, start = trained
    train, heldout = blobs(500, 1), blobs(400, 2)
    report = bounds(model, train, heldout=heldout, init=start, which=MEASURED, progress=False)
    wrong = lambda pair: float((model(torch.as_tensor(pair[0])).argmax(1).numpy() != pair[1]).mean())
    assert report.train_error == pytest.approx(wrong(train))
    assert report.heldout_error == pytest.approx(wrong(heldout))
    assert report.heldout_error is not None
    assert report.heldout_stderr == pytest.approx(math.sqrt(report.heldout_error * (1 - report.heldout_error) / 400))
    assert report.gap == pytest.approx(wrong(heldout) - wrong(train))
    assert report.chance == pytest.approx(1 - np.bincount(train[1]).max() / 500)
    status = [b.status for b in report.bounds]
    order = ["non-vacuous", "vacuous", "order only", "refused"]
    assert status == sorted(status, key=order.index)
    for kind in order[:3]:
        values = [b.value for b in report.bounds if b.status == kind]
        assert values == sorted(values)
    assert report.bounds[0].name == "test set, Clopper-Pearson"
    assert all(b.value > report.heldout_error for b in report.bounds if b.status in order[:2])
    names = {"Bartlett et al. 2017, from zero", "Bartlett et al. 2017, from the initial weights", "Arora et al. 2018"}
    assert names <= {b.name for b in report.bounds}
    text = str(report)
    assert "vacuous (>= 1)" in text
    assert "Each bound holds by itself with probability 0.95 over the data, not all at once." in text
    assert f"gap {report.gap:.4g}" in text
    assert len(report.complexities) == 2
    data = report.to_xarray()
    assert list(data.bound.values) == [b.name for b in report.bounds]
    assert data.attrs["chance"] == report.chance
    assert report.to_dict()["bounds"][0]["status"] == "non-vacuous"
    assert report.plot().axes


def test_norms_are_those_of_the_weights(trained):
    model, start = trained
    X, y = blobs(500, 1)
    x = torch.as_tensor(X)
    chain = read_network(model, as_batches(x, model))
    origin = mlp(6, 16, 12, 3)
    origin.load_state_dict(start)
    m = margins(model(x).detach().numpy(), y)
    found = measure_norms(chain, x, m, read_network(origin.eval(), as_batches(x, origin)))
    for layer, w, w0 in zip(found.layers, model.parameters(), start.values(), strict=True):
        w = w.detach().numpy().astype(np.float64)
        assert layer.spectral == pytest.approx(np.linalg.norm(w, 2))
        assert layer.frobenius == pytest.approx(np.linalg.norm(w))
        assert layer.group == pytest.approx(np.linalg.norm(w, axis=1).sum())
        assert layer.change == pytest.approx(np.linalg.norm(w - w0.numpy(), axis=1).sum())
        assert (layer.inputs, layer.units, layer.parameters) == (w.shape[1], w.shape[0], w.size)
    assert [layer.thresholds for layer in found.layers] == [16, 12, 2]
    np.testing.assert_allclose(found.inputs, np.linalg.norm(X, axis=1), rtol=1e-6)


def test_scale_of_the_outputs_and_number_of_rows(trained):
    model, _ = trained
    X, y = blobs(500, 1)
    which = tuple(NORMS)
    base = bounds(model, (X, y), which=which, progress=False)
    bigger = mlp(6, 16, 12, 3)
    bigger.load_state_dict(model.state_dict())
    with torch.no_grad():
        bigger[4].weight *= 8
        bigger[0].weight *= 3
    scaled = bounds(bigger.eval(), (X, y), which=which, progress=False)
    assert scaled.margin == pytest.approx(24 * base.margin, rel=1e-5)
    many = bounds(model, (np.tile(X, (3, 1)), np.tile(y, 3)), which=which, progress=False)
    for b in base.bounds:
        assert scaled[b.name].value == pytest.approx(b.value, rel=1e-5), b.name
        if b.status != "order only":
            assert many[b.name].value < b.value or b.name == "parameter count"


def test_a_convolutional_network_keeps_what_applies():
    X = np.random.default_rng(0).standard_normal((60, 1, 8, 8)).astype(np.float32)
    model = made(Chain, torch.as_tensor(X))
    y = model(torch.as_tensor(X)).argmax(1).numpy()
    report = bounds(model, (X, y), which=tuple(NORMS), progress=False)
    status = {b.name: b.status for b in report.bounds}
    assert status["Bartlett et al. 2017, from zero"] == status["Neyshabur et al. 2018"] == "vacuous"
    assert "maximum over units" in report["Golowich et al. 2018"].reason
    assert "not fully connected" in report["Arora et al. 2018"].reason
    assert report["parameter count"].terms["parameters"] == sum(p.numel() for p in model.parameters())


def test_the_rest_is_still_bounded_where_norms_are_refused():
    x = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    model = made(GatedMLP, x)
    y = model(x).argmax(1)
    report = bounds(model, (x[:200], y[:200]), heldout=(x[200:], y[200:]), which=MEASURED, progress=False)
    refused = [b for b in report.bounds if b.status == "refused"]
    assert len(refused) == len(NORMS)
    assert all("silu" in b.reason for b in refused)
    assert report.bounds[0].value < 0.05
    assert str(report).count("silu") == 1


def test_a_compressed_network(trained):
    model, _ = trained
    train, heldout = blobs(500, 1), blobs(400, 2)
    small = compress(model, torch.as_tensor(blobs(300, 3)[0]), keep=0.75, progress=False)
    report = bounds(
        model, train, heldout=heldout, which=("compressed", "suzuki-2020"), compressed=small, progress=False
    )
    found = report["compressed network"]
    assert found.value == pytest.approx(found.terms["its original's error"] + found.terms["disagreement"])
    assert found.of == "the compressed network"
    order = report["Suzuki et al. 2020"]
    assert order.status == "order only"
    assert order.terms["parameters"] == sum(p.numel() for p in small.model.parameters())
    gap = (model(torch.as_tensor(train[0])) - small.model(torch.as_tensor(train[0]))).detach()
    assert order.terms["distance"] == pytest.approx(math.sqrt(2 * float((gap**2).sum(1).mean())), rel=1e-4)


def test_learned_bounds_are_there(trained):
    model, start = trained
    report = bounds(
        model, blobs(100, 1), heldout=blobs(60, 2), init=start, which=("pac-bayes", "companion"), progress=False,
        steps=5, dimensions=(10,), levels=2, epochs=1, retrain=False,
    )  # fmt: skip
    assert any(b.name.startswith("PAC-Bayes") for b in report.bounds)
    assert any("companion" in b.of for b in report.bounds)
    assert report.margin is None


X, Y = blobs(50, 1)
BAD = [
    ({"delta": 0.0}, r"delta=0.0 is outside \(0, 1\)"),
    ({"delta": 1.0}, r"delta=1.0 is outside \(0, 1\)"),
    ({"steps": -3}, "steps=-3 must be a whole number"),
    ({"epochs": 0}, "epochs=0 must be a whole number"),
    ({"margin_quantile": 0.0}, r"margin_quantile=0.0 is outside \(0, 1\)"),
    ({"which": "golowitch-2018"}, "did you mean 'golowich-2018'"),
    ({"which": ()}, "which is empty"),
    ({"train": X}, "train has no labels"),
    ({"train": (X[:, :4], Y)}, "6 features"),
    ({"train": (X, Y[:-1])}, "one label for each input"),
    ({"train": (X, np.where(Y == 2, 7, Y))}, r"label 7 and the network decides among 0\.\.2"),
    ({"train": (X, Y - 1)}, "label -1"),
    ({"train": (X[:0], Y[:0])}, "no inputs|empty"),
    ({"train": (X[:1], Y[:1])}, "train has one row"),
    ({"train": (X, 0 * Y)}, "every label of train is 0"),
    ({"train": (np.where(X > 2, np.nan, X), Y)}, "not finite"),
    ({"heldout": (X, Y)}, "every input of heldout is a training input"),
    ({"heldout": (X[:, :4], Y)}, "6 features"),
    ({"init": mlp(6, 4, 3)}, "init does not fit"),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=[str(k) for k in range(len(BAD))])
def test_bad_input_is_a_sentence(options, says):
    model = mlp(6, 16, 12, 3).eval()
    options = {"train": (X, Y), "which": MEASURED, "progress": False} | options
    with pytest.raises(InputError, match=says):
        bounds(model, options.pop("train"), **options)


def test_what_is_only_doubtful_is_said(trained):
    model, _ = trained
    train, heldout = blobs(500, 1), blobs(100, 2)
    mixed = (np.concatenate([heldout[0], train[0][:5]]), np.concatenate([heldout[1], train[1][:5]]))
    with pytest.warns(UserWarning, match="5 of 105 inputs of heldout are training inputs"):
        report = bounds(model, train, heldout=mixed, which="test-set", progress=False)
    assert "5 held-out inputs are training inputs too" in str(report)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrong = bounds(model, (train[0], (train[1] + 1) % 3), which=tuple(NORMS), progress=False)
    assert "raise margin_quantile" in wrong["Golowich et al. 2018"].reason
    few = bounds(model, (train[0][:5], [*train[1][:4], 0]), which="pac-bayes", progress=False)
    assert few.bounds[0].status == "refused"
    none = bounds(model, train, which="test-set", progress=False)
    assert "no held-out pairs" in none.bounds[0].reason
    model.train()
    bounds(model, train, which="test-set", progress=False)
    assert model.training
    model.eval()


def test_one_score_decides_by_its_sign():
    x = torch.as_tensor(blobs(200, 1)[0])
    one, two = mlp(6, 8, 1), mlp(6, 8, 2)
    with torch.no_grad():
        two[0].weight.copy_(one[0].weight)
        two[2].weight.copy_(torch.cat([0 * one[2].weight, one[2].weight]))
    y = (one(x)[:, 0] > 0).long()
    a, b = (bounds(model.eval(), (x, y), which=tuple(NORMS), progress=False) for model in (one, two))
    assert a.margin == pytest.approx(b.margin)
    for name in ("Golowich et al. 2018", "Bartlett et al. 2017, from zero"):
        assert a[name].value <= b[name].value * (1 + 1e-9)
    minus = bounds(one, (x, 2 * y - 1), which=tuple(NORMS), progress=False)
    assert [v.value for v in minus.bounds] == [v.value for v in a.bounds]


def test_batches_and_loaders(trained):
    model, _ = trained
    X, y = map(torch.as_tensor, blobs(500, 1))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=64)
    a = bounds(model, loader, which="golowich-2018", progress=False)
    b = bounds(model, (X, y), which="golowich-2018", progress=False)
    assert a.bounds[0].value == pytest.approx(b.bounds[0].value)
