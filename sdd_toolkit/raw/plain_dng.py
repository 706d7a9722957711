"""DNG files whose pixels LibRaw scales by their content, or cannot decode, as DNG files of plain 16-bit integers.

LibRaw scales floating-point pixels by the brightest of them, so that two frames of one exposure differ. Here white is
the white level of the file (1 where it has none) and becomes 65535; whatever is brighter is clipped to it. Deflated
integers stay the numbers they are.

Sources: Adobe, Digital Negative Specification 1.6, chapter 4 and appendix A; Adobe Photoshop TIFF Technical Note 3.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats import tiff
from sdd_toolkit.formats.containers import LARGEST_PX
from sdd_toolkit.formats.tiff_writer import DOUBLE, LONG, SHORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.formats.tiff import Entry, Number, Tiff

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_PREDICTOR, _FORMAT = 317, 339
_STRIPS, _ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_BLACK, _BLACK_DELTAS, _WHITE = 50714, (50715, 50716), 50717
_DNG_VERSION = 50706
_UNUSED = 65000
_MOSAIC, _LINEAR_RAW = 32803, 34892
_PLAIN, _DEFLATE = 1, (8, 32946)
_FLOAT = 3
_NEIGHBOURS = {1: 0, 2: 1, 3: 1, 34892: 2, 34893: 4, 34894: 2, 34895: 4}
"""Samples between two that a predictor subtracts; 0: nothing is subtracted."""
_OF_BYTES = (3, 34894, 34895)
_CODES = 65535


@dataclass(frozen=True, slots=True)
class _Picture:
    """The pixels of one directory, as far as their decoding needs it."""

    size: tuple[int, int]
    samples: int
    bits: int
    is_float: bool
    compression: int
    predictor: int
    tile: tuple[int, int]
    places: tuple[Number, ...]
    lengths: tuple[Number, ...]


def as_plain_dng(path: Path, *, floats: bool = True) -> bytes | None:
    """The DNG file with pixels of 16-bit integers; None if it is none, or LibRaw reads it as it is.

    Args:
        path: The file.
        floats: Whether floating-point pixels, which LibRaw can at least decode, are replaced as well.

    Raises:
        RawError: Its floating-point or deflated pixels are damaged, or packed in an unknown way.
    """
    with path.open("rb") as stream:
        header = tiff.open_tiff(tiff.reader(stream))
        if header is None or header.big:
            return None
        try:
            directories = list(tiff.walk_directories(header))
        except EOFError:  # LibRaw decides about it
            return None
        concerned = [item for item in directories if _is_concerned(header, item[1], floats)]
        if not concerned or not any(_DNG_VERSION in entries for _, entries in directories):
            return None
        stream.seek(0)
        content = bytearray(stream.read())
    try:
        for at, entries in concerned:
            _replace_pixels(content, header.order, at, entries)
    except (zlib.error, ValueError, OverflowError, struct.error) as error:
        raise RawError(f"{path} is damaged: {error}", hint="copy it from the card again, or leave it out") from error
    return bytes(content)


def to_codes(light: NDArray[Any], white: Sequence[float]) -> NDArray[np.uint16]:
    """Floating-point samples as integers, white as 65535; not a number becomes 0.

    Args:
        light: (H, W, C).
        white: One level, or one a channel.
    """
    scale = _CODES / np.asarray(white, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.nan_to_num(light.astype(np.float64) * scale, nan=0.0, posinf=_CODES, neginf=0.0)
    return np.rint(np.clip(scaled, 0, _CODES)).astype(np.uint16)


def expand_float24(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Floats of 24 bits, (..., 3) bytes from the highest: 1 bit sign, 7 exponent, 16 mantissa."""
    sign = np.where(raw[..., 0] & 0x80, -1.0, 1.0)
    exponent = (raw[..., 0] & 0x7F).astype(np.int32)
    mantissa = raw[..., 1].astype(np.float64) * 256 + raw[..., 2]
    value = np.ldexp(np.where(exponent == 0, mantissa / 65536, 1 + mantissa / 65536), np.maximum(exponent, 1) - 63)
    value = np.where(exponent == 127, np.where(mantissa == 0, np.inf, np.nan), value)
    return np.asarray(sign * value, dtype=np.float32)


