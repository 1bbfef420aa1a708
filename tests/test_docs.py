"""The papers agree with the package: commands, links, names, terms, licence; and nothing is private to one machine."""

import importlib
import importlib.resources
import re
import shlex
import sys
from pathlib import Path

import pytest

import riron

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "jupyter_execute"} & set(page.parts)]
ROOMS = ["forecast", "estimators", "guarantees", "models", "problems", "dynamics", "theory", "lab", "studies"]
MATHJAX = "a4354ff94fd868aea0cc6eaaa79a57fda0588646fc46ee3700a349ee0a11cbe6"  # es5/tex-svg-full.js of MathJax 3.2.2
TERMS = """
anchored, backtest, band, batch, calibration, cavity, closure, coverage, degrees of freedom, DMFT, double descent,
effective ridge, epoch, excess risk, finite-size scaling, held-out loss, homogenised SGD, information exponent,
interpolation threshold, kernel, Langevin dynamics, learning curve, leave-one-out, leverage, mean-field,
mean-square stability, momentum, mutation, NTK, one-pass, order parameters, overlap, phase transition, power law,
proportional limit, random features, resolving power, ridge, ridgeless, SGD temperature, spectral decay,
stability edge, standard error, step size, Student t, teacher-student, temperature, verdict, with replacement
"""


def blocks(page, language):
    """The contents of the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def setup_lines():
    return [line for block in blocks(ROOT / "README.md", "sh") for line in block.splitlines() if "-m venv" in line]


def test_readme_has_two_commands_that_set_up_everything():
    forecast, tests = setup_lines()
    for line in (forecast, tests):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert forecast.endswith(".venv/bin/riron forecast sklearn:digits --verify 32 --out forecast")
    assert tests.endswith('.venv/bin/pip install ".[test]" && .venv/bin/pytest')


def test_ci_runs_the_readmes_own_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -E '([^']+)' README.md", script)
    assert pattern
    found = re.findall(pattern[1], (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [setup_lines()[1]]
    assert "${line//.venv/" in script


def commands_in_the_papers():
    pages = [page for page in PAGES if "CHANGELOG" not in page.name]
    lines = [line for page in pages for block in blocks(page, "sh") for line in block.splitlines()]
    found = [match[0] for line in lines for match in re.finditer(r"(?<![\w./-])riron .*?(?=&&|#|$)", line)]
    return sorted({command.strip() for command in found})


@pytest.mark.parametrize("command", commands_in_the_papers())
def test_commands_in_the_papers_exist_with_their_options(command):
    import typer.main

    from riron.cli import app

    words = shlex.split(command)[1:]
    known = typer.main.get_command(app)
    assert words[0] in known.commands, f"riron has no command {words[0]}"
    options = {name for p in known.commands[words[0]].params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    for word in words[1:]:
        assert not word.startswith("--") or word.split("=")[0] in options, f"riron {words[0]} has no option {word}"
    if (
        words[0] in ("show", "run", "cite", "check", "sweep")
        and len(words) > 1
        and words[1].islower()
        and words[1][0] != "-"
    ):
        from riron.studies.cards import catalogue

        assert words[1] in [*catalogue(), "my-claim"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_the_papers_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_papers_is_python(page):
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")


def test_every_room_with_public_names_is_on_the_reference_page():
    shown = set(
        re.findall(r"^\.\. public:: (\S+)$", (ROOT / "docs" / "api.rst").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert shown >= {"riron", *(f"riron.{room}" for room in ROOMS)}
    folders = {path.parent.name for path in (ROOT / "src" / "riron").glob("*/__init__.py")}
    # Without its extra the torch room cannot be imported to be documented: docs/compression.md shows its names.
    assert folders <= {*ROOMS, "cli", "torch"}, "a new room: show it in docs/api.rst and name it here"


@pytest.mark.parametrize("name", ["riron", *(f"riron.{room}" for room in ROOMS)])
def test_every_public_name_is_explained(name):
    module = importlib.import_module(name)
    names = list(getattr(module, "__all__", ()))
    assert len(set(names)) == len(names)
    for public in names:
        value = getattr(module, public)
        if callable(value):
            assert (value.__doc__ or "").strip(), f"{name}.{public} has no docstring"


def test_the_glossary_explains_the_terms():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^(\S.*)\n((?:  \S.*\n)+)", text, re.MULTILINE))
    missing = {" ".join(term.split()) for term in TERMS.split(",")} - set(found)
    assert not missing
    assert all(len(body.split()) >= 6 for body in found.values())


def test_versions_agree():
    assert f"version: {riron.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {riron.__version__} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_carries_its_data():
    package = importlib.resources.files("riron")
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("studies", "references.bib").is_file()


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text) > 11_000


def test_formulas_need_no_other_host():
    from hashlib import sha256

    configuration = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert 'mathjax_path = "tex-svg-full.js"' in configuration
    script = (ROOT / "docs" / "_static" / "tex-svg-full.js").read_bytes()
    assert sha256(script).hexdigest() == MATHJAX, "not the file of MathJax 3.2.2"


def test_nothing_is_private_to_one_machine():
    private = re.compile(r"(?<![\w.$/~-])/(?:work|root|home|Users|tmp|opt|mnt|var)/[\w.]+|[A-Z]:\\\\")
    own = {Path(__file__).resolve(), (ROOT / "docs" / "_static" / "tex-svg-full.js").resolve()}
    folders = ["src", "tests", "docs", "benchmarks", ".ci", ".github"]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")] + [
        p for p in ROOT.iterdir() if p.is_file()
    ]
    suffixes = {".py", ".md", ".rst", ".toml", ".yml", ".yaml", ".css", ".bib", ".cff", ".pyi", ""}
    for path in paths:
        built = {"_build", "jupyter_execute", "__pycache__"} & set(path.parts)
        if path.is_file() and not built and path.suffix in suffixes and path.resolve() not in own:
            found = private.findall(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found[0]}"


class TestPlainDocstrings:
    """The documentation's reading of docstrings: formulas survive, sections become fields."""

    @pytest.fixture
    def convert(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [str(ROOT / "docs" / "_ext"), *sys.path])
        return importlib.import_module("plain_docstrings").convert

    def test_formulas_are_not_markup(self, convert):
        (text,) = [line for line in convert(["The loss |f - y|^2 * a_ of `x_j`."]) if line]
        assert text == r"The loss \|f - y\|^2 \* a\_ of \ ``x_j``\ ."

    def test_sections_become_fields(self, convert):
        lines = ["Risk.", "", "Args:", "  n: rows,", "    at least 1.", "  X, y: data.", "Returns: a number."]
        made = convert([*lines, "Raises:", "  InputError: n < 1."])
        assert made[made.index(":Arguments:") + 1 :][:2] == ["   - **n**: rows, at least 1.", "   - **X, y**: data."]
        assert ":Returns: a number." in made
        assert "   - **InputError**: n \\< 1." in made

    def test_indented_lines_stand_as_they_are(self, convert):
        made = convert(["Solves", "    a|b| = c*", "for c."])
        assert made[made.index("::") + 2] == "    a|b| = c*"
