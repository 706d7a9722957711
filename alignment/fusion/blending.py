"""Focus stacking of an aligned stack: the sharpest frame at each pixel, and their blend in a Laplacian pyramid.

Detail is measured on the square root of linear luminance, finer than a Gaussian of 1 px, and averaged over a small and
a large neighbourhood: the small one decides at edges, the large one where there is little texture. The energy of noise
alone is subtracted; it is the same in all frames except for the share that resampling removes, and the most blurred
frame gives its best estimate. The map of the sharpest frame is cleaned of specks (S. Nayar, Y. Nakagawa, "Shape from
focus", PAMI 16 (1994)). The frames are then blended along it in a Laplacian pyramid, each band with the map smoothed to
the scale of that band, so that there are no seams, and every pixel away from one equals its frame (P. J. Burt,
E. H. Adelson, "A multiresolution spline with application to image mosaics", ACM TOG 2 (1983)).

Frames are measured and blended one at a time: memory does not grow with the stack, except by one map of sharpness at
half size per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.array_checks import boolean_mask, linear_frame
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
# Energies are in millionths, so that half precision can represent them.
_MILLION = 1e6
_FLOOR = 0.1
# Detail of this many times the noise, and of this many times the next frame's, is evidence; elsewhere the neighbourhood
# decides.
_OVER_NOISE = 0.5
_CLEARLY = 1.3
_SURROUNDINGS = 0.04
_SPECK_PX = 9
_LEVELS = 6
_SMALLEST_SIDE_PX = 8


@dataclass(frozen=True, slots=True)
class Sharpness:
    """Energy of the fine detail of a frame, and of the noise in it.

    Attributes:
        energy: (h, w) float32 or float16, millionths of the square of tone, 0 or more; -1 where the frame has no
            content.
        noise: Energy of noise alone, estimated from this frame: too high where it is all texture.
    """

    energy: Map
    noise: float


def measure_sharpness(rgb: Image, valid: NDArray[np.bool_]) -> Sharpness:
    """Measures the energy of fine detail at every pixel of a frame.

    Args:
        rgb: (h, w, 3) linear light, aligned.
        valid: (h, w) bool, where the frame has content.

    Raises:
        TypeError: The frame is no array of floats, uint8 or uint16; `valid` is not of booleans.
        ValueError: A shape is another, or values are not finite.
    """
    light = luminance(linear_frame(rgb, "rgb", bounded=False))
    valid = boolean_mask(valid, (light.shape[0], light.shape[1]), "valid")
    tone = np.sqrt(light)
    fine = tone - cv2.GaussianBlur(tone, (0, 0), quality.FINE_SIGMA_PX)
    energy = np.asarray(fine * fine, dtype=np.float32)
    near, far = (cv2.GaussianBlur(energy, (0, 0), sigma) for sigma in (_SMALL_SIGMA_PX, _LARGE_SIGMA_PX))
    total = np.where(valid, (near + _LARGE_WEIGHT * far) * np.float32(_MILLION), -1).astype(np.float32)
    return Sharpness(total, _noise_energy(tone))


def noise_energy(rgb: Image) -> float:
    """Energy of noise alone in `measure_sharpness` of an (h, w, 3) linear frame, estimated from the frame.

    Raises:
        TypeError: As of `measure_sharpness`.
        ValueError: As of `measure_sharpness`.
    """
    return _noise_energy(np.sqrt(luminance(linear_frame(rgb, "rgb"))))


def _noise_energy(tone: Image) -> float:
    return _MILLION * (1 + _LARGE_WEIGHT) * quality.fine_band_noise(tone)


def choose_sharpest(maps: Sequence[Sharpness], noise: float | None = None) -> NDArray[np.uint8]:
    """Chooses the sharpest frame at each pixel; ties go to the first.

    Where several frames show about as much detail, the one of them that prevails in the neighbourhood is chosen; where
    no frame shows more detail than noise, the one that prevails there of all frames.

    Args:
        maps: Sharpness of every frame, at most 255.
        noise: `noise_energy` of a frame that was not resampled; the least noise of `maps` if None.

    Returns:
        (h, w) uint8 index into `maps`.

    Raises:
        ValueError: There is no frame, or more than 255.
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
    textured = best > _OVER_NOISE * common + _FLOOR
    evident = textured & (best > _CLEARLY * second)

    def is_eligible(entry: Sharpness) -> NDArray[np.bool_]:
        """(h, w) where a frame is about as sharp as the sharpest, or none shows detail."""
        return np.asarray(~textured | (_CLEARLY * _signal(entry, common) >= best), dtype=np.bool_)

    reach_px = max(1.0, _SURROUNDINGS * max(best.shape))
    around = _majority_vote(winner, maps, evident, lambda votes: cv2.GaussianBlur(votes, (0, 0), reach_px), is_eligible)
    filled = np.where(evident, winner, around)
    return _majority_vote(filled, maps, np.ones_like(evident), lambda votes: cv2.blur(votes, (_SPECK_PX, _SPECK_PX)))


