"""A verdict as lines for the terminal, and as one self-contained page."""

from typing import TYPE_CHECKING, Any

from ..lab.verdict import describe
from .cards import find_card
from .citations import references

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Result


def as_lines(verdict: dict[str, Any]) -> list[str]:
    """The verdict as the command line prints it."""
    lines = describe(verdict)
    lines += [f"  wrong line, {label:<22} -> {answer}" for label, answer in verdict["mutations"].items()]
    lines += [f"  would notice {keyword} {_factors(pair)}" for keyword, pair in verdict["notices"].items()]
    lines += [f"  beside: {label}: {other['verdict']}{_ratios(other)}" for label, other in verdict["beside"].items()]
    return [*lines, summary(verdict)]


def summary(verdict: dict[str, Any]) -> str:
    """The last line: the verdict, what it lacks, and the time it took."""
    reason = "" if verdict["verdict"] == "holds" else f": {verdict['reason']}"
    return f"{verdict['verdict']}{reason}  ({verdict['seeds']} seeds, {verdict['seconds']:.1f} s)"


def as_html(result: "Result", figure: "Figure") -> str:
    """The report of a run: claim, picture, comparisons, wrong lines, parameters, sources."""
    from ..lab.report import page

    verdict, card = result.verdict, find_card(result.study.name())
    mutations = [{"wrong line": label, "verdict": answer} for label, answer in verdict["mutations"].items()]
    noticed = [{"keyword": key, "nearest that are noticed": _factors(p)} for key, p in verdict["notices"].items()]
    others = [{"theory": label, "verdict": o["verdict"] + _ratios(o)} for label, o in verdict["beside"].items()]
    parameters = [
        {"name": p.name, "value": verdict["parameters"][p.name], "meaning": p.meaning, "unit": p.unit}
        for p in card.parameters
    ]
    return page(
        title=card.name,
        claim=card.claim,
        verdict=verdict,
        figures={"Dots: simulation, mean and standard error. Line: theory.": figure},
        tables={
            "Wrong lines, which must fail": mutations,
            "How wrong the theory could be without being noticed": noticed,
            "Other theories of the same dots": others,
            "Parameters": parameters,
        },
        notes=[f"riron {verdict['version']}, size {verdict['size']}, {verdict['seeds']} seeds"],
        sources=[references()[key] for key in card.cites],
    )


def _factors(pair: list[float | None]) -> str:
    return " / ".join("never" if factor is None else f"{100 * (factor - 1):+.0f} %" for factor in pair)


def _ratios(other: dict[str, Any]) -> str:
    found = [(entry["variable"], entry["line_over_dots"]) for entry in other["comparisons"]]
    return "".join(f", {name} line/dots {ratio:.3f}" for name, ratio in found if ratio is not None)
