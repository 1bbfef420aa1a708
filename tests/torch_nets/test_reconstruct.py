"""reconstruct: what other libraries have cut."""

import copy

import numpy as np
import pytest
import torch
import torch_pruning as tp
from small_nets import Chain, Encoder, InvertedResidual, ResNet, made, relative
from torch import nn

import riron.torch as rt

torch.set_num_threads(1)
IMAGES = torch.randn(200, 3, 12, 12, generator=torch.Generator().manual_seed(1))
quiet = {"progress": False}


def cut(model, images, ratio=0.4, ignored=()):
    pruned = copy.deepcopy(model)
    last = [m for m in pruned.modules() if isinstance(m, nn.Linear)][-1]
    kept = [last, *(dict(pruned.named_modules())[name] for name in ignored)]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    tp.pruner.BasePruner(pruned, images[:2], importance=importance, pruning_ratio=ratio, ignored_layers=kept).step()
    return pruned


def error(model, original, images=IMAGES):
    with torch.no_grad():
        return relative(model.eval()(images), original(images))


@pytest.mark.parametrize("make", [ResNet, InvertedResidual])
def test_what_torch_pruning_cut_is_repaired(make):
    original = made(make, IMAGES[:64])
    pruned = cut(original, IMAGES)
    done = rt.reconstruct(pruned, original, IMAGES, **quiet)
    assert error(done.model, original) < 0.5 * error(pruned, original)
    assert [tuple(a.shape) for a in done.model.parameters()] == [tuple(a.shape) for a in pruned.parameters()]
    assert all(row["matched"] == 1.0 for row in done.report.layers)


def test_survivors_are_the_nodes_that_were_kept():
    original = made(ResNet, IMAGES[:64])
    ours = rt.compress(original, IMAGES, keep=0.5, reconstruct=False, recalibrate=False, stream=True, **quiet)
    done = rt.reconstruct(ours.model, original, IMAGES, **quiet)
    for name, nodes in ours.kept.items():
        assert done.kept[name] == nodes


def test_it_equals_compress_with_the_same_nodes():
    original = made(ResNet, IMAGES[:64])
    plain = rt.compress(original, IMAGES, keep=0.5, reconstruct=False, recalibrate=False, **quiet)
    full = rt.compress(original, IMAGES, keep=0.5, **quiet)
    done = rt.reconstruct(plain.model, original, IMAGES, **quiet)
    assert error(done.model, full.model) < 1e-8


def test_a_network_trained_after_the_cut():
    original = made(ResNet, IMAGES[:64])
    pruned = cut(original, IMAGES, 0.3)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in pruned.parameters():
            if p.ndim > 1:
                p += 0.05 * p.std() * torch.randn_like(p)
    done = rt.reconstruct(pruned, original, IMAGES, **quiet)
    exact = rt.reconstruct(cut(original, IMAGES, 0.3), original, IMAGES, **quiet)
    assert done.kept == exact.kept
    assert any("trained further" in note for note in done.report.notes)


def test_permuted_survivors_are_found_in_their_new_order():
    grey = torch.randn(200, 1, 8, 8)
    original = made(Chain, grey)
    pruned = copy.deepcopy(original)
    kept = torch.tensor([6, 2, 5, 0])
    pruned.conv1 = nn.Conv2d(1, 4, 3, padding=1)
    pruned.conv2 = nn.Conv2d(4, 12, 3, padding=1)
    with torch.no_grad():
        pruned.conv1.weight.copy_(original.conv1.weight[kept]), pruned.conv1.bias.copy_(original.conv1.bias[kept])
        pruned.conv2.weight.copy_(original.conv2.weight[:, kept]), pruned.conv2.bias.copy_(original.conv2.bias)
    done = rt.reconstruct(pruned, original, grey, **quiet)
    assert done.kept["conv1"] == kept.tolist()
    assert error(done.model, original, grey) < 0.5 * error(pruned, original, grey)


def test_layers_of_other_names_are_matched_by_order():
    class Renamed(nn.Module):
        def __init__(self, chain):
            super().__init__()
            self.features = nn.ModuleList([chain.conv1, chain.conv2])
            self.head = nn.ModuleList([chain.fc1, chain.fc2])

        def forward(self, x):
            for conv in self.features:
                x = nn.functional.max_pool2d(torch.relu(conv(x)), 2)
            return self.head[1](torch.relu(self.head[0](x.flatten(1))))

    grey = torch.randn(200, 1, 8, 8)
    original = made(Chain, grey)
    pruned = Renamed(cut(original, grey))
    done = rt.reconstruct(pruned, original, grey, **quiet)
    assert error(done.model, original, grey) < 0.5 * error(pruned, original, grey)


def test_a_transformer_cut_by_hand():
    torch.manual_seed(0)
    original = Encoder(layers=1).eval()
    pruned = copy.deepcopy(original)
    layer, kept = pruned.layers[0], torch.arange(0, 32, 2)
    layer.intermediate.weight = nn.Parameter(layer.intermediate.weight[kept].detach())
    layer.intermediate.bias = nn.Parameter(layer.intermediate.bias[kept].detach())
    layer.output.weight = nn.Parameter(layer.output.weight[:, kept].detach())
    words = torch.randint(0, 50, (200, 9))
    done = rt.reconstruct(pruned, original, {"input_ids": words}, **quiet)
    assert done.kept["layers.0.intermediate"] == kept.tolist()
    with torch.no_grad():
        old, new, plain = (m(words)["logits"] for m in (original, done.model, pruned))
    assert relative(new, old) < relative(plain, old)
    np.testing.assert_allclose(done.report.totals["params_after"], sum(p.numel() for p in pruned.parameters()))
