"""The catalogue: what each study claims and which parameters it takes, read from the source without importing it.

So `riron list` answers at once. In return a study's docstring, `cites`, `extra` and arguments of `param` are literals.
"""

import ast
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from ..errors import InputError

if TYPE_CHECKING:
    from .base import Study

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Parameter:
    """One parameter of a study: `type` is float, int, bool or choice, and `choices` what a choice may be."""

    name: str
    type: str
    default: Any
    low: float | None
    high: float | None
    meaning: str
    unit: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """What is known of a study before it is imported."""

    name: str
    claim: str
    catalogue: str
    parameters: tuple[Parameter, ...]
    cites: tuple[str, ...]
    extra: str = ""  # the optional extra of riron that it needs
    text: str = ""  # the rest of the docstring

    def as_dict(self) -> dict[str, Any]:
        """Name, claim, catalogue entry, parameters, citation keys and extra, as JSON knows them."""
        return {key: value for key, value in asdict(self).items() if key != "text"}


@cache
def cards() -> dict[str, Card]:
    """Cards of all studies by name, in alphabetical order."""
    found = (read_card(path) for path in sorted(HERE.glob("*.py")))
    return {card.name: card for card in found if card}


def catalogue() -> list[str]:
    """Names of all studies."""
    return list(cards())


def find_card(name: str) -> Card:
    """The card of a study; InputError suggests the nearest name."""
    known = cards()
    if name not in known:
        from ..checks import nearest  # here, because it loads NumPy, which a list of names does not need

        hint = nearest(name, known) or "`riron list` shows all"
        raise InputError(f"no study is called '{name}'", do=hint)
    return known[name]


def load(name: str) -> "type[Study]":
    """The class of a study by its name; InputError for a name that is not known."""
    module = import_module(f"{__package__}.{find_card(name).name.replace('-', '_')}")
    return next(
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "predict")
    )


def read_card(path: Path) -> Card | None:
    """The card of one file, or None if it defines no study."""
    source = path.read_text(encoding="utf-8")
    if "(Study)" not in source:
        return None
    tree = ast.parse(source)
    kind = next((node for node in tree.body if _is_study(node)), None)
    if not isinstance(kind, ast.ClassDef):
        return None
    claim, _, text = (ast.get_docstring(tree) or "").partition("\n")
    entry = re.search(r"\(([A-Z]\d+(?:, [A-Z]\d+)*)\)\.?$", claim)
    return Card(
        name=path.stem.replace("_", "-"),
        claim=claim,
        catalogue=entry.group(1) if entry else "",
        parameters=(*_common_parameters(), *_parameters(kind)),
        cites=_literal(kind, "cites", ()),
        extra=_literal(kind, "extra", ""),
        text=text.strip(),
    )


def _literal(kind: ast.ClassDef, name: str, default: Any) -> Any:
    return next((ast.literal_eval(node.value) for node in kind.body if _assigns(node, name)), default)


@cache
def _common_parameters() -> tuple[Parameter, ...]:
    tree = ast.parse((HERE / "base.py").read_text(encoding="utf-8"))
    return _parameters(next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Study"))


def _parameters(kind: ast.ClassDef) -> tuple[Parameter, ...]:
    fields = [(node, node.value) for node in kind.body if isinstance(node, ast.AnnAssign)]
    calls = [(node, value) for node, value in fields if isinstance(value, ast.Call)]
    return tuple(_parameter(node, call) for node, call in calls if ast.unparse(call.func) in ("param", "choice"))


def _parameter(node: ast.AnnAssign, call: ast.Call) -> Parameter:
    positional = [ast.literal_eval(argument) for argument in call.args]
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    if ast.unparse(call.func) == "choice":
        given = dict(zip(("default", "meaning"), positional, strict=False)) | named
        assert isinstance(node.annotation, ast.Subscript)  # Literal[...]
        choices = ast.literal_eval(node.annotation.slice)
        return Parameter(
            ast.unparse(node.target), "choice", given["default"], None, None, given["meaning"], "", choices
        )
    given = dict(zip(("default", "low", "high", "meaning", "unit"), positional, strict=False)) | named
    return Parameter(
        name=ast.unparse(node.target),
        type=ast.unparse(node.annotation),
        default=given["default"],
        low=given.get("low"),
        high=given.get("high"),
        meaning=given.get("meaning", ""),
        unit=given.get("unit", ""),
    )


def _is_study(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Study" for b in node.bases)


def _assigns(node: ast.stmt, name: str) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
