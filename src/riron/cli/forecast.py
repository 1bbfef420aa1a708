"""`riron forecast`: the options and nothing else; the work is in `riron.forecast.command`."""

import re
import sys
from typing import Annotated

import typer
import typer.core

NUMBER = re.compile(r"[+-]?[\d.]+")


class ForecastCommand(typer.core.TyperCommand):
    """Lets `--verify` stand without its number."""

    def parse_args(self, ctx, args):
        """Write the number out where it is missing."""
        written = []
        for place, word in enumerate(args):
            written.append(word)
            if word == "--verify" and not (place + 1 < len(args) and NUMBER.fullmatch(args[place + 1])):
                written.append("32")
        return super().parse_args(ctx, written)


def forecast(
    data: Annotated[
        str, typer.Argument(help="CSV, Parquet or NPZ file, '-', sklearn:NAME, openml:ID or hf:NAME.", metavar="DATA")
    ],
    target: Annotated[str | None, typer.Option(help="Column to predict.", metavar="COLUMN")] = None,
    features: Annotated[
        str, typer.Option(help="raw, relu:P, fourier:P, npz:FILE, or ntk:FILE.py (runs that file).")
    ] = "raw",
    batch: Annotated[int | None, typer.Option(help="Rows per step [default: 32, or all if fewer].")] = None,
    step_size: Annotated[str, typer.Option(help="A number, or auto: the best one for the batch.")] = "auto",
    loss: Annotated[str | None, typer.Option(help="square, logistic or softmax [default: square].")] = None,
    momentum: Annotated[float, typer.Option(help="In PyTorch's convention, in [0, 1).")] = 0.0,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="Nesterov's form of the momentum.")] = False,
    schedule: Annotated[
        str, typer.Option(help="constant, linear, cosine, best (searched), or a file of step sizes.")
    ] = "constant",
    warmup: Annotated[int, typer.Option(help="Steps of a linear rise before the schedule.", metavar="STEPS")] = 0,
    average_from: Annotated[
        float | None, typer.Option(help="Average the iterates from this epoch on.", metavar="EPOCH")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Length of the training curve.")] = 10.0,
    budget: Annotated[float | None, typer.Option(help="Longest training to advise, epochs [default: epochs].")] = None,
    ridge: Annotated[float, typer.Option(help="Penalty (ridge/2) |theta|^2.")] = 0.0,
    shuffle: Annotated[str, typer.Option(help="epochs or with-replacement.")] = "epochs",
    test: Annotated[str, typer.Option(help="Held-out share of the rows, or a file of them.")] = "0.2",
    verify: Annotated[
        int | None,
        typer.Option(help="Train K times and compare (at least 16; 32 if no number is given).", metavar="[K]"),
    ] = None,
    impute: Annotated[bool, typer.Option("--impute", help="Fill missing values with the column's median.")] = False,
    decimal: Annotated[str | None, typer.Option(help="Decimal sign of numbers in text: . or ,")] = None,
    no_header: Annotated[bool, typer.Option("--no-header", help="The first line holds data, not names.")] = False,
    groups: Annotated[
        str | None, typer.Option(help="Column of groups that are held out whole; not a feature.", metavar="COLUMN")
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(help="Forecast the learning curve of this scikit-learn estimator.", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of held-out rows, random features and verification.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="Folder for forecast.json, .nc, the figure and the report.", metavar="DIR")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only the results.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do not keep compiled functions on disk.")] = False,
) -> None:
    """Forecast how SGD will go on your own table, before any training; --verify proves it."""
    from riron.forecast.command import run
    from riron.forecast.options import Options, parse_step_size, parse_test

    options = Options(
        data=data,
        target=target,
        features=features,
        batch=batch,
        step_size=parse_step_size(step_size),
        loss=loss,
        momentum=momentum,
        nesterov=nesterov,
        schedule=schedule,
        warmup=warmup,
        average_from=average_from,
        epochs=epochs,
        budget=budget,
        ridge=ridge,
        shuffle=shuffle,
        test=parse_test(test),
        verify=verify,
        impute=impute,
        decimal=decimal,
        header=not no_header,
        groups=groups,
        estimator=estimator,
        seed=seed,
    )
    status = run(options, out=out, force=force, as_object=as_json, quiet=quiet, cache=not no_cache, stdout=sys.stdout)
    raise typer.Exit(status)
