"""Draws the settings of the two shots of a virtual pair: aperture, focus, depth of the scene, camera movement.

A focus pair keeps the aperture and moves the focal plane. By the lens equation, with a = f/(2 N p), image distances
v_b, v_s of the two shots and q = v_b/v_s,

    r_b(d) = q r_s(d) + a (q - 1), signed      breathing (blurred to sharp) = 1/q

so the range of radii in the blurred frame is at most about twice the largest radius allowed in the sharp one. An
aperture pair keeps the focus: r_b(d) / r_s(d) = N_s / N_b, and breathing = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual.lens import (
    THIRD_STOPS,
    focus_distance_m,
    image_distance_mm,
    signed_coc_radius_px,
)
from sdd_toolkit.errors import InputError
from sdd_toolkit.imaging import geometry
from sdd_toolkit.records import PairKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig

_MAX_FOCUS_M = 1000.0
_MAX_SCALE = 256.0
_BISECTIONS = 16


@dataclass(frozen=True, slots=True)
class VirtualShot:
    """Settings of one exposure.

    Attributes:
        f_number: f-number N.
        focus_m: Focus distance.
        image_mm: Image distance of that focus.
        error_ev: Exposure error that EXIF does not contain.
        roll_mm: Difference of the image distance between the last and the first row; `image_mm` is the mean.
    """

    f_number: float
    focus_m: float
    image_mm: float
    error_ev: float = 0.0
    roll_mm: float = 0.0

    def signed_radius_px(
        self,
        inverse_depth: NDArray[np.float64] | float,
        config: SimulateConfig,
        *,
        rows: NDArray[np.float64] | None = None,
        colour: int = 1,
    ) -> NDArray[np.float64]:
        """Circle-of-confusion radius of subjects at `inverse_depth` dioptres; negative before the focus.

        Args:
            inverse_depth: Any shape.
            config: The camera.
            rows: Rows of the frame in which they are imaged, of a shape that broadcasts with it; None: the middle row.
            colour: 0 red, 1 green, 2 blue.
        """
        red, blue = config.longitudinal_ca
        return signed_coc_radius_px(
            inverse_depth,
            focal_mm=config.focal_mm,
            f_number=self.f_number,
            image_mm=self.image_mm if rows is None else self.image_mm_at(rows, config.height),
            pitch_mm=config.pitch_mm,
            focal_shift=(red, 0.0, blue)[colour],
        )

    def image_mm_at(self, rows: NDArray[np.float64], height: int) -> NDArray[np.float64]:
        """The image distance while each of `rows` of a frame of `height` rows is exposed."""
        return np.asarray(self.image_mm + self.roll_mm * (rows / (height - 1) - 0.5), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PairPlan:
    """Settings of both shots, and the depth range of the scene.

    Attributes:
        blur: Settings of the blurred shot.
        sharp: Settings of the sharp shot.
        near: Inverse depth of the nearest subject, 1/m.
        far: Inverse depth of the farthest subject, 1/m.
        homography: (3, 3), blurred (x, y, 1) to sharp.
        keeps_blurred: Whether the scene is drawn on the blurred frame's grid, so that the blurred frame does not
            depend on the displacement; else on the sharp one's.
    """

    blur: VirtualShot
    sharp: VirtualShot
    near: float
    far: float
    homography: NDArray[np.float64]
    keeps_blurred: bool = False

    @property
    def blurred_to_canvas(self) -> NDArray[np.float64]:
        """(3, 3), blurred (x, y, 1) to the grid on which the scene is drawn."""
        return np.eye(3) if self.keeps_blurred else self.homography

    @property
    def canvas_to_sharp(self) -> NDArray[np.float64]:
        """(3, 3), the grid on which the scene is drawn to sharp (x, y, 1)."""
        return self.homography if self.keeps_blurred else np.eye(3)

    @property
    def canvas_image_mm(self) -> float:
        """Image distance of the shot on whose grid the scene is drawn."""
        return (self.blur if self.keeps_blurred else self.sharp).image_mm

    @property
    def zoom(self) -> float:
        """Magnification from blurred to sharp."""
        return self.sharp.image_mm / self.blur.image_mm


def plan_pair(
    config: SimulateConfig,
    kind: PairKind,
    rng: np.random.Generator,
    *,
    depths: tuple[float, float] | None = None,
    both_blurred: bool = False,
) -> PairPlan:
    """Draws the settings of one pair.

    Args:
        config: Limits to draw within.
        kind: `focus` or `aperture`.
        rng: Random generator; the number of draws does not depend on the other arguments.
        depths: (near, far) in dioptres where the scene's depths are given; None chooses them so that the sharp
            frame stays within `sharp_coc_px`.
        both_blurred: Misses the focus in both shots by about the same amount.

    Raises:
        ValueError: `kind` is neither `focus` nor `aperture`.
    """
    draws = rng.random(8).tolist()
    plan_shots = {PairKind.FOCUS: _plan_focus_pair, PairKind.APERTURE: _plan_aperture_pair}.get(kind)
    if plan_shots is None:
        raise ValueError(f"the virtual camera shoots focus and aperture pairs, not {kind}")
    blur, sharp, near, far = plan_shots(config, draws, depths, both_blurred)
    blur = replace(blur, error_ev=config.exposure_error_ev * (2 * draws[4] - 1), roll_mm=config.focus_roll_mm)
    # Pan and tilt move the corners more than the centre, by 1/cos² of their angle; the limit holds for them too.
    corner = math.hypot(*config.size) / 2 * config.pitch_mm / sharp.image_mm
    length, direction = config.max_shift_px * math.sqrt(draws[5]) / (1 + corner**2), 2 * math.pi * draws[6]
    shift_px = length * math.cos(direction), length * math.sin(direction)
    rotation_deg = config.max_rotation_deg * (2 * draws[7] - 1)

    def displaced(scale: float) -> NDArray[np.float64]:
        image_mm = blur.image_mm * (sharp.image_mm / blur.image_mm) ** scale
        shift = shift_px[0] * scale, shift_px[1] * scale
        shot = sharp if scale == 1 else replace(sharp, image_mm=image_mm)
        return rotation_homography(blur, shot, config, shift_px=shift, rotation_deg=rotation_deg * scale)

    wanted_px = config.mean_displacement_px
    homography = displaced(1.0) if wanted_px is None else scale_displacement(displaced, wanted_px, config.size)
    return PairPlan(blur, sharp, near, far, homography, keeps_blurred=wanted_px is not None)


def scale_displacement(
    displaced: Callable[[float], NDArray[np.float64]], mean_px: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """The homography of a camera movement, scaled so that the mean displacement over the frame is `mean_px`.

    Args:
        displaced: The homography of the movement scaled by a factor; 0: no movement.
        mean_px: Mean length of the displacement; 0 is the identity.
        size: (height, width) of the frame.

    Raises:
        InputError: The movement is too small to be scaled so far.
    """
    if mean_px == 0:
        return np.eye(3)

    def mean_at(scale: float) -> float:
        return float(np.hypot(*np.moveaxis(geometry.displacement(displaced(scale), size), -1, 0)).mean())

    low, high = 0.0, 1.0
    while mean_at(high) < mean_px:
        low, high = high, 2 * high
        if high > _MAX_SCALE:
            raise InputError(
                f"mean_displacement_px = {mean_px:g}, but the camera hardly moves", hint="raise max_shift_px"
            )
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_at(middle) < mean_px else (low, middle)
    return displaced(high)


def rotation_homography(
    blur: VirtualShot, sharp: VirtualShot, config: SimulateConfig, *, shift_px: tuple[float, float], rotation_deg: float
) -> NDArray[np.float64]:
    """K_s R K_b⁻¹: blurred (x, y, 1) to sharp for a camera rotated about its optical centre (no parallax).

    Pan and tilt move the frame centre by `shift_px`; roll rotates by `rotation_deg`; K contains the image distance in
    pixels, and with it the focus breathing. Source: Hartley and Zisserman, Multiple View Geometry, 2nd ed.,
    sec. 8.4.2 (conjugate rotation).
    """
    f_b, f_s = blur.image_mm / config.pitch_mm, sharp.image_mm / config.pitch_mm
    pan, tilt, roll = math.atan2(shift_px[0], f_s), math.atan2(shift_px[1], f_s), math.radians(rotation_deg)
    about_y = np.array([[math.cos(pan), 0, math.sin(pan)], [0, 1, 0], [-math.sin(pan), 0, math.cos(pan)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(tilt), math.sin(tilt)], [0, -math.sin(tilt), math.cos(tilt)]])
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    matrix = _intrinsics(f_s, config) @ about_y @ about_x @ about_z @ np.linalg.inv(_intrinsics(f_b, config))
    return np.asarray(matrix / matrix[2, 2], dtype=np.float64)


def _intrinsics(focal_px: float, config: SimulateConfig) -> NDArray[np.float64]:
    return np.array(
        [[focal_px, 0, (config.width - 1) / 2], [0, focal_px, (config.height - 1) / 2], [0, 0, 1]], dtype=np.float64
    )


def _f_stops(config: SimulateConfig) -> tuple[float, ...]:
    inside = tuple(stop for stop in THIRD_STOPS if config.f_number_min <= stop <= config.f_number_max)
    return tuple(sorted({config.f_number_min, *inside, config.f_number_max}))


def _radius_scale_px(config: SimulateConfig, f_number: float) -> float:
    """Circle-of-confusion radius in pixels per unit of |v(s)/v(d) - 1|."""
    return config.focal_mm / (2 * f_number * config.pitch_mm)


def _draw_largest_radius_px(config: SimulateConfig, draw: float, both_blurred: bool) -> float:
    low = max(config.min_coc_px, min(2 * config.sharp_coc_px, config.max_coc_px))
    return max(low + (config.max_coc_px - low) * draw, 0.7 * config.max_coc_px if both_blurred else 0.0)


def _build_shot(config: SimulateConfig, f_number: float, image_mm: float) -> VirtualShot:
    # A lens focused beyond this distance is at infinity; a finite number keeps EXIF and the lens equation valid.
    image_mm = max(float(image_mm), image_distance_mm(config.focal_mm, _MAX_FOCUS_M))
    return VirtualShot(f_number=f_number, focus_m=focus_distance_m(config.focal_mm, image_mm), image_mm=image_mm)


def _image_distance_of(config: SimulateConfig, dioptres: float) -> float:
    return 1.0 / (1.0 / config.focal_mm - dioptres / 1000.0)


def _inverse_depth(config: SimulateConfig, ratio: float, image_mm: float) -> float:
    """The dioptres at which v(s)/v(d) = `ratio`."""
    return max(0.0, 1000.0 * (1.0 / config.focal_mm - ratio / image_mm))


def _plan_focus_pair(
    config: SimulateConfig, draws: list[float], depths: tuple[float, float] | None, both_blurred: bool
) -> tuple[VirtualShot, VirtualShot, float, float]:
    radius = _draw_largest_radius_px(config, draws[0], both_blurred)
    wanted = config.max_zoom * (0.25 + 0.75 * draws[1])
    sign = -1.0 if draws[2] < 0.5 else 1.0
    # Beyond this distance, the focus cannot be moved far enough before it reaches infinity.
    horizon_m = 0.9 * config.focal_mm / config.max_zoom / 1000.0
    if depths is None:
        sign = 1.0 if horizon_m < config.focus_min_m else sign
        high = min(config.focus_max_m, horizon_m) if sign < 0 else config.focus_max_m
        image_s = image_distance_mm(config.focal_mm, config.focus_min_m + (high - config.focus_min_m) * draws[3])
        spread = None
    else:
        ratios = [1.0 / config.focal_mm - dioptres / 1000.0 for dioptres in depths]
        image_s = 2.0 / sum(ratios)
        horizon = image_distance_mm(config.focal_mm, _MAX_FOCUS_M)
        spread = image_s * abs(ratios[0] - ratios[1]) / 2
        sign = 1.0 if focus_distance_m(config.focal_mm, max(image_s, horizon)) > horizon_m else sign

    def ratio_for(f_number: float) -> float:
        scale = _radius_scale_px(config, f_number)
        half = spread if spread is not None else min(config.sharp_coc_px, radius / 2) / scale
        return max(1e-3, (1 + sign * radius / scale) / (1 + sign * half))

    def zoom_off(f_number: float) -> float:
        return abs(1 / ratio_for(f_number) - 1)

    ahead = [stop for stop in _f_stops(config) if sign * (ratio_for(stop) - 1) > 0] or [_f_stops(config)[-1]]
    allowed = [stop for stop in ahead if zoom_off(stop) <= config.max_zoom] or [ahead[0]]
    f_number = min(allowed, key=lambda stop: abs(zoom_off(stop) - wanted))
    # A lens with too small a maximum aperture reaches the largest allowed breathing before the drawn radius.
    ratio = min(max(ratio_for(f_number), 1 / (1 + config.max_zoom)), 1 / (1 - config.max_zoom))
    half = spread if spread is not None else min(config.sharp_coc_px, radius / 2) / _radius_scale_px(config, f_number)
    sharp_image = image_s * (1 + 0.9 * (ratio - 1)) if both_blurred else image_s
    near, far = (
        depths
        if depths is not None
        else (_inverse_depth(config, 1 - half, image_s), _inverse_depth(config, 1 + half, image_s))
    )
    return _build_shot(config, f_number, image_s * ratio), _build_shot(config, f_number, sharp_image), near, far


def _plan_aperture_pair(
    config: SimulateConfig, draws: list[float], depths: tuple[float, float] | None, both_blurred: bool
) -> tuple[VirtualShot, VirtualShot, float, float]:
    stops = _f_stops(config)
    radius = min(_draw_largest_radius_px(config, draws[0], both_blurred), config.sharp_coc_px * stops[-1] / stops[0])
    # The nearer end takes the fraction `balance` of the depth range, measured from the focal plane.
    balance = 0.2 + 0.6 * draws[2]
    if depths is None:
        openings = [stop for stop in stops if stop * radius / config.sharp_coc_px <= stops[-1] * (1 + 1e-9)]
        f_blur = openings[int(draws[1] * len(openings))] if openings else stops[0]
        distance_m = config.focus_min_m + (config.focus_max_m - config.focus_min_m) * draws[3]
        image_mm = image_distance_mm(config.focal_mm, distance_m)
        reach = (0.25 if both_blurred else 1.0) * radius / _radius_scale_px(config, f_blur) / max(balance, 1 - balance)
        near = _inverse_depth(config, 1 - balance * reach, image_mm)
        far = _inverse_depth(config, 1 + (1 - balance) * reach, image_mm)
    else:
        near, far = depths
        image_mm = _image_distance_of(config, near - balance * (near - far))
        reach = max(abs(image_mm / _image_distance_of(config, dioptres) - 1) for dioptres in depths)
        f_blur = next((stop for stop in stops if _radius_scale_px(config, stop) * reach <= radius), stops[-1])
    if both_blurred:
        image_mm = image_mm * (1 + 0.7 * radius / _radius_scale_px(config, f_blur))
        f_sharp = stops[min(stops.index(f_blur) + 1, len(stops) - 1)]
        return _build_shot(config, f_blur, image_mm), _build_shot(config, f_sharp, image_mm), near, far
    worst = max(abs(float(_build_shot(config, f_blur, image_mm).signed_radius_px(end, config))) for end in (near, far))
    f_sharp = next((stop for stop in stops if worst * f_blur / stop <= config.sharp_coc_px * (1 + 1e-9)), stops[-1])
    return _build_shot(config, f_blur, image_mm), _build_shot(config, f_sharp, image_mm), near, far
