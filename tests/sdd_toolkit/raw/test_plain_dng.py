"""Floating-point and deflated DNG files: light depends on the white level, never on the brightest pixel."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from sdd_toolkit.errors import RawError
from sdd_toolkit.formats.tiff_writer import ASCII, BYTE, DOUBLE, LONG, RATIONAL, SHORT, SRATIONAL, encode_directory
from sdd_toolkit.frames.reading import develop_frame, read_half, read_mosaic
from sdd_toolkit.raw.plain_dng import as_plain_dng, expand_float24, to_codes
from tests.support.dng_files import ratios, scene_rgb, write_dng

HEIGHT, WIDTH = 48, 80
LIGHT = (scene_rgb(HEIGHT, WIDTH) * 0.8).astype(np.float32)
MATRIX = (0.9, -0.3, -0.1, -0.4, 1.2, 0.2, -0.1, 0.2, 0.6)


def mosaic(light: np.ndarray) -> np.ndarray:
    ys, xs = np.mgrid[0 : light.shape[0], 0 : light.shape[1]]
    return light[ys, xs, np.reshape((0, 1, 1, 2), (2, 2))[ys % 2, xs % 2]][..., None]


def float_bytes(values: np.ndarray, bits: int) -> np.ndarray:
    """(..., bits / 8) bytes from the highest."""
    if bits != 24:
        return np.ascontiguousarray(values, dtype=f">f{bits // 8}").view(np.uint8).reshape(*values.shape, bits // 8)
    mantissa, exponent = np.frexp(values.astype(np.float64))
    codes = np.where(values > 0, (exponent + 62) << 16 | np.rint((mantissa * 2 - 1) * 65536).astype(np.int64), 0)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)


def pack_piece(values: np.ndarray, bits: int, predictor: int, deflate: bool) -> bytes:
    rows, columns, samples = values.shape
    raw = float_bytes(values, bits)
    if predictor == 1:
        content = raw[..., ::-1].tobytes()
    else:
        step = samples * {3: 1, 34894: 2, 34895: 4}[predictor]
        planes = raw.reshape(rows, columns * samples, -1).swapaxes(1, 2).reshape(rows, -1, step)
        content = np.diff(planes, axis=1, prepend=np.zeros((rows, 1, step), np.uint8)).astype(np.uint8).tobytes()
    return zlib.compress(content) if deflate else content


def encode_float_dng(
    values: np.ndarray,
    *,
    bits: int = 32,
    predictor: int = 1,
    deflate: bool = False,
    tile: int | None = None,
    white: tuple[int, object] | None = (LONG, (1,)),
    black: float | None = None,
) -> bytes:
    """A little-endian DNG of floating-point samples, (H, W, 1 or 3)."""
    height, width, samples = values.shape
    if tile:
        padded = np.pad(values, ((0, -height % tile), (0, -width % tile), (0, 0)))
        tops, lefts = range(0, height, tile), range(0, width, tile)
        pieces = [padded[top : top + tile, left : left + tile] for top in tops for left in lefts]
    else:
        pieces = [values[top : top + 20] for top in range(0, height, 20)]
    packed = [pack_piece(piece, bits, predictor, deflate) for piece in pieces]
    places = [4096 + sum(map(len, packed[:number])) for number in range(len(packed))]
    sizes = list(map(len, packed))
    tags = [
        (254, LONG, (0,)), (256, LONG, (width,)), (257, LONG, (height,)), (258, SHORT, [bits] * samples),
        (259, SHORT, (8 if deflate else 1,)), (262, SHORT, (32803 if samples == 1 else 34892,)),
        (271, ASCII, b"Planted\0"), (272, ASCII, b"Float One\0"), (274, SHORT, (1,)), (277, SHORT, (samples,)),
        (284, SHORT, (1,)), (317, SHORT, (predictor,)), (339, SHORT, [3] * samples),
        (50706, BYTE, bytes((1, 4, 0, 0))), (50708, ASCII, b"Planted Float One\0"),
        (50721, SRATIONAL, ratios(*MATRIX)), (50728, RATIONAL, ratios(0.5, 1, 0.625)), (50778, SHORT, (21,)),
    ]  # fmt: skip
    if tile:
        tags += [(322, LONG, (tile,)), (323, LONG, (tile,)), (324, LONG, places), (325, LONG, sizes)]
    else:
        tags += [(273, LONG, places), (278, LONG, (20,)), (279, LONG, sizes)]
    if samples == 1:
        tags += [(33421, SHORT, (2, 2)), (33422, BYTE, bytes((0, 1, 1, 2)))]
    if white:
        tags.append((50717, *white))
    if black is not None:
        tags.append((50714, RATIONAL, ratios(black)))
    header = (b"II*\0" + struct.pack("<I", 8) + encode_directory(tags, 8)).ljust(4096, b"\0")
    return header + b"".join(packed)


def write_float_dng(path: Path, values: np.ndarray, **options: object) -> Path:
    path.write_bytes(encode_float_dng(values, **options))
    return path


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize(
    ("predictor", "deflate", "tile"),
    [(1, False, None), (1, True, None), (3, True, 32), (34894, True, 32), (34895, True, 80)],
)
def test_every_packing_gives_the_light_of_an_integer_dng(
    tmp_path: Path, bits: int, predictor: int, deflate: bool, tile: int | None
) -> None:
    path = write_float_dng(
        tmp_path / "a.dng", mosaic(LIGHT), bits=bits, predictor=predictor, deflate=deflate, tile=tile
    )
    wanted = write_dng(tmp_path / "b.dng", LIGHT)
    np.testing.assert_allclose(read_half(path).rgb, read_half(wanted).rgb, atol=3e-4)
    assert develop_frame(path).facts.white_dn == 65535


@pytest.mark.parametrize("peak", [0.9, 1.0, 4.0, 1000.0, np.inf])
def test_one_bright_pixel_changes_no_other(tmp_path: Path, peak: float) -> None:
    plain, lit = mosaic(LIGHT), mosaic(LIGHT)
    lit[10:12, 10:12] = peak
    before, after = (read_mosaic(write_float_dng(tmp_path / "a.dng", values)) for values in (plain, lit))
    assert before is not None
    assert after is not None
    differs = before.samples != after.samples
    assert differs[10:12, 10:12].all()
    assert differs.sum() == 4
    assert abs(int(after.samples[10, 10]) - min(peak, 1) * 65535) <= 1


@pytest.mark.parametrize(
    ("white", "level"),
    [((LONG, (1,)), 1.0), (None, 1.0), ((LONG, (16383,)), 16383.0), ((LONG, (65535,)), 65535.0),
     ((RATIONAL, (4, 5)), 0.8), ((DOUBLE, (0.8,)), 0.8), ((LONG, (0,)), 1.0)],
)  # fmt: skip
@pytest.mark.parametrize("samples", [1, 3])
def test_white_is_the_white_level_of_the_file(
    tmp_path: Path, white: tuple[int, object] | None, level: float, samples: int
) -> None:
    values = LIGHT if samples == 3 else mosaic(LIGHT)
    path = write_float_dng(tmp_path / "a.dng", values * np.float32(level), white=white)
    one = write_float_dng(tmp_path / "b.dng", values)
    np.testing.assert_allclose(read_half(path).rgb, read_half(one).rgb, atol=3e-5)


def test_white_and_black_levels_are_those_of_the_file(tmp_path: Path) -> None:
    values = mosaic(LIGHT) * 0.9 + 0.1
    path = write_float_dng(tmp_path / "a.dng", values.astype(np.float32), black=0.1)
    np.testing.assert_allclose(read_half(path).rgb, read_half(write_dng(tmp_path / "b.dng", LIGHT)).rgb, atol=3e-4)


def test_values_that_are_no_light_become_none() -> None:
    light = np.array([[[np.nan, -0.5, np.inf, 2.0, 0.5]]], dtype=np.float32)
    assert to_codes(light, [1.0]).tolist() == [[[0, 0, 65535, 65535, 32768]]]


def test_floats_of_24_bits_are_expanded() -> None:
    values = np.array([0.0, 1.0, 0.5, 1.5, 1000.0, 2.0**-40])
    np.testing.assert_array_equal(expand_float24(float_bytes(values, 24)), values.astype(np.float32))
    assert np.isinf(expand_float24(np.array([0x7F, 0, 0], dtype=np.uint8)))
    assert np.isnan(expand_float24(np.array([0x7F, 1, 0], dtype=np.uint8)))


def test_deflated_integers_stay_the_numbers_they_are(tmp_path: Path) -> None:
    plain = write_dng(tmp_path / "a.dng", LIGHT)
    found = read_mosaic(plain)
    assert found is not None
    content = bytearray(plain.read_bytes())
    packed = zlib.compress(found.samples.astype("<u2").tobytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", content, at)
        value = {259: 8, 273: len(content), 279: len(packed)}.get(tag)
        if value is not None:
            struct.pack_into("<I" if kind == LONG else "<H", content, at + 8, value)
    (tmp_path / "b.dng").write_bytes(bytes(content) + packed)
    again = read_mosaic(tmp_path / "b.dng")
    assert again is not None
    assert np.array_equal(again.samples, found.samples)


def test_damaged_pixels_are_told_and_other_files_left_alone(tmp_path: Path) -> None:
    path = write_float_dng(tmp_path / "a.dng", mosaic(LIGHT), predictor=3, deflate=True, tile=32)
    content = bytearray(path.read_bytes())
    content[4200:4300] = bytes(100)
    path.write_bytes(bytes(content))
    with pytest.raises(RawError, match="is damaged: "):
        read_half(path)
    assert as_plain_dng(write_dng(tmp_path / "b.dng", LIGHT)) is None
