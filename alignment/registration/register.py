"""Blur-robust registration of two photographs in memory: `register`, and the steps behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from alignment.config import AlignConfig
from alignment.estimation import brightness_field, global_model, photometry
from alignment.estimation.pyramid import FramePair, build_pyramid, first_level_within
from alignment.estimation.valid_box import valid_box
from alignment.registration import alignment_record, tile_statistics
from alignment.residual_flow import estimate as dense
from sdd_toolkit.imaging.array_checks import boolean_mask, linear_frame
from sdd_toolkit.imaging.luminance import luminance
from sdd_toolkit.records import Alignment, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.estimation.global_model import GlobalEstimate
    from alignment.residual_flow.estimate import ResidualFlow
    from sdd_toolkit.calibration.breathing_model import ZoomPrior

    Image = NDArray[np.float32]
    Frame = Image | NDArray[np.float16] | NDArray[np.float64] | NDArray[np.uint8] | NDArray[np.uint16]
    Mask = NDArray[np.bool_]

_SMALLEST_PX = 2 * tile_statistics.TILE_PX


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration and the estimates behind it.

    Attributes:
        alignment: In pixels of the registered frames.
        estimate: The global model, in pixels of its pyramid level; None if the pair could not be aligned.
        residual: Residual flow on that level; None with `estimate`.
        sizes: (height, width) of every pyramid level, that of the registered frames first.
    """

    alignment: Alignment
    estimate: GlobalEstimate | None
    residual: ResidualFlow | None
    sizes: tuple[tuple[int, int], ...]


def register(
    blur: Frame,
    sharp: Frame,
    config: AlignConfig | None = None,
    *,
    mask: Mask | None = None,
    prior: ZoomPrior | None = None,
) -> Alignment:
    """Registers a defocused photograph to its sharp partner.

    Args:
        blur: (H, W, 3) RGB of linear light in any float type, black 0, saturation 1; or uint8 or uint16 with the sRGB
            curve, which are decoded. Linear integers: divide them by their white level first.
        sharp: (H, W, 3) the sharp frame, likewise.
        config: Search ranges and limits; the defaults if None.
        mask: (H, W) bool, where the sharp frame may be used; everywhere if None.
        prior: Expected zoom (`sdd_toolkit.calibration.breathing_model.predict_zoom`).

    Returns:
        The alignment in pixels of these arrays. Where none was found, `failure` holds the reason.

    Raises:
        TypeError: A frame is no array of floats, uint8 or uint16; the mask is not of booleans.
        ValueError: The frames differ in shape, are not (H, W, 3), are too small, or hold values that are not finite or
            far from 0 to 1; the mask has another shape.

    Example:
        A frame and the same frame moved by three pixels to the left and two pixels down:

        >>> import numpy as np
        >>> import alignment
        >>> rng = np.random.default_rng(0)
        >>> scene = rng.uniform(0.1, 0.9, (34, 44)).repeat(6, 0).repeat(6, 1)[..., None].repeat(3, 2)
        >>> sharp, blur = (np.float32(scene[y : y + 192, x : x + 256]) for y, x in ((4, 0), (2, 3)))
        >>> found = alignment.register(blur, sharp)
        >>> found.failure, found.model, [round(px, 1) for px in found.shift_px]
        (None, 'similarity', [3.0, -2.0])
    """
    return compute_registration(blur, sharp, config or AlignConfig(), mask=mask, prior=prior).alignment


def register_with_flow(
    blur: Frame,
    sharp: Frame,
    config: AlignConfig,
    *,
    mask: Mask | None = None,
    prior: ZoomPrior | None = None,
) -> tuple[Alignment, ResidualFlow | None]:
    """Registers a pair and returns its residual flow too. Arguments as of `register`.

    Returns:
        The alignment, and the residual flow on the sharp frame's grid, both in pixels of the arrays; no flow if the
        pair could not be aligned.
    """
    result = compute_registration(blur, sharp, config, mask=mask, prior=prior)
    if result.estimate is None or result.residual is None:
        return result.alignment, None
    level = int(np.log2(result.estimate.reduction))
    residual = result.residual
    for size in reversed(result.sizes[:level]):
        residual = dense.upsample(residual, size)
    return result.alignment, residual


