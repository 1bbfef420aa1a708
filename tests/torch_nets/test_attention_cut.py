"""Heads of fused projections and of nn.MultiheadAttention, and pairs of query and key columns."""

import copy

import numpy as np
import pytest
import torch
from small_nets import Encoder, FusedBlock, FusedScores, TorchEncoder, relative
from torch import nn

import riron.torch as rt
from riron.errors import InputError
from riron.torch.attention.query_key import best_pairs
from riron.torch.attention.split import SplitAttention, split_attentions

torch.set_num_threads(1)
TOKENS = torch.randn(200, 7, 16, generator=torch.Generator().manual_seed(1)).double()
ROWS = torch.randn(200, 7, 6, generator=torch.Generator().manual_seed(2)).double()
quiet = {"progress": False}
NETS = {
    "fused": (FusedBlock, TOKENS),
    "fused by head": (lambda: FusedBlock(order="h3d"), TOKENS),
    "torch": (TorchEncoder, ROWS),
    "torch, tokens first": (lambda: TorchEncoder(first=False), ROWS),
    "torch, norm first": (lambda: TorchEncoder(before=True), ROWS),
    "fused scores": (FusedScores, TOKENS),
}


def net(name):
    torch.manual_seed(0)
    make, data = NETS[name]
    return make().double().eval(), data


def call(model, data):
    with torch.no_grad():
        return model.eval()(data)


