"""Coarse to fine: brightness, blur matching and the global model, taking turns on a pyramid of the two frames.

The core that `registration` and `dense` share; everything here is in pixels of the frames handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import blur_matching, brightness_field, homography, spline, tile_regression
from alignment.estimation import photometry as photometric
from alignment.estimation.initial_search import search_similarity
from alignment.estimation.photometry import Photometry
from alignment.estimation.pyramid import FramePair, first_level_fitting, first_level_within, halve
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.disc import blur_with_disc
from sdd_toolkit.imaging.noise import noise_sigma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.config import AlignConfig
    from alignment.estimation.blur_matching import RadiusMap
    from alignment.estimation.tile_regression import MotionFit
    from sdd_toolkit.calibration.breathing_model import ZoomPrior

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

BAND_SIGMA_PX = 10.0
_BORDER_PX = 4.0
_SMOOTH_SIGMA_PX = 0.7
_STEPS = 8
_STILL_PX = 0.003
# Enough where a finer level follows.
_ABOUT_PX = 0.03
_LONGEST_STEP_PX = 8.0
# How much better than at the expected zoom the frames must correlate at another.
_CLEARLY = 1.1
# Radii within this share of their median are one radius.
_UNIFORM_SHARE = 0.12
_UNIFORM_PX = 0.35
_TRIAL_SHARE = 0.05
# Where half of the texture is blurred by more than this, the next finer level holds nothing new.
_COARSE_ENOUGH_PX = 3.6
_DARK_SHARE = 0.05
# With a precision to reach, the first level on which it may be: smaller ones have too few tiles.
_TRIAL_SIDE_PX = 800
_LOCAL_MEAN_SIGMA_PX = 8.0


@dataclass(frozen=True, slots=True)
class BlurMatchedFrames:
    """Two frames on the sharp frame's grid at equal softness.

    Attributes:
        moving: (H, W) the blurred frame, warped, blur-matched and band-passed.
        fixed: (H, W) the sharp frame, blur-matched and band-passed.
        overlap: (H, W) pixels that lie inside both frames by more than the blur's reach.
        radius: Which disc was chosen where.
    """

    moving: Image
    fixed: Image
    overlap: NDArray[np.bool_]
    radius: RadiusMap

    def halve(self) -> BlurMatchedFrames:
        """2x2 means, in pixels of their own."""
        radius = replace(self.radius, radii=tuple(radius / 2 for radius in self.radius.radii))
        overlap = halve(self.overlap.astype(np.float32)) > 0.99
        return BlurMatchedFrames(halve(self.moving), halve(self.fixed), overlap, radius)


@dataclass(frozen=True, slots=True)
class GlobalEstimate:
    """The global model of a pair, before anyone judges it. Pixels of the level it was found on.

    Attributes:
        homography: Blurred to sharp.
        radial: Coefficient of the radial term.
        model: Name of the model the evidence chose.
        covariance: (k, k) of the parameters within the basis of the fitted model.
        spread_px: Standard deviation of tile displacements that their own uncertainty does not explain.
        photometry: Brightness of the sharp frame in terms of the blurred one.
        matched: The frames as last compared.
        noise: Standard deviation of the noise in the two comparable frames, added in quadrature.
        frames: The pair at that level.
        reduction: Pixels of the frames handed in per pixel of that level (1, 2, 4 …).
        error_px: What the corners are likely off by.
    """

    homography: Matrix
    radial: float
    model: str
    covariance: Matrix
    spread_px: float
    photometry: Photometry
    matched: BlurMatchedFrames
    noise: float
    frames: FramePair
    reduction: int
    error_px: float


@dataclass(frozen=True, slots=True)
class _LevelState:
    """What one level hands to the next finer one."""

    homography: Matrix
    radial: float
    photometry: Photometry
    largest_px: float
    radius_px: float
    both: bool


@dataclass(frozen=True, slots=True)
class _MatchedLevel:
    """A level's frames at equal softness, linear: what Gauss-Newton compares."""

    spline: Image
    fixed: Image
    softening: Image
    weight: Image
    overlap: NDArray[np.bool_]
    radius: RadiusMap
    noise_energy: Image


def prepare_luminance(light: Image, white: float) -> Image:
    """Band-passed tone of (H, W) linear luminance, lightly smoothed."""
    tone = cv2.GaussianBlur(photometric.to_tone(light, white), (0, 0), _SMOOTH_SIGMA_PX)
    return photometric.subtract_local_mean(np.asarray(tone, dtype=np.float32), BAND_SIGMA_PX)


