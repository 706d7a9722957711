"""Two photographs in, one honest `Alignment` out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.config import AlignConfig
from alignment.estimation import brightness_field, global_model, photometry
from alignment.estimation.pyramid import FramePair, build_pyramid, first_level_within, halve
from alignment.estimation.valid_box import valid_box
from alignment.registration import tile_statistics
from alignment.residual_flow import estimate as dense
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.imaging.noise import noise_sigma
from sdd_toolkit.records import Alignment, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.global_model import BlurMatchedFrames, GlobalEstimate
    from alignment.registration.tile_statistics import TileStatistics
    from alignment.residual_flow.estimate import ResidualFlow
    from sdd_toolkit.calibration.breathing_model import ZoomPrior
    from sdd_toolkit.records import Row

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

_SMALLEST_PX = 2 * tile_statistics.TILE_PX
_ZOOM_LIMIT = 1.3
_STATISTICS_MEGAPIXELS = 0.45
# A median radius of this share of the largest disc is taken to lie beyond it.
_SATURATED = 0.95
# Two frames with more of their textured tiles unexplained than this do not show one scene.
_MAX_UNEXPLAINED = 0.7
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration and what it rests on.

    Attributes:
        alignment: In pixels of the frames handed in.
        estimate: On the level it was found on; None where nothing was found.
        residual: Residual flow on that level; None with `estimate`.
        sizes: (height, width) of every level, that of the frames handed in first.
    """

    alignment: Alignment
    estimate: GlobalEstimate | None
    residual: ResidualFlow | None
    sizes: tuple[tuple[int, int], ...]


def register(
    blur: Image,
    sharp: Image,
    config: AlignConfig | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    prior: ZoomPrior | None = None,
) -> Alignment:
    """Registers a defocused photograph to its sharp partner.

    Args:
        blur: (H, W, 3) float32 linear RGB, black 0, saturation 1.
        sharp: (H, W, 3) the same of the sharp frame.
        config: Search ranges and what counts as failure; the defaults if None.
        mask: (H, W) where the sharp frame may be used; everywhere if None.
        prior: What is known of the zoom beforehand (`sdd_toolkit.calibration.breathing_model.predict_zoom`).

    Returns:
        The alignment in pixels of these arrays. `failure` says why where it could not be found.

    Raises:
        ValueError: The arrays differ in shape, are not (H, W, 3) or hold values that are not finite; the mask has
            another shape.
    """
    return compute_registration(blur, sharp, config or AlignConfig(), mask=mask, prior=prior).alignment


def register_with_flow(
    blur: Image,
    sharp: Image,
    config: AlignConfig,
    *,
    mask: NDArray[np.bool_] | None = None,
    prior: ZoomPrior | None = None,
) -> tuple[Alignment, ResidualFlow | None]:
    """The alignment and the residual flow on the sharp frame's grid, both in pixels of the arrays.

    The residual is None where there is no alignment to be residual to. Arguments as of `register`.
    """
    found = compute_registration(blur, sharp, config, mask=mask, prior=prior)
    if found.estimate is None or found.residual is None:
        return found.alignment, None
    level = int(np.log2(found.estimate.reduction))
    fine = found.residual
    for size in reversed(found.sizes[:level]):
        fine = dense.upsample(fine, size)
    return found.alignment, fine


