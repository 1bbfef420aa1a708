"""`compress`: choose the nodes, cut them out, refit what reads them, measure, and guarantee."""

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..checks import nearest
from ..errors import InputError
from .building import build, measure
from .compressed_model import CompressedModel
from .inputs import Batch, as_batches, check_fits, example, main_output, shared_inputs, split
from .planning import GREEDY, Plan, make_plan
from .repairing import Settings
from .scores import SCORES
from .widths import marginal, uniform, uniform_to

SEARCHES = 5  # networks tried for `error=`


def compress(
    model: Any,
    data: Any,
    *,
    keep: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    error: float | None = None,
    widths: Mapping[str, int] | None = None,
    criterion: str = "end_to_end",
    theta: float | None = None,
    reconstruct: bool = True,
    recalibrate: bool | None = None,
    ignore: Iterable[str] = (),
    round_to: int = 1,
    stream: bool = False,
    heads: float | None = None,
    sequential: bool = True,
    affine: bool = True,
    tau: float = 1e-4,
    holdout: float = 0.5,
    confidence: float = 0.95,
    device: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> CompressedModel:
    """Cuts nodes out of a trained network and refits what reads them, without labels and without training.

    Args:
      model: any module; it is copied, never changed, and used in evaluation mode.
      data: calibration inputs: a tensor, a tuple or dict of tensors, a DataLoader or any iterable of batches; 256 to
        2000 inputs are enough. Labels are needed by criterion="taylor" alone.
      keep, macs, params: fraction in (0, 1] of the nodes of every layer, of the multiplications, or of the parameters.
      error: root of the relative squared error of the output that may be reached, in (0, 1).
      widths: layer -> nodes. Exactly one of these five.
      criterion: "end_to_end", "output" or "input" (greedy), "magnitude", "taylor", "apoz" or "random".
      theta: share of the input metric in criterion="output", in [0, 1].
      reconstruct: refit; False gives the plain cut. recalibrate: re-estimate BatchNorm's statistics afterwards (None:
        only without reconstruction, where it matters most).
      ignore: names of modules that keep their width. round_to: widths are multiples of this.
      stream: cut the residual stream too. heads: fraction of the attention heads to keep (None: all).
      sequential: regress on what the compressed layers below give. affine: refit intercepts too.
      tau: smallest ridge, relative. holdout: share of the inputs that only measure and guarantee, in [0, 1).
      confidence: of the guarantee. device: where to compute. seed: of splits, probes and subsamples.

    Returns: a CompressedModel.

    Raises:
      InputError: no data, data that does not fit, not exactly one budget or one out of range, an unknown name or
        criterion, labels needed and not given, activations that are not finite, nothing to cut.

    Source: Suzuki, Abe, Murata, Horiuchi, Ito, Wachi, Hirai, Yukishima & Nishimura, Spectral pruning, IJCAI-PRICAI
      2020. End-to-end metric, marginal widths, tap by tap refits and shortcut repair are ours.
    """
    budgets = {"keep": keep, "macs": macs, "params": params, "error": error, "widths": widths}
    _check_options(model, budgets, criterion, theta, round_to, tau, holdout, heads)
    original = copy.deepcopy(model).eval()
    if device is not None:
        original = original.to(device)
    place = next((p.device for p in original.parameters()), torch.device("cpu"))
    batches = [batch.to(place) for batch in as_batches(data, model)]
    check_fits(original, example(batches))
    calibration, held_out = split(batches, holdout, seed)
    say = _teller(progress)
    settings = Settings(tau=tau, sequential=sequential, affine=affine, seed=seed)
    most = 1.0 if keep is None else keep
    plan = make_plan(
        original,
        calibration,
        ignore=tuple(ignore),
        stream=stream,
        heads=heads,
        criterion=criterion,
        theta=theta,
        settings=settings,
        most=most,
        by_node=any(value is not None for value in budgets.values()),
        widths=widths,
        say=say,
    )

    def make(chosen: dict[str, int], fitting: list[Batch]) -> CompressedModel:
        return build(plan, plan.nodes(chosen), fitting, settings, refit=reconstruct, recalibrate=recalibrate, say=say)

    if error is not None:
        result = _to_error(plan, make, calibration, error, round_to, seed)
    else:
        result = make(_widths(plan, budgets, round_to), calibration)
    result.report.notes.extend(shared_inputs(calibration, held_out))
    measure(original, result, held_out, confidence)
    say("")
    return result


def _check_options(model, budgets, criterion, theta, round_to, tau, holdout, heads) -> None:
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the model is {type(model).__name__}", do="pass a torch.nn.Module")
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) != 1 and not (not given and heads is not None):
        said = " and ".join(given) if given else "none of keep, macs, params, error, widths"
        raise InputError(f"{said} given", do="give exactly one of keep, macs, params, error, widths")
    for name in ("keep", "macs", "params"):
        value = budgets[name]
        if value is not None and not 0 < value <= 1:
            raise InputError(f"{name}={value} is outside (0, 1]", do=f"give a fraction, such as {name}=0.5")
    if budgets["error"] is not None and not 0 < budgets["error"] < 1:
        raise InputError(f"error={budgets['error']} is outside (0, 1)", do="give a relative error, such as error=0.1")
    if heads is not None and not 0 < heads <= 1:
        raise InputError(f"heads={heads} is outside (0, 1]", do="give a fraction, such as heads=0.5")
    known = (*GREEDY, *SCORES)
    if criterion not in known:
        raise InputError(f"criterion='{criterion}' is unknown", do=nearest(criterion, known) or f"choose {known}")
    if theta is not None and not 0 <= theta <= 1:
        raise InputError(f"theta={theta} is outside [0, 1]")
    if criterion in SCORES and budgets["error"] is not None:
        raise InputError(f"error= needs the curves of a greedy choice and criterion='{criterion}' has none")
    if not isinstance(round_to, int) or round_to < 1:
        raise InputError(f"round_to={round_to} must be a whole number >= 1")
    if not 0 <= tau < 1:
        raise InputError(f"tau={tau} is outside [0, 1)")
    if not 0 <= holdout < 1:
        raise InputError(f"holdout={holdout} is outside [0, 1)", do="give the share of inputs that are held out")


