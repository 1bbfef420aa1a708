"""Run many tasks in several processes, whatever happens to the processes: the only place that knows loky, Dask or Ray.

Results go through the store, so a run that was stopped, or whose workers were killed, goes on where it was. The loop:
list the tasks without a result; run them; if a worker is lost, run the tasks that were running then (the suspects) once
more, each alone; record those that kill their process again as failed; list again.
"""

import os
import pickle
import queue
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from ..checks import nearest
from ..errors import InputError
from . import compiling, memory, threads
from .files import temporary_beside
from .progress import Progress, Show
from .signals import interrupts_deferred, terminate_as_interrupt
from .store import Store
from .worker import peak_memory, prepare, work

EngineName = Literal["loky", "dask", "ray", "serial"]
Run = Callable[..., Iterator[Any]]  # run(addresses, alone=False): yields each address when its task has ended

_IDLE_ROUNDS = 3


class _LostWorker(Exception):
    """A worker process died; the text says how, as far as the engine tells."""


@dataclass
class Summary:
    """What became of the tasks of a run.

    `done` and `missing` are addresses in the order of the tasks, `failed` says why by address, `computed` counts the
    results made by this run, `stopped` tells that Ctrl-C or SIGTERM ended it.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    computed: int = 0
    rounds: int = 0
    stopped: bool = False

    def __str__(self) -> str:
        total = len(self.done) + len(self.failed) + len(self.missing)
        parts = [f"{len(self.done)} of {total} are kept"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.missing)} are missing"] if self.missing else []
        return ", ".join(parts)


def run_tasks(
    function: Callable[[Any], Any],
    tasks: Mapping[str, Any],
    *,
    store: Store,
    engine: EngineName = "loky",
    workers: int | None = None,
    progress: Show = None,
    label: str = "tasks",
) -> Summary:
    """Compute every task that has no result in the store yet.

    Args:
      function: maps a task to its result: a Dataset, a mapping of arrays, or a tuple (mapping of arrays, attributes).
        What it raises is recorded as that task's failure. It must be importable, or defined in the main module.
      tasks: address (`addressing.address`) -> task, anything that can be sent to another process.
      store: where the results go; several runs may share one.
      engine: "loky" (processes on this machine), "serial" (this process), "dask" (the current Dask client, else
        processes on this machine), "ray" (the Ray cluster that you have connected to; riron never starts one).
      workers: processes; default the cores of this machine. Each has one thread unless you have set otherwise.
      progress: True, False or a function (done, total, label).
      label: what the progress calls the work.

    Returns: a Summary. A failed task is tried again by the next run. On Ctrl-C or SIGTERM what is done is kept, the
      workers are gone and `stopped` is set; no exception is raised.

    Raises: InputError for an unknown engine, one that is not installed, or a store that cannot be written; RuntimeError
      if the workers die again and again before they begin a task.
    """
    if engine not in _ENGINES:
        known = get_args(EngineName)
        raise InputError(
            f"no engine is called '{engine}'; there are {', '.join(known)}", do=nearest(str(engine), known)
        )
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers} must be at least 1")
    summary = Summary()
    todo = store.missing(tasks)
    kept = len(tasks) - len(todo)
    for address in todo:
        store.forget_failure(address)
    try:
        with ExitStack() as stack:
            bar = stack.enter_context(Progress(len(tasks), label, progress))
            stack.enter_context(terminate_as_interrupt())
            marks = stack.enter_context(_folder(store))
            bar.advance(kept)
            call = lambda address: partial(work, function, address, tasks[address], store, marks)
            if todo:
                run = stack.enter_context(_ENGINES[engine](call, workers or threads.cores()))
                _loop(run, todo, store, marks, bar, summary)
    except KeyboardInterrupt:
        summary.stopped = True
    absent = set(store.missing(tasks))
    failures = {address: store.failure(address) for address in tasks if address in absent}
    summary.done = [address for address in tasks if address not in absent]
    summary.failed = {address: error for address, error in failures.items() if error}
    summary.missing = [address for address, error in failures.items() if not error]
    summary.computed = len(summary.done) - kept
    return summary


def _loop(run: Run, todo: list[str], store: Store, marks: Path, bar: Progress, summary: Summary) -> None:
    start, idle = bar.done, 0
    waiting = todo
    while waiting:
        summary.rounds += 1
        try:
            for _ in run(waiting):
                bar.advance()
            return
        except _LostWorker as loss:
            reason = str(loss)
        suspects = [address for address in _open(waiting, store) if (marks / address).exists()]
        bar.note(f"a worker process died ({reason}); the {len(suspects)} tasks that were running are run again, alone")
        for address in suspects:
            _run_alone(run, address, store, marks)
        left = _open(waiting, store)
        bar.advance(max(0, start + len(todo) - len(left) - bar.done))
        idle = idle + 1 if len(left) == len(waiting) else 0
        if idle == _IDLE_ROUNDS:
            raise RuntimeError(
                f"the worker processes died {idle} times before they ended a task ({reason}); "
                "run with engine='serial' to see why"
            )
        waiting = left


def _run_alone(run: Run, address: str, store: Store, marks: Path) -> None:
    mark = marks / address
    mark.unlink(missing_ok=True)
    try:
        for _ in run([address], alone=True):
            pass
    except _LostWorker as loss:
        error = f"killed its worker process, also when it ran alone ({loss})"
        if "KILL" in str(loss):
            used = peak_memory(mark)
            error += ": probably out of memory" + (f"; it needs more than {memory.amount(used)}" if used else "")
        store.fail(address, error)
        mark.unlink(missing_ok=True)


def _open(addresses: Sequence[str], store: Store) -> list[str]:
    """Those addresses that have neither a result nor a failure yet."""
    return [address for address in store.missing(addresses) if store.failure(address) is None]


@contextmanager
def _serial(call: Callable, workers: int) -> Iterator[Run]:
    def run(addresses: Sequence[str], alone: bool = False) -> Iterator[Any]:
        for address in addresses:
            yield call(address)()

    yield run


@contextmanager
def _loky(call: Callable, workers: int) -> Iterator[Run]:
    from joblib.externals.loky.process_executor import ProcessPoolExecutor

    def run(addresses: Sequence[str], alone: bool = False) -> Iterator[Any]:
        executor = ProcessPoolExecutor(
            1 if alone else min(workers, len(addresses)),
            initializer=prepare,
            initargs=(os.getpid(),),
            env={**threads.environment(), **compiling.worker_environment()},
        )
        try:
            with interrupts_deferred():  # the workers start here
                futures = [executor.submit(call(address)) for address in addresses]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            codes = re.search(r"\{(.*)\}", str(error))
            raise _LostWorker(codes[1] if codes else str(error).splitlines()[0]) from None
        except pickle.PicklingError as error:
            raise InputError(
                f"a task cannot be sent to another process ({error})", do="define its function at the top of a module"
            ) from None
        finally:
            with suppress(queue.Empty):  # what still waits there makes loky's own thread stumble over a KeyError
                while True:
                    executor._work_ids.get_nowait()
            executor.shutdown(wait=True, kill_workers=True)

    yield run


@contextmanager
def _dask(call: Callable, workers: int) -> Iterator[Run]:
    try:
        import dask.config  # pyright: ignore[reportMissingImports]
        import distributed  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("engine 'dask' is not installed", do='pip install "riron[cluster]"') from None

    def run(addresses: Sequence[str], alone: bool = False) -> Iterator[Any]:
        client, loss = distributed.default_client(), None
        futures = [client.submit(call(address), pure=False) for address in addresses]
        try:
            for future in distributed.as_completed(futures):
                try:
                    yield future.result()
                except distributed.KilledWorker:  # the others go on: joblib's own Dask backend waits for ever here
                    loss = "Dask lost it"
        finally:
            client.cancel(futures)
        if loss:
            raise _LostWorker(loss)

    with ExitStack() as stack:
        try:
            distributed.default_client()
        except ValueError:  # no client yet: processes on this machine, seen from nowhere else
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
            environment = {**threads.environment(), **compiling.worker_environment()}
            local = {"host": "127.0.0.1", "dashboard_address": None, "threads_per_worker": 1, "env": environment}
            cluster = stack.enter_context(distributed.LocalCluster(n_workers=workers, **local))
            stack.enter_context(distributed.Client(cluster))
        yield run


@contextmanager
def _ray(call: Callable, workers: int) -> Iterator[Run]:
    try:
        import ray  # type: ignore[import-not-found]
        from ray.util.joblib import register_ray  # type: ignore[import-not-found]
    except ImportError:
        raise InputError("engine 'ray' is not installed", do="pip install ray") from None
    if not ray.is_initialized():
        raise InputError(
            "no Ray cluster is connected",
            why="riron never starts one",
            do="call ray.init(address=...) with yours first",
        )
    from joblib import Parallel, delayed, effective_n_jobs, parallel_config

    register_ray()

    def run(addresses: Sequence[str], alone: bool = False) -> Iterator[Any]:
        with parallel_config(backend="ray", n_jobs=-1):
            piece = 8 * effective_n_jobs()  # Ray's backend cannot stream results: pieces, for the progress
            for first in range(0, len(addresses), piece):
                try:
                    yield from Parallel()(delayed(call(address))() for address in addresses[first : first + piece])
                except ray.exceptions.RayActorError as error:
                    raise _LostWorker(str(error).splitlines()[0]) from None

    yield run


_ENGINES = {"loky": _loky, "dask": _dask, "ray": _ray, "serial": _serial}


@contextmanager
def _folder(store: Store) -> Iterator[Path]:
    """A folder for the marks of running tasks, named as a temporary: it is cleared away if this process dies."""
    folder = temporary_beside(store.root / "started")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
