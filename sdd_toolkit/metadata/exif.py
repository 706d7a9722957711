"""Reads EXIF metadata of RAW files and images: exifread first, then LibRaw and MakerNotes, ExifTool last.

A tag that is present but zero, blank or infinite means "unknown" and stays None (LibRaw would turn it into 1 s at
f/1); only a subject may be at infinity. Tags are read from the Exif directory and, as TIFF/EP and DNG allow, from
the first image directory; the metadata blocks of CR3 and RAF files, which exifread does not find, are passed to it.
"""

from __future__ import annotations

import io
import logging
import math
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import exifread

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.colour import colour_of
from sdd_toolkit.formats.containers import RAW_SUFFIXES, Kind, Structure, read_structure
from sdd_toolkit.formats.tiff import is_demosaiced, reader
from sdd_toolkit.metadata import exiftool
from sdd_toolkit.metadata.maker_notes import MakerNote, has_maker_note, read_maker_note
from sdd_toolkit.raw.reading import read_metadata
from sdd_toolkit.records import Exposure, FileProvenance, FrameMeta

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sdd_toolkit.formats.tiff import ReadAt

log = logging.getLogger(__name__)
# It warns about every file of an unknown format; LibRaw decides about those.
logging.getLogger("exifread").setLevel(logging.ERROR)

_UNKNOWN_ISO = 65535  # Exif 2.31: "look into another tag"
_INFINITE = 0xFFFFFFFF
_FARTHEST_M = 1e4  # exifread reduces fractions: 0xFFFFFFFF/100 is infinity, too
_TIME = re.compile(r"(\d{4})[:.\-/](\d\d)[:.\-/](\d\d)[ T](\d\d)[:.](\d\d)[:.](\d\d)(\.\d+)?")
_OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d")
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class ParsedExif:
    """The metadata of a file, its provenance, and whether ExifTool may add to the metadata."""

    meta: FrameMeta
    provenance: FileProvenance
    needs_exiftool: bool


def read_meta(path: Path) -> FrameMeta:
    """Reads the metadata of a file without ExifTool; missing values are None.

    Raises:
        RawError: The file cannot be read at all.
    """
    try:
        with path.open("rb") as stream:
            try:
                structure = read_structure(stream, path)
            except RawError:  # a truncated picture still has its metadata
                structure = Structure(Kind.UNKNOWN)
            return read_exif(path, stream, structure).meta
    except OSError as error:
        raise RawError(
            f"cannot read {path}: {error.strerror or error}", hint="check the path and its rights"
        ) from error


