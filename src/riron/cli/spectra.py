"""`riron spectra`: the options and nothing else; the work is in `riron.torch.spectral.command`."""

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


def spectra(
    model: ModelArgument,
    weights: WeightsOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="NPZ with X, or an array for each named argument of the model; without it the weights alone.",
            metavar="NPZ",
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for spectra.json and spectra.png.", metavar="DIR")] = None,
    lam: Annotated[
        list[float] | None,
        typer.Option(
            help="Level of the degrees of freedom, in mean eigenvalues; may be repeated. Default .1, .01, .001."
        ),
    ] = None,
    conv: Annotated[
        str, typer.Option(help="Weights of convolutions as slices (WeightWatcher's) or matrix.")
    ] = "slices",
    null: Annotated[str, typer.Option(help="Noise: permuted entries of the weight, or gaussian.")] = "permuted",
    draws: Annotated[int, typer.Option(help="Matrices of noise for each p-value; 0 for none.")] = 200,
    ignore: IgnoreOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Dimensions and spectra of a trained PyTorch network's activations and weights. Executes MODEL.py."""
    run_spectra = worker("spectra", "spectral.command", "run_spectra")
    options = {"lam": tuple(lam)} if lam else {}
    run_spectra(
        model,
        weights=weights,
        data=data,
        out=out,
        force=force,
        as_json=as_json,
        quiet=quiet,
        say=print,
        conv=conv,
        null=null,
        draws=draws,
        ignore=tuple(ignore or ()),
        seed=seed,
        **options,
    )
