"""Small DNG files with planted pixels, as a camera would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

RGGB, GRBG, GBRG, BGGR = (0, 1, 1, 2), (1, 0, 2, 1), (1, 2, 0, 1), (2, 1, 1, 0)
X_TRANS = (1, 2, 1, 1, 0, 1, 0, 1, 0, 2, 1, 2, 1, 2, 1, 1, 0, 1, 1, 0, 1, 1, 2, 1, 2, 1, 2, 0, 1, 0, 1, 0, 1, 1, 2, 1)
WHITE_DN = 16383
BLACK_DN = (512, 512, 512, 512)
NEUTRAL = (0.5, 1.0, 0.625)


def write_dng(
    path: Path,
    rgb: np.ndarray,
    cfa: tuple[int, ...] = RGGB,
    black_dn: tuple[int, ...] = BLACK_DN,
    orientation: int = 1,
    exif: dict[str, object] | None = None,
    neutral: tuple[float, float, float] = NEUTRAL,
    extra: tuple[tuple[int, str, int, object, bool], ...] = (),
    spoil: Callable[[np.ndarray], None] | None = None,
) -> Path:
    """Mosaics (H, W, 3) linear camera RGB in [0, 1] and writes it.

    `exif` takes f_number, shutter_s, iso, taken_at; `extra` tags replace those of the same code; `spoil` changes the
    mosaic before it is written.
    """
    side = round(len(cfa) ** 0.5)
    ys, xs = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    black = np.reshape(black_dn, (2, 2))[ys % 2, xs % 2]
    light = rgb[ys, xs, np.reshape(cfa, (side, side))[ys % side, xs % side]]
    mosaic = light * (WHITE_DN - black) + black
    matrix = (0.9, -0.3, -0.1, -0.4, 1.2, 0.2, -0.1, 0.2, 0.6)
    tags = [
        (271, "s", 0, "Planted", True),
        (272, "s", 0, "Camera One", True),
        (274, "H", 1, orientation, True),
        (33421, "H", 2, (side, side), True),
        (33422, "B", len(cfa), bytes(cfa), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, "Planted Camera One", True),
        (50713, "H", 2, (2, 2), True),
        (50714, "H", 4, black_dn, True),
        (50717, "H", 1, WHITE_DN, True),
        (50721, "2i", 9, ratios(*matrix), True),
        (50728, "2I", 3, ratios(*neutral), True),
        (50778, "H", 1, 21, True),
        *_exif(exif or {}),
    ]
    tags = [*(tag for tag in tags if tag[0] not in {code for code, *_ in extra}), *extra]
    pixels = np.clip(np.rint(mosaic), 0, 65535).astype(np.uint16)
    if spoil is not None:
        spoil(pixels)
    tifffile.imwrite(path, pixels, photometric=32803, extratags=tags, metadata=None, software=False)
    return path


def ratios(*values: float) -> tuple[int, ...]:
    return tuple(number for value in values for number in (round(value * 10000), 10000))


def _exif(values: dict[str, object]) -> list[tuple[int, str, int, object, bool]]:
    codes = {"shutter_s": (33434, "2I"), "f_number": (33437, "2I"), "iso": (34855, "H"), "taken_at": (36867, "s")}
    tags = []
    for name, value in values.items():
        code, kind = codes[name]
        tags.append((code, kind, 0 if kind == "s" else 1, ratios(value) if kind == "2I" else value, True))
    return tags


def scene_rgb(height: int, width: int) -> np.ndarray:
    """Smooth colours, unlike from corner to corner."""
    ys, xs = np.mgrid[0:height, 0:width]
    y, x = ys / height, xs / width
    return np.stack([0.08 + 0.2 * x, 0.15 + 0.35 * y, 0.1 + 0.25 * x * y], axis=-1)


def write_linear_dng(path: Path, rgb: np.ndarray) -> Path:
    """Writes (H, W, 3) linear camera RGB in [0, 1] as a demosaiced DNG."""
    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, "Planted Linear", True),
        (50717, "H", 3, (65535,) * 3, True),
        (50721, "2i", 9, (9, 10, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 9, 10), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
    ]
    codes = np.rint(rgb * 65535).astype(np.uint16)
    tifffile.imwrite(path, codes, photometric=34892, extratags=tags, metadata=None)
    return path
