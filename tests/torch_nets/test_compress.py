"""compress: exact oracles, and networks as torchvision, timm and transformers write theirs."""

import copy

import numpy as np
import pytest
import torch
from small_nets import Chain, Encoder, GatedMLP, InvertedResidual, PreActivation, ResNet, made, relative

import riron.torch as rt
from riron.errors import InputError

torch.set_num_threads(1)
IMAGES = torch.randn(200, 3, 12, 12, generator=torch.Generator().manual_seed(1))
GREY = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(2))
ROWS = torch.randn(300, 12, generator=torch.Generator().manual_seed(3))
WORDS = {"input_ids": torch.randint(0, 50, (120, 9), generator=torch.Generator().manual_seed(4))}
WORDS["attention_mask"] = (torch.arange(9) < torch.arange(120)[:, None] % 5 + 5).long()
NETS = [
    (Chain, GREY, {}),
    (ResNet, IMAGES, {}),
    (ResNet, IMAGES, {"stream": True}),
    (PreActivation, IMAGES, {}),
    (PreActivation, IMAGES, {"stream": True}),
    (InvertedResidual, IMAGES, {}),
    (InvertedResidual, IMAGES, {"stream": True}),
    (GatedMLP, ROWS, {}),
    (Encoder, WORDS, {}),
    (Encoder, WORDS, {"heads": 0.5}),
]
quiet = {"progress": False}


def call(model, data):
    with torch.no_grad():
        out = model(**data) if isinstance(data, dict) else model(data)
    return out["logits"] if isinstance(out, dict) else out


def net(make, data):
    torch.manual_seed(0)
    if isinstance(data, dict):
        return make().eval()
    return made(make, data[:64])


