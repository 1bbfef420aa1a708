"""Would a wrong line have been noticed? The same verdict on lines that are wrong on purpose."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ...checks import nearest
from ...errors import InputError
from .base import Claim
from .curves import Datasets
from .judging import judge

Prediction = Mapping[Any, partial]


@dataclass(frozen=True)
class Instead:
    """A mutation that replaces instead of scaling: the value of a keyword, or the whole theory by a wrong function."""

    value: Any


def mutated(call: partial, mutations: Mapping[str, Any]) -> dict[str, partial]:
    """The theory call with one thing wrong at a time.

    Args:
      call: the unevaluated theory call.
      mutations: {keyword: factor} scales the keyword's value; {keyword: Instead(value)} replaces it;
        {any other name: Instead(function)} calls the function in place of the theory.

    Returns: {label: call}, labels such as `batch x 1.2` and `clock = brownian`.
    """
    return {_label(name, change): _mutate(call, name, change) for name, change in mutations.items()}


def judge_mutations(
    claims: Claim | Sequence[Claim],
    dots: Datasets | xr.Dataset,
    prediction: Prediction,
    mutations: Mapping[str, Any],
    *,
    alpha: float = 1e-4,
    looks: int = 1,
) -> dict[str, str]:
    """{label: verdict} for every mutation of the prediction {size: call}; a line that is not finite `fails`."""
    verdicts = {}
    for name, change in mutations.items():
        calls = {size: _mutate(call, name, change) for size, call in prediction.items()}
        verdicts[_label(name, change)] = _verdict(claims, dots, calls, alpha, looks)
    return verdicts


def notices(
    claims: Claim | Sequence[Claim],
    dots: Datasets | xr.Dataset,
    prediction: Prediction,
    keyword: str,
    *,
    alpha: float = 1e-4,
    looks: int = 1,
    widest: float = 4.0,
    digits: float = 0.01,
) -> tuple[float | None, float | None]:
    """The factors on a keyword of the theory nearest to 1 that are noticed (`fails`), below and above.

    The factor grows from 1 % until it is noticed and is then bisected to `digits`. None: nothing up to `widest` is
    noticed on that side (or the theory refuses such values): the keyword does not matter there, or is not used.
    """

    def noticed(factor: float) -> bool | None:
        calls = {size: _mutate(call, keyword, factor) for size, call in prediction.items()}
        try:
            return _verdict(claims, dots, calls, alpha, looks) == "fails"
        except ValueError:
            return None  # the theory does not take such a value

    _value_of(next(iter(prediction.values())), keyword)  # an unknown keyword is refused, not "never noticed"

    def search(direction: int) -> float | None:
        inside, step = 0.0, 0.01
        while True:
            outside = min(step, np.log(widest))
            seen = noticed(float(np.exp(direction * outside)))
            if seen:
                break
            if seen is None or outside >= np.log(widest):
                return None
            inside, step = outside, 2 * step
        while outside - inside > digits * max(outside, 0.1):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if noticed(float(np.exp(direction * middle))) else (middle, outside)
        return float(np.exp(direction * outside))

    return search(-1), search(+1)


def _verdict(claims, dots, calls: Mapping[Any, partial], alpha: float, looks: int) -> str:
    with np.errstate(all="ignore"):  # a wrong line may well overflow
        line = {size: call() for size, call in calls.items()}
    claims = (claims,) if isinstance(claims, Claim) else tuple(claims)
    for claim in claims:
        for predicted in line.values():
            if claim.variable in predicted and not np.isfinite(predicted[claim.variable]).all():
                return "fails"
    return judge(claims, dots, line, alpha=alpha, looks=looks)["verdict"]


def _label(name: str, change: Any) -> str:
    if not isinstance(change, Instead):
        return f"{name} x {change:g}"
    return f"{name} = {getattr(change.value, '__name__', change.value)}"


def _mutate(call: partial, name: str, change: Any) -> partial:
    if not isinstance(call, partial):
        raise InputError("a prediction to mutate is not an unevaluated call", do="give functools.partial(theory, ...)")
    if isinstance(change, Instead):
        if callable(change.value) and name not in inspect.signature(call.func).parameters:
            return partial(change.value, *call.args, **call.keywords)
        _value_of(call, name)
        return _with(call, name, change.value)
    value = _value_of(call, name)
    try:
        scaled = np.asarray(value, dtype=np.float64) * change
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r} cannot be scaled by {change}", do="replace it with Instead(...)") from None
    if isinstance(value, bool) or value is None:
        raise InputError(f"{name}={value!r} cannot be scaled by {change}", do="replace it with Instead(...)")
    return _with(call, name, float(scaled) if np.ndim(scaled) == 0 else scaled)


def _value_of(call: partial, name: str) -> Any:
    bound = _bound(call)
    if name not in bound.arguments:
        theory = getattr(call.func, "__name__", "the theory")
        raise InputError(f"{theory} has no parameter '{name}'", do=nearest(name, bound.arguments))
    return bound.arguments[name]


def _with(call: partial, name: str, value: Any) -> partial:
    bound = inspect.signature(call.func).bind_partial(*call.args, **call.keywords)
    if name not in bound.signature.parameters:  # one of the theory's **keywords
        return partial(call.func, *call.args, **{**call.keywords, name: value})
    bound.arguments[name] = value
    return partial(call.func, *bound.args, **bound.kwargs)


def _bound(call: partial) -> inspect.BoundArguments:
    bound = inspect.signature(call.func).bind_partial(*call.args, **call.keywords)
    bound.apply_defaults()
    for name, value in list(bound.arguments.items()):
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments.pop(name)
            bound.arguments.update(value)
    return bound
