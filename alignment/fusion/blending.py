"""An all-in-focus picture of an aligned focal stack, and which frame each pixel of it came from.

Where is each frame the sharpest of all? Detail is measured on the square root of linear luminance, finer than a
Gaussian of 1 px, gathered over a small and a large neighbourhood: the small one decides at edges, the large one where
there is little texture. What noise alone would show is subtracted; it is the same in all frames but for what resampling
took away, and the most blurred frame tells it best. The winner's map is cleaned of specks; the frames are then joined
along it in a Laplacian pyramid, each band with the map smoothed to that band's scale, so that neighbours meet without
seams and every pixel away from one is its frame's own (P. J. Burt, E. H. Adelson, "A multiresolution spline with
application to image mosaics", ACM TOG 2 (1983); S. Nayar, Y. Nakagawa, "Shape from focus", PAMI 16 (1994)).

One frame at a time is looked at, and one at a time is joined: memory does not grow with the stack, but for a map of
sharpness at half size a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.quality import sharpness as quality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Map = NDArray[np.float32] | NDArray[np.float16]

_SMALL_SIGMA_PX = 2.0
_LARGE_SIGMA_PX = 12.0
_LARGE_WEIGHT = 0.05
# Energies are told in millionths, so that half precision holds them.
_MILLION = 1e6
_FLOOR = 0.1
# Detail of this many times the noise, and this many times the next frame's, is evidence; else the surroundings decide.
_EVIDENT = 0.5
_CLEARLY = 1.3
_SURROUNDINGS = 0.04
_SPECK_PX = 9
_LEVELS = 6
_SMALLEST_SIDE_PX = 8


@dataclass(frozen=True, slots=True)
class Sharpness:
    """How much fine detail a frame shows, and how much of that may be noise.

    Attributes:
        energy: (h, w) float32 or float16, millionths of the square of tone, 0 or more; -1 where the frame has no
            content.
        noise: Energy of noise alone, as far as this frame tells: too much where it is all texture.
    """

    energy: Map
    noise: float


def measure_sharpness(rgb: Image, valid: NDArray[np.bool_]) -> Sharpness:
    """The fine detail of a frame at every pixel.

    Args:
        rgb: (h, w, 3) linear light, aligned.
        valid: (h, w), where the frame has content.
    """
    tone = np.sqrt(luminance(rgb))
    fine = tone - cv2.GaussianBlur(tone, (0, 0), quality.FINE_SIGMA_PX)
    energy = np.asarray(fine * fine, dtype=np.float32)
    near, far = (cv2.GaussianBlur(energy, (0, 0), sigma) for sigma in (_SMALL_SIGMA_PX, _LARGE_SIGMA_PX))
    gathered = np.where(valid, (near + _LARGE_WEIGHT * far) * np.float32(_MILLION), -1).astype(np.float32)
    return Sharpness(gathered, noise_energy(rgb))


def noise_energy(rgb: Image) -> float:
    """Energy that noise alone puts into `sharpness` of an (h, w, 3) linear frame, as far as the frame tells."""
    return _MILLION * (1 + _LARGE_WEIGHT) * quality.fine_band_noise(np.sqrt(luminance(rgb)))


def choose_sharpest(maps: Sequence[Sharpness], noise: float | None = None) -> NDArray[np.uint8]:
    """(h, w) uint8: which of the frames is the sharpest at each pixel; ties go to the first.

    Where several show about as much, the one of them that wins around there is taken; where none shows more detail than
    noise, any.

    Args:
        maps: Every frame, at most 255 of them.
        noise: `noise_of` a frame that was not resampled; the least that any of `maps` tells if None.

    Raises:
        ValueError: No frame, or too many.
    """
    if not 0 < len(maps) < 256:
        raise ValueError(f"a stack of {len(maps)} frames; 1 to 255 can be fused")
    common = min(entry.noise for entry in maps) if noise is None else noise
    best = np.full(maps[0].energy.shape, -1, dtype=np.float32)
    second = best.copy()
    winner = np.zeros(best.shape, dtype=np.uint8)
    for number, entry in enumerate(maps):
        signal = _signal(entry, common)
        better = signal > best
        second = np.maximum(second, np.where(better, best, signal)).astype(np.float32)
        winner[better], best[better] = number, signal[better]
    textured = best > _EVIDENT * common + _FLOOR
    evident = textured & (best > _CLEARLY * second)

    def equal(entry: Sharpness) -> NDArray[np.bool_]:
        """Where a frame is no worse than the best: of two that are both sharp either will do, of others none."""
        return np.asarray(~textured | (_CLEARLY * _signal(entry, common) >= best), dtype=np.bool_)

    reach_px = max(1.0, _SURROUNDINGS * max(best.shape))
    around = _majority_vote(winner, maps, evident, lambda votes: cv2.GaussianBlur(votes, (0, 0), reach_px), equal)
    filled = np.where(evident, winner, around)
    return _majority_vote(filled, maps, np.ones_like(evident), lambda votes: cv2.blur(votes, (_SPECK_PX, _SPECK_PX)))


def _signal(entry: Sharpness, common: float) -> Image:
    """(h, w) a frame's energy above noise; -1 where it has no content."""
    # Resampling takes noise away; texture is taken for noise, but not for more than there can be.
    signal = entry.energy.astype(np.float32) - np.float32(min(entry.noise, common))
    signal[entry.energy < 0] = -1
    return np.asarray(signal, dtype=np.float32)


