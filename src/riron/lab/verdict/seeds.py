"""How many seeds: double them until the verdict is decided, with an honest false-alarm rate."""

from collections.abc import Callable
from typing import Any, Protocol

from ...errors import InputError

HOPELESS = 4  # stop doubling when the seeds asked for are this many times the most that doubling reaches


class Judge(Protocol):
    def __call__(self, dots: Any, line: Any, *, looks: int) -> dict: ...


def double_until_decided(
    run: Callable[[int], tuple[Any, Any]], judge: Judge, *, start: int = 64, looks: int = 5
) -> tuple[Any, Any, dict]:
    """Runs `start` seeds and doubles them while the verdict is inconclusive and more seeds can help.

    Args:
      run: (seeds) -> (dots, line), as `riron.lab.verdict.judge` takes them; called with start, 2 start, ...
      judge: (dots, line, looks=) -> report, such as `partial(judge, claims)`; each look gets alpha/looks.
      start: seeds of the first look.
      looks: at most so many.

    Returns: (dots, line, report) of the last look; the report says how many looks were taken (`looks_taken`).
    """
    if start < 1 or looks < 1:
        raise InputError(f"start={start} and looks={looks} must be whole numbers >= 1")
    most = start * 2 ** (looks - 1)
    for look in range(looks):
        dots, line = run(start * 2**look)
        report = judge(dots, line, looks=looks)
        needed = report["seeds_that_would_decide"]
        if report["verdict"] != "inconclusive" or needed is None or needed > HOPELESS * most:
            break
    return dots, line, {**report, "looks_taken": look + 1}
