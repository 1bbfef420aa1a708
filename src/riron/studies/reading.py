"""Parameters of a study from text, and their ranges; needs the study's card only, not its import."""

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .cards import Card

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def read_settings(card: Card, settings: Sequence[str]) -> dict[str, Any]:
    """Parameters by name from texts `key=value`, each of its declared type and inside its range.

    Raises: InputError for a key that the study does not have, a value that cannot be read, or one out of range.
    """
    known, values = {parameter.name: parameter for parameter in card.parameters}, {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise InputError(f"'{setting}' has no value", do="write key=value")
        if key not in known:
            raise unknown_parameter(card.name, key, known)
        if key in values:
            raise InputError(f"{key} is given twice", do="give it once")
        parameter = known[key]
        value = read_as(parameter.type, text.strip(), key)
        check_range(key, value, parameter.low, parameter.high, parameter.meaning, parameter.choices)
        values[key] = value
    return values


def read_as(kind: str, text: str, name: str) -> Any:
    """A number, truth value or word from text."""
    if kind == "bool":
        if text.lower() not in WORDS:
            raise InputError(f"{name} must be true or false, got '{text}'")
        return WORDS[text.lower()]
    if kind in ("int", "float"):
        try:
            return {"int": int, "float": float}[kind](text)
        except ValueError:
            raise InputError(f"{name} must be a {'whole ' if kind == 'int' else ''}number, got '{text}'") from None
    return text


def nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """As in `riron.checks`, whose NumPy is loaded only when something is wrong."""
    from ..checks import nearest

    return nearest(name, known)


def check_range(
    name: str, value: Any, low: float | None, high: float | None, meaning: str, choices: Sequence[str] = ()
) -> None:
    """InputError for a number outside [low, high], or a word that is not among the choices."""
    if choices and value not in choices:
        known = ", ".join(choices)
        raise InputError(f"{name} must be one of {known}, got '{value}'", do=nearest(str(value), choices))
    if low is not None and high is not None and not low <= value <= high:  # also refuses nan
        raise InputError(f"{name}={value} is outside [{low}, {high}]: {meaning}")


def unknown_parameter(study: str, key: str, known: Sequence[str] | dict[str, Any]) -> InputError:
    """What to say of a parameter that a study does not have."""
    return InputError(f"{study} has no parameter '{key}'; it has {', '.join(known)}", do=nearest(key, known))
