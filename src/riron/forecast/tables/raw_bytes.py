"""The bytes of a file or of standard input: looked at before they are read, counted meanwhile, never unpickled."""

import gzip
import re
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ...checks import nearest
from ...errors import InputError

MAX_BYTES = 2**30  # of a file, and of what it unpacks to
LINE_BYTES = 2**24  # of one line of text
CHUNK = 2**20

_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".p")
_AS_CSV = "save it as CSV and pass that"
# First bytes -> what the file is, and what to do about it. Parquet, gzip and zip are told apart in `kind_of`.
_SIGNATURES = (
    (b"%PDF", "a PDF", _AS_CSV),
    (b"\x89PNG", "a PNG image", "pass a table"),
    (b"\xff\xd8\xff", "a JPEG image", "pass a table"),
    (b"GIF8", "a GIF image", "pass a table"),
    (b"\x93NUMPY", "a single NumPy array (.npy)", "save X and y together with numpy.savez('data.npz', X=X, y=y)"),
    (b"\x89HDF", "an HDF5 file", _AS_CSV),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Office file", _AS_CSV),
    (b"SQLite format 3", "an SQLite database", _AS_CSV),
    (b"ARROW1", "a Feather (Arrow) file", "save it as Parquet or CSV"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    (b"BZh", "a bzip2 file", "unpack it first"),
    (b"\xfd7zXZ", "an xz file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it first"),
    (b"\x7fELF", "a program", "pass a table"),
    (b"MATLAB 5.0", "a MATLAB file", "save it as CSV, or as NPZ with arrays X and y"),
)


def size(count: float) -> str:
    """A number of bytes for people: `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def read_bytes(path: str, max_bytes: int = MAX_BYTES) -> tuple[bytes, str]:
    """What stands in a file, and what kind of file it is.

    Args:
      path: a file that exists, or `-` for standard input.
      max_bytes: the most that is read, and the most that a gzip file may unpack to.

    Returns: the bytes (a gzip file's unpacked) and one of `text`, `npz`, `parquet`; `gzip+text` where it was unpacked.

    Raises: InputError for anything else, with what it is.
    """
    if path == "-":
        return _unpacked(sys.stdin.buffer, "standard input", max_bytes)
    file = existing_file(path)
    if file.suffix.lower() in _PICKLES:
        raise InputError(
            f"'{path}' is a pickle by its name", why="opening one can run any program, so riron never does", do=_AS_CSV
        )
    try:
        if file.stat().st_size > max_bytes:
            found = f"'{path}' has {size(file.stat().st_size)}"
            raise InputError(f"{found} and the limit is {size(max_bytes)}", do="pass fewer rows, or raise max_bytes")
        with file.open("rb") as stream:
            return _unpacked(stream, f"'{path}'", max_bytes)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None


def existing_file(path: str) -> Path:
    """The path of a file that exists; InputError for a URL, a folder, or nothing at all."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) or path.lower().startswith("www."):
        raise InputError(f"'{path}' is a URL", why="riron opens files only", do="download it first and pass the file")
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(f"'{path}' is a folder", do="pass one file in it")
        if not file.exists():
            around = [p.name for p in file.parent.iterdir() if p.is_file()] if file.parent.is_dir() else []
            raise InputError(f"no file is called '{path}'", do=nearest(file.name, around))
    except (OSError, ValueError) as error:  # no permission; a name that is too long or holds a zero byte
        raise InputError(f"no file can be opened as {path[:200]!r}: {error}") from None
    return file


def kind_of(head: bytes, name: str) -> str:
    """`text`, `npz`, `parquet` or `gzip` by the first bytes; InputError for everything that is no table."""
    if not head:
        raise InputError(f"{name} is empty", do="pass a table with one row per sample")
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return "npz"  # or another zip, which the directory tells: see `npz_members`
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InputError(f"{name} is a pickle", why="opening one can run any program, so riron never does", do=_AS_CSV)
    if head[257:262] == b"ustar":
        raise InputError(f"{name} is a tar archive, not a table", do="unpack it first")
    for signature, what, do in _SIGNATURES:
        if head.startswith(signature):
            raise InputError(f"{name} is {what}, not a table", do=do)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<"):
        raise InputError(f"{name} is HTML or XML, not a table", do="download the data itself, not the page about it")
    if re.match(rb'(\{\s*["}])|(\[\s*[\[{])', start):
        raise InputError(f"{name} is JSON, not a table", do=_AS_CSV)
    return "text"


def npz_members(data: bytes, name: str, max_bytes: int) -> zipfile.ZipFile:
    """The NPZ archive, its sizes checked from the directory alone, before anything is unpacked."""
    try:
        archive = zipfile.ZipFile(BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError, UnicodeDecodeError):
        raise InputError(f"{name} is a damaged zip or NPZ file", do="save it again") from None
    names = archive.namelist()
    if any(n.startswith("xl/") for n in names):
        raise InputError(f"{name} is an Excel workbook, not a table of text", do=_AS_CSV)
    if any(n.endswith("data.pkl") for n in names):
        raise InputError(f"{name} is a PyTorch file", why="it holds a pickle, which riron never opens", do=_AS_CSV)
    if not names or not all(n.endswith(".npy") for n in names):
        raise InputError(f"{name} is a zip archive, not a table", do="unpack it first")
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max_bytes:
        raise InputError(
            f"{name} would unpack to {size(unpacked)} and the limit is {size(max_bytes)}",
            do="save fewer rows, or raise max_bytes",
        )
    return archive


def _unpacked(stream: BinaryIO, name: str, max_bytes: int) -> tuple[bytes, str]:
    data, kind = _counted(stream, name, max_bytes)
    if kind != "gzip":
        return data, kind
    claimed = int.from_bytes(data[-4:], "little")  # the size, modulo 4 GiB, that the file itself states
    if max_bytes < claimed <= 1032 * len(data):  # deflate cannot shrink further: a larger claim is a damaged file's
        raise _too_long(f"the content of {name}", max_bytes)
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as inner:
            content, kind = _counted(inner, f"the content of {name}", max_bytes)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{name} is a damaged gzip file", do="pack it again") from None
    if kind != "text":
        raise InputError(f"{name} is a gzip file that holds no text", do="unpack it first")
    return content, "gzip+text"


def _counted(stream, name: str, max_bytes: int) -> tuple[bytes, str]:
    """Reads a stream piece by piece and stops where it, or one line of its text, becomes too long."""
    piece = stream.read(CHUNK)
    kind = kind_of(piece[:4096], name)
    pieces, total, line = [], 0, 0
    while piece:
        total += len(piece)
        if total > max_bytes:
            raise _too_long(name, max_bytes)
        if kind == "text":
            last = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
            line = line + len(piece) if last < 0 else len(piece) - last - 1
            if line > LINE_BYTES:
                raise InputError(
                    f"{name} has a line of more than {size(LINE_BYTES)}", do="pass a table with one line per sample"
                )
        pieces.append(piece)
        piece = stream.read(CHUNK)
    return b"".join(pieces), kind


def _too_long(name: str, max_bytes: int) -> InputError:
    return InputError(
        f"{name} holds more than the limit of {size(max_bytes)}", do="pass fewer rows, or raise max_bytes"
    )
