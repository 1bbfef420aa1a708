"""How much memory is free, so that work is cut into pieces that fit, or refused with a sentence before it starts."""

import ctypes
import os
from pathlib import Path

from ..errors import InputError

_UNKNOWN = 2 * 1024**3  # assumed where the system does not tell
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available() -> int:
    """Bytes this process can still take: the lesser of what the system has free and what the container allows."""
    known = [size for size in (_system(), _container()) if size is not None]
    return max(0, min(known)) if known else _UNKNOWN


def budget(fraction: float = 0.5) -> int:
    """Bytes that one computation should plan with: a share of what is available now."""
    return int(fraction * available())


def require(need: float, what: str, *, do: str) -> None:
    """Raise InputError if `what` needs more bytes than are available, with both numbers and what to `do` instead."""
    free = available()
    if need > free:
        raise InputError(f"{what} needs about {amount(need)} of memory and {amount(free)} are free", do=do)


def amount(size: float) -> str:
    """A number of bytes as people write it: '1.2 GB'."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.9995 * scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if os.name == "nt":
        return _windows()
    try:  # macOS tells only what the machine has; half of it is a guess at what is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _windows() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("total", "free", "c", "d", "e", "f", "g")
        ]

    status = Status(length=ctypes.sizeof(Status))
    found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.free) if found else None


def _container() -> int | None:
    for limit, used in _CGROUPS:
        try:
            return int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # no such cgroup, or "max": no limit
            continue
    return None
