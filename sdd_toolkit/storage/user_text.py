"""Text and tables as Excel and Windows editors save them: encodings, separators, line ends, spelling of paths."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# UTF-32 before UTF-16, whose mark begins alike.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEPARATORS = ",;\t|"
# Excel's first line that names the separator.
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*\r?\n', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableLine:
    """A line of a table: its number in the file, and its cells by the lower-case name of their column."""

    number: int
    cells: dict[str, str]


def read_user_text(path: Path) -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 with a byte order mark, UTF-8 without one, else Windows-1252.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is no text of these encodings.
    """
    content = path.read_bytes()
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        if b"\0" in content:
            raise
        return content.decode("cp1252")


def read_user_table(path: Path, columns: Sequence[str]) -> tuple[tuple[str, ...], tuple[TableLine, ...]]:
    """Reads a table with a header line; the separator is the one that gives most of the known columns.

    Case and spaces of column names do not matter. Empty lines, and columns without a name, are left out.

    Args:
        path: CSV, or the same with semicolons or tabs.
        columns: Names of columns that may be there, lower case.

    Returns:
        The names of the columns, and the lines.

    Raises:
        InputError: It cannot be read.
    """
    try:
        text = read_user_text(path)
        given = _SEP_LINE.match(text)
        body = text[given.end() :] if given else text
        start = len(body) - len(body.lstrip("\r\n"))
        first = text[: len(text) - len(body) + start].count("\n")
        separators = [given[1]] if given else [*_SEPARATORS]
        header, rows = max((_parse(body[start:], separator) for separator in separators),
                           key=lambda parsed: len({*columns} & {*parsed[0]}))  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "is it a CSV file, in UTF-8 or as Excel saves it?"
        raise InputError(f"cannot read the table {path}: {error}", hint=hint) from error
    lines = (
        TableLine(number + first, {name: cell for name, cell in zip(header, cells, strict=False) if name})
        for number, cells in rows
    )
    return header, tuple(line for line in lines if any(cell.strip() for cell in line.cells.values()))


def _parse(text: str, separator: str) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    # Line ends within quotes belong to the cell.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header = tuple(" ".join(name.split()).casefold() for name in next(reader, ()))
    return header, [(reader.line_num, cells) for cells in reader]


class FileFinder:
    """Finds files below folders, also if they are spelt as on Windows: backslashes, other case, other Unicode form.

    The exact spelling counts first, in all folders, then another Unicode form, then another case. One that fits several
    files of a folder equally well is none of them.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """The folders to search, in this order; their listings are kept for the next name."""
        self._folders = tuple(folders)
        self._entries = cache(_entries_by_key)

    def find(self, name: str) -> Path | None:
        """The file `name` below one of the folders; None if there is none."""
        for text in dict.fromkeys((name, name.strip(), name.strip().replace("\\", "/"))):
            for folder in self._folders if text else ():
                if os.path.isfile(folder / text):
                    return folder / text
        parts = [part for part in name.strip().replace("\\", "/").split("/") if part]
        for key in (_composed, _caseless):
            for folder in self._folders:
                found = self._descend(folder, parts, key)
                if found is not None and found.is_file():
                    return found
        return None

    def _descend(self, folder: Path, parts: Sequence[str], key: Callable[[str], str]) -> Path | None:
        for part in parts:
            alike = [part] if part in (".", "..") else self._entries(folder, key).get(key(part), ())
            if len(alike) != 1:
                return None
            folder = folder / alike[0]
        return folder


def _entries_by_key(folder: Path, key: Callable[[str], str]) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    with suppress(OSError):  # no folder, or one that may not be listed
        for name in os.listdir(folder):
            entries.setdefault(key(name), []).append(name)
    return entries


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
