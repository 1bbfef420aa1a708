"""`riron plan`: the options and nothing else; the work is in `riron.forecast.planning`."""

import json
from typing import Annotated

import typer


def plan(
    data: Annotated[
        str, typer.Argument(help="CSV, Parquet or NPZ file, '-', sklearn:NAME, openml:ID or hf:NAME.", metavar="DATA")
    ],
    target: Annotated[str | None, typer.Option(help="Column to predict.", metavar="COLUMN")] = None,
    accuracy: Annotated[float, typer.Option(help="Wanted excess loss over the best network.")] = 0.002,
    neuron: Annotated[str, typer.Option(help="tanh, sigmoid, erf, cos or relu-clipped.")] = "tanh",
    scale: Annotated[float, typer.Option(help="Factor in front of each neuron.")] = 5.0,
    lam1: Annotated[float, typer.Option(help="Strength of the L2 regulariser.")] = 0.05,
    lam2: Annotated[float, typer.Option(help="Temperature: strength of the entropy.")] = 0.05,
    empirical: Annotated[bool, typer.Option("--empirical", help="Measure the constants by short runs.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Train at the plan and compare (needs --empirical).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the held-out rows and the runs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do not keep compiled functions on disk.")] = False,
) -> None:
    """Width, step size, batch and steps of a mean-field network for a wanted accuracy on your own table."""
    from riron.errors import InputError
    from riron.forecast.planning.planning import plan as make
    from riron.forecast.planning.tables import as_mean_field
    from riron.lab.compiling import use_persistent_cache

    if verify and not empirical:
        raise InputError("--verify trains at a plan that only --empirical makes", do="add --empirical")
    if not no_cache:
        use_persistent_cache()
    problem, notes = as_mean_field(data, target=target, neuron=neuron, scale=scale, lam1=lam1, lam2=lam2, seed=seed)
    show = None if quiet or as_json else True
    found = make(problem, accuracy, empirical=empirical, seed=seed, progress=show)
    trained = found.verify(problem) if verify and found.status == "planned" else None  # type: ignore[union-attr]
    if as_json:
        print(json.dumps({**found.as_dict(), "verify": trained and trained._asdict(), "notes": notes}))
    else:
        for line in notes:
            print(line)
        print(found)
        print("\nconstants: " + ", ".join(f"{name} {value:.3g}" for name, value in found.constants.items()))
        print("\nThis rests on:")
        for line in found.assumptions:
            print(f"  - {line}")
        if trained is not None:
            of = f"excess loss {trained.excess:.3g} +- {trained.stderr:.2g}, {trained.ratio:.2f} of what was asked for"
            print(f"\nTrained as planned, {trained.seeds} times: {of}")
    raise typer.Exit(3 if found.status == "inconclusive" else 0)
