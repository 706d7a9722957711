"""Renders flow fields as colours by the wheel of Baker et al.: hue is direction, saturation is length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREY = 168.0
_MIN_WEIGHT = 1e-3
# Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011: steps between the six hues.
_WHEEL = ((15, 0, 1, 1), (6, 1, 0, -1), (4, 1, 2, 1), (11, 2, 1, -1), (13, 2, 0, 1), (6, 0, 2, -1))


def nice_scale_px(magnitude_px: float) -> float:
    """The smallest of … 0.5, 1, 2, 5, 10 … pixels that is at least `magnitude_px` (and at least 0.5)."""
    if not np.isfinite(magnitude_px) or magnitude_px <= 0.5:
        return 0.5
    power = 10.0 ** np.floor(np.log10(magnitude_px))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= magnitude_px * (1 - 1e-9)))


def flow_colours(flow: NDArray[np.floating], scale_px: float) -> NDArray[np.uint8]:
    """Renders a flow field in the colours of Baker et al. (IJCV 2011).

    Args:
        flow: (h, w, 2), (x, y) in pixels; not finite means unknown and becomes black.
        scale_px: Length of full saturation; longer vectors keep their hue and are darkened.

    Returns:
        (h, w, 3) RGB; zero motion is white.
    """
    known = _known(flow)
    vector = np.where(known[..., None], flow, 0.0).astype(np.float64) / scale_px
    radius = np.hypot(vector[..., 0], vector[..., 1])
    wheel = _colour_wheel()
    # The authors' code spans one colour less, with a step between the last and the first; here the wheel is closed.
    position = (np.arctan2(-vector[..., 1], -vector[..., 0]) / np.pi + 1.0) / 2.0 * len(wheel)
    below = np.floor(position).astype(np.int64) % len(wheel)
    fraction = (position - np.floor(position))[..., None]
    hue = (1.0 - fraction) * wheel[below] + fraction * wheel[(below + 1) % len(wheel)]
    within = (radius <= 1.0)[..., None]
    colour = np.where(within, 1.0 - radius[..., None] * (1.0 - hue), 0.75 * hue)
    return np.asarray(np.rint(255.0 * colour * known[..., None]), dtype=np.uint8)


def fade_by_confidence(colours: NDArray[np.uint8], confidence: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Blends colours towards grey, which is no colour of a flow, as confidence falls.

    Args:
        colours: (h, w, 3) RGB.
        confidence: (h, w) in [0, 1].
    """
    trust = np.clip(confidence, 0.0, 1.0)[..., None]
    return np.asarray(np.rint(trust * colours + (1.0 - trust) * _GREY), dtype=np.uint8)


def reduce_flow(
    flow: NDArray[np.floating], confidence: NDArray[np.floating], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Averages a flow and its confidence over blocks; vectors are weighted by their confidence.

    Args:
        flow: (h, w, 2) in pixels, whose unit stays; not finite means unknown and has no weight.
        confidence: (h, w) in [0, 1].
        factor: Edge of a block; a partial block at the end is left out.

    Returns:
        Flow (h // factor, w // factor, 2), NaN where all vectors are unknown, and confidence likewise.
    """
    height, width = flow.shape[0] // factor * factor, flow.shape[1] // factor * factor
    flow, confidence = flow[:height, :width], confidence[:height, :width]
    known = _known(flow)
    weight = (confidence + _MIN_WEIGHT).astype(np.float32) * known
    weighted = flow.astype(np.float32) * weight[..., None]
    weighted[~known] = 0.0
    size = (width // factor, height // factor)
    total, count, sure = (
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        for plane in (weighted, weight, confidence.astype(np.float32))
    )
    mean = np.full((size[1], size[0], 2), np.nan, dtype=np.float32)
    np.divide(total, count[..., None], out=mean, where=count[..., None] > 0)
    return mean, np.asarray(sure, dtype=np.float32)


def flow_wheel(size: int) -> NDArray[np.uint8]:
    """The legend of `flow_colours`, (size, size, 3): each pixel has the colour of the vector from the centre to it."""
    axis = np.linspace(-1.0, 1.0, size)
    flow = np.stack(np.meshgrid(axis, axis), axis=-1)
    colours = flow_colours(flow, 1.0)
    colours[np.hypot(flow[..., 0], flow[..., 1]) > 1.0] = 255
    return colours


def _known(flow: NDArray[np.floating]) -> NDArray[np.bool_]:
    # Five times as fast as all() over the last axis.
    return np.asarray(np.isfinite(flow[..., 0] + flow[..., 1]))


def _colour_wheel() -> NDArray[np.float64]:
    """(55, 3): red, yellow, green, cyan, blue, magenta in perceptually uneven steps."""
    rows: list[NDArray[np.float64]] = []
    for steps, full, moving, sign in _WHEEL:
        part = np.zeros((steps, 3))
        ramp = np.arange(steps) / steps
        part[:, full] = 1.0
        part[:, moving] = ramp if sign > 0 else 1.0 - ramp
        rows.append(part)
    return np.concatenate(rows)