def _is_concerned(header: Tiff, entries: Mapping[int, Entry], floats: bool) -> bool:
    compression, is_float = _first(header, entries, _COMPRESSION, 1), _first(header, entries, _FORMAT, 1) == _FLOAT
    is_raw = _first(header, entries, _PHOTOMETRIC, 0) in (_MOSAIC, _LINEAR_RAW)
    return is_raw and (floats if is_float else compression in _DEFLATE)


def _first(header: Tiff, entries: Mapping[int, Entry], tag: int, default: int) -> int:
    return tiff.first_number(header, entries.get(tag), default)


def _replace_pixels(content: bytearray, order: str, at: int, entries: Mapping[int, Entry]) -> None:
    """Appends the decoded pixels of a directory, and changes its entries to describe them."""
    view = memoryview(bytes(content))

    def read(offset: int, count: int) -> bytes:
        return bytes(view[offset : offset + count])

    header = tiff.Tiff(read, 0, order, False, at)
    picture = _picture_of(header, entries)
    pixels = _decode(picture, read, order)
    levels: dict[int, tuple[int, Sequence[float]]] = {}
    if picture.is_float:
        white = _white_levels(header, entries, picture.samples)
        pixels = to_codes(pixels, white)
        levels = _scaled_levels(header, entries, white[0], picture.samples)
    place = len(content)
    data = np.ascontiguousarray(pixels, dtype=order + "u2").tobytes()
    content += data
    many = picture.samples
    changes: dict[int, tuple[int, int, Sequence[float]]] = {
        _BITS: (_BITS, SHORT, [16] * many), _FORMAT: (_FORMAT, SHORT, [1] * many),
        _COMPRESSION: (_COMPRESSION, SHORT, [_PLAIN]), _PREDICTOR: (_PREDICTOR, SHORT, [1]),
        _STRIPS: (_STRIPS, LONG, [place]), _STRIP_BYTES: (_STRIP_BYTES, LONG, [len(data)]),
        _ROWS: (_ROWS, LONG, [picture.size[0]]), _TILES: (_STRIPS, LONG, [place]),
        _TILE_BYTES: (_STRIP_BYTES, LONG, [len(data)]), _TILE_HEIGHT: (_ROWS, LONG, [picture.size[0]]),
        _TILE_WIDTH: (_UNUSED, LONG, [0]),
        **{tag: (tag, kind, values) for tag, (kind, values) in levels.items()},
    }  # fmt: skip
    _change_entries(content, order, at, changes)


def _picture_of(header: Tiff, entries: Mapping[int, Entry]) -> _Picture:
    def first(tag: int, default: int) -> int:
        return _first(header, entries, tag, default)

    height, width = first(_HEIGHT, 0), first(_WIDTH, 0)
    is_tiled = _TILES in entries
    tile = (first(_TILE_HEIGHT, 0), first(_TILE_WIDTH, 0)) if is_tiled else (min(first(_ROWS, height), height), width)
    tags = (_TILES, _TILE_BYTES) if is_tiled else (_STRIPS, _STRIP_BYTES)
    places, lengths = (tiff.read_numbers(header, entries.get(tag)) for tag in tags)
    samples = first(_SAMPLES, 1)
    if not (0 < height * width <= LARGEST_PX and 0 < tile[0] * tile[1] <= LARGEST_PX and 0 < samples < 5):
        raise ValueError(f"{width} x {height} x {samples} samples in pieces of {tile[1]} x {tile[0]}")
    return _Picture(
        (height, width), samples, first(_BITS, 16), first(_FORMAT, 1) == _FLOAT,
        first(_COMPRESSION, 1), first(_PREDICTOR, 1), tile, places, lengths,
    )  # fmt: skip


