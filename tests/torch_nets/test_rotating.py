"""criterion="pca": streams of RMSNorm networks, cut in their principal components."""

import copy

import numpy as np
import pytest
import torch
from small_nets import Decoder, Encoder, ResNet, RootNorm, relative
from torch import nn

import riron.torch as rt
from riron.errors import InputError
from riron.theory.node_selection import Target
from riron.torch.rotating import by_component

torch.set_num_threads(1)
WORDS = torch.randint(0, 50, (200, 9), generator=torch.Generator().manual_seed(1))
quiet = {"progress": False}


def call(model):
    with torch.no_grad():
        return model.eval()(WORDS)


def decoder(norm, rank=None):
    """A decoder whose stream lies in a subspace of the dimension given, askew to the nodes."""
    torch.manual_seed(0)
    model = Decoder(norm=norm).double().eval()
    if rank is not None:
        Q = torch.linalg.qr(torch.randn(16, rank, dtype=torch.double))[0]
        with torch.no_grad():
            model.embed.weight.copy_(model.embed.weight @ Q @ Q.mT)
            for block in model.blocks:
                for layer in (block.o, block.down):
                    layer.weight.copy_(Q @ Q.mT @ layer.weight)
                block.down.bias.copy_(Q @ Q.mT @ block.down.bias)
    return model


@pytest.mark.parametrize("norm", [RootNorm, nn.RMSNorm])
def test_a_rotation_changes_nothing(norm):
    model = decoder(norm)
    before = copy.deepcopy(model.state_dict())
    done = rt.compress(model, WORDS, keep=1.0, criterion="pca", **quiet)
    assert relative(call(done.model), call(model)) < 1e-20
    assert not torch.allclose(done.model.embed.weight, model.embed.weight)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("norm", [RootNorm, nn.RMSNorm])
def test_a_stream_of_low_dimension_is_cut_to_it(norm, tmp_path):
    """Nodes cannot do that: RMSNorm needs the length of the whole stream."""
    model = decoder(norm, rank=6)
    name = "blocks.0.o"
    for refit in (True, False):
        done = rt.compress(model, WORDS, widths={name: 6}, criterion="pca", reconstruct=refit, **quiet)
        assert relative(call(done.model), call(model)) < 1e-8
        assert done.model.embed.embedding_dim == 6
    nodes = rt.compress(model, WORDS, widths={name: 6}, stream=True, **quiet)
    assert relative(call(nodes.model), call(model)) > 1e-4
    less = rt.compress(model, WORDS, widths={name: 5}, criterion="pca", **quiet)
    assert relative(call(less.model), call(model)) > 1e-4
    again = rt.load(done.save(tmp_path), lambda: Decoder(norm=norm).double())
    assert torch.equal(call(again.model), call(done.model))


def test_stream_heads_and_inner_nodes_together():
    model = decoder(RootNorm, rank=10)
    done = rt.compress(model, WORDS, keep=0.7, heads=0.5, criterion="pca", **quiet)
    assert {row["layer"]: row["kept"] for row in done.report.layers}["blocks.0.o"] == 11
    assert relative(call(done.model), call(model)) < 0.2
    t = rt.compress(model, WORDS, params=0.6, criterion="pca", **quiet).report.totals
    assert t["params_after"] <= 0.6 * t["params_before"]


def test_the_error_of_leaving_components_out():
    rng = np.random.default_rng(0)
    A, Z = rng.normal(size=(6, 6)), rng.normal(size=(3, 6))
    S = A @ A.T
    losses = by_component([Target(S, Z, 2.0)]).losses
    for k in range(7):
        drop = np.arange(k, 6)
        assert losses[k] == pytest.approx(2 * np.trace(Z[:, drop] @ S[np.ix_(drop, drop)] @ Z[:, drop].T), abs=1e-9)


def test_other_norms_are_refused():
    words = {"input_ids": WORDS}
    with pytest.raises(InputError, match=r"can be rotated; .*LayerNorm.*does not commute with rotations"):
        rt.compress(Encoder(), words, keep=0.5, criterion="pca", **quiet)
    with pytest.raises(InputError, match=r"BatchNorm2d"):
        rt.compress(ResNet(), torch.randn(40, 3, 12, 12), keep=0.5, criterion="pca", **quiet)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(InputError, match="the network has none"):
        rt.compress(model, torch.randn(40, 4), keep=0.5, criterion="pca", **quiet)
