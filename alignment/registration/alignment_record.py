"""The `Alignment` record of a pair, assembled from its global estimate: geometry, tile statistics, failure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import global_model, photometry
from alignment.estimation.pyramid import halve
from alignment.registration import tile_statistics
from alignment.residual_flow import estimate as dense
from sdd_toolkit.imaging import geometry
from sdd_toolkit.imaging.noise import noise_sigma
from sdd_toolkit.records import Alignment, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from alignment.config import AlignConfig
    from alignment.estimation.global_model import BlurMatchedFrames, GlobalEstimate
    from alignment.registration.tile_statistics import TileStatistics
    from alignment.residual_flow.estimate import ResidualFlow
    from sdd_toolkit.records import Row

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

STATISTICS_MEGAPIXELS = 0.45
_MAX_ZOOM = 1.3
# A median radius beyond this share of the largest disc is taken to exceed that disc.
_SATURATED_SHARE = 0.95
# Two frames with more of their textured tiles unexplained than this do not show the same scene.
_MAX_UNEXPLAINED = 0.7
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class _StatisticsFrames:
    """A pair reduced until texture stands out of noise, for the statistics of tiles.

    Attributes:
        matched: At equal blur.
        residual: The flow between them.
        blur: (H, W) linear luminance of the blurred frame.
        sharp: (H, W) linear luminance of the sharp frame.
        reduction: Pixels of the estimate's level per pixel of these.
    """

    matched: BlurMatchedFrames
    residual: ResidualFlow
    blur: Image
    sharp: Image
    reduction: int = 1

    def halve(self) -> _StatisticsFrames:
        """The same by 2x2 means."""
        matched, residual = self.matched.halve(), dense.downsample(self.residual)
        return _StatisticsFrames(matched, residual, halve(self.blur), halve(self.sharp), 2 * self.reduction)


def describe_estimate(
    estimate: GlobalEstimate, config: AlignConfig, usable: Image | None
) -> tuple[Alignment, TileStatistics, ResidualFlow]:
    """Estimates the residual flow of a global estimate and describes both.

    Args:
        estimate: The global model.
        config: Section `[align]`.
        usable: (H, W) 1 where the user's mask allows the frames to be judged; everywhere if None.

    Returns:
        The record in pixels of the estimate's level, without judgement; the statistics of its tiles; the flow.
    """
    residual = dense.estimate_residual_flow(estimate)
    frames = _reduce_for_statistics(estimate, residual, usable)
    texture = textured_tiles(frames.sharp)
    tiles = tile_statistics.measure_tiles(
        frames.matched,
        frames.residual,
        texture,
        noise=float(np.hypot(_tone_noise(frames.blur), _tone_noise(frames.sharp))),
        explained_shift_px=config.explained_shift_px / estimate.reduction / frames.reduction,
    )
    alignment = _add_geometry(identity_alignment(estimate.frames.size), estimate)
    alignment = _add_displacements(alignment, frames, tiles)
    alignment = _add_blur(alignment, estimate, tiles)
    alignment = replace(
        alignment,
        ncc=tiles.median_ncc,
        unexplained_fraction=tiles.unexplained_fraction,
        texture_fraction=float(np.mean(texture)),
    )
    return alignment, tiles, residual


def _add_geometry(alignment: Alignment, estimate: GlobalEstimate) -> Alignment:
    """The global model, its brightness and its error."""
    components = geometry.decompose(estimate.homography, alignment.size)
    return replace(
        alignment,
        rows=_to_rows(estimate.homography),
        model=estimate.model,
        radial=estimate.radial,
        shift_px=components.shift_px,
        zoom=components.zoom,
        rotation_deg=components.rotation_deg,
        perspective_px=components.perspective_px,
        error_px=estimate.error_px,
        gain=estimate.photometry.gain,
        offset=estimate.photometry.offset,
        vignetting=estimate.photometry.falloff,
    )


def _add_displacements(alignment: Alignment, frames: _StatisticsFrames, tiles: TileStatistics) -> Alignment:
    """Displacement of the textured pixels before and after alignment."""
    unit_px = frames.reduction
    matrix = geometry.rescale_homography(alignment.homography, 1 / unit_px)
    before, after = tile_statistics.displacements_px(matrix, frames.residual, tiles.textured)
    return replace(
        alignment,
        before_px=unit_px * before[0],
        before_p95_px=unit_px * before[1],
        residual_px=unit_px * after[0],
        residual_p95_px=unit_px * after[1],
    )


def _add_blur(alignment: Alignment, estimate: GlobalEstimate, tiles: TileStatistics) -> Alignment:
    """Radius of the circle of confusion in the textured tiles."""
    grid = tiles.textured.shape[::-1]
    radius = cv2.resize(estimate.matched.radius.radius_px, grid, interpolation=cv2.INTER_LINEAR)
    coc = tile_statistics.median_and_p95(np.maximum(radius[tiles.textured], 0).astype(np.float64))
    return replace(alignment, coc_px=coc[0], coc_p95_px=coc[1])


def _reduce_for_statistics(estimate: GlobalEstimate, residual: ResidualFlow, usable: Image | None) -> _StatisticsFrames:
    """The estimate's frames at `STATISTICS_MEGAPIXELS` or less, their overlap within the user's mask."""
    frames = _StatisticsFrames(estimate.matched, residual, estimate.frames.blur, estimate.frames.sharp)
    while frames.sharp.size > 1e6 * STATISTICS_MEGAPIXELS:
        frames = frames.halve()
    if usable is None:
        return frames
    allowed = reduce_mask(usable, (frames.sharp.shape[0], frames.sharp.shape[1])) > 0.99
    return replace(frames, matched=replace(frames.matched, overlap=frames.matched.overlap & allowed))


def textured_tiles(light: Image) -> NDArray[np.bool_]:
    """(rows, columns) tiles of an (H, W) linear luminance whose texture stands out of its noise."""
    tone = global_model.prepare_luminance(light, photometry.white_level(light))
    return tile_statistics.textured_tiles(tone, _tone_noise(light))


def reduce_mask(mask: Image, size: tuple[int, int]) -> Image:
    """Means of an (H, W) mask on a smaller grid of `size` = (height, width)."""
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.float32)


def _tone_noise(light: Image) -> float:
    return noise_sigma(photometry.to_tone(light, photometry.white_level(light)))


def scale_alignment(alignment: Alignment, factor: int, size: tuple[int, int]) -> Alignment:
    """Converts an alignment of reduced frames to pixels of the frames before reduction.

    Args:
        alignment: Of frames whose pixels are means of `factor` x `factor` pixels.
        factor: That factor.
        size: (height, width) of the larger frames.
    """
    matrix = geometry.rescale_homography(alignment.homography, float(factor))
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


def judge_alignment(alignment: Alignment, textured_count: int, blur_radius_px: float, config: AlignConfig) -> Alignment:
    """`alignment` with the first failure that applies; values that are then unknown are reset.

    Args:
        alignment: In pixels of the registered frames.
        textured_count: Number of textured tiles in the overlap.
        blur_radius_px: Median radius of the matching disc, whichever frame it blurs.
        config: Section `[align]`.
    """
    for reason, detail in _failures(alignment, textured_count, blur_radius_px, config):
        if reason is Reason.PARALLAX:
            return replace(alignment, error_px=None, failure=reason, detail=detail)
        return _without_geometry(alignment, reason, detail)
    return alignment


def _failures(
    alignment: Alignment, textured_count: int, blur_radius_px: float, config: AlignConfig
) -> Iterator[tuple[Reason, str]]:
    if alignment.ncc < config.min_ncc:
        yield Reason.DIFFERENT_SCENE, f"median tile correlation {alignment.ncc:.3f} < {config.min_ncc:g}"
    if alignment.unexplained_fraction > _MAX_UNEXPLAINED:
        share = f"{alignment.unexplained_fraction:.0%} of the textured tiles"
        yield Reason.DIFFERENT_SCENE, f"{share} match no blur and no small shift"
    if textured_count < config.min_textured_tiles:
        yield Reason.NO_TEXTURE, f"{textured_count} textured tiles in the overlap < {config.min_textured_tiles}"
    if not 1 / _MAX_ZOOM < alignment.zoom < _MAX_ZOOM:
        yield Reason.NOT_ALIGNED, f"zoom {alignment.zoom:.3f} beyond {_MAX_ZOOM:g}"
    if blur_radius_px > _SATURATED_SHARE * config.max_radius_px:
        largest = f"the largest disc of {config.max_radius_px:g} px"
        yield Reason.NOT_ALIGNED, f"median blur of {blur_radius_px:.1f} px reaches {largest}"
    if alignment.error_px is None or not alignment.error_px <= config.max_error_px:
        error = f"estimated corner error {alignment.error_px or 0.0:.2f} px"
        yield Reason.NOT_ALIGNED, f"{error} > {config.max_error_px:g} px"
    if alignment.residual_px > config.max_parallax_px:
        yield Reason.PARALLAX, f"median residual {alignment.residual_px:.2f} px > {config.max_parallax_px:g} px"


def _without_geometry(alignment: Alignment, failure: Reason, detail: str) -> Alignment:
    return replace(
        identity_alignment(alignment.size),
        gain=alignment.gain,
        ncc=alignment.ncc,
        unexplained_fraction=alignment.unexplained_fraction,
        texture_fraction=alignment.texture_fraction,
        failure=failure,
        detail=detail,
    )


def identity_alignment(size: tuple[int, int]) -> Alignment:
    """The record of a pair of (height, width) frames about whose geometry nothing is known."""
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


def _to_rows(matrix: Matrix) -> tuple[Row, Row, Row]:
    (a, b, c), (d, e, f), (g, h, i) = geometry.normalise_homography(matrix).tolist()
    return (a, b, c), (d, e, f), (g, h, i)
