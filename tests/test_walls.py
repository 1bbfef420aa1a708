"""The walls of the house: imports run downwards only, optional packages stay in their rooms, and the start is quick."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import riron

SRC = Path(riron.__file__).parent
BELOW_STUDIES = {"models", "problems", "dynamics", "theory", "guarantees", "lab", "forecast"}
ALLOWED = {
    "models": set(),
    "problems": {"models"},
    "theory": {"problems", "models"},
    "dynamics": {"problems", "models"},
    "lab": set(),
    "guarantees": {"problems", "models", "dynamics", "theory"},
    "forecast": {"models", "problems", "dynamics", "theory", "guarantees", "lab"},
    "estimators": {"models", "problems", "dynamics", "theory", "guarantees", "lab"},
    "torch": {"guarantees", "theory", "lab"},
    "studies": BELOW_STUDIES | {"torch"},
    "cli": BELOW_STUDIES | {"studies", "torch"},
}
ROOMS = [room for room in ALLOWED if any((SRC / room).glob("*.py"))]
EVERYBODY = {"errors", "checks", "_version"}
HEAVY = {"jax", "xarray", "sklearn", "pandas", "matplotlib", "torch", "scipy", "equinox", "numpy"}
OPTIONAL = {
    "torch": "torch",
    "torch_pruning": "torch",
    "safetensors": "torch",
    "flwr": "federated",
    "nicegui": "app",
    "dask": "lab",
    "distributed": "lab",
    "ray": "lab",
}


def imported(path: Path, root: Path = SRC) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever in the file and however it is written."""
    package = ["riron", *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0]
            text = name.value if isinstance(name, ast.Constant) else ast.unparse(name)
            if text.startswith("."):
                text = (
                    ".".join(package[: len(package) - (len(text) - len(text.lstrip("."))) + 1]) + "." + text.strip(".")
                )
            yield text


def rooms_imported(path: Path, root: Path = SRC) -> set[str]:
    """The rooms that a file imports; `riron` itself for a public name, which may come from anywhere."""
    rooms = set()
    for name in imported(path, root):
        top, _, rest = name.partition(".")
        if top == "riron" and rest != "__version__":
            room = rest.split(".")[0]
            rooms.add(room if room in ALLOWED or room in EVERYBODY else "riron")
    return rooms - EVERYBODY


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards_only(room):
    for path in (SRC / room).rglob("*.py"):
        assert rooms_imported(path) <= ALLOWED[room] | {room}, path


def test_the_walls_see_every_way_to_import(tmp_path):
    (tmp_path / "theory").mkdir()
    path = tmp_path / "theory" / "peeks.py"
    for code in (
        "import riron.dynamics.sgd",
        "from ..dynamics import sgd",
        "from .. import dynamics",
        "from riron import dynamics as d",
        "def f():\n    from riron.dynamics.sgd import sgd",
        "import importlib\nimportlib.import_module('riron.dynamics')",
        "from importlib import import_module\nimport_module('..dynamics', __package__)",
        "__import__('riron.dynamics')",
    ):
        path.write_text(code)
        assert "dynamics" in rooms_imported(path, tmp_path), code
    path.write_text("from riron import run")
    assert rooms_imported(path, tmp_path) == {"riron"}
    path.write_text("from ..problems import x\nfrom ..errors import InputError\nfrom .. import __version__")
    assert rooms_imported(path, tmp_path) == {"problems"}


def test_optional_packages_are_imported_in_their_rooms_only():
    for path in SRC.rglob("*.py"):
        room = path.relative_to(SRC).parts[0]
        for name in imported(path):
            owner = OPTIONAL.get(name.split(".")[0])
            assert owner is None or room == owner, f"{path} imports {name}"
            if name.split(".")[0] in ("dask", "distributed", "ray"):
                assert path.name == "backends.py", f"{path} imports {name}"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "importtime", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environ, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import riron; dir(riron); riron.InputError"),
        ("-m", "riron", "--help"),
        ("-m", "riron", "list"),
        ("-m", "riron", "show", "double-descent"),
        ("-m", "riron", "cite", "double-descent"),
        ("-m", "riron", "run", "double-descent", "--set", "ridge=none"),
        ("-m", "riron", "show", "double-ascent"),
    ],
)
def test_a_quick_command_imports_nothing_heavy(arguments):
    done = run(*arguments)
    assert done.returncode in (0, 2), done.stderr[-500:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "riron" in loaded
    allowed = {"numpy"} if done.returncode else set()  # for the nearest name that is known
    assert not {name.split(".")[0] for name in loaded} & (HEAVY - allowed)


def test_every_public_name_is_there():
    """An eager import, so that a lazy one cannot hide a broken module."""
    done = run("-c", "import riron; print(*riron.__all__)", EAGER_IMPORT="1")
    assert done.returncode == 0, done.stderr[-2000:]
    names = done.stdout.split()
    assert {"run", "sweep", "cite", "Result", "Sweep", "forecast", "InputError"} <= set(names)
    assert len(names) == len(set(names))
    assert callable(importlib.import_module("riron").cite)
