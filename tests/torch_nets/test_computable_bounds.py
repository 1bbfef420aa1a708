"""Bounds that can be computed: they cover where the error is known, and what they rest on is exact."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from riron.errors import InputError
from riron.guarantees.binomial_limits import clopper_pearson, kl_inverse, occam_limit
from riron.guarantees.code_length import code_length
from riron.guarantees.pac_bayes import gibbs_monte_carlo_limit, pac_bayes_kl_limit
from riron.torch.generalisation.agreement import Promise, promise, through_silence
from riron.torch.generalisation.companion import companion_bounds
from riron.torch.generalisation.coordinates import Coordinates
from riron.torch.generalisation.pac_bayes import pac_bayes_bounds
from riron.torch.generalisation.pairs import Pairs, frozen, read_pairs, scores
from riron.torch.generalisation.posteriors import Estimate, Gibbs, closed_form, optimise, optimised, training_error
from riron.torch.generalisation.random_network import RandomNetwork, scales, with_plain_norms
from riron.torch.generalisation.subspace import Subspace, fit_quantised
from riron.torch.generalisation.test_set import test_set_bounds as held_out_bounds

CLASSES, INPUTS, NOISE = 3, 6, 0.1


def draw(n, seed):
    """Three Gaussian classes far from each other, a tenth of the labels replaced by the next class."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=g)
    X = 4 * torch.eye(CLASSES, INPUTS, dtype=torch.float64)[y] + torch.randn(
        n, INPUTS, generator=g, dtype=torch.float64
    )
    flipped = torch.rand(n, generator=g) < NOISE
    return X, torch.where(flipped, (y + 1) % CLASSES, y)


def small(seed=0, hidden=8):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)).double()


def fit(net, X, y, steps=200):
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        optimiser.step()
    return net


@pytest.fixture(scope="module")
def trained():
    train, fresh, unlabelled = draw(400, 1), draw(20_000, 2), draw(300, 3)[0]
    init = small()
    net = fit(copy.deepcopy(init), *train)
    half = fit(copy.deepcopy(init), train[0][:200], train[1][:200])
    return net, init, half, train, fresh, unlabelled


def error(net, data):
    return float((scores(net, data[0]).argmax(1) != data[1]).double().mean())


# --- the test set


def test_the_test_set_bound_is_clopper_pearson(trained):
    net, *_, fresh, _ = trained
    X, y = fresh[0][:300], fresh[1][:300]
    exact, chernoff = held_out_bounds(net, (X, y), 0.05)
    wrong = int((net(X).argmax(1) != y).sum())
    assert exact.terms == {"errors": wrong, "n": 300}
    assert exact.value == clopper_pearson(wrong, 300, 0.05)
    assert chernoff.value == kl_inverse(wrong / 300, math.log(20) / 300) > exact.value
    assert (exact.of, exact.status) == ("this network", "non-vacuous")


def test_rows_that_were_trained_on_are_found(trained):
    net, _, _, train, fresh, _ = trained
    mixed = torch.cat([train[0][:7], fresh[0][:93]]), torch.cat([train[1][:7], fresh[1][:93]])
    with pytest.warns(UserWarning, match="7 of 100 inputs of heldout are training inputs too"):
        assert held_out_bounds(net, mixed, 0.05, train=train)[0].terms["also training rows"] == 7
    with pytest.raises(InputError, match="every input of heldout is a training input"):
        held_out_bounds(net, train, 0.05, train=train)
    with pytest.raises(InputError, match="every input of unlabelled is a training input"):
        companion_bounds(net, train, train[0])


def test_one_score_decides_by_its_sign():
    X = torch.tensor([[1.0], [-1.0], [2.0], [-3.0]])
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    for labels in ([1, 0, 1, 1], [1, -1, 1, 1]):
        assert held_out_bounds(net, (X, torch.tensor(labels)), 0.05)[0].terms["errors"] == 1


