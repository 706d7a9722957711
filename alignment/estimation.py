"""Coarse to fine: blur matching and the global model, taking turns on a pyramid of the two frames.

The core that `registration` and `dense` share; everything here is in pixels of the frames handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment import blur_match, homography, photometric
from sdd_toolkit import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.blur_match import RadiusMap
    from alignment.config import AlignConfig
    from alignment.homography import Equations

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

TILE_PX = 48
BAND_SIGMA_PX = 10.0
_SMALLEST_PX = 72
_BORDER_PX = 3.0
_ROUNDS = 2
_STEPS = 8
_STILL_PX = 0.002
_SMOOTH_SIGMA_PX = 0.7


@dataclass(frozen=True, slots=True)
class Light:
    """One frame at one pyramid level: (H, W) linear luminance and the brightness its tone is relative to."""

    values: Image
    white: float

    def halved(self) -> Light:
        """2x2 means."""
        height, width = self.values.shape
        whole = self.values[: height // 2 * 2, : width // 2 * 2]
        halved = cv2.resize(whole, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        return Light(np.asarray(halved, dtype=np.float32), self.white)

    def bank(self, radii: tuple[float, ...]) -> list[Image]:
        """The comparable image under each disc radius."""
        return [comparable(blur_match.disc_blurred(self.values, radius), self.white) for radius in radii]


@dataclass(frozen=True, slots=True)
class Matched:
    """Two frames on the sharp frame's grid at equal softness.

    Attributes:
        moving: (H, W) the blurred frame, warped, blur-matched and band-passed.
        fixed: (H, W) the sharp frame, blur-matched and band-passed.
        overlap: (H, W) pixels that lie inside both frames by more than the blur's reach.
        weight: (H, W) inverse local contrast inside the overlap, 0 outside.
        radius: Which disc was chosen where.
    """

    moving: Image
    fixed: Image
    overlap: NDArray[np.bool_]
    weight: Image
    radius: RadiusMap


@dataclass(frozen=True, slots=True)
class Estimate:
    """The global model of a pair, before anyone judges it. Pixels of the working grid.

    Attributes:
        homography: Blurred to sharp.
        model: Name of the model the evidence chose.
        equations: The last linearisation, for the uncertainty.
        matched: The frames as last compared.
        noise: Standard deviation of the noise in the two comparable frames, added in quadrature.
    """

    homography: Matrix
    model: str
    equations: Equations
    matched: Matched
    noise: float


def comparable(light: Image, white: float) -> Image:
    """Band-passed tone of (H, W) linear luminance, lightly smoothed."""
    tone = cv2.GaussianBlur(photometric.tone(light, white), (0, 0), _SMOOTH_SIGMA_PX)
    return photometric.band(np.asarray(tone, dtype=np.float32), BAND_SIGMA_PX)


def estimate(blur: Image, sharp: Image, config: AlignConfig) -> Estimate:
    """The global model between two (H, W) linear luminances of the same size."""
    moving, fixed = Light(blur, photometric.white_of(blur)), Light(sharp, photometric.white_of(sharp))
    levels = [(moving, fixed)]
    while min(levels[-1][1].values.shape) // 2 >= _SMALLEST_PX:
        levels.append((levels[-1][0].halved(), levels[-1][1].halved()))
    top = levels[-1]
    matrix = homography.search(
        comparable(*_parts(top[0])),
        comparable(*_parts(top[1])),
        max_zoom_percent=config.max_zoom_percent,
        max_rotation_deg=config.max_rotation_deg,
    )
    largest = config.max_radius_px / 2 ** (len(levels) - 1)
    for number in range(len(levels) - 1, -1, -1):
        coarse = number >= 2 or (number == len(levels) - 1 and number > 0)
        basis = homography.BASES["similarity" if coarse else "homography"]
        radii = blur_match.radii_up_to(max(largest, 1.2))
        matrix, equations, matched = refine(*levels[number], matrix, radii, basis)
        if number:
            matrix = geometry.scaled(matrix, 2.0)
            used = float(np.percentile(np.abs(matched.radius.radius_px), 98))
            largest = min(2 * (1.3 * used + 0.7), config.max_radius_px / 2 ** (number - 1))
    noises = [photometric.noise_sigma(photometric.tone(*_parts(light))) for light in levels[0]]
    noise = float(np.hypot(noises[0], noises[1]))
    return _simplest(matrix, equations, matched, noise)


def _parts(light: Light) -> tuple[Image, float]:
    return light.values, light.white


def refine(
    moving: Light, fixed: Light, matrix: Matrix, radii: tuple[float, ...], basis: Matrix
) -> tuple[Matrix, Equations, Matched]:
    """Alternates blur matching and Gauss-Newton at one level, from `matrix`."""
    size = (fixed.values.shape[0], fixed.values.shape[1])
    banks = moving.bank(radii), fixed.bank(radii)
    reach = float(np.hypot(*size)) / 2
    for turn in range(_ROUNDS):
        matched = match(banks[0], banks[1], matrix, radii)
        softer = blur_match.blend(banks[0], -matched.radius.index, size)
        for _ in range(_STEPS):
            equations = homography.linearise(matched.moving, matched.fixed, matched.weight, TILE_PX)
            step = equations.step(basis)
            # A step that would leave the neighbourhood of the linearisation is a sign of no texture.
            step *= min(1.0, 8.0 / (reach * float(np.abs(step).max()) + 1e-12))
            matrix = homography.compose(matrix, step, size)
            matched = _rewarped(matched, softer, matrix)
            if reach * float(np.abs(step).max()) < _STILL_PX * (1 if turn else 10):
                break
    return matrix, equations, matched


def match(moving_bank: list[Image], fixed_bank: list[Image], matrix: Matrix, radii: tuple[float, ...]) -> Matched:
    """Blur matching of two banks under a homography."""
    size = (fixed_bank[0].shape[0], fixed_bank[0].shape[1])
    warped = [geometry.warp(image, matrix, size, interpolation=cv2.INTER_LINEAR) for image in moving_bank]
    overlap = _overlap(matrix, size, _BORDER_PX)
    radius = blur_match.choose(warped, fixed_bank, overlap.astype(np.float32), radii)
    softer = blur_match.blend(moving_bank, -radius.index, size)
    moving = geometry.warp(softer, matrix, size, interpolation=cv2.INTER_CUBIC)
    fixed = blur_match.blend(fixed_bank, radius.index, size)
    # What lay outside a frame is smeared inwards as far as the discs reach.
    overlap = _shrunk(overlap, float(np.percentile(np.abs(radius.radius_px), 95)))
    return Matched(moving, fixed, overlap, contrast_weight(moving, fixed, overlap), radius)


def contrast_weight(moving: Image, fixed: Image, overlap: NDArray[np.bool_]) -> Image:
    """Inverse local contrast: a strong edge counts as much as fine texture, flat noise for nothing extra."""
    energy = photometric.blurred(0.5 * (moving**2 + fixed**2), BAND_SIGMA_PX)
    typical = float(np.mean(energy[overlap])) if overlap.any() else 1.0
    weight = 1.0 / np.sqrt(np.maximum(energy, 0) + np.float32(0.1 * typical + 1e-12))
    return np.asarray(np.where(overlap, weight, 0), dtype=np.float32)


def _rewarped(matched: Matched, softer: Image, matrix: Matrix) -> Matched:
    size = (softer.shape[0], softer.shape[1])
    moving = geometry.warp(softer, matrix, size, interpolation=cv2.INTER_CUBIC)
    return Matched(moving, matched.fixed, matched.overlap, matched.weight, matched.radius)


def _overlap(matrix: Matrix, size: tuple[int, int], margin_px: float) -> NDArray[np.bool_]:
    inside = geometry.valid(matrix, size, size, margin_px=margin_px)
    edge = int(np.ceil(margin_px))
    inside[:edge], inside[-edge:], inside[:, :edge], inside[:, -edge:] = False, False, False, False
    return inside


def _shrunk(mask: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    side = 2 * int(np.ceil(by_px)) + 1
    kernel = np.ones((side, side), dtype=np.uint8)
    return np.asarray(cv2.erode(mask.astype(np.uint8), kernel, borderValue=0) > 0)


def _simplest(matrix: Matrix, equations: Equations, matched: Matched, noise: float) -> Estimate:
    """Puts the model the evidence chose in the place of the full homography."""
    size = (matched.fixed.shape[0], matched.fixed.shape[1])
    covariance = equations.covariance(homography.BASES["homography"])
    parameters = homography.to_parameters(matrix, size)
    model = homography.choose_model(parameters, covariance, len(equations.gradient))
    simpler = homography.to_matrix(homography.nearest(parameters, covariance, model), size)
    return Estimate(simpler, model, equations, matched, noise)
