"""What `compress` and `reconstruct` return: the smaller network, what was measured, and what is guaranteed."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from ..guarantees.disagreement import Disagreement, disagreement_limit
from .replacing import rebuild

WEIGHTS, RECORD, FORMAT = "model.safetensors", "riron.json", 1


@dataclass(frozen=True)
class Report:
    """What was cut and what it cost; `print` shows a table.

    Attributes:
      layers: one dictionary a group: layer, nodes before and after, degrees of freedom at the cut, predicted error
        (relative to the variance of the output, with the end-to-end metric).
      refits: one a refitted layer: layer, error of its pre-activation before and after, relative to its variance.
      totals: parameters and multiplications before and after, held-out error of the output and its standard error.
      notes: sentences that the reader must know (groups that were not cut, and why; too few rows).
    """

    layers: list[dict[str, Any]]
    refits: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dataset(self) -> Any:
        """The layers as an xarray Dataset with the dimension `layer`; the totals are its attributes."""
        import xarray as xr

        names = [row["layer"] for row in self.layers]
        columns = [key for key in (self.layers[0] if self.layers else {}) if key != "layer"]
        data = {key: ("layer", [row[key] for row in self.layers]) for key in columns}
        return xr.Dataset(data, {"layer": names}, {k: v for k, v in self.totals.items() if v is not None})

    def __str__(self) -> str:
        lines = [f"{'layer':40s} {'nodes':>6s} {'kept':>6s} {'dof':>7s} {'predicted':>10s}"]
        for row in self.layers:
            numbers = "".join(
                f" {row[key]:{form}}" if row.get(key) is not None else " " * (size + 1)
                for key, form, size in (("dof", "7.1f", 7), ("predicted_error", "10.3g", 10))
            )
            lines.append(f"{row['layer'][-40:]:40s} {row['nodes']:6d} {row['kept']:6d}{numbers}")
        t = self.totals
        if t:
            lines.append(f"parameters {t['params_before']:,} -> {t['params_after']:,}")
            lines.append(f"multiplications {t['macs_before']:,} -> {t['macs_after']:,}")
            if t.get("output_error") is not None:
                se = t["output_error_stderr"]
                lines.append(f"relative squared error of the output, held out: {t['output_error']:.3g} ({se:.1g})")
        return "\n".join(lines + self.notes)


@dataclass
class CompressedModel:
    """A compressed network with its report and its guarantee.

    Attributes:
      model: an ordinary module of the original's class, with smaller layers.
      report: what was cut and measured. guarantee: how often the decision changes, or None without held-out inputs.
      kept: group -> indices of the nodes that were kept.
      structure: layer -> the layers that stand in its place, where it was decomposed or its attention split.
    """

    model: Any
    report: Report
    guarantee: Disagreement | None = None
    kept: dict[str, list[int]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    structure: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def anytime(self, confidence: float = 0.95) -> Disagreement:
        """The guarantee in the form that stays valid however often it is looked at while inputs arrive."""
        if self.guarantee is None:
            raise InputError("there were no held-out inputs", do="pass holdout > 0")
        g = self.guarantee
        return disagreement_limit(g.disagreements, g.n, confidence=confidence, kind="anytime")

    def save(self, path: str | Path) -> Path:
        """Writes a folder: weights (safetensors) and the cut (json). No pickle.

        Returns: the folder.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in self.model.state_dict().items()}
        safetensors.torch.save_file(tensors, folder / WEIGHTS)
        record = {
            "format": FORMAT,
            "kept": self.kept,
            "attributes": self.attributes,
            "structure": self.structure,
            "report": asdict(self.report),
            "guarantee": None if self.guarantee is None else asdict(self.guarantee),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1, default=float), encoding="utf-8")
        return folder

    def __str__(self) -> str:
        return f"{self.report}" + ("" if self.guarantee is None else f"\n{self.guarantee}")


def load(path: str | Path, model_fn: Callable[[], Any]) -> CompressedModel:
    """A compressed model from its folder.

    Args:
      path: what `save` was given.
      model_fn: makes the full-size network (your class, or a function); it is cut to the stored widths.

    Raises:
      InputError: no such folder, another format, or a network that the record does not fit.
    """
    folder = Path(path)
    if not (folder / RECORD).exists() or not (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder} holds no compressed model ({RECORD} and {WEIGHTS})", do="pass what `save` was given"
        )
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / RECORD} is not JSON", do="save the model again") from error
    if record.get("format") != FORMAT:
        raise InputError(f"{folder} has format {record.get('format')} and this riron reads {FORMAT}")
    model = model_fn()
    modules = dict(model.named_modules())
    for name, layers in record["structure"].items():
        _known(name, modules, model)
        rebuild(model, name, layers)
        modules = dict(model.named_modules())
    for name in record["attributes"]:
        _known(name, modules, model)
    for name, values in record["attributes"].items():
        for key, value in values.items():
            setattr(modules[name], key, tuple(value) if isinstance(value, list) else value)
    _fill(model, safetensors.torch.load_file(folder / WEIGHTS))
    report = Report(**record["report"])
    guarantee = None if record["guarantee"] is None else Disagreement(**record["guarantee"])
    model.eval()
    return CompressedModel(model, report, guarantee, record["kept"], record["attributes"], record["structure"])


def _known(name: str, modules: dict[str, Any], model: Any) -> None:
    if name not in modules:
        raise InputError(f"{type(model).__name__} has no layer '{name}'", do="pass the class that was compressed")


def _fill(model: Any, tensors: dict[str, Any]) -> None:
    """Puts tensors of any shape into the model's parameters and buffers."""
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in tensors] + [k for k in tensors if k not in wanted]
    if missing:
        raise InputError(
            f"{type(model).__name__} and the stored weights differ in '{missing[0]}' and {len(missing) - 1} others",
            do="pass the class that was compressed",
        )
    modules = dict(model.named_modules())
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        module = modules[owner]
        if wanted[name].dim() != tensor.dim():
            raise InputError(f"'{name}' has {wanted[name].dim()} axes and the stored one {tensor.dim()}")
        if key in module._parameters:
            old = module._parameters[key]
            module._parameters[key] = torch.nn.Parameter(tensor.to(old.dtype), requires_grad=old.requires_grad)
        else:
            module._buffers[key] = tensor


def changed_attributes(original: Any, compressed: Any) -> dict[str, dict[str, Any]]:
    """Sizes (whole numbers and tuples of them) in which the modules of two models differ: module -> name -> value."""
    old = dict(original.named_modules())
    plain = lambda v: isinstance(v, int) or (isinstance(v, tuple) and all(isinstance(x, int) for x in v))
    found: dict[str, dict[str, Any]] = {}
    for name, module in compressed.named_modules():
        if name not in old:
            continue
        before = vars(old[name])
        after = {k: v for k, v in vars(module).items() if plain(v) and k in before and k != "training"}
        differ = {k: list(v) if isinstance(v, tuple) else v for k, v in after.items() if before[k] != v}
        if differ:
            found[name] = differ
    return found
