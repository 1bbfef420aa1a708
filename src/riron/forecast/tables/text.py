"""A text table (CSV and its relatives) as a data frame; encoding, separator, header, raggedness are found and said."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...errors import InputError
from .numbers import Decimal, decimal_of_file, number_texts, reading_of

SEPARATORS = "\t;|,"  # in this order where a file fits several
MAX_COLUMNS = 100_000
_SAMPLE = 2**16  # characters that the separator is judged by
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
_MISSING_WORDS = ["?", "none", "NONE"]  # beside pandas' own: NA, N/A, null, None, nan and their like


@dataclass(frozen=True)
class TextTable:
    """A text table as read, and what was assumed to read it."""

    frame: pd.DataFrame
    separator: str
    decimal: Decimal | None
    notes: list[str]


@dataclass(frozen=True)
class _Layout:
    names: list[str]
    trailing: bool  # every row ends with one separator too many
    records: int


def read_text(data: bytes, name: str, *, header: bool = True, decimal: Decimal | None = None) -> TextTable:
    """Reads a text table; see `read_table` for what is accepted.

    Args:
      data: the file's bytes.
      name: what errors call it, quotes included.
      header: whether the first line holds the names; else the columns are called 1, 2, ...
      decimal: the decimal character, where the user says it.

    Raises: InputError for ragged rows, repeated names, a missing header, binary content, with the line.
    """
    text, encoding = decode(data, name)
    notes = [] if encoding == "utf-8" else [f"The text is read as {encoding}."]
    separator = find_separator(text[:_SAMPLE])
    content = text.encode("utf-8", "surrogatepass")
    del text
    layout = _layout(content, separator, name, header=header)
    if len(layout.names) > 1:
        notes.append(f"Columns are separated by {_NAMES[separator]}.")
    if layout.trailing:
        notes.append("Every row ends with a separator, which is ignored.")
    frame = _parse(content, separator, layout, name, header=header)
    texts: list[Any] = [column for _, column in frame.items() if not pd.api.types.is_numeric_dtype(column)]
    fractions = [str(name) for name, column in frame.items() if pd.api.types.is_float_dtype(column)]
    if fractions and (decimal == "," or any(reading_of(list(number_texts(column))) for column in texts)):
        written = _parse(content, separator, layout, name, header=header, as_text=fractions)
        texts += [written[k] for k in fractions]
        decimal = decimal or decimal_of_file(texts)
        if decimal == ",":  # then 1.234 is a thousand and more, and not what pandas made of it
            frame[fractions] = written[fractions]
    decimal = decimal or decimal_of_file(texts)
    if decimal == ",":
        notes.append("Numbers are read with decimal commas.")
    if not header and _begins_with_names(frame):
        first = ", ".join(str(cell) for cell in frame.iloc[0, :3])
        raise InputError(
            f"the first line of {name} names columns ({first}{', ...' if frame.shape[1] > 3 else ''})",
            why="--no-header says that it is data",
            do="leave --no-header out",
        )
    return TextTable(frame, separator, decimal, notes)


def _begins_with_names(frame: pd.DataFrame) -> bool:
    """Whether the first row is text throughout and stands over a column of numbers."""
    rows = [[looks_like_data(cell) for cell in frame.iloc[k]] for k in range(min(20, len(frame)))]
    words = len(rows) > 1 and not any(rows[0]) and frame.iloc[0].notna().all()
    return bool(words and any(map(all, zip(*rows[1:], strict=True))))


def decode(data: bytes, name: str) -> tuple[str, str]:
    """The text in `data`, and the encoding: by byte-order mark, then UTF-8, Japanese (cp932), Western (cp1252)."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            try:
                return _readable(data.decode(encoding), name), "UTF-8" if encoding == "utf-8-sig" else "UTF-16"
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{name} begins as {encoding} and is damaged at byte {error.start}", do="save it as UTF-8"
                ) from None
    try:
        return _readable(data.decode("utf-8"), name), "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp932")
    except UnicodeDecodeError:
        text = ""
    if text and not _looks_western(text):
        return _readable(text, name), "Shift_JIS (cp932)"
    encoding = "cp1252"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        encoding = "latin-1"
        text = data.decode(encoding)
    return _readable(text, name), f"{encoding} (it is not UTF-8; save it as UTF-8 if letters look wrong)"


def _looks_western(text: str) -> bool:
    """Whether text decoded as Japanese is more likely Western: its foreign characters sit alone inside Latin words."""
    runs = re.findall(r"[A-Za-z]?[^\x00-\x7f]+[A-Za-z]?", text[:_SAMPLE])
    inside = sum(run[0].isascii() or run[-1].isascii() for run in runs)
    return 2 * inside > len(runs)


