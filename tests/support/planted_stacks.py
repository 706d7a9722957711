"""Focal stacks of a scene whose left, middle and right third lie at three depths, with the all-in-focus truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdd_toolkit.frames.writing import write_image
from sdd_toolkit.imaging import resampling
from sdd_toolkit.imaging.encoding import Encoding, encode
from tests.support.planted_motion import blur_exactly, dead_leaves

SIZE = (384, 480)
ZOOMS = (1.0, 1.012, 0.985)
REFERENCE = 0
_MARGIN_PX = 40
_BLUR_PX = 5.0


def thirds(size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """(h, w) index of the frame that is in focus there."""
    return np.broadcast_to(np.arange(size[1]) * 3 // size[1], size).astype(np.uint8)


def planted_stack(seed: int = 0, noise: float = 0.001) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """(truth, three frames) as (H, W, 3) linear light; frame i is in focus on third i and magnified by `ZOOMS[i]`."""
    high, wide = SIZE[0] + 2 * _MARGIN_PX, SIZE[1] + 2 * _MARGIN_PX
    scene = dead_leaves(seed, (high, wide))
    blurred = blur_exactly(scene, _BLUR_PX)
    rng = np.random.default_rng(seed)
    sharp_third = np.clip((np.arange(wide) - _MARGIN_PX) * 3 // SIZE[1], 0, 2)[None, :, None]
    frames = []
    for number, zoom in enumerate(ZOOMS):
        seen = np.where(sharp_third == number, scene, blurred).astype(np.float32)
        x, y = (wide - 1) / 2, (high - 1) / 2
        magnify = np.array([[zoom, 0, x - zoom * x], [0, zoom, y - zoom * y], [0, 0, 1]])
        seen = resampling.warp(seen, magnify, (high, wide)) + rng.normal(0, noise, seen.shape)
        frames.append(_cut(np.clip(seen, 0, 1).astype(np.float32)))
    return _cut(scene), frames


def write_stack(folder: Path, seed: int = 0) -> tuple[NDArray[np.float32], list[Path]]:
    """The frames as 16-bit PNG, and the truth."""
    truth, frames = planted_stack(seed)
    paths = [folder / f"step{number}.png" for number in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        write_image(path, np.asarray(encode(frame, Encoding.SRGB16), dtype=np.uint16))
    return truth, paths


def psnr_db(image: NDArray[np.float32], truth: NDArray[np.float32], border_px: int = 16) -> float:
    inner = np.s_[border_px:-border_px, border_px:-border_px]
    return float(-10 * np.log10(np.mean((image[inner].astype(np.float64) - truth[inner]) ** 2)))


def _cut(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX].copy()
