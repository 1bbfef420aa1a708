"""`decompose`: several smaller layers in place of one, by Tucker-2 or a canonical decomposition, weighted by the data.

Directions instead of nodes: a convolution becomes 1x1 (c -> r2), the kernel (r2 -> r1), 1x1 (r1 -> o), or, with
kind="cp", 1x1 (c -> R), one kernel for each component, 1x1 (R -> o). Each layer is first refitted to what the original
computes there from what the decomposed layers below give, then truncated in the metric of what it reads.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn  # pyright: ignore[reportMissingImports]

from ...checks import nearest
from ...errors import InputError
from ..attention.split import split_attentions
from ..building import measure
from ..compressed_model import CompressedModel
from ..inputs import as_batches, check_fits, example, shared_inputs, split
from ..replacing import recorded
from .factoring import WEIGHTINGS
from .rank_search import RankSearch

KINDS = ("tucker", "cp")


def decompose(
    model: Any,
    data: Any = None,
    *,
    kind: str = "tucker",
    keep: float | None = None,
    ranks: Mapping[str, Any] | None = None,
    macs: float | None = None,
    params: float | None = None,
    error: float | None = None,
    weighting: str | None = None,
    ignore: Iterable[str] = (),
    sequential: bool = True,
    tau: float = 1e-4,
    example_inputs: Any = None,
    holdout: float = 0.5,
    confidence: float = 0.95,
    seed: int = 0,
) -> CompressedModel:
    """Replaces layers by products of smaller ones.

    Args:
      model: any module; copied, never changed.
      data: inputs, for the weighting, the refit and the measurement; None: the weights alone decide.
      kind: "tucker" or "cp". Linear, 1x1 and one-channel layers become two layers in either.
      keep: fraction of the outputs and inputs of every layer that is kept as a rank; the last layer stays.
      ranks: layer -> (output rank, input rank), or one number; for linear and 1x1 layers the smaller counts.
      macs, params: fraction in (0, 1] of the multiplications or parameters of the whole network, spent by marginal gain
        on curves of the end-to-end error (uniform shares without data, or where LayerNorm or attention is inside and
        the curves do not give the smaller error on inputs set aside).
      error: root of the relative squared error of the output that may be reached, in (0, 1). Exactly one of these five.
        Layers whose factors would cost more than they do stay as they are, unless `ranks` names them.
      weighting: "both" (outputs and inputs as the data give them), "end_to_end" (outputs by what they do to the
        network's output as well), "input" (moments of the channels alone) or "plain" (none). None: the best of
        "both", "end_to_end" and "plain" on a quarter of the calibration inputs; "plain" without data.
      ignore: modules that stay. sequential: refit on what the decomposed layers below give. tau: smallest ridge.
      example_inputs: needed without data. holdout, confidence, seed: as in `compress`.

    nn.MultiheadAttention becomes an attention with linear layers of its own, which are decomposed like others.

    Returns: a CompressedModel.

    Raises:
      InputError: not exactly one budget or one out of range, ranks outside 1..size, an unknown layer or name, a layer
        that cannot be decomposed, no layer that would get cheaper, an error that is not met.

    Source: Tucker-2 after Kim et al., ICLR 2016; CP and Tucker rank as the size of a layer: Li, Sun, Liu, Suzuki &
      Huang, AISTATS 2020. Weighting, refit and allocation are ours.
    """
    budgets = {"keep": keep, "ranks": ranks, "macs": macs, "params": params, "error": error}
    _check(model, data, example_inputs, kind, weighting, budgets, holdout)
    original = copy.deepcopy(model).eval()
    parted = split_attentions(original)
    batches = as_batches(example_inputs if data is None else data, original)
    check_fits(original, example(batches))
    calibration, held_out = (batches, []) if data is None else split(batches, holdout, seed)
    work = RankSearch(original, calibration, data is not None, kind, tuple(ignore), ranks or {}, sequential, tau, seed)
    if ranks is not None:
        chosen = {name: work.given(name, value) for name, value in ranks.items()}
        done = work.best([chosen], weighting)
    elif error is not None:
        done = work.to_error(error, weighting)
    else:
        given = next((name, value) for name, value in budgets.items() if value is not None)
        done = work.best(work.allocations(*given), weighting)
    whole = {name: [recorded(dict(original.named_modules())[name])] for name in parted}
    done.structure = whole | done.structure
    done.report.notes.extend(shared_inputs(calibration, held_out))
    measure(original, done, held_out, confidence)
    return done


def _check(model, data, example_inputs, kind, weighting, budgets, holdout) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {type(model).__name__}", do="pass a torch.nn.Module")
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) != 1:
        said = " and ".join(given) if given else f"none of {', '.join(budgets)}"
        raise InputError(f"{said} given", do=f"give exactly one of {', '.join(budgets)}")
    for name in ("keep", "macs", "params"):
        value = budgets[name]
        if value is not None and not 0 < value <= 1:
            raise InputError(f"{name}={value} is outside (0, 1]", do=f"give a fraction, such as {name}=0.5")
    if budgets["error"] is not None and not 0 < budgets["error"] < 1:
        raise InputError(f"error={budgets['error']} is outside (0, 1)", do="give a relative error, such as error=0.1")
    if kind not in KINDS:
        raise InputError(f"kind='{kind}' is unknown", do=nearest(kind, KINDS) or "choose tucker or cp")
    if weighting is not None and weighting not in WEIGHTINGS:
        raise InputError(f"weighting='{weighting}' is unknown", do=nearest(weighting, WEIGHTINGS) or str(WEIGHTINGS))
    if not 0 <= holdout < 1:
        raise InputError(f"holdout={holdout} is outside [0, 1)", do="give the share of inputs that are held out")
    if data is None and example_inputs is None:
        raise InputError("there is neither data nor example_inputs", do="pass inputs; no labels are needed")
    if data is None and (budgets["error"] is not None or weighting not in (None, "plain")):
        raise InputError("error= and a weighting by data need data", do="pass inputs; no labels are needed")
