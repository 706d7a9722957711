"""Coarse-to-fine estimation of the global model: brightness, blur matching and geometry by turns on a pyramid.

Registration and residual flow share this estimate. All lengths are pixels of the frames of the first level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import blur_matching, brightness_field, homography, photometry, spline, tile_regression
from alignment.estimation.initial_search import search_similarity
from alignment.estimation.level_matching import SMOOTH_SIGMA_PX, LevelState, match_level
from alignment.estimation.photometry import Photometry
from alignment.estimation.pyramid import FramePair, first_level_fitting, first_level_within, halve
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.noise import noise_sigma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.config import AlignConfig
    from alignment.estimation.blur_matching import RadiusMap
    from alignment.estimation.level_matching import MatchedLevel
    from alignment.estimation.tile_regression import MotionFit
    from sdd_toolkit.calibration.breathing_model import ZoomPrior

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

BAND_SIGMA_PX = 10.0
_STEPS = 8
_CONVERGED_PX = 0.003
# Sufficient where a finer level follows.
_ROUGHLY_CONVERGED_PX = 0.03
_LONGEST_STEP_PX = 8.0
# How much better than at the expected zoom the frames must correlate at another.
_CLEARLY = 1.1
# Where half of the texture is blurred by more than this, the next finer level holds nothing new.
_COARSE_ENOUGH_PX = 3.6
# Longer side of the first level whose estimate may be final for its precision: smaller ones have too few tiles.
_TRIAL_SIDE_PX = 800


@dataclass(frozen=True, slots=True)
class BlurMatchedFrames:
    """Two frames on the sharp frame's grid at equal blur.

    Attributes:
        moving: (H, W) the blurred frame, warped, blur-matched and band-passed.
        fixed: (H, W) the sharp frame, blur-matched and band-passed.
        overlap: (H, W) pixels that lie inside both frames by more than the blur's reach.
        radius: Signed disc radius per cell.
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
    """The global model of a pair before it is judged, in pixels of the level it was estimated on.

    Attributes:
        homography: Blurred to sharp.
        radial: Coefficient of the radial term.
        model: Name of the model that the evidence supports.
        photometry: Brightness of the sharp frame in terms of the blurred one.
        matched: The frames at equal blur under the model.
        noise: Standard deviation of the noise in the two frames' tones, added in quadrature.
        frames: The pair at that level.
        reduction: Pixels of the first level per pixel of that level (1, 2, 4 …).
        error_px: Estimated error at the corners.
    """

    homography: Matrix
    radial: float
    model: str
    photometry: Photometry
    matched: BlurMatchedFrames
    noise: float
    frames: FramePair
    reduction: int
    error_px: float


@dataclass(frozen=True, slots=True)
class _LevelFit:
    """A model fitted on one level: the state it leads to, its last regression and the frames compared in it."""

    frames: FramePair
    model: str
    state: LevelState
    motion: MotionFit
    matched: MatchedLevel

    def choose_model(self) -> homography.ModelChoice:
        """The simplest model that the evidence allows in place of the fitted one."""
        parameters = homography.to_parameters(self.state.homography, self.state.radial, self.frames.size)
        observations = int(np.count_nonzero(self.motion.weight > 0.1))
        return homography.choose_model(parameters, self.motion.covariance, self.model, observations)

    def error_px(self) -> float:
        """Estimated error at the corners, in pixels of the level."""
        motion = self.motion
        return homography.corner_error_px(motion.deviation, motion.by_texture, self.model, self.frames.size)


def prepare_luminance(light: Image, white: float) -> Image:
    """Band-passed tone of an (H, W) linear luminance, lightly smoothed.

    Args:
        light: (H, W) linear luminance.
        white: Its white level, see `photometry.white_level`.
    """
    tone = cv2.GaussianBlur(photometry.to_tone(light, white), (0, 0), SMOOTH_SIGMA_PX)
    return photometry.subtract_local_mean(np.asarray(tone, dtype=np.float32), BAND_SIGMA_PX)


