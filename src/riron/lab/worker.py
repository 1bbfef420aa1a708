"""Inside a worker process: one task, its result into the store, and an eye on the parent and on the memory."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import compiling
from .store import Store

_GLANCE = 0.5  # seconds between two looks at the parent

_lock = threading.Lock()
_mark: Path | None = None  # the mark of the task that runs now; the watching thread keeps its peak memory there


def work(function: Callable[[Any], Any], address: str, task: Any, store: Store, marks: Path) -> str:
    """Run one task and put what it returns into the store; an exception becomes a failure record. Returns the address.

    A mark stands in the folder `marks` while the task runs, so that after a lost worker it is known what was running.
    """
    if address in store:  # Dask computes finished tasks again if the worker that held their result dies
        return address
    _begin(marks / address)
    try:
        result = function(task)
        if hasattr(result, "data_vars"):
            store.put_dataset(address, result)
        else:
            store.put(address, *(result if isinstance(result, tuple) else (result,)))
    except (Exception, SystemExit) as error:
        store.fail(address, f"{type(error).__name__}: {error}")
    finally:
        _end()
    return address


def prepare(parent: int) -> None:
    """Make a new worker leave Ctrl-C to its parent, mend the compilation cache, and end when its parent has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    compiling.keep_healthy()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def peak_memory(mark: Path) -> int | None:
    """The most memory (bytes) that the process of a task was seen to use; None if the system does not tell."""
    try:
        return int(mark.read_text()) or None
    except (OSError, ValueError):
        return None


def _begin(mark: Path) -> None:
    global _mark
    with _lock:
        _mark = mark
        mark.write_text(str(_peak()))


def _end() -> None:
    global _mark
    with _lock:
        if _mark is not None:
            _mark.unlink(missing_ok=True)
        _mark = None


def _watch(parent: int) -> None:
    while True:
        if os.name == "posix" and os.getppid() != parent:
            os._exit(1)  # an orphan would finish its queue and hold the terminal open
        with _lock:
            if _mark is not None:
                with contextlib.suppress(OSError):
                    _mark.write_text(str(_peak()))
        time.sleep(_GLANCE)


def _peak() -> int:
    if os.name != "posix":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
