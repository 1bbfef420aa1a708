"""Every study: its verdict holds, its wrong lines fail, its card is its class; and what runs, keeps and writes them."""

import hashlib
import json
import re
from dataclasses import dataclass, fields
from functools import partial

import jax
import numpy as np
import pytest
import xarray as xr

from riron.errors import InputError
from riron.lab.addressing import address
from riron.lab.compiling import use_persistent_cache
from riron.lab.netcdf import read_datatree
from riron.lab.store import Store
from riron.lab.verdict import Equal
from riron.studies import running, sweeping
from riron.studies.base import Study, choice, evaluate, param
from riron.studies.cards import Parameter, cards, catalogue, find_card, load
from riron.studies.citations import cite, references
from riron.studies.kept import Kept
from riron.studies.reading import read_settings


@pytest.fixture(scope="module", autouse=True)
def _compile_once_per_machine():
    use_persistent_cache()


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("RIRON_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.mark.parametrize("name", [name for name in catalogue() if not find_card(name).extra])
def test_verdict_holds_and_every_wrong_line_fails(name):
    holds_and_every_wrong_line_fails(name)


def holds_and_every_wrong_line_fails(name):
    """Also for the studies that need an extra, in the tests of its room."""
    result = running.run(name, seeds=64)
    report = result.verdict
    assert result.plot().axes
    if report["verdict"] == "inconclusive":
        enough = int(1.15 * report["seeds_that_would_decide"])  # the forecast of the number is itself random
        report = running.run(name, seeds=enough).verdict
    assert report["verdict"] == "holds", report["reason"]
    assert report["mutations"]
    assert set(report["mutations"].values()) == {"fails"}, report["mutations"]


@pytest.mark.parametrize("name", catalogue())
def test_card_is_the_class(name):
    card, kind = find_card(name), load(name)
    assert kind.name() == name
    assert card.cites == kind.cites
    assert card.extra == kind.extra
    assert set(card.cites) <= set(references())
    assert card.claim.endswith(".")
    assert card.claim == (__import__(kind.__module__, fromlist=["x"]).__doc__ or "").splitlines()[0]
    assert {"quick", "paper"} <= set(kind.sizes)
    for shown, entry in zip(card.parameters, fields(kind), strict=True):
        about = {key: entry.metadata[key] for key in ("low", "high", "meaning", "unit")}
        kinds = {int: "int", float: "float", bool: "bool"}
        type_ = kinds.get(entry.type, "choice")
        choices = () if type_ != "choice" else entry.type.__args__
        assert shown == Parameter(entry.name, type_, entry.default, choices=choices, **about)
        assert shown.meaning
    assert kind().parameters() == {p.name: p.default for p in card.parameters}


def test_cards_as_json_have_their_keys():
    for card in cards().values():
        plain = json.loads(json.dumps(card.as_dict()))
        assert list(plain) == ["name", "claim", "catalogue", "parameters", "cites", "extra"]
        assert re.fullmatch(r"[A-Z]\d+", plain["catalogue"])


def test_bibtex_of_a_study():
    assert cite("homogenized-sgd").startswith("@inproceedings{paquette2021sgd,")
    for key, entry in references().items():
        assert entry.count("{") == entry.count("}"), key


def test_addresses_have_not_changed_by_accident():
    """Golden values: when one changes, kept results of that study become void; raise `version` if that is meant."""
    line = xr.Dataset(coords={"epoch": [0.5, 1.0]})
    with jax.enable_x64(False):
        keys = {name: address(Kept(load(name)(), cache=False).asked(32, 64, line)) for name in catalogue()}
    assert {name: key[:12] for name, key in keys.items()} == GOLDEN


GOLDEN = {
    "compression-bound": "7b9aef3bc40a",
    "dmft-large-batch": "823876aedd55",
    "dmft-w2": "afab6d36980e",
    "double-descent": "3a14abfc6ff0",
    "false-certificate": "fe2425af661a",
    "generative-exponent": "a597facf913d",
    "homogenized-sgd": "ef9cb274fafd",
    "intrinsic-dimension": "28c7cd9b3258",
    "langevin-bias": "5676990c72a8",
    "mfld-convergence": "652381b12434",
    "mfld-discretization": "a52c1c5eafab",
    "online-sgd": "b92f11ba03ae",
    "p-sdca": "332c99349e88",
    "particle-flow": "c3cbe2da585c",
    "pda": "b5b05ea2f007",
    "random-labels": "ad0b4000f0a1",
    "reshuffling": "e11fc046cbb6",
    "sgd-dmft": "b76fe5d0dea4",
    "sgd-stationary": "e6cccc132691",
    "sgd-vs-gd": "bcf43e9fe75f",
    "sgd-vs-sde": "8e401b828b11",
    "svrg-langevin": "21225b3a42c3",
}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"rigde": 1.0}, "double-descent has no parameter 'rigde'; it has seed, label_noise, .*did you mean 'ridge'"),
        ({"ridge": -3}, r"ridge=-3.0 is outside \[0.0, 1000.0\]: penalty"),
        ({"ridge": float("nan")}, "ridge=nan is outside"),
        ({"ridge": "x"}, "ridge must be a number, got 'x'"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
    ],
)
def test_bad_parameters_are_one_sentence(parameters, says):
    with pytest.raises(InputError, match=says):
        load("double-descent").make(**parameters)