def read_exif(path: Path, stream: BinaryIO, structure: Structure) -> ParsedExif:
    """Reads the metadata of an open file whose structure is known.

    Raises:
        RawError: It is named as RAW, and neither exifread nor LibRaw can read it; or the colours of an image are not
            those of RGB primaries.
    """
    tags = _read_tags(stream, structure)
    meta = parse_tags(tags)
    is_raw = path.suffix.lower() in RAW_SUFFIXES
    if is_raw:
        try:
            exposure = meta.exposure
            shot = (exposure.iso, exposure.shutter_s, exposure.f_number, exposure.focal_mm, meta.lens, meta.taken_at)
            meta = _complete_with_libraw(meta, read_metadata(path, shot=None in shot), tags)
        except RawError:
            if not tags or structure.kind is not Kind.UNKNOWN:
                raise
    elif structure.size is not None:
        height, width = structure.size
        colour = colour_of(stream, path).conversion or None
        meta = replace(meta, size=(height // 2 * 2, width // 2 * 2), colour=colour)
    provenance = _provenance(tags, reader(stream), path)
    if not _is_incomplete(meta):
        return ParsedExif(meta, provenance, needs_exiftool=False)
    has_note = has_maker_note(reader(stream), structure.exif)
    if has_note:
        meta = _complete_with_note(meta, read_maker_note(reader(stream), structure.exif, meta.make or ""))
    needs_exiftool = _is_incomplete(meta) and (has_note or (is_raw and not tags))
    return ParsedExif(meta, provenance, needs_exiftool)


def parse_tags(tags: Mapping[str, Any]) -> FrameMeta:
    """Converts exifread's tags to a `FrameMeta` without `size`."""
    taken_at, utc_offset = _time(tags)
    return FrameMeta(
        make=_text(_find(tags, "Make")),
        model=_text(_find(tags, "Model")),
        lens=_text(_find(tags, "LensModel")),
        taken_at=taken_at,
        orientation=_orientation(_find(tags, "Orientation")),
        exposure=Exposure(
            iso=_iso(tags),
            shutter_s=_number(_find(tags, "ExposureTime")),
            f_number=_number(_find(tags, "FNumber")),
            focal_mm=_number(_find(tags, "FocalLength")),
            focus_m=_distance_m(_find(tags, "SubjectDistance")),
        ),
        utc_offset=utc_offset,
        serial=_text(_find(tags, "BodySerialNumber")) or _text(tags.get("Image Tag 0xC62F")),
    )


def _provenance(tags: Mapping[str, Any], read: ReadAt, path: Path) -> FileProvenance:
    shot_times = (_find(tags, name) for name in ("DateTimeOriginal", "DateTimeDigitized"))
    changed = _find(tags, "DateTime")
    return FileProvenance(
        software=_text(_find(tags, "Software")),
        raw_name=_original_raw_name(tags.get("Image Tag 0xC68B")),
        has_shot_time=changed is None or any(tag is not None and _TIME.match(str(tag.values)) for tag in shot_times),
        is_demosaiced=path.suffix.lower() == ".dng" and is_demosaiced(read),
    )


def _original_raw_name(tag: Any) -> str | None:
    """DNG's OriginalRawFileName: text, or the bytes of UTF-8 text."""
    values = getattr(tag, "values", None)
    if isinstance(values, list):
        return bytes(value & 255 for value in values).decode("utf-8", "replace").strip("\0 ") or None
    return _text(tag)


def complete_with_exiftool(meta: FrameMeta, tags: Mapping[str, Any]) -> FrameMeta:
    """Adds ExifTool's values where `meta` has none."""
    own = meta.exposure
    time = _TIME.match(str(tags.get("DateTimeOriginal") or ""))
    sub_second = str(tags.get("SubSecTimeOriginal") or "")
    return replace(
        meta,
        make=meta.make or (str(tags.get("Make") or "").strip() or None),
        model=meta.model or (str(tags.get("Model") or "").strip() or None),
        lens=meta.lens or exiftool.parse_lens(tags),
        taken_at=meta.taken_at or (_iso_time(time.group(), sub_second) if time else None),
        exposure=Exposure(
            iso=own.iso or exiftool.parse_number(tags.get("ISO")),
            shutter_s=own.shutter_s or exiftool.parse_number(tags.get("ExposureTime")),
            f_number=own.f_number or exiftool.parse_number(tags.get("FNumber")),
            focal_mm=own.focal_mm or exiftool.parse_number(tags.get("FocalLength")),
            focus_m=own.focus_m or exiftool.parse_distance_m(tags),
        ),
        serial=meta.serial or (str(tags.get("SerialNumber") or "").strip() or None),
    )


def _is_incomplete(meta: FrameMeta) -> bool:
    exposure = meta.exposure
    numbers = (exposure.iso, exposure.shutter_s, exposure.f_number, exposure.focal_mm, exposure.focus_m)
    return None in (*numbers, meta.make, meta.model, meta.lens, meta.taken_at)


def _complete_with_note(meta: FrameMeta, note: MakerNote) -> FrameMeta:
    focus_m = meta.exposure.focus_m if meta.exposure.focus_m is not None else note.focus_m
    return replace(
        meta,
        lens=meta.lens or note.lens,
        serial=meta.serial or note.serial,
        exposure=replace(meta.exposure, focus_m=focus_m),
    )


def _read_tags(stream: BinaryIO, structure: Structure) -> dict[str, Any]:
    if structure.kind not in (Kind.ISO_MEDIA, Kind.RAF):
        return _run_exifread(stream)
    tags: dict[str, Any] = {}
    for start in structure.exif:
        tags = {**_run_exifread(io.BytesIO(reader(stream)(start, _BLOCK_BYTES))), **tags}
    return tags


def _run_exifread(stream: BinaryIO) -> dict[str, Any]:
    try:
        return dict(exifread.process_file(stream, details=False, extract_thumbnail=False))
    except Exception as error:  # exifread raises many kinds on damaged files
        log.debug("exifread failed: %s", error)
        return {}


def _find(tags: Mapping[str, Any], name: str) -> Any:
    tag = tags.get(f"EXIF {name}")
    return tag if tag is not None else tags.get(f"Image {name}")


def _complete_with_libraw(meta: FrameMeta, fallback: FrameMeta, tags: Mapping[str, Any]) -> FrameMeta:
    def choose(name: str, value: Any, other: Any) -> Any:
        return other if value is None and _find(tags, name) is None else value

    own, others = meta.exposure, fallback.exposure
    exposure = Exposure(
        iso=choose("ISOSpeedRatings", own.iso, others.iso),
        shutter_s=choose("ExposureTime", own.shutter_s, others.shutter_s),
        f_number=choose("FNumber", own.f_number, others.f_number),
        focal_mm=choose("FocalLength", own.focal_mm, others.focal_mm),
        focus_m=own.focus_m,
    )
    return replace(
        meta,
        lens=choose("LensModel", meta.lens, fallback.lens),
        taken_at=choose("DateTimeOriginal", meta.taken_at, fallback.taken_at),
        orientation=fallback.orientation,
        size=fallback.size,
        exposure=exposure,
    )


def _text(tag: Any) -> str | None:
    if tag is None:
        return None
    return " ".join(str(tag.values).replace("\0", " ").split()) or None


def _number(tag: Any) -> float | None:
    values = getattr(tag, "values", None)
    if not isinstance(values, list | tuple) or not values:
        return None
    first = values[0]
    if getattr(first, "num", first) == _INFINITE:
        return None
    try:
        value = float(first)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _distance_m(tag: Any) -> float | None:
    """A subject distance; infinity where the numerator is all ones (Exif 2.31), None where it is 0."""
    values = getattr(tag, "values", None)
    if isinstance(values, list | tuple) and values and getattr(values[0], "num", None) == _INFINITE:
        return math.inf
    value = _number(tag)
    return math.inf if value is not None and value > _FARTHEST_M else value


def _iso(tags: Mapping[str, Any]) -> float | None:
    for name in ("ISOSpeedRatings", "PhotographicSensitivity", "RecommendedExposureIndex", "ISOSpeed"):
        value = _number(_find(tags, name))
        if value is not None and value != _UNKNOWN_ISO:
            return value
    return None


def _orientation(tag: Any) -> int:
    value = _number(tag)
    return int(value) if value is not None and 1 <= value <= 8 else 1


def _time(tags: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The time of the shot, by the first tag that holds one, and the offset from UTC that belongs to the tag."""
    for suffix, name in (("Original", "DateTimeOriginal"), ("Digitized", "DateTimeDigitized"), ("", "DateTime")):
        tag = _find(tags, name)
        if tag is None:
            continue
        taken_at = _iso_time(str(tag.values), _text(_find(tags, f"SubSecTime{suffix}")) or "")
        if taken_at is not None:
            zone = _text(_find(tags, f"OffsetTime{suffix}")) or ""
            return taken_at, zone if _OFFSET.fullmatch(zone) else None
    return None, None


def _iso_time(text: str, fraction: str) -> str | None:
    time = _TIME.match(text.strip())
    if time is None:
        return None
    digits = fraction if fraction.isdigit() else (time.group(7) or "")[1:]
    micros = int(digits[:6].ljust(6, "0"))
    try:
        year, month, day, hour, minute, second = map(int, time.groups()[:6])
        return datetime(year, month, day, hour, minute, second, micros).isoformat()
    except ValueError:
        return None
