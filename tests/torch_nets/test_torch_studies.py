"""Studies that need PyTorch: the verdict holds, wrong lines fail; without PyTorch they say what to install."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from riron.errors import InputError
from riron.studies.base import evaluate
from riron.studies.cards import catalogue, find_card, load
from riron.torch import predict, train_mlps

torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("all_studies", Path(__file__).parents[1] / "test_studies.py")
assert spec is not None
assert spec.loader is not None
all_studies = importlib.util.module_from_spec(spec)
spec.loader.exec_module(all_studies)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("RIRON_STORE", str(tmp_path / "store"))


@pytest.mark.parametrize("name", [name for name in catalogue() if find_card(name).extra == "torch"])
def test_verdict_holds_and_every_wrong_line_fails(name):
    all_studies.holds_and_every_wrong_line_fails(name)


def test_without_torch_a_study_says_what_to_install(monkeypatch):
    import riron.torch as room

    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("laboratory", "train_mlps"):
        monkeypatch.delattr(room, name, raising=False)
    monkeypatch.delitem(sys.modules, "riron.torch.laboratory", raising=False)
    study = load("random-labels")()
    assert evaluate(study.predict(128)).sizes["bound"] == 7
    with pytest.raises(InputError, match=r"riron.torch needs torch; pip install \"riron\[torch\]\""):
        study.simulate(128, seeds=16)


def test_networks_trained_together_are_those_trained_alone():
    generator = torch.Generator().manual_seed(0)
    X, y = torch.randn(3, 20, 5, generator=generator), torch.randint(0, 4, (3, 20), generator=generator)
    together = train_mlps((5, 8, 4), X, y, steps=50, seed=1)
    model, start = together[2]
    alone = torch.nn.Sequential(torch.nn.Linear(5, 8, False), torch.nn.ReLU(), torch.nn.Linear(8, 4, False))
    alone.load_state_dict(start.state_dict())
    optimiser = torch.optim.Adam(alone.parameters(), 1e-2)
    for step in range(50):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / 50)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(alone(X[2]), y[2]).backward()
        optimiser.step()
    for a, b in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert (predict(model, X[2]) == alone(X[2]).argmax(1).numpy()).all()
    with pytest.raises(InputError, match=r"X has shape \(20, 5\)"):
        train_mlps((5, 8, 4), X[0], y[0])
