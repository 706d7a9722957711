"""Sharp photographs large enough to plant a motion in: one alone, or several side by side."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.formats.decoding import read_image
from sdd_toolkit.imaging.encoding import Encoding, decode

Image = NDArray[np.float32]
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LEAST_OVERLAP_PX = 32


def list_photographs(folder: Path) -> list[Path]:
    """The photographs of a folder by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def scene(
    paths: list[Path], number: int, size: tuple[int, int], margin_px: int, least_margin_px: int
) -> tuple[Image, int]:
    """Scene `number` in linear RGB, and the pixels of it that lie beyond the frame on every side.

    A photograph that holds half the frame and the least margin is taken alone, and the frame is as large as it allows.
    Smaller ones are laid side by side, mirrored at random, and cross-faded where they overlap.

    Args:
        paths: Photographs to choose from.
        number: The same number gives the same scene.
        size: (height, width) of the frame that is wanted.
        margin_px: Content wanted beyond the frame on every side.
        least_margin_px: What will do of it.

    Returns:
        (H, W, 3) float32, and the margin it has.
    """
    photograph = landscape(paths[number % len(paths)])
    frame = [min(want, have - 2 * least_margin_px) for have, want in zip(photograph.shape[:2], size, strict=True)]
    if all(2 * have >= want for have, want in zip(frame, size, strict=True)):
        spare = min((have - want) // 2 for have, want in zip(photograph.shape[:2], frame, strict=True))
        margin = min(spare, margin_px)
        return middle(photograph, (frame[0] + 2 * margin, frame[1] + 2 * margin)), margin
    return mosaic(paths, number, (size[0] + 2 * margin_px, size[1] + 2 * margin_px)), margin_px


def mosaic(paths: list[Path], number: int, size: tuple[int, int]) -> Image:
    chance = np.random.default_rng([number, len(paths)])
    order = np.roll(np.arange(len(paths)), -number)
    tile = tuple(min(sides) for sides in zip(*(landscape(path).shape[:2] for path in paths), strict=True))
    tops, lefts = (starts(side, whole) for side, whole in zip(tile, size, strict=True))
    fade = np.outer(*(np.minimum(ramp := np.arange(side) + 0.5, ramp[::-1]) for side in tile))[..., None] ** 2
    total, weight = np.zeros((*size, 3)), np.zeros((*size, 1))
    for place, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        photograph = middle(landscape(paths[order[place % len(paths)]]), tile)
        turned = photograph[:: chance.choice([-1, 1]), :: chance.choice([-1, 1])]
        rows, columns = slice(top, min(top + tile[0], size[0])), slice(left, min(left + tile[1], size[1]))
        height, width = rows.stop - top, columns.stop - left
        total[rows, columns] += (fade * turned)[:height, :width]
        weight[rows, columns] += fade[:height, :width]
    return (total / weight).astype(np.float32)


def starts(side: int, whole: int) -> list[int]:
    """The positions of tiles of a length that cover the whole and overlap evenly."""
    count = max(1, math.ceil((whole - LEAST_OVERLAP_PX) / (side - LEAST_OVERLAP_PX)))
    return np.linspace(0, max(0, whole - side), count).round().astype(int).tolist()


def middle(image: Image, size: tuple[int, int]) -> Image:
    top, left = ((have - want) // 2 for have, want in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


def landscape(path: Path) -> Image:
    """(H, W, 3) float32 linear RGB, wider than high."""
    pixels = read_image(path)
    frame = decode(pixels, Encoding.SRGB8 if pixels.dtype == np.uint8 else Encoding.SRGB16)
    return np.rot90(frame) if frame.shape[0] > frame.shape[1] else frame
