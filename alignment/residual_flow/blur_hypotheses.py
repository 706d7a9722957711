"""Both frames blurred with every candidate disc radius, for matching while the motion is unknown.

Blur matching under the global model fails where an object moved: there the widest disc gives the least difference.
So the frames are kept under all disc radii and matched again under each motion that is tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import blur_matching, photometry, spline
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.disc import blur_with_disc
from sdd_toolkit.imaging.noise import noise_sigma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.global_model import GlobalEstimate

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

_SMOOTH_SIGMA_PX = 0.7
_BAND_SIGMA_PX = 5.0
_INSIDE = 0.99
_RADIUS_MARGIN = 1.3
_WIDE_SIGMA_PX = 6.0


@dataclass(frozen=True, slots=True)
class BlurHypotheses:
    """Two frames on one grid, band-passed, under every disc radius.

    Attributes:
        moving: (H, W) the blurred frame, warped by the global model; one image per radius.
        fixed: (H, W) the sharp frame; one image per radius.
        radii: Disc radii in pixels of this grid, ascending from 0.
        overlap: (H, W) pixels that both frames show.
        noise: Standard deviation of the noise in the difference of their tones.
        factor: Pixels of the registered frames per pixel of this grid.
    """

    moving: list[Image]
    fixed: list[Image]
    radii: tuple[float, ...]
    overlap: Mask
    noise: float
    factor: int

    def swapped(self) -> BlurHypotheses:
        """The same hypotheses with the roles of the frames exchanged."""
        return BlurHypotheses(self.fixed, self.moving, self.radii, self.overlap, self.noise, self.factor)


@dataclass(frozen=True, slots=True)
class MatchedPair:
    """Both frames of `BlurHypotheses` at equal blur, the fixed one warped onto the grid of the moving one.

    Attributes:
        moving: (H, W).
        fixed: (H, W), 0 where the motion leads out of the frame.
        inside: (H, W) pixels of the overlap that the motion keeps inside it.
        index: (rows, columns) signed position in the bank of discs, see `blur_matching.RadiusMap`.
    """

    moving: Image
    fixed: Image
    inside: Mask
    index: Image


def build_hypotheses(estimate: GlobalEstimate, finest_side_px: int) -> BlurHypotheses:
    """Blurs a pair, registered by its global model, with every candidate disc.

    Args:
        estimate: The global model and the frames it was estimated on.
        finest_side_px: Frames with a longer side than this are halved until they fit.
    """
    frames, matrix, halvings = estimate.frames, estimate.homography, 0
    while max(frames.size) > finest_side_px:
        frames, matrix, halvings = frames.halve(), geometry.rescale_homography(matrix, 0.5), halvings + 1
    factor, size = 2**halvings, frames.size
    used_px = float(np.percentile(np.abs(estimate.matched.radius.radius_px), 98))
    radii = blur_matching.radii_up_to(max((_RADIUS_MARGIN * used_px + 0.7) / factor, 1.0))
    coefficients = spline.coefficients(estimate.photometry.apply(frames.blur))
    warped = np.clip(spline.sample_cubic(coefficients, matrix, size, radial=estimate.radial), 0, np.inf)
    white = photometry.white_level(frames.sharp)
    moving, fixed = (
        [_band_passed_tone(blur_with_disc(light, radius), white) for radius in radii]
        for light in (warped, frames.sharp)
    )
    shared = cv2.resize(estimate.matched.overlap.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    trusted = spline.sample_linear(frames.trusted_blur, matrix, size) * frames.trusted_sharp
    overlap = np.asarray((shared > _INSIDE) & (trusted > 0.5), dtype=np.bool_)
    # The noise estimate takes fine texture for noise, more so in the sharper frame: the lower estimate is used.
    lower = min(noise_sigma(photometry.to_tone(light, white)) for light in (frames.sharp, warped))
    noise = min(estimate.noise / factor, float(np.sqrt(2)) * lower)
    return BlurHypotheses(moving, fixed, radii, overlap, noise, factor)


def blur_to_match(
    hypotheses: BlurHypotheses, flow: Image, index: Image | None = None, weight: Image | None = None
) -> MatchedPair:
    """Blurs the sharper frame, place by place, so that both are equally blurred under a motion.

    Args:
        hypotheses: The two frames.
        flow: (H, W, 2) u[moving→fixed] in pixels.
        index: (rows, columns) disc to use per cell, from an earlier match; chosen from the frames if None.
        weight: (H, W) 0 … 1, weight of a pixel in that choice; 1 everywhere if None.
    """
    size = (flow.shape[0], flow.shape[1])
    fixed, inside = hypotheses.fixed, hypotheses.overlap
    if flow.any():
        first, last = (
            (0, len(fixed) - 1) if index is None else (int(max(edge, 0)) for edge in (index.min(), index.max()))
        )
        # Only the images of the discs in use are warped.
        fixed = [warp_bicubic(image, flow) if first <= k <= last + 1 else image for k, image in enumerate(fixed)]
        inside = inside & (warp_bicubic(inside.astype(np.float32), flow) > _INSIDE)
    if index is None:
        counted = (inside if weight is None else inside * weight).astype(np.float32)
        noise = _hypothesis_noise(hypotheses)
        index = blur_matching.choose_radii(hypotheses.moving, fixed, counted, hypotheses.radii, noise).index
    moving = blur_matching.mix_bank(hypotheses.moving, -index, size)
    return MatchedPair(moving, blur_matching.mix_bank(fixed, index, size), inside, index)


def match_static(hypotheses: BlurHypotheses) -> MatchedPair:
    """`blur_to_match` under no motion."""
    return blur_to_match(hypotheses, np.zeros((*hypotheses.overlap.shape, 2), dtype=np.float32))


def warp_bicubic(image: Image, flow: Image) -> Image:
    """`out(x) = image(x + flow(x))`, bicubic; 0 outside.

    Args:
        image: (H, W).
        flow: (H, W, 2) in pixels.
    """
    height, width = flow.shape[:2]
    xs = np.arange(width, dtype=np.float32)[None] + flow[..., 0]
    ys = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    warped = cv2.remap(image, xs, ys, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped, dtype=np.float32)


def central_gradient(image: Image) -> tuple[Image, Image]:
    """Central differences of an (H, W) image along x and y."""
    kernel, one = np.array([[-0.5, 0.0, 0.5]], dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    along_x = cv2.sepFilter2D(image, cv2.CV_32F, kernel, one, borderType=cv2.BORDER_REFLECT_101)
    along_y = cv2.sepFilter2D(image, cv2.CV_32F, one, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(along_x, dtype=np.float32), np.asarray(along_y, dtype=np.float32)


def window_mean(image: Image, sigma_px: float) -> Image:
    """Gaussian mean of an (H, W) image, border repeated; wide windows are computed on a reduced grid."""
    if sigma_px >= _WIDE_SIGMA_PX:
        return photometry.gaussian_mean(image, sigma_px)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


def _hypothesis_noise(hypotheses: BlurHypotheses) -> Image:
    """Noise variance of each hypothesis in `blur_matching.choose_radii`, shared equally between the frames."""
    gains = np.array([blur_matching.noise_gain(radius, _SMOOTH_SIGMA_PX) for radius in hypotheses.radii])
    variance = 0.5 * hypotheses.noise**2 * (gains[0] + np.concatenate([gains[:0:-1], gains]))
    return np.asarray(variance[:, None, None], dtype=np.float32)


def _band_passed_tone(light: Image, white: float) -> Image:
    smooth = window_mean(photometry.to_tone(light, white), _SMOOTH_SIGMA_PX)
    return photometry.subtract_local_mean(smooth, _BAND_SIGMA_PX)
