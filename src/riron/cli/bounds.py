"""`riron bounds`: the options and nothing else; the work is in `riron.torch.generalisation.command`."""

from typing import Annotated

import typer

from .torch_options import ForceOption, JsonOption, ModelArgument, QuietOption, SeedOption, worker


def bounds(
    model: ModelArgument,
    weights: Annotated[
        str,
        typer.Option(
            help="The trained ones: .safetensors, or a state_dict by torch.save; no pickle is executed.", metavar="FILE"
        ),
    ],
    data: Annotated[str, typer.Option(help="NPZ with X and y: all pairs it was trained on.", metavar="NPZ")],
    heldout: Annotated[str | None, typer.Option(help="NPZ with X and y that nothing has used.", metavar="NPZ")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="NPZ with fresh X; default: the held-out X.", metavar="NPZ")
    ] = None,
    init: Annotated[str | None, typer.Option(help="The weights before training.", metavar="FILE")] = None,
    which: Annotated[
        list[str] | None,
        typer.Option(help="One bound, parameter-count, golowich-2018, ...; may be repeated.", metavar="NAME"),
    ] = None,
    delta: Annotated[float, typer.Option(help="Probability with which each bound may fail.")] = 0.05,
    margin_quantile: Annotated[float, typer.Option(help="Of the training margins, for bounds with a margin.")] = 0.1,
    steps: Annotated[int, typer.Option(help="Of the optimisation in PAC-Bayes.")] = 1000,
    epochs: Annotated[int, typer.Option(help="Of the training of companions.")] = 200,
    seed: SeedOption = 0,
    out: Annotated[str | None, typer.Option(help="Folder for bounds.json and bounds.png.", metavar="DIR")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Generalisation bounds of a trained PyTorch classifier beside its measured gap. Executes MODEL.py."""
    run_bounds = worker("bounds", "generalisation.command", "run_bounds")
    run_bounds(
        model,
        weights=weights,
        data=data,
        heldout=heldout,
        unlabelled=unlabelled,
        init=init,
        out=out,
        force=force,
        as_json=as_json,
        quiet=quiet or as_json,
        say=print,
        which=tuple(which) if which else "all",
        delta=delta,
        margin_quantile=margin_quantile,
        steps=steps,
        epochs=epochs,
        seed=seed,
    )
