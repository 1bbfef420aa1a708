"""What the results store keeps of a study: its simulations, and the slow search for what its verdict would notice."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..lab.addressing import address
from ..lab.progress import Progress
from ..lab.store import Store
from ..lab.verdict import notices
from .base import Study

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1  # raised by hand when simulations of the lab come out differently: kept results of all studies become void
FEWEST, DECIDING = 4, 16


class Kept:
    """Simulations of one study: read from the store, or made and kept there; with cache=False only made."""

    def __init__(self, study: Study, *, cache: bool = True):
        self.study = study
        self.store = Store() if cache else None

    def asked(self, d: int, seeds: int, line: "xr.Dataset") -> dict[str, Any]:
        """All that the numbers of a simulation depend on; the line of the same size tells at which points they lie."""
        import jax

        return {
            "study": self.study.name(),
            "version": [FORMAT, self.study.version],
            "parameters": self.study.parameters(),
            "size": d,
            "seeds": seeds,
            "record": {str(name): values.values for name, values in line.coords.items()},
            "x64": bool(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        }

    def dots(self, d: int, seeds: int, line: "xr.Dataset", *, show: Progress | None = None) -> "xr.Dataset":
        """Dots of one size.

        Raises: KeyboardInterrupt, with what is kept, also where the lab answered an interruption by what it had.
        """
        key = address(self.asked(d, seeds, line))
        if self.store is not None:
            try:
                return self.store.get_dataset(key)
            except KeyError:
                pass
        try:
            found = self.study.simulate(d, seeds=seeds)
            if not found.attrs.get("complete", True):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            kept = f"{show.done} of {show.total} are kept" if show and self.store else "nothing is kept"
            raise KeyboardInterrupt(f"{self.study.name()}: {kept}") from None
        found.attrs.pop("seconds", None)  # numbers that are read again must be the same to the bit
        if self.store is not None:
            self.store.put_dataset(key, found)
        return found

    def notices(
        self,
        measured: "Mapping[int, xr.Dataset]",
        prediction: Mapping[int, partial],
        line: "Mapping[int, xr.Dataset]",
        looks: int,
        *,
        search: bool,
    ) -> dict[str, list[float | None]]:
        """For each keyword that a mutation scales, the factors nearest to 1 that the verdict notices.

        With search=False only what an earlier run has found and kept.
        """
        claims, found = tuple(self.study.claims()), {}
        seeds = next(iter(measured.values())).sizes["seed"]
        asked = {
            "dots": [self.asked(d, seeds, line[d]) for d in measured],
            "claims": [repr(claim) for claim in claims],
            "line": [{name: line[d][name].values for name in map(str, line[d])} for d in line],
            "looks": looks,
        }
        for keyword, change in self.study.mutations.items():
            if not isinstance(change, int | float):
                continue
            key = address(asked | {"notices": keyword})
            try:
                if self.store is None:
                    raise KeyError(key)
                pair = self.store.get(key).arrays["factors"]
            except KeyError:
                if not search:
                    continue
                factors = notices(claims, measured, prediction, keyword, looks=looks)
                pair = np.array([np.inf if factor is None else factor for factor in factors])
                if self.store is not None:
                    self.store.put(key, {"factors": pair})
            found[keyword] = [float(factor) if np.isfinite(factor) else None for factor in pair]
        return found


def check_seeds(seeds: int | None) -> None:
    """InputError if so few seeds give no error bar."""
    if seeds is not None and seeds < FEWEST:
        do = f"use at least {DECIDING}, the fewest that can decide (64 is the default)"
        raise InputError(f"{seeds} seed{'s' if seeds != 1 else ''} give no error bar", do=do)