def estimate_global(
    levels: list[FramePair], config: AlignConfig, prior: ZoomPrior | None = None, tolerance_px: float = 0.0
) -> GlobalEstimate:
    """The global model of a pair.

    Args:
        levels: From `pyramid`.
        config: Search ranges.
        prior: What is known of the zoom beforehand.
        tolerance_px: The estimate stops on a coarser level than the finest once its estimated corner error, in pixels
            of the frames of the first level, is below this; 0 always reaches the finest.
    """
    finest = first_level_within(levels, config.working_megapixels)
    enough = max(finest, first_level_fitting(levels, _TRIAL_SIDE_PX)) if tolerance_px > 0 else finest
    top = levels[-1]
    whites = photometric.white_level(top.blur), photometric.white_level(top.sharp)
    state = _LevelState(
        homography=_initial_homography(
            prepare_luminance(top.blur, whites[0]), prepare_luminance(top.sharp, whites[1]), config, prior
        ),
        radial=0.0,
        photometry=Photometry(gain=whites[1] / max(whites[0], 1e-9)),
        largest_px=config.max_radius_px / 2 ** (len(levels) - 1),
        radius_px=0.0,
        both=True,
    )
    full = "homography+radial" if config.radial else "homography"
    for number in range(len(levels) - 1, finest - 1, -1):
        coarse = number >= max(finest + 2, 2, enough + 1) or (number == len(levels) - 1 and number > finest)
        model = "similarity" if coarse else full
        bright = max(number, brightness_field.brightness_level(levels))
        factor = 0.5 ** (bright - number)
        compared = brightness_field.measure_brightness(
            levels[bright], geometry.scaled(state.homography, factor), factor * state.radius_px
        )
        state = replace(state, photometry=compared or state.photometry)
        # Where the start is a guess, and on small frames, what is compared is chosen twice.
        turns = 2 if number == len(levels) - 1 or (number == finest and max(levels[number].size) <= 400) else 1
        # Any level that fits the full model may be the last.
        still_px = _STILL_PX if model == full else _ABOUT_PX
        state, fit, pair = _refine_level(levels[number], state, model, prior, turns=turns, still_px=still_px)
        signed = _informative_radii(pair)
        soft = float(np.median(np.abs(signed))) > _COARSE_ENOUGH_PX
        if number == finest or (soft and model == full):
            break
        on_trial = finest < number <= enough and model == full
        if on_trial and 2**number * _choose_model(levels[number].size, state, fit, full).error_px <= tolerance_px:
            break
        used = float(np.percentile(np.abs(signed), 98))
        state = replace(
            state,
            homography=geometry.scaled(state.homography, 2.0),
            radius_px=2 * float(np.median(signed)),
            largest_px=min(2 * (1.3 * used + 0.7), config.max_radius_px / 2 ** (number - 1)),
            both=bool(np.mean(signed < -0.5) > 0.01) or model != full,
        )
    return _build_estimate(levels[number], state, fit, pair, model, 2**number)


def _initial_homography(moving: Image, fixed: Image, config: AlignConfig, prior: ZoomPrior | None) -> Matrix:
    """Where to start: at the zoom to expect, unless the frames clearly speak for another."""
    reach = config.max_zoom_percent / 100
    anywhere, score = search_similarity(
        moving, fixed, zooms=(1 - reach, 1 + reach), max_rotation_deg=config.max_rotation_deg
    )
    if prior is None:
        return anywhere
    margin = 4 * prior.deviation + 0.005
    zooms = (prior.zoom - margin, prior.zoom + margin)
    expected, expected_score = search_similarity(moving, fixed, zooms=zooms, max_rotation_deg=config.max_rotation_deg)
    return anywhere if score > _CLEARLY * expected_score else expected


def _informative_radii(pair: _MatchedLevel) -> NDArray[np.float32]:
    """(N,) signed radii of the cells that count."""
    radius = pair.radius.radius_px
    energy = cv2.resize(pair.weight * np.abs(pair.softening), radius.shape[::-1], interpolation=cv2.INTER_AREA)
    counted = energy > 0.5 * float(np.median(energy))
    return radius[counted] if counted.any() else radius.ravel()