def estimate_global(
    levels: list[FramePair], config: AlignConfig, prior: ZoomPrior | None = None, tolerance_px: float = 0.0
) -> GlobalEstimate:
    """Estimates the global model of a pair from the coarsest level to the finest that adds information.

    Args:
        levels: From `build_pyramid`.
        config: Search ranges.
        prior: Expected zoom.
        tolerance_px: Estimation stops on a coarser level than the finest where the estimated corner error, in pixels
            of the first level, is below this; 0: never for this reason.
    """
    full = "homography+radial" if config.radial else "homography"
    top, finest = len(levels) - 1, first_level_within(levels, config.working_megapixels)
    # Levels from here on may be final for their precision.
    trial = max(finest, first_level_fitting(levels, _TRIAL_SIDE_PX)) if tolerance_px > 0 else finest
    state = _initial_state(levels, config, prior)
    for number in range(top, finest - 1, -1):
        coarse = number >= max(finest + 2, 2, trial + 1) or (number == top and number > finest)
        model = "similarity" if coarse else full
        state = _update_photometry(state, levels, number)
        # Where the start is a guess, and on small frames, the blur is matched twice.
        small = max(levels[number].size) <= 400
        rounds = 2 if number == top or (number == finest and small) else 1
        fit = _fit_level(levels[number], state, model, prior, rounds=rounds, may_be_last=model == full)
        if number == finest or (
            model == full and _is_sufficient(fit, 2**number, tolerance_px if number <= trial else 0)
        ):
            break
        state = _hand_down(fit, config.max_radius_px / 2 ** (number - 1), similar_only=model != full)
    return _build_estimate(fit, 2**number)


def _initial_state(levels: list[FramePair], config: AlignConfig, prior: ZoomPrior | None) -> LevelState:
    top = levels[-1]
    whites = photometry.white_level(top.blur), photometry.white_level(top.sharp)
    moving, fixed = (
        prepare_luminance(light, white) for light, white in zip((top.blur, top.sharp), whites, strict=True)
    )
    return LevelState(
        homography=_initial_homography(moving, fixed, config, prior),
        radial=0.0,
        photometry=Photometry(gain=whites[1] / max(whites[0], 1e-9)),
        largest_px=config.max_radius_px / 2 ** (len(levels) - 1),
        radius_px=0.0,
        either_way=True,
    )


def _initial_homography(moving: Image, fixed: Image, config: AlignConfig, prior: ZoomPrior | None) -> Matrix:
    """The best similarity near the expected zoom, unless the frames clearly correlate better at another."""
    reach, rotation_deg = config.max_zoom_percent / 100, config.max_rotation_deg
    anywhere, score = search_similarity(moving, fixed, zooms=(1 - reach, 1 + reach), max_rotation_deg=rotation_deg)
    if prior is None:
        return anywhere
    margin = 4 * prior.deviation + 0.005
    zooms = (prior.zoom - margin, prior.zoom + margin)
    expected, expected_score = search_similarity(moving, fixed, zooms=zooms, max_rotation_deg=rotation_deg)
    return anywhere if score > _CLEARLY * expected_score else expected


def _update_photometry(state: LevelState, levels: list[FramePair], number: int) -> LevelState:
    """`state` of level `number` with the brightness measured anew, on the level that is suited to it."""
    bright = max(number, brightness_field.brightness_level(levels))
    factor = 0.5 ** (bright - number)
    matrix = geometry.rescale_homography(state.homography, factor)
    measured = brightness_field.measure_brightness(levels[bright], matrix, factor * state.radius_px)
    return replace(state, photometry=measured or state.photometry)


