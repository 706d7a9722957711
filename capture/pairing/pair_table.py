"""Reads an explicit table of pairs: CSV with the columns blur, sharp and, optionally, scene and id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.storage.user_text import FileFinder, read_user_table

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("blur", "sharp", "scene", "id")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the table; `scene` and `id` are empty where the row has none."""

    blur: Path
    sharp: Path
    scene: str
    id: str


def read_table(table: Path, sources: Sequence[Path]) -> tuple[TableRow, ...]:
    """Reads the rows of `table`; relative paths start at the table's folder, else at one of the source folders.

    A file spelt exactly so, in any of them, comes before one spelt in another Unicode form or case.

    Raises:
        InputError: The table cannot be read, lacks a column, names a file that does not exist, pairs a file with
            itself or uses an id twice.
    """
    columns, lines = read_user_table(table, _COLUMNS)
    missing = [name for name in _COLUMNS[:2] if name not in columns]
    if missing:
        raise InputError(
            f"{table} has no column {missing[0]!r}", hint=f"its first line must be {','.join(_COLUMNS[:2])}[,scene,id]"
        )
    finder = FileFinder([table.parent, *sources])
    rows = tuple(_parse_row(f"{table}, line {line.number}", line.cells, finder) for line in lines)
    ids = [row.id for row in rows if row.id]
    for name in ids:
        if ids.count(name) > 1:
            raise InputError(f"{table}: the id {name!r} appears twice", hint="make the ids unique")
    return rows


def _parse_row(where: str, line: dict[str, str], finder: FileFinder) -> TableRow:
    blur, sharp = (_find_file(where, column, line.get(column, ""), finder) for column in ("blur", "sharp"))
    if blur.resolve() == sharp.resolve():
        raise InputError(f"{where}: {blur} is paired with itself", hint="name two files")
    return TableRow(blur, sharp, line.get("scene", "").strip(), line.get("id", "").strip())


def _find_file(where: str, column: str, text: str, finder: FileFinder) -> Path:
    found = finder.find(text)
    if found is not None:
        return found
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    raise InputError(
        f"{where}: {column} names no file: {shown!r}", hint="paths are relative to the table's or the source folder"
    )