@pytest.mark.parametrize("name", NETS)
def test_keeping_all_heads_changes_nothing(name):
    model, data = net(name)
    done = rt.compress(model, data, heads=1.0, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-20


@pytest.mark.parametrize("name", NETS)
def test_heads_that_do_nothing_are_cut_for_nothing(name, tmp_path):
    """Two of four heads whose columns of the output projection are zero."""
    model, data = net(name)
    with torch.no_grad():
        for part in model.modules():
            out = (
                part.out_proj
                if isinstance(part, nn.MultiheadAttention)
                else getattr(part, "proj", getattr(part, "o", None))
            )
            if out is not None and out.in_features == 16:
                out.weight[:, 4:12] = 0
    done = rt.compress(model, data, heads=0.5, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-12
    row = done.report.layers[0]
    assert (row["nodes"], row["kept"]) == (16, 8)
    assert set(done.kept[row["layer"]]) == {*range(4), *range(12, 16)}
    size = sum(p.numel() for p in done.model.parameters())
    attentions = len(done.kept)
    assert sum(p.numel() for p in model.parameters()) - size == attentions * (8 * (3 * 17) + 16 * 8)
    again = rt.load(done.save(tmp_path), lambda: NETS[name][0]().double())
    assert torch.equal(call(again.model, data), call(done.model, data))


@pytest.mark.parametrize("name", ["fused", "torch"])
def test_heads_and_inner_nodes_together(name):
    model, data = net(name)
    done = rt.compress(model, data, keep=0.5, heads=0.5, **quiet)
    plain = rt.compress(model, data, keep=0.5, heads=0.5, reconstruct=False, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 0.8 * relative(
        call(plain.model, data), call(model, data)
    )
    inner = done.model.fc1 if name == "fused" else done.model.encoder.layers[0].linear1
    assert inner.out_features in (12, 16)


def test_layers_are_refitted_to_the_original_s_activations_where_attention_is_cut():
    model, data = net("fused")
    weights = lambda **options: list(rt.compress(model, data, **options, **quiet).model.parameters())
    same = lambda a, b: all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert same(weights(heads=0.5), weights(heads=0.5, sequential=False))
    assert not same(weights(heads=0.5), weights(heads=0.5, sequential=True))
    assert same(weights(keep=0.5), weights(keep=0.5, sequential=True))


def test_inner_nodes_alone_leave_torch_attention_as_it_is():
    model, data = net("torch")
    done = rt.compress(model, data, keep=0.5, **quiet)
    assert isinstance(done.model.encoder.layers[0].self_attn, nn.MultiheadAttention)
    assert [layer.linear1.out_features for layer in done.model.encoder.layers] == [16, 16]
    with torch.no_grad():
        fast, slow = done.model.eval()(data), done.model.train()
    for part in slow.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    torch.testing.assert_close(slow(data).detach(), fast)


def test_a_forward_that_keeps_the_width_is_told():
    model = FusedBlock(fixed=True).double()
    done = rt.compress(model, TOKENS, keep=0.5, heads=0.5, **quiet)
    assert any("without one head its forward does not run" in note for note in done.report.notes)
    assert done.model.qkv.out_features == 48


@pytest.mark.parametrize("options", [{}, {"kdim": 10, "vdim": 12}, {"bias": False}, {"batch_first": True}])
def test_a_split_attention_is_the_same_function(options):
    torch.manual_seed(1)
    old = nn.MultiheadAttention(16, 4, **options).double().eval()
    holder = nn.Sequential(copy.deepcopy(old))
    assert split_attentions(holder) == ["0"]
    new = holder[0]
    assert isinstance(new, SplitAttention)
    sizes = (16, options.get("kdim", 16), options.get("vdim", 16))
    q, k, v = (torch.randn(n, 3, size).double() for n, size in zip((7, 9, 9), sizes, strict=True))
    if options.get("batch_first"):
        q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
    hidden = torch.rand(3, 9) < 0.3
    hidden[:, 0] = False
    for masks in ({}, {"key_padding_mask": hidden}, {"attn_mask": torch.randn(7, 9).double()}):
        for average in (True, False):
            a, b = (m(q, k, v, average_attn_weights=average, **masks) for m in (old, new))
            torch.testing.assert_close(b[0], a[0])
            torch.testing.assert_close(b[1], a[1])
    alone = [m(q[:, 0] if k.shape[0] == 9 else q[0], k[:, 0] if k.shape[0] == 9 else k[0],
               v[:, 0] if k.shape[0] == 9 else v[0])[0] for m in (old, new)]  # fmt: skip
    torch.testing.assert_close(alone[1], alone[0])


@pytest.mark.parametrize("name", ["torch", "torch, tokens first", "fused scores"])
def test_pairs_that_do_nothing_are_cut_for_nothing(name, tmp_path):
    """Half of the query columns of each head are zero: the scores, and their scale, stay."""
    model, data = net(name)
    dropped = [0, 3, 5, 6, 8, 11, 13, 14]
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.MultiheadAttention):
                part.in_proj_weight[dropped], part.in_proj_bias[dropped] = 0, 0
        if name == "fused scores":
            model.q.weight[dropped], model.q.bias[dropped] = 0, 0
    done = rt.compress(model, data, qk=0.5, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-20
    row = done.report.layers[-1]
    assert (row["nodes"], row["kept"]) == (16, 8)
    assert row["predicted_error"] == pytest.approx(0, abs=1e-12)
    assert set(done.kept[row["layer"]]) == set(range(16)) - set(dropped)
    again = rt.load(done.save(tmp_path), lambda: NETS[name][0]().double())
    assert torch.equal(call(again.model, data), call(done.model, data))


def test_heads_of_one_size_lose_values_too(tmp_path):
    """BERT's attention: half of each head's queries and of the columns that read its values are zero."""
    torch.manual_seed(0)
    model = Encoder().double().eval()
    words = {"input_ids": torch.randint(0, 50, (200, 9), generator=torch.Generator().manual_seed(4))}
    logits = lambda net: net.eval()(**words)["logits"].detach()
    pairs, values = [0, 3, 5, 6, 8, 11, 13, 14], [1, 2, 4, 5, 10, 11, 12, 14]
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.query.weight[pairs], layer.attention.query.bias[pairs] = 0, 0
            layer.dense.weight[:, values] = 0
    done = rt.compress(model, words, qk=0.5, **quiet)
    assert relative(logits(done.model), logits(model)) < 1e-20
    attention = done.model.layers[0].attention
    assert (attention.attention_head_size, attention.all_head_size, attention.num_attention_heads) == (2, 8, 4)
    assert attention.value.out_features == done.model.layers[0].dense.in_features == 8
    assert set(done.kept["layers.0.attention.value"]) == set(range(16)) - set(values)
    again = rt.load(done.save(tmp_path), lambda: Encoder().double())
    assert torch.equal(logits(again.model), logits(done.model))
    both = rt.compress(model, words, qk=0.5, keep=0.5, **quiet)
    assert [layer.intermediate.out_features for layer in both.model.layers] == [16, 16]
    budget = rt.compress(model, words, qk=0.5, params=0.7, **quiet).report.totals
    assert budget["params_after"] <= 0.7 * budget["params_before"]


def test_a_wrong_scale_would_show():
    """Without the factor that undoes the smaller heads the function changes."""
    model, data = net("fused scores")
    with torch.no_grad():
        model.q.weight[::2], model.q.bias[::2] = 0, 0
        model.q.weight *= 6
    done = rt.compress(model, data, qk=0.5, reconstruct=False, **quiet)
    assert relative(call(done.model, data), call(model, data)) < 1e-20
    with torch.no_grad():
        done.model.q.weight *= 2**0.5
        done.model.q.bias *= 2**0.5
    assert relative(call(done.model, data), call(model, data)) > 1e-5


def test_heads_and_pairs_together():
    model, data = net("torch")
    done = rt.compress(model, data, heads=0.5, qk=0.5, **quiet)
    attention = done.model.encoder.layers[0].self_attn
    assert (attention.query.out_features, attention.key.out_features, attention.value.out_features) == (4, 4, 8)
    assert attention.num_heads == 2
    assert attention.scale == 0.5
    assert relative(call(done.model, data), call(model, data)) < 0.2


def test_the_choice_of_pairs_is_good():
    """Against all choices of one head, and better than keeping the first pairs."""
    from itertools import combinations

    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    G = (q.T @ q / 50) * (k.T @ k / 50)
    loss = lambda kept: G[np.ix_(*[np.setdiff1d(np.arange(6), kept)] * 2)].sum()
    scores = lambda kept: (((q @ k.T) - q[:, kept] @ k[:, kept].T) ** 2).mean()
    chosen = best_pairs(G[None], 3)
    losses = sorted(loss(np.array(c)) for c in combinations(range(6), 3))
    assert loss(chosen) <= losses[3]
    assert loss(chosen) == pytest.approx(scores(chosen), rel=1e-9)


def test_what_cannot_be_cut_is_told():
    words = {"input_ids": torch.randint(0, 50, (60, 9), generator=torch.Generator().manual_seed(4))}
    done = rt.compress(Encoder(), words, heads=0.5, qk=0.5, **quiet)
    assert any("are cut; compress the result" in note for note in done.report.notes)
    model, data = net("fused")
    with pytest.raises(InputError, match="not a projection to queries beside one to keys"):
        rt.compress(model, data, qk=0.5, **quiet)
    for options in ({"heads": 0.0}, {"qk": 1.5}):
        with pytest.raises(InputError, match="outside"):
            rt.compress(model, data, **options, **quiet)
