"""`compress`: choose the nodes, cut them out, refit what reads them, measure, and guarantee."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from ..checks import nearest
from ..errors import InputError
from .attention.split import split_attentions
from .building import build, measure
from .compressed_model import CompressedModel
from .inputs import Batch, as_batches, check_fits, example, shared_inputs, split
from .planning import GREEDY, make_plan
from .repairing import Settings
from .replacing import recorded
from .scores import SCORES
from .searching import Search
from .telling import teller


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
    qk: float | None = None,
    sequential: bool | None = None,
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
        Where LayerNorm or attention is inside, macs and params compare uniform and marginal widths on a quarter of the
        calibration inputs; at 0.2 or less the nodes are also chosen in two rounds, and kept if that quarter says so.
      error: root of the relative squared error of the output that may be reached, in (0, 1).
      widths: layer -> nodes. Exactly one of these five.
      criterion: "end_to_end", "output" or "input" (greedy), "magnitude", "taylor", "apoz" or "random"; or "pca": as
        "end_to_end", and the residual stream cut in its principal components (with RMSNorm only; it implies `stream`).
      theta: share of the input metric in criterion="output", in [0, 1].
      reconstruct: refit; False gives the plain cut. recalibrate: re-estimate BatchNorm's statistics afterwards (None:
        only without reconstruction, where it matters most).
      ignore: names of modules that keep their width. round_to: widths are multiples of this.
      stream: cut the residual stream too. heads: fraction of the attention heads to keep (None: all). qk: fraction of
        the query and key columns of each head to keep; with either, or `stream`, nn.MultiheadAttention becomes an
        attention with projections of its own.
      sequential: regress on what the compressed layers below give (None: unless attention is cut, where regressing on
        the original's activations was the better). affine: refit intercepts too.
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
    _check_options(model, budgets, criterion, theta, round_to, tau, holdout, heads, qk)
    original = copy.deepcopy(model).eval()
    stream = stream or criterion == "pca"
    parted = split_attentions(original) if heads is not None or qk is not None or stream else []
    if device is not None:
        original = original.to(device)
    place = next((p.device for p in original.parameters()), torch.device("cpu"))
    batches = [batch.to(place) for batch in as_batches(data, model)]
    check_fits(original, example(batches))
    calibration, held_out = split(batches, holdout, seed)
    say = teller(progress)
    settings = Settings(tau=tau, sequential=sequential is not False, affine=affine, seed=seed)
    most = 1.0 if keep is None else keep
    plan_of = partial(
        make_plan,
        ignore=tuple(ignore),
        stream=stream,
        criterion=criterion,
        theta=theta,
        settings=settings,
        most=most,
        by_node=any(value is not None for value in budgets.values()),
        widths=widths,
        say=say,
    )
    plan = plan_of(original, calibration, heads=heads, qk=qk)
    if sequential is None and (plan.heads or plan.pairs):
        settings = replace(settings, sequential=False)

    def make(kept: dict[str, np.ndarray], fitting: list[Batch]) -> CompressedModel:
        return build(plan, kept, fitting, settings, refit=reconstruct, recalibrate=recalibrate, say=say)

    search = Search(plan, make, plan_of, calibration, round_to, seed, refits=reconstruct)
    result = search.to_error(error) if error is not None else search.to_budget(budgets)
    modules = dict(result.model.named_modules())
    result.structure.update({name: [recorded(modules[name])] for name in parted})
    result.report.notes.extend(shared_inputs(calibration, held_out))
    measure(original, result, held_out, confidence)
    say("")
    return result


def _check_options(model, budgets, criterion, theta, round_to, tau, holdout, heads, qk) -> None:
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the model is {type(model).__name__}", do="pass a torch.nn.Module")
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) != 1 and not (not given and (heads is not None or qk is not None)):
        said = " and ".join(given) if given else "none of keep, macs, params, error, widths"
        raise InputError(f"{said} given", do="give exactly one of keep, macs, params, error, widths")
    for name in ("keep", "macs", "params"):
        value = budgets[name]
        if value is not None and not 0 < value <= 1:
            raise InputError(f"{name}={value} is outside (0, 1]", do=f"give a fraction, such as {name}=0.5")
    if budgets["error"] is not None and not 0 < budgets["error"] < 1:
        raise InputError(f"error={budgets['error']} is outside (0, 1)", do="give a relative error, such as error=0.1")
    for name, value in (("heads", heads), ("qk", qk)):
        if value is not None and not 0 < value <= 1:
            raise InputError(f"{name}={value} is outside (0, 1]", do=f"give a fraction, such as {name}=0.5")
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
