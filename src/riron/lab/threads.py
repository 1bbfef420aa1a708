"""How many threads a process may use.

NumPy's BLAS threads spin against each other when workers x threads exceed the cores: one block of small pseudo-inverses
took 120 times longer with the default on a busy two-core machine. The variables act only if they are set before NumPy
and JAX are imported: for child processes, or first thing in a command.
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_XLA_THREADS = "xla_cpu_multi_thread_eigen"
_XLA_POOL = "NPROC"  # the size of XLA's own thread pool

_set_here: dict[str, str] = {}  # what `cap` and `limit` wrote, so as not to mistake it for the user's own setting


def cores() -> int:
    """Cores this process may use: its CPU affinity, cut by the container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, count if quota is None else min(count, round(quota)))


def environment(threads: int = 1, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables to set so that a child process uses `threads` threads; what the user has set is left out."""
    environ = os.environ if environ is None else environ
    own = lambda name: name in environ and _set_here.get(name) != environ[name]
    wanted = {name: str(threads) for name in (*_VARIABLES, _XLA_POOL) if not own(name)}
    flags = environ.get("XLA_FLAGS", "")
    if threads == 1 and _XLA_THREADS not in flags:
        wanted["XLA_FLAGS"] = f"{flags} --{_XLA_THREADS}=false".strip()
    return wanted


def limit(threads: int = 1, environ: MutableMapping[str, str] | None = None) -> None:
    """Set the limits in `environ` (default: this process's) for the processes it starts; the user's settings win."""
    environ = os.environ if environ is None else environ
    wanted = environment(threads, environ)
    environ.update(wanted)
    if environ is os.environ:
        _set_here.update(wanted)


def cap(workers: int = 1) -> int:
    """Share the cores among `workers` processes; call it before NumPy is imported. Returns the threads each may use."""
    threads = max(1, cores() // max(1, workers))
    limit(threads)
    return threads


def _quota() -> float | None:
    """The container's CPU quota in cores (cgroup v2, then v1), or None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no quota
        return None
    return share if share > 0 else None
