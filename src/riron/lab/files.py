"""Files that are whole or absent: atomic writes, output folders that are refused rather than overwritten, no leftovers.

A temporary is called `.name.host.pid.random` and lies beside its target, so that the final rename stays inside one file
system and whoever comes later can tell whose it was: those of a dead process on this machine are removed.
"""

import json
import math
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "localhost"
_TEMPORARY = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.[0-9a-f]{8}")
_ABANDONED = 86_400.0  # seconds after which another machine's temporary, whose process cannot be seen, is abandoned


def temporary_beside(path: str | os.PathLike) -> Path:
    """A new hidden name in the folder of `path`, marked with this machine and process; nothing is created."""
    path = Path(path)
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}")


def remove_leftovers(folder: str | os.PathLike) -> list[Path]:
    """Remove the temporaries in `folder` (not below it) whose process has died; returns what was removed."""
    removed = []
    for path in Path(folder).glob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_abandoned(path, match["host"], int(match["pid"])):
            _remove(path)
            removed.append(path)
    return removed


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it replaces `path` in one step, on failure it is removed.

    For libraries that write to a path themselves. The bytes are on the disk before the name is.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file atomically: a reader, or a machine that loses power, sees the old file or the new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as JSON (see `as_json`), atomically."""
    write_text(path, as_json(value) + "\n")


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Strict JSON of numbers, text, lists, mappings and NumPy arrays; a number that is not finite becomes null."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


@contextmanager
def new_folder(path: str | os.PathLike, *, force: bool = False) -> Iterator[Path]:
    """An output folder that appears whole or not at all.

    The work writes into the folder that is yielded, which lies inside the target; when the block ends without an
    exception its contents move up into the target, file by file. When it raises (Ctrl-C included), everything this call
    made is removed again, and files that were there before are as they were.

    Args:
      path: the folder to make; its parents are made too.
      force: allow a folder that already holds files; those of the same name are replaced, others are kept.

    Yields: the folder to write into.

    Raises: InputError, before the block starts, if the target is a file, holds files (without `force`) or cannot be
      written.
    """
    target = Path(path).expanduser()
    made = _make(target)
    try:
        remove_leftovers(target)
        if not force and any(target.iterdir()):
            raise InputError(f"the folder '{path}' is not empty", do="choose another one, or add --force")
        work = temporary_beside(target / "work")
        work.mkdir()
    except OSError as error:
        _unmake(made)
        raise _unwritable(path, error) from None
    except InputError:
        _unmake(made)
        raise
    try:
        yield work
        _move_up(work, target)
    except BaseException:
        _remove(work)
        _unmake(made)
        raise


def new_file(path: str | os.PathLike, *, force: bool = False) -> Path:
    """Check, before any work, that a file can be written without overwriting one; returns its path.

    Raises: InputError if it exists (without `force`), is a folder, or its folder is missing or cannot be written.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise InputError(f"'{path}' is a folder", do="give the name of a file")
    if target.exists() and not force:
        raise InputError(f"the file '{path}' exists", do="choose another name, or add --force to replace it")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder '{target.parent}' to write '{target.name}' into", do="make it first")
    try:
        probe = temporary_beside(target)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(target.parent, error) from None
    return target


def _make(target: Path) -> list[Path]:
    """Make `target` and its parents; returns the folders that were not there before, deepest first."""
    if target.exists() and not target.is_dir():
        raise InputError(f"'{target}' is a file, not a folder", do="choose another name for the output folder")
    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _unmake(missing)
        raise _unwritable(target, error) from None
    return missing


def _unmake(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # somebody else has put a file there, or it was never made
            return


def _unwritable(path: object, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"the folder '{path}' cannot be written ({reason})", do="choose another one")


def _move_up(work: Path, target: Path) -> None:
    for source in sorted(work.rglob("*")):
        place = target / source.relative_to(work)
        if source.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(source, place)
    shutil.rmtree(work)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    if host == _HOST and os.name == "posix":
        return not _is_alive(pid)
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # POSIX only: signal 0 asks and does nothing; on Windows it would end the process
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _has_ended(pid)


def _has_ended(pid: int) -> bool:
    """Whether a process is only an entry that nobody has collected (in a container often for ever)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # not Linux, or gone by now
        return False
    return status.rpartition(")")[2].split()[0] in "ZX"


def _flush(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the disk; folders cannot be opened on Windows."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars, without importing either
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")
