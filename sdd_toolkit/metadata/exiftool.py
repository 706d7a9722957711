"""Reads tags with ExifTool, where it is installed, that neither exifread nor LibRaw can read. Optional.

Source: https://exiftool.org/exiftool_pod.html. One process reads a batch of files. File names are untrusted: they
are passed as absolute paths, which cannot be options, and those that Perl could take for a pipe are left out.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

_TAGS = (
    "Make", "Model", "LensModel", "LensID", "Lens", "SerialNumber", "DateTimeOriginal", "SubSecTimeOriginal",
    "OffsetTimeOriginal", "ExposureTime#", "FNumber#", "ISO#", "FocalLength#", "FocusDistance#", "SubjectDistance#",
)  # fmt: skip
_START_TIMEOUT_S, _FILE_TIMEOUT_S = 20.0, 0.5
_MAX_FILES = 100


@cache
def find_program() -> str | None:
    """The path of ExifTool; None if it is not installed."""
    return shutil.which("exiftool")


def read_tags(paths: Sequence[Path]) -> Mapping[Path, Mapping[str, Any]]:
    """Reads the tags of each file that ExifTool can read; empty if it is not installed or too slow."""
    tags: dict[Path, Mapping[str, Any]] = {}
    safe = [path for path in paths if _is_safe(path)]
    for start in range(0, len(safe) if find_program() else 0, _MAX_FILES):
        tags |= _run_exiftool(safe[start : start + _MAX_FILES])
    return tags


def _is_safe(path: Path) -> bool:
    name = str(path)
    return path.is_absolute() and name.isprintable() and not name.endswith("|")


def _run_exiftool(paths: Sequence[Path]) -> dict[Path, Mapping[str, Any]]:
    # An empty -config, which must come first, keeps it from running the user's own Perl.
    arguments = [str(find_program()), "-config", "", "-json", "-fast", "-q", "-q", "-charset", "filename=utf8"]
    arguments += [f"-{tag}" for tag in _TAGS]
    try:
        done = subprocess.run(
            [*arguments, *map(str, paths)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_TIMEOUT_S + _FILE_TIMEOUT_S * len(paths),
            check=False,
        )
        entries = json.loads(done.stdout or b"[]")
        return {Path(entry["SourceFile"]): entry for entry in entries}
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError) as error:
        log.debug("exiftool did not answer: %s", error)
        return {}


def parse_number(value: object) -> float | None:
    """A positive, finite number; None for anything else.

    Example:
        >>> parse_number("2.8"), parse_number("undef")
        (2.8, None)
    """
    try:
        parsed = float(str(value))
    except ValueError:
        return None
    return parsed if math.isfinite(parsed) and parsed > 0 else None


def parse_distance_m(tags: Mapping[str, Any]) -> float | None:
    """The focus distance in metres, `math.inf` included; None if unknown."""
    for name in ("FocusDistance", "SubjectDistance"):
        value = tags.get(name)
        if str(value).lower() == "inf":
            return math.inf
        distance_m = parse_number(value)
        if distance_m is not None:
            return distance_m
    return None


def parse_lens(tags: Mapping[str, Any]) -> str | None:
    """The name of the lens; None if it is a code or unknown."""
    for name in ("LensModel", "LensID", "Lens"):
        value = " ".join(str(tags.get(name) or "").split())
        if any(letter.isalpha() for letter in value) and not value.lower().startswith(("unknown", "none", "n/a")):
            return value
    return None