def test_a_word_must_be_one_of_the_choices():
    with pytest.raises(InputError, match="features must be one of gaussian, digits, scaled-digits, got 'gausian'"):
        load("homogenized-sgd").make(features="gausian")
    with pytest.raises(InputError, match="no study is called 'double-decent'; did you mean 'double-descent'"):
        running.run("double-decent")
    with pytest.raises(InputError, match="double-descent has no size 'papers'; it has quick, paper"):
        running.run("double-descent", size="papers")
    with pytest.raises(InputError, match="2 seeds give no error bar; use at least 16"):
        running.run("double-descent", seeds=2)


def test_settings_from_text_have_their_declared_types():
    card = find_card("homogenized-sgd")
    read = read_settings(card, ["batch=4", "label-noise = 1e-1", "features=digits"])
    assert read == {"batch": 4, "label_noise": 0.1, "features": "digits"}
    for text, says in [
        ("batch", "'batch' has no value"),
        ("batch=x", "batch must be a whole number, got 'x'"),
        ("batch=2.5", "batch must be a whole number, got '2.5'"),
        ("decay=nan", r"decay=nan is outside \[0.0, 3.0\]"),
        ("batsh=2", "homogenized-sgd has no parameter 'batsh'.*did you mean 'batch'"),
    ]:
        with pytest.raises(InputError, match=says):
            read_settings(card, [text])
    with pytest.raises(InputError, match="batch is given twice"):
        read_settings(card, ["batch=2", "batch=3"])


# A study that costs nothing: x_k ~ N(level k, 1) + bias/d, and the line level k.


def toy_line(*, level, record):
    return xr.Dataset({"objective": level * record}, coords=record.coords)


@dataclass(frozen=True, kw_only=True)
class Toy(Study):
    cites = ("hastie2022surprises",)
    sizes = {"quick": (10, 20, 40), "paper": (20, 40, 80)}
    compare = (Equal("objective", rates=(1.0,)),)
    mutations = {"level": 1.2}
    diagram = {"over": {"level": (1.0, 2.0), "spread": (0.1, 0.2, 0.4)}, "observable": "objective"}
    calls = []

    level: float = param(1.0, -5.0, 5.0, "of the line")
    spread: float = param(0.2, 0.0, 10.0, "between seeds")

    def record(self):
        return xr.DataArray([1.0, 2.0, 3.0], {"step": [1, 2, 3]}, "step")

    def simulate(self, d, *, seeds):
        self.calls.append((d, seeds))
        noise = np.random.default_rng([self.seed, d]).standard_normal((seeds, 3))
        values = self.level * self.record().values + self.spread * noise + 3 / d
        return xr.Dataset(
            {"objective": (("seed", "step"), values)}, {"step": [1, 2, 3]}, {"complete": 1, "seconds": 1.0}
        )

    def predict(self, d):
        return partial(toy_line, level=self.level, record=self.record())

    def boundary(self, over):
        return {"level": np.array([1.0, 2.0]), "spread": np.array([0.1, 0.4])}, "a curve"


@pytest.fixture
def toy(monkeypatch):
    card = find_card("double-descent")
    monkeypatch.setattr(Toy, "calls", [])
    monkeypatch.setattr(Toy, "name", classmethod(lambda cls: "double-descent"))
    for module in (running, sweeping):
        monkeypatch.setattr(module, "load", lambda name: Toy)
    parameters = tuple(p for p in card.parameters if p.name == "seed")
    monkeypatch.setattr(
        "riron.studies.report.find_card",
        lambda name: type(card)("toy", "A toy.", "", parameters, ("hastie2022surprises",)),
    )
    return Toy


