"""Blur matching on one pyramid level: both frames at equal blur under the current model, with weights and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import blur_matching, photometry, spline
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.disc import blur_with_disc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.blur_matching import RadiusMap
    from alignment.estimation.photometry import Photometry
    from alignment.estimation.pyramid import FramePair

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

SMOOTH_SIGMA_PX = 0.7
_BORDER_PX = 4.0
# Radii within this share of their median are one radius.
_UNIFORM_SHARE = 0.12
_UNIFORM_PX = 0.35
_TRIAL_SHARE = 0.05
_DARK_SHARE = 0.05
_LOCAL_MEAN_SIGMA_PX = 8.0


@dataclass(frozen=True, slots=True)
class LevelState:
    """The estimate so far, in pixels of a level; each level hands it to the next finer one.

    Attributes:
        homography: Blurred to sharp.
        radial: Coefficient of the radial term.
        photometry: Brightness of the sharp frame in terms of the blurred one.
        largest_px: Largest disc radius to try.
        radius_px: Typical disc radius, positive where it blurs the sharp frame.
        either_way: Whether the blurred frame may need a disc too.
    """

    homography: Matrix
    radial: float
    photometry: Photometry
    largest_px: float
    radius_px: float
    either_way: bool


@dataclass(frozen=True, slots=True)
class MatchedLevel:
    """The linear luminance of a level's frames at equal blur: the input of Gauss-Newton.

    Attributes:
        spline: (H, W) B-spline coefficients of the blurred frame, on its own grid.
        fixed: (H, W) the sharp frame.
        blur_derivative: (H, W) change of `fixed` with the radius of blur.
        weight: (H, W) inverse variance of a pixel's difference up to a factor; 0 outside the overlap.
        overlap: (H, W) pixels inside both frames by more than the reach of the blur.
        radius: Signed disc radius per cell.
        noise_energy: (H, W) contribution of noise alone to the weighted squared gradient.
    """

    spline: Image
    fixed: Image
    blur_derivative: Image
    weight: Image
    overlap: NDArray[np.bool_]
    radius: RadiusMap
    noise_energy: Image

    def informative_radii(self) -> NDArray[np.float32]:
        """(N,) signed radii of the cells in which the radius makes a difference."""
        radius = self.radius.radius_px
        change = self.weight * np.abs(self.blur_derivative)
        energy = cv2.resize(change, radius.shape[::-1], interpolation=cv2.INTER_AREA)
        counted = energy > 0.5 * float(np.median(energy))
        return radius[counted] if counted.any() else radius.ravel()


def match_level(frames: FramePair, state: LevelState, radii: tuple[float, ...]) -> MatchedLevel:
    """Brings both frames of a level to equal blur under the current model.

    Args:
        frames: The level.
        state: The current model.
        radii: Disc radii to try, ascending from 0.
    """
    size = frames.size
    blur = state.photometry.apply(frames.blur)
    fixed_bank = [_blur_and_smooth(frames.sharp, radius) for radius in radii]
    moving_bank = [_blur_and_smooth(blur, radius) for radius in (radii if state.either_way else radii[:1])]
    per_brightness = _inverse_brightness(frames.sharp, photometry.white_level(frames.sharp))
    inside = _inner_overlap(state.homography, size)
    trusted_blur = spline.sample_linear(frames.trusted_blur, state.homography, size)
    weight = np.where(inside, per_brightness * trusted_blur * frames.trusted_sharp, 0).astype(np.float32)
    coefficients = spline.coefficients(moving_bank[0])
    warped = [spline.sample_cubic(coefficients, state.homography, size, radial=state.radial)]
    # Bilinear sampling does not harm an image that a disc has smoothed.
    warped += [spline.sample_linear(image, state.homography, size) for image in moving_bank[1:]]
    noise = _weighted_noise(blur, per_brightness), _weighted_noise(frames.sharp, per_brightness)
    hypothesis_noise = _hypothesis_noise(noise, radii, len(moving_bank))
    radius = blur_matching.choose_radii(warped, fixed_bank, weight, radii, hypothesis_noise)
    radius, fixed = _blur_sharp_frame(radius, warped[0], fixed_bank, frames.sharp, weight)
    if radius.index.min() < 0:
        coefficients = spline.coefficients(_blur_moving_frame(moving_bank, radius, state.homography, size))
    used_px = float(np.percentile(np.abs(radius.radius_px), 95))
    overlap = _erode(inside, used_px)
    # Saturated light spreads as far as the disc reaches.
    saturated = blur_with_disc(1 - frames.trusted_sharp, used_px)
    weight = np.where(overlap, weight * np.maximum(1 - saturated, 0) ** 2, 0).astype(np.float32)
    blur_derivative = cv2.GaussianBlur(fixed, (0, 0), 0.8 + used_px / 4) - fixed
    energy = _noise_energy(noise, radius, overlap)
    return MatchedLevel(
        coefficients, fixed, np.asarray(blur_derivative, dtype=np.float32), weight, overlap, radius, energy
    )


def _inner_overlap(matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) pixels of the sharp frame that keep off the border of both frames."""
    edge = int(_BORDER_PX)
    inner = np.zeros(size, dtype=np.uint8)
    inner[edge:-edge, edge:-edge] = 1
    warped = cv2.warpPerspective(inner, matrix, size[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.min(warped, inner) > 0)


def _weighted_noise(light: Image, per_brightness: Image) -> Image:
    """(H, W) noise variance of a luminance, relative to brightness as the weights are."""
    bright = np.asarray(np.float32(1) / per_brightness, dtype=np.float32)
    return np.asarray(per_brightness * photometry.estimate_noise(light).variance(bright), dtype=np.float32)


def _hypothesis_noise(noise: tuple[Image, Image], radii: tuple[float, ...], moving_count: int) -> Image:
    """(hypotheses, rows, columns) noise variance in each comparison of `blur_matching.choose_radii`.

    Args:
        noise: (H, W) weighted variance in the blurred and in the sharp frame.
        radii: Of the bank.
        moving_count: Number of radii for which there is an image of the blurred frame.
    """
    of_blur, of_sharp = (blur_matching.mean_over_cells(image) for image in noise)
    gains = [blur_matching.noise_gain(radius, SMOOTH_SIGMA_PX) for radius in radii]
    layers = [of_blur * gain + of_sharp * gains[0] for gain in gains[moving_count - 1 : 0 : -1]]
    layers += [of_blur * gains[0] + of_sharp * gain for gain in gains]
    return np.asarray(np.stack(layers), dtype=np.float32)


def _noise_energy(noise: tuple[Image, Image], radius: RadiusMap, overlap: NDArray[np.bool_]) -> Image:
    """(H, W) squared gradient that noise alone adds to the mean of both frames: a quarter of each frame's own."""
    middle_px = float(np.median(np.abs(radius.radius_px)))
    gains = [blur_matching.noise_gradient_energy(radius_px, SMOOTH_SIGMA_PX) for radius_px in (0.0, middle_px)]
    return np.where(overlap, 0.25 * (noise[0] * gains[0] + noise[1] * gains[1]), 0).astype(np.float32)


def _inverse_brightness(light: Image, white: float) -> Image:
    """Inverse of the local mean: the variance of shot noise is proportional to the mean."""
    local_mean = np.maximum(photometry.gaussian_mean(light, _LOCAL_MEAN_SIGMA_PX), 0)
    return np.asarray(1.0 / (local_mean + np.float32(_DARK_SHARE * white + 1e-6)), dtype=np.float32)


def _blur_sharp_frame(
    radius: RadiusMap, warped: Image, bank: list[Image], sharp: Image, weight: Image
) -> tuple[RadiusMap, Image]:
    """The sharp frame blurred to match, cell by cell, or by one exactly fitted disc if the radius is uniform.

    Args:
        radius: Signed radius per cell.
        warped: (H, W) the blurred frame on the sharp frame's grid.
        bank: (H, W) the sharp frame under each radius.
        sharp: (H, W) the sharp frame.
        weight: (H, W) inverse variance of a pixel's difference up to a factor.
    """
    radii = radius.radius_px
    counted = cv2.resize(weight, radii.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    values = radii[counted] if counted.any() else radii.ravel()
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    if middle < 0.8 or high - low > max(2 * _UNIFORM_SHARE * middle, _UNIFORM_PX):
        return radius, blur_matching.mix_bank(bank, radius.index, (sharp.shape[0], sharp.shape[1]))
    smaller, larger = (_blur_and_smooth(sharp, middle * factor) for factor in (1 - _TRIAL_SHARE, 1 + _TRIAL_SHARE))
    slope = larger - smaller
    weighted = slope * weight
    residual = warped - 0.5 * (larger + smaller)
    step = float(np.vdot(weighted, residual)) / (float(np.vdot(weighted, slope)) + 1e-12)
    exact = middle * (1 + 2 * _TRIAL_SHARE * float(np.clip(step, -1, 1)))
    index = np.interp(exact, radius.radii, np.arange(len(radius.radii)))
    return replace(radius, index=np.full_like(radius.index, index)), _blur_and_smooth(sharp, exact)


def _blur_moving_frame(bank: list[Image], radius: RadiusMap, matrix: Matrix, size: tuple[int, int]) -> Image:
    """The blurred frame, blurred further where the sharp one is softer; the radius map lies on the sharp grid."""
    inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    back = geometry.rescale_homography(inverse, 1 / blur_matching.CELL_PX)
    index = spline.sample_linear(-radius.index, back, radius.index.shape)
    return blur_matching.mix_bank(bank, index, size)


def _blur_and_smooth(light: Image, radius_px: float) -> Image:
    smooth = cv2.GaussianBlur(blur_with_disc(light, radius_px), (0, 0), SMOOTH_SIGMA_PX)
    return np.asarray(smooth, dtype=np.float32)


def _erode(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    side = 2 * int(np.ceil(radius_px)) + 1
    kernel = np.ones((side, side), dtype=np.uint8)
    return np.asarray(cv2.erode(mask.astype(np.uint8), kernel, borderValue=0) > 0)