def _refine_level(
    frames: FramePair, state: _LevelState, model: str, prior: ZoomPrior | None, *, turns: int, still_px: float
) -> tuple[_LevelState, MotionFit, _MatchedLevel]:
    """Blur matching and Gauss-Newton at one level, in turns, the last one until a step is shorter than `still_px`."""
    size = frames.size
    basis = homography.BASES[model]
    radii = blur_matching.radii_up_to(max(state.largest_px, 1.2))
    side = 32 if max(size) > 400 else 16
    for turn in range(turns):
        pair = _match_level(frames, state, radii)
        for _ in range(_STEPS):
            warped = spline.sample_cubic(pair.spline, state.homography, size, radial=state.radial)
            systems = tile_regression.linearise(
                warped, pair.fixed, pair.softening, pair.weight, side, pair.noise_energy
            )
            fit = tile_regression.fit_motion(
                systems, basis, homography.step_prior(state.homography, state.radial, size, prior)
            )
            moved = float(np.abs(homography.jacobian(geometry.corners(size), size) @ fit.step).max())
            # A step that would leave the neighbourhood of the linearisation is a sign of no texture.
            step = fit.step * min(1.0, _LONGEST_STEP_PX / (moved + 1e-12))
            state = replace(
                state,
                homography=homography.compose(state.homography, step, size),
                radial=state.radial + float(step[8]),
            )
            if moved < (still_px if turn == turns - 1 else _ABOUT_PX):
                break
    return state, fit, pair


def _match_level(frames: FramePair, state: _LevelState, radii: tuple[float, ...]) -> _MatchedLevel:
    """Both frames at equal softness under the current model."""
    size = frames.size
    blur = state.photometry.apply(frames.blur)
    fixed_bank = [_blur_and_smooth(frames.sharp, radius) for radius in radii]
    moving_bank = [_blur_and_smooth(blur, radius) for radius in (radii if state.both else radii[:1])]
    per_brightness = _inverse_brightness(frames.sharp, photometric.white_level(frames.sharp))
    inside = _inner_overlap(state.homography, size)
    open_blur = spline.sample_linear(frames.trusted_blur, state.homography, size)
    weight = np.where(inside, per_brightness * open_blur * frames.trusted_sharp, 0).astype(np.float32)
    softer = spline.coefficients(moving_bank[0])
    warped = [spline.sample_cubic(softer, state.homography, size, radial=state.radial)]
    # What a disc has smoothed, bilinear sampling does not harm.
    warped += [spline.sample_linear(image, state.homography, size) for image in moving_bank[1:]]
    noise = _weighted_noise(blur, per_brightness), _weighted_noise(frames.sharp, per_brightness)
    radius = blur_matching.choose_radii(
        warped, fixed_bank, weight, radii, _hypothesis_noise(noise, radii, len(moving_bank))
    )
    radius, fixed = _blur_sharp_frame(radius, warped[0], fixed_bank, frames.sharp, weight)
    if radius.index.min() < 0:
        # The map lies on the sharp frame's grid.
        inverse = np.asarray(np.linalg.inv(state.homography), dtype=np.float64)
        back = geometry.scaled(inverse, 1 / blur_matching.CELL_PX)
        index = spline.sample_linear(-radius.index, back, radius.index.shape)
        softer = spline.coefficients(blur_matching.mix_bank(moving_bank, index, size))
    used = float(np.percentile(np.abs(radius.radius_px), 95))
    overlap = _erode(inside, used)
    # Light of saturated places reaches as far as the disc.
    lost = blur_with_disc(1 - frames.trusted_sharp, used)
    weight = np.where(overlap, weight * np.maximum(1 - lost, 0) ** 2, 0).astype(np.float32)
    softening = cv2.GaussianBlur(fixed, (0, 0), 0.8 + used / 4) - fixed
    # The mean of both frames holds a quarter of their noise; of the softer one next to nothing is left.
    middle = float(np.median(np.abs(radius.radius_px)))
    kept = (
        blur_matching.noise_gradient_energy(0.0, _SMOOTH_SIGMA_PX),
        blur_matching.noise_gradient_energy(middle, _SMOOTH_SIGMA_PX),
    )
    energy = np.where(overlap, 0.25 * (noise[0] * kept[0] + noise[1] * kept[1]), 0).astype(np.float32)
    return _MatchedLevel(softer, fixed, np.asarray(softening, dtype=np.float32), weight, overlap, radius, energy)


def _inner_overlap(matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) pixels of the sharp frame that keep off the border of both frames."""
    edge = int(_BORDER_PX)
    inner = np.zeros(size, dtype=np.uint8)
    inner[edge:-edge, edge:-edge] = 1
    seen = cv2.warpPerspective(inner, matrix, size[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.min(seen, inner) > 0)


def _weighted_noise(light: Image, per_brightness: Image) -> Image:
    """(H, W) variance of a luminance's noise, relative to brightness as the weights are."""
    bright = np.asarray(np.float32(1) / per_brightness, dtype=np.float32)
    return np.asarray(per_brightness * photometric.estimate_noise(light).variance(bright), dtype=np.float32)


