"""RGB colour spaces: code values to linear light, linear light to linear sRGB, by curves and a matrix (ICC.1:2022).

A space is three curves and three primaries. Curves are tabulated at every 16-bit code, so that light of a code is exact
and the code of that light is the same code again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.encoding import XYZ_FROM_SRGB, Encoding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from sdd_toolkit.imaging.encoding import Codes

    Matrix = NDArray[np.float64]
    Point = tuple[float, float]

D50 = (0.9642, 1.0, 0.8249)
"""XYZ of the white that ICC profiles refer to."""
WHITE_D65: Point = (0.3127, 0.3290)
SRGB_PRIMARIES: tuple[Point, Point, Point] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CODES = 65536
_WHITE_ERROR = 0.01  # rounding and differing adaptations; a white further away is meant
# What is taken as sRGB: half a code of 8 bits, and as much of a channel in another.
_CURVE_ERROR, _MATRIX_ERROR = 0.5 / 255, 0.002
_ROUNDING = 1e-3  # of the parameters of a curve in two parts, where they join
_LEAST_Y = 1e-5
_FEWEST_STEPS = 4096  # of 65536 codes must differ in their light
_BAND_ROWS = 128


@dataclass(frozen=True, slots=True)
class Curve:
    """Linear light Y of a code value X, both 0 … 1: (a X + b)^gamma + e for X ≥ d, c X + f below; or samples.

    Attributes:
        gamma: Exponent.
        a: Slope within the power.
        b: Offset within the power.
        c: Slope of the linear part.
        d: Where the linear part ends; 0: there is none.
        e: Offset of the power part.
        f: Offset of the linear part.
        samples: Y at equal steps of X, which replace all of these; between them it is linear.
    """

    gamma: float = 1.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0
    samples: tuple[float, ...] = ()


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# The standard rounds to 1.099 and 0.081; with these the two parts join.
BT709_CURVE = Curve(1 / 0.45, 1 / 1.09929682680944, 0.09929682680944 / 1.09929682680944, 1 / 4.5, 0.08124285829863)


@dataclass(frozen=True, slots=True)
class ColourProfile:
    """A colour space with three primaries.

    Attributes:
        name: As the profile calls itself.
        curves: Of R, G, B.
        colorants: XYZ of R, G and B at full, relative to a white of D50.
    """

    name: str
    curves: tuple[Curve, Curve, Curve]
    colorants: tuple[tuple[float, float, float], ...]

    @property
    def to_srgb(self) -> Matrix:
        """(3, 3): its linear light to linear sRGB; its white becomes 1, 1, 1, primaries of sRGB stay exactly that."""
        matrix = np.linalg.inv(_srgb_colorants()) @ np.array(self.colorants).T
        white = matrix.sum(axis=1)
        if np.abs(matrix - np.eye(3)).max() < _MATRIX_ERROR:
            return np.eye(3)
        is_white = bool(np.abs(white - 1).max() < _WHITE_ERROR)
        return np.asarray(matrix / white[:, None] if is_white else matrix)


def adapt_to_d50(white: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """(3, 3) Bradford adaptation of XYZ from a white to D50."""
    scale = (_BRADFORD @ D50) / (_BRADFORD @ np.asarray(white, dtype=np.float64))
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD)


def colorants_of(primaries: Sequence[Point], white: Point = WHITE_D65) -> tuple[tuple[float, float, float], ...]:
    """XYZ relative to D50 of primaries and a white given as CIE xy.

    Raises:
        ValueError: They span no colours.
    """
    if min(y for _, y in (*primaries, white)) < _LEAST_Y:
        raise ValueError("a primary or the white has no luminance")
    red, green, blue, target = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in (*primaries, white))
    columns = np.stack([red, green, blue], axis=1)
    if abs(np.linalg.det(columns)) < 1e-6:
        raise ValueError("the primaries lie on a line")
    matrix = adapt_to_d50(target) @ (columns * np.linalg.solve(columns, target))
    return tuple((float(x), float(y), float(z)) for x, y, z in matrix.T)


def check_profile(profile: ColourProfile) -> None:
    """Raises ValueError for a profile that maps different colours to one, or light to less of it."""
    colorants = np.array(profile.colorants)
    if not np.isfinite(colorants).all() or abs(np.linalg.det(colorants)) < 1e-6:
        raise ValueError("its primaries span no colours")
    for curve in profile.curves:
        light_of_codes(curve)


def is_srgb(profile: ColourProfile) -> bool:
    """Whether a profile is sRGB up to rounding, whatever its name."""
    if not np.array_equal(profile.to_srgb, np.eye(3)):
        return False
    codes = np.arange(_CODES) / (_CODES - 1)
    transfer = Encoding.SRGB16.transfer
    shown = (transfer.encode(light_of_codes(curve)) / transfer.white for curve in profile.curves)
    return all(bool(np.abs(values - codes).max() <= _CURVE_ERROR) for values in shown)


@lru_cache(maxsize=16)
def light_of_codes(curve: Curve) -> NDArray[np.float64]:
    """(65536,) linear light of every 16-bit code, within 0 … 1, never falling.

    Raises:
        ValueError: The curve falls, is constant or is not finite.
    """
    codes = np.arange(_CODES) / (_CODES - 1)
    if curve.samples:
        light = np.interp(codes, np.linspace(0, 1, len(curve.samples)), curve.samples)
    else:
        with np.errstate(all="ignore"):
            power = np.maximum(curve.a * codes + curve.b, 0) ** curve.gamma + curve.e
            light = np.where(codes >= curve.d, power, curve.c * codes + curve.f)
    if not np.isfinite(light).all():
        raise ValueError("a curve is not finite")
    light = np.clip(light, 0, 1)
    rising = np.maximum.accumulate(light)
    if (rising - light).max() > _ROUNDING or np.count_nonzero(np.diff(rising)) < _FEWEST_STEPS:
        raise ValueError("a curve does not rise")
    light = rising
    light.flags.writeable = False
    return light


def decode_light(codes: Codes, profile: ColourProfile) -> NDArray[np.float32]:
    """Linear light, 0 … 1, of (..., 3) code values of 8 or 16 bits, in the profile's own primaries."""
    light = np.empty(codes.shape, dtype=np.float32)
    for channel, curve in enumerate(profile.curves):
        table = light_of_codes(curve)[:: 257 if codes.dtype == np.uint8 else 1].astype(np.float32)
        light[..., channel] = table[codes[..., channel]]
    return light


def encode_light(light: NDArray[np.float32], profile: ColourProfile, dtype: type[np.uint8 | np.uint16]) -> Codes:
    """The code values of (H, W, 3) linear light in the profile's own primaries: the inverse of `decode_light`."""
    white = np.iinfo(dtype).max
    codes: NDArray[Any] = np.empty(light.shape, dtype=dtype)
    for channel, curve in enumerate(profile.curves):
        table, values = light_of_codes(curve), np.linspace(0, white, _CODES)
        for top in range(0, len(light), _BAND_ROWS):
            rows = slice(top, top + _BAND_ROWS)
            codes[rows, ..., channel] = np.rint(np.interp(light[rows, ..., channel], table, values))
    return codes


def convert_to_srgb(light: NDArray[np.float32], profile: ColourProfile) -> NDArray[np.float32]:
    """Linear light in the profile's primaries as linear sRGB; colours outside of it are below 0 or above 1."""
    return np.asarray(light @ profile.to_srgb.T.astype(np.float32), dtype=np.float32)


@cache
def _srgb_colorants() -> Matrix:
    """(3, 3), a column a primary."""
    return np.asarray(adapt_to_d50(XYZ_FROM_SRGB.sum(axis=1)) @ XYZ_FROM_SRGB)
