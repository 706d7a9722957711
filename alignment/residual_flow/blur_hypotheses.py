"""Two frames on one grid under every disc radius: what is compared wherever the motion is not yet known.

Blur matching under the global model is wrong where something moved: there the widest disc makes the least difference.
So the frames are kept under all discs, and matched again under each motion that is tried.
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
_MARGIN = 1.3
_WIDE_SIGMA = 6.0


@dataclass(frozen=True, slots=True)
class BlurHypotheses:
    """Two frames on one grid, band-passed, under every disc.

    Attributes:
        moving: (H, W) the blurred frame, warped by the global model, one image per radius.
        fixed: (H, W) the sharp frame, one image per radius.
        radii: The radii in pixels of this grid, rising from 0.
        overlap: (H, W) pixels both frames show.
        noise: Standard deviation of the noise in the difference of their tones.
        factor: Pixels of the frames that were registered per pixel of these.
    """

    moving: list[Image]
    fixed: list[Image]
    radii: tuple[float, ...]
    overlap: Mask
    noise: float
    factor: int

    def turned(self) -> BlurHypotheses:
        """The same with the frames' parts exchanged."""
        return BlurHypotheses(self.fixed, self.moving, self.radii, self.overlap, self.noise, self.factor)


@dataclass(frozen=True, slots=True)
class MatchedPair:
    """Both frames of a `Views` at equal softness, the fixed one brought onto the moving one's grid by some motion.

    Attributes:
        moving: (H, W).
        fixed: (H, W), 0 where the motion leads out of the frame.
        inside: (H, W) pixels of the overlap that stay inside it.
        index: (rows, columns) signed position in the bank, see `blur_match.RadiusMap`.
    """

    moving: Image
    fixed: Image
    inside: Mask
    index: Image


def build_hypotheses(estimate: GlobalEstimate, finest_side_px: int) -> BlurHypotheses:
    """A pair under every disc, as its global model brings it together.

    Args:
        estimate: That model, and the frames it was found on.
        finest_side_px: Frames whose longer side exceeds this are reduced by whole factors of two.
    """
    frames, matrix, halvings = estimate.frames, estimate.homography, 0
    while max(frames.size) > finest_side_px:
        frames, matrix, halvings = frames.halved(), geometry.scaled(matrix, 0.5), halvings + 1
    factor, size = 2**halvings, frames.size
    used_px = float(np.percentile(np.abs(estimate.matched.radius.radius_px), 98))
    radii = blur_matching.radii_up_to(max((_MARGIN * used_px + 0.7) / factor, 1.0))
    blur = spline.coefficients(estimate.photometry.applied(frames.blur))
    moved = np.clip(spline.sample(blur, matrix, size, radial=estimate.radial), 0, np.inf)
    white = photometry.white_of(frames.sharp)
    banks = [[_comparable(blur_with_disc(light, radius), white) for radius in radii] for light in (moved, frames.sharp)]
    shared = cv2.resize(estimate.matched.overlap.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    trusted = spline.linear(frames.trusted_blur, matrix, size) * frames.trusted_sharp
    overlap = np.asarray((shared > _INSIDE) & (trusted > 0.5), dtype=np.bool_)
    # Fine texture passes for noise in the sharper frame, hardly in the softer one.
    least = min(noise_sigma(photometry.tone(light, white)) for light in (frames.sharp, moved))
    noise = min(estimate.noise / factor, float(np.sqrt(2)) * least)
    return BlurHypotheses(banks[0], banks[1], radii, overlap, noise, factor)


def blurred_to_match(
    views: BlurHypotheses, flow: Image, index: Image | None = None, where: Image | None = None
) -> MatchedPair:
    """Blur matching under a motion.

    Args:
        views: The two frames.
        flow: (H, W, 2) u[moving→fixed] in pixels.
        index: Which disc to use where, as found before; None to choose it now.
        where: (H, W) 0 … 1 the places that choose it; all of them if None.
    """
    size = (flow.shape[0], flow.shape[1])
    fixed, inside = views.fixed, views.overlap
    if flow.any():
        first, last = (
            (0, len(fixed) - 1) if index is None else (int(max(edge, 0)) for edge in (index.min(), index.max()))
        )
        # Only the discs in use.
        fixed = [pulled(image, flow) if first <= k <= last + 1 else image for k, image in enumerate(fixed)]
        inside = inside & (pulled(inside.astype(np.float32), flow) > _INSIDE)
    if index is None:
        weight = (inside if where is None else inside * where).astype(np.float32)
        index = blur_matching.choose(views.moving, fixed, weight, views.radii, _noises(views)).index
    moving = blur_matching.blend(views.moving, -index, size)
    return MatchedPair(moving, blur_matching.blend(fixed, index, size), inside, index)


def pulled(image: Image, flow: Image) -> Image:
    """`out(x) = image(x + flow(x))`, bicubic; 0 outside."""
    height, width = flow.shape[:2]
    xs = np.arange(width, dtype=np.float32)[None] + flow[..., 0]
    ys = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    moved = cv2.remap(image, xs, ys, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(moved, dtype=np.float32)


def gradient(image: Image) -> tuple[Image, Image]:
    """Central differences of an (H, W) image along x and y."""
    kernel, one = np.array([[-0.5, 0.0, 0.5]], dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    along_x = cv2.sepFilter2D(image, cv2.CV_32F, kernel, one, borderType=cv2.BORDER_REFLECT_101)
    along_y = cv2.sepFilter2D(image, cv2.CV_32F, one, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(along_x, dtype=np.float32), np.asarray(along_y, dtype=np.float32)


def mean(image: Image, sigma: float) -> Image:
    """Gaussian mean of an (H, W) image, border repeated; wide ones are computed on a reduced grid."""
    if sigma >= _WIDE_SIGMA:
        return photometry.blurred(image, sigma)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


def _noises(views: BlurHypotheses) -> Image:
    """Noise variance of each comparison in `blur_match.choose`; each frame is taken to hold half of it."""
    kept = np.array([blur_matching.noise_kept(radius, _SMOOTH_SIGMA_PX) for radius in views.radii])
    variance = 0.5 * views.noise**2 * (kept[0] + np.concatenate([kept[:0:-1], kept]))
    return np.asarray(variance[:, None, None], dtype=np.float32)


def _comparable(light: Image, white: float) -> Image:
    return photometry.band(mean(photometry.tone(light, white), _SMOOTH_SIGMA_PX), _BAND_SIGMA_PX)
