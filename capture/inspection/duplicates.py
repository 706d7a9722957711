"""Separates inspected files into usable photographs, copies of them, and rejected files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.records import Reason, RejectedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from capture.inspection.inspection_cache import Inspection
    from capture.inspection.scan import ScannedFile


@dataclass(frozen=True, slots=True)
class SortedFiles:
    """The files of a scan.

    Attributes:
        usable: One file of each content.
        copies: Files with the content of a usable one, each with the name of that one.
        rejected: Unreadable files.
    """

    usable: tuple[ScannedFile, ...]
    copies: Mapping[ScannedFile, str]
    rejected: tuple[RejectedFile, ...]


def sort_files(
    files: Sequence[ScannedFile],
    inspections: Mapping[str, Inspection],
    in_table: Collection[Path],
    *,
    check_pixels: bool,
) -> SortedFiles:
    """Sorts inspected files.

    Args:
        files: In order of preference: of equal files the first is usable, the others are copies.
        inspections: By `ScannedFile.ref`.
        in_table: Files that a table of pairs names; they are no copies.
        check_pixels: Rejects files whose pixels cannot be decoded.
    """
    usable: list[ScannedFile] = []
    copies: dict[ScannedFile, str] = {}
    rejected: list[RejectedFile] = []
    original: dict[str, str] = {}
    for file in files:
        inspection = inspections[file.ref]
        if inspection.meta is None or (check_pixels and inspection.pixel_failure):
            detail = inspection.failure or inspection.pixel_failure
            rejected.append(RejectedFile(file.name, Reason.UNREADABLE, detail))
        elif inspection.sha256 in original and file.path not in in_table:
            copies[file] = original[inspection.sha256]
        else:
            original.setdefault(inspection.sha256, file.name)
            usable.append(file)
    return SortedFiles(tuple(usable), copies, tuple(rejected))
