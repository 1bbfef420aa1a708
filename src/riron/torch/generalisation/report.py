"""What `bounds` returns: every bound beside the gap that was measured, as a table, data and a picture."""

import math
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ...guarantees.generalisation import NON_VACUOUS, ORDER, REFUSED, VACUOUS, Bound

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

RANKS = (NON_VACUOUS, VACUOUS, ORDER, REFUSED)


@dataclass(frozen=True)
class Bounds:
    """Bounds on one scale with the measured gap; `print` shows a table, the non-vacuous ones first.

    Attributes:
      bounds: sorted: non-vacuous, vacuous, order only, refused; smallest first within each.
      train_error: of n training pairs. heldout_error, heldout_stderr: of n_heldout fresh pairs, or None.
      chance: error of always deciding for the most frequent class of the training set.
      delta: each bound holds with probability 1 - delta, each by itself, not all at once.
      margin: g of the bounds that have one, the `margin_quantile` of the training margins; None without them.
      complexities: Monte Carlo Rademacher complexities of the last layer's linear class on the learned features.
      notes: what the reader must know.
    """

    bounds: list[Bound]
    train_error: float
    n: int
    chance: float
    delta: float
    heldout_error: float | None = None
    heldout_stderr: float | None = None
    n_heldout: int = 0
    margin: float | None = None
    margin_quantile: float | None = None
    complexities: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rank = lambda b: (RANKS.index(b.status), b.value if math.isfinite(b.value) else math.inf, b.name)
        object.__setattr__(self, "bounds", sorted(self.bounds, key=rank))

    @property
    def gap(self) -> float | None:
        """Held-out error less training error; None without held-out pairs."""
        return None if self.heldout_error is None else self.heldout_error - self.train_error

    @property
    def non_vacuous(self) -> list[Bound]:
        """Those below 1."""
        return [bound for bound in self.bounds if bound.status == NON_VACUOUS]

    def __getitem__(self, name: str) -> Bound:
        for bound in self.bounds:
            if bound.name == name:
                return bound
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {
            "gap": self.gap,
            "bounds": [asdict(bound) | {"status": bound.status} for bound in self.bounds],
        }

    def to_xarray(self) -> "xr.Dataset":
        """Value, status, reason and so on over the dimension `bound`; what was measured as attributes."""
        import xarray as xr

        columns = {
            key: [getattr(b, key) for b in self.bounds] for key in ("value", "status", "of", "confidence", "reason")
        }
        attributes = {"train_error": self.train_error, "n": self.n, "chance": self.chance, "delta": self.delta}
        others = {
            "heldout_error": self.heldout_error,
            "heldout_stderr": self.heldout_stderr,
            "gap": self.gap,
            "margin": self.margin,
        }
        attributes |= {key: value for key, value in others.items() if value is not None}
        data = {key: ("bound", values) for key, values in columns.items()}
        return xr.Dataset(data, {"bound": [b.name for b in self.bounds]}, attributes)

    def measured(self) -> str:
        """The errors that were measured, in a sentence."""
        said = f"training error {self.train_error:.4g} (n = {self.n})"
        if self.heldout_error is not None:
            said += f", held-out error {self.heldout_error:.4g} +- {self.heldout_stderr:.2g} (n = {self.n_heldout})"
            said += f", gap {self.gap:.4g}"
        return f"{said}; chance {self.chance:.4g}"

    def __str__(self) -> str:
        lines = [self.measured()]
        if self.margin is not None and self.margin_quantile is not None:
            lines.append(f"margin {self.margin:.4g}: the {self.margin_quantile:.0%} quantile of the training margins")
        shown = [b for b in self.bounds if b.status != REFUSED]
        width = max([len(short(b.name)) for b in shown] or [5])
        of = max([len(short(b.of)) for b in shown] or [2])
        if shown:
            lines += ["", f"{'bound':{width}s}  {'value':>9s}  {'error of':{of}s}"]
        for b in shown:
            value = f"{b.value:9.3f}" if b.value < 10 else f"{b.value:9.3g}"
            better = "" if b.value < self.chance else "no better than chance"
            word = {NON_VACUOUS: better, VACUOUS: "vacuous (>= 1)", ORDER: "order only"}[b.status]
            lines.append(f"{short(b.name):{width}s}  {value}  {short(b.of):{of}s}  {word}".rstrip())
        refused = [b for b in self.bounds if b.status == REFUSED]
        if refused:
            reasons: dict[str, list[str]] = {}
            for b in refused:
                reasons.setdefault(b.reason, []).append(b.name)
            lines += ["", *(f"refused: {', '.join(names)}: {reason}" for reason, names in reasons.items())]
        lines += ["", f"Each bound holds by itself with probability {1 - self.delta:g} over the data, not all at once."]
        if any(b.status == VACUOUS for b in self.bounds):
            lines.append("A vacuous bound says nothing of the error; the number still compares networks.")
        for name, c in self.complexities.items():
            lines.append(f"Rademacher complexity of the last layer, {name}: {c['mean']:.4g} +- {c['stderr']:.2g}")
        return "\n".join([*lines, *self.notes])

    def plot(self) -> "Figure":
        """The bounds as dots, below and above 1 on scales of their own; lines at chance and at the measured error."""
        from .picture import draw

        return draw(self)


def short(text: str) -> str:
    """Without what stands in brackets at the end; the whole text is in the data."""
    return re.sub(r" \(.*\)$", "", text)
