"""compress and reconstruct: what they say to bad input."""

import pytest
import torch
from small_nets import Chain, ResNet, made
from torch import nn

import riron.torch as rt
from riron.errors import InputError

torch.set_num_threads(1)
GREY = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def model():
    return made(Chain, GREY)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 0.0}, r"keep=0.0 is outside \(0, 1\]"),
        ({"keep": 1.5}, "outside"),
        ({"macs": -1}, "outside"),
        ({"error": 2.0}, "error=2.0"),
        ({"keep": 0.5, "params": 0.5}, "keep and params given; give exactly one"),
        ({}, "none of keep, macs"),
        ({"keep": 0.5, "criterion": "taylr"}, "did you mean 'taylor'"),
        ({"keep": 0.5, "criterion": "taylor"}, "needs labels"),
        ({"error": 0.1, "criterion": "magnitude"}, "curves"),
        ({"keep": 0.5, "ignore": ["conv9"]}, "no module 'conv9'; did you mean 'conv"),
        ({"widths": {"conv1": 99}}, "width 99 of 'conv1' is outside"),
        ({"widths": {"fc2": 3}}, "'fc2' cannot be changed"),
        ({"keep": 0.5, "holdout": 1.0}, "holdout"),
        ({"keep": 0.5, "round_to": 0}, "round_to"),
        ({"keep": 0.5, "theta": 2.0}, "theta"),
        ({"keep": 0.5, "ignore": ["conv1", "conv2", "fc1"]}, "no layer to cut .*ignored"),
        ({"params": 0.001}, "budget cannot be met"),
    ],
)
def test_options(model, options, said):
    with pytest.raises(InputError, match=said):
        rt.compress(model, GREY, **options, progress=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "no calibration data"),
        ([], "empty"),
        (GREY[:0], "empty"),
        (torch.randn(20, 3, 8, 8), r"shapes \(2, 3, 8, 8\).*it expects \(inputs, 1, height, width\)"),
        ([["a"]], "without a tensor"),
        (GREY[:1], "cannot be split"),
    ],
)
def test_data(model, data, said):
    with pytest.raises(InputError, match=said):
        rt.compress(model, data, keep=0.5, progress=False)


def test_activations_that_are_not_finite(model):
    data = GREY.clone()
    data[40] = torch.nan
    with pytest.raises(InputError, match="read by layer 'conv2' are not finite in batch 0"):
        rt.compress(model, data, keep=0.5, holdout=0.0, progress=False)


def test_few_rows_are_told():
    wide = nn.Sequential(nn.Linear(5, 60), nn.ReLU(), nn.Linear(60, 2))
    with pytest.warns(UserWarning, match=r"fewer calibration rows than nodes in 0 \(20 rows, 60 nodes\)"):
        done = rt.compress(wide, torch.randn(40, 5), keep=0.9, progress=False)
    assert any("fewer" in note for note in done.report.notes)


def test_held_out_inputs_that_were_used_are_told(model):
    twice = torch.cat([GREY, GREY])
    with pytest.warns(UserWarning, match="held-out inputs are calibration inputs too"):
        done = rt.compress(model, twice, keep=0.5, progress=False)
    assert "distinct inputs" in str(done)


def test_a_layer_used_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(6, 9), nn.Linear(9, 9), nn.Linear(9, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x = torch.relu(self.b(torch.relu(self.b(x))))
            return self.d(torch.relu(self.c(x)))

    done = rt.compress(Twice(), torch.randn(50, 6), keep=0.5, progress=False)
    assert [row["layer"] for row in done.report.layers] == ["c"]
    assert any("'b' is used more than once" in note for note in done.report.notes)


def test_control_flow_that_cannot_be_followed():
    class Lost(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 9), nn.Linear(9, 2)

        def forward(self, x):
            return self.b(torch.as_tensor(self.a(x).detach().numpy()))

    with pytest.raises(InputError, match=r"no layer to cut|cannot be traced"):
        rt.compress(Lost(), torch.randn(50, 6), keep=0.5, progress=False)


def test_reconstruct_refuses():
    images = torch.randn(60, 3, 12, 12)
    original = made(ResNet, images)
    with pytest.raises(InputError, match="nothing was cut"):
        rt.reconstruct(original, original, images, progress=False)
    torch.manual_seed(9)
    other = rt.compress(made(ResNet, images, seed=7), images, keep=0.5, progress=False).model
    with pytest.raises(InputError, match="could be matched"):
        rt.reconstruct(other, original, images, progress=False)
    with pytest.raises(InputError, match=r"outputs in the original|layers and the cut"):
        rt.reconstruct(made(lambda: ResNet((12, 20)), images), original, images, progress=False)
    with pytest.raises(InputError, match="pruned is str"):
        rt.reconstruct("x", original, images)
