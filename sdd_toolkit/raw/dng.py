"""Writing a mosaic or linear camera RGB as DNG: one uncompressed strip, and a real Exif IFD.

The same input gives the same bytes.

Sources: Adobe, Digital Negative Specification 1.4; CIPA DC-008 (Exif 2.31); TIFF 6.0.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from sdd_toolkit.imaging.encoding import XYZ_FROM_SRGB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _SRATIONAL, _DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
_PACKING = {_BYTE: "B", _ASCII: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "I", _UNDEFINED: "B", _SRATIONAL: "i"}
_EXIF_IFD = 34665
# tifffile refuses to write that pointer; its neighbour keeps the place in the sorted directory until it is patched.
_STAND_IN = 34664
_D65 = 21
_CFA, _LINEAR_RAW = 32803, 34892

Tag = tuple[int, int, "bytes | Sequence[int]"]


@dataclass(frozen=True, slots=True)
class RawTags:
    """What the file says about the shot and the sensor; what is None is left out of the file.

    Attributes:
        make: Maker of the camera.
        model: Its model.
        lens: Lens model.
        f_number: Opening.
        shutter_s: Exposure time.
        iso: Sensitivity.
        focal_mm: Focal length.
        focal_35mm: Focal length with the same field of view on 36 x 24 mm.
        focus_m: Distance focused at.
        pitch_mm: Pixel pitch.
        taken_at: Local time of the shot; milliseconds are kept.
        cfa: Bayer pattern such as RGGB; of no meaning for linear RGB.
        black_level: Number that means no light.
        white_level: Number that means saturation.
        neutral: Camera RGB of white, green = 1.
        colour_matrix: (3, 3) CIE XYZ to camera RGB under D65.
        noise_profile: (S, O), variance = S signal + O with signal 0 … 1.
        description: What the picture is, in words.
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
    """DNG's ColorMatrix1 of a camera, from what a decoder says of it.

    Args:
        to_srgb: (3, 3) from white-balanced camera RGB to linear sRGB.
        white_balance: Multipliers of R, G, B under D65; a decoder takes out their scale again.
    """
    balanced = np.linalg.inv(np.asarray(to_srgb, dtype=np.float64))
    unbalanced = np.diag(1.0 / np.asarray(white_balance, dtype=np.float64)) @ balanced
    return np.asarray(unbalanced @ np.linalg.inv(XYZ_FROM_SRGB), dtype=np.float64)


def encode(pixels: NDArray[np.uint16], tags: RawTags) -> bytes:
    """The DNG file as bytes.

    Args:
        pixels: (H, W) uint16 mosaic with even sides, or (H, W, 3) uint16 linear camera RGB.
        tags: What to write beside it.
    """
    height, width = pixels.shape[:2]
    linear = pixels.ndim == 3
    one_or_three = 3 if linear else 1
    extra: list[tuple[int, int, int, object, bool]] = [
        (271, _ASCII, 0, tags.make, True),
        (272, _ASCII, 0, tags.model, True),
        (274, _SHORT, 1, 1, True),
        (_STAND_IN, _LONG, 1, 0, True),
        (50706, _BYTE, 4, bytes((1, 4, 0, 0)), True),
        (50707, _BYTE, 4, bytes((1, 3, 0, 0)), True),
        (50708, _ASCII, 0, f"{tags.make} {tags.model}", True),
        (50713, _SHORT, 2, (1, 1), True),
        (50714, _LONG, one_or_three, [tags.black_level] * one_or_three if linear else tags.black_level, True),
        (50717, _LONG, one_or_three, [tags.white_level] * one_or_three if linear else tags.white_level, True),
        (50718, _RATIONAL, 2, (1, 1, 1, 1), True),
        (50719, _LONG, 2, (0, 0), True),
        (50720, _LONG, 2, (width, height), True),
        (50721, _SRATIONAL, 9, _fixed(tags.colour_matrix.ravel()), True),
        (50727, _RATIONAL, 3, (1, 1, 1, 1, 1, 1), True),
        (50728, _RATIONAL, 3, _fixed(tags.neutral), True),
        (50730, _SRATIONAL, 1, (0, 1), True),
        (50778, _SHORT, 1, _D65, True),
        (50829, _LONG, 4, (0, 0, height, width), True),
    ]
    if not linear:
        pattern = bytes("RGB".index(colour) for colour in tags.cfa)
        extra += [
            (33421, _SHORT, 2, (2, 2), True),
            (33422, _BYTE, 4, pattern, True),
            (50710, _BYTE, 3, bytes((0, 1, 2)), True),
            (50711, _SHORT, 1, 1, True),
        ]
    if tags.description is not None:
        extra.append((270, _ASCII, 0, tags.description, True))
    if tags.taken_at is not None:
        extra.append((306, _ASCII, 0, f"{tags.taken_at:%Y:%m:%d %H:%M:%S}", True))
    if tags.noise_profile is not None:
        extra.append((51041, _DOUBLE, 2, tags.noise_profile, True))
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, byteorder="<") as writer:
        writer.write(
            np.ascontiguousarray(pixels),
            photometric=_LINEAR_RAW if linear else _CFA,
            planarconfig="contig" if linear else None,
            compression=None,
            rowsperstrip=height,
            resolution=(300, 300),
            resolutionunit=2,
            software=False,
            metadata=None,
            subfiletype=0,
            extratags=sorted(extra, key=lambda tag: tag[0]),
        )
    return _with_exif(stream.getvalue(), _exif(tags))


