"""What a study is: typed parameters, the pairing of a simulation with a prediction, and the claim that joins them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_type_hints

import numpy as np

from ..checks import nearest
from ..errors import InputError
from ..lab.addressing import cast
from ..lab.verdict.base import Claim
from .reading import check_range, unknown_parameter

if TYPE_CHECKING:
    import xarray as xr

    from .result import Result


def param(default: Any, low: float, high: float, meaning: str, unit: str = "") -> Any:
    """A numeric parameter of a study: the only place where it is described.

    Args:
      default: its value if none is given.
      low, high: the range that is accepted, both included.
      meaning: in a few words, for `riron show`, sliders and docs.
      unit: of the number, if it has one.
    """
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning, "unit": unit})


def choice(default: str, meaning: str) -> Any:
    """A parameter that is one of the words of its type, `Literal["a", "b"]`."""
    return field(default=default, metadata={"low": None, "high": None, "meaning": meaning, "unit": ""})


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A claim that can be run: dots by `simulate`, a line by `predict`, and kinds of claim in `compare`.

    A study is one file in this folder: a frozen dataclass of parameters. The first line of the file's docstring is the
    claim, and the file's name is the study's name.
    """

    cites: ClassVar[tuple[str, ...]] = ()  # keys of references.bib
    version: ClassVar[int] = 1  # raised by hand when the dots would come out differently: kept results become void
    sizes: ClassVar[Mapping[str, tuple[int, ...]]] = {}  # quick and paper: the sequence of sizes, smallest first
    compare: ClassVar[tuple[Claim, ...]] = ()
    mutations: ClassVar[Mapping[str, Any]] = {}  # keyword of the theory -> factor, or lab.verdict.Instead(value)
    diagram: ClassVar[Mapping[str, Any]] = {}  # what `riron.sweep` draws: over, parameters, size, observable
    labels: ClassVar[Mapping[str, str]] = {"size": "d"}  # words for axes in pictures
    extra: ClassVar[str] = ""  # the optional extra of riron that it needs

    seed: int = param(0, 0, 2147483647, "root of all random numbers")

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for entry in fields(self):
            kind, value = types[entry.name], cast(getattr(self, entry.name), types[entry.name], entry.name)
            choices = get_args(kind)  # of a Literal; empty for numbers
            about = entry.metadata
            check_range(entry.name, value, about["low"], about["high"], about["meaning"], choices)
            object.__setattr__(self, entry.name, value)

    @abstractmethod
    def simulate(self, d: int, *, seeds: int) -> "xr.Dataset":
        """Dots of one size: dims (seed, record)."""

    @abstractmethod
    def predict(self, d: int) -> partial:
        """The theory call of one size, unevaluated: as it is for the line, with a keyword changed for mutations."""

    def ladder(self, size: str) -> tuple[int, ...]:
        """The sequence of sizes behind "quick" or "paper"."""
        if size not in self.sizes:
            known = ", ".join(self.sizes)
            raise InputError(f"{self.name()} has no size '{size}'; it has {known}", do=nearest(size, self.sizes))
        return tuple(self.sizes[size])

    def claims(self) -> Sequence[Claim]:
        """The kinds of claim, where they depend on the parameters."""
        return self.compare

    def beside(self, d: int) -> Mapping[str, partial]:
        """Other theories of the same dots, by name: judged and drawn beside the line, without part in the verdict."""
        return {}

    def observe(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """The numbers of one setting that a phase diagram shows: the compared variables at the end of the record."""
        names = [claim.variable for claim in self.claims()]
        last = {axis: -1 for axis in dataset[names].dims if axis != "seed"}
        return dataset[names].isel(last).reset_coords(drop=True)

    def boundary(self, over: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], str] | None:
        """Where theory puts a change of regime in the plane of two parameters: coordinates by parameter, and a name."""
        return None

    def run(self, size: str = "quick", *, seeds: int | None = None, **options: Any) -> "Result":
        """Simulates, predicts and judges; see `riron.run` for the options."""
        from .running import execute

        return execute(self, size, seeds=seeds, **options)

    def parameters(self) -> dict[str, Any]:
        """Names and values, each of its declared type."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def name(cls) -> str:
        """The name of the study, from the name of its file."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @classmethod
    def make(cls, **parameters: Any) -> "Study":
        """The study with these parameters; InputError names a parameter that it does not have, and those it has."""
        known = [entry.name for entry in fields(cls)]
        for key in parameters:
            if key not in known:
                raise unknown_parameter(cls.name(), key, known)
        return cls(**parameters)


def evaluate(call: partial) -> "xr.Dataset":
    """The line, in float64, marked with the name of the theory function."""
    line = call()
    line.attrs.setdefault("theory", call.func.__name__)
    for name, values in line.data_vars.items():
        line[name] = values.astype(np.float64)
    return line
