"""Transfer curves: linear light to integer codes (sRGB in 8 and 16 bits, linear in 16) and back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


XYZ_FROM_SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""(3, 3): linear sRGB to CIE XYZ, D65 (IEC 61966-2-1)."""
_SRGB_DISPLAY_THRESHOLD = 0.04045
_ROOTS = 65535
_NEAR_BORDER = 256
Codes: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"


@dataclass(frozen=True, slots=True)
class Transfer:
    """An exact curve from linear light v, clipped to 0 … 1, to an integer code.

    code = round(white s) with s = slope v for v ≤ threshold and s = (1 + a) v^(1/gamma) - a above.

    Attributes:
        white: The code of v = 1.
        slope: Slope of the linear part.
        threshold: Linear light at which the linear part ends.
        a: Offset of the power part.
        gamma: Its exponent is 1/gamma.
    """

    white: int
    slope: float
    threshold: float
    a: float
    gamma: float

    def encode(self, light: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Codes before rounding, in double precision."""
        v = np.clip(light, 0.0, 1.0).astype(np.float64)
        if self.threshold >= 1:
            return self.white * self.slope * v
        power = (1 + self.a) * v ** (1 / self.gamma) - self.a
        return np.asarray(self.white * np.where(v <= self.threshold, self.slope * v, power), dtype=np.float64)

    def decode(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Linear light of codes, in double precision."""
        s = codes / self.white
        if self.threshold >= 1:
            return s / self.slope
        # The standard gives this threshold, 0.04045, beside the other: no 16-bit code lies between the two.
        is_linear = s <= _SRGB_DISPLAY_THRESHOLD
        return np.where(is_linear, s / self.slope, ((s + self.a) / (1 + self.a)) ** self.gamma)


class Encoding(StrEnum):
    """A transfer curve and a bit depth."""

    SRGB8 = "srgb8"
    SRGB16 = "srgb16"
    LINEAR16 = "linear16"

    @property
    def white(self) -> int:
        """The code of linear 1."""
        return 255 if self is Encoding.SRGB8 else 65535

    @property
    def transfer(self) -> Transfer:
        """The parameters of the curve; sRGB is IEC 61966-2-1."""
        if self is Encoding.LINEAR16:
            return Transfer(self.white, slope=1.0, threshold=1.0, a=0.0, gamma=1.0)
        return Transfer(self.white, slope=12.92, threshold=0.0031308, a=0.055, gamma=2.4)


def encode(linear: NDArray[np.float32], encoding: Encoding) -> Codes:
    """Encodes linear light as integers, clipped to [0, 1] and rounded to nearest.

    Args:
        linear: Any shape, 0 = black, 1 = white.
        encoding: The curve and depth to use.

    Returns:
        The same shape, uint8 or uint16.

    Raises:
        TypeError: The array is not of floats.
        ValueError: A value is NaN.

    Example:
        >>> encode(np.array([0.0, 0.2140, 1.0], dtype=np.float32), Encoding.SRGB8)
        array([  0, 127, 255], dtype=uint8)
    """
    require_floats(linear)
    if linear.size and np.isnan(linear.min()):
        raise ValueError(f"{np.count_nonzero(np.isnan(linear))} values are NaN, which no code stands for")
    if encoding is Encoding.SRGB8:
        return _srgb8(linear)
    # Single precision would be off by a hundredth of a 16-bit code.
    return np.asarray(np.rint(encoding.transfer.encode(linear)), dtype=np.uint16)


def encode_integers(linear: NDArray[np.uint16], encoding: Encoding) -> Codes:
    """Encodes linear light in 65536 steps, 65535 = white, by another curve, exactly rounded to nearest.

    Raises:
        TypeError: The array is not of uint16.
    """
    _require_codes(linear, Encoding.LINEAR16)
    return linear if encoding is Encoding.LINEAR16 else _look_up(linear, _code_of_integer(encoding))


def _look_up(indices: NDArray[np.uint16], table: Codes) -> Codes:
    """`table[indices]` for a table of 65536, several times as fast."""
    if indices.size == 0:
        return table[indices]
    return _as_codes(cv2.LUT(indices.reshape(len(indices), -1), table)).reshape(indices.shape)


def _as_codes(array: NDArray[Any]) -> Codes:
    return array


def _srgb8(linear: NDArray[np.float32]) -> Codes:
    """Encodes by a table over the square root of light in 65536 steps; the few near a border are computed exactly."""
    # Not `minimum` and `maximum`: by a scalar, each takes three times as long.
    root = np.clip(np.atleast_1d(linear), np.float32(0.0), np.float32(1.0), dtype=np.float32)
    np.sqrt(root, out=root)
    root *= np.float32(_ROOTS)
    root += np.float32(0.5)
    flagged = _look_up(root.astype(np.uint16), _code_of_root())
    codes = flagged.astype(np.uint8)
    near = np.flatnonzero(flagged >= _NEAR_BORDER)
    codes.reshape(-1)[near] = np.rint(Encoding.SRGB8.transfer.encode(linear.reshape(-1)[near]))
    return codes.reshape(linear.shape)


def decode(values: Codes, encoding: Encoding) -> NDArray[np.float32]:
    """Decodes integers to linear light in [0, 1]: the inverse of `encode` up to rounding.

    Raises:
        TypeError: The array is not of the encoding's type.
    """
    _require_codes(values, encoding)
    return _decode_table(encoding)[values]


def uint16_to_linear(codes: NDArray[np.uint16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear uint16 codes, 65535 = white, as float32 in [0, 1]; float32 is returned as it is.

    Raises:
        TypeError: The array is of another type.
    """
    if codes.dtype == np.float32:
        return np.asarray(codes, dtype=np.float32)
    _require_codes(codes, Encoding.LINEAR16)
    linear: NDArray[np.float32] = np.multiply(codes, np.float32(1 / 65535), dtype=np.float32)
    return linear


def srgb_encode(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Applies the sRGB curve (IEC 61966-2-1) to linear light; values outside [0, 1] are clipped, NaN stays NaN.

    Raises:
        TypeError: The array is not of floats.

    Example:
        >>> srgb_encode(np.array([0.0, 0.5, 1.0], dtype=np.float32)).round(3)
        array([0.   , 0.735, 1.   ], dtype=float32)
    """
    require_floats(linear)
    clipped = np.clip(linear, 0.0, 1.0).astype(np.float32, copy=False)
    power = np.power(clipped, np.float32(1 / 2.4)) * np.float32(1.055) - np.float32(0.055)
    return np.where(clipped <= np.float32(0.0031308), clipped * np.float32(12.92), power)


def srgb_decode(display: NDArray[np.float32]) -> NDArray[np.float32]:
    """Applies the inverse of `srgb_encode`; values outside [0, 1] are clipped, NaN stays NaN.

    Raises:
        TypeError: The array is not of floats; `decode` takes integers.
    """
    require_floats(display)
    clipped = np.clip(display, 0.0, 1.0).astype(np.float32, copy=False)
    power = np.power((clipped + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
    return np.where(clipped <= np.float32(0.04045), clipped / np.float32(12.92), power)


def require_floats(array: NDArray[Any]) -> None:
    """Checks that an array holds floats; integers would be clipped to black and white.

    Raises:
        TypeError: It does not.
    """
    if array.dtype.kind != "f":
        raise TypeError(f"floats from black 0 to white 1 expected, not {array.dtype}: divide by the largest code")


def _require_codes(array: NDArray[Any], encoding: Encoding) -> None:
    expected = np.dtype(np.uint8 if encoding is Encoding.SRGB8 else np.uint16)
    if array.dtype != expected:
        raise TypeError(f"{expected} codes of {encoding} expected, not {array.dtype}")


@cache
def _code_of_root() -> NDArray[np.uint16]:
    """The 8-bit sRGB code of every step of the square root of light, plus `_NEAR_BORDER` where a step spans two."""
    # A little wider than the step: the root has single precision.
    low, high = (
        np.rint(Encoding.SRGB8.transfer.encode((np.clip(np.arange(_ROOTS + 1) + side, 0, _ROOTS) / _ROOTS) ** 2))
        for side in (-0.52, 0.52)
    )
    return np.asarray(low + _NEAR_BORDER * (low != high), dtype=np.uint16)


@cache
def _code_of_integer(encoding: Encoding) -> Codes:
    """The code of linear light in 65536 steps."""
    codes = np.rint(encoding.transfer.encode(np.arange(65536, dtype=np.float64) / 65535))
    return _as_codes(codes.astype(np.uint8 if encoding is Encoding.SRGB8 else np.uint16))


@cache
def _decode_table(encoding: Encoding) -> NDArray[np.float32]:
    return encoding.transfer.decode(np.arange(encoding.white + 1, dtype=np.float64)).astype(np.float32)