def _signal(entry: Sharpness, common: float) -> Image:
    """(h, w) energy of a frame above noise; -1 where it has no content."""
    # Resampling reduces noise, and the estimate mistakes texture for noise: so it is bounded by the common one.
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
    """The frame chosen by most pixels in the neighbourhood, of those eligible at a pixel; else `winner`.

    Args:
        winner: (h, w) choice of each pixel.
        maps: Sharpness of every frame.
        counted: (h, w) pixels whose choice counts.
        gather: Averages (h, w) votes over the neighbourhood.
        eligible: (h, w) pixels at which a frame may be chosen.
    """
    votes = np.zeros(winner.shape, dtype=np.float32)
    chosen = winner.copy()
    for number, entry in enumerate(maps):
        share = np.asarray(gather(((winner == number) & counted).astype(np.float32)), dtype=np.float32)
        more = (share > votes) & (entry.energy >= 0) & eligible(entry)
        votes[more], chosen[more] = share[more], number
    return chosen


@dataclass(frozen=True, slots=True)
class Blend:
    """The Laplacian pyramid of a picture that is being blended.

    Attributes:
        bands: (h, w, 3) float32, the finest first; the last one is the low-pass remainder.
    """

    bands: tuple[Image, ...]


def empty_blend(size: tuple[int, int]) -> Blend:
    """A blend without any frame, for frames of `size` = (height, width)."""
    sizes = [size]
    while len(sizes) < _LEVELS and min(sizes[-1]) >= 2 * _SMALLEST_SIDE_PX:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return Blend(tuple(np.zeros((*shape, 3), dtype=np.float32) for shape in sizes))


def add_frame(blend: Blend, image: Image, mask: Image) -> None:
    """Adds a frame within a mask. The masks of all frames must sum to one.

    Args:
        blend: Changed in place.
        image: (H, W, 3) float32 linear light, aligned.
        mask: (H, W) float32, 0 … 1.

    Raises:
        TypeError: The frame is no array of floats, uint8 or uint16.
        ValueError: The size is another than the blend's, or values are not finite.
    """
    image = linear_frame(image, "image", bounded=False)
    if not image.shape[:2] == mask.shape == blend.bands[0].shape[:2]:
        sizes = f"{image.shape[:2]} px and a mask of {mask.shape} px"
        raise ValueError(f"a frame of {sizes} cannot be added to a blend of {blend.bands[0].shape[:2]} px")
    for number, band in enumerate(blend.bands):
        if number == len(blend.bands) - 1:
            band += image * mask[..., None]
            return
        coarse = np.asarray(cv2.pyrDown(image), dtype=np.float32)
        detail = image - cv2.pyrUp(coarse, dstsize=(image.shape[1], image.shape[0]))
        band += detail * mask[..., None]
        image, mask = coarse, np.asarray(cv2.pyrDown(mask), dtype=np.float32)


def collapse(blend: Blend) -> Image:
    """Collapses the pyramid to the (H, W, 3) float32 picture, clipped at 0."""
    image = blend.bands[-1]
    for band in reversed(blend.bands[:-1]):
        image = np.asarray(cv2.pyrUp(image, dstsize=(band.shape[1], band.shape[0])) + band, dtype=np.float32)
    return np.maximum(image, np.float32(0))