def compute_registration(
    blur: Image,
    sharp: Image,
    config: AlignConfig,
    *,
    mask: NDArray[np.bool_] | None = None,
    prior: ZoomPrior | None = None,
    tolerance_px: float = 0.0,
    clipped: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> Registration:
    """The alignment with what it rests on. Arguments as of `register`, and:

    Args:
        tolerance_px: No finer level is looked at once its own estimate of the corner error is below this; 0: the finest
            one always is.
        clipped: (H, W) saturated pixels of the blurred and of the sharp frame; None: told by `photometric.unclipped`.
    """
    _check_arrays(blur, sharp, mask)
    size = (sharp.shape[0], sharp.shape[1])
    if clipped is None:
        trusted = [photometry.unsaturated_mask(frame) for frame in (blur, sharp)]
    else:
        trusted = [np.asarray(~saturated, dtype=np.float32) for saturated in clipped]
    if mask is not None:
        trusted[1] *= mask
    levels = build_pyramid(FramePair(luminance(blur), luminance(sharp), *trusted))
    # Texture that only the finest pixels hold drowns in their noise.
    first = levels[first_level_within(levels, min(config.working_megapixels, _STATISTICS_MEGAPIXELS))]
    textured = [_textured_tiles(light) for light in (first.blur, first.sharp)]
    used = None if mask is None else mask.astype(np.float32)
    if used is not None:
        textured[1] &= tile_statistics.tile_means(_resize(used, first.size)) > 0.5
    count = int(min(tiles.sum() for tiles in textured))
    if count < config.min_textured_tiles:
        alignment = replace(_identity_alignment(size), failure=Reason.NO_TEXTURE)
        detail = f"{count} textured tiles < {config.min_textured_tiles}"
        return Registration(replace(alignment, detail=detail), None, None, (size,))
    estimate = global_model.estimate_global(levels, config, prior, tolerance_px)
    alignment, tiles, residual = _described(estimate, config, used)
    found = scale_alignment(alignment, estimate.reduction, size)
    found = replace(found, box=valid_box(found.homography, size, found.radial))
    colour = brightness_field.colour_gain(blur, sharp, levels, found.homography, estimate.photometry)
    blurred_px = float(np.median(np.abs(estimate.matched.radius.radius_px))) * estimate.reduction
    judged = _judge(replace(found, colour_gain=colour), int(tiles.textured.sum()), blurred_px, config)
    sizes = tuple(level.size for level in levels)
    lost = judged.failure is not None and judged.failure is not Reason.PARALLAX
    if lost:
        return Registration(judged, None, None, sizes[:1])
    return Registration(judged, estimate, residual, sizes)


def scale_alignment(alignment: Alignment, factor: int, size: tuple[int, int]) -> Alignment:
    """`alignment` of reduced frames in pixels of the frames they were reduced from.

    Args:
        alignment: Found on frames whose pixels are means of `factor` x `factor` pixels.
        factor: That factor.
        size: (height, width) of the larger frames.
    """
    matrix = geometry.scaled(alignment.homography, float(factor))
    left, top, right, bottom = (factor * edge for edge in alignment.box)
    shift = (factor * alignment.shift_px[0], factor * alignment.shift_px[1])
    return replace(
        alignment,
        rows=_to_rows(matrix),
        size=size,
        box=(left, top, right, bottom),
        shift_px=shift,
        perspective_px=factor * alignment.perspective_px,
        before_px=factor * alignment.before_px,
        before_p95_px=factor * alignment.before_p95_px,
        residual_px=factor * alignment.residual_px,
        residual_p95_px=factor * alignment.residual_p95_px,
        coc_px=factor * alignment.coc_px,
        coc_p95_px=factor * alignment.coc_p95_px,
        error_px=None if alignment.error_px is None else factor * alignment.error_px,
    )


def _described(
    estimate: GlobalEstimate, config: AlignConfig, used: Image | None
) -> tuple[Alignment, TileStatistics, ResidualFlow]:
    """The record of an estimate in pixels of its level, its tiles and the flow they rest on.

    Args:
        estimate: The global model.
        config: The limits.
        used: (H, W) 1 where the user's mask lets the frames be judged; everywhere if None.
    """
    size = estimate.frames.size
    matrix = estimate.homography
    residual = dense.estimate_residual_flow(estimate)
    seen, unit = _reduce_for_statistics(estimate, residual)
    if used is not None:
        allowed = _resize(used, (seen.sharp.shape[0], seen.sharp.shape[1])) > 0.99
        seen = replace(seen, matched=replace(seen.matched, overlap=seen.matched.overlap & allowed))
    textured = _textured_tiles(seen.sharp)
    tiles = tile_statistics.measure_tiles(
        seen.matched,
        seen.residual,
        textured,
        noise=float(np.hypot(_tone_noise(seen.blur), _tone_noise(seen.sharp))),
        explained_shift_px=config.explained_shift_px / estimate.reduction / unit,
    )
    coarse = geometry.scaled(matrix, 1 / unit)
    before, after = tile_statistics.displacements_px(coarse, seen.residual, tiles.textured)
    words = geometry.decompose(matrix, size)
    radius = cv2.resize(estimate.matched.radius.radius_px, tiles.textured.shape[::-1], interpolation=cv2.INTER_LINEAR)
    coc = tile_statistics.median_and_p95(np.maximum(radius[tiles.textured], 0).astype(np.float64))
    alignment = Alignment(
        rows=_to_rows(matrix),
        model=estimate.model,
        gain=estimate.photometry.gain,
        size=size,
        box=(0, 0, size[1], size[0]),
        shift_px=words.shift_px,
        zoom=words.zoom,
        rotation_deg=words.rotation_deg,
        perspective_px=words.perspective_px,
        before_px=unit * before[0],
        before_p95_px=unit * before[1],
        residual_px=unit * after[0],
        residual_p95_px=unit * after[1],
        coc_px=coc[0],
        coc_p95_px=coc[1],
        ncc=tiles.median_ncc,
        unexplained_fraction=tiles.unexplained_fraction,
        texture_fraction=float(np.mean(textured)),
        error_px=estimate.error_px,
        radial=estimate.radial,
        offset=estimate.photometry.offset,
        vignetting=estimate.photometry.falloff,
    )
    return alignment, tiles, residual


@dataclass(frozen=True, slots=True)
class _StatisticsFrames:
    """What tiles are judged on: small enough for texture to stand out of noise."""

    matched: BlurMatchedFrames
    residual: ResidualFlow
    blur: Image
    sharp: Image


def _reduce_for_statistics(estimate: GlobalEstimate, residual: ResidualFlow) -> tuple[_StatisticsFrames, int]:
    """The estimate reduced to `_STATISTICS_MEGAPIXELS`, and how many of its pixels make one there."""
    seen, unit = _StatisticsFrames(estimate.matched, residual, estimate.frames.blur, estimate.frames.sharp), 1
    while seen.sharp.size > 1e6 * _STATISTICS_MEGAPIXELS:
        seen = _StatisticsFrames(
            seen.matched.halve(), dense.downsample(seen.residual), halve(seen.blur), halve(seen.sharp)
        )
        unit *= 2
    return seen, unit


def _judge(alignment: Alignment, count: int, blurred_px: float, config: AlignConfig) -> Alignment:
    """`alignment` with the first failure that holds; what is not known then is not told.

    Args:
        alignment: In pixels of the frames handed in.
        count: Textured tiles in the overlap.
        blurred_px: Median radius of the matching disc, whichever frame it blurs.
        config: The limits.
    """
    if alignment.ncc < config.min_ncc:
        detail = f"median tile correlation {alignment.ncc:.3f} < {config.min_ncc:g}"
        return _without_geometry(alignment, Reason.DIFFERENT_SCENE, detail)
    if alignment.unexplained_fraction > _MAX_UNEXPLAINED:
        detail = f"{alignment.unexplained_fraction:.0%} of the textured tiles match no blur and no small shift"
        return _without_geometry(alignment, Reason.DIFFERENT_SCENE, detail)
    if count < config.min_textured_tiles:
        detail = f"{count} textured tiles in the overlap < {config.min_textured_tiles}"
        return _without_geometry(alignment, Reason.NO_TEXTURE, detail)
    if not 1 / _ZOOM_LIMIT < alignment.zoom < _ZOOM_LIMIT:
        detail = f"zoom {alignment.zoom:.3f} beyond {_ZOOM_LIMIT:g}"
        return _without_geometry(alignment, Reason.NOT_ALIGNED, detail)
    if blurred_px > _SATURATED * config.max_radius_px:
        detail = f"median blur of {blurred_px:.1f} px reaches the largest disc of {config.max_radius_px:g} px"
        return _without_geometry(alignment, Reason.NOT_ALIGNED, detail)
    if alignment.error_px is None or not alignment.error_px <= config.max_error_px:
        detail = f"estimated corner error {alignment.error_px or 0.0:.2f} px > {config.max_error_px:g} px"
        return _without_geometry(alignment, Reason.NOT_ALIGNED, detail)
    if alignment.residual_px > config.max_parallax_px:
        detail = f"median residual {alignment.residual_px:.2f} px > {config.max_parallax_px:g} px"
        return replace(alignment, error_px=None, failure=Reason.PARALLAX, detail=detail)
    return alignment


def _without_geometry(alignment: Alignment, failure: Reason, detail: str) -> Alignment:
    return replace(
        _identity_alignment(alignment.size),
        gain=alignment.gain,
        ncc=alignment.ncc,
        unexplained_fraction=alignment.unexplained_fraction,
        texture_fraction=alignment.texture_fraction,
        failure=failure,
        detail=detail,
    )


def _identity_alignment(size: tuple[int, int]) -> Alignment:
    """The complete record of a pair about whose geometry nothing is known."""
    return Alignment(
        rows=_IDENTITY,
        model="identity",
        gain=1.0,
        size=size,
        box=(0, 0, size[1], size[0]),
        shift_px=(0.0, 0.0),
        zoom=1.0,
        rotation_deg=0.0,
        perspective_px=0.0,
        before_px=0.0,
        before_p95_px=0.0,
        residual_px=0.0,
        residual_p95_px=0.0,
        coc_px=0.0,
        coc_p95_px=0.0,
        ncc=0.0,
        unexplained_fraction=0.0,
        texture_fraction=0.0,
    )


def _textured_tiles(light: Image) -> NDArray[np.bool_]:
    return tile_statistics.textured_tiles(
        global_model.prepare_luminance(light, photometry.white_level(light)), _tone_noise(light)
    )


def _resize(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)


def _tone_noise(light: Image) -> float:
    return noise_sigma(photometry.to_tone(light, photometry.white_level(light)))


def _check_arrays(blur: Image, sharp: Image, mask: NDArray[np.bool_] | None) -> None:
    if blur.shape != sharp.shape or blur.ndim != 3 or blur.shape[2] != 3:
        raise ValueError(f"need two (H, W, 3) arrays of one shape, got {blur.shape} and {sharp.shape}")
    if min(blur.shape[:2]) < _SMALLEST_PX:
        raise ValueError(f"frames of {blur.shape[:2]} px are too small, need {_SMALLEST_PX} px a side")
    if mask is not None and mask.shape != sharp.shape[:2]:
        raise ValueError(f"a mask of {mask.shape} px for frames of {sharp.shape[:2]} px")
    # A sum of float32 in double precision is finite if all of them are, and takes no mask as large as a frame.
    if not (np.isfinite(cv2.sumElems(blur)).all() and np.isfinite(cv2.sumElems(sharp)).all()):
        raise ValueError("frames hold values that are not finite")


def _to_rows(matrix: Matrix) -> tuple[Row, Row, Row]:
    (a, b, c), (d, e, f), (g, h, i) = geometry.normalised(matrix).tolist()
    return (a, b, c), (d, e, f), (g, h, i)
