"""The colour space of an image file: its ICC profile, the colour chunks of PNG, or the colour space of Exif.

Of several, the first counts: PNG's `cICP`; an ICC profile; PNG's `sRGB`; its `gAMA` and `cHRM`; Exif. An image that
says nothing, and one whose profile is damaged, is taken as sRGB. Sources: PNG 3rd edition, 4.3 and 11.3.2; ITU-T H.273;
ICC.1:2022, annex B; CIPA DC-008 (Exif 2.31), `ColorSpace`, and its interoperability rule R03 (Adobe RGB).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import jpeg
from sdd_toolkit.formats import tiff as tiff_directory
from sdd_toolkit.formats.containers import Kind, exif_range, inflate_chunk, kind_of, png_chunks
from sdd_toolkit.formats.embedding import ICC_HEAD
from sdd_toolkit.formats.icc import MAX_BYTES, UnsupportedProfileError, encode_icc, parse_icc
from sdd_toolkit.imaging.colour_profile import (
    BT709_CURVE,
    SRGB_CURVE,
    SRGB_PRIMARIES,
    WHITE_D65,
    ColourProfile,
    Curve,
    check_profile,
    colorants_of,
    is_srgb,
)
from sdd_toolkit.imaging.encoding import Encoding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sdd_toolkit.formats.tiff import ReadAt, Tiff

_COLOUR_CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_LONGEST_CHUNK = MAX_BYTES
_ICC_TAG, _PHOTOMETRIC, _EXIF, _INTEROPERABILITY, _INDEX, _COLOUR_SPACE = 34675, 262, 34665, 40965, 1, 40961
_MODELS = {5: "CMYK", 8: "CIE L*a*b*", 9: "CIE L*a*b*", 10: "CIE L*a*b*"}
_CONVERT = "convert it to sRGB or another RGB profile with primaries"
_UNCALIBRATED, _ADOBE_RGB = 0xFFFF, 2
_ADOBE_PRIMARIES = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_SRGB_GAMMA, _GAMMA_TOLERANCE, _XY_TOLERANCE = 0.45455, 0.005, 0.002
_SMPTE_170M = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), WHITE_D65
# H.273: primaries and white by code, and curves.
_PRIMARIES = {
    1: (SRGB_PRIMARIES, WHITE_D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), (0.310, 0.316)),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), WHITE_D65),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), WHITE_D65),
    11: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), (0.314, 0.351)),
    12: (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), WHITE_D65),
}
_PRIMARY_NAMES = {1: "BT.709", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_CURVES = {1: BT709_CURVE, 4: Curve(2.2), 5: Curve(2.8), 6: BT709_CURVE, 8: Curve(), 13: SRGB_CURVE, 14: BT709_CURVE,
           15: BT709_CURVE}  # fmt: skip
_CURVE_NAMES = {4: "gamma 2.2", 5: "gamma 2.8", 8: "linear", 13: "sRGB curve"}
_HDR = {16: "PQ", 18: "HLG"}
_UNSPECIFIED = 2


@dataclass(frozen=True, slots=True)
class ImageColour:
    """The colour space of an image.

    Attributes:
        profile: The space; None: sRGB, or nothing is known and sRGB is assumed.
        icc: An ICC profile for RGB images with the same code values: the file's own, or one made from what it says
            otherwise; None where it says nothing or names sRGB.
        chunks: Colour chunks of a PNG without ICC profile, name and content.
        remark: Why sRGB is assumed, where the file says something else; empty if it does not.
    """

    profile: ColourProfile | None = None
    icc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    remark: str = ""

    @property
    def conversion(self) -> str:
        """What is done to bring the pixels to sRGB, to be said of a frame; empty: nothing."""
        return f"converted from {self.profile.name} to sRGB primaries" if self.profile is not None else self.remark


def colour_of_encoding(encoding: Encoding) -> ImageColour:
    """The colour space of pixels in one of the encodings of shards; sRGB goes without saying."""
    if encoding is not Encoding.LINEAR16:
        return ImageColour()
    return _from_numbers(ColourProfile("linear sRGB", (Curve(), Curve(), Curve()), colorants_of(SRGB_PRIMARIES)))


def read_colour(path: Path) -> ImageColour:
    """The colour space of a JPEG, PNG or TIFF file.

    Raises:
        RawError: The file cannot be read, or its colours are not those of RGB primaries.
    """
    try:
        with path.open("rb") as stream:
            return colour_of(stream, path)
    except OSError as error:
        raise RawError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error


def colour_of(stream: BinaryIO, path: Path) -> ImageColour:
    """The same of an open file; `path` is for messages."""
    check_model(stream, path)
    length = stream.seek(0, 2)
    read = tiff_directory.reader(stream)
    kind, _ = kind_of(read(0, 16))
    try:
        if kind is Kind.JPEG:
            colour = _jpeg_colour(read, length)
        elif kind is Kind.PNG:
            colour = _png_colour(read, length)
        else:
            colour = _tiff_colour(read) if kind is Kind.TIFF else None
        return colour if colour is not None else _exif_colour(stream, read, kind)
    except UnsupportedProfileError as error:
        raise RawError(f"{path}: {error}", hint=_CONVERT) from error
    except (EOFError, ValueError, struct.error, OverflowError):
        # What is damaged here is found again, and named, when the pixels are decoded.
        return ImageColour()


def check_model(stream: BinaryIO, path: Path) -> None:
    """Raises RawError for an image that is neither RGB nor grey, which decoders would return as if it were."""
    try:
        model = _colour_model(stream)
    except (EOFError, ValueError, struct.error, OverflowError):
        return
    if model is not None:
        raise RawError(f"{path} has the colours of {model}, not RGB", hint=_CONVERT)


def _colour_model(stream: BinaryIO) -> str | None:
    """The name of a model that is neither RGB nor grey."""
    length = stream.seek(0, 2)
    read = tiff_directory.reader(stream)
    kind, _ = kind_of(read(0, 16))
    if kind is Kind.JPEG:
        header = jpeg.frame_header(read, length)
        return "CMYK" if header is not None and header[9:] == b"\x04" else None
    tiff = tiff_directory.open_tiff(read) if kind is Kind.TIFF else None
    if tiff is None:
        return None
    entries, _ = tiff_directory.read_directory(tiff, tiff.first)
    return _MODELS.get(tiff_directory.first_number(tiff, entries.get(_PHOTOMETRIC)))


@lru_cache(maxsize=32)
def _from_icc(content: bytes) -> ImageColour:
    try:
        profile, is_grey = parse_icc(content)
    except UnsupportedProfileError:
        raise
    except ValueError as error:
        return ImageColour(remark=f"taken as sRGB, as its colour profile is damaged: {error}")
    # Pictures are written as RGB, which a profile of grey values does not fit.
    return ImageColour(None if is_srgb(profile) else profile, encode_icc(profile) if is_grey else content)


def _from_numbers(profile: ColourProfile, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> ImageColour:
    check_profile(profile)
    if is_srgb(profile):
        return ImageColour(chunks=chunks)
    return ImageColour(profile, encode_icc(profile), chunks)


def _jpeg_colour(read: ReadAt, length: int) -> ImageColour | None:
    parts: dict[int, bytes] = {}
    expected = 0
    for code, position, head in jpeg.segments(read, length):
        if code == jpeg.SCAN:
            break
        size = int.from_bytes(head[2:4], "big")
        if code != jpeg.APP2 or size < 16 or read(position + 4, 12) != ICC_HEAD:
            continue
        number, expected = read(position + 16, 2)
        parts.setdefault(number, read(position + 18, size - 16))
    if not parts:
        return None
    if sorted(parts) != list(range(1, expected + 1)):
        return ImageColour(remark="taken as sRGB, as its colour profile is damaged: a part is missing")
    return _from_icc(b"".join(parts[number] for number in sorted(parts)))


def _png_colour(read: ReadAt, length: int) -> ImageColour | None:
    found: dict[bytes, bytes] = {}
    for name, start, end in png_chunks(read, length):
        if name == b"IDAT":
            break
        if name in _COLOUR_CHUNKS and end - start <= _LONGEST_CHUNK:
            found.setdefault(name, read(start, end - start))
    chunks = tuple(found.items())
    if len(coded := found.get(b"cICP", b"")) == 4 and _UNSPECIFIED not in coded[:2]:
        return _from_cicp(coded, chunks)
    if b"iCCP" in found:
        try:
            profile = inflate_chunk(found[b"iCCP"].partition(b"\0")[2][1:], MAX_BYTES)
        except ValueError as error:
            return ImageColour(remark=f"taken as sRGB, as its colour profile is damaged: {error}")
        return _from_icc(profile)
    if b"sRGB" in found:
        return ImageColour(chunks=chunks)
    return _from_gamma(found, chunks) if b"gAMA" in found or b"cHRM" in found else None


def _from_cicp(coded: bytes, chunks: tuple[tuple[bytes, bytes], ...]) -> ImageColour:
    primaries, transfer, matrix, full_range = coded
    if transfer in _HDR:
        raise UnsupportedProfileError(f"its brightness is coded as {_HDR[transfer]}, for HDR displays")
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix != 0 or full_range != 1:
        raise UnsupportedProfileError(f"its colours are coded as cICP {'/'.join(map(str, coded))}")
    curve = _CURVES[transfer]
    name = ", ".join(
        filter(
            None, (_PRIMARY_NAMES.get(primaries, f"primaries {primaries}"), _CURVE_NAMES.get(transfer, "BT.709 curve"))
        )
    )
    points, white = _PRIMARIES[primaries]
    return _from_numbers(ColourProfile(name, (curve, curve, curve), colorants_of(points, white)), chunks)


def _from_gamma(found: Mapping[bytes, bytes], chunks: tuple[tuple[bytes, bytes], ...]) -> ImageColour:
    """By gAMA and cHRM, either of which may be missing; 0.45455 with sRGB's primaries is how sRGB is written there."""
    gamma = int.from_bytes(found[b"gAMA"][:4], "big") / 100_000 if b"gAMA" in found else _SRGB_GAMMA
    white, points = WHITE_D65, SRGB_PRIMARIES
    if len(found.get(b"cHRM", b"")) == 32:
        numbers = [value / 100_000 for value in struct.unpack(">8I", found[b"cHRM"])]
        white, *rest = zip(numbers[::2], numbers[1::2], strict=True)
        points = (rest[0], rest[1], rest[2])
    named = (*SRGB_PRIMARIES, WHITE_D65)
    given = (*points, white)
    is_srgb_space = all(
        abs(one - other) < _XY_TOLERANCE
        for a, b in zip(named, given, strict=True)
        for one, other in zip(a, b, strict=True)
    )
    is_srgb_gamma = abs(gamma - _SRGB_GAMMA) < _GAMMA_TOLERANCE
    if is_srgb_space and is_srgb_gamma:
        return ImageColour(chunks=chunks)
    try:
        if gamma <= 0:
            raise ValueError("a gamma of 0")
        curve = SRGB_CURVE if is_srgb_gamma else Curve(1 / gamma)
        name = f"gamma {1 / gamma:.3g}" + ("" if is_srgb_space else " and its own primaries")
        return _from_numbers(ColourProfile(name, (curve, curve, curve), colorants_of(points, white)), chunks)
    except ValueError as error:
        return ImageColour(remark=f"taken as sRGB, as its gAMA and cHRM make no sense: {error}")


