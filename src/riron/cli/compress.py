"""`riron compress`: the options and nothing else; the work is in `riron.torch.command`."""

from typing import Annotated

import typer

from .torch_options import (
    ForceOption,
    IgnoreOption,
    JsonOption,
    ModelArgument,
    QuietOption,
    SeedOption,
    WeightsOption,
    worker,
)


def compress(
    model: ModelArgument,
    data: Annotated[
        str, typer.Option(help="NPZ with X (and y), or an array for each named argument of the model.", metavar="NPZ")
    ],
    out: Annotated[str, typer.Option(help="Folder for the weights (safetensors) and the record.", metavar="DIR")],
    weights: WeightsOption = None,
    keep: Annotated[float | None, typer.Option(help="Fraction of the nodes of every layer, in (0, 1].")] = None,
    macs: Annotated[float | None, typer.Option(help="Fraction of the multiplications.")] = None,
    params: Annotated[float | None, typer.Option(help="Fraction of the parameters.")] = None,
    error: Annotated[float | None, typer.Option(help="Relative error of the output that may be reached.")] = None,
    heads: Annotated[float | None, typer.Option(help="Fraction of the attention heads.")] = None,
    qk: Annotated[
        float | None, typer.Option(help="Fraction of the query and key columns of each attention head.")
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="end_to_end, output, input, pca, magnitude, taylor, apoz or random.")
    ] = "end_to_end",
    stream: Annotated[bool, typer.Option("--stream", help="Cut the residual stream too.")] = False,
    ignore: IgnoreOption = None,
    round_to: Annotated[int, typer.Option(help="Widths are multiples of this.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="Cut only, without reconstruction.")] = False,
    holdout: Annotated[float, typer.Option(help="Share of the inputs for the guarantee.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Of the guarantee.")] = 0.95,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compress a trained PyTorch network and repair it, from inputs without labels. Executes MODEL.py."""
    run_compress = worker("compress", "command", "run_compress")
    run_compress(
        model,
        weights=weights,
        data=data,
        out=out,
        force=force,
        as_json=as_json,
        quiet=quiet or as_json,
        say=print,
        keep=keep,
        macs=macs,
        params=params,
        error=error,
        heads=heads,
        qk=qk,
        criterion=criterion,
        stream=stream,
        ignore=tuple(ignore or ()),
        round_to=round_to,
        reconstruct=not plain,
        holdout=holdout,
        confidence=confidence,
        seed=seed,
    )
