"""Asking ExifTool, where it is installed, what neither exifread nor LibRaw know; never needed, never trusted blindly.

Source: https://exiftool.org/exiftool_pod.html. One process answers for a batch of files. File names are hostile: they
are handed over as absolute paths, which cannot be options, and those that Perl could take for a pipe are left out.
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
_START_S, _FILE_S = 20.0, 0.5
_MOST_FILES = 100


@cache
def find_program() -> str | None:
    """Where ExifTool is; None if it is not installed."""
    return shutil.which("exiftool")


def read_tags(paths: Sequence[Path]) -> Mapping[Path, Mapping[str, Any]]:
    """The tags of each file that ExifTool could read; empty where it is not installed or does not answer in time."""
    told: dict[Path, Mapping[str, Any]] = {}
    safe = [path for path in paths if _is_safe(path)]
    for start in range(0, len(safe) if find_program() else 0, _MOST_FILES):
        told |= _answers(safe[start : start + _MOST_FILES])
    return told


def _is_safe(path: Path) -> bool:
    name = str(path)
    return path.is_absolute() and name.isprintable() and not name.endswith("|")


def _answers(paths: Sequence[Path]) -> dict[Path, Mapping[str, Any]]:
    # An empty -config, which must come first, keeps it from running the user's own Perl.
    words = [str(find_program()), "-config", "", "-json", "-fast", "-q", "-q", "-charset", "filename=utf8"]
    words += [f"-{tag}" for tag in _TAGS]
    try:
        done = subprocess.run(
            [*words, *map(str, paths)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_S + _FILE_S * len(paths),
            check=False,
        )
        entries = json.loads(done.stdout or b"[]")
        return {Path(entry["SourceFile"]): entry for entry in entries}
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError) as error:
        log.debug("exiftool did not answer: %s", error)
        return {}


def parse_number(value: object) -> float | None:
    """A positive, finite number; None for anything else."""
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) and found > 0 else None


def parse_distance_m(tags: Mapping[str, Any]) -> float | None:
    """The focus distance, infinity included."""
    for name in ("FocusDistance", "SubjectDistance"):
        value = tags.get(name)
        if str(value).lower() == "inf":
            return math.inf
        found = parse_number(value)
        if found is not None:
            return found
    return None


def parse_lens(tags: Mapping[str, Any]) -> str | None:
    """The lens's name; None where ExifTool shows a code or does not know."""
    for name in ("LensModel", "LensID", "Lens"):
        value = " ".join(str(tags.get(name) or "").split())
        if any(letter.isalpha() for letter in value) and not value.lower().startswith(("unknown", "none", "n/a")):
            return value
    return None
