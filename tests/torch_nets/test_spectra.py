"""riron.torch.spectra: what layers read and their weights against direct formulas; p-values on noise and on signal."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
import typer
from scipy import stats
from small_nets import Chain, Encoder, InvertedResidual, made
from torch import nn

import riron.torch as rt
from riron.cli.spectra import spectra as command
from riron.errors import InputError

torch.set_num_threads(1)
NETS = str(Path(__file__).parent / "small_nets.py")
app = typer.Typer()
app.command()(command)


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(W):
    """One linear layer with the given weight."""
    module = nn.Linear(W.shape[1], W.shape[0], bias=False).double()
    module.weight.data = torch.as_tensor(W)
    return nn.Sequential(module)


@pytest.fixture(scope="module")
def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3))


@pytest.fixture(scope="module")
def chain():
    X = inputs(80, 1, 8, 8)
    return made(Chain, X), X


def moments(*rows):
    return [r.double().T @ r.double() / len(r) for r in rows]


def test_degrees_of_freedom_of_what_layers_read(mlp):
    X = inputs(300, 6)
    found = rt.spectra(mlp, X, lam=(0.05, 0.5), draws=0)
    with torch.no_grad():
        second = mlp[:2](X)
        read = {"0": X, "2": second, "4": mlp[2:4](second)}
    for name, phi in read.items():
        S = (phi.double().T @ phi.double() / len(phi)).numpy()
        m, Z = len(S), mlp[int(name)].weight.detach().double().numpy()
        values, vectors = np.linalg.eigh(Z.T @ Z)
        half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
        for matrix, key in ((S, "dof"), (half @ S @ half, "visible_dof")):
            unit = np.trace(matrix) / m
            wanted = [np.trace(np.linalg.solve(matrix + lam * unit * np.eye(m), matrix)) for lam in (0.05, 0.5)]
            np.testing.assert_allclose(found[name][key], wanted, rtol=1e-6)
    dof = [found[name]["dof"] for name in "024"]
    for k, (before, after) in enumerate(((dof[0], dof[1]), (dof[1], dof[2]), (dof[2], [3, 3]))):
        np.testing.assert_allclose(found[str(2 * k)]["intrinsic_parameters"], np.multiply(before, after))
    assert [row["parameters"] for row in found.table] == [120, 240, 36]
    assert found["4"]["visible_dof"][0] <= 3 < found["4"]["dof"][0]


def test_channels_are_nodes_and_positions_are_rows(chain):
    model, X = chain
    found = rt.spectra(model, X, draws=0)
    with torch.no_grad():
        first = nn.functional.max_pool2d(nn.functional.relu(model.conv1(X)), 2)
        second = nn.functional.max_pool2d(nn.functional.relu(model.conv2(first)), 2)
    for name, value in (("conv2", first), ("fc1", second)):  # the flattened layer reads channels too
        rows = value.movedim(1, -1).reshape(-1, value.shape[1]).double()
        wanted = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).flip(0)
        np.testing.assert_allclose(found.activations[name], wanted, rtol=1e-5, atol=1e-9)
    taps = {"conv1": 9, "conv2": 9, "fc1": 4, "fc2": 1}
    after = {"conv1": found["conv2"]["dof"], "conv2": found["fc1"]["dof"], "fc1": found["fc2"]["dof"], "fc2": [5] * 3}
    for name, count in taps.items():
        wanted = count * np.multiply(found[name]["dof"], after[name])
        np.testing.assert_allclose(found[name]["intrinsic_parameters"], wanted)


def test_grouped_convolutions_see_their_own_part():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 12, 1, groups=4, bias=False), nn.ReLU(), nn.Conv2d(12, 12, 1, groups=12, bias=False)
    )
    X = inputs(50, 8, 3, 3)
    found = rt.spectra(model, X, draws=0)
    with torch.no_grad():
        outputs = model[0](X), model(X)
    for name, value in zip("02", outputs, strict=True):
        energy = float((value**2).sum(1).mean())
        assert found.visible[name].sum() == pytest.approx(energy, rel=1e-5)
    assert "intrinsic_parameters" not in found["0"]


def test_weights_are_weightwatchers(chain):
    model, _ = chain
    slices, matrix = rt.spectra(model, draws=0), rt.spectra(model, draws=0, conv="matrix")
    W = model.conv2.weight.detach().double().numpy()  # (12, 8, 3, 3)
    pooled = [np.linalg.svd(W[:, :, a, b], compute_uv=False) ** 2 * 9 / 2 for a in range(3) for b in range(3)]
    np.testing.assert_allclose(slices.weights["conv2"], np.sort(np.concatenate(pooled))[::-1], rtol=1e-9)
    whole = np.linalg.svd(W.reshape(12, -1), compute_uv=False) ** 2
    np.testing.assert_allclose(matrix.weights["conv2"], whole, rtol=1e-9)
    row = matrix["conv2"]
    assert row["spectral_norm"] == pytest.approx(whole[0])
    assert row["norm"] == pytest.approx((W**2).sum())
    assert row["weight_stable_rank"] == pytest.approx(whole.sum() / whole[0])
    assert row["alpha_weighted"] == pytest.approx(row["alpha"] * np.log10(whole[0]))
    assert row["log_alpha_norm"] == pytest.approx(np.log10((whole ** row["alpha"]).sum()))
    assert row["p_value"] is row["warning"] is None


@pytest.mark.parametrize("null", ["permuted", "gaussian"])
def test_p_values_of_noise_are_uniform(null):
    rng = np.random.default_rng(0)
    net = nn.Sequential(*[layer(rng.normal(size=(30, 20)))[0] for _ in range(150)])
    p = np.array([row["p_value"] for row in rt.spectra(net, draws=39, null=null).table])
    assert set(np.round(p * 40, 6)) <= set(range(1, 41))
    assert (p <= 0.1).sum() <= stats.binom.ppf(1 - 5e-5, 150, 0.1)
    assert abs(p.mean() - 0.5125) < 3.9 * np.sqrt(1 / 12 / 150)


def test_heavy_tails_of_entries_are_noise_to_one_null_and_signal_to_the_other():
    W = np.random.default_rng(1).standard_t(1.5, size=(200, 100))
    against = {null: rt.spectra(layer(W), draws=99, null=null)["0"] for null in ("permuted", "gaussian")}
    assert against["gaussian"]["alpha"] == against["permuted"]["alpha"] < 2.5
    assert against["gaussian"]["p_value"] == 0.01
    assert against["permuted"]["p_value"] > 0.01
    assert against["gaussian"]["null_mean"] > against["permuted"]["null_mean"] + 1


def test_correlations_are_signal_and_planted_spikes_are_counted():
    rng = np.random.default_rng(2)
    rows = np.linalg.qr(rng.normal(size=(100, 100)))[0] * np.arange(1, 101.0) ** -0.8
    found = rt.spectra(layer(rng.normal(size=(200, 100)) @ rows), draws=99)["0"]
    assert found["p_value"] == 0.01
    assert "over-trained; p = 0.01" in found["warning"]
    noise = rng.normal(size=(200, 100))
    u, v = (np.linalg.qr(rng.normal(size=(n, 2)))[0] for n in (200, 100))
    assert rt.spectra(layer(noise), draws=0)["0"]["spikes"] == 0
    assert rt.spectra(layer(noise + 40 * u @ v.T), draws=0)["0"]["spikes"] == 2


def test_large_layers_get_fewer_draws(monkeypatch):
    from riron.torch.spectral import weights

    monkeypatch.setattr(weights, "WORK", 1e6)
    assert rt.spectra(layer(np.random.default_rng(0).normal(size=(60, 40))), draws=50)["0"]["draws"] == 20


def test_every_shape_of_result(chain):
    model, X = chain
    model.train()
    found = rt.spectra(model, X, draws=19)
    assert model.training
    assert found.to_dict() == rt.spectra(model, X, draws=19).to_dict()
    assert found.to_dict() != rt.spectra(model, X, draws=19, seed=1).to_dict()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    data = found.to_xarray()
    assert data.activation_spectrum.dims == data.weight_spectrum.dims == ("layer", "index")
    assert data.dof.dims == ("layer", "lam")
    at = np.log(data.level.values)
    curve = np.interp(np.log(found.lam[1]), at, data.dof_curve.sel(layer="fc1"))
    assert curve == pytest.approx(found["fc1"]["dof"][1], rel=0.01)
    assert (data.visible_dof_curve.diff("level") < 0).all()
    np.testing.assert_array_equal(data.weight_spectrum.sel(layer="fc1").values[:20], found.weights["fc1"])
    assert np.isnan(data.alpha.sel(layer="fc2"))
    text = str(found)
    assert all(words in text for words in ("N(0.01)", "conv2", "alpha", "its entries permuted", "9 x 12 x 8"))
    assert len(found.plot().axes) == 12
    assert len(found.plot(["fc1"]).axes) == 3
    alone = rt.spectra(model, draws=19, ignore=("conv1",))
    assert [row["layer"] for row in alone.table] == ["conv2", "fc1", "fc2"]
    assert "dof" not in alone["fc1"]
    assert len(alone.plot().axes) == 3
    assert alone.to_xarray().sizes["layer"] == 3
    model.eval()


def test_transformers_and_squeezed_networks():
    ids = torch.randint(0, 50, (40, 7), generator=torch.Generator().manual_seed(0))
    found = rt.spectra(made(Encoder, ids), {"input_ids": ids}, draws=0)
    assert found["layers.0.output"]["nodes"] == 32
    assert found["layers.0.output"]["samples"] == 280
    assert found["classifier"]["intrinsic_parameters"][0] == pytest.approx(3 * found["classifier"]["dof"][0])
    X = inputs(40, 3, 8, 8)
    found = rt.spectra(made(InvertedResidual, X), X, draws=0)
    assert found["join"]["nodes"] == 16
    assert not found.notes


def test_attention_of_torch_is_seen_by_its_layers():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True).eval()
    X = inputs(30, 5, 12)
    found = rt.spectra(nn.Sequential(block), X, draws=0)
    rows = X.reshape(-1, 12).double()
    wanted = torch.linalg.eigvalsh(rows.T @ rows / 150).flip(0)
    for k, name in enumerate(("query", "key", "value")):
        np.testing.assert_allclose(found.activations[f"0.self_attn.{name}"], wanted, rtol=1e-5)
        part = block.self_attn.in_proj_weight.detach().double().chunk(3)[k]
        np.testing.assert_allclose(found.weights[f"0.self_attn.{name}"], torch.linalg.svdvals(part) ** 2, rtol=1e-5)
    assert found["0.self_attn.out"]["nodes"] == 12
    assert isinstance(block.self_attn, nn.MultiheadAttention)


class Awkward(nn.Module):
    """A layer that is not called, one that is zero, and a branch that the tracer cannot follow."""

    def __init__(self):
        super().__init__()
        self.used, self.unused, self.zero = nn.Linear(4, 9), nn.Linear(9, 9), nn.Linear(9, 2)
        self.zero.weight.data.zero_()

    def forward(self, x):
        if x.requires_grad or torch.is_grad_enabled():
            raise RuntimeError("only without gradients")
        return self.zero(self.used(x))


def test_what_cannot_be_followed_is_said():
    found = rt.spectra(Awkward(), inputs(30, 4), draws=5)
    assert "no intrinsic parameters" in found.notes[0]
    assert "'unused' is never called" in found.notes[1]
    assert "intrinsic_parameters" not in found["used"]
    assert found["zero"]["alpha"] is None
    assert found["zero"]["spikes"] == 0
    assert found["zero"]["visible_dof"] == [0.0, 0.0, 0.0]
    assert found.plot().axes
    assert str(found)


def nan_net():
    last = nn.Linear(4, 2)
    last.weight.data[0, 0] = float("nan")
    return nn.Sequential(nn.Linear(6, 4), last)


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("a", {}, "the model is str"),
        (nn.ReLU(), {}, "no linear or convolutional layer"),
        (None, {"lam": (0.0, 1.0)}, "lam=0 must be > 0"),
        (None, {"lam": ()}, "lam is empty"),
        (None, {"conv": "slice"}, "conv='slice' is unknown; did you mean 'slices'"),
        (None, {"null": "gausian"}, "null='gausian' is unknown; did you mean 'gaussian'"),
        (None, {"draws": -1}, "draws=-1 must be a whole number"),
        (None, {"draws": 1.5}, "draws=1.5 must be a whole number"),
        (None, {"ignore": ("7",)}, "no module '7'"),
        (None, {"data": inputs(9, 5)}, "cannot be run on the data"),
        (None, {"data": []}, "calibration data is empty"),
        (None, {"data": inputs(9, 6) * float("nan")}, "activations read by layer '0' are not finite in batch 0"),
        (nan_net(), {}, "the weight of layer '1' is not finite"),
    ],
)
def test_bad_input(mlp, model, options, says):
    with pytest.raises(InputError, match=says):
        rt.spectra(mlp if model is None else model, **({"draws": 0} | options))
    with pytest.raises(InputError, match="no layer '3'"):
        rt.spectra(mlp, draws=0).plot(["3"])


# On the command line


@pytest.fixture(scope="module")
def files(tmp_path_factory, chain):
    folder, (model, X) = tmp_path_factory.mktemp("spectra"), chain
    safetensors.save_file(model.state_dict(), folder / "w.safetensors")
    np.savez(folder / "d.npz", X=X.numpy())
    return folder


def call(*words):
    return app([f"{NETS}:Chain", "--draws", "5", *[str(w) for w in words]], standalone_mode=False)


def test_command_writes_table_and_picture(files, tmp_path, capsys):
    call("--weights", files / "w.safetensors", "--data", files / "d.npz", "--lam", 0.1, "--out", tmp_path / "o")
    said = capsys.readouterr().out
    assert "N(0.1)" in said
    assert "written to" in said
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["spectra.json", "spectra.png"]
    kept = json.loads((tmp_path / "o" / "spectra.json").read_text())
    assert kept["lam"] == [0.1]
    call("--weights", files / "w.safetensors", "--data", files / "d.npz", "--lam", 0.1, "--json")
    assert json.loads(capsys.readouterr().out) == kept
    call("--weights", files / "w.safetensors", "--quiet")
    assert "N(" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "none.npz"), "no file none.npz"),
        (("--out", "."), "not an empty folder"),
        (("--conv", "x"), "conv='x' is unknown"),
        (("--ignore", "x"), "no module 'x'"),
    ],
)
def test_bad_commands(words, says):
    with pytest.raises(InputError, match=says):
        call(*words)


def test_without_torch_it_says_what_to_install(monkeypatch):
    for name in ("riron.torch.files", "riron.torch.spectral.command", "riron.torch.spectral.measuring"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="pip install"):
        call()
