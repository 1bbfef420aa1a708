"""riron compress on the command line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
import typer
from small_nets import Chain, made

import riron.torch as rt
from riron.cli.compress import compress
from riron.errors import InputError

torch.set_num_threads(1)
NETS = str(Path(__file__).parent / "small_nets.py")
app = typer.Typer()
app.command()(compress)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress")
    X = torch.randn(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = made(Chain, X)
    safetensors.save_file(model.state_dict(), folder / "w.safetensors")
    torch.save(model.state_dict(), folder / "w.pt")
    np.savez(folder / "d.npz", X=X.numpy(), y=np.zeros(120, int))
    return folder


def call(*words):
    return app([str(w) for w in words], standalone_mode=False)


@pytest.mark.parametrize("weights", ["w.safetensors", "w.pt"])
def test_it_writes_what_load_reads(files, tmp_path, capsys, weights):
    call(
        f"{NETS}:Chain", "--weights", files / weights, "--data", files / "d.npz", "--keep", 0.5, "--out", tmp_path / "o"
    )
    said = capsys.readouterr().out
    assert all(words in said for words in ("parameters", "at most", "riron.torch.load"))
    again = rt.load(tmp_path / "o", Chain)
    assert again.model.conv1.out_channels == 4
    assert again.guarantee.n == 60


def test_json_alone(files, tmp_path, capsys):
    call(f"{NETS}:Chain", "--data", files / "d.npz", "--params", 0.5, "--out", tmp_path / "o", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["report"]["totals"]["params_after"] <= 0.5 * said["report"]["totals"]["params_before"]


@pytest.mark.parametrize(
    ("model", "extra", "said"),
    [
        ("small_nets", {}, "write FILE.py:NAME"),
        ("none.py:Chain", {}, "no file none.py"),
        (f"{NETS}:Chian", {}, "did you mean 'Chain'"),
        (f"{NETS}:relative", {}, "fails"),
        (f"{NETS}:Chain", {"--data": "none.npz"}, "no file none.npz"),
        (f"{NETS}:Chain", {"--weights": "none"}, "no file none"),
        (f"{NETS}:Chain", {"--weights": NETS}, "cannot be read as weights"),
        (f"{NETS}:Encoder", {}, "cannot be run on the data|takes"),
        (f"{NETS}:ResNet", {"--weights": "W"}, "does not fit the model"),
        (f"{NETS}:Chain", {"--out": "."}, "not an empty folder"),
    ],
)
def test_bad_input(files, tmp_path, model, extra, said):
    options = {"--data": files / "d.npz", "--keep": 0.5, "--out": tmp_path / "o"} | extra
    if options.get("--weights") == "W":
        options["--weights"] = files / "w.safetensors"
    with pytest.raises(InputError, match=said):
        call(model, *[w for pair in options.items() for w in pair])


def test_without_torch_it_says_what_to_install(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "riron.torch.command", None)
    for name in ("riron.torch.files", "riron.torch.command"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="pip install"):
        call(f"{NETS}:Chain", "--data", files / "d.npz", "--keep", 0.5, "--out", tmp_path / "o")
