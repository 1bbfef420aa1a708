"""`riron compress`: the options and nothing else; the work is in `riron.torch.command`."""

from typing import Annotated

import typer


def compress(
    model: Annotated[
        str, typer.Argument(help="FILE.py:NAME of a class or function; the file is executed.", metavar="MODEL.py:NAME")
    ],
    data: Annotated[
        str, typer.Option(help="NPZ with X (and y), or an array for each named argument of the model.", metavar="NPZ")
    ],
    out: Annotated[str, typer.Option(help="Folder for the weights (safetensors) and the record.", metavar="DIR")],
    weights: Annotated[
        str | None,
        typer.Option(help=".safetensors, or a state_dict by torch.save; no pickle is executed.", metavar="FILE"),
    ] = None,
    keep: Annotated[float | None, typer.Option(help="Fraction of the nodes of every layer, in (0, 1].")] = None,
    macs: Annotated[float | None, typer.Option(help="Fraction of the multiplications.")] = None,
    params: Annotated[float | None, typer.Option(help="Fraction of the parameters.")] = None,
    error: Annotated[float | None, typer.Option(help="Relative error of the output that may be reached.")] = None,
    heads: Annotated[float | None, typer.Option(help="Fraction of the attention heads.")] = None,
    criterion: Annotated[
        str, typer.Option(help="end_to_end, output, input, magnitude, taylor, apoz or random.")
    ] = "end_to_end",
    stream: Annotated[bool, typer.Option("--stream", help="Cut the residual stream too.")] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A module that keeps its width; may be repeated.", metavar="MODULE")
    ] = None,
    round_to: Annotated[int, typer.Option(help="Widths are multiples of this.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="Cut only, without reconstruction.")] = False,
    holdout: Annotated[float, typer.Option(help="Share of the inputs for the guarantee.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Of the guarantee.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of splits and probes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Compress a trained PyTorch network and repair it, from inputs without labels. Executes MODEL.py."""
    from riron.errors import InputError

    try:
        from riron.torch.command import run_compress
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.startswith("riron"):
            raise
        raise InputError(f"riron compress needs {missing.name}", do='pip install "riron[torch]"') from None
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
        criterion=criterion,
        stream=stream,
        ignore=tuple(ignore or ()),
        round_to=round_to,
        reconstruct=not plain,
        holdout=holdout,
        confidence=confidence,
        seed=seed,
    )
