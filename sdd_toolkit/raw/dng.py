"""Encodes a mosaic or linear camera RGB as a DNG file: one uncompressed strip and an Exif directory.

The same input gives the same bytes.

Sources: Adobe, Digital Negative Specification 1.4; CIPA DC-008 (Exif 2.31); TIFF 6.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.formats.embedding import EmbeddedMetadata
from sdd_toolkit.formats.tiff_writer import (
    ASCII,
    BYTE,
    DOUBLE,
    LONG,
    RATIONAL,
    SHORT,
    SRATIONAL,
    UNDEFINED,
    attach_exif,
    byte_order,
    encode_tiff,
    tags_of,
)
from sdd_toolkit.imaging.encoding import XYZ_FROM_SRGB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from sdd_toolkit.formats.tiff_writer import Tag

_D65 = 21
_CFA, _LINEAR_RAW = 32803, 34892
# DNG version, its oldest reader, black levels without a pattern, square pixels, exposure and light source.
_FIXED_TAGS: tuple[Tag, ...] = (
    (274, SHORT, (1,)),
    (50706, BYTE, bytes((1, 4, 0, 0))),
    (50707, BYTE, bytes((1, 3, 0, 0))),
    (50713, SHORT, (1, 1)),
    (50718, RATIONAL, (1, 1, 1, 1)),
    (50719, LONG, (0, 0)),
    (50727, RATIONAL, (1, 1, 1, 1, 1, 1)),
    (50730, SRATIONAL, (0, 1)),
    (50778, SHORT, (_D65,)),
)
# Of a mosaic: a 2x2 pattern of three colours in a rectangular layout.
_MOSAIC_TAGS: tuple[Tag, ...] = (
    (33421, SHORT, (2, 2)),
    (50710, BYTE, bytes((0, 1, 2))),
    (50711, SHORT, (1,)),
)
_FIXED_EXIF_TAGS: tuple[Tag, ...] = (
    (36864, UNDEFINED, b"0231"),
    (41495, SHORT, (2,)),
    (41729, UNDEFINED, b"\x01"),
)


@dataclass(frozen=True, slots=True)
class RawTags:
    """Metadata of the shot and the sensor; values of None are left out of the file.

    Attributes:
        make: Maker of the camera.
        model: Its model.
        lens: Lens model.
        f_number: F-number.
        shutter_s: Exposure time.
        iso: Sensitivity.
        focal_mm: Focal length.
        focal_35mm: Focal length with the same field of view on 36 x 24 mm.
        focus_m: Distance focused at.
        pitch_mm: Pixel pitch.
        taken_at: Local time of the shot, written to the millisecond.
        cfa: Bayer pattern such as RGGB; unused for linear RGB.
        black_level: Code of no light.
        white_level: Code of saturation.
        neutral: Camera RGB of white, green = 1.
        colour_matrix: (3, 3) CIE XYZ to camera RGB under D65.
        noise_profile: (S, O), variance = S signal + O with signal 0 … 1.
        description: Description of the picture.
    """

    make: str
    model: str
    black_level: int
    white_level: int
    neutral: Sequence[float]
    colour_matrix: NDArray[np.float64]
    cfa: str = "RGGB"
    lens: str | None = None
    f_number: float | None = None
    shutter_s: float | None = None
    iso: int | None = None
    focal_mm: float | None = None
    focal_35mm: int | None = None
    focus_m: float | None = None
    pitch_mm: float | None = None
    taken_at: datetime | None = None
    noise_profile: tuple[float, float] | None = None
    description: str | None = None


def colour_matrix(to_srgb: Sequence[Sequence[float]], white_balance: Sequence[float]) -> NDArray[np.float64]:
    """DNG's ColorMatrix1 of a camera: (3, 3) from CIE XYZ to camera RGB.

    Args:
        to_srgb: (3, 3) from white-balanced camera RGB to linear sRGB.
        white_balance: Multipliers of R, G, B under D65; a decoder removes their scale.
    """
    balanced = np.linalg.inv(np.asarray(to_srgb, dtype=np.float64))
    unbalanced = np.diag(1.0 / np.asarray(white_balance, dtype=np.float64)) @ balanced
    return np.asarray(unbalanced @ np.linalg.inv(XYZ_FROM_SRGB), dtype=np.float64)


def encode(
    pixels: NDArray[np.uint16],
    tags: RawTags,
    copied: EmbeddedMetadata = EmbeddedMetadata(),  # noqa: B008 frozen
) -> bytes:
    """Encodes a DNG file.

    Args:
        pixels: (H, W) uint16 mosaic with even sides, or (H, W, 3) uint16 linear camera RGB.
        tags: Its metadata.
        copied: Metadata of the photograph it was made from, which replace those of the shot in `tags`.
    """
    is_linear = pixels.ndim == 3
    block = copied.exif
    content = encode_tiff(
        pixels,
        [
            *_FIXED_TAGS,
            *_frame_tags(pixels.shape, tags),
            *_shot_tags(tags),
            *([] if is_linear else _mosaic_tags(tags)),
            *tags_of(copied),
        ],
        _exif_tags(tags) if block is None else None,
        byteorder=byte_order(block),
        photometric=_LINEAR_RAW if is_linear else _CFA,
        planarconfig="contig" if is_linear else None,
        compression=None,
        rowsperstrip=pixels.shape[0],
        resolution=(300, 300),
        resolutionunit=2,
        subfiletype=0,
    )
    return content if block is None else attach_exif(content, block)


def _frame_tags(shape: tuple[int, ...], tags: RawTags) -> list[Tag]:
    """Levels, colours and area of the pixels."""
    height, width = shape[:2]
    channels = 1 if len(shape) == 2 else 3
    return [
        (50714, LONG, [tags.black_level] * channels),
        (50717, LONG, [tags.white_level] * channels),
        (50720, LONG, (width, height)),
        (50721, SRATIONAL, _millionths(tags.colour_matrix.ravel())),
        (50728, RATIONAL, _millionths(tags.neutral)),
        (50829, LONG, (0, 0, height, width)),
    ]


def _mosaic_tags(tags: RawTags) -> list[Tag]:
    return [*_MOSAIC_TAGS, (33422, BYTE, bytes("RGB".index(colour) for colour in tags.cfa))]


def _shot_tags(tags: RawTags) -> list[Tag]:
    """Camera, description, time and noise, as far as they are known."""
    texts = {
        270: tags.description,
        271: tags.make,
        272: tags.model,
        306: None if tags.taken_at is None else f"{tags.taken_at:%Y:%m:%d %H:%M:%S}",
        50708: f"{tags.make} {tags.model}",
    }
    known: list[Tag] = [(code, ASCII, text) for code, text in texts.items() if text is not None]
    return known if tags.noise_profile is None else [*known, (51041, DOUBLE, tags.noise_profile)]


def _exif_tags(tags: RawTags) -> list[Tag]:
    known: list[Tag] = list(_FIXED_EXIF_TAGS)
    if tags.taken_at is not None:
        date, subsecond = f"{tags.taken_at:%Y:%m:%d %H:%M:%S}", f"{tags.taken_at.microsecond // 1000:03d}"
        known += [(code, ASCII, _ascii(date)) for code in (36867, 36868)]
        known += [(code, ASCII, _ascii(subsecond)) for code in (37520, 37521, 37522)]
    if tags.iso is not None:
        known += [(34855, SHORT, (min(tags.iso, 65535),)), (34864, SHORT, (3,)), (34867, LONG, (tags.iso,))]
    if tags.f_number is not None:
        known += [(33437, RATIONAL, _ratio(tags.f_number, 100)), (34850, SHORT, (1,))]
    if tags.pitch_mm is not None:
        per_cm = Fraction(10.0 / tags.pitch_mm).limit_denominator(1000)
        known += [(code, RATIONAL, (per_cm.numerator, per_cm.denominator)) for code in (41486, 41487)]
        known.append((41488, SHORT, (3,)))
    for code, value, denominator in (
        (33434, tags.shutter_s, 1_000_000),
        (37382, tags.focus_m, 10000),
        (37386, tags.focal_mm, 1000),
    ):
        if value is not None:
            known.append((code, RATIONAL, _ratio(value, denominator)))
    if tags.focal_35mm is not None:
        known.append((41989, SHORT, (tags.focal_35mm,)))
    if tags.lens is not None:
        known.append((42036, ASCII, _ascii(tags.lens)))
    return known


def _ascii(value: str) -> bytes:
    return value.encode("ascii", "replace") + b"\0"


def _ratio(value: float, denominator: int) -> tuple[int, int]:
    """Numerator and denominator; 1/x for short exposures."""
    if 0 < value < 0.3:
        inverse = Fraction(1 / value).limit_denominator(1000)
        return inverse.denominator, inverse.numerator
    fraction = Fraction(value).limit_denominator(denominator)
    return fraction.numerator, fraction.denominator


def _millionths(values: Iterable[float]) -> tuple[int, ...]:
    """Rationals over 1 000 000: numerator, denominator, and so on."""
    return tuple(part for value in values for part in (round(float(value) * 1_000_000), 1_000_000))
