"""How wide the layers of a new network should be: counts and degrees of freedom of a trained one."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checks import nearest
from ..errors import InputError
from ..theory.degrees_of_freedom import degrees_of_freedom
from .compressing import compress
from .groups import Group, on
from .inputs import Batch, as_batches, check_fits, example
from .metrics import output_metrics, second_moments
from .plan import traced_copy
from .tracing import trace
from .widths import cost_of

RULES = ("dof", "count", "output")


@dataclass
class SuggestedWidths:
    """Widths for a new network.

    Attributes:
      widths: layer -> width. table: one dictionary a group: layer, nodes, count, dof, width, spectrum (largest first).
    """

    widths: dict[str, int]
    table: list[dict[str, Any]]
    notes: list[str]
    _model: Any = field(repr=False)
    _batch: Batch = field(repr=False)
    _ignore: tuple[str, ...] = field(repr=False)

    def build(self, *, keep_weights: bool = False, data: Any = None, **options: Any) -> Any:
        """The network with these widths: fresh weights, to be trained from scratch, or the trained ones compressed.

        Args:
          keep_weights: compress the trained network to these widths (needs `data`); `options` go to `compress`.
        """
        full = {row["layer"]: row["nodes"] for row in self.table}
        if keep_weights:
            wanted = {k: min(w, full[k]) for k, w in self.widths.items()}
            return compress(self._model, data, widths=wanted, stream=True, **options)
        wide = [name for name, width in self.widths.items() if width > full[name]]
        if wide:
            raise InputError(
                f"'{wide[0]}' is to become wider than it is", do="write the wider network yourself from .widths"
            )
        order = trace(self._model, self._batch).order
        found = traced_copy(self._model, self._batch, order, self._ignore)
        found.cut({name: np.arange(width) for name, width in self.widths.items()})
        for module in found.model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        return found.model.train()

    def __str__(self) -> str:
        head = f"{'layer':40s} {'nodes':>6s} {'count':>6s} {'dof':>7s} {'width':>6s}"
        rows = [
            f"{r['layer'][-40:]:40s} {r['nodes']:6d} {r['count']:6d} {r['dof']:7.1f} {r['width']:6d}"
            for r in self.table
        ]
        return "\n".join([head, *rows, *self.notes])


def suggest_widths(
    model: Any,
    data: Any,
    *,
    rule: str = "dof",
    threshold: float = 1e-3,
    relative_to: str | None = "max",
    lam: float = 1e-2,
    centered: bool = True,
    macs: float | None = None,
    params: float | None = None,
    round_to: int = 1,
    growth: bool = False,
    ignore: Iterable[str] = (),
    seed: int = 0,
) -> SuggestedWidths:
    """Reads widths off the spectra of the activations of a trained network.

    A width that suffices to represent a trained layer can be too narrow to be trained from scratch: with a budget every
    width stays within a factor of 2 of the uniform one and at least twice the number of outputs.

    Args:
      model: trained, at any width. data: inputs without labels, 256 to 1000.
      rule: "dof" (degrees of freedom at `lam` times the mean variance), "count" (eigenvalues above `threshold`), or
        "output" (dof of the spectrum weighted by what the output sees: for cutting, not for training from scratch).
      relative_to: of the threshold: "max" (largest eigenvalue), "trace" or None (absolute).
      centered: covariance, or second moment (then the mean direction is the largest and wide layers look empty).
      macs, params: fraction of the cost that the new network may have (over 1 with `growth`).
      round_to: widths are multiples of this. growth: widths may exceed the model's.

    Returns: SuggestedWidths; layers tied by a stream get one width, the largest of their counts.

    Raises:
      InputError: unknown rule or module, both budgets, no data.

    Source: Shinya, Simo-Serra & Suzuki, ICCV Workshops 2019 (count rule); the other rules are ours.
    """
    if rule not in RULES:
        raise InputError(f"rule='{rule}' is unknown", do=nearest(rule, RULES) or f"choose one of {RULES}")
    if relative_to not in ("max", "trace", None):
        raise InputError(f"relative_to='{relative_to}' is unknown", do="choose max, trace or None")
    if macs is not None and params is not None:
        raise InputError("macs and params given", do="give one budget, or none")
    budget = macs if params is None else params
    if budget is not None and (budget <= 0 or (budget > 1 and not growth)):
        raise InputError(f"the budget {budget} is outside (0, 1]", do="give a fraction, or growth=True")
    original = copy.deepcopy(model).eval()
    batches = as_batches(data, original)
    output = check_fits(original, example(batches))
    modules = dict(original.named_modules())
    for name in ignore:
        if name not in modules:
            raise InputError(f"the model has no module '{name}'", do=nearest(name, list(modules)))
    seen = trace(original, example(batches))
    found = on(original, traced_copy(original, example(batches), seen.order, tuple(ignore)).groups)
    groups = [g for g in found if not g.reason and g.kind != "attention" and g.blocks == 1]
    if not groups:
        raise InputError("there is no layer whose width can change")
    moments = second_moments(original, groups, batches, seed=seed)
    metrics = None
    if rule == "output":
        metrics, _ = output_metrics(original, groups, batches, bytes_per_input=seen.total, seed=seed)
    table = []
    for g in groups:
        rows = [_spectrum(g, side.name, moments, metrics, centered) for side in g.readers]
        counts = [int((v >= _level(v, threshold, relative_to)).sum()) for v in rows]
        dofs = [float(degrees_of_freedom(v, max(lam * v.sum() / g.width, 1e-300))) for v in rows]
        best = int(np.argmax(counts if rule == "count" else dofs))
        row = {"layer": g.name, "nodes": g.width, "count": counts[best], "dof": dofs[best], "spectrum": rows[best]}
        table.append(row)
    base = {r["layer"]: float(r["count"] if rule == "count" else r["dof"]) for r in table}
    cost = cost_of(original, found, seen)
    floor = 2 * output.shape[-1] if output.ndim == 2 and budget is not None else 1
    widths = _scaled(groups, base, cost, budget, 0 if params is not None else 1, round_to, growth, floor)
    for row in table:
        row["width"] = widths[row["layer"]]
    notes = [f"not changed: {g.name} ({g.reason})" for g in found if g.reason]
    return SuggestedWidths(widths, table, notes, original, example(batches), tuple(ignore))


def _spectrum(group: Group, reader: str, moments: Any, metrics: Any, centered: bool) -> np.ndarray:
    S = moments[group.name, reader].moment(centered)
    if metrics is not None:
        values, vectors = np.linalg.eigh(metrics[group.name, reader])
        half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
        S = half @ S @ half
    return np.clip(np.linalg.eigvalsh((S + S.T) / 2)[::-1], 0, None)


def _level(values: np.ndarray, threshold: float, relative_to: str | None) -> float:
    return threshold * {"max": values[0], "trace": values.sum(), None: 1.0}[relative_to]


def _scaled(
    groups: list[Group], base: dict[str, float], cost: Any, budget: float | None, which: int, round_to: int,
    growth: bool,
    floor: int,
) -> dict[str, int]:  # fmt: skip
    """One common factor of all widths, by bisection on the cost."""
    most = {g.name: 16 * g.width if growth else g.width for g in groups}

    def widths(scale: float, share: float | None) -> dict[str, int]:
        found = {}
        for g in groups:
            wanted = scale * base[g.name]
            if share is not None:  # within a factor of 2 of uniform
                wanted = float(np.clip(wanted, share * g.width / 2, 2 * share * g.width))
            k = max(round_to * round(wanted / round_to), min(round_to * math.ceil(floor / round_to), g.width), 1)
            found[g.name] = int(min(k, most[g.name]))
        return found

    if budget is None:
        return widths(1.0, None)
    full, allowed = cost({})[which], budget * cost({})[which]
    uniform_share = _bisect(lambda s: cost({g.name: max(1, round(s * g.width)) for g in groups})[which], allowed, 4.0)
    scale = _bisect(lambda s: cost(widths(s, uniform_share))[which], allowed, 64.0)
    found = widths(scale, uniform_share)
    if cost(found)[which] > allowed * 1.02:
        raise InputError(
            f"the budget {budget} cannot be met",
            why=f"the floor of {floor} nodes a layer costs {cost(found)[which] / full:.0%}",
            do="ask for more",
        )
    return found


def _bisect(value: Any, allowed: float, high: float) -> float:
    low = 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) <= allowed else (low, middle)
    return low
