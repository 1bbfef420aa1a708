"""Ranks of the layers of one network for a budget or an error, and the networks made from them."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ...checks import nearest
from ...errors import InputError
from ..building import fit_rows, output_error, size_totals
from ..compressed_model import CompressedModel, Report
from ..groups import CONVOLUTIONS
from ..inputs import Batch, example, main_output, split
from ..repairing import MOST_COLUMNS, Settings, pairs_of, repair
from ..replacing import recorded, replace_layer
from ..tracing import trace
from .directions import Option, Shape, options_of, spend, uniform_share, uniform_within
from .factoring import REFITTED, Factoring, end_to_end_roots, flat_weight, layer_moments, rank_errors, shape_of
from .tucker import Seen

SEARCHES = 6  # networks tried for `error=`
FEW = 16  # inputs below which none are set aside to choose by


class RankSearch:
    """One network and its calibration inputs: choices of ranks, and networks made from them."""

    def __init__(self, original, calibration, has_data, kind, ignore, named, sequential, tau, seed):
        self.original, self.kind, self.seed, self.has_data = original, kind, seed, has_data
        self.settings = Settings(tau=tau, sequential=sequential, seed=seed)
        self.calibration = calibration
        enough = has_data and sum(len(b) for b in calibration) >= FEW
        self.fitting, self.checking = split(calibration, 0.25, seed + 1) if enough else (calibration, [])
        self.trace = trace(original, example(calibration))
        self.modules = dict(original.named_modules())
        self.notes: list[str] = []
        self.names = self._candidates(ignore, named)
        self.shapes = {name: shape_of(name, self.modules[name], self.trace) for name in self.names}
        self.centred = {n: self.modules[n].bias is not None or n in self.trace.norm for n in self.names}
        self.predicted: dict[str, float] = {}
        self._moments: dict[int, Any] = {}
        self._options: dict[str, list[Option]] | None = None
        self.variance = float("nan")

    def _candidates(self, ignore: tuple[str, ...], named: Mapping[str, Any]) -> list[str]:
        for name in (*ignore, *named):
            if name not in self.modules:
                raise InputError(f"the model has no module '{name}'", do=nearest(name, list(self.modules)))
        found = []
        for name, place in sorted(self.trace.order.items(), key=lambda item: item[1]):
            layer, reason = self.modules[name], ""
            if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
                reason = f"'{name}' is a grouped convolution, which is not decomposed"
            elif place < 0:
                reason = f"'{name}' is used more than once"
            elif any(name == part or name.startswith(f"{part}.") for part in ignore):
                continue
            else:
                reason = self._refusal(name)
            if reason and name in named:
                raise InputError(reason)
            if reason:
                self.notes.append(f"not decomposed: {reason}")
            else:
                found.append(name)
        missing = [name for name in named if name not in found]
        if missing:
            raise InputError(f"'{missing[0]}' is not a layer that the model runs")
        return found

    def _refusal(self, name: str) -> str:
        """Why the network does not run with a sequence in the layer's place."""
        model = copy.deepcopy(self.original)
        replace_layer(model, name, [dict(model.named_modules())[name]])
        try:
            with torch.no_grad():
                main_output(example(self.calibration).call(model))
        except Exception as error:
            return f"the network looks into '{name}' ({type(error).__name__}: {str(error)[:80]})"
        return ""

    def given(self, name: str, value: Any) -> tuple[int, int]:
        """Ranks as the user wrote them, checked."""
        shape = self.shapes[name]
        r1, r2 = value if isinstance(value, (tuple, list)) else (value, value)
        if self.kind == "cp" and not shape.one_sided:
            most = min(shape.o * shape.c, shape.o * shape.taps, shape.c * shape.taps)
            if not 1 <= min(r1, r2) <= most:
                raise InputError(f"rank {value} of '{name}' is outside 1..{most}")
            return (min(r1, r2),) * 2
        both = isinstance(value, (tuple, list))
        if not 1 <= r1 <= shape.o or r2 < 1 or (both and r2 > shape.c):
            raise InputError(f"ranks {value} of '{name}' are outside (1..{shape.o}, 1..{shape.c})")
        if shape.one_sided:
            return (min(r1, r2) if shape.taps == 1 else r1, shape.c)
        return r1, min(r2, shape.c)

    def moments(self, batches: list[Batch]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the layers see and the roots of their end-to-end metrics, once for each split."""
        if not self.has_data:
            return {}, {}
        if id(batches) not in self._moments:
            seen = layer_moments(
                self.original, self.names, batches, centred=self.centred, columns=MOST_COLUMNS, seed=self.seed
            )
            roots, self.variance = end_to_end_roots(self.original, self.names, batches, self.trace, self.seed)
            self._moments[id(batches)] = (seen, roots)
        return self._moments[id(batches)]

    def options(self) -> dict[str, list[Option]]:
        """Ways to run each layer, on curves of the error in the end-to-end metric."""
        if self._options is None:
            seen, roots = self.moments(self.fitting)
            self._options = {}
            for name in self.names:
                known = replace(seen[name], H=roots[name])
                errors = rank_errors(self.kind, self.modules[name], self.shapes[name], known, self.seed)
                self._options[name] = options_of(self.kind, self.shapes[name], errors)
        return self._options

    @property
    def _inner(self) -> dict[str, Shape]:
        """All layers but the last, whose rank the number of outputs needs."""
        last = max(self.trace.order, key=self.trace.order.__getitem__)
        return {name: shape for name, shape in self.shapes.items() if name != last}

    @property
    def adds_up(self) -> bool:
        """Whether errors of layers can be added: not through LayerNorm and attention."""
        mixed = (nn.LayerNorm, nn.MultiheadAttention)
        return not any(isinstance(m, mixed) or "RMSNorm" in type(m).__name__ for m in self.original.modules())

    def allocations(self, name: str, value: float) -> list[dict[str, tuple[int, int]]]:
        """Ranks for a budget: one choice, or several to be compared."""
        if name == "keep":
            return [self._some(uniform_share(self.kind, self._inner, value))]
        totals = size_totals(self.original, self.original, self.trace, self.trace)
        spent = sum(shape.full()[0 if name == "params" else 1] for shape in self.shapes.values())
        budget = value * totals[f"{name}_before"] - (totals[f"{name}_before"] - spent)
        found = []
        if not (self.has_data and self.adds_up):
            last = {n: s.full()[0 if name == "params" else 1] for n, s in self.shapes.items() if n not in self._inner}
            found.append(uniform_within(self.kind, self._inner, name, budget - sum(last.values())))
        if self.has_data:
            chosen = spend(self.options(), name, budget=budget)
            found.append({layer: option.ranks for layer, option in chosen.items() if option.ranks is not None})
        return [self._some(choice) for choice in found] if value < 1 else [{}]

    def _some(self, chosen: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        if not chosen:
            raise InputError("no layer would get cheaper", do="ask for smaller ranks")
        return chosen

    def best(self, choices: list[dict[str, tuple[int, int]]], weighting: str | None) -> CompressedModel:
        """The network with the least error on the inputs set aside, made again from all calibration inputs."""
        trials = [(c, w) for c in choices for w in self._weightings(weighting)]
        if len(trials) > 1 and self.checking:
            errors = [self.error_of(self.make(c, w, self.fitting)) for c, w in trials]
            trials = [trials[min(range(len(trials)), key=errors.__getitem__)]]
        return self.make(*trials[0], self.calibration)

    def _weightings(self, weighting: str | None) -> tuple[str, ...]:
        if weighting is not None:
            return (weighting,)
        return ("both", "end_to_end", "plain") if self.has_data else ("plain",)

    def error_of(self, done: CompressedModel) -> float:
        """Relative squared error on the inputs set aside."""
        return output_error(self.original, done.model, self.checking)[0]

    def make(self, chosen: dict[str, tuple[int, int]], weighting: str, batches: list[Batch]) -> CompressedModel:
        """The network with layers in place of those chosen."""
        seen, roots = self.moments(batches) if weighting != "plain" else ({}, {})
        factoring = Factoring(self.kind, weighting, seen, roots, self.seed, {})
        model, fits = copy.deepcopy(self.original), {}
        modules = dict(model.named_modules())
        if weighting in REFITTED:
            names = {name: name for name in self.modules}
            pairs = []
            for pair in pairs_of(self.original, model, self.trace, {}, {}, names):
                if pair.name in chosen:
                    replace_layer(model, pair.name, [pair.compressed])
                    pair = replace(pair, host=dict(model.named_modules())[pair.name])
                    pair = replace(pair, finish=factoring.finish(pair.name, pair, chosen[pair.name]))
                pairs.append(pair)
            fits = repair(self.original, model, pairs, self.trace, batches, self.settings)
        else:
            for name, ranks in chosen.items():
                layer = modules[name]
                known = factoring.known(name, seen.get(name, Seen()))
                layers, _ = factoring.layers(name, layer, flat_weight(layer), ranks, known)
                if layer.bias is not None:
                    with torch.no_grad():
                        layers[-1].bias.copy_(layer.bias)
                replace_layer(model, name, layers)
        return self._result(model, chosen, fits, factoring)

    def _result(self, model: Any, chosen: dict[str, Any], fits: Any, factoring: Factoring) -> CompressedModel:
        hosts = dict(model.named_modules())
        structure = {name: [recorded(layer) for layer in hosts[name]] for name in chosen}
        errors = {}
        if self._options is not None:
            errors = {
                name: next((o.error for o in self._options[name] if o.ranks == chosen.get(name)), float("nan"))
                / (self.variance or 1.0)
                for name in self.names
            }
        rows = []
        for name, (r1, r2) in chosen.items():
            shape = self.shapes[name]
            row = {"layer": name, "nodes": shape.o, "kept": r1, "inputs": shape.c, "rank_in": r2}
            rows.append({**row, "left": factoring.left.get(name), "predicted_error": errors.get(name)})
        after = trace(model.eval(), example(self.calibration))
        totals = size_totals(self.original, model, self.trace, after)
        totals["predicted_error"] = sum(errors.values()) if errors else None
        totals["weighting"] = factoring.weighting
        return CompressedModel(model, Report(rows, fit_rows(fits), totals, list(self.notes)), None, {}, {}, structure)

    def to_error(self, error: float, weighting: str | None) -> CompressedModel:
        """The cheapest network whose error stays below `error` on the inputs set aside."""
        if not self.checking:
            raise InputError(f"error= needs at least {FEW} calibration inputs", do="pass more inputs")
        self.moments(self.fitting)
        allowed, low, high, accepted = error**2, 0.0, float("inf"), None
        weightings = self._weightings(weighting)
        for _ in range(SEARCHES):
            chosen = self._within(allowed)
            if not chosen:
                break
            trials = [self.make(chosen, w, self.fitting) for w in weightings]
            reached, best = min(((self.error_of(t), k) for k, t in enumerate(trials)), key=lambda pair: pair[0])
            weightings = (weightings[best],)
            if reached <= error**2:
                accepted, low = trials[best], allowed
                if reached > 0.7 * error**2:
                    break
            else:
                high = allowed
            step = allowed * min(max(error**2 / max(reached, 1e-300), 0.1), 10.0)
            inside = low < step < high
            allowed = step if inside else (max(low, allowed / 10) * min(high, allowed * 10)) ** 0.5
        if accepted is None:
            raise InputError(
                f"error={error} was not met in {SEARCHES} trials",
                do="allow a larger error, or pass more calibration inputs",
            )
        accepted.report.totals["checked_error"] = "a quarter of the calibration inputs chose the ranks"
        return accepted

    def _within(self, allowed: float) -> dict[str, tuple[int, int]]:
        if not self.adds_up:
            return uniform_share(self.kind, self._inner, max(1 - allowed**0.5, 1e-9))
        options = self.options()
        chosen = spend(options, "macs", most=allowed * self.variance)
        return {name: option.ranks for name, option in chosen.items() if option.ranks is not None}
