"""The command line of the studies: what it prints where, its exit status, and that no input brings a traceback."""

import gc
import json
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riron import cli
from riron.errors import InputError
from riron.lab.compiling import use_persistent_cache
from riron.studies import extras, running, sweeping
from riron.studies.cards import catalogue, find_card


@pytest.fixture
def riron(capsys, monkeypatch):
    """Runs a command in this process: exit status, stdout and stderr."""
    monkeypatch.setattr("riron.cli.studies._prepare", lambda no_cache: None)
    before = signal.getsignal(signal.SIGTERM)

    def command(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main(list(arguments))
        printed = capsys.readouterr()
        return SimpleNamespace(status=int(left.value.code or 0), out=printed.out, err=printed.err)

    yield command
    signal.signal(signal.SIGTERM, before)


def report(verdict="holds", **changes):
    """A report as `execute` gives it."""
    comparison = {
        "variable": "test_loss",
        "kind": "Equal",
        "verdict": verdict,
        "reason": "because",
        "worst": {"t": 1.0},
    }
    return {
        "study": "double-descent",
        "verdict": verdict,
        "reason": "because",
        "seeds": 64,
        "seconds": 0.1,
        "comparisons": [comparison | {"critical": 5.0, "line_over_dots": 0.99, "would_notice": 0.05}],
        "mutations": {"label_noise x 1.2": "fails"},
        "notices": {"label_noise": [0.98, None]},
        "beside": {"other": {"verdict": "fails", "comparisons": [{"variable": "test_loss", "line_over_dots": 1.2}]}},
    } | changes


@pytest.fixture
def answers(monkeypatch):
    """Replaces the running of studies: calls are kept, and reports handed out in turn."""
    seen = SimpleNamespace(calls=[], reports=[])

    def run(name, **options):
        seen.calls.append((name, options))
        return SimpleNamespace(verdict=seen.reports[(len(seen.calls) - 1) % len(seen.reports)])

    monkeypatch.setattr(running, "run", run)
    return seen


def test_list_shows_every_claim(riron):
    done = riron("list")
    assert done.status == 0
    assert [line.split()[0] for line in done.out.splitlines()] == catalogue()
    assert "The risk of ridgeless regression peaks at n = d" in done.out
    array = json.loads(riron("list", "--json").out)
    assert [entry["name"] for entry in array] == catalogue()
    assert set(array[0]) == {"name", "claim", "catalogue", "parameters", "cites", "extra"}


def test_show_and_cite(riron):
    done = riron("show", "homogenized-sgd")
    for parameter in find_card("homogenized-sgd").parameters:
        assert parameter.meaning in done.out
    assert json.loads(riron("show", "double-descent", "--json").out)["catalogue"] == "B1"
    assert riron("cite", "double-descent").out.startswith("@article{hastie2022surprises,")


def test_version_and_help(riron):
    assert riron("--version").out.strip() == cli.__version__
    for arguments in ((), ("--help",)):
        done = riron(*arguments)
        assert done.status == 0
        for command in ("list", "show", "cite", "run", "check", "sweep", "forecast"):
            assert f"\n  {command} " in done.out
    for option in ("--set", "--seeds", "--size", "--out", "--json", "--quiet", "--no-cache", "--force"):
        assert option in riron("run", "--help").out


@pytest.mark.parametrize(("verdict", "status"), [("holds", 0), ("fails", 1), ("inconclusive", 3)])
def test_run_prints_the_verdict_and_exits_by_it(riron, answers, verdict, status):
    answers.reports = [report(verdict)]
    done = riron("run", "double-descent", "--seeds", "64")
    assert done.status == status
    assert done.out.splitlines()[-1].startswith(verdict)
    assert "wrong line, label_noise x 1.2" in done.out
    assert "would notice label_noise -2 % / never" in done.out
    assert "beside: other: fails, test_loss line/dots 1.200" in done.out
    as_json = riron("run", "double-descent", "--json")
    assert as_json.status == status
    assert json.loads(as_json.out)["verdict"] == verdict
    assert len(riron("run", "double-descent", "--quiet").out.splitlines()) == 1


def test_run_passes_on_what_was_asked(riron, answers, tmp_path):
    answers.reports = [report()]
    riron("run", "double-descent", "--set", "ridge=0.5", "--set", "seed=3", "--size", "paper", "--no-cache", "-q")
    riron("run", "double-descent", "--out", str(tmp_path / "x"), "--force", "--seeds", "32")
    first, second = (options for _, options in answers.calls)
    assert first["ridge"] == 0.5
    assert first["seed"] == 3
    assert (first["size"], first["cache"], first["progress"], first["out"]) == ("paper", False, False, None)
    assert (second["seeds"], second["out"], second["force"]) == (32, str(tmp_path / "x"), True)


def test_a_real_run_by_the_command_line(riron, tmp_path, monkeypatch):
    monkeypatch.setenv("RIRON_STORE", str(tmp_path / "store"))
    use_persistent_cache()
    done = riron("run", "double-descent", "--seeds", "16", "--out", str(tmp_path / "out"), "--json")
    verdict = json.loads(done.out)
    assert done.status == {"holds": 0, "fails": 1, "inconclusive": 3}[verdict["verdict"]]
    assert verdict == json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.nc",
        "verdict.json",
        "figure.png",
        "figure.svg",
        "report.html",
    }
    again = riron("run", "double-descent", "--seeds", "16", "--out", str(tmp_path / "out"))
    assert again.status == 2
    assert again.err.startswith("error: the folder")
    assert "--force" in again.err


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (("holds", "holds"), 0),
        (("holds", "inconclusive"), 3),
        (("inconclusive", "fails"), 1),
    ],
)
def test_check_exits_by_the_worst(riron, answers, verdicts, status, monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda extra: True)
    verdicts = ("holds",) * (len(catalogue()) - 2) + verdicts
    answers.reports = [report(verdict) for verdict in verdicts]
    done = riron("check")
    assert done.status == status
    assert [name for name, _ in answers.calls] == catalogue()
    for name, verdict in zip(catalogue(), verdicts, strict=True):
        assert f"{name}: {verdict}" in done.out
    as_json = json.loads(riron("check", "--json").out)
    assert [entry["verdict"] for entry in as_json["studies"]] == list(verdicts)
    assert not answers.calls[0][1]["full"]
    riron("check", "double-descent", "--full")
    assert answers.calls[-1][0] == "double-descent"
    assert answers.calls[-1][1]["full"]


