"""`riron list, show, cite, run, sweep, check`: the studies on the command line."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError

STATUS = {"holds": 0, "fails": 1, "inconclusive": 3}

Name = Annotated[str, typer.Argument(help="Name of the study, as `riron list` shows it.", metavar="NAME")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only the last line.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor keep results and compiled functions.")]
Seeds = Annotated[
    int | None, typer.Option(help="Independent runs [default: 64, doubled while undecided].", metavar="S")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Set a parameter; may be repeated.", metavar="KEY=VALUE")]
Size = Annotated[str, typer.Option(help="quick or paper.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the numbers, the verdict, the figure.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]


def list_studies(as_json: AsJson = False) -> None:
    """List the studies and what they claim."""
    from ..studies.cards import cards

    known = cards()
    if as_json:
        print(_json([card.as_dict() for card in known.values()]))
        return
    width = max(map(len, known), default=0) + 2
    for card in known.values():
        print(f"{card.name:<{width}}{card.claim}")


def show(name: Name, as_json: AsJson = False) -> None:
    """Show one study: its claim, its parameters, its sources."""
    from ..studies.cards import find_card

    card = find_card(name)
    if as_json:
        print(_json(card.as_dict()))
        return
    print(f"{card.name}\n\n{card.claim}")
    if card.text:
        print(f"\n{card.text}")
    print("\nparameters (--set key=value):")
    width = max(len(p.name) for p in card.parameters) + 2
    for p in card.parameters:
        among = f"one of {', '.join(p.choices)}" if p.choices else f"{p.low} to {p.high}"
        unit = f", in {p.unit}" if p.unit else ""
        print(f"  {p.name:<{width}}{p.meaning}{unit}; default {p.default}, {among}")
    print(f"\nsources (riron cite {card.name}): {', '.join(card.cites)}")
    if card.extra:
        print(f'needs: pip install "riron[{card.extra}]"')


def cite(name: Name) -> None:
    """Print the BibTeX entries of the papers that a study rests on."""
    from ..studies.citations import cite

    print(cite(name))


def run(
    name: Name,
    settings: Set = None,
    seeds: Seeds = None,
    size: Size = "quick",
    out: Out = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Run a study: simulate, predict, judge. Exit status: 0 holds, 1 fails, 3 inconclusive."""
    parameters = _parameters(name, settings)
    _prepare(no_cache)
    from ..studies.report import as_lines, summary
    from ..studies.running import run

    result = run(
        name,
        seeds=seeds,
        size=size,
        out=None if out is None else str(out),
        force=force,
        cache=not no_cache,
        progress=not quiet,
        **parameters,
    )
    if as_json:
        print(_json(result.verdict))
    elif quiet:
        print(summary(result.verdict))
    else:
        print("\n".join(as_lines(result.verdict)))
        if out is not None:
            print(f"written to {out}", file=sys.stderr)
    raise typer.Exit(STATUS[result.verdict["verdict"]])


def sweep(
    name: Name,
    over: Annotated[
        list[str] | None,
        typer.Option(help="Values of a parameter; give two [default: the study's own plane].", metavar="KEY=V1,V2,..."),
    ] = None,
    settings: Set = None,
    seeds: Annotated[int, typer.Option(help="Independent runs at each point.", metavar="S")] = 16,
    size: Size = "quick",
    out: Out = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Draw a phase diagram of a study over two of its parameters, with the theory's boundary on it."""
    parameters = _parameters(name, settings)
    axes = _axes(name, over)
    _prepare(no_cache)
    from ..studies.sweeping import sweep

    found = sweep(
        name,
        axes,
        seeds=seeds,
        size=size,
        out=None if out is None else str(out),
        force=force,
        cache=not no_cache,
        progress=not quiet,
        **parameters,
    )
    if as_json:
        print(_json({"observable": found.observable, **found.dataset.to_dict()}))
        return
    table = found.dataset[found.observable].to_pandas()
    print(f"{found.observable} (dots)\n{table.to_string(float_format='%.4g')}")
    if out is not None and not quiet:
        print(f"written to {out}", file=sys.stderr)


def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Studies [default: all].", metavar="[NAME]...", show_default=False)
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Also search the smallest error that would be noticed.")] = False,
    seeds: Seeds = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Check that claims hold and that wrong lines fail. Exit status: 1 if any fails, else 3 if any is inconclusive."""
    from ..studies.cards import catalogue, find_card

    chosen = [find_card(name).name for name in names or catalogue()]
    _prepare(no_cache)
    from ..studies.extras import is_installed
    from ..studies.report import as_lines, summary
    from ..studies.running import run

    reports = []
    for name in chosen:
        extra = find_card(name).extra
        if not names and not is_installed(extra):
            print(f'{name}: left out; it needs pip install "riron[{extra}]"', file=sys.stderr)
            continue
        report = run(name, seeds=seeds, full=full, cache=not no_cache, progress=not quiet).verdict
        reports.append(report)
        if not as_json:
            print(f"{name}: {summary(report)}", flush=True)
            for line in as_lines(report)[:-1] if full and not quiet else []:
                print(f"  {line}")
            for label in _unnoticed(report):
                print(f"  a wrong line goes unseen: {label}")
    verdict = _overall(reports)
    if as_json:
        print(_json({"verdict": verdict, "studies": reports}))
    raise typer.Exit(STATUS[verdict])


def _overall(reports: list[dict[str, Any]]) -> str:
    """`fails` if any claim fails; `inconclusive` if any is, or if a wrong line goes unseen; else `holds`."""
    verdicts = {report["verdict"] for report in reports}
    if "fails" in verdicts:
        return "fails"
    unseen = any(_unnoticed(report) for report in reports)
    return "inconclusive" if "inconclusive" in verdicts or unseen else "holds"


def _unnoticed(report: dict[str, Any]) -> list[str]:
    return [label for label, answer in report["mutations"].items() if answer != "fails"]


def _parameters(name: str, settings: list[str] | None) -> dict[str, Any]:
    """Parameters of the study by name, from the card and the texts of --set, before anything heavy is imported."""
    from ..studies.cards import find_card
    from ..studies.reading import read_settings

    return read_settings(find_card(name), settings or [])


def _axes(name: str, over: list[str] | None) -> dict[str, list[Any]] | None:
    from ..studies.cards import find_card
    from ..studies.reading import read_settings

    if not over:
        return None
    axes = {}
    for text in over:
        key, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"'{text}' has no values", do="write key=1,2,3")
        found = [read_settings(find_card(name), [f"{key}={value}"]) for value in values.split(",")]
        axes.update({known: [entry[known] for entry in found] for known in found[0]})
    return axes


def _prepare(no_cache: bool) -> None:
    """One thread for small matrices, set before NumPy is imported; compiled functions are kept on disk."""
    from ..lab import threads

    threads.limit(1)
    if not no_cache:
        from ..lab.compiling import use_persistent_cache

        use_persistent_cache()


def _json(value: Any) -> str:
    from ..lab.files import as_json

    return as_json(value)
