"""decompose and suggest_widths."""

import numpy as np
import pytest
import torch
from small_nets import Chain, ResNet, made, relative
from torch import nn

import riron.torch as rt
from riron.errors import InputError

torch.set_num_threads(1)
GREY = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(2))
IMAGES = torch.randn(200, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def error(model, original, data):
    with torch.no_grad():
        return relative(model.eval()(data), original(data))


def test_full_ranks_change_nothing():
    original = made(Chain, GREY)
    ranks = {"conv1": (8, 1), "conv2": (12, 8), "fc1": (20, 48), "fc2": (5, 20)}
    for data in (GREY, None):
        done = rt.decompose(original, data, ranks=ranks, example_inputs=GREY)
        assert error(done.model, original, GREY) < 1e-9


def test_data_on_both_sides_beats_the_weights_alone():
    original = made(Chain, GREY)
    smooth = nn.functional.avg_pool2d(nn.functional.pad(GREY, (1, 1, 1, 1)), 3, 1) * 3  # correlated pixels
    ranks = {"conv2": (6, 4), "fc1": (8, 8)}
    plain = rt.decompose(original, None, ranks=ranks, example_inputs=smooth)
    ours = rt.decompose(original, smooth, ranks=ranks)
    assert error(ours.model, original, smooth) < 0.6 * error(plain.model, original, smooth)
    assert ours.guarantee is not None


def test_the_output_rank_leaves_the_tail_of_the_covariance():
    """A linear layer alone: the error is the tail sum of the eigenvalues of the pre-activation's covariance."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(12, 9)).double()
    data = torch.randn(4000, 12, dtype=torch.double) @ torch.randn(12, 12, dtype=torch.double)
    done = rt.decompose(layer, data, ranks={"0": (4, 12)}, holdout=0.0)
    with torch.no_grad():
        values = np.linalg.eigvalsh(np.cov(layer(data).numpy().T))
    assert error(done.model, layer, data) == pytest.approx(values[:5].sum() / values.sum(), rel=1e-3)
    assert done.report.layers[0]["left"] == pytest.approx(values[:5].sum() / values.sum(), rel=1e-6)


def test_it_gets_cheaper_and_is_saved(tmp_path):
    original = made(ResNet, IMAGES[:64])
    done = rt.decompose(original, IMAGES, keep=0.4, ignore=["fc"])
    t = done.report.totals
    assert t["params_after"] < t["params_before"]
    assert t["macs_after"] < t["macs_before"]
    again = rt.load(done.save(tmp_path), ResNet)
    assert error(again.model, done.model, IMAGES) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "exactly one"),
        ({"keep": 0.5, "ranks": {}}, "exactly one"),
        ({"keep": 0}, "outside"),
        ({"ranks": {"conv2": (99, 1)}}, "outside"),
        ({"ranks": {"conv9": (1, 1)}}, "did you mean"),
        ({"keep": 1.0}, "no layer would get cheaper"),
    ],
)
def test_decompose_refuses(options, said):
    with pytest.raises(InputError, match=said):
        rt.decompose(made(Chain, GREY), GREY, **options)


def test_counts_are_the_rank_of_the_activations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.Linear(40, 30), nn.Linear(30, 2)).double()
    data = torch.randn(400, 5, dtype=torch.double)
    found = rt.suggest_widths(model, data, rule="count", threshold=1e-9)
    assert found.widths == {"0": 5, "1": 5}
    done = found.build(keep_weights=True, data=data, tau=1e-13, progress=False)
    assert error(done.model, model, data) < 1e-9
    dof = rt.suggest_widths(model, data, rule="dof", lam=1e-9)
    assert dof.table[0]["dof"] == pytest.approx(5, rel=1e-3)


def test_a_budget_is_met_and_the_network_is_fresh():
    original = made(lambda: ResNet((16, 32)), IMAGES[:64])
    for rule in ("dof", "count", "output"):
        found = rt.suggest_widths(original, IMAGES, rule=rule, params=0.8)
        fresh = found.build()
        share = sum(p.numel() for p in fresh.parameters()) / sum(p.numel() for p in original.parameters())
        assert 0.6 < share <= 0.82
        assert fresh(IMAGES[:4]).shape == (4, 5)
        assert not torch.equal(fresh.fc.weight[:, :4], original.fc.weight[:, :4])
    assert "width" in str(found)


def test_suggest_widths_refuses():
    original = made(Chain, GREY)
    for options, said in (
        ({"rule": "cuont"}, "did you mean 'count'"),
        ({"relative_to": "mean"}, "choose max"),
        ({"macs": 0.5, "params": 0.5}, "one budget"),
        ({"macs": 1.5}, "outside"),
        ({"params": 0.05}, "cannot be met"),
        ({"ignore": ["x"]}, "no module"),
    ):
        with pytest.raises(InputError, match=said):
            rt.suggest_widths(original, GREY, **options)