def _tiff_colour(read: ReadAt) -> ImageColour | None:
    tiff = tiff_directory.open_tiff(read)
    if tiff is None:
        return None
    entries, _ = tiff_directory.read_directory(tiff, tiff.first)
    entry = entries.get(_ICC_TAG)
    if entry is None:
        return None
    content = tiff.read(tiff.base + entry.offset, entry.bytes) if entry.bytes <= MAX_BYTES else b""
    return _from_icc(content)


def _exif_colour(stream: BinaryIO, read: ReadAt, kind: Kind) -> ImageColour:
    """By the tag ColorSpace of the Exif directory."""
    position = exif_range(stream) if kind in (Kind.JPEG, Kind.PNG) else (0, 0)
    tiff = None if position is None else tiff_directory.open_tiff(read, position[0])
    if tiff is None:
        return ImageColour()
    space, is_adobe_rgb = _exif_space(tiff)
    if is_adobe_rgb or space == _ADOBE_RGB:
        curve = Curve(563 / 256)
        return _from_numbers(ColourProfile("Adobe RGB (1998)", (curve, curve, curve), colorants_of(_ADOBE_PRIMARIES)))
    if space == _UNCALIBRATED:
        return ImageColour(remark="taken as sRGB, as its Exif says that it is not, but not what it is")
    return ImageColour()


def _exif_space(tiff: Tiff) -> tuple[int, bool]:
    """The tag ColorSpace, and whether the interoperability rule of an uncalibrated one is that of Adobe RGB."""
    entries, _ = tiff_directory.read_directory(tiff, tiff.first)
    pointer = tiff_directory.first_number(tiff, entries.get(_EXIF))
    if not pointer:
        return 1, False
    exif, _ = tiff_directory.read_directory(tiff, pointer)
    space = tiff_directory.first_number(tiff, exif.get(_COLOUR_SPACE), 1)
    interoperability = tiff_directory.first_number(tiff, exif.get(_INTEROPERABILITY))
    if space != _UNCALIBRATED or not interoperability:
        return space, False
    rules, _ = tiff_directory.read_directory(tiff, interoperability)
    return space, tiff_directory.read_text(tiff, rules.get(_INDEX)) == "R03"
