"""Separates inspected files into usable photographs, copies of them, and rejected files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sdd_toolkit.formats.containers import RAW_SUFFIXES
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
        rejected: Unreadable files, and the JPEG that a camera writes beside its RAW file.
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
        in_table: Files that a table of pairs names; they are neither copies nor a camera's JPEG.
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
    jpegs = _camera_jpegs(usable, in_table)
    rejected += [
        RejectedFile(file.name, Reason.DUPLICATE, f"the camera's own picture of {raw}") for file, raw in jpegs.items()
    ]
    return SortedFiles(tuple(file for file in usable if file not in jpegs), copies, tuple(rejected))


def _camera_jpegs(files: Sequence[ScannedFile], in_table: Collection[Path]) -> dict[ScannedFile, str]:
    """JPEG files of shots of which there is a RAW file, each with the name of that one."""
    raws = {_shot_key(file): file.name for file in files if _suffix(file) in RAW_SUFFIXES}
    return {
        file: raws[_shot_key(file)]
        for file in files
        if _suffix(file) in (".jpg", ".jpeg") and _shot_key(file) in raws and file.path not in in_table
    }


def _shot_key(file: ScannedFile) -> tuple[str, str]:
    """Folder and stem: cameras name the JPEG of a shot like its RAW file."""
    path = PurePosixPath(file.name)
    return str(path.parent), path.stem.lower()


def _suffix(file: ScannedFile) -> str:
    return PurePosixPath(file.name).suffix.lower()