def _hypothesis_noise(noise: tuple[Image, Image], radii: tuple[float, ...], negative: int) -> Image:
    """(hypotheses, rows, columns) noise variance in each comparison of `blur_match.choose`, cell by cell.

    Args:
        noise: (H, W) weighted variance in the blurred and in the sharp frame.
        radii: Of the bank.
        negative: How many of them the blurred frame has images for.
    """
    of_blur, of_sharp = (blur_matching.mean_over_cells(image) for image in noise)
    kept = [blur_matching.noise_gain(radius, _SMOOTH_SIGMA_PX) for radius in radii]
    layers = [of_blur * k + of_sharp * kept[0] for k in kept[negative - 1 : 0 : -1]]
    layers += [of_blur * kept[0] + of_sharp * k for k in kept]
    return np.asarray(np.stack(layers), dtype=np.float32)


def _inverse_brightness(light: Image, white: float) -> Image:
    """Inverse of the local mean: shot noise has a variance in proportion to it."""
    local_mean = np.maximum(photometric.gaussian_mean(light, _LOCAL_MEAN_SIGMA_PX), 0)
    return np.asarray(1.0 / (local_mean + np.float32(_DARK_SHARE * white + 1e-6)), dtype=np.float32)


def _blur_sharp_frame(
    radius: RadiusMap, warped: Image, bank: list[Image], sharp: Image, weight: Image
) -> tuple[RadiusMap, Image]:
    """The matched sharp frame; by one exact disc where the whole frame has one radius."""
    found = radius.radius_px
    counted = cv2.resize(weight, found.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    values = found[counted] if counted.any() else found.ravel()
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    if middle < 0.8 or high - low > max(2 * _UNIFORM_SHARE * middle, _UNIFORM_PX):
        return radius, blur_matching.mix_bank(bank, radius.index, (sharp.shape[0], sharp.shape[1]))
    smaller, larger = (_blur_and_smooth(sharp, middle * factor) for factor in (1 - _TRIAL_SHARE, 1 + _TRIAL_SHARE))
    slope = larger - smaller
    weighted = slope * weight
    residual = warped - 0.5 * (larger + smaller)
    shift = float(np.vdot(weighted, residual)) / (float(np.vdot(weighted, slope)) + 1e-12)
    exact = middle * (1 + 2 * _TRIAL_SHARE * float(np.clip(shift, -1, 1)))
    index = np.interp(exact, radius.radii, np.arange(len(radius.radii)))
    return replace(radius, index=np.full_like(radius.index, index)), _blur_and_smooth(sharp, exact)


def _blur_and_smooth(light: Image, radius_px: float) -> Image:
    smooth = cv2.GaussianBlur(blur_with_disc(light, radius_px), (0, 0), _SMOOTH_SIGMA_PX)
    return np.asarray(smooth, dtype=np.float32)


def _erode(mask: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    side = 2 * int(np.ceil(by_px)) + 1
    kernel = np.ones((side, side), dtype=np.uint8)
    return np.asarray(cv2.erode(mask.astype(np.uint8), kernel, borderValue=0) > 0)


def _choose_model(size: tuple[int, int], state: _LevelState, fit: MotionFit, full: str) -> homography.ModelChoice:
    parameters = homography.to_parameters(state.homography, state.radial, size)
    return homography.choose_model(parameters, fit.covariance, full, int(np.count_nonzero(fit.weight > 0.1)), size)


def _build_estimate(
    frames: FramePair, state: _LevelState, fit: MotionFit, pair: _MatchedLevel, full: str, reduction: int
) -> GlobalEstimate:
    """Puts the model the evidence chose in the place of the full one."""
    size = frames.size
    choice = _choose_model(size, state, fit, full)
    matrix = homography.to_matrix(choice.parameters, size)
    radial = float(choice.parameters[8])
    warped = spline.sample_cubic(pair.spline, matrix, size, radial=radial)
    white = photometric.white_level(frames.sharp)
    moving, fixed = (
        photometric.subtract_local_mean(photometric.to_tone(np.clip(image, 0, np.inf), white), BAND_SIGMA_PX)
        for image in (warped, pair.fixed)
    )
    noises = [
        noise_sigma(photometric.to_tone(light, photometric.white_level(light))) for light in (frames.blur, frames.sharp)
    ]
    return GlobalEstimate(
        homography=matrix,
        radial=radial,
        model=choice.model,
        covariance=choice.covariance,
        spread_px=fit.spread_px,
        photometry=state.photometry,
        matched=BlurMatchedFrames(moving, fixed, pair.overlap, pair.radius),
        noise=float(np.hypot(noises[0], noises[1])),
        frames=frames,
        reduction=reduction,
        error_px=choice.error_px,
    )
