"""Running a study: dots from the results store, the line, the verdict, and the wrong lines that must fail."""

import time
from functools import partial
from typing import Any

from .. import __version__
from ..lab.files import new_folder
from ..lab.progress import Progress, Show
from ..lab.verdict import double_until_decided, judge, judge_mutations
from .base import Study, evaluate
from .cards import load
from .kept import Kept, check_seeds
from .one_thread import one_thread
from .result import Result

START, LOOKS = 64, 5  # without a number of seeds: 64, doubled at most four times
CHEAP = 0.3  # seconds for all lines below which a run also searches what its verdict would notice


def run(
    name: str,
    *,
    seeds: int | None = None,
    size: str = "quick",
    out: str | None = None,
    force: bool = False,
    full: bool = False,
    cache: bool = True,
    progress: Show = None,
    **parameters: Any,
) -> Result:
    """Runs a study: simulates it, predicts it, and judges whether dots and line agree.

    Args:
      name: of the study, as `riron list` shows it.
      seeds: independent runs at each size; without it 64, doubled up to four times while undecided.
      size: "quick" or "paper", the sequence of sizes.
      out: a folder to write result.nc, verdict.json, figure.png, figure.svg and report.html into.
      force: write into `out` although it holds files.
      full: search for each number of the theory the smallest error that would be noticed, even where this is slow.
      cache: read and keep results in the store.
      progress: True for a bar on stderr, or a function of (done, total, label).
      **parameters: of the study, as `riron show` lists them.
    Returns: a Result, with `.verdict`, `.dataset`, `.plot()`, `.animate()` and `.save(folder)`.
    Raises: InputError for a name, parameter or size that is not known or out of range; nothing is written then.
    """
    study = load(name).make(**parameters)
    study.ladder(size)  # refuses a size that is not known, before the folder is made
    check_seeds(seeds)
    run = partial(execute, study, size, seeds=seeds, full=full, cache=cache, progress=progress)
    if out is None:
        return run()
    with new_folder(out, force=force) as folder:
        result = run()
        result.write(folder)
    return result


def execute(
    study: Study,
    size: str = "quick",
    *,
    seeds: int | None = None,
    full: bool = False,
    cache: bool = True,
    progress: Show = None,
) -> Result:
    """Runs a study object; arguments as in `run`."""
    with one_thread():
        return _execute(study, size, seeds, full, cache, progress)


def _execute(study: Study, size: str, seeds: int | None, full: bool, cache: bool, progress: Show) -> Result:
    start = time.monotonic()
    ladder, claims = study.ladder(size), tuple(study.claims())
    check_seeds(seeds)
    prediction = {d: study.predict(d) for d in ladder}
    clock = time.monotonic()
    line = {d: evaluate(call) for d, call in prediction.items()}
    cheap = time.monotonic() - clock < CHEAP
    kept = Kept(study, cache=cache)

    def measure(count: int) -> tuple[dict, dict]:
        with Progress(len(ladder), f"{study.name()}, {count} seeds", progress) as bar:
            found = {}
            for d in ladder:
                found[d] = kept.dots(d, count, line[d], show=bar)
                bar.advance()
        return found, line

    if seeds is None:
        measured, _, report = double_until_decided(measure, partial(judge, claims), start=START, looks=LOOKS)
    else:
        measured, _ = measure(seeds)
        report = judge(claims, measured, line)
    looks = report["looks"]
    beside: dict[str, dict] = {}
    for d in ladder:
        for label, call in study.beside(d).items():
            beside.setdefault(label, {})[d] = evaluate(call)
    verdict = {
        "study": study.name(),
        "verdict": report.pop("verdict"),
        "parameters": study.parameters(),
        "size": size,
        "version": __version__,
        **report,
        "mutations": judge_mutations(claims, measured, prediction, study.mutations, looks=looks),
        "notices": kept.notices(measured, prediction, line, looks, search=full or cheap),
        "beside": {label: _short(judge(claims, measured, other, looks=looks)) for label, other in beside.items()},
        "seconds": round(time.monotonic() - start, 3),
    }
    return Result(study=study, verdict=verdict, dots=measured, line=line, beside=beside)


def _short(report: dict) -> dict:
    """What the verdict says of a theory that stands beside the line."""
    keys = ("variable", "verdict", "reason", "worst", "critical", "line_over_dots", "would_notice")
    comparisons = [{key: entry.get(key) for key in keys} for entry in report["comparisons"]]
    return {"verdict": report["verdict"], "comparisons": comparisons}
