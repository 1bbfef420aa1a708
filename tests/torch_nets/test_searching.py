"""Which of several rules a budget takes: by trials on inputs set aside, never on those of the guarantee."""

import pytest
import torch
from small_nets import Chain, Encoder, FusedBlock, made, relative

import riron.torch as rt
from riron.torch import searching
from riron.torch.inputs import as_batches, split

torch.set_num_threads(1)
GREY = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(2))
TOKENS = torch.randn(200, 7, 16, generator=torch.Generator().manual_seed(1)).double()
quiet = {"progress": False}


def call(model, data):
    with torch.no_grad():
        return model.eval()(data)


def test_a_transformer_takes_the_better_of_two_rules(monkeypatch):
    """One of two layers is all but linear in two directions: marginal widths use that, uniform ones do not."""

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.body, self.last = torch.nn.LayerNorm(16), FusedBlock(), torch.nn.Linear(3, 3)
            self.wide, self.back = torch.nn.Linear(16, 40), torch.nn.Linear(40, 16)
            with torch.no_grad():
                self.wide.weight.copy_(torch.randn(40, 2) @ torch.randn(2, 16) / 4)
                self.wide.bias.fill_(3.0)

        def forward(self, x):
            return self.last(self.body(x + self.back(torch.relu(self.wide(self.norm(x))))))

    torch.manual_seed(0)
    model = Two().double().eval()
    done = rt.compress(model, TOKENS, params=0.7, **quiet)
    said = [note for note in done.report.notes if "chosen by the error on a quarter" in note]
    assert len(said) == 1
    assert said[0].startswith("marginal widths")
    widths = {row["layer"]: row["kept"] / row["nodes"] for row in done.report.layers}
    assert widths["wide"] < widths["body.fc1"]
    t = done.report.totals
    assert 0.6 < t["params_after"] / t["params_before"] <= 0.7
    monkeypatch.setattr(searching, "marginal", searching_worst)
    worse = rt.compress(model, TOKENS, params=0.7, **quiet)
    assert any(note.startswith("uniform widths chosen") for note in worse.report.notes)
    assert relative(call(done.model, TOKENS), call(model, TOKENS)) < relative(
        call(worse.model, TOKENS), call(model, TOKENS)
    )


def searching_worst(curves, cost, *, budget=None, **_):
    """Everything from one layer: a rule that is clearly worse."""
    widths = {name: len(curve) - 1 for name, curve in curves.items()}
    while cost(widths) > budget:
        name = next(n for n in reversed(widths) if widths[n] > 1)
        widths[name] -= 1
    return widths


def test_words_have_a_choice_too():
    words = {"input_ids": torch.randint(0, 50, (120, 9), generator=torch.Generator().manual_seed(4))}
    torch.manual_seed(0)
    done = rt.compress(Encoder().eval(), words, params=0.9, **quiet)
    assert any("uniform widths" in note and "marginal widths" in note for note in done.report.notes)
    assert done.guarantee.n == 60


@pytest.mark.parametrize("budget", [{"keep": 0.2}, {"params": 0.1}, {"macs": 0.15}])
def test_deep_cuts_are_tried_in_two_rounds(budget):
    model = made(lambda: Chain((16, 24, 30)), GREY)
    done = rt.compress(model, GREY, **budget, **quiet)
    said = [note for note in done.report.notes if "two rounds" in note]
    assert len(said) == 1
    numbers = [float(part.strip("()").split()[-1].rstrip(")")) for part in said[0].split("(")[1].split(",")]
    assert said[0].startswith("two rounds" if numbers[1] < numbers[0] else "one round")
    t = done.report.totals
    for name in ("params", "macs"):
        assert name not in budget or t[f"{name}_after"] <= budget[name] * t[f"{name}_before"]
    for row in done.report.layers:
        assert len(set(done.kept[row["layer"]])) == row["kept"]
    shallow = rt.compress(model, GREY, keep=0.5, **quiet)
    assert not shallow.report.notes


def test_the_guarantee_has_seen_nothing(monkeypatch):
    """The inputs held out take no part in any trial: replacing them changes the guarantee alone."""
    model = made(lambda: Chain((16, 24, 30)), GREY)
    seen = []
    original = searching.output_error
    monkeypatch.setattr(
        searching, "output_error", lambda a, b, batches: seen.append(batches) or original(a, b, batches)
    )
    done = rt.compress(model, GREY, keep=0.2, **quiet)
    tried = torch.cat([batch.arguments[0] for batches in seen for batch in batches])
    held = split(as_batches(GREY, model), 0.5, 0)[1]
    held = torch.cat([batch.arguments[0] for batch in held])
    assert done.guarantee.n == len(held) == 200
    assert float(torch.cdist(tried.flatten(1), held.flatten(1)).min()) > 0.1
