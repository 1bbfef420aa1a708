"""Refits every layer of a cut network, from input to output, to what its original computes there.

At each layer the regressors are what the compressed network gives, the target is the original's pre-activation of the
surviving outputs, plus, where the layer ends a residual block, what the block's shortcut has lost before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..errors import InputError
from .folding import ChannelMoments, Fit, Moments, mean_intercept, refit
from .groups import CONVOLUTIONS, columns_read, is_depthwise, take_columns
from .inputs import Batch
from .lockstep import Pass
from .memory import give_back
from .rows import choose_positions, node_rows, output_rows, patch_rows, thinned
from .tracing import Additions, Trace

FLOOR = 0.05  # least scale of a BatchNorm through which a shortcut is repaired
MOST_COLUMNS = 1024  # longest patch that is refitted tap by tap
PASSES_FACTOR = 8  # live tensors of a pass, in units of the largest
RESUMED = 4  # passes after which their threads' reserves are given back
PATCHES = 8192  # taken out of an activation at a time


@dataclass(frozen=True)
class Pair:
    """A layer of the original and of the cut network, with what survived.

    Attributes:
      rows: surviving outputs. columns: surviving input positions (of all groups of a grouped convolution).
      scale: of what the layer is to give, in units of what the original gives.
      host: what runs in place of `compressed`, where that is to become several layers; `finish` puts them there,
        given the fit, the moments that it was made from, and whether an intercept is kept.
    """

    name: str
    original: Any
    compressed: Any
    rows: np.ndarray
    columns: np.ndarray
    original_norm: Any = None
    compressed_norm: Any = None
    at_sum: bool = False
    scale: float = 1.0
    host: Any = None
    finish: Callable[[Fit, Moments, bool], None] | None = None

    @property
    def is_cut(self) -> bool:
        return self.finish is not None or self.compressed.weight.shape != self.original.weight.shape

    @property
    def runs(self) -> Any:
        """The module that runs in the compressed network."""
        return self.compressed if self.host is None else self.host


@dataclass(frozen=True)
class Settings:
    """How to refit: ridge, sequential targets, intercepts, shortcut repair, tap by tap, rows and memory."""

    tau: float = 1e-4
    sequential: bool = True
    affine: bool = True
    repair: bool = True
    columns: int = MOST_COLUMNS
    rows_per_column: int = 48
    memory: float = 2**29
    seed: int = 0


def pairs_of(
    original: Any,
    compressed: Any,
    trace: Trace,
    rows: dict[str, np.ndarray],
    columns: dict[str, np.ndarray],
    names: dict[str, str],
) -> list[Pair]:
    """Pairs in order of execution; of two branches that meet in a sum, the larger layer mends what the other lost."""
    old, new = dict(original.named_modules()), dict(compressed.named_modules())
    order = sorted((place, name) for name, place in trace.order.items() if place >= 0)
    pairs = []
    for _, name in order:
        if name not in names:
            continue
        layer, cut = old[name], new[names[name]]
        norm = trace.norm.get(name)
        if norm is not None and getattr(old[norm], "running_mean", None) is None:
            norm = None
        kept = rows[name] if name in rows else np.arange(layer.weight.shape[0])
        into = columns[name] if name in columns else np.arange(columns_read(layer))
        if len(kept) != cut.weight.shape[0] or (not is_depthwise(layer) and len(into) != columns_read(cut)):
            continue
        other = new.get(names.get(norm, norm)) if norm is not None else None
        pairs.append(Pair(name, layer, cut, kept, into, old.get(norm), other, name in trace.sums))
    return pairs


def repair(
    original: Any, compressed: Any, pairs: list[Pair], trace: Trace, batches: list[Batch], settings: Settings,
    *, from_start: bool = False,
) -> dict[str, Fit]:  # fmt: skip
    """Refits the layers of `compressed` in place; both models are in evaluation mode.

    Layers before the first cut are left alone, unless `from_start`.

    Returns: what each refit left, by the original's layer.

    Raises:
      InputError: the two networks run their layers in different orders, or an activation is not finite.
    """
    first = 0 if from_start else next((k for k, pair in enumerate(pairs) if pair.is_cut), None)
    if first is None:
        return {}
    give_back(cycles=True)
    return _Repair(original, compressed, pairs[first:], trace, batches, settings).run()


class _Repair:
    def __init__(self, original, compressed, pairs, trace, batches, settings):
        self.models, self.batches, self.settings, self.trace = (original, compressed), batches, settings, trace
        self.pairs: list[Pair] = pairs
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.refitted: set[str] = set()
        self.at_sum = {p.name for p in pairs if p.at_sum and settings.repair}

    def run(self) -> dict[str, Fit]:
        hooks, fits = self._hooks(), {}
        olds = [Pass(self._work(0, batch)) for batch in self.batches]
        news = [Pass(self._work(1, batch)) for batch in self.batches]
        try:
            pending = list(self.pairs)
            while pending:
                events = self._arrive(olds[0], None)
                name = events[0]
                pair = next((p for p in pending if p.name == name), None)
                if pair is None:
                    raise InputError(f"layer '{name}' is reached twice", do="put it into ignore=")
                active = self._active(pair)
                fits[pair.name] = self._refit(pair, olds[:active], news[:active])
                pending.remove(pair)
                self.refitted.add(pair.name)
        finally:
            for task in (*olds, *news):
                task.stop()
            for hook in hooks:
                hook.remove()
        return fits

    def _active(self, pair: Pair) -> int:
        """How many batches fit into memory from here on: those that come later start with refitted layers."""
        live = self.trace.live.get(pair.name, 1) * max(len(b) for b in self.batches)
        fewest = min(2, len(self.batches))  # one for each fold
        return int(np.clip(self.settings.memory // (PASSES_FACTOR * max(live, 1)), fewest, len(self.batches)))

    def _work(self, which: int, batch: Batch) -> Callable[[], Any]:
        model = self.models[which]

        def work() -> Any:
            with Additions(lambda a, b: self._sum(which, a, b), self._changed):
                return batch.call(model)

        return work

    def _changed(self, tensor: Any) -> None:
        task = Pass.current()
        if task is not None:
            task.memory.pop(id(tensor), None)

    def _hooks(self) -> list[Any]:
        hooks = []
        norms = {}
        for pair in self.pairs:
            if pair.name in self.at_sum:
                for module, norm in ((pair.original, pair.original_norm), (pair.runs, pair.compressed_norm)):
                    hooks.append(module.register_forward_hook(self._remember(pair)))
                    if norm is not None:
                        norms[id(norm)] = norm
            else:
                hooks.append(pair.original.register_forward_hook(self._pause_after(pair)))
                hooks.append(pair.runs.register_forward_pre_hook(self._pause_before(pair)))
        hooks += [norm.register_forward_hook(self._follow) for norm in norms.values()]
        for model in self.models:
            for module in model.modules():
                if isinstance(module, (torch.nn.Identity, torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d)):
                    hooks.append(module.register_forward_hook(self._follow))
        return hooks

    def _remember(self, pair: Pair) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            task = Pass.current()
            if task is not None and not task.memory.get("quiet"):
                task.memory[id(output)] = (pair, inputs[0], output, output)

        return hook

    def _follow(self, module: Any, inputs: Any, output: Any) -> None:
        task = Pass.current()
        if task is not None and not task.memory.get("quiet") and inputs:
            carried = task.memory.pop(id(inputs[0]), None) if isinstance(inputs[0], torch.Tensor) else None
            if carried is not None:
                task.memory[id(output)] = (*carried[:3], output)

    def _pause_after(self, pair: Pair) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            task = Pass.current()
            if task is not None and pair.name not in self.refitted:
                task.pause((pair.name, inputs[0], output, None))

        return hook

    def _pause_before(self, pair: Pair) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            task = Pass.current()
            if task is not None and pair.name not in self.refitted:
                task.pause((pair.name, inputs[0], None, None))

        return hook

    def _sum(self, which: int, a: Any, b: Any) -> Any:
        task = Pass.current()
        if task is None:
            return None
        ends = [(x, y) for x, y in ((a, b), (b, a)) if id(x) in task.memory and task.memory[id(x)][3] is x]
        # of two layers that end here, the larger one comes last and mends what the other has lost
        ends = sorted(ends, key=lambda xy: task.memory[id(xy[0])][0].original.weight.numel())
        branches, renewed = {id(a): a, id(b): b}, False
        for x, y in ends:
            pair, phi, z, _ = task.memory.pop(id(x))
            if pair.name in self.refitted:
                continue
            last = x is ends[-1][0]
            task.pause((pair.name, phi, z, branches[id(y)] if last else None))
            if which == 1:
                task.memory["quiet"] = True
                again = pair.runs(phi)
                branches[id(x)] = again if pair.compressed_norm is None else pair.compressed_norm(again)
                task.memory.pop("quiet")
                renewed = True
        return branches[id(a)] + branches[id(b)] if renewed else None

    def _arrive(self, task: Pass, name: str | None) -> Any:
        """The next event of a pass, or that of a layer by name; events of layers refitted before are passed by."""
        begins = not task.started
        event = task.event if task.event is not None else task.resume()
        if begins:
            give_back()  # each thread has a reserve of its own
        while event is not None and event[0] in self.refitted:
            event = task.resume()
        if event is None or (name is not None and event[0] != name):
            wanted = "a layer that is still to come" if name is None else f"layer '{name}'"
            at = "its end" if event is None else f"layer '{event[0]}'"
            raise InputError(
                f"the two networks run their layers in different orders: one is at {at}, the other at {wanted}",
                do="pass the network that was cut and its original, of one class",
            )
        return event

    def _refit(self, pair: Pair, olds: list[Pass], news: list[Pass]) -> Fit:
        give_back()
        layer, s = pair.compressed, self.settings
        groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
        columns = layer.weight[0].numel()
        outputs = layer.weight.shape[0]
        by_tap = columns <= s.columns
        taps = layer.weight[0, 0].numel()
        mixes = taps > 1 and groups == 1 and len(pair.columns) < pair.original.weight.shape[1]
        most = max(s.rows_per_column * columns, 30_000) // len(olds) + 1
        folds = (Moments(by_tap), Moments(by_tap))
        channel = ChannelMoments()
        norm = pair.compressed_norm
        centred = s.affine and (layer.bias is not None or norm is not None)
        for number, (old, new) in enumerate(zip(olds, news, strict=True)):
            _, phi, z, shortcut = self._arrive(old, pair.name)
            _, kept, _, new_shortcut = self._arrive(new, pair.name)
            kept = kept if s.sequential else node_columns(layer, phi, pair.columns)
            index = choose_positions(layer, z, most, self.generator)
            wanted = output_rows(layer, z, index)[:, pair.rows] * pair.scale
            if not centred and layer.bias is not None:
                wanted = wanted - pair.original.bias.detach()[torch.as_tensor(pair.rows)] * pair.scale
            if shortcut is not None and new_shortcut is not None:
                lost = output_rows(layer, shortcut, index)[:, pair.rows] - output_rows(layer, new_shortcut, index)
                wanted = wanted + lost / scale_of(norm, lost)
            if not bool(torch.isfinite(wanted).all()) or not bool(torch.isfinite(kept).all()):
                raise InputError(
                    f"the activations at layer '{pair.name}' are not finite in batch {number}",
                    do="look for NaN or overflow in the weights or the data",
                )
            for part, goal in zip(index.split(PATCHES), wanted.split(PATCHES), strict=True):
                folds[number % 2].add(patch_rows(layer, kept, part), goal.reshape(len(goal), groups, -1))
            if mixes:
                both = torch.cat([node_rows(layer, phi), node_rows(layer, kept)], dim=1)
                both = thinned(both, max(s.rows_per_column * phi.shape[1], 30_000) // len(olds) + 1, self.generator)
                channel.add(both[:, : -len(pair.columns)], both[:, -len(pair.columns) :])
        weight = pair.original.weight.detach().double()[torch.as_tensor(pair.rows)]
        if mixes:
            A = channel.mixing(torch.as_tensor(pair.columns), tau=s.tau, centred=centred)
            weight = torch.einsum("oc...,ck->ok...", weight, A)
        elif groups == 1 or not is_depthwise(layer):
            weight = take_columns(pair.original, pair.original.weight.detach().double(), pair.columns)
            weight = weight[torch.as_tensor(pair.rows)]
        weight = weight.reshape(groups, outputs // groups, columns) * pair.scale
        if by_tap:
            fit = refit(folds, weight, tau=s.tau, centred=centred)
        else:
            total = folds[0] + folds[1]
            nan = float("nan")
            intercept = mean_intercept(total, weight) if centred else torch.zeros_like(total.z)
            fit = Fit(weight, intercept, nan, nan, nan, s.tau)
        if pair.finish is None:
            store(pair, fit, centred)
        else:
            pair.finish(fit, folds[0] + folds[1], centred)
        for number, (old, new) in enumerate(zip(olds, news, strict=True)):
            old.resume()
            new.resume()
            if number % RESUMED == RESUMED - 1:
                give_back()
        return fit


def node_columns(layer: Any, phi: Any, columns: np.ndarray) -> Any:
    """What the original layer reads, at the surviving positions."""
    if is_depthwise(layer):
        return phi
    index = torch.as_tensor(columns, device=phi.device)
    return phi.index_select(1 if isinstance(layer, CONVOLUTIONS) else phi.ndim - 1, index)


def scale_of(norm: Any, like: Any) -> Any:
    """gamma / sqrt(var + eps) of the BatchNorm behind a layer, away from zero; 1 without."""
    if norm is None:
        return 1.0
    a = torch.rsqrt(norm.running_var + norm.eps)
    a = a if norm.weight is None else a * norm.weight.detach()
    sign = torch.where(a < 0, -1.0, 1.0)
    return (sign * a.abs().clamp_min(FLOOR)).to(like)


def store(pair: Pair, fit: Fit, centred: bool) -> None:
    """Writes a fit into the layer; without a bias the intercept goes into the running mean behind it."""
    layer, norm = pair.compressed, pair.compressed_norm
    with torch.no_grad():
        layer.weight.copy_(fit.weight.reshape(layer.weight.shape))
        if not centred:
            if layer.bias is not None and pair.original.bias is not None:
                layer.bias.copy_(pair.original.bias.detach()[torch.as_tensor(pair.rows)] * pair.scale)
            return
        intercept = fit.intercept.reshape(-1)
        if layer.bias is not None:
            layer.bias.copy_(intercept)
        else:
            norm.running_mean.sub_(intercept.to(norm.running_mean))
