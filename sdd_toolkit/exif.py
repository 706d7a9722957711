"""What a file's EXIF says: exifread first, the decoding library's own metadata where a tag is absent.

A tag that is present but zero, blank or infinite means "unknown" and stays None (LibRaw would turn it into 1 s at
f/1); only a subject may be at infinity. Tags are looked for in the Exif directory and, as TIFF/EP and DNG allow, in
the first image directory.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import exifread

from sdd_toolkit import frames
from sdd_toolkit.errors import RawError
from sdd_toolkit.types import Exposure, FrameMeta

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)
# It warns about every file it does not know; those are LibRaw's to judge.
logging.getLogger("exifread").setLevel(logging.ERROR)

_UNKNOWN_ISO = 65535  # Exif 2.31: "look into another tag"
_INFINITE = 0xFFFFFFFF
_FARTHEST_M = 1e4  # exifread reduces fractions: 0xFFFFFFFF/100 is infinity, too
_TIME = re.compile(r"(\d{4})[:.\-/](\d\d)[:.\-/](\d\d)[ T](\d\d)[:.](\d\d)[:.](\d\d)")


def read_meta(path: Path) -> FrameMeta:
    """Everything a file says about its making; None for what it does not say.

    Raises:
        RawError: The file cannot be read at all.
    """
    tags = _tags(path)
    told = parse(tags)
    if path.suffix.lower() not in frames.RAW_SUFFIXES:
        return told
    try:
        fallback = frames.probe(path)
    except RawError:
        if not tags:
            raise
        return told
    return _completed(told, fallback, tags)


def parse(tags: Mapping[str, Any]) -> FrameMeta:
    """exifread's tags as a `FrameMeta` without `size`."""
    return FrameMeta(
        make=_text(_find(tags, "Make")),
        model=_text(_find(tags, "Model")),
        lens=_text(_find(tags, "LensModel")),
        taken_at=_time(tags),
        orientation=_orientation(_find(tags, "Orientation")),
        exposure=Exposure(
            iso=_iso(tags),
            shutter_s=_number(_find(tags, "ExposureTime")),
            f_number=_number(_find(tags, "FNumber")),
            focal_mm=_number(_find(tags, "FocalLength")),
            focus_m=_distance_m(_find(tags, "SubjectDistance")),
        ),
    )


def _tags(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return dict(exifread.process_file(stream, details=False))
    except OSError as error:
        raise RawError(
            f"cannot read {path}: {error.strerror or error}", hint="check the path and its rights"
        ) from error
    except Exception as error:  # exifread lets many kinds escape on damaged files
        log.debug("%s: exifread failed: %s", path, error)
        return {}


def _find(tags: Mapping[str, Any], name: str) -> Any:
    found = tags.get(f"EXIF {name}")
    return found if found is not None else tags.get(f"Image {name}")


def _completed(told: FrameMeta, fallback: FrameMeta, tags: Mapping[str, Any]) -> FrameMeta:
    def choose(name: str, value: Any, other: Any) -> Any:
        return other if value is None and _find(tags, name) is None else value

    own, others = told.exposure, fallback.exposure
    exposure = Exposure(
        iso=choose("ISOSpeedRatings", own.iso, others.iso),
        shutter_s=choose("ExposureTime", own.shutter_s, others.shutter_s),
        f_number=choose("FNumber", own.f_number, others.f_number),
        focal_mm=choose("FocalLength", own.focal_mm, others.focal_mm),
        focus_m=own.focus_m,
    )
    return replace(
        told,
        lens=choose("LensModel", told.lens, fallback.lens),
        taken_at=choose("DateTimeOriginal", told.taken_at, fallback.taken_at),
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


def _time(tags: Mapping[str, Any]) -> str | None:
    for suffix, name in (("Original", "DateTimeOriginal"), ("Digitized", "DateTimeDigitized"), ("", "DateTime")):
        tag = _find(tags, name)
        if tag is not None:
            return _iso_time(str(tag.values), _text(_find(tags, f"SubSecTime{suffix}")) or "")
    return None


def _iso_time(text: str, fraction: str) -> str | None:
    found = _TIME.match(text.strip())
    if found is None:
        return None
    micros = int(fraction[:6].ljust(6, "0")) if fraction.isdigit() else 0
    try:
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, micros).isoformat()
    except ValueError:
        return None
