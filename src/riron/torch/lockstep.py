"""Many forward passes at once, each paused at every layer that is about to be refitted.

A pass is a thread, but only one of them ever runs: `resume` lets it go on to its next pause. So the compressed network
is run once in all, each layer refitted on what the refitted layers below it give, and nothing needs to be known of how
the model is written.
"""

import threading
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]


class Stopped(BaseException):
    """Ends a pass that is no longer needed."""


class Pass:
    """One forward pass; the hooks find it by `Pass.current()`."""

    _running: dict[int, "Pass"] = {}

    def __init__(self, work: Callable[[], Any]):
        self.work = work
        self.event: Any = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = self.stopping = False
        self.memory: dict[Any, Any] = {}
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.started = False

    @classmethod
    def current(cls) -> "Pass | None":
        """The pass that this thread runs."""
        return cls._running.get(threading.get_ident())

    def _run(self) -> None:
        self._go.acquire()
        Pass._running[threading.get_ident()] = self
        try:
            with torch.no_grad():
                if not self.stopping:
                    self.result = self.work()
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            Pass._running.pop(threading.get_ident(), None)
            self.done, self.event = True, None
            self.memory.clear()
            self._paused.release()

    def pause(self, event: Any) -> None:
        """Called in the pass: shows an event and waits until it is resumed."""
        self.event = event
        self._paused.release()
        self._go.acquire()
        if self.stopping:
            raise Stopped
        self.event = None

    def resume(self) -> Any:
        """Runs the pass to its next pause and returns that event, or None at its end."""
        if self.done:
            return None
        if not self.started:
            self._thread.start()
            self.started = True
        self._go.release()
        self._paused.acquire()
        if self.error is not None:
            raise self.error
        return self.event

    def stop(self) -> None:
        """Ends the pass where it is."""
        self.stopping = True
        if self.started and not self.done:
            self._go.release()
            self._thread.join()
        self.done = True