def test_the_model_is_left_as_it_is(trained):
    net, _, _, train, _, unlabelled = trained
    net = nn.Sequential(copy.deepcopy(net), nn.BatchNorm1d(CLASSES, dtype=torch.float64), nn.Dropout(0.5)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    pac_bayes_bounds(net, train, steps=2)
    companion_bounds(net, train, unlabelled, epochs=2, retrain=lambda module, X, y: None)
    assert net.training
    assert all(m.training for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


# --- random networks


class Normed(nn.Module):
    """A linear net with BatchNorm, weights and statistics that are not the default."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(nn.functional.relu(self.conv(x), inplace=True).mean((2, 3)))


@pytest.mark.parametrize(("make", "shape", "local"), [(Normed, (4,), True), (Convolved, (1, 4, 4), False)])
def test_a_fresh_network_for_each_input_has_the_law_of_whole_networks(make, shape, local):
    torch.manual_seed(0)
    net = with_plain_norms(frozen(make().double()))
    x = torch.randn(1, *shape, dtype=torch.float64)
    around, g, draws = RandomNetwork(net, torch.cat([x, x])), torch.Generator().manual_seed(0), 12_000
    assert around.local is local
    mean = around.centre()
    sd = {k: 0.2 + 0.2 * torch.rand_like(v) for k, v in mean.items()}
    with torch.no_grad():
        fresh = around.fresh(x.expand(draws, *shape), mean, sd, g)
        whole = torch.stack([around.shared(x, mean, sd, g)[0] for _ in range(draws // 4)])
    spread = (fresh.var(0) / len(fresh) + whole.var(0) / len(whole)).sqrt()
    assert bool(((fresh.mean(0) - whole.mean(0)).abs() < 5 * spread).all())
    # the variance of a variance from the fourth moment
    fourth = lambda z: ((z - z.mean(0)) ** 4).mean(0) - z.var(0) ** 2
    spread = (fourth(fresh) / len(fresh) + fourth(whole) / len(whole)).sqrt()
    assert bool(((fresh.var(0) - whole.var(0)).abs() < 5 * spread).all())
    # the draws of neighbouring inputs are independent: no correlation beyond 5/sqrt(n)
    a, b = fresh[::2, 0], fresh[1::2, 0]
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / math.sqrt(len(a))


def test_noise_of_the_wrong_size_would_be_seen():
    torch.manual_seed(0)
    net, x = nn.Linear(4, 3).double(), torch.randn(1, 4, dtype=torch.float64)
    around, g = RandomNetwork(frozen(net), torch.cat([x, x])), torch.Generator().manual_seed(0)
    mean, sd = around.centre(), {k: torch.full_like(v, 0.3) for k, v in around.centre().items()}
    z = around.fresh(x.expand(20_000, 4), mean, sd, g)
    exact = 0.09 * float((x**2).sum() + 1)
    assert float(z.var(0).mean()) == pytest.approx(exact, rel=5 * math.sqrt(2 / 60_000))
    assert abs(0.3 * float(x.abs().sum() + 1) - exact) > 0.1 * exact  # standard deviations instead of variances


def test_batch_norm_as_weights_is_the_same_function():
    torch.manual_seed(0)
    net = Normed().double().eval()
    x = torch.randn(9, 4, dtype=torch.float64)
    assert torch.allclose(with_plain_norms(frozen(net))(x), net(x), atol=1e-13)
    start = Normed().double()
    net.norm = nn.BatchNorm1d(5, affine=False, dtype=torch.float64)
    net.norm.running_mean += 1
    net.eval()
    assert torch.allclose(with_plain_norms(frozen(net))(x), net(x), atol=1e-13)
    start.norm = nn.BatchNorm1d(5, track_running_stats=False, dtype=torch.float64)
    with pytest.raises(InputError, match="'norm' normalises by the batch"):
        with_plain_norms(frozen(start))


def test_layers_that_see_an_input_more_than_once_are_not_local():
    x = torch.randn(2, 5, 4)
    assert not RandomNetwork(frozen(nn.Sequential(nn.Linear(4, 3), nn.Flatten())), x).local  # five positions
    layer = nn.Linear(4, 4)
    assert not RandomNetwork(frozen(nn.Sequential(layer, nn.ReLU(), layer)), x[:, 0]).local


# --- PAC-Bayes


def test_the_closed_form_is_the_formula(trained):
    net, init, _, train, _, _ = trained
    pairs, around = read_pairs(train, frozen(net)), RandomNetwork(frozen(net), train[0][:2])
    prior = {k: v.detach() for k, v in init.named_parameters()}
    unit, g = scales(prior), torch.Generator().manual_seed(0)
    law, estimate = closed_form(around, prior, pairs, 0.05, g)
    kl = sum(
        float((((law.mean[k] - prior[k]) / law.sd[k]) ** 2).sum()) / 2 for k in prior
    )  # equal standard deviations: |w - w_0|^2/(2 s^2)
    assert law.kl == pytest.approx(kl + math.log(24), rel=1e-9)
    for k in prior:
        assert torch.allclose(law.mean[k], torch.lerp(prior[k], around.centre()[k], law.way))
        assert float(law.sd[k].std()) < 1e-12 < unit[k]
    assert estimate.draws == 10 * len(pairs)


def test_an_estimate_shares_delta():
    training = gibbs_monte_carlo_limit(0.1, 500, 0.005)
    assert Estimate(0.1, 500).limit(3.0, 100, 0.05) == pac_bayes_kl_limit(training, 3.0, 100, 0.045)


def test_the_optimised_law_costs_its_kl(trained):
    net, init, _, train, _, _ = trained
    pairs, around = read_pairs(train, frozen(net)), RandomNetwork(frozen(net), train[0][:2])
    prior = {k: v.detach() for k, v in init.named_parameters()}
    unit, g = scales(prior), torch.Generator().manual_seed(0)
    law, prior_sd, price = optimise(around, prior, unit, pairs, 50, g, n=400)
    kl = 0.0
    for k in prior:
        q = torch.distributions.Normal(law.mean[k], law.sd[k])
        p = torch.distributions.Normal(prior[k], torch.full_like(prior[k], unit[k] * prior_sd))
        kl += float(torch.distributions.kl_divergence(q, p).sum())
    assert law.kl == pytest.approx(kl + price, rel=1e-9)
    j = round(10 * math.log(100 / prior_sd**2))
    assert prior_sd**2 == pytest.approx(100 * math.exp(-j / 10))
    assert price == pytest.approx(math.log(math.pi**2 * j**2 / 6))


def test_without_noise_the_gibbs_error_is_the_error(trained):
    net, _, _, train, _, _ = trained
    pairs, around = read_pairs(train, frozen(net)), RandomNetwork(frozen(net), train[0][:2])
    mean = around.centre()
    law = Gibbs(mean, {k: torch.zeros_like(v) for k, v in mean.items()}, 0.0)
    assert training_error(around, law, pairs, torch.Generator().manual_seed(0)).mean == pytest.approx(error(net, train))


def test_the_bounds_hold_and_say_something(trained):
    net, init, half, train, fresh, unlabelled = trained
    found = pac_bayes_bounds(net, train, init=init, prior=(half, range(200)), unlabelled=unlabelled, steps=300)
    values = {b.name: b for b in found}
    assert len(values) == 8
    truth, prior_truth = error(net, fresh), error(half, fresh)
    for b in found:
        if b.of == "this network":
            assert b.value >= truth
            assert b.value == pytest.approx(b.terms["its error"] + b.terms["disagreement"])
            if "through a random one" in b.name:  # the choice between two laws is paid for
                t = b.terms
                estimate = Estimate(t["Gibbs error on the rows"], 10 * t["n"])
                assert t["its error"] == estimate.limit(t["KL"] + math.log(2), t["n"], 0.025)
        if b.of == "the network of the prior":
            assert b.value >= prior_truth
        if b.of.startswith(("a random", "the random")):
            assert b.value >= NOISE  # nothing decides better than the labels' noise
            assert b.terms["n"] == (400 if "initial" in b.name else 200)
    through_prior = values["this network through the network of the prior"]
    assert through_prior.value < 0.35
    assert values["PAC-Bayes optimised, prior = initial weights"].value < 0.6  # chance: 2/3
    assert {b.confidence for b in found} == {0.95}


def test_the_optimised_bound_covers_over_data_sets():
    # 12 data sets: P(more than 5 misses) < 1e-4 at delta = .05; the true Gibbs error from 4000 fresh pairs
    misses, fresh, g = 0, draw(4000, 99), torch.Generator().manual_seed(0)
    for seed in range(12):
        init = small(seed, hidden=4)
        train = draw(60, 100 + seed)
        pairs, around = Pairs(*train, CLASSES), RandomNetwork(frozen(init), train[0][:2])
        prior = around.centre()
        law, estimate = optimised(around, prior, pairs, pairs, 60, 0.05, g, trained=False, say=lambda text: None)
        truth = training_error(around, law, Pairs(*fresh, CLASSES), g).mean
        misses += estimate.limit(law.kl, len(pairs), 0.05) < truth - 4 * math.sqrt(truth / 40_000)
    assert misses <= 5


def test_random_labels_are_near_chance_or_vacuous(trained):
    _, init, _, (X, _), _, unlabelled = trained
    y = torch.randint(CLASSES, (len(X),), generator=torch.Generator().manual_seed(5))
    net = fit(copy.deepcopy(init), X, y, steps=600)
    found = pac_bayes_bounds(net, (X, y), init=init, unlabelled=unlabelled, steps=200)
    found += companion_bounds(net, (X, y), unlabelled, dimensions=12, epochs=60)
    chance = 1 - 1 / CLASSES
    assert all(b.value > chance for b in found)  # the law's labels are coins: nothing may promise less


# --- companions


@pytest.mark.parametrize("dense", [4e7, 0])
def test_a_subspace_starts_at_the_module_and_has_its_dimension(dense, monkeypatch):
    monkeypatch.setattr("riron.torch.generalisation.subspace.DENSE", dense)
    net, X = frozen(small(hidden=30)), draw(5, 0)[0]
    space = Subspace(net, 7, seed=3)
    assert torch.allclose(space.scores(torch.zeros(7, dtype=torch.float64), X), net(X), atol=1e-13)
    columns = [
        torch.cat([w.flatten() for w in space.weights(e).values()])
        - torch.cat([w.flatten() for w in space.origin.values()])
        for e in torch.eye(7, dtype=torch.float64)
    ]
    assert int(torch.linalg.matrix_rank(torch.stack(columns))) == 7
    ones = torch.ones(7, dtype=torch.float64)
    again = Subspace(net, 7, seed=3).weights(ones)
    assert all(torch.equal(again[k], w) for k, w in space.weights(ones).items())
    # a unit step in every direction moves the weights of a layer by about their own size
    moved = space.weights(torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    ratio = float((moved["0.weight"] - space.origin["0.weight"]).pow(2).mean().sqrt()) / space.unit["0.weight"]
    assert 0.4 < ratio < 2.0
    whole = Subspace(net, 10**6)
    assert whole.dimension == sum(p.numel() for p in net.parameters())


def test_a_quantised_companion_is_what_its_code_names(trained):
    *_, train, fresh, _ = trained
    pairs = Pairs(train[0], train[1], CLASSES)
    q = fit_quantised(Subspace(frozen(small(1, hidden=20)), 40), pairs, 4, steps=400, settings=6)
    values, places = torch.unique(q.theta, return_inverse=True)
    assert len(values) <= 4
    assert torch.equal(values, values.to(torch.float16).double())
    recounted = code_length(places.numpy(), 4, settings=6)
    assert q.code.bits == pytest.approx(recounted.bits)
    wrong = int((q.scores(train[0]).argmax(1) != train[1]).sum())
    assert wrong / 400 < 0.2
    truth = float((q.scores(fresh[0]).argmax(1) != fresh[1]).double().mean())
    assert truth <= occam_limit(wrong, 400, q.code.bits, 0.05)


def test_coordinates_are_those_of_the_kernel():
    X = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = Coordinates(X, 5)
    z = c(X)
    assert z.shape == (60, 6)
    assert bool((z[:, -1] == 1).all())
    assert float(z[:, :5].pow(2).mean().sqrt()) == pytest.approx(3.0)
    gram = z[:, :5].mT @ z[:, :5]
    assert float((gram - gram.diag().diag()).abs().max()) < 1e-9 * float(gram.max())  # principal axes
    assert bool((gram.diag().diff() < 0).all())


def test_the_companion_bounds_hold_and_are_labelled(trained):
    net, _, _, train, fresh, unlabelled = trained
    found = companion_bounds(net, train, unlabelled, dimensions=(12, 24), levels=(3, 5), epochs=300)
    own, through, randomly, through_random, copied, through_copy = found
    truth = error(net, fresh)
    for b in (through, through_random, through_copy):
        assert b.of == "this network"
        assert truth <= b.value < 0.62
        assert b.value == pytest.approx(b.terms["its error"] + b.terms["disagreement"])
        assert b.terms["disagreement"] == clopper_pearson(b.terms["disagreements"], b.terms["inputs"], 0.025)
    # half of the inputs taught the coordinates and may not judge
    assert through.terms["inputs"] == through_random.terms["inputs"] == 150
    assert through_copy.terms["inputs"] == 300
    assert "companion of" in own.of
    assert own.value == pytest.approx(min(entry["limit"] for entry in own.terms["tried"]))
    assert own.terms["bits"] >= 2  # the choice among four settings is paid for
    assert len(own.terms["tried"]) == 4
    assert own.value == occam_limit(own.terms["errors"], 400, own.terms["bits"], 0.05)
    assert NOISE < randomly.value < 0.5
    assert copied.terms["n"] == 100


def test_every_choice_is_paid_for(trained, monkeypatch):
    net, _, _, train, _, unlabelled = trained
    options = {"epochs": 40, "retrain": False}
    one, through, *_ = companion_bounds(net, train, unlabelled, dimensions=12, levels=3, **options)
    four = companion_bounds(net, train, unlabelled, dimensions=(12, 24), levels=(3, 5), **options)[0]
    assert four.terms["tried"][0]["bits"] == pytest.approx(one.terms["bits"] + 2)  # one of four settings
    assert through.terms["inputs"] == 150
    # 16 equal silences of zero: four bits more and half of delta, and nobody is silent
    for place in ("companion", "agreement"):
        monkeypatch.setattr(f"riron.torch.generalisation.{place}.SILENCE", (0.0,) * 16)
    _, through, randomly, through_random = companion_bounds(net, train, unlabelled, dimensions=12, levels=3, **options)
    assert through.terms["silent"] == 0
    assert through.terms["its error"] == occam_limit(one.terms["errors"], 400, one.terms["bits"] + 4, 0.025)
    estimate = Estimate(randomly.terms["Gibbs error on the rows"], 4000)
    assert randomly.value == estimate.limit(randomly.terms["KL"], 400, 0.05)
    assert through_random.terms["its error"] == estimate.limit(randomly.terms["KL"], 400, 0.025 / 16)


def test_silence_counts_as_disagreement():
    # scores whose lead is the first coordinate: the network and the companion agree, but for row 0
    z = torch.tensor([[0.0, 4.0], [4.0, 0.0], [0.1, 0.0], [0.2, 0.0], [5.0, 0.0]], dtype=torch.float64)
    network = nn.Linear(2, 2, bias=False).double()
    network.weight.data = torch.eye(2, dtype=torch.float64)
    same = z.clone()
    same[0] = torch.tensor([4.0, 0.0])
    found = through_silence(network, same, z, Promise(0.0, 0.5, 0.1), 0.05, "through it", "-", "-")
    assert found.terms["disagreements"] == 3  # two silent rows and one that differs
    assert found.terms["silent"] == pytest.approx(0.4)
    assert found.value == 0.1 + clopper_pearson(3, 5, 0.025)
    labels = torch.tensor([1, 0, 1, 1, 0])
    promised = promise(z, labels, z.argmax(1), lambda s: s / 2)
    assert promised.silence > 0.1  # rows 2 and 3 are wrong and unsure: 2/5 for their silence beats 2/2
    assert (promised.first, promised.total) == (0.0, pytest.approx(0.4))


def test_silence_never_breaks_the_chain():
    # P(wrong) <= P(speaks and wrong) + P(silent or differs), whatever the three say
    rng = np.random.default_rng(0)
    for _ in range(200):
        truth, network, companion = rng.integers(0, 3, (3, 50))
        silent = rng.random(50) < rng.random()
        assert (network != truth).sum() <= (~silent & (companion != truth)).sum() + (
            silent | (companion != network)
        ).sum()


def test_a_companion_of_the_callers_and_none_without_inputs(trained):
    net, _, _, train, _, unlabelled = trained
    mine = companion_bounds(net, train, None, companion=small(3), dimensions=8, epochs=20, retrain=False)
    assert [b.name for b in mine] == ["Occam, code of a companion"]
    assert "Sequential in a random subspace" in mine[0].of
    few = companion_bounds(net, (train[0][:100], train[1][:100]), None, dimensions=8, epochs=20, retrain=False)
    assert "6-64-3 in a random subspace" in few[0].of
    plain = companion_bounds(net, train, None, dimensions=18, epochs=20, retrain=False)
    assert [b.terms["n"] for b in plain] == [350, 350]  # an eighth of the inputs taught the coordinates
    assert "linear readout of 5 coordinates" in plain[0].of
    seen = []
    companion_bounds(net, train, unlabelled, dimensions=8, epochs=1, retrain=lambda m, X, y: seen.append((m, len(X))))
    assert seen[0][1] == 300
    assert not torch.equal(seen[0][0][0].weight, net[0].weight)  # a fresh copy, not the trained one


class Scaled(nn.Module):
    """A module with a weight of its own and no way to start afresh."""

    def __init__(self):
        super().__init__()
        self.scale, self.linear = nn.Parameter(torch.ones(())), nn.Linear(INPUTS, CLASSES)

    def forward(self, x):
        return self.linear(x) * self.scale


def test_whole_numbers_need_a_companion_that_reads_them():
    words, y = torch.randint(9, (40, 4), generator=torch.Generator().manual_seed(0)), draw(40, 0)[1]
    net = lambda: nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(20, CLASSES))
    refused, copied = companion_bounds(net(), (words, y), None, dimensions=6, epochs=2)
    assert "give companion=" in refused.reason
    assert copied.status == "non-vacuous"
    own, _ = companion_bounds(net(), (words, y), None, companion=net(), dimensions=6, epochs=2)
    assert own.value <= 1
    assert len(pac_bayes_bounds(net(), (words, y), steps=3)) == 2  # whole networks are drawn


def test_a_network_that_cannot_start_afresh_is_refused_and_convolutions_work():
    X, y = draw(40, 0)
    found = companion_bounds(Scaled(), (X.float(), y), None, dimensions=6, epochs=2)
    assert found[-1].status == "refused"
    assert "Scaled has no reset_parameters" in found[-1].reason
    images = torch.randn(40, 1, 4, 4)
    bounds = pac_bayes_bounds(Convolved(), (images, y), unlabelled=torch.randn(10, 1, 4, 4), steps=3)
    assert len(bounds) == 3
    assert all(0 < b.value <= 2 for b in bounds)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda n, X, y: pac_bayes_bounds(n, (X[:7], y[:7])), "train has 7 rows and PAC-Bayes-kl needs 8"),
        (lambda n, X, y: companion_bounds(n, (X[:7], y[:7])), "train has 7 rows"),
        (lambda n, X, y: pac_bayes_bounds(n, (X, y), delta=0.0), r"delta=0.0 is outside \(0, 1\)"),
        (lambda n, X, y: companion_bounds(n, (X, y), delta=1.0), r"delta=1.0 is outside \(0, 1\)"),
        (lambda n, X, y: held_out_bounds(n, (X, y), 2.0), r"delta=2.0 is outside \(0, 1\)"),
        (lambda n, X, y: held_out_bounds(n, None, 0.1), "heldout is not a pair"),
        (lambda n, X, y: held_out_bounds(n, (X, y[:5]), 0.1), r"40 inputs and labels of shape \(5,\)"),
        (lambda n, X, y: held_out_bounds(n, (X[:, :4], y), 0.1), "it expects 6 features"),
        (lambda n, X, y: held_out_bounds(n, (X, y + 1), 0.1), "has the label 3 and the network decides among 0..2"),
        (lambda n, X, y: held_out_bounds(n, (X, y - 1), 0.1), "has the label -1"),
        (lambda n, X, y: held_out_bounds(n, (X, y + 0.5), 0.1), "which a regression network does not have"),
        (lambda n, X, y: held_out_bounds(n, (X * math.nan, y), 0.1), "40 inputs with values that are not finite"),
        (lambda n, X, y: held_out_bounds(n, (X[:0], y[:0]), 0.1), "heldout holds no inputs"),
        (lambda n, X, y: held_out_bounds("net", (X, y), 0.1), "the model is str"),
        (lambda n, X, y: held_out_bounds(nn.Unflatten(1, (2, 3)), (X, y), 0.1), "one row of class scores"),
        (lambda n, X, y: pac_bayes_bounds(n, (X, y), init=small(hidden=3)), "init does not fit the network"),
        (lambda n, X, y: pac_bayes_bounds(n, (X, y), prior=(small(hidden=3), range(9))), "prior has other weights"),
        (lambda n, X, y: pac_bayes_bounds(n, (X, y), prior=n), "prior is not a pair"),
        (lambda n, X, y: pac_bayes_bounds(n, (X, y), prior=(n, [50])), "not indices of 0..39"),
        (lambda n, X, y: pac_bayes_bounds(n, (X, y), prior=(n, range(36))), "the rest of train.* has 4 rows"),
        (lambda n, X, y: companion_bounds(n, (X, y), dimensions=0), "dimensions=.0. must be whole numbers"),
        (lambda n, X, y: companion_bounds(n, (X, y), levels=1, dimensions=9), "levels=1 must be at least 2"),
        (lambda n, X, y: companion_bounds(n, (X, y), companion=nn.Linear(6, 4).double()), "among 4 classes"),
        (lambda n, X, y: companion_bounds(n, (X, y), companion=nn.Flatten()), "among 6 classes"),
        (lambda n, X, y: companion_bounds(n, (X, y), companion="mlp"), "the companion is str"),
    ],
)
def test_bad_input_is_a_sentence(wrong, said):
    X, y = draw(40, 0)
    with pytest.raises(InputError, match=said):
        wrong(small(), X, y)


def test_weights_that_are_not_finite_are_said():
    X, y = draw(40, 0)
    net = small()
    net[0].weight.data[0, 0] = math.nan
    with pytest.raises(InputError, match="scores that are not finite"):
        held_out_bounds(net, (X, y), 0.05)
