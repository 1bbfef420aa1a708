"""riron bounds on the command line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
import typer
from small_nets import Chain, made

from riron.cli.bounds import bounds
from riron.errors import InputError

torch.set_num_threads(1)
NETS = str(Path(__file__).parent / "small_nets.py")
QUICK = ("--which", "test-set", "--which", "bartlett-2017", "--which", "golowich-2018")
app = typer.Typer()
app.command()(bounds)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounds")
    X = torch.randn(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed, name in enumerate(("w", "before")):
        safetensors.save_file(made(Chain, X, seed=seed).state_dict(), folder / f"{name}.safetensors")
    y = made(Chain, X)(X).argmax(1)
    for part, name in ((slice(100), "train"), (slice(100, 160), "fresh")):
        np.savez(folder / f"{name}.npz", X=X[part].numpy(), y=y[part].numpy())
    return folder


def call(files, *words):
    start = (f"{NETS}:Chain", "--weights", files / "w.safetensors", "--data", files / "train.npz", *QUICK)
    return app([str(w) for w in (*start, *words)], standalone_mode=False)


def test_it_prints_the_table_and_writes_the_picture(files, tmp_path, capsys):
    extra = ("--init", files / "before.safetensors", "--heldout", files / "fresh.npz", "--out", tmp_path / "o")
    call(files, *extra)
    said = capsys.readouterr().out
    for words in ("held-out error 0 ", "test set, Clopper-Pearson", "from the initial weights", "vacuous (>= 1)"):
        assert words in said
    assert "refused: Golowich et al. 2018: 'the network' is a maximum over units" in said
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["bounds.json", "bounds.png"]
    with pytest.raises(InputError, match="not an empty folder"):
        call(files, *extra)


def test_json_alone(files, capsys):
    call(files, "--json", "--delta", 0.01, "--margin-quantile", 0.2)
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is no JSON
    assert found["delta"] == 0.01
    assert {b["status"] for b in found["bounds"]} == {"vacuous", "refused"}
    assert all((b["value"] is None) == (b["status"] == "refused") for b in found["bounds"])


def test_bad_input_is_a_sentence(files, monkeypatch):
    with pytest.raises(InputError, match="there is no file"):
        call(files, "--heldout", files / "none.npz")
    with pytest.raises(InputError, match="outside"):
        call(files, "--delta", 2)
    monkeypatch.setitem(sys.modules, "riron.torch.generalisation.command", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("riron.torch.files", "riron.torch.generalisation.command"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(InputError, match=r"riron bounds needs torch.*riron\[torch\]"):
        call(files)
