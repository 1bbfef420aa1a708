"""Progress on a terminal, elsewhere, and to a function."""

import io
import subprocess
import sys

import pytest

from riron.lab import progress
from riron.lab.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_for_each_interval_and_none_for_short_work(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(10, "training") as bar:
        for _ in range(9):
            now[0] += 4.0
            bar.advance()
        bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "training: 3 of 10, about 28 s left",
        "training: 6 of 10, about 16 s left",
        "training: 9 of 10, about 4 s left",
        "training: 10 of 10 in 36 s",
    ]
    with Progress(10, "training") as bar:
        bar.advance(10)
    assert capsys.readouterr() == ("", "")


def test_the_rate_can_be_set(capsys):
    with Progress(None, every=0) as bar:
        bar.advance(3)
    assert capsys.readouterr().err.splitlines() == ["3 in 0 s"]


@pytest.mark.parametrize("show", [False, None])
def test_silent(capsys, show):
    with Progress(2, "training", show, every=0) as bar:
        bar.advance(2)
        bar.note("something happened")
    assert capsys.readouterr() == ("", "")
    assert (bar.done, bar.notes) == (2, ["something happened"])


def test_a_function_is_called_and_may_stop_the_work(capsys):
    seen = []

    def show(*call):
        seen.append(call)
        if len(seen) == 2:
            raise KeyboardInterrupt

    def work():
        with Progress(5, "training", show) as bar:
            for _ in range(5):
                bar.advance(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [(2, 5, "training"), (4, 5, "training")]
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_and_bars_inside_bars(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(2, "sizes [64]") as outer:
        for _ in range(2):
            with Progress(3, "blocks") as inner:
                inner.advance(3)
                inner.note("a note [with brackets]")
            outer.advance()
    text = terminal.getvalue()
    assert "sizes [64]" in text
    assert "blocks" in text
    assert text.count("a note [with brackets]") == 2
    assert progress._bars is None
    with pytest.raises(ValueError, match="x"), Progress(2, "again"):
        raise ValueError("x")
    assert progress._bars is None
    assert capsys.readouterr().out == ""


def test_early_modules_load_nothing_heavy():
    code = (
        "import sys; from riron.lab import addressing, compiling, files, memory, progress, signals, store, threads; "
        "print([m for m in ('jax', 'xarray', 'pandas', 'scipy', 'joblib', 'rich', 'h5netcdf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