def _readable(text: str, name: str) -> str:
    control = re.search(r"[\x00-\x08\x0e-\x1b\x7f]", text)
    if control:
        raise InputError(
            f"{name} is not text (byte {ord(control[0]):#04x} at character {control.start() + 1}), so not a table",
            do="pass CSV, Parquet or NPZ",
        )
    if not text.strip():
        raise InputError(f"{name} is empty", do="pass a table with one row per sample")
    return text


def find_separator(sample: str) -> str:
    """The separator that gives every line of the sample the same number (> 1) of cells; else the most regular one."""
    best, best_score = ",", 0.0
    for separator in SEPARATORS:
        widths = []
        try:
            for record in _records(sample, separator):
                widths.append(len(record))
        except csv.Error:
            pass
        if len(widths) > 2 and len(sample) >= _SAMPLE:
            widths.pop()  # the sample ends inside a line
        if not widths or max(widths) < 2:
            continue
        width, count = Counter(widths).most_common(1)[0]
        score = count / len(widths) if width > 1 else 0.0
        if score > best_score:
            best, best_score = separator, score
    return best


def _records(text: str, separator: str) -> Iterator[list[str]]:
    """The records of a text, blank lines left out."""
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True):
        if not _blank(record):
            yield record


def _blank(record: list[str]) -> bool:
    return not record or (len(record) == 1 and not record[0].strip())


def _layout(content: bytes, separator: str, name: str, *, header: bool) -> _Layout:
    """Names and number of records, after one pass that finds ragged rows: pandas would cut or pad them silently."""
    stream = io.TextIOWrapper(io.BytesIO(content), "utf-8", errors="surrogatepass", newline="")
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True)
    first: list[str] = []
    records, trailing, ragged = 0, 0, None
    try:
        for record in reader:
            if _blank(record):
                continue
            records += 1
            if not first:
                first = record
                if len(first) > MAX_COLUMNS:
                    raise InputError(f"{name} has {len(first)} columns", do=f"pass at most {MAX_COLUMNS}")
            elif len(record) == len(first) + 1 and not record[-1].strip():
                trailing += 1
            elif len(record) != len(first) and ragged is None:
                ragged = (reader.line_num, len(record))
    except csv.Error as error:
        limit = "a cell of more than 131 072 characters" if "limit" in str(error) else str(error)
        raise InputError(f"line {reader.line_num} of {name} cannot be read: {limit}", do="mend that line") from None
    if ragged is None and 0 < trailing < records - 1:
        ragged = (None, len(first) + 1)
    if ragged:
        line, width = ragged
        where = f"line {line}" if line else "some lines"
        cells = "1 cell" if width == 1 else f"{width} cells"
        found = f"{where} of {name} {'has' if line else 'have'} {cells} and the first line has {len(first)}"
        raise InputError(
            found, why=f"columns are taken as separated by {_NAMES[separator]}", do="mend that line, or quote its text"
        )
    names = [cell.strip() for cell in first]
    if not header:
        return _Layout([str(k + 1) for k in range(len(first))], trailing > 0, records)
    _check_header(names, name, records)
    return _Layout([n or f"unnamed {k + 1}" for k, n in enumerate(names)], trailing > 0, records - 1)


def _check_header(names: list[str], name: str, records: int) -> None:
    if all(_NUMBER.fullmatch(cell) for cell in names):
        raise InputError(
            f"the first line of {name} holds numbers only ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})",
            why="it should name the columns",
            do="say --no-header if it is data (the columns are then called 1, 2, ...)",
        )
    for repeated, count in Counter(n for n in names if n).items():
        if count > 1:
            where = [str(k + 1) for k, n in enumerate(names) if n == repeated]
            do = "say --no-header if the first line is data" if _NUMBER.fullmatch(repeated) else "rename them"
            raise InputError(
                f"{count} columns of {name} are called '{repeated}' (columns {', '.join(where[:5])})", do=do
            )
    if records == 1:
        raise InputError(f"{name} has a header and no rows", do="pass a table with one row per sample")


def _parse(
    content: bytes, separator: str, layout: _Layout, name: str, *, header: bool, as_text: list[str] | None = None
) -> pd.DataFrame:
    names = layout.names + ["\0"] * layout.trailing
    try:
        frame = pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            header=0 if header else None,
            names=names,
            index_col=False,
            skipinitialspace=True,
            na_values=_MISSING_WORDS,
            dtype=dict.fromkeys(as_text, str) if as_text else None,
            low_memory=False,
            encoding_errors="surrogatepass",
        )
    except (pd.errors.ParserError, ValueError, OverflowError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else "it is damaged"
        raise InputError(f"{name} cannot be read as a table: {reason}", do="mend the quotes in that row") from None
    if len(frame) != layout.records:
        raise InputError(
            f"{name} can be read as {len(frame)} or as {layout.records} rows",
            why="its quotes are not paired",
            do="mend them",
        )
    return frame.drop(columns=["\0"]) if layout.trailing else frame


def looks_like_data(name: object) -> bool:
    """Whether a column's name is a number, as where a file has no header."""
    return bool(_NUMBER.fullmatch(str(name)))
