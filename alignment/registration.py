"""Two photographs in, one honest `Alignment` out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment import dense, estimation, homography, photometric, statistics
from alignment.config import AlignConfig
from sdd_toolkit import geometry
from sdd_toolkit.types import Alignment, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.dense import Residual
    from alignment.estimation import Estimate
    from alignment.statistics import TileStatistics
    from sdd_toolkit.types import Row

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

_SMALLEST_PX = 2 * statistics.TILE_PX
_ZOOM_LIMIT = 1.3
# Imperfect blur matching is shared by neighbouring tiles, which the scatter between tiles does not show: the true
# corner error is 1.5 times (median over 30 virtual pairs) what that scatter says.
_ERROR_PER_DEVIATION = 1.5
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def register(blur: Image, sharp: Image, config: AlignConfig | None = None) -> Alignment:
    """Registers a defocused photograph to its sharp partner.

    Args:
        blur: (H, W, 3) float32 linear RGB, black 0, saturation 1.
        sharp: (H, W, 3) the same of the sharp frame.
        config: Search ranges and what counts as failure; the defaults if None.

    Returns:
        The alignment in pixels of these arrays. `failure` says why where it could not be found.

    Raises:
        ValueError: The arrays differ in shape, are not (H, W, 3) or hold values that are not finite.
    """
    return analyse(blur, sharp, config or AlignConfig())[0]


def analyse(blur: Image, sharp: Image, config: AlignConfig) -> tuple[Alignment, Residual | None]:
    """The alignment and the residual flow on the sharp frame's grid, both in pixels of the arrays.

    The residual is None where there is no alignment to be residual to.
    """
    _check(blur, sharp)
    size = (sharp.shape[0], sharp.shape[1])
    if max(size) > config.working_px:
        coarse, residual = analyse(_halved(blur), _halved(sharp), _halved_lengths(config))
        return enlarged(coarse, 2, size), None if residual is None else dense.enlarged(residual, size)
    lights = photometric.luminance(blur), photometric.luminance(sharp)
    unclipped = blur.max(axis=2) < photometric.CLIPPED, sharp.max(axis=2) < photometric.CLIPPED
    textured = [_textured(light) for light in lights]
    count = int(min(tiles.sum() for tiles in textured))
    if count < config.min_textured_tiles:
        alignment = _unaligned(size, photometric.linear_gain(*lights, unclipped[0] & unclipped[1]))
        detail = f"{count} textured tiles < {config.min_textured_tiles}"
        return replace(alignment, failure=Reason.NO_TEXTURE, detail=detail), None
    estimate = estimation.estimate(*lights, config)
    return _described(lights, unclipped, textured[1], estimate, config)


def enlarged(alignment: Alignment, factor: int, size: tuple[int, int]) -> Alignment:
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
        rows=_rows(matrix),
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
    lights: tuple[Image, Image],
    unclipped: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    textured: NDArray[np.bool_],
    estimate: Estimate,
    config: AlignConfig,
) -> tuple[Alignment, Residual | None]:
    size = (lights[1].shape[0], lights[1].shape[1])
    matrix, matched = estimate.homography, estimate.matched
    residual = dense.residual_flow(matched, estimate.noise)
    tiles = statistics.tile_statistics(
        matched,
        residual,
        textured,
        noise=estimate.noise,
        explained_shift_px=config.explained_shift_px,
    )
    before, after = statistics.displacements_px(matrix, residual, tiles.textured)
    words = geometry.decompose(matrix, size)
    moved = geometry.warp(lights[0], matrix, size, interpolation=cv2.INTER_LINEAR)
    open_blur = geometry.warp(unclipped[0].astype(np.float32), matrix, size, interpolation=cv2.INTER_LINEAR)
    usable = matched.overlap & unclipped[1] & (open_blur > 0.999)
    radius = cv2.resize(matched.radius.radius_px, tiles.textured.shape[::-1], interpolation=cv2.INTER_LINEAR)
    coc = statistics.spread(np.maximum(radius[tiles.textured], 0).astype(np.float64))
    basis = homography.BASES[estimate.model]
    deviation = homography.corner_deviation_px(estimate.equations.covariance(basis), basis, size)
    alignment = Alignment(
        rows=_rows(matrix),
        model=estimate.model,
        gain=photometric.linear_gain(moved, lights[1], usable),
        size=size,
        box=geometry.inner_box(geometry.valid(matrix, size, size)),
        shift_px=words.shift_px,
        zoom=words.zoom,
        rotation_deg=words.rotation_deg,
        perspective_px=words.perspective_px,
        before_px=before[0],
        before_p95_px=before[1],
        residual_px=after[0],
        residual_p95_px=after[1],
        coc_px=coc[0],
        coc_p95_px=coc[1],
        ncc=tiles.median_ncc,
        unexplained_fraction=tiles.unexplained_fraction,
        texture_fraction=float(np.mean(textured)),
        error_px=_ERROR_PER_DEVIATION * deviation,
    )
    judged = _judged(alignment, tiles, config)
    lost = judged.failure is not None and judged.failure is not Reason.PARALLAX
    return judged, None if lost else residual


def _judged(alignment: Alignment, tiles: TileStatistics, config: AlignConfig) -> Alignment:
    """`alignment` with the first failure that holds; what is not known then is not told."""
    count = int(tiles.textured.sum())
    if count < config.min_textured_tiles:
        detail = f"{count} textured tiles in the overlap < {config.min_textured_tiles}"
        return _without_geometry(alignment, Reason.NO_TEXTURE, detail)
    if alignment.ncc < config.min_ncc:
        detail = f"median tile correlation {alignment.ncc:.3f} < {config.min_ncc:g}"
        return _without_geometry(alignment, Reason.DIFFERENT_SCENE, detail)
    if not 1 / _ZOOM_LIMIT < alignment.zoom < _ZOOM_LIMIT:
        detail = f"zoom {alignment.zoom:.3f} beyond {_ZOOM_LIMIT:g}"
        return _without_geometry(alignment, Reason.NOT_ALIGNED, detail)
    if alignment.error_px is None or not alignment.error_px <= config.max_error_px:
        detail = f"estimated corner error {alignment.error_px or 0.0:.2f} px > {config.max_error_px:g} px"
        return _without_geometry(alignment, Reason.NOT_ALIGNED, detail)
    if alignment.residual_px > config.max_parallax_px:
        detail = f"median residual {alignment.residual_px:.2f} px > {config.max_parallax_px:g} px"
        return replace(alignment, error_px=None, failure=Reason.PARALLAX, detail=detail)
    return alignment


def _without_geometry(alignment: Alignment, failure: Reason, detail: str) -> Alignment:
    blank = _unaligned(alignment.size, alignment.gain)
    return replace(
        blank,
        ncc=alignment.ncc,
        unexplained_fraction=alignment.unexplained_fraction,
        texture_fraction=alignment.texture_fraction,
        failure=failure,
        detail=detail,
    )


def _unaligned(size: tuple[int, int], gain: float) -> Alignment:
    """The complete record of a pair about whose geometry nothing is known."""
    return Alignment(
        rows=_IDENTITY,
        model="identity",
        gain=gain,
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


def _textured(light: Image) -> NDArray[np.bool_]:
    white = photometric.white_of(light)
    noise = photometric.noise_sigma(photometric.tone(light, white))
    return statistics.textured_tiles(estimation.comparable(light, white), noise)


def _check(blur: Image, sharp: Image) -> None:
    if blur.shape != sharp.shape or blur.ndim != 3 or blur.shape[2] != 3:
        raise ValueError(f"need two (H, W, 3) arrays of one shape, got {blur.shape} and {sharp.shape}")
    if min(blur.shape[:2]) < _SMALLEST_PX:
        raise ValueError(f"frames of {blur.shape[:2]} px are too small, need {_SMALLEST_PX} px a side")
    if not (np.isfinite(blur).all() and np.isfinite(sharp).all()):
        raise ValueError("frames hold values that are not finite")


def _rows(matrix: Matrix) -> tuple[Row, Row, Row]:
    (a, b, c), (d, e, f), (g, h, i) = geometry.normalised(matrix).tolist()
    return (a, b, c), (d, e, f), (g, h, i)


def _halved(frame: Image) -> Image:
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    means = cv2.resize(frame[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32)


def _halved_lengths(config: AlignConfig) -> AlignConfig:
    lengths = ("max_error_px", "max_parallax_px", "explained_shift_px")
    halves = {name: getattr(config, name) / 2 for name in lengths}
    return config.model_copy(update={**halves, "max_radius_px": max(config.max_radius_px / 2, 1.0)})
