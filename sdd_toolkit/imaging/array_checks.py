"""Checks of image arrays that come from a user's program: type, shape, range and NaN, each refused with what to write.

A function that means linear light takes float arrays as they are and decodes uint8 and uint16 from sRGB, as photographs
are stored. What no check can see: a float array with the sRGB curve, integers without it, and BGR instead of RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.encoding import Encoding, decode

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

LARGEST_LIGHT = 4.0
"""Largest value of linear light: two stops above saturation. White balance and merged exposures stay below it."""
LEAST_LIGHT = -0.5
"""Least value of linear light: noise below black, and colours outside the primaries."""
_WHITES = {np.dtype(np.uint8): Encoding.SRGB8, np.dtype(np.uint16): Encoding.SRGB16}
_CHANNELS = 3


def linear_frame(frame: NDArray[Any], name: str, *, bounded: bool = True) -> NDArray[np.float32]:
    """Checks a frame and converts it to linear light.

    Args:
        frame: (H, W, 3) RGB: float16, float32 or float64 linear light with black 0 and saturation 1; or uint8 or uint16
            with the sRGB curve.
        name: Of the argument, for messages.
        bounded: Whether values far from 0 to 1 are refused; not for frames that a gain has been applied to.

    Returns:
        (H, W, 3) contiguous float32 linear light; `frame` itself if it is that.

    Raises:
        TypeError: No NumPy array, or one of another type.
        ValueError: Another shape, values that are not finite, or that do not lie about 0 to 1.

    Example:
        >>> linear_frame(np.full((1, 1, 3), 188, dtype=np.uint8), "frame").round(2)
        array([[[0.5, 0.5, 0.5]]], dtype=float32)
    """
    _check_array(frame, name)
    _check_colour_shape(frame.shape, name)
    native = frame.astype(frame.dtype.newbyteorder("="), copy=False)
    if native.dtype in _WHITES:
        return decode(native, _WHITES[native.dtype])
    if native.dtype.kind != "f":
        hint = "write float32 linear light from black 0 to saturation 1, or uint8 or uint16 with the sRGB curve"
        raise TypeError(f"{name} holds {frame.dtype}: {hint}")
    # Wider floats overflow to infinity, which the next check refuses.
    with np.errstate(over="ignore"):
        light = np.ascontiguousarray(native, dtype=np.float32)
    _check_finite(light, name)
    if bounded:
        _check_range(light, name)
    return light


def boolean_mask(mask: NDArray[Any], size: tuple[int, int], name: str) -> NDArray[np.bool_]:
    """Checks a mask for a frame of `size`, (height, width).

    Raises:
        TypeError: No NumPy array of booleans.
        ValueError: Another shape.
    """
    _check_array(mask, name)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name} holds {mask.dtype}, not booleans: write {name} > 0")
    if mask.shape != size:
        raise ValueError(f"{name} has shape {mask.shape}, not {size} as its frame")
    return mask


def _check_array(array: object, name: str) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: write {name}.filled(0), and give the mask separately")
    if not isinstance(array, np.ndarray):
        kind = type(array)
        hint = f"{name}.permute(1, 2, 0).cpu().numpy()" if kind.__module__ == "torch" else f"np.asarray({name})"
        raise TypeError(f"{name} is a {kind.__module__}.{kind.__name__}, not a NumPy array: write {hint}")


def _check_colour_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) == 3 and shape[2] == _CHANNELS:
        return
    if len(shape) == 2:
        hint = f"write {name}[..., None].repeat(3, axis=2) for a grey frame"
    elif len(shape) == 3 and shape[0] == _CHANNELS:
        hint = f"channels come last, write {name}.transpose(1, 2, 0)"
    elif len(shape) == 3 and shape[2] == 1:
        hint = f"write {name}.repeat(3, axis=2) for a grey frame"
    elif len(shape) == 3 and shape[2] == _CHANNELS + 1:
        hint = f"write {name}[..., :3] to leave out the alpha channel"
    elif len(shape) == 4:
        hint = f"give one frame at a time, {name}[0]"
    else:
        hint = "give red, green and blue of each pixel"
    raise ValueError(f"{name} has shape {shape}, not (H, W, 3): {hint}")


def _check_finite(light: NDArray[np.float32], name: str) -> None:
    """Checks contiguous linear light."""
    # The float64 sum of finite float32 values is finite, and needs no mask as large as a frame.
    if light.size and not np.isfinite(cv2.sumElems(light)).all():
        wrong = np.argwhere(~np.isfinite(light))
        first = tuple(wrong[0].tolist())
        raise ValueError(
            f"{name} holds {len(wrong)} values that are not finite, the first at row, column, channel {first}: "
            f"write np.nan_to_num({name}, nan=0, posinf=1, neginf=0), and leave these pixels out by a mask"
        )


def _check_range(light: NDArray[np.float32], name: str) -> None:
    if light.size == 0:
        return
    low, high = float(light.min()), float(light.max())
    if high > LARGEST_LIGHT:
        hint = "divide by the white level (255 for 8 bits) and decode the sRGB curve, or give uint8 or uint16 as read"
        raise ValueError(f"{name} holds values up to {high:.4g}, but black is 0 and saturation 1: {hint}")
    if low < LEAST_LIGHT:
        hint = "write (x + 1) / 2 for values from -1 to 1; subtract the black level of a sensor"
        raise ValueError(f"{name} holds values down to {low:.4g}, but black is 0 and saturation 1: {hint}")
