"""What `spectra` returns: a table, the spectra themselves, and their picture."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import nearest
from ...errors import InputError
from ...theory.degrees_of_freedom import at_relative_levels

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

LEVELS = np.geomspace(1e-6, 1e2, 81)  # of the curves of N, in units of the mean eigenvalue
BY_LEVEL = ("dof", "visible_dof", "intrinsic_parameters")  # one number for each lam


@dataclass
class Spectra:
    """Spectra of a network; `print` shows a table.

    Attributes:
      lam: levels of the degrees of freedom, in units of the mean eigenvalue.
      table: one dictionary a layer. Of activations (with data): nodes, samples, dof and visible_dof (one for each lam;
        visible: in the metric of what reads the nodes), participation, stable_rank, entropy_rank, numerical_rank,
        decay_exponent with its stderr, first, last and residual, parameters and intrinsic_parameters. Of weights: rows,
        columns, copies, alpha with tail, xmin, distance, sigma, p_value, null_mean, null_sd, draws and warning, bulk_
        variance, lower and upper, spike_threshold, spikes, norm, spectral_norm (the largest eigenvalue of W^T W, as
        WeightWatcher has it), weight_stable_rank, alpha_weighted, log_alpha_norm.
      activations, visible, weights: layer -> eigenvalues, largest first.
      notes: sentences that the reader must know.
    """

    lam: tuple[float, ...]
    conv: str = "slices"
    null: str = "permuted"
    table: list[dict[str, Any]] = field(default_factory=list)
    activations: dict[str, np.ndarray] = field(default_factory=dict)
    visible: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ends: set[str] = field(default_factory=set, repr=False)

    def __getitem__(self, layer: str) -> dict[str, Any]:
        for row in self.table:
            if row["layer"] == layer:
                return row
        raise InputError(f"there is no layer '{layer}'", do=nearest(layer, [row["layer"] for row in self.table]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, for JSON."""
        layers = []
        for row in self.table:
            parts = {"activation": self.activations, "visible": self.visible, "weight": self.weights}
            found = {
                f"{kind}_spectrum": part[row["layer"]].tolist() for kind, part in parts.items() if row["layer"] in part
            }
            layers.append({**row, **found})
        return {"lam": list(self.lam), "conv": self.conv, "null": self.null, "layers": layers, "notes": self.notes}

    def to_xarray(self) -> "xr.Dataset":
        """A Dataset with dims layer, index (of the eigenvalue, largest first) and lam; NaN where there is nothing.

        The curves of N, `dof_curve` and `visible_dof_curve`, have the dim level, lam over the mean eigenvalue.
        """
        import xarray as xr

        names = [row["layer"] for row in self.table]
        longest = max(len(values) for part in (self.activations, self.weights) for values in part.values())
        data: dict[str, Any] = {}
        for kind, part in (("activation", self.activations), ("visible", self.visible), ("weight", self.weights)):
            if part:
                block = np.full((len(names), longest), np.nan)
                for k, name in enumerate(names):
                    values = part.get(name, np.zeros(0))
                    block[k, : len(values)] = values
                data[f"{kind}_spectrum"] = (("layer", "index"), block)
        for kind, part in (("dof_curve", self.activations), ("visible_dof_curve", self.visible)):
            if part:
                nothing = np.full(len(LEVELS), np.nan)
                curves = [at_relative_levels(part[name], LEVELS) if name in part else nothing for name in names]
                data[kind] = (("layer", "level"), np.array(curves))
        keys = dict.fromkeys(key for row in self.table for key in row if key != "layer")
        for key in keys:
            column = [row.get(key) for row in self.table]
            if key in BY_LEVEL:
                empty = [np.nan] * len(self.lam)
                data[key] = (("layer", "lam"), np.array([empty if v is None else v for v in column]))
            elif key == "warning":
                data[key] = ("layer", [v or "" for v in column])
            else:
                data[key] = ("layer", np.array([np.nan if v is None else v for v in column], dtype=np.float64))
        attrs = {"conv": self.conv, "null": self.null}
        coords = {"layer": names, "index": np.arange(1, longest + 1), "lam": list(self.lam)}
        if self.activations:
            coords["level"] = LEVELS
        return xr.Dataset(data, coords, attrs)

    def plot(self, layers: list[str] | None = None) -> "Figure":
        """A Matplotlib figure: a row for each layer (default: the eight with the most weights).

        Raises:
          InputError: a name that is not in the table.
        """
        from .picture import draw_spectra

        names = [row["layer"] for row in self.table]
        if layers is None:
            largest = sorted(names, key=lambda name: -self[name]["parameters"])[:8]
            layers = [name for name in names if name in largest]
        return draw_spectra(self, [self[name] for name in layers])

    def __str__(self) -> str:
        lines = [*self._activation_lines(), *self._weight_lines()]
        return "\n".join(lines + self.notes)

    def _activation_lines(self) -> list[str]:
        if not self.activations:
            return []
        middle = len(self.lam) // 2
        levels = "".join(f" {f'N({lam:g})':>9s} {'seen':>6s}" for lam in self.lam)
        head = f"{'layer':32s} {'nodes':>6s}{levels} {'particip.':>9s} {'decay':>16s}"
        lines = [f"{head} {'weights':>10s} {'intrinsic':>10s}"]
        for row in self.table:
            if "dof" not in row:
                continue
            both = zip(row["dof"], row["visible_dof"], strict=True)
            counts = "".join(f" {a:9.1f} {b:6.1f}" for a, b in both)
            exponent, own, decay = row["decay_exponent"], row.get("intrinsic_parameters"), ""
            if exponent is not None:
                decay = f"j^-{exponent:.2f}, {row['decay_first']}-{row['decay_last']}"
            few = f"{row['parameters']:10,d}" + (f" {own[middle]:10,.0f}" if own else "")
            head = f"{row['layer'][-32:]:32s} {row['nodes']:6d}{counts}"
            lines.append(f"{head} {row['participation']:9.1f} {decay:>16s} {few}")
        said = "N(lam): degrees of freedom at lam times the mean eigenvalue; seen: in the metric of the layer's weight"
        return [*lines, f"{said}; intrinsic: weights at lam = {self.lam[middle]:g}", ""]

    def _weight_lines(self) -> list[str]:
        head = f"{'layer':32s} {'matrix':>16s} {'alpha':>6s} {'tail':>5s} {'noise':>12s}"
        lines = [f"{head} {'p':>6s} {'spikes':>6s} {'stable':>7s}"]
        for row in self.table:
            times = f"{row['copies']} x " if row["copies"] > 1 else ""
            shape = f"{times}{row['rows']} x {row['columns']}"
            alpha = f"{row['alpha']:6.2f} {row['tail']:5d}" if row["alpha"] is not None else f"{'-':>6s} {'-':>5s}"
            null = f"{row['null_mean']:.1f} ± {row['null_sd']:.1f}" if row["null_mean"] is not None else "-"
            p = f"{row['p_value']:6.3f}" if row["p_value"] is not None else f"{'-':>6s}"
            said = f"  {row['warning']}" if row["warning"] else ""
            name, stable = row["layer"][-32:], row["weight_stable_rank"]
            lines.append(f"{name:32s} {shape:>16s} {alpha} {null:>12s} {p} {row['spikes']:6d} {stable:7.1f}{said}")
        kind = "its entries permuted" if self.null == "permuted" else "Gaussian entries"
        return [*lines, f"noise: alpha of matrices of the same shape, {kind}; p: share of them with an alpha as small"]
