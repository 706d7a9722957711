"""Keeps one file of each exposure: separates the versions of a shot from the files that are used."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.inspection.duplicates import SortedFiles, sort_files
from capture.pairing.same_exposure import Doubt
from capture.pairing.scenes import Frame
from capture.pairing.version_names import parse_version_name
from capture.pairing.versions import find_versions
from sdd_toolkit.records import Reason, RejectedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from capture.inspection.inspection_cache import Inspection
    from capture.inspection.scan import ScannedFile
    from capture.inspection.survey import Survey
    from capture.pairing.versions import Version

_UNREAD_PICTURES = (".heic", ".heif", ".hif", ".avif", ".jxl", ".webp", ".psd", ".psb")


def frame_of(name: str, inspection: Inspection) -> Frame | None:
    """The frame of an inspected file; None if it is unreadable."""
    return None if inspection.meta is None else Frame(name, inspection.meta, provenance=inspection.provenance)


def choose_files(
    files: Sequence[ScannedFile], survey: Survey, in_table: Collection[Path], *, check_pixels: bool
) -> SortedFiles:
    """Sorts files, and keeps one of each exposure.

    Args:
        files: In the order of their names, those of a table of pairs first.
        survey: Their inspections; reads thumbnails where names and metadata leave a doubt.
        in_table: Files that a table of pairs names; they are neither copies nor versions.
        check_pixels: Rejects files whose pixels cannot be decoded.
    """
    # Of equal files, the one with the name of a copy is the copy.
    ordered = sorted(files, key=lambda file: (file.path not in in_table, _copy_rank(file.name)))
    found = sort_files(ordered, survey.inspections, in_table, check_pixels=check_pixels)
    versions = _find_versions_of_files(found.usable, survey, in_table)
    used = {file for file in found.usable if file.name not in versions}
    # A copy of a version is of no use: its exposure has a better file.
    copies = {file: original for file, original in found.copies.items() if original not in versions}
    rejected = (
        *(RejectedFile(name, Reason.DUPLICATE, f"another version of {version.original}: {version.evidence}")
          for name, version in versions.items()),
        *(reject_copy(file, original) for file, original in found.copies.items() if original in versions),
    )  # fmt: skip
    return SortedFiles(tuple(file for file in files if file in used), copies, (*found.rejected, *rejected))


def reject_copy(file: ScannedFile, original: str) -> RejectedFile:
    """A file of the same bytes as another, as a rejected file."""
    return RejectedFile(file.name, Reason.DUPLICATE, f"the same bytes as {original}")


def _copy_rank(name: str) -> tuple[bool, int]:
    parsed = parse_version_name(PurePosixPath(name).stem)
    return parsed.is_edited, parsed.numbers


def _find_versions_of_files(
    files: Sequence[ScannedFile], survey: Survey, in_table: Collection[Path]
) -> dict[str, Version]:
    by_name = {file.name: file for file in files}
    frames = [frame for file in files if (frame := frame_of(file.name, survey.inspections[file.ref])) is not None]

    def look_alike(doubtful: Sequence[tuple[str, str, Doubt]]) -> list[bool]:
        from capture.pairing.by_content import is_same_picture, is_same_subject  # needs OpenCV

        names = dict.fromkeys(name for pair in doubtful for name in pair[:2])
        thumbnails = survey.read_thumbnails([by_name[name] for name in names])
        tests = {Doubt.SAME_SUBJECT: is_same_subject, Doubt.SAME_PICTURE: is_same_picture}
        return [tests[doubt](thumbnails[first], thumbnails[second]) for first, second, doubt in doubtful]

    return find_versions(frames, {file.name for file in files if file.path in in_table}, look_alike)


def name_unread_versions(rejected: Iterable[RejectedFile], used: Iterable[str]) -> list[RejectedFile]:
    """`rejected`, where a picture of a format that is not read becomes a version of a used file of its name.

    Args:
        rejected: Files that were not read.
        used: Names of the files that are, in order of preference.
    """
    originals: dict[tuple[PurePosixPath, str], str] = {}
    for name in used:
        folder, stem = _folder_and_stem(name)
        for place in (folder, folder.parent):
            originals.setdefault((place, stem), name)
    return [_name_version(entry, originals) for entry in rejected]


def _name_version(entry: RejectedFile, originals: Mapping[tuple[PurePosixPath, str], str]) -> RejectedFile:
    is_picture = PurePosixPath(entry.path).suffix.lower() in _UNREAD_PICTURES
    if entry.reason is not Reason.UNSUPPORTED or not is_picture:
        return entry
    folder, stem = _folder_and_stem(entry.path)
    original = originals.get((folder, stem)) or originals.get((folder.parent, stem))
    if original is None:
        return entry
    detail = f"another version of {original}, by its name, in a format that is not read"
    return RejectedFile(entry.path, Reason.DUPLICATE, detail)


def _folder_and_stem(name: str) -> tuple[PurePosixPath, str]:
    path = PurePosixPath(name)
    return path.parent, parse_version_name(path.stem).source
