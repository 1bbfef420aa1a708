"""decompose and suggest_widths."""

import numpy as np
import pytest
import torch
from small_nets import Chain, Encoder, ResNet, TorchEncoder, made, relative
from torch import nn

import riron.torch as rt
from riron.errors import InputError
from riron.torch.factors.canonical import canonical
from riron.torch.factors.directions import Option, spend
from riron.torch.factors.tucker import Seen, surface, tucker
from riron.torch.inputs import Batch, split

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


def low_rank(make):
    """A chain whose second convolution has the weight that `make` gives, and what it gave."""
    original = made(Chain, GREY).double()
    with torch.no_grad():
        original.conv2.weight.copy_(make(torch.Generator().manual_seed(3)))
    return original


def tucker_weight(generator):
    U, G, V = (torch.randn(*s, generator=generator, dtype=torch.double) for s in ((12, 4), (4, 3, 3, 3), (3, 8)))
    return torch.einsum("op,pqxy,qc->ocxy", U, G, V) / 10


def canonical_weight(generator):
    a, b, C = (torch.randn(s, 5, generator=generator, dtype=torch.double) for s in (12, 8, 9))
    return torch.einsum("or,cr,tr->oct", a, b, C).reshape(12, 8, 3, 3) / 5


@pytest.mark.parametrize("data", [GREY.double(), None])
@pytest.mark.parametrize(
    ("kind", "make", "ranks", "less"),
    [("tucker", tucker_weight, (4, 3), (3, 3)), ("tucker", tucker_weight, (4, 3), (4, 2)),
     ("cp", canonical_weight, 5, 4)],
)  # fmt: skip
def test_a_true_rank_is_recovered(kind, make, ranks, less, data):
    original = low_rank(make)
    options = {"kind": kind, "example_inputs": GREY.double()}
    done = rt.decompose(original, data, ranks={"conv2": ranks}, **options)
    assert error(done.model, original, GREY.double()) < 1e-10
    short = rt.decompose(original, data, ranks={"conv2": less}, **options)
    assert error(short.model, original, GREY.double()) > 1e-5
    count = sum(p.numel() for p in done.model.conv2.parameters())
    assert count == 12 + (4 * 3 * 9 + 12 * 4 + 8 * 3 if kind == "tucker" else 5 * (12 + 8 + 9))


@pytest.mark.parametrize("kind", ["tucker", "cp"])
@pytest.mark.parametrize(
    ("make", "shape", "options"),
    [
        (nn.Conv1d, (20,), {"stride": 2, "padding": 3, "dilation": 2}),
        (nn.Conv2d, (9, 11), {"padding": "same", "padding_mode": "circular"}),
        (nn.Conv2d, (9, 11), {"stride": (2, 1), "padding": (0, 2), "bias": False}),
        (nn.Conv3d, (5, 6, 7), {"padding": 1, "padding_mode": "replicate"}),
    ],
)
def test_geometry_is_kept(kind, make, shape, options):
    torch.manual_seed(0)
    layer = make(6, 8, 3, **options).double()
    parts = [
        torch.randn(8, 4).double(),
        torch.randn(6, 4).double(),
        torch.randn(layer.weight[0, 0].numel(), 4).double(),
    ]
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,cr,tr->oct", *parts).reshape(layer.weight.shape) / 10)
    net = nn.Sequential(layer, nn.Flatten(), nn.ReLU())
    data = torch.randn(60, 6, *shape).double()
    done = rt.decompose(net, data, kind=kind, ranks={"0": 4}, weighting="both")
    assert error(done.model, net, data) < 1e-10
    assert len(done.model[0]) == 3
    assert done.report.totals["macs_after"] < done.report.totals["macs_before"]


