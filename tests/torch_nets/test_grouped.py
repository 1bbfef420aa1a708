"""Grouped convolutions: equally many channels of each group, reconstruction inside the groups."""

import copy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from small_nets import Grouped, made, relative
from torch import nn

import riron.torch as rt
from riron.errors import InputError

torch.set_num_threads(1)
IMAGES = torch.randn(200, 3, 10, 10, generator=torch.Generator().manual_seed(1)).double()
BLOCKS = {"reduce": 4, "conv": 4, "again": 2, "expand": 1}
quiet = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return made(Grouped, IMAGES[:64].float()).double()


def call(net, data=IMAGES):
    with torch.no_grad():
        return net.eval()(data)


def test_keeping_everything_changes_nothing(model):
    done = rt.compress(model, IMAGES, keep=1.0, **quiet)
    assert relative(call(done.model), call(model)) < 1e-20
    assert {row["layer"] for row in done.report.layers} == set(BLOCKS)
    assert not done.report.notes


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"macs": 0.5}, {"params": 0.6}, {"keep": 0.5, "criterion": "apoz"}])
def test_each_group_keeps_as_many(model, options):
    done = rt.compress(model, IMAGES, **options, **quiet)
    for row in done.report.layers:
        blocks = np.array(done.kept[row["layer"]]) * BLOCKS[row["layer"]] // row["nodes"]
        assert len(set(np.bincount(blocks))) == 1, row["layer"]
    for name in ("conv", "again"):
        old, new = getattr(model, name), getattr(done.model, name)
        assert new.groups == old.groups
        assert new.weight.shape[1] * new.groups == new.in_channels
    plain = rt.compress(model, IMAGES, **options, reconstruct=False, **quiet)
    assert relative(call(done.model), call(model)) < 0.7 * relative(call(plain.model), call(model))
    t = done.report.totals
    for name in ("macs", "params"):
        if name in options:
            assert 0.6 * options[name] < t[f"{name}_after"] / t[f"{name}_before"] <= options[name]


def test_a_plain_cut_is_the_network_with_channels_silenced(model):
    """Every group keeps its own columns, not those of the first group."""
    done = rt.compress(model, IMAGES, keep=0.5, reconstruct=False, recalibrate=False, criterion="magnitude", **quiet)
    silent = copy.deepcopy(model)
    behind = {"reduce": "bn1", "conv": "bn2", "again": "bn3", "expand": "expand"}
    with torch.no_grad():
        for name, last in behind.items():
            drop = np.setdiff1d(np.arange(getattr(model, name).out_channels), done.kept[name])
            getattr(silent, last).weight[drop] = 0
            getattr(silent, last).bias[drop] = 0
    assert relative(call(done.model), call(silent)) < 1e-20


def test_duplicates_inside_groups_are_cut_to_their_rank(model):
    net = copy.deepcopy(model)
    with torch.no_grad():
        for layer, norm, blocks in ((net.reduce, net.bn1, 4), (net.conv, net.bn2, 4), (net.again, net.bn3, 2)):
            values = [layer.weight, layer.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
            for value in (v for v in values if v is not None):
                parts = value.view(blocks, 2, -1, *value.shape[1:])
                parts[:, 1] = parts[:, 0]
    done = rt.compress(net, IMAGES, widths={"reduce": 8, "conv": 12, "again": 8}, tau=1e-12, **quiet)
    assert relative(call(done.model), call(net)) < 1e-12
    for name, blocks in (("reduce", 4), ("conv", 4), ("again", 2)):
        each = getattr(net, name).out_channels // blocks
        kept = np.array(done.kept[name])
        assert len({(k // each, k % each % (each // 2)) for k in kept}) == len(kept), name
    with pytest.raises(InputError, match="no multiple of its 4 groups"):
        rt.compress(net, IMAGES, widths={"conv": 10}, **quiet)


def test_a_group_of_single_channels_is_left_alone():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8), nn.ReLU(), nn.Conv2d(16, 4, 1))
    net = nn.Sequential(net, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).double()
    done = rt.compress(net, IMAGES, keep=0.5, **quiet)
    assert any("leave none to cut" in note for note in done.report.notes)
    assert call(done.model).shape == (200, 3)


def test_a_cut_by_torch_pruning_is_repaired(model):
    cut = copy.deepcopy(model)
    pruner = tp.pruner.BasePruner(
        cut,
        IMAGES[:2],
        importance=tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[cut.head],
    )
    pruner.step()
    done = rt.reconstruct(cut, model, IMAGES, **quiet)
    assert relative(call(done.model), call(model)) < 0.7 * relative(call(cut), call(model))


def test_saved_and_loaded(model, tmp_path):
    done = rt.compress(model, IMAGES, keep=0.5, **quiet)
    again = rt.load(done.save(tmp_path), lambda: Grouped().double())
    assert torch.equal(call(again.model), call(done.model))
