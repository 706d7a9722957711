"""Inspection results of files, and their cache beside the manifest; no pixels, no heavy imports.

The cache makes a second run cheap and lets a killed run resume: a file with the same path, size and modification time
is not opened again; one with only a new modification time is hashed but not parsed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.records import FileProvenance, FrameMeta
from sdd_toolkit.storage.files import write_error, write_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import stat_result
    from typing import TextIO

CACHE_FILE = ".ingest-files.jsonl"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The inspection of one file.

    Attributes:
        name: Path relative to the manifest's root.
        bytes: Size of the file.
        modified_ns: Modification time of the file.
        version: Version of the toolkit that inspected it.
        exiftool: Whether ExifTool was available.
        sha256: Hash of the content; empty if the file cannot be used.
        meta: Its metadata; None if unreadable.
        provenance: Whether it is a camera's original or made of one, as far as its metadata tell.
        failure: Why the file cannot be used; empty if it can.
        decoded: Whether its pixels were decoded.
        detail: Energy of fine detail relative to brightness; None if not measured.
        pixel_failure: Why the pixels cannot be decoded; empty if they can, or were not decoded.
    """

    name: str
    bytes: int
    modified_ns: int
    version: str = __version__
    exiftool: bool = False
    sha256: str = ""
    meta: FrameMeta | None = None
    provenance: FileProvenance = field(default_factory=FileProvenance)
    failure: str = ""
    decoded: bool = False
    detail: float | None = None
    pixel_failure: str = ""


def read_cache(path: Path) -> dict[str, Inspection]:
    """The inspections of earlier runs by name, without lines that do not parse (torn by a kill, other version)."""
    from pydantic import TypeAdapter, ValidationError

    if not path.is_file():
        return {}
    adapter = TypeAdapter(Inspection)
    inspections = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            inspection = adapter.validate_json(line)
        except ValidationError:
            continue
        if inspection.version == __version__:
            inspections[inspection.name] = inspection
    return inspections


def is_unchanged(inspection: Inspection | None, state: stat_result, exiftool: bool) -> bool:
    """Whether a file in this state is as it was when it was inspected, with the same use of ExifTool."""
    if inspection is None or inspection.exiftool != exiftool:
        return False
    return (inspection.bytes, inspection.modified_ns) == (state.st_size, state.st_mtime_ns)


def append_to_cache(stream: TextIO, inspection: Inspection) -> None:
    """Appends one inspection, so that a killed run does not repeat it."""
    from sdd_toolkit.pipeline.manifest import to_json

    try:
        stream.write(to_json(inspection) + "\n")
        stream.flush()
    except OSError as error:
        raise write_error(Path(stream.name), error) from error


def write_cache(path: Path, inspections: Iterable[Inspection]) -> None:
    """Rewrites the cache in the order of the names."""
    from sdd_toolkit.pipeline.manifest import to_json

    ordered = sorted(inspections, key=lambda inspection: inspection.name)
    write_text(path, "".join(to_json(inspection) + "\n" for inspection in ordered))