def test_sweeps_improve_on_the_truncated_expansion():
    """Plain Tucker: below the sum of both tails, and stationary: neither side can be improved alone."""
    W = torch.randn(9, 8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    found = tucker(W, 4, 3, Seen())
    tails = sum(float((torch.linalg.svdvals(W.movedim(k, 0).flatten(1))[r:] ** 2).sum()) for k, r in ((0, 4), (1, 3)))
    U, V = (torch.linalg.svd(W.movedim(k, 0).flatten(1))[0][:, :r] for k, r in ((0, 4), (1, 3)))
    truncated = float(((W - torch.einsum("op,rp,cq,dq,rdt->oct", U, U, V, V, W)) ** 2).sum())
    assert found.error == pytest.approx(float(((W - found.product) ** 2).sum()))
    assert found.error < truncated <= tails
    free = torch.linalg.svdvals(torch.einsum("oct,qc->oqt", W, found.V).flatten(1))
    assert float((W**2).sum() - (free[:4] ** 2).sum()) == pytest.approx(found.error, rel=1e-9)


def test_components_that_diverge_are_capped():
    """The limit of rank-two tensors x x y + x y x + y x x has rank 3: two components would grow without end."""
    x, y = torch.eye(2, dtype=torch.double)
    W = torch.einsum("o,c,t->oct", x, x, y) + torch.einsum("o,c,t->oct", x, y, x) + torch.einsum("o,c,t->oct", y, x, x)
    a, b, C, left = canonical(W, 2, sweeps=2000)
    norms = a.norm(dim=0) * b.norm(dim=0) * C.norm(dim=0)
    assert float(norms.max()) <= 10.01 * float(W.norm())
    assert left == pytest.approx(float(((torch.einsum("or,cr,tr->oct", a, b, C) - W) ** 2).sum()), rel=0.2)
    assert canonical(W, 3)[3] < 1e-10


def counted(model, side):
    """Multiplications of a chain by hand: padded convolutions of stride 1, each pooled by 2, then linear layers."""
    total = 0
    for name, part in model.named_children():
        if name.startswith("fc"):
            total += sum(m.weight.numel() for m in part.modules() if isinstance(m, nn.Linear))
        else:
            total += side**2 * sum(m.weight.numel() for m in part.modules() if isinstance(m, nn.Conv2d))
            side //= 2
    return total


@pytest.mark.parametrize("kind", ["tucker", "cp"])
def test_budgets_are_met_exactly(kind):
    original = made(lambda: Chain((16, 24, 30)), GREY)
    full, size = counted(original, 8), sum(p.numel() for p in original.parameters())
    done = rt.decompose(original, GREY, kind=kind, macs=0.4, weighting="both")
    spent = counted(done.model, 8)
    assert 0.37 * full < spent <= 0.4 * full
    assert (done.report.totals["macs_before"], done.report.totals["macs_after"]) == (full, spent)
    done = rt.decompose(original, GREY, kind=kind, params=0.5, weighting="end_to_end")
    assert 0.46 * size < sum(p.numel() for p in done.model.parameters()) <= 0.5 * size
    assert done.report.totals["params_after"] == sum(p.numel() for p in done.model.parameters())
    assert done.guarantee is not None


def nearly_low_rank():
    """A chain whose second convolution and first linear layer have few strong directions, as trained ones do."""
    original = made(lambda: Chain((16, 24, 30)), GREY)
    with torch.no_grad():
        for weight, rank in ((original.conv2.weight, 5), (original.fc1.weight, 12)):
            flat = weight.flatten(1)
            left, values, right = torch.linalg.svd(flat, full_matrices=False)
            values = torch.where(torch.arange(len(values)) < rank, values, 0.1 * values)
            weight.copy_((left * values @ right).reshape(weight.shape))
    return original


def test_an_error_is_kept_on_inputs_that_did_not_choose():
    original = nearly_low_rank()
    data, fresh = torch.randn(1200, 1, 8, 8, generator=torch.Generator().manual_seed(9)).split([800, 400])
    done = rt.decompose(original, data, error=0.2, holdout=0.0)
    assert 0.04 < error(done.model, original, fresh) ** 0.5 < 0.24
    assert done.report.totals["macs_after"] < 0.7 * done.report.totals["macs_before"]


def test_the_marginal_allocation_beats_uniform_shares():
    original = nearly_low_rank()
    data = torch.randn(1600, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    share = rt.decompose(original, data, keep=0.4, weighting="both").report.totals
    ours = rt.decompose(original, data, params=share["params_after"] / share["params_before"], weighting="both")
    t = ours.report.totals
    assert t["params_after"] <= share["params_after"]
    assert t["output_error"] < 0.8 * share["output_error"]


def test_layers_are_refitted_to_what_those_below_give():
    original = made(lambda: Chain((16, 24, 30)), GREY)
    ranks = {"conv1": (4, 1), "conv2": (8, 5), "fc1": (8, 96)}
    alone = rt.decompose(original, GREY, ranks=ranks, weighting="both", sequential=False)
    ours = rt.decompose(original, GREY, ranks=ranks, weighting="both")
    assert error(ours.model, original, GREY) < 0.8 * error(alone.model, original, GREY)


def test_the_best_spending_is_found():
    """Two layers with three ways each: all nine choices tried by hand."""
    ways = {"a": [(100, 0.0), (60, 1.0), (20, 5.0)], "b": [(80, 0.0), (50, 0.5), (10, 9.0)]}
    options = {
        name: [Option(None if k == 0 else (k, k), cost, cost, left) for k, (cost, left) in enumerate(found)]
        for name, found in ways.items()
    }
    for budget in (180, 150, 110, 70, 30):
        chosen = spend(options, "macs", budget=budget)
        cost, left = (sum(getattr(o, key) for o in chosen.values()) for key in ("macs", "error"))
        best = min(x[1] + y[1] for x in ways["a"] for y in ways["b"] if x[0] + y[0] <= budget)
        assert cost <= budget
        assert left == best, budget
    with pytest.raises(InputError, match="cannot be met"):
        spend(options, "macs", budget=20)
    chosen = spend(options, "macs", most=1.6)
    assert sum(o.macs for o in chosen.values()) == 110


@pytest.mark.parametrize("wrong", ["transposed metric", "first ranks"])
def test_a_wrong_metric_would_show(wrong):
    """The error surface is the error of the factors in the patches' moment, and no other choice comes near."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(7, 5, 9, generator=generator, dtype=torch.double)
    A = torch.randn(45, 45, generator=generator, dtype=torch.double)
    P = A @ A.mT
    seen = Seen(torch.einsum("ctdt->cd", P.reshape(5, 9, 5, 9)) / 9, P)
    left = lambda product: float((((W - product).reshape(7, -1) @ P) * (W - product).reshape(7, -1)).sum())
    found = tucker(W, 4, 5, seen)
    assert left(found.product) == pytest.approx(float(surface(W, seen, [5])[0, 4]), rel=1e-8)
    assert found.error == pytest.approx(left(found.product), rel=1e-6)
    values = torch.linalg.eigvalsh(W.reshape(7, -1) @ P @ W.reshape(7, -1).mT)
    assert left(found.product) == pytest.approx(float(values[:3].sum()), rel=1e-8)
    other = tucker(W, 4, 5, Seen(seen.S, P.flip(0, 1))).product if wrong == "transposed metric" else W * 0
    if wrong == "first ranks":
        other[:4] = W[:4]
    assert left(other) > 1.05 * left(found.product)


def test_it_gets_cheaper_and_is_saved(tmp_path):
    original = made(ResNet, IMAGES[:64])
    for kind in ("tucker", "cp"):
        done = rt.decompose(original, IMAGES, kind=kind, keep=0.4, ignore=["layer1"], weighting="both")
        t = done.report.totals
        assert t["params_after"] < t["params_before"]
        assert t["macs_after"] < t["macs_before"]
        folder = done.save(tmp_path / kind)
        assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors"]
        again = rt.load(folder, ResNet)
        assert error(again.model, done.model, IMAGES) == 0
        assert again.guarantee == done.guarantee
        assert str(again) == str(done)


def test_transformers_and_layers_that_are_looked_into(tmp_path):
    words = {"input_ids": torch.randint(0, 50, (120, 9), generator=torch.Generator().manual_seed(4))}
    torch.manual_seed(0)
    done = rt.decompose(Encoder().eval(), words, params=0.7)
    assert done.report.totals["params_after"] <= 0.7 * done.report.totals["params_before"]

    data = torch.randn(200, 7, 6, generator=torch.Generator().manual_seed(5)).double()
    torch.manual_seed(0)
    original = TorchEncoder().double().eval()
    done = rt.decompose(original, data, params=0.7)
    assert done.report.totals["params_after"] <= 0.7 * done.report.totals["params_before"]
    again = rt.load(done.save(tmp_path), lambda: TorchEncoder().double())
    assert error(again.model, done.model, data) == 0
    full = {row["layer"]: (row["nodes"], row["inputs"]) for row in done.report.layers}
    assert error(rt.decompose(original, data, ranks=full).model, original, data) < 1e-12

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 40), nn.Linear(40, 40), nn.Linear(40, 3)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.a(x.to(self.a.weight.dtype))))))

    done = rt.decompose(Looks(), torch.randn(60, 8), keep=0.3)
    assert [row["layer"] for row in done.report.layers] == ["b"]
    assert any("looks into 'a'" in note for note in done.report.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "exactly one"),
        ({"keep": 0.5, "ranks": {}}, "exactly one"),
        ({"keep": 0}, "outside"),
        ({"macs": 0.5, "error": 0.1}, "macs and error given"),
        ({"macs": 1.2}, "outside"),
        ({"error": 1.0}, "error=1.0"),
        ({"keep": 0.5, "kind": "cpd"}, "did you mean 'cp'"),
        ({"keep": 0.5, "weighting": "imput"}, "did you mean 'input'"),
        ({"keep": 0.5, "ignore": ["conv9"]}, "did you mean"),
        ({"ranks": {"conv2": 200}, "kind": "cp"}, r"outside 1\.\.72"),
        ({"params": 0.001}, "budget cannot be met"),
        ({"keep": 0.5, "holdout": 1.0}, "holdout"),
        ({"ranks": {"conv2": (99, 1)}}, "outside"),
        ({"ranks": {"conv9": (1, 1)}}, "did you mean"),
        ({"keep": 1.0}, "no layer would get cheaper"),
    ],
)
def test_decompose_refuses(options, said):
    with pytest.raises(InputError, match=said):
        rt.decompose(made(Chain, GREY), GREY, **options)


@pytest.mark.parametrize(("holdout", "said"), [(0.0, "at layer .* are not finite"), (0.9, "not finite for 1 of")])
def test_values_that_are_not_finite_are_told(holdout, said):
    data = GREY.clone()
    data[0 if holdout == 0 else held_row(len(data))] = float("nan")
    with pytest.raises(InputError, match=said):
        rt.decompose(made(Chain, GREY), data, keep=0.5, holdout=holdout)
    if holdout:
        with pytest.raises(InputError, match=said):
            rt.compress(made(Chain, GREY), data, keep=0.5, holdout=holdout, progress=False)


def held_row(n):
    """The number of an input that `split` holds out at seed 0."""
    batches = [Batch((torch.arange(n)[k : k + 64],)) for k in range(0, n, 64)]
    _, held = split(batches, 0.9, 0)
    return int(held[0].arguments[0][0])


def test_decompose_refuses_without_data():
    original = made(Chain, GREY)
    for options, said in (
        ({"keep": 0.5}, "neither data nor"),
        ({"error": 0.5, "example_inputs": GREY}, "need data"),
        ({"keep": 0.5, "weighting": "both", "example_inputs": GREY}, "need data"),
    ):
        with pytest.raises(InputError, match=said):
            rt.decompose(original, None, **options)
    with pytest.raises(InputError, match="the model is str"):
        rt.decompose("net", GREY, keep=0.5)
    done = rt.decompose(original, None, params=0.5, example_inputs=GREY)
    assert done.report.totals["params_after"] <= 0.5 * done.report.totals["params_before"]
    assert done.guarantee is None


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