def test_a_second_run_simulates_nothing_and_gives_the_same_bytes(toy, tmp_path):
    first = running.run("toy", seeds=32, out=str(tmp_path / "a"))
    assert [d for d, _ in toy.calls] == [10, 20, 40]
    second = running.run("toy", seeds=32, out=str(tmp_path / "b"))
    assert len(toy.calls) == 3
    names = ["figure.png", "figure.svg", "report.html", "result.nc", "verdict.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in ("figure.png", "figure.svg", "result.nc", "report.html"):
        digests = {hashlib.sha256((tmp_path / folder / name).read_bytes()).digest() for folder in "ab"}
        assert len(digests) == 1, name
    assert first.holds
    assert second.verdict["notices"] == first.verdict["notices"]
    assert first.verdict["notices"]["level"][0] < 1 < first.verdict["notices"]["level"][1]


def test_what_is_written(toy, tmp_path):
    result = running.run("toy", seeds=32, size="paper")
    result.save(tmp_path / "out")
    tree = read_datatree(tmp_path / "out" / "result.nc")
    assert list(tree["dots"]) == list(tree["line"]) == [20, 40, 80]
    assert tree["dots"][80].objective.dims == ("seed", "step")
    assert tree["line"][80].objective.dims == ("step",)
    assert result.dataset["/dots/20/objective"].sizes == {"seed": 32, "step": 3}
    report = json.loads((tmp_path / "out" / "verdict.json").read_text())
    expected = {"study", "verdict", "parameters", "seeds", "comparisons", "size", "mutations", "notices", "diverged"}
    assert expected | {"seconds", "version"} <= set(report)
    assert report["parameters"] == {"seed": 0, "level": 1.0, "spread": 0.2}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<svg" in result._repr_html_()
    with pytest.raises(InputError, match="not empty"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", force=True)
    assert repr(result) == "<riron.Result double-descent: holds, 32 seeds>"


def test_bad_output_folder_is_refused_before_anything_runs(toy, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not a folder"):
        running.run("toy", out=str(tmp_path / "file"))
    assert not toy.calls


def test_seeds_double_while_undecided(toy):
    result = running.run("toy", spread=0.7)
    asked = sorted({seeds for _, seeds in toy.calls})
    assert asked == [64 * 2**k for k in range(len(asked))]
    assert len(asked) > 1
    assert result.verdict["seeds"] == asked[-1]
    assert result.verdict["looks"] == 5


def test_other_parameters_seeds_and_records_are_other_results(toy):
    running.run("toy", seeds=16)
    for other in ({"spread": 0.6}, {"seeds": 17}, {"seed": 1}):
        before = len(toy.calls)
        running.run("toy", **({"seeds": 16} | other))
        assert len(toy.calls) == before + 3
    before = len(toy.calls)
    running.run("toy", seeds=16, cache=False)
    assert len(toy.calls) == before + 3
    assert len(list(Store())) == 4 * (3 + 1)  # and a search for what would be noticed


def test_a_stopped_run_keeps_the_sizes_that_are_done(toy, monkeypatch):
    simulate = Toy.simulate

    def stopped(self, d, *, seeds):
        return simulate(self, d, seeds=seeds).assign_attrs(complete=int(d < 40))

    monkeypatch.setattr(Toy, "simulate", stopped)
    with pytest.raises(KeyboardInterrupt, match="2 of 3 are kept"):
        running.run("toy", seeds=16)
    assert len(list(Store())) == 2
    monkeypatch.setattr(Toy, "simulate", simulate)
    running.run("toy", seeds=16)
    assert [d for d, _ in toy.calls] == [10, 20, 40, 40]


def test_a_theory_beside_is_judged_drawn_and_kept(toy, monkeypatch, tmp_path):
    wrong = lambda self, d: {"twice": partial(toy_line, level=2 * self.level, record=self.record())}
    monkeypatch.setattr(Toy, "beside", wrong)
    result = running.run("toy", seeds=32)
    assert result.holds
    assert result.verdict["beside"]["twice"]["verdict"] == "fails"
    result.save(tmp_path / "out")
    assert "twice" in read_datatree(tmp_path / "out" / "result.nc")
    assert "beside: twice: fails" in str(result)


def test_sweep_gives_dots_line_and_boundary(toy, tmp_path):
    found = sweeping.sweep("toy", seeds=16, out=str(tmp_path / "out"))
    assert found.dataset.objective.dims == ("level", "spread")
    assert found.dataset.objective.shape == (2, 3)
    np.testing.assert_allclose(found.dataset.objective_line, [[3.0] * 3, [6.0] * 3])
    runs = Toy(level=2.0, spread=0.4).simulate(40, seeds=16).objective[:, -1]
    at = found.dataset.sel(level=2.0, spread=0.4)
    assert float(at.objective) == pytest.approx(float(runs.mean()))
    assert float(at.objective_stderr) == pytest.approx(float(runs.std(ddof=1)) / 4)
    assert found.boundary is not None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figure.png", "figure.svg", "sweep.nc"]
    before = len(toy.calls)
    sweeping.sweep("toy", seeds=16)
    assert len(toy.calls) == before


@pytest.mark.parametrize(
    ("over", "fixed", "says"),
    [
        ({"level": [1, 2]}, {}, "needs two parameters, got 1"),
        ({"level": [1, 2], "widht": [1, 2]}, {}, "no parameter 'widht'"),
        ({"level": [1, 2], "spread": [1]}, {}, "must be a list of two numbers"),
        ({"level": [1, 2], "spread": ["a", "b"]}, {}, "must be a list of two numbers"),
        ({"level": [1, 2], "spread": [1, 2]}, {"level": 1.0}, "level is swept and held fixed"),
        ({"level": [1, 99], "spread": [1, 2]}, {}, "level=99.0 is outside"),
    ],
)
def test_bad_sweeps_are_one_sentence(toy, over, fixed, says):
    with pytest.raises(InputError, match=says):
        sweeping.sweep("toy", over, seeds=16, **fixed)
    assert not toy.calls


def test_choices_are_read_from_the_card_and_checked():
    assert choice("a", "x").metadata["meaning"] == "x"
    features = next(p for p in find_card("homogenized-sgd").parameters if p.name == "features")
    assert features.choices == ("gaussian", "digits", "scaled-digits")


# The phase diagrams of the studies: the lines alone, which cost no simulation.


def test_speed_of_convergence_changes_at_the_boundary():
    kind = load("homogenized-sgd")
    setting = dict(kind.diagram["parameters"]) | {"length": 16.0}
    boundary = kind(samples=8.0, **setting).boundary({"samples": [8.0, 8.1], "fraction": [0.1, 0.9]})
    assert boundary is not None
    critical = float(boundary[0]["fraction"][0])
    assert critical == pytest.approx(np.sqrt(1 / 8) / (1 + 1 / 8 - np.sqrt(1 / 8)), rel=1e-3)
    speed = {}
    for factor in (0.4, 0.7, 1.3, 1.7):
        study = kind(samples=8.0, fraction=factor * critical, **setting)
        speed[factor] = float(study.observe(evaluate(study.predict(128))).relative_speed)
    assert speed[0.4] == pytest.approx(1, abs=0.1)  # the loss falls a little faster than its rate at finite times
    assert speed[0.7] == pytest.approx(1, abs=0.1)
    assert speed[1.3] < 0.9
    assert speed[1.7] < 0.6


def test_best_ridge_is_the_boundary():
    kind = load("double-descent")
    for decay in (0.0, 1.0):
        for noise in (0.1, 0.8):
            boundary = kind(decay=decay).boundary({"label_noise": [noise, 2 * noise], "ridge": [1, 2]})
            assert boundary is not None
            best = float(boundary[0]["ridge"][0])
            risk = []
            for factor in (0.8, 1.0, 1.25):
                study = kind(decay=decay, label_noise=noise, ridge=factor * best)
                risk.append(float(study.observe(evaluate(study.predict(120))).excess_risk_over_best))
            assert risk[1] < min(risk[0], risk[2])
            assert risk[1] == pytest.approx(1, rel=0.02)


def test_exact_theory_beside_on_real_features():
    kind = load("homogenized-sgd")
    study = kind(features="scaled-digits", length=1.0)
    assert len(study.ladder("quick")) == 1
    line = evaluate(study.predict(128))
    exact = evaluate(study.beside(128)["exact second moments"])
    np.testing.assert_allclose(line.train_loss, exact.train_loss, rtol=0.02)