def test_check_leaves_out_what_cannot_be_run_here(riron, answers, monkeypatch):
    answers.reports = [report()]
    monkeypatch.setattr(extras, "is_installed", lambda extra: not extra)
    done = riron("check", "--json")
    assert 'random-labels: left out; it needs pip install "riron[torch]"' in done.err
    assert "random-labels" not in [name for name, _ in answers.calls]
    assert {"double-descent", "pda"} <= {name for name, _ in answers.calls}
    assert json.loads(done.out)["verdict"] == "holds"
    riron("check", "random-labels")  # what is asked for by name says itself what is missing
    assert answers.calls[-1][0] == "random-labels"


def test_check_does_not_trust_a_verdict_that_misses_a_wrong_line(riron, answers):
    answers.reports = [report(mutations={"label_noise x 1.2": "holds"})]
    done = riron("check", "double-descent")
    assert done.status == 3
    assert "a wrong line goes unseen: label_noise x 1.2" in done.out


def test_sweep_reads_its_axes(riron, monkeypatch):
    dataset = xr.Dataset({"excess": (("ridge", "decay"), np.eye(2))}, {"ridge": [0.1, 0.2], "decay": [0.0, 1.0]})
    asked = {}

    def sweep(name, over, **options):
        asked.update(name=name, over=over, options=options)
        return SimpleNamespace(dataset=dataset, observable="excess")

    monkeypatch.setattr(sweeping, "sweep", sweep)
    done = riron("sweep", "double-descent", "--over", "ridge=0.1,0.2", "--over", "decay=0,1", "--set", "seed=2")
    assert done.status == 0
    assert "excess (dots)" in done.out
    assert asked["over"] == {"ridge": [0.1, 0.2], "decay": [0.0, 1.0]}
    assert asked["options"]["seed"] == 2
    assert json.loads(riron("sweep", "double-descent", "--json").out)["observable"] == "excess"
    assert asked["over"] is None
    assert "error: 'ridge' has no values" in riron("sweep", "double-descent", "--over", "ridge").err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "p-sdcaa"), "no study is called 'p-sdcaa'"),
        (("show", "double-decent"), "did you mean 'double-descent'?"),
        (("cite", "Double-Descent"), "did you mean 'double-descent'?"),
        (("check", "double-descent", "nothing"), "no study is called 'nothing'"),
        (("run", "double-descent", "--set", "rigde=1"), "has no parameter 'rigde'; it has seed, label_noise, ridge"),
        (("run", "double-descent", "--set", "ridge"), "'ridge' has no value; write key=value"),
        (("run", "double-descent", "--set", "ridge=-3"), "ridge=-3.0 is outside [0.0, 1000.0]: penalty"),
        (("run", "double-descent", "--set", "seed=1.5"), "seed must be a whole number, got '1.5'"),
        (("run", "double-descent", "--seeds", "3"), "3 seeds give no error bar; use at least 16"),
        (("run", "double-descent", "--size", "papr"), "has no size 'papr'; it has quick, paper"),
        (("run", "double-descent", "--seeds", "x"), "--seeds"),
        (("run",), "NAME"),
        (("rnu", "double-descent"), "rnu"),
        (("run", "double-descent", "--sedes", "3"), "--sedes"),
        (("list", "surplus"), "surplus"),
        (("run", "double-descent", "--out", "/proc/none"), "/proc/none"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(riron, arguments, says):
    done = riron(*arguments)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=words, setting=words, seeds=words)
