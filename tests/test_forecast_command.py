"""The command `riron forecast`: what it prints, writes, proves and refuses."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riron.cli import main
from riron.errors import InputError
from riron.forecast import command, forecaster, verification
from riron.forecast.choices import closure
from riron.forecast.options import Options
from riron.lab.verdict import judge
from riron.theory.spectrum import Spectrum

FILES = {"forecast.json", "forecast.nc", "cleaning.json", "figure.png", "figure.svg", "report.html"}
SETTING = ["sklearn:digits", "--features", "relu:20", "--batch", "16", "--epochs", "2", "--seed", "1"]


def riron(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["forecast", *arguments])
    return left.value.code


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """One verified forecast of the digits, written and printed as JSON."""
    out = tmp_path_factory.mktemp("digits") / "new" / "results"
    import contextlib
    import io

    printed, talk = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(talk):
        status = riron(*SETTING, "--verify", "24", "--out", str(out), "--json")
    return status, printed.getvalue(), talk.getvalue(), out


def no_constants(value):
    raise AssertionError(f"{value} is no JSON")


def test_json_holds_what_was_promised_and_nothing_else_is_printed(digits):
    status, printed, _, out = digits
    found = json.loads(printed, parse_constant=no_constants)
    assert status == {"holds": 0, "fails": 1, "inconclusive": 3}[found["verify"]["verdict"]]
    for entry in found["stability_edge"]:
        assert {"batch", "exact", "homogenized"} <= set(entry)
    batches = [entry["batch"] for entry in found["stability_edge"]]
    assert batches[0] == 1
    assert batches[-1] == found["data"]["n"]
    curve = found["curve"]
    assert {"step", "epoch", "train_loss", "test_loss", "train_loss_sd", "test_loss_sd", "test_error"} <= set(curve)
    assert len({len(values) for name, values in curve.items() if name != "quantile"}) == 1
    assert len(curve["train_loss_quantile"][0]) == len(curve["quantile"])
    heavy = found["edge"]["without"]
    assert not heavy or {"rows", "step_size", "times", "faster"} <= set(heavy[0])
    assert curve["epoch"][-1] == pytest.approx(2)
    ahead = found["learning_curve"]
    assert {"n", "test_loss", "low", "high", "test_error", "error_low", "error_high", "backtest"} <= set(ahead)
    assert ahead["n"][-1] == 4 * ahead["n"][0]
    assert {"from", "to", "forecast", "low", "high", "truth"} <= set(ahead["backtest"][0])
    assert sum(setting["best"] for setting in found["advice"]) == 1
    assert found["parameters"]["batch"] == 16
    assert found["parameters"]["loss"] == "square"
    assert found["seconds"]["one_training_run"] > 0
    assert found["cleaning"]
    assert json.loads((out / "forecast.json").read_text("utf-8")) == found


def test_the_runs_prove_the_line_and_refute_a_wrong_one(digits):
    report = json.loads(digits[1])["verify"]
    assert report["verdict"] == "holds", report["reason"]
    assert [c["variable"] for c in report["comparisons"]] == ["train_loss", "test_loss"]
    assert all(len(c["points"]) == 8 for c in report["comparisons"])
    assert set(report["mutations"].values()) == {"fails"}
    dots = xr.load_dataset(digits[3] / "forecast.nc", group="/verify/dots", engine="h5netcdf")
    line = xr.load_dataset(digits[3] / "forecast.nc", group="/verify/line", engine="h5netcdf")
    assert dots.train_loss.dims == ("seed", "step")
    assert dots.sizes["seed"] == 24
    wrong = line.assign(train_loss=1.05 * (1 + line.train_loss_tolerance) * line.train_loss)
    assert judge(verification.CLAIMS, {1: dots}, {1: line})["verdict"] == "holds"
    assert judge(verification.CLAIMS, {1: dots}, {1: wrong})["verdict"] == "fails"


def test_the_folder_is_whole_and_stands_alone(digits):
    out = digits[3]
    assert {path.name for path in out.iterdir()} == FILES
    assert (out / "figure.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "report.html").read_text("utf-8")
    assert "<svg" in page
    assert "Stability edge" in page
    assert not re.search(r"(src|href)=[\"']https?:|<script", page)
    with xr.open_datatree(out / "forecast.nc", engine="h5netcdf") as tree:
        assert {"curve", "stability_edge", "advice", "learning_curve"} <= set(tree["forecast"].children)


def test_nothing_is_overwritten_without_force(digits, capsys):
    out = digits[3]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert riron(*SETTING, "--out", str(out)) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.count("\n") == 1
    assert "--force" in seen.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_above_the_edge_the_divergence_is_forecast_and_force_replaces(digits, capsys):
    out = digits[3]
    foreign = out / "notes.txt"
    foreign.write_text("mine")
    assert riron(*SETTING, "--step-size", "3", "--out", str(out), "--force") == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "forecast.json").read_text("utf-8"), parse_constant=no_constants)
    assert found["verify"] is None
    assert found["edge"]["growth_factor"] > 1
    assert found["edge"]["doubling_steps"] > 0
    assert "WARNING" in printed
    assert "diverges" in printed
    assert foreign.read_text() == "mine"
    assert {path.name for path in out.iterdir()} == FILES | {"notes.txt"}


@pytest.fixture(scope="module")
def houses():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 3))
    price = 1000 + 200 * (X @ [1.0, -0.5, 0.2] + 0.5 * rng.standard_normal(60))
    return pd.DataFrame(X, columns=["area", "age", "floor"]).assign(price=price)


SMALL = {"target": "price", "batch": 8, "epochs": 2, "shuffle": "with-replacement", "step_size": 0.05}


def test_regression_speaks_in_the_units_of_the_target(houses):
    found = command.forecast_table(
        houses, target="price", batch=8, epochs=2, shuffle="with-replacement", step_size=0.05
    )
    assert found.verification is None
    assert found.status == 0
    scale = found.about["target_scale"]
    assert scale == pytest.approx(houses.price.std(), rel=0.5)
    text = str(found)
    end = float(found.curve.test_loss[-1])
    assert f"{np.sqrt(2 * end) * scale:.0f}" in text
    assert "units of price" in text
    assert re.search(r"Twice the data would bring the typical error of price from \S+ to \S+ \(\S+ to \S+\)", text)
    assert "test_error" not in found.curve
    assert len(found.plot().axes) >= 4
    lines = [line.strip() for line in text.splitlines() if line.startswith("  found = ")]
    assert lines == [
        "found = forecast_table(data, target='price', batch=8, step_size=0.05, epochs=2, shuffle='with-replacement')"
    ]


def test_far_above_the_edge_numbers_overflow_and_everything_is_still_drawn(houses, recwarn):
    found = command.forecast_table(houses, **SMALL | {"step_size": 1e60})
    assert not found.edge["growth_factor"] < 1e3
    assert not found.curve.train_loss[-1] < 1e50
    assert "WARNING" in str(found)
    found.plot().canvas.draw()
    assert not [str(w.message) + w.filename for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_the_printed_lines_repeat_the_forecast(digits, houses, monkeypatch):
    import riron.forecast

    assert riron.forecast.forecast_table is command.forecast_table
    found = command.forecast_table(houses, target="price", batch=8, epochs=2, shuffle="with-replacement")
    lines = "\n".join(line.strip() for line in str(found).splitlines()[-3:])
    assert lines.startswith("from riron.forecast import forecast_table")
    names = {"data": houses}
    exec(lines, names)  # what a user would copy
    again = names["found"]
    assert again.curve.test_loss.values == pytest.approx(found.curve.test_loss.values, rel=1e-4)


def test_interrupted_verification_keeps_the_forecast(houses, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(forecaster.Forecaster, "verify", stopped)
    found = command.forecast_table(houses, **SMALL, verify=16)
    assert found.status == 130
    assert found.to_dict()["interrupted"] is True
    assert np.isfinite(found.curve.test_loss).all()
    assert "Stopped" in str(found)


def test_interrupted_runs_are_judged_where_they_got(monkeypatch):
    X, y, X_test, y_test = small_problem()
    simulate = verification.simulate

    def half(*arguments, **options):
        dots = simulate(*arguments, **options)
        late = dots.step > dots.step[3]
        dots = dots.where(~late)
        return dots.assign_attrs(complete=0, seconds=1.0)

    monkeypatch.setattr(verification, "simulate", half)
    setting = {"batch": 8, "step_size": 0.05, "epochs": 2.0, "shuffle": "with-replacement", "seeds": 16}
    seen = verification.verify(X, y, X_test, y_test, **setting)
    assert seen.report["complete"] is False
    assert len(seen.report["comparisons"][0]["points"]) == 4


def test_divergence_is_proved_by_runs_that_explode():
    X, y, X_test, y_test = small_problem()
    setting = {"batch": 8, "epochs": 20.0, "shuffle": "with-replacement", "seeds": 16, "diverges": True}
    seen = verification.verify(X, y, X_test, y_test, step_size=3.0, **setting)
    assert seen.report["verdict"] == "holds"
    assert seen.report["diverged"] == 16
    calm = verification.verify(X, y, X_test, y_test, step_size=0.05, **setting)
    assert calm.report["verdict"] == "inconclusive"
    assert calm.report["diverged"] == 0


def small_problem():
    rng = np.random.default_rng(0)
    X, X_test = rng.standard_normal((48, 4)), rng.standard_normal((30, 4))
    coefficients = np.array([1.0, 0.5, -0.5, 0.0])
    return X, X @ coefficients + rng.standard_normal(48), X_test, X_test @ coefficients


CSV = "a,b,y\n" + "".join(f"{(7 * i) % 11},{(5 * i) % 13}.5,{(3 * i) % 17}.25\n" for i in range(60))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(CSV)
    return path


BAD = {
    "step size 0": (["--step-size", "0"], "step size"),
    "step size negative": (["--step-size=-1"], "step size"),
    "step size a word": (["--step-size", "fast"], "step-size"),
    "step size nan": (["--step-size", "nan"], "step size"),
    "batch 0": (["--batch", "0"], "batch"),
    "batch beyond n": (["--batch", "4000"], "training rows"),
    "ridge negative": (["--ridge=-0.1"], "ridge"),
    "ridge infinite": (["--ridge", "inf"], "ridge"),
    "epochs 0": (["--epochs", "0"], "epochs"),
    "budget negative": (["--budget=-2"], "budget"),
    "features unknown": (["--features", "relo:30"], "relu"),
    "features none": (["--features", "relu:0"], "relu"),
    "features too large": (["--features", "relu:900000000"], "900000000"),
    "shuffle unknown": (["--shuffle", "never"], "shuffle"),
    "verify few": (["--verify", "15"], "16"),
    "verify negative": (["--verify=-3"], "16"),
    "test 0": (["--test", "0"], "test"),
    "test 1": (["--test", "1.0"], "test"),
    "test no file": (["--test", "missing.csv"], "missing.csv"),
    "seed negative": (["--seed=-1"], "seed"),
    "decimal": (["--decimal", ";"], "decimal"),
    "no such column": (["--target", "Y2"], "column"),
    "no such option": (["--fast"], "--fast"),
    "not a number": (["--epochs", "many"], "epochs"),
    "loss unknown": (["--loss", "hinge"], "softmax"),
    "loss for classes": (["--loss", "logistic"], "number"),
    "momentum 1": (["--momentum", "1"], "momentum"),
    "nesterov alone": (["--nesterov"], "--momentum"),
    "momentum with softmax": (["--loss", "softmax", "--momentum", ".9"], "square"),
    "schedule no file": (["--schedule", "cosin"], "did you mean"),
    "schedule and step": (["--schedule", "best", "--step-size", ".1"], "--step-size"),
    "best with momentum": (["--schedule", "best", "--momentum", ".5"], "plain SGD"),
    "warm-up negative": (["--warmup=-1"], "warmup"),
    "warm-up too long": (["--warmup", "100000"], "warmup"),
    "average too late": (["--average-from", "11"], "average-from"),
    "groups no column": (["--groups", "patient"], "patient"),
    "estimator unknown": (["--estimator", "hist-gradient-bosting"], "hist-gradient-boosting"),
    "network no file": (["--features", "ntk:missing.py"], "missing.py"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals_are_one_sentence_and_leave_nothing(name, table, tmp_path, monkeypatch, capsys):
    extra, word = BAD[name]
    monkeypatch.chdir(tmp_path)
    target = [] if "--target" in extra else ["--target", "y"]
    assert riron(str(table), *target, *extra, "--out", str(tmp_path / "out")) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("error: ")
    assert seen.err.count("\n") == 1
    assert word in seen.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "compute", lambda *_: pytest.fail("work was begun"))
    blocked = tmp_path / "file"
    blocked.write_text("x")
    for out in (blocked, blocked / "below"):
        assert riron(str(table), "--target", "y", "--out", str(out)) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


WORDS = st.one_of(
    st.sampled_from(
        ["auto", "nan", "inf", "-inf", "", "0", "-1", "1e400", "0.5", "16", "raw", "relu:7", "epochs", "y", "ü"]
    ),
    st.text(max_size=8),
    st.floats().map(str),
    st.integers().map(str),
)
NAMED = ["--step-size", "--batch", "--ridge", "--epochs", "--budget", "--features", "--shuffle", "--test", "--verify"]
NAMED += ["--seed", "--decimal", "--target", "--loss", "--momentum", "--schedule", "--warmup", "--average-from"]
NAMED += ["--groups"]
FLAGS = ["--verify", "--impute", "--no-header", "--json", "--quiet", "--force", "--nesterov"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.one_of(st.tuples(st.sampled_from(NAMED), WORDS), st.tuples(st.sampled_from(FLAGS))), max_size=4))
def test_no_combination_of_options_is_a_bug_of_ours(table, words):
    def enough(*_, **__):
        raise KeyboardInterrupt  # the options were accepted: what follows is tested elsewhere

    arguments = [word for pair in words for word in pair]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecaster.Spectrum, "of", enough)
        assert riron(str(table), "--target", "y", "--no-cache", *arguments) in (0, 2, 130)  # 0: --help in a text


@pytest.mark.parametrize(
    ("words", "seeds"), [(["--verify"], 32), (["--verify", "64"], 64), (["--verify=20"], 20), ([], None)]
)
def test_verify_stands_with_and_without_its_number(words, seeds, table, monkeypatch):
    seen = []
    monkeypatch.setattr("riron.forecast.command.run", lambda options, **_: seen.append(options) or 0)
    assert riron(*words, str(table), "--target", "y") == 0
    assert seen[0].verify == seeds
    assert seen[0].data == str(table)


def test_the_picture_goes_to_the_cache_and_not_here(digits, houses, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RIRON_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    found = command.forecast_table(
        houses, target="price", batch=8, epochs=2, shuffle="with-replacement", step_size=0.05
    )
    monkeypatch.setattr(command, "compute", lambda *_: found)
    assert command.run(Options(data="houses.csv"), quiet=True, cache=False) == 0
    printed = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    picture = re.search(r"The picture: (\S+)", printed)
    assert picture
    assert picture[1].startswith(str(tmp_path / "store"))
    assert "Advice for" not in printed  # --quiet keeps one line a question


def test_what_does_not_fit_is_named_with_what_fits(monkeypatch):
    X = np.random.default_rng(0).standard_normal((400, 60))
    spectrum = Spectrum.of(X, np.eye(3)[np.arange(400) % 3])
    assert closure(spectrum, "epochs", []) == ("full", None)
    notes: list[str] = []
    monkeypatch.setattr("riron.lab.memory.available", lambda: 8e5)
    covariance, rows = closure(spectrum, "with-replacement", notes)
    assert covariance == "full"
    assert rows is None
    with pytest.raises(InputError, match="--shuffle with-replacement"):
        closure(spectrum, "epochs", notes)
    monkeypatch.setattr("riron.lab.memory.available", lambda: 1e5)
    assert closure(spectrum, "with-replacement", notes)[0].startswith("block:")
    assert "diagonal" in notes[-1]