@pytest.mark.parametrize(("make", "data", "options"), NETS)
def test_keeping_everything_changes_nothing(make, data, options):
    model = net(make, data)
    options = {**options, "heads": 1.0} if "heads" in options else options
    done = rt.compress(model, data, keep=1.0, **options, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-10


@pytest.mark.parametrize(("make", "data", "options"), NETS)
def test_a_cut_network_runs_and_reconstruction_beats_the_cut(make, data, options):
    model = net(make, data)
    before = copy.deepcopy(model.state_dict())
    done = rt.compress(model, data, keep=0.5, **options, **quiet)
    plain = rt.compress(model, data, keep=0.5, reconstruct=False, **options, **quiet)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    old, new, cut = call(model, data), call(done.model, data), call(plain.model, data)
    assert new.shape == old.shape
    assert sum(p.numel() for p in done.model.parameters()) < sum(p.numel() for p in model.parameters())
    assert relative(new, old) < 0.8 * relative(cut, old)
    assert done.report.totals["params_after"] == sum(p.numel() for p in done.model.parameters())
    assert all(row["kept"] < row["nodes"] for row in done.report.layers)
    assert all(type(m) in {type(x) for x in model.modules()} for m in done.model.modules())


def test_duplicated_channels_are_cut_to_their_rank():
    """Every hidden channel twice: half of the channels give the same function."""
    torch.manual_seed(0)
    model = Chain(widths=(8, 12, 20)).double()
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.fc1):
            half = len(layer.weight) // 2
            layer.weight[half:], layer.bias[half:] = layer.weight[:half], layer.bias[:half]
    data = torch.randn(400, 1, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    done = rt.compress(model, data, keep=0.5, tau=1e-12, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-9
    for row in done.report.layers[:2]:
        kept = np.array(done.kept[row["layer"]]) % (row["nodes"] // 2)
        assert len(set(kept)) == row["nodes"] // 2, row["layer"]


def test_linear_combinations_are_folded():
    """A wide linear layer of rank 4 needs 4 of its nodes."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.Linear(30, 20), torch.nn.Linear(20, 3)).double()
    data = torch.randn(200, 4, dtype=torch.double)
    done = rt.compress(model, data, widths={"0": 4, "1": 4}, tau=1e-13, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-9
    assert [m.out_features for m in done.model] == [4, 4, 3]


def test_dead_channels_are_never_kept_while_live_ones_are_dropped():
    model = net(Chain, GREY)
    with torch.no_grad():
        model.conv1.bias[[1, 5]], model.conv1.weight[[1, 5]] = -5.0, 0.0
        model.fc1.bias[:], model.fc1.bias[:6], model.fc1.weight[:6] = 0.2, -1.0, 0.0
    for criterion in ("end_to_end", "output", "input"):
        done = rt.compress(model, GREY, widths={"conv1": 6, "fc1": 10}, criterion=criterion, **quiet)
        assert not {1, 5} & set(done.kept["conv1"])
        assert not set(range(6)) & set(done.kept["fc1"])


def test_the_sequential_target_and_the_intercept_help():
    model = net(Chain, GREY)
    errors = {
        s: relative(call(rt.compress(model, GREY, keep=0.4, **s_, **quiet).model, GREY), call(model, GREY))
        for s, s_ in {"both": {}, "local": {"sequential": False}, "no intercept": {"affine": False}}.items()
    }
    assert errors["both"] < errors["local"]


def test_budgets_are_met_and_widths_are_rounded():
    model = net(ResNet, IMAGES)
    for name, total in (("params", "params"), ("macs", "macs")):
        done = rt.compress(model, IMAGES, **{name: 0.6}, **quiet)
        t = done.report.totals
        assert 0.5 < t[f"{total}_after"] / t[f"{total}_before"] <= 0.6
    done = rt.compress(model, IMAGES, params=0.6, round_to=4, **quiet)
    assert all(row["kept"] % 4 == 0 for row in done.report.layers)


def test_an_error_is_kept_on_inputs_that_did_not_choose():
    model = net(Chain, GREY)
    fresh = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    done = rt.compress(model, GREY, error=0.3, holdout=0.0, **quiet)
    reached = relative(call(done.model, fresh), call(model, fresh)) ** 0.5
    assert 0.03 < reached < 0.4
    assert done.report.totals["params_after"] < done.report.totals["params_before"]


def test_the_same_call_gives_the_same_network_in_either_mode():
    model = net(ResNet, IMAGES)
    a = rt.compress(model, IMAGES, keep=0.5, **quiet)
    model.train()
    b = rt.compress(model, IMAGES, keep=0.5, **quiet)
    assert model.training
    assert a.kept == b.kept
    assert torch.equal(call(a.model, IMAGES), call(b.model.eval(), IMAGES))


def test_heads_alone():
    model = net(Encoder, WORDS)
    done = rt.compress(model, WORDS, heads=0.5, **quiet)
    assert [m.num_attention_heads for m in done.model.modules() if hasattr(m, "num_attention_heads")] == [2, 2]
    assert done.model.layers[0].intermediate.out_features == 32
    with pytest.raises(InputError, match="no layer to cut"):
        rt.compress(net(Chain, GREY), GREY, heads=0.5, **quiet)


def test_labels_and_loaders():
    model = net(Chain, GREY)
    labels = torch.randint(0, 5, (200,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(GREY, labels), batch_size=50)
    a = rt.compress(model, loader, keep=0.5, **quiet)
    b = rt.compress(model, GREY, keep=0.5, **quiet)
    assert a.kept == b.kept
    for criterion in ("magnitude", "taylor", "apoz", "random"):
        done = rt.compress(model, (GREY, labels), keep=0.5, criterion=criterion, **quiet)
        assert [row["kept"] for row in done.report.layers] == [4, 6, 10]


def test_predicted_error_is_of_the_size_of_the_measured_one():
    model = net(Chain, GREY)
    done = rt.compress(model, GREY, keep=0.6, **quiet)
    ratio = done.report.totals["predicted_error"] / done.report.totals["output_error"]
    assert 0.2 < ratio < 5


def test_save_and_load(tmp_path):
    for make, data, options in ((ResNet, IMAGES, {"stream": True}), (Encoder, WORDS, {"heads": 0.5})):
        model = net(make, data)
        done = rt.compress(model, data, keep=0.5, **options, **quiet)
        folder = done.save(tmp_path / make.__name__)
        assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors"]
        again = rt.load(folder, make)
        assert torch.equal(call(again.model, data), call(done.model, data))
        assert again.guarantee == done.guarantee
        assert again.kept == done.kept
        assert str(again.report) == str(done.report)
    with pytest.raises(InputError, match="pass the class"):
        rt.load(tmp_path / "ResNet", Chain)
    with pytest.raises(InputError, match="no compressed model"):
        rt.load(tmp_path / "nothing", Chain)


def test_the_report_is_a_dataset():
    done = rt.compress(net(Chain, GREY), GREY, keep=0.5, **quiet)
    assert dict(done.report.to_dataset().kept.sizes) == {"layer": 3}
    assert "parameters" in str(done)
    assert done.guarantee.n == 100
    assert done.anytime().upper > done.guarantee.upper