def _decode(picture: _Picture, read: tiff.ReadAt, order: str) -> NDArray[Any]:
    """(H, W, C) samples of their own type."""
    (height, width), (rows, columns) = picture.size, picture.tile
    across, down = -(-width // columns), -(-height // rows)
    if len(picture.places) < across * down or len(picture.lengths) < across * down:
        raise ValueError(f"{len(picture.places)} pieces of {across * down} are there")
    pixels: NDArray[Any] | None = None
    for number in range(across * down):
        top, left = number // across * rows, number % across * columns
        packed = read(int(picture.places[number]), int(picture.lengths[number]))
        kept = rows if picture.tile[1] != width else min(rows, height - top)
        piece = _decode_piece(picture, packed, order, kept)[: height - top, : width - left]
        if pixels is None:
            pixels = np.zeros((height, width, picture.samples), dtype=piece.dtype)
        pixels[top : top + len(piece), left : left + piece.shape[1]] = piece
    return np.zeros((height, width, picture.samples)) if pixels is None else pixels


def _decode_piece(picture: _Picture, packed: bytes, order: str, rows: int) -> NDArray[Any]:
    """(rows, columns, C) samples of one tile or strip."""
    columns, size = picture.tile[1], picture.bits // 8
    if picture.bits not in ((16, 24, 32, 64) if picture.is_float else (8, 16)) or picture.predictor not in _NEIGHBOURS:
        raise ValueError(f"{picture.bits} bits a sample with predictor {picture.predictor}")
    needed = rows * columns * picture.samples * size
    if picture.compression in _DEFLATE:
        packed = zlib.decompressobj().decompress(packed, needed)
    elif picture.compression != _PLAIN:
        raise ValueError(f"floating-point pixels in compression {picture.compression}")
    if len(packed) < needed:
        raise ValueError(f"{len(packed)} of {needed} bytes of a strip or tile are there")
    step = _NEIGHBOURS[picture.predictor] * picture.samples
    content = np.frombuffer(packed, dtype=np.uint8, count=needed)
    if picture.predictor in _OF_BYTES:
        summed = np.add.accumulate(content.reshape(rows, -1, step), axis=1, dtype=np.uint8)
        # A row holds the highest bytes of all its samples, then the next lower ones.
        raw = summed.reshape(rows, size, -1).swapaxes(1, 2)
        samples = _typed(np.ascontiguousarray(raw), ">", picture)
    else:
        samples = _typed(content.reshape(rows, -1, size), order, picture).reshape(rows, -1)
        if step:
            samples = np.add.accumulate(samples.reshape(rows, -1, step), axis=1, dtype=samples.dtype)
    return samples.reshape(rows, columns, picture.samples)


def _typed(raw: NDArray[np.uint8], order: str, picture: _Picture) -> NDArray[Any]:
    """(..., bytes) as numbers."""
    if picture.bits == 24:
        return expand_float24(raw if order == ">" else raw[..., ::-1])
    kind = ("f" if picture.is_float else "u") + str(picture.bits // 8)
    return raw.view(order + kind)[..., 0].astype(kind)


def _white_levels(header: Tiff, entries: Mapping[int, Entry], samples: int) -> list[float]:
    """One level, or one a channel; 1 where there is none that makes sense."""
    levels = [float(level) for level in tiff.read_numbers(header, entries.get(_WHITE), samples)]
    known = [level if 0 < level < np.inf else 1.0 for level in levels] or [1.0]
    return known if len(known) == samples else known[:1]


def _scaled_levels(
    header: Tiff, entries: Mapping[int, Entry], white: float, samples: int
) -> dict[int, tuple[int, Sequence[float]]]:
    """The levels of a directory in units of the new codes."""
    levels: dict[int, tuple[int, Sequence[float]]] = {_WHITE: (LONG, [_CODES] * samples)}
    black = tiff.read_numbers(header, entries.get(_BLACK))
    if black:
        levels[_BLACK] = (LONG, [round(min(max(level / white, 0.0), 1.0) * _CODES) for level in black])
    for tag in _BLACK_DELTAS:
        deltas = tiff.read_numbers(header, entries.get(tag))
        if deltas:
            levels[tag] = (DOUBLE, [float(delta) / white * _CODES for delta in deltas])
    return levels


def _change_entries(
    content: bytearray, order: str, at: int, changes: Mapping[int, tuple[int, int, Sequence[float]]]
) -> None:
    """Changes entries of a directory: new tag, type and values, which are appended where they do not fit."""
    codes = {SHORT: "H", LONG: "I", DOUBLE: "d"}
    (count,) = struct.unpack_from(order + "H", content, at)
    for entry_at in range(at + 2, at + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", content, entry_at)
        if tag in changes:
            new, kind, values = changes[tag]
            packed = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
            if len(packed) > 4:
                field = struct.pack(order + "I", len(content))
                content += packed
            else:
                field = packed.ljust(4, b"\0")
            struct.pack_into(order + "HHI", content, entry_at, new, kind, len(values))
            content[entry_at + 8 : entry_at + 12] = field
