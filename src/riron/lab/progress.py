"""How far a computation is: a bar on a terminal, a line each ten seconds elsewhere, or a call to the caller's function.

All talk goes to stderr, so that stdout can carry one JSON object and nothing else.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Self

Show = bool | Callable[[int, int | None, str], object] | None

_bars: Any = None  # the one live display: a nested Progress adds its bar to it, as two would overwrite each other


class Progress:
    """Counts work done and tells the user.

    Args:
      total: units of work (None if unknown).
      label: what is being done, in a few words.
      show: True shows it on stderr, False or None is silent, a function is called as `show(done, total, label)` after
        each `advance`. The function may raise (for instance KeyboardInterrupt) to stop the work.
      every: seconds between two lines where stderr is not a terminal (0: a line for each `advance`).

    Use: `with Progress(len(blocks), "training", show=progress) as bar: ... bar.advance()`.
    """

    def __init__(self, total: int | None, label: str = "", show: Show = True, *, every: float = 10.0):
        self.total, self.label, self.every = total, label, every
        self.done = 0
        self.notes: list[str] = []
        self._call = show if callable(show) else None
        self._shown = show is True
        self._task: Any = None
        self._owner = False

    def __enter__(self) -> Self:
        global _bars
        self._start = self._last = time.monotonic()
        self._told = 0
        if self._shown and sys.stderr.isatty():
            if _bars is None:
                _bars, self._owner = _display(), True
                _bars.start()
            self._task = _bars.add_task(self.label, total=self.total)
        return self

    def advance(self, k: int = 1) -> None:
        """Count `k` more units as done."""
        self.done += k
        if self._call is not None:
            self._call(self.done, self.total, self.label)
        elif self._task is not None:
            _bars.update(self._task, completed=self.done)
        elif self._shown and time.monotonic() - self._last >= self.every:
            self._line()

    def note(self, text: str) -> None:
        """Say one sentence beside the bar; it is also kept in `notes`, where a silent Progress leaves it."""
        self.notes.append(text)
        if self._task is not None:
            _bars.console.print(text, markup=False, highlight=False)
        elif self._shown:
            print(text, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        global _bars
        if self._task is not None:
            if self._owner:
                _bars.stop()
                _bars = None
            else:
                _bars.remove_task(self._task)
            self._task = None
        elif 0 < self._told < self.done:  # a short run says nothing at all
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        self._told = self.done
        elapsed = self._last - self._start
        amount = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
        if self.total is not None and 0 < self.done < self.total:
            amount += f", about {_duration(elapsed * (self.total - self.done) / self.done)} left"
        else:
            amount += f" in {_duration(elapsed)}"
        print(f"{self.label}: {amount}" if self.label else amount, file=sys.stderr, flush=True)


def _display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bars(*columns, console=Console(stderr=True), transient=True)


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 99.5 else f"{minutes / 60:.1f} h"
