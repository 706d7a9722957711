"""Thumbnails for the comparison of contents, and the sharpness of the frames; read in a worker process.

A RAW file's embedded preview is used where it is large enough, as it costs a small part of unpacking; otherwise the
half-size frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.containers import RAW_SUFFIXES
from sdd_toolkit.frames import reading as frames
from sdd_toolkit.imaging.content_similarity import band_of
from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.quality import sharpness
from sdd_toolkit.raw.reading import read_preview

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from capture.inspection.inspect_files import InspectionTask

_MIN_PREVIEW_PX = 1000
_MIN_SIDE_PX = 4


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The thumbnail of one file.

    Attributes:
        name: Path of the file relative to the manifest's root.
        band: Detail band (`content_similarity.detail_band`), oriented; None where there is too little texture.
        level: Median linear light, 0 … 1.
        detail: Energy of fine detail relative to brightness, noise removed, of the full picture.
        source: `preview` or `pixels`: the picture it was made from.
        failure: Why there is no thumbnail; empty if there is one.
    """

    name: str
    band: NDArray[np.int8] | None = None
    level: float = 0.0
    detail: float = 0.0
    source: str = "pixels"
    failure: str = ""


def read_thumbnail(task: InspectionTask) -> Thumbnail:
    """Reads the thumbnail of a file; every failure is part of the result."""
    try:
        preview = _read_preview(task.path)
        if preview is not None:
            return thumbnail_of(task.name, preview, "preview")
        half = frames.read_half(task.path)
    except RawError as error:
        return Thumbnail(task.name, failure=error.what.replace(str(task.path), task.path.name))
    return thumbnail_of(task.name, half.rgb, "pixels")


def thumbnail_of(name: str, rgb: NDArray[np.float32], source: str) -> Thumbnail:
    """The thumbnail of an (h, w, 3) linear frame."""
    if min(rgb.shape[:2]) < _MIN_SIDE_PX:
        return Thumbnail(name, source=source)
    light = luminance(rgb)
    large = min(rgb.shape[:2]) >= sharpness.TILE_PX
    mean = float(light.mean())
    return Thumbnail(
        name,
        band_of(light),
        level=float(np.median(light)),
        detail=float(sharpness.measure_detail(rgb).fine.mean()) / mean if large and mean > 0 else 0.0,
        source=source,
    )


def _read_preview(path: Path) -> NDArray[np.float32] | None:
    if path.suffix.lower() not in RAW_SUFFIXES:
        return None
    return read_preview(path, _MIN_PREVIEW_PX)