def _fit_level(
    frames: FramePair, state: LevelState, model: str, prior: ZoomPrior | None, *, rounds: int, may_be_last: bool
) -> _LevelFit:
    """Blur matching and Gauss-Newton on one level, by turns.

    Args:
        frames: The level.
        state: Where to start.
        model: Name of the model to fit.
        prior: Expected zoom.
        rounds: How often the blur is matched anew.
        may_be_last: Whether the last round must converge fully, as no finer level may follow.
    """
    size = frames.size
    basis = homography.BASES[model]
    radii = blur_matching.radii_up_to(max(state.largest_px, 1.2))
    tile_px = 32 if max(size) > 400 else 16
    for number in range(rounds):
        matched = match_level(frames, state, radii)
        converged_px = _CONVERGED_PX if may_be_last and number == rounds - 1 else _ROUGHLY_CONVERGED_PX
        for _ in range(_STEPS):
            warped = spline.sample_cubic(matched.spline, state.homography, size, radial=state.radial)
            tiles = tile_regression.linearise(
                warped, matched.fixed, matched.blur_derivative, matched.weight, tile_px, matched.noise_energy
            )
            step_prior = homography.step_prior(state.homography, state.radial, size, prior)
            motion = tile_regression.fit_motion(tiles, basis, step_prior)
            corner_px = float(np.abs(homography.jacobian(geometry.corners(size), size) @ motion.step).max())
            # A step that would leave the neighbourhood of the linearisation is a sign of no texture.
            step = motion.step * min(1.0, _LONGEST_STEP_PX / (corner_px + 1e-12))
            matrix = homography.compose(state.homography, step, size)
            state = replace(state, homography=matrix, radial=state.radial + float(step[8]))
            if corner_px < converged_px:
                break
    return _LevelFit(frames, model, state, motion, matched)


def _is_sufficient(fit: _LevelFit, reduction: int, tolerance_px: float) -> bool:
    """Whether a finer level would add nothing: the blur is too wide for it, or the error is below the tolerance."""
    if float(np.median(np.abs(fit.matched.informative_radii()))) > _COARSE_ENOUGH_PX:
        return True
    return tolerance_px > 0 and reduction * fit.error_px() <= tolerance_px


def _hand_down(fit: _LevelFit, max_radius_px: float, *, similar_only: bool) -> LevelState:
    """The state of a level in pixels of the next finer one.

    Args:
        fit: Of the level.
        max_radius_px: Largest disc radius on the finer level.
        similar_only: Whether only a similarity was fitted: then radii are not yet reliable enough to rule out a sign.
    """
    signed = fit.matched.informative_radii()
    used_px = float(np.percentile(np.abs(signed), 98))
    return replace(
        fit.state,
        homography=geometry.rescale_homography(fit.state.homography, 2.0),
        radius_px=2 * float(np.median(signed)),
        largest_px=min(2 * (1.3 * used_px + 0.7), max_radius_px),
        either_way=bool(np.mean(signed < -0.5) > 0.01) or similar_only,
    )


def _build_estimate(fit: _LevelFit, reduction: int) -> GlobalEstimate:
    """The estimate under the model that the evidence supports, instead of the fitted one."""
    frames, size = fit.frames, fit.frames.size
    choice = fit.choose_model()
    matrix = homography.to_matrix(choice.parameters, size)
    radial = float(choice.parameters[8])
    warped = spline.sample_cubic(fit.matched.spline, matrix, size, radial=radial)
    white = photometry.white_level(frames.sharp)
    moving, fixed = (
        photometry.subtract_local_mean(photometry.to_tone(np.clip(image, 0, np.inf), white), BAND_SIGMA_PX)
        for image in (warped, fit.matched.fixed)
    )
    noises = [
        noise_sigma(photometry.to_tone(light, photometry.white_level(light))) for light in (frames.blur, frames.sharp)
    ]
    return GlobalEstimate(
        homography=matrix,
        radial=radial,
        model=choice.model,
        photometry=fit.state.photometry,
        matched=BlurMatchedFrames(moving, fixed, fit.matched.overlap, fit.matched.radius),
        noise=float(np.hypot(noises[0], noises[1])),
        frames=frames,
        reduction=reduction,
        error_px=fit.error_px(),
    )