def test_whatever_is_typed_there_is_no_traceback(riron, name, setting, seeds):
    for arguments in (
        ("show", name),
        ("cite", "--", name),
        ("run", "double-descent", f"--set={setting}", f"--seeds={seeds}"),
    ):
        if name in (*catalogue(), "--help") or (arguments[0] == "run" and "=" in setting):
            continue
        done = riron(*arguments)
        assert done.status == 2
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
        assert "Traceback" not in done.err


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["ridge", "seed", "decay", "features", "batch"]), value=words)
def test_whatever_value_is_typed_there_is_no_traceback(riron, answers, key, value):
    answers.reports = [report()]
    name = "homogenized-sgd" if key in ("features", "batch") else "double-descent"
    done = riron("run", name, f"--set={key}={value}")
    assert done.status in (0, 2)
    if done.status == 2:
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1


def raising(error):
    def run(*arguments, **options):
        raise error

    return run


def test_a_bug_of_ours_is_one_sentence_and_a_log(riron, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_log_dir", lambda *a, **k: str(tmp_path / "log"))
    monkeypatch.setattr(running, "run", raising(RuntimeError("a table leg broke")))
    done = riron("run", "double-descent")
    assert done.status == 70
    assert done.err.count("\n") == 1
    (log,) = (tmp_path / "log").iterdir()
    assert str(log) in done.err
    assert "a table leg broke" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_bug_where_no_log_can_be_written(riron, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("platformdirs.user_log_dir", lambda *a, **k: str(tmp_path / "file" / "log"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "second"))
    monkeypatch.setattr(running, "run", raising(RuntimeError("a table leg broke")))
    done = riron("run", "double-descent")
    assert done.status == 70
    assert str(tmp_path / "second") in done.err


def test_stopped_says_what_is_kept(riron, monkeypatch):
    monkeypatch.setattr(running, "run", raising(KeyboardInterrupt("double-descent: 2 of 3 are kept")))
    done = riron("run", "double-descent")
    assert done.status == 130
    assert done.err == "stopped; double-descent: 2 of 3 are kept\n"


def test_sigterm_stops_as_ctrl_c_does(riron, monkeypatch):
    monkeypatch.setattr(running, "run", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM))
    done = riron("run", "double-descent")
    assert done.status == 130
    assert done.err.startswith("stopped")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_inside_garbage_collection_is_not_lost(riron, monkeypatch, number):
    """JAX collects garbage in a callback, and Python forgets what is raised there."""
    asked = []

    def collected(*_):
        if not asked:
            asked.append(number)
            os.kill(os.getpid(), number)

    def run(*arguments, **options):
        gc.callbacks.append(collected)
        gc.collect()
        gc.callbacks.remove(collected)
        for _ in range(500):
            time.sleep(0.02)

    monkeypatch.setattr(running, "run", run)
    assert riron("run", "double-descent").status == 130
    assert asked


def test_too_little_memory_is_not_a_bug(riron, monkeypatch):
    monkeypatch.setattr(running, "run", raising(MemoryError("9 TB")))
    done = riron("run", "double-descent")
    assert done.status == 2
    assert "too little memory (9 TB)" in done.err


def test_input_errors_of_several_lines_stay_one_line(riron, monkeypatch):
    monkeypatch.setattr(running, "run", raising(InputError("one\ntwo", do="three")))
    assert riron("run", "double-descent").err == "error: one two; three\n"