def _majority_vote(
    winner: NDArray[np.uint8],
    maps: Sequence[Sharpness],
    counted: NDArray[np.bool_],
    gather: Callable[[Image], object],
    eligible: Callable[[Sharpness], NDArray[np.bool_]] = lambda entry: entry.energy >= 0,
) -> NDArray[np.uint8]:
    """The frame that most `counted` pixels around each pixel chose, of those `eligible` there; else `winner`."""
    votes = np.zeros(winner.shape, dtype=np.float32)
    chosen = winner.copy()
    for number, entry in enumerate(maps):
        share = np.asarray(gather(((winner == number) & counted).astype(np.float32)), dtype=np.float32)
        more = (share > votes) & (entry.energy >= 0) & eligible(entry)
        votes[more], chosen[more] = share[more], number
    return chosen


@dataclass(frozen=True, slots=True)
class Blend:
    """A picture being joined from frames: its Laplacian pyramid so far.

    Attributes:
        bands: (h, w, 3) float32, the finest first; the last one is what is left after all differences.
    """

    bands: tuple[Image, ...]


def empty_blend(size: tuple[int, int]) -> Blend:
    """Nothing yet, for frames of `size` (height, width)."""
    sizes = [size]
    while len(sizes) < _LEVELS and min(sizes[-1]) >= 2 * _SMALLEST_SIDE_PX:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return Blend(tuple(np.zeros((*shape, 3), dtype=np.float32) for shape in sizes))


def add_frame(blend: Blend, image: Image, mask: Image) -> None:
    """Adds a frame where `mask` says so. The masks of all frames must sum to one.

    Args:
        blend: Changed in place.
        image: (H, W, 3) float32 linear light, aligned.
        mask: (H, W) float32, 0 … 1.
    """
    for number, band in enumerate(blend.bands):
        if number == len(blend.bands) - 1:
            band += image * mask[..., None]
            return
        coarse = np.asarray(cv2.pyrDown(image), dtype=np.float32)
        detail = image - cv2.pyrUp(coarse, dstsize=(image.shape[1], image.shape[0]))
        band += detail * mask[..., None]
        image, mask = coarse, np.asarray(cv2.pyrDown(mask), dtype=np.float32)


def collapse(blend: Blend) -> Image:
    """(H, W, 3) float32, the picture; not below 0."""
    image = blend.bands[-1]
    for band in reversed(blend.bands[:-1]):
        image = np.asarray(cv2.pyrUp(image, dstsize=(band.shape[1], band.shape[0])) + band, dtype=np.float32)
    return np.maximum(image, np.float32(0))