def _exif(tags: RawTags) -> list[Tag]:
    told: list[Tag] = [(36864, _UNDEFINED, b"0231"), (41495, _SHORT, (2,)), (41729, _UNDEFINED, b"\x01")]
    if tags.taken_at is not None:
        date, subsecond = f"{tags.taken_at:%Y:%m:%d %H:%M:%S}", f"{tags.taken_at.microsecond // 1000:03d}"
        told += [(code, _ASCII, _text(date)) for code in (36867, 36868)]
        told += [(code, _ASCII, _text(subsecond)) for code in (37520, 37521, 37522)]
    if tags.iso is not None:
        told += [(34855, _SHORT, (min(tags.iso, 65535),)), (34864, _SHORT, (3,)), (34867, _LONG, (tags.iso,))]
    if tags.f_number is not None:
        told += [(33437, _RATIONAL, _ratio(tags.f_number, 100)), (34850, _SHORT, (1,))]
    if tags.pitch_mm is not None:
        per_cm = Fraction(10.0 / tags.pitch_mm).limit_denominator(1000)
        told += [(code, _RATIONAL, (per_cm.numerator, per_cm.denominator)) for code in (41486, 41487)]
        told.append((41488, _SHORT, (3,)))
    for code, value, denominator in (
        (33434, tags.shutter_s, 1_000_000),
        (37382, tags.focus_m, 10000),
        (37386, tags.focal_mm, 1000),
    ):
        if value is not None:
            told.append((code, _RATIONAL, _ratio(value, denominator)))
    if tags.focal_35mm is not None:
        told.append((41989, _SHORT, (tags.focal_35mm,)))
    if tags.lens is not None:
        told.append((42036, _ASCII, _text(tags.lens)))
    return told


def _with_exif(tiff: bytes, tags: list[Tag]) -> bytes:
    """`tiff` with an Exif IFD at its end and the pointer in IFD0 set to it."""
    padded = tiff + b"\0" * (len(tiff) % 2)
    (first,) = struct.unpack_from("<I", padded, 4)
    (count,) = struct.unpack_from("<H", padded, first)
    entries = (first + 2 + 12 * number for number in range(count))
    pointer = next(at for at in entries if struct.unpack_from("<H", padded, at)[0] == _STAND_IN)
    patched = bytearray(padded + _ifd(tags, len(padded)))
    struct.pack_into("<HHII", patched, pointer, _EXIF_IFD, _LONG, 1, len(padded))
    return bytes(patched)


def _ifd(tags: Iterable[Tag], offset: int) -> bytes:
    """A TIFF directory that starts at `offset` in its file, its long values behind it."""
    ordered = sorted(tags, key=lambda tag: tag[0])
    behind = offset + 2 + 12 * len(ordered) + 4
    table, values = struct.pack("<H", len(ordered)), b""
    for code, kind, value in ordered:
        content = struct.pack(f"<{len(value)}{_PACKING[kind]}", *value)
        count = len(value) // 2 if kind in (_RATIONAL, _SRATIONAL) else len(value)
        if len(content) > 4:
            place = struct.pack("<I", behind + len(values))
            values += content + b"\0" * (len(content) % 2)
        else:
            place = content.ljust(4, b"\0")
        table += struct.pack("<HHI", code, kind, count) + place
    return table + struct.pack("<I", 0) + values


def _text(value: str) -> bytes:
    return value.encode("ascii", "replace") + b"\0"


def _ratio(value: float, denominator: int = 1_000_000) -> tuple[int, int]:
    """Numerator and denominator, 1/x for short exposures."""
    if 0 < value < 0.3:
        inverse = Fraction(1 / value).limit_denominator(1000)
        return inverse.denominator, inverse.numerator
    fraction = Fraction(value).limit_denominator(denominator)
    return fraction.numerator, fraction.denominator


def _fixed(values: Iterable[float]) -> tuple[int, ...]:
    """Rationals over 1 000 000, flat."""
    return tuple(part for value in values for part in (round(float(value) * 1_000_000), 1_000_000))
