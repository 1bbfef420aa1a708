"""Output that is whole or absent, and refused rather than overwritten."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from riron.errors import InputError
from riron.lab import files


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fail(context, error=RuntimeError):
    """Enter a context that yields a path, write half of the work there, and raise."""
    with context as path:
        (path / "a.txt" if path.is_dir() else path).write_text("half")
        raise error


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old é\n")
    with pytest.raises(RuntimeError):
        fail(files.replacing(path))
    assert path.read_bytes() == "old é\n".encode()
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_json_is_strict(tmp_path):
    value = {"n": np.int64(3), "x": np.array([1.5, math.inf]), "nan": math.nan, "text": "理", 4: (True, None)}
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"n": 3, "x": [1.5, None], "nan": None, "text": "理", "4": [True, None]}
    assert "理" in text
    with pytest.raises(TypeError, match="object has no JSON form"):
        files.as_json({"x": object()})


def test_a_new_folder_appears_with_its_files(tmp_path):
    with files.new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a.txt").write_text("a")
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text("b")
    assert names(tmp_path / "deep" / "out") == ["a.txt", "sub", "sub/b.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_work_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(error):
        fail(files.new_folder(tmp_path / "deep" / "out"), error)
    assert names(tmp_path) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(error):
        fail(files.new_folder(tmp_path / "empty"), error)
    assert names(tmp_path) == ["empty"]


def test_a_folder_with_files_is_refused_without_force(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "kept.txt").write_text("old")
    with (
        pytest.raises(InputError, match="is not empty; choose another one, or add --force"),
        files.new_folder(tmp_path),
    ):
        pytest.fail("the work began")
    with pytest.raises(RuntimeError):
        fail(files.new_folder(tmp_path, force=True))
    assert (tmp_path / "a.txt").read_text() == "old"
    with files.new_folder(tmp_path, force=True) as folder:
        (folder / "a.txt").write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt", "kept.txt"]


def test_what_cannot_be_a_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file, not a folder"), files.new_folder(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="cannot be written"), files.new_folder(tmp_path / "file" / "below"):
        pass
    real = os.mkdir

    def mkdir(path, *rest):
        if "work" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with (
        pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"),
        files.new_folder(tmp_path / "new"),
    ):
        pass
    assert names(tmp_path) == ["file"]


def test_a_new_file_is_checked_before_the_work(tmp_path):
    (tmp_path / "a.png").touch()
    assert files.new_file(tmp_path / "b.png") == tmp_path / "b.png"
    assert files.new_file(tmp_path / "a.png", force=True) == tmp_path / "a.png"
    for path, message in [
        ("a.png", "exists; choose another name"),
        (".", "is a folder"),
        ("no/b", "there is no folder"),
    ]:
        with pytest.raises(InputError, match=message):
            files.new_file(tmp_path / path)
    assert names(tmp_path) == ["a.png"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="Linux only")
def test_leftovers_of_a_process_that_nobody_has_collected_are_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    mark = files.temporary_beside(tmp_path / "result").name
    theirs = tmp_path / mark.replace(f".{os.getpid()}.", f".{process.pid}.")
    theirs.touch()
    ours = tmp_path / mark
    ours.touch()
    assert files.remove_leftovers(tmp_path) == [theirs]
    assert names(tmp_path) == [ours.name]
    process.wait()
