"""Compile once per machine: JAX's persistent compilation cache, kept in the user's cache folder and kept healthy.

It is a global setting of the user's process, so only the command line and worker processes turn it on, never an import.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .files import temporary_beside

Say = Callable[[str], object]

_READING = re.compile(r"Error reading persistent compilation cache entry for '(?P<module>[^']*)'")
_WRITING = re.compile(r"Error writing persistent compilation cache entry")


def _say(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def use_persistent_cache(folder: str | os.PathLike | None = None, *, say: Say = _say) -> Path | None:
    """Keep compiled functions on disk, so that the next process need not compile them again.

    A folder that the user has set (JAX_COMPILATION_CACHE_DIR, or JAX's own configuration) is honoured, as are their
    other JAX_PERSISTENT_CACHE_... settings. A folder that cannot be written turns the cache off; a damaged entry, which
    JAX would complain about in every later process, is removed. Each says one line.

    Args:
      folder: where to keep it; default the user's own, else the user's cache folder / riron / jax-<version>.
      say: where the line goes (default stderr).

    Returns: the folder in use, or None if the cache is off.
    """
    import jax
    import platformdirs
    from jax.experimental.compilation_cache import compilation_cache

    place = folder or jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    place = str(place or Path(platformdirs.user_cache_dir("riron", appauthor=False)) / f"jax-{jax.__version__}")
    if "://" not in place and not _is_writable(Path(place)):
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        say(f"the compilation cache '{place}' cannot be written; every run compiles anew")
        return None
    jax.config.update("jax_compilation_cache_dir", place)
    for name, value in (("min_compile_time_secs", 0.0), ("min_entry_size_bytes", -1)):
        if f"JAX_PERSISTENT_CACHE_{name.upper()}" not in os.environ:
            jax.config.update(f"jax_persistent_cache_{name}", value)
    compilation_cache.reset_cache()  # JAX decides once, at its first compilation, whether there is a cache
    keep_healthy(say)
    return Path(place)


def worker_environment() -> dict[str, str]:
    """Variables that give a worker process this one's precision and compilation cache; empty if JAX is not in use."""
    if "jax" not in sys.modules:
        return {}
    import jax

    settings = {"JAX_ENABLE_X64": "1" if jax.config.jax_enable_x64 else "0"}  # type: ignore[attr-defined]
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if folder and jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        settings["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        for name in ("min_compile_time_secs", "min_entry_size_bytes"):
            settings[f"JAX_PERSISTENT_CACHE_{name.upper()}"] = str(getattr(jax.config, f"jax_persistent_cache_{name}"))
    return settings


def keep_healthy(say: Say = _say) -> None:
    """Answer JAX's warnings about its cache by mending it and saying one line; other warnings pass through."""
    if getattr(warnings.showwarning, "mends_cache", False):
        return
    show, said = warnings.showwarning, set()

    def showwarning(message, category, filename, lineno, file=None, line=None):
        text = str(message)
        reading, writing = _READING.match(text), _WRITING.match(text)
        if not (reading or writing):
            return show(message, category, filename, lineno, file, line)
        sentence = _remove_damaged(reading["module"]) if reading else _turn_off()
        if sentence not in said:
            said.add(sentence)
            say(sentence)

    showwarning.mends_cache = True  # type: ignore[attr-defined]
    warnings.showwarning = showwarning


def _remove_damaged(module: str) -> str:
    """Remove the entries of the function that could not be read; all entries if none bears its name."""
    import jax

    folder = Path(jax.config.jax_compilation_cache_dir)  # type: ignore[attr-defined]
    entries = [path for path in folder.glob("*-cache") if path.name.startswith(module)] or list(folder.glob("*-cache"))
    try:
        for path in entries:
            path.unlink(missing_ok=True)
    except OSError:
        return _turn_off()
    return f"the compilation cache '{folder}' held a damaged entry, which was removed"


def _turn_off() -> str:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return f"the compilation cache '{folder}' could not be written and is off for this run"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_beside(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


@dataclass
class Compilations:
    """What XLA was asked to compile: `count` programs, of which `cached` were read from the persistent cache."""

    count: int = 0
    cached: int = 0


_counting: list[Compilations] = []
_listening = False


@contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Count the programs that XLA compiles inside the block: `with count_compilations() as seen: ...; seen.count`."""
    global _listening
    import jax

    if not _listening:  # once per process: JAX has no public way to take a listener away again in all its versions
        jax.monitoring.register_event_duration_secs_listener(_on_duration)
        jax.monitoring.register_event_listener(_on_event)
        _listening = True
    seen = Compilations()
    _counting.append(seen)
    try:
        yield seen
    finally:
        _counting[:] = [other for other in _counting if other is not seen]


def _on_duration(event: str, *_: object, **__: object) -> None:
    if event.endswith("backend_compile_duration"):
        for seen in _counting:
            seen.count += 1


def _on_event(event: str, **_: object) -> None:
    if event.endswith("compilation_cache/cache_hits"):
        for seen in _counting:
            seen.cached += 1