def _teller(progress: bool) -> Callable[[str], None]:
    if not progress or not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _widths(plan: Plan, budgets: dict[str, Any], round_to: int) -> dict[str, int]:
    """The widths that a budget gives: uniform fractions, or the marginal rule where errors of layers can be added."""
    groups, full = plan.nodewise, {g.name: g.width for g in plan.nodewise}
    if budgets["widths"] is not None:
        for name, width in budgets["widths"].items():
            if not 1 <= int(width) <= full[name]:
                raise InputError(f"width {width} of '{name}' is outside [1, {full[name]}]")
        return {**full, **{k: int(v) for k, v in budgets["widths"].items()}}
    if budgets["keep"] is not None:
        return uniform(groups, budgets["keep"], round_to)
    which = next((k for k in ("params", "macs") if budgets[k] is not None), None)
    if which is None:
        return full
    place = 0 if which == "params" else 1
    cost = lambda widths: plan.cost({**plan.head_widths, **widths})[place]
    budget = budgets[which] * plan.cost({})[place]
    if plan.adds_up:
        return marginal(plan.curves, cost, budget=budget, round_to=round_to)
    return uniform_to(groups, cost, budget, round_to)


def _to_error(
    plan: Plan,
    make: Callable[[dict[str, int], list[Batch]], CompressedModel],
    calibration: list[Batch],
    error: float,
    round_to: int,
    seed: int,
) -> CompressedModel:
    """The smallest network whose error stays below `error` on a quarter of the calibration inputs kept for this.

    The curves say in which order to cut; the measured error says how far.
    """
    fitting, checking = split(calibration, 0.25, seed + 1)
    with torch.no_grad():
        wanted = torch.cat([main_output(b.call(plan.original)).flatten(1).double() for b in checking])
    variance = float(((wanted - wanted.mean(0)) ** 2).sum(1).mean())
    cost = lambda widths: plan.cost({**plan.head_widths, **widths})[0]
    least = sum(float(curve[-1]) for curve in plan.curves.values())
    accepted, allowed, low, high = None, error**2, 0.0, np.inf
    for _ in range(SEARCHES):
        if plan.adds_up:
            chosen = marginal(plan.curves, cost, most=allowed * variance + least, round_to=round_to)
        else:
            chosen = uniform(plan.nodewise, 1 - min(allowed, 1.0), round_to)
        trial = make(chosen, fitting)
        with torch.no_grad():
            got = torch.cat([main_output(b.call(trial.model)).flatten(1).double() for b in checking])
        reached = float(((got - wanted) ** 2).sum(1).mean()) / max(variance, 1e-300)
        if reached <= error**2:
            accepted, low = trial, allowed
        else:
            high = allowed
        if accepted is trial and reached > 0.7 * error**2:
            break
        step = allowed * float(np.clip(error**2 / max(reached, 1e-300), 0.1, 10.0))
        inside = low < step < high
        allowed = step if inside else float(np.sqrt(max(low, allowed / 10) * min(high, allowed * 10)))
    if accepted is None:
        raise InputError(
            f"error={error} was not met in {SEARCHES} trials",
            do="allow a larger error, or pass more calibration inputs",
        )
    accepted.report.totals["checked_error"] = "a quarter of the calibration inputs chose the widths"
    return accepted
