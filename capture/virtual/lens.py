"""Thin-lens optics: image distance, circle of confusion, focus breathing and vignetting.

With focal length f, focus distance s and subject distance d (all from the lens):

    image distance             v(d) = f d / (d - f)                              1/f = 1/d + 1/v
    circle of confusion        c(d) = f/N · |v(s) - v(d)| / v(d)                 diameter on the sensor
    its radius in pixels       r(d) = c(d) / (2 p) = f / (2 N p) · |v(s) (1/f - 1/d) - 1|

p is the pixel pitch. `r` is linear in 1/d, so depth is given as its inverse, in dioptres (1/m). The image of a scene is
magnified in proportion to v(s), so moving the focus changes the field of view: focus breathing.
For a colour whose focal length is f (1 + δ), 1/f becomes 1/(f (1 + δ)) in the bracket: longitudinal chromatic
aberration.
Source: E. Hecht, Optics, 5th ed., ch. 5.2 and 5.7; M. Potmesil, I. Chakravarty, SIGGRAPH 1981, eq. 1-5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THIRD_STOPS = (
    *(0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 2.8, 3.2, 3.5, 4.0, 4.5, 5.0, 5.6, 6.3, 7.1),
    *(8.0, 9.0, 10.0, 11.0, 13.0, 14.0, 16.0, 18.0, 20.0, 22.0, 25.0, 29.0, 32.0, 36.0, 40.0, 45.0, 51.0, 57.0, 64.0),
)


def image_distance_mm(focal_mm: float, distance_m: float) -> float:
    """v(d): the distance behind the lens at which a subject at `distance_m` is sharp, in mm.

    >>> image_distance_mm(focal_mm=50.0, distance_m=0.1)
    100.0

    Raises:
        ValueError: The subject is not beyond the focal length: there is no real image.
    """
    distance_mm = distance_m * 1000.0
    if distance_mm <= focal_mm:
        raise ValueError(f"a subject at {distance_m} m has no real image behind a {focal_mm} mm lens")
    return 1.0 / (1.0 / focal_mm - 1.0 / distance_mm)


def focus_distance_m(focal_mm: float, image_mm: float) -> float:
    """The subject distance in m that is sharp at image distance `image_mm`, the inverse of `image_distance_mm`."""
    if image_mm <= focal_mm:
        raise ValueError(f"nothing is sharp {image_mm} mm behind a {focal_mm} mm lens")
    return 1.0 / (1.0 / focal_mm - 1.0 / image_mm) / 1000.0


def signed_coc_radius_px(
    inverse_depth: NDArray[np.float64] | float,
    *,
    focal_mm: float,
    f_number: float,
    image_mm: float | NDArray[np.float64],
    pitch_mm: float,
    focal_shift: float = 0.0,
) -> NDArray[np.float64]:
    """The radius of the circle of confusion in pixels, positive beyond the focus, negative before it.

    Source: M. Potmesil, I. Chakravarty, SIGGRAPH 1981, eq. 1-5; see the module.

    >>> focused_mm = image_distance_mm(50.0, distance_m=2.0)
    >>> settings = {"focal_mm": 50.0, "f_number": 2.0, "image_mm": focused_mm, "pitch_mm": 0.01}
    >>> signed_coc_radius_px(np.array([1 / 1.0, 1 / 2.0, 0.0]), **settings).round(1)
    array([-32.1,   0. ,  32.1])

    Args:
        inverse_depth: 1/d in dioptres (1/m), any shape; 0 is infinity.
        focal_mm: Focal length f.
        f_number: f-number N.
        image_mm: Image distance v(s) of the focus; may differ from row to row.
        pitch_mm: Pixel pitch p.
        focal_shift: Relative increase of the focal length for this colour (the opening f/N stays).
    """
    ratio = image_mm * (1.0 / (focal_mm * (1.0 + focal_shift)) - np.asarray(inverse_depth, dtype=np.float64) / 1000.0)
    return np.asarray(focal_mm / (2.0 * f_number * pitch_mm) * (ratio - 1.0), dtype=np.float64)


def vignetting(
    size: tuple[int, int], *, image_mm: float, pitch_mm: float, f_number: float, f_number_min: float, strength: float
) -> NDArray[np.float32]:
    """(H, W) relative illumination, 1 at the centre: the natural cos⁴ law times the lens barrel's shadow.

    The barrel blocks the fraction `strength` of the corners' light at the widest opening, and less when stopped down.
    """
    height, width = size
    y = (np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2))[:, None]
    x = (np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2))[None, :]
    square = x**2 + y**2
    natural = 1 + square * np.float32((pitch_mm / image_mm) ** 2)
    barrel = 1 - np.float32(strength * (f_number_min / f_number) ** 2) * (square / square.max()) ** 2
    return np.asarray(barrel / (natural * natural), dtype=np.float32)
