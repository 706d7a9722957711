"""What is known of the files, and the memory of it beside the manifest: no pixels, no heavy imports.

The memory makes a second run cheap and a killed one resume: a file with the same path, size and modification time
is not opened again, and one that was only touched is hashed but not read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.records import FrameMeta
from sdd_toolkit.storage.files import write_error, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import stat_result
    from typing import TextIO

CACHE_FILE = ".ingest-files.jsonl"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        name: Path relative to the manifest's root.
        bytes: Size of the file.
        modified_ns: Its modification time.
        version: Of the toolkit that looked.
        exiftool: Whether ExifTool was there to be asked.
        sha256: Hash of its content; empty if it cannot be used.
        meta: What it says of its making; None if unreadable.
        failure: Why it cannot be used; empty if it can.
        decoded: Whether its pixels were decoded.
        detail: Energy of fine detail relative to brightness; None if not measured.
        pixel_failure: Why the pixels cannot be decoded; empty if they can, or nobody tried.
    """

    name: str
    bytes: int
    modified_ns: int
    version: str = __version__
    exiftool: bool = False
    sha256: str = ""
    meta: FrameMeta | None = None
    failure: str = ""
    decoded: bool = False
    detail: float | None = None
    pixel_failure: str = ""


def read_cache(memory: Path) -> dict[str, Inspection]:
    """What earlier runs found, by name; lines that do not parse (torn by a kill, other version) are left out."""
    from pydantic import TypeAdapter, ValidationError

    if not memory.is_file():
        return {}
    line_of = TypeAdapter(Inspection)
    known = {}
    for line in memory.read_bytes().split(b"\n"):
        try:
            entry = line_of.validate_json(line)
        except ValidationError:
            continue
        if entry.version == __version__:
            known[entry.name] = entry
    return known


def is_unchanged(entry: Inspection | None, state: stat_result, exiftool: bool) -> bool:
    """Whether a file in this state is as it was when `entry` was noted."""
    if entry is None or entry.exiftool != exiftool:
        return False
    return (entry.bytes, entry.modified_ns) == (state.st_size, state.st_mtime_ns)


def append_to_cache(memory: TextIO, entry: Inspection) -> None:
    """Appends one finding, so that a killed run need not look again."""
    from sdd_toolkit.pipeline.manifest import to_json

    try:
        memory.write(to_json(entry) + "\n")
        memory.flush()
    except OSError as error:
        raise write_error(Path(memory.name), error) from error


def write_cache(memory: Path, entries: Iterable[Inspection]) -> None:
    """Rewrites the memory in a fixed order."""
    from sdd_toolkit.pipeline.manifest import to_json

    ordered = sorted(entries, key=lambda entry: entry.name)
    write_text(memory, "".join(to_json(entry) + "\n" for entry in ordered))