def compute_registration(
    blur: Frame,
    sharp: Frame,
    config: AlignConfig,
    *,
    mask: Mask | None = None,
    prior: ZoomPrior | None = None,
    tolerance_px: float = 0.0,
    clipped: tuple[Mask, Mask] | None = None,
) -> Registration:
    """Registers a pair and returns the estimates behind the alignment. Arguments as of `register`, and:

    Args:
        tolerance_px: The finest level is left out where the estimated corner error is below this; 0: never.
        clipped: (H, W) saturated pixels of the blurred and of the sharp frame; found by
            `photometry.unsaturated_mask` if None.
    """
    first, second = linear_frame(blur, "blur"), linear_frame(sharp, "sharp")
    _check_sizes(first, second)
    size = (second.shape[0], second.shape[1])
    if mask is not None:
        mask = boolean_mask(mask, size, "mask")
    levels = build_pyramid(_usable_luminance(first, second, mask, clipped))
    usable = None if mask is None else mask.astype(np.float32)
    count = _count_textured_tiles(levels, config, usable)
    if count < config.min_textured_tiles:
        detail = f"{count} textured tiles < {config.min_textured_tiles}"
        failed = replace(alignment_record.identity_alignment(size), failure=Reason.NO_TEXTURE, detail=detail)
        return Registration(failed, None, None, (size,))
    estimate = global_model.estimate_global(levels, config, prior, tolerance_px)
    alignment, tiles, residual = alignment_record.describe_estimate(estimate, config, usable)
    alignment = alignment_record.scale_alignment(alignment, estimate.reduction, size)
    alignment = replace(
        alignment,
        box=valid_box(alignment.homography, size, alignment.radial),
        colour_gain=brightness_field.colour_gain(first, second, levels, alignment.homography, estimate.photometry),
    )
    radius_px = float(np.median(np.abs(estimate.matched.radius.radius_px))) * estimate.reduction
    alignment = alignment_record.judge_alignment(alignment, int(tiles.textured.sum()), radius_px, config)
    if alignment.failure not in (None, Reason.PARALLAX):
        return Registration(alignment, None, None, (size,))
    return Registration(alignment, estimate, residual, tuple(level.size for level in levels))


def _usable_luminance(blur: Image, sharp: Image, mask: Mask | None, clipped: tuple[Mask, Mask] | None) -> FramePair:
    """Luminance of both frames, and the pixels that are not saturated and not masked."""
    if clipped is None:
        trusted = [photometry.unsaturated_mask(frame) for frame in (blur, sharp)]
    else:
        trusted = [np.asarray(~saturated, dtype=np.float32) for saturated in clipped]
    if mask is not None:
        trusted[1] *= mask
    return FramePair(luminance(blur), luminance(sharp), *trusted)


def _count_textured_tiles(levels: list[FramePair], config: AlignConfig, usable: Image | None) -> int:
    """Number of textured tiles in the frame that has fewer of them, on a level that is not drowned in noise."""
    megapixels = min(config.working_megapixels, alignment_record.STATISTICS_MEGAPIXELS)
    level = levels[first_level_within(levels, megapixels)]
    textured = [alignment_record.textured_tiles(light) for light in (level.blur, level.sharp)]
    if usable is not None:
        textured[1] &= tile_statistics.tile_means(alignment_record.reduce_mask(usable, level.size)) > 0.5
    return int(min(tiles.sum() for tiles in textured))


def _check_sizes(blur: Image, sharp: Image) -> None:
    if blur.shape != sharp.shape:
        hint = "crop or resize one of them"
        raise ValueError(f"both frames must have one size, not {blur.shape[:2]} and {sharp.shape[:2]} px: {hint}")
    if min(blur.shape[:2]) < _SMALLEST_PX:
        raise ValueError(f"frames of {blur.shape[:2]} px are too small, need {_SMALLEST_PX} px a side")
