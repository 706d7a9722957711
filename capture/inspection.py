"""What ingest needs to know of one file, found out in a worker; remembered beside the manifest.

The memory makes a second run cheap and a killed one resume: a file with the same path, size and modification time
is not read again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit import __version__, frames, quality
from sdd_toolkit.errors import RawError
from sdd_toolkit.exif import read_meta
from sdd_toolkit.files import sha256_of, write_text, writing_failed
from sdd_toolkit.manifest import to_json
from sdd_toolkit.types import FrameMeta

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

MEMORY = ".ingest-cache.jsonl"


@dataclass(frozen=True, slots=True)
class Task:
    """One file to look at.

    Attributes:
        path: Where it is.
        name: Its path relative to the manifest's root.
        pixels: Whether to decode it.
    """

    path: Path
    name: str
    pixels: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        name: Path relative to the manifest's root.
        bytes: Size of the file.
        modified_ns: Its modification time.
        pixels: Whether it was decoded.
        version: Of the toolkit that looked.
        sha256: Hash of its content.
        meta: What it says of its making; None if unreadable.
        detail: Energy of fine detail relative to brightness; None if not decoded.
        failure: Why it cannot be used; empty if it can.
    """

    name: str
    bytes: int
    modified_ns: int
    pixels: bool
    version: str = __version__
    sha256: str = ""
    meta: FrameMeta | None = None
    detail: float | None = None
    failure: str = ""


_LINE = TypeAdapter(Inspection)


def inspect(task: Task) -> Inspection:
    """Hashes a file, reads its metadata and, if asked, its pixels; every failure is part of the result."""
    path = task.path
    try:
        state = path.stat()
        found = Inspection(task.name, state.st_size, state.st_mtime_ns, task.pixels, sha256=sha256_of(path))
    except OSError as error:
        return Inspection(task.name, 0, 0, task.pixels, failure=error.strerror or str(error))
    try:
        meta, detail = read_meta(path), None
        if task.pixels:
            half = frames.read_half(path)
            meta, detail = (
                replace(meta, size=_as_stored(half.size, meta.orientation)),
                quality.relative_detail(half.rgb),
            )
    except RawError as error:
        return replace(found, failure=error.what.replace(str(path), path.name))
    except OSError as error:
        return replace(found, failure=error.strerror or str(error))
    return replace(found, meta=meta, detail=detail)


def _as_stored(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size before orientation: codes from 5 on swap the sides."""
    return (size[1], size[0]) if orientation >= 5 else size


def remembered(memory: Path) -> dict[str, Inspection]:
    """What earlier runs found, by name; lines that do not parse (torn by a kill, other version) are left out."""
    if not memory.is_file():
        return {}
    known = {}
    for line in memory.read_bytes().split(b"\n"):
        try:
            entry = _LINE.validate_json(line)
        except ValidationError:
            continue
        known[entry.name] = entry
    return known


def still_true(entry: Inspection | None, task: Task) -> bool:
    """Whether the file is as it was when `entry` was noted."""
    if entry is None or entry.version != __version__ or entry.pixels != task.pixels:
        return False
    try:
        state = task.path.stat()
    except OSError:
        return False
    return (entry.bytes, entry.modified_ns) == (state.st_size, state.st_mtime_ns)


def note(memory: TextIO, entry: Inspection) -> None:
    """Appends one finding, so that a killed run need not look again."""
    try:
        memory.write(to_json(entry) + "\n")
        memory.flush()
    except OSError as error:
        raise writing_failed(Path(memory.name), error) from error


def remember(memory: Path, entries: Iterable[Inspection]) -> None:
    """Rewrites the memory in a fixed order."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    write_text(memory, "".join(to_json(entry) + "\n" for entry in ordered))
