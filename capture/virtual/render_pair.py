"""Shooting one pair: plan, scene, lens, sensor. Arrays in memory, no files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual import compositing, defects, lens, optics, sensor, truth
from capture.virtual.defects import Defect
from capture.virtual.ground_plane import ground_scene
from capture.virtual.plan import PairPlan, VirtualShot, plan_pair
from capture.virtual.scene import Surface, VirtualScene, add_moving_object, dead_leaves
from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.interpolation import REACH_PX, Interpolation
from sdd_toolkit.records import PairKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig
    from capture.virtual.picture import Picture

_OTHER_SCENE = 1_000_000
_POINT_RADIUS_PX = 0.505


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two shots of one scene and the truth about them.

    Attributes:
        kind: What was changed between the shots.
        defect: The planted fault, None for a good pair.
        plan: Settings of both shots and the geometry between them.
        blur_linear: (H, W, 3) float32 linear sRGB, noise-free, with exposure and vignetting; 1 = saturation. A little
            below 0 beside bright points on black, where it was resampled.
        sharp_linear: The same of the sharp shot.
        blur_mosaic: (H, W) uint16, what the sensor wrote.
        sharp_mosaic: The same of the sharp shot.
        sharp_coc_px: Largest circle-of-confusion radius in the sharp shot.
        truth: See `Truth`.
    """

    kind: PairKind
    defect: Defect | None
    plan: PairPlan
    blur_linear: NDArray[np.float32]
    sharp_linear: NDArray[np.float32]
    blur_mosaic: NDArray[np.uint16]
    sharp_mosaic: NDArray[np.uint16]
    sharp_coc_px: float
    truth: truth.Truth


def render_pair(
    config: SimulateConfig,
    kind: str,
    seed: int,
    index: int,
    defect: str | None = None,
    picture: Picture | None = None,
) -> RenderedPair:
    """Shoots pair `index` of the series `seed`.

    Args:
        config: The camera.
        kind: `focus` or `aperture`.
        seed: Same seed, index and configuration: the same pair.
        index: Number of the pair; pairs are independent of each other.
        defect: A fault to plant, see `Defect`.
        picture: A photograph with depth to shoot instead of dead leaves.

    Raises:
        ValueError: The kind or the defect is unknown.
    """
    fault = None if defect is None else Defect(defect)
    pair_kind = PairKind(kind)
    depths = None if picture is None else picture.depths
    plan = plan_pair(
        config,
        pair_kind,
        _rng(seed, index, 0),
        depths=depths,
        both_blurred=fault is Defect.BOTH_BLURRED,
    )
    scene = _build_scene(config, plan, seed, index, picture)
    chance = _rng(seed, index, 2)
    if fault is Defect.MOVING_OBJECT:
        scene = add_moving_object(scene, config.size, plan.near, chance)
    if fault is Defect.MOVING_LEAF:
        scene = add_moving_object(
            scene, config.size, plan.near, chance, share=defects.LEAF_AREA_FRACTION, jump_px=defects.LEAF_JUMP_PX
        )
    other = _build_scene(config, plan, seed, index + _OTHER_SCENE, None) if fault is Defect.DIFFERENT_SCENE else scene
    return _expose_pair(config, plan, pair_kind, fault, scene, other, seed, index)


def _expose_pair(
    config: SimulateConfig,
    plan: PairPlan,
    kind: PairKind,
    fault: Defect | None,
    scene: VirtualScene,
    other: VirtualScene,
    seed: int,
    index: int,
) -> RenderedPair:
    """Both shots side by side, one thread each: they share nothing, so the bytes are those of one thread."""
    sharp_coc = _largest_radius_px(scene, plan.sharp, config)
    # Discs within one pixel blur nothing: then the sharp shot is the all-in-focus image.
    plain = optics.optics_at(plan.sharp.f_number, config, (0.0, 0.0)).is_plain_disc
    still = fault is None and plain and sharp_coc <= _POINT_RADIUS_PX
    with ThreadPoolExecutor(2) as pool:
        blurring = pool.submit(
            lambda: _warp_to_blurred(_render_canvas(scene, plan.blur, plan, config, moved=False), plan, config)
        )
        sharp_canvas = _render_canvas(other, plan.sharp, plan, config, moved=True)
        focused = sharp_canvas if still else compositing.composite(scene)
        exposure = config.highlight_level / max(float(np.quantile(focused[::4, ::4].max(axis=2), 0.995)), 1e-6)
        exposure *= 2**defects.OVEREXPOSURE_EV if fault is Defect.CLIPPED else 1.0
        telling = pool.submit(lambda: _pair_truth(scene, plan, config, lost=fault))
        falloff = _illumination(plan.sharp, config) * np.float32(exposure)
        sharp = _crop_sharp(sharp_canvas, config) * (falloff * np.float32(_light_factor(fault, seed, index)))
        sharp_mosaic = sensor.expose(sharp, config, _rng(seed, index, 5))
        aligned = np.maximum(_warp_to_blurred(focused, plan, config) * falloff, 0)
        blur = blurring.result() * (_illumination(plan.blur, config) * np.float32(exposure * 2**plan.blur.error_ev))
        blur_mosaic = sensor.expose(blur, config, _rng(seed, index, 3))
    displacement, occlusion, coc_px = telling.result()
    return RenderedPair(
        kind=kind,
        defect=fault,
        plan=plan,
        blur_linear=blur,
        sharp_linear=sharp,
        blur_mosaic=blur_mosaic,
        sharp_mosaic=sharp_mosaic,
        sharp_coc_px=sharp_coc,
        truth=truth.Truth(plan.homography, displacement, occlusion, coc_px, aligned),
    )


def _light_factor(fault: Defect | None, seed: int, index: int) -> float:
    """How much of the light is left in the sharp shot."""
    if fault is Defect.LIGHT_CHANGE:
        return float(2 ** -_rng(seed, index, 2).uniform(defects.MIN_DIMMING_EV, defects.MAX_DIMMING_EV))
    return 0.0 if fault is Defect.BLACK_FRAME else 1.0


def margin_px(config: SimulateConfig) -> int:
    """How far the canvas reaches beyond the frame, so that no shot looks past its edge."""
    diagonal = float(np.hypot(*config.size)) / 2
    turn = float(np.radians(config.max_rotation_deg))
    breathing = config.max_zoom + abs(config.focus_roll_mm) / config.focal_mm
    reach = diagonal * (breathing + turn) + config.max_shift_px + 1.2 * config.max_coc_px + REACH_PX
    return int(np.ceil(reach + _extra_reach_px(config)))


def _extra_reach_px(config: SimulateConfig) -> float:
    """How much farther than the largest circle of confusion light may be spread by what is not a plain disc."""
    corners = 0.3 * config.max_coc_px if config.blades else 0.0
    opening_px = config.focal_mm / config.f_number_min / (2 * config.pitch_mm)
    rolled = opening_px * abs(config.focus_roll_mm) / 2 / config.focal_mm
    colours = opening_px * max(abs(shift) for shift in config.longitudinal_ca)
    return corners + rolled + colours + abs(config.spherical_aberration_px)


def _rng(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, purpose])


def _build_scene(
    config: SimulateConfig, plan: PairPlan, seed: int, index: int, picture: Picture | None
) -> VirtualScene:
    margin = margin_px(config)
    canvas = (config.height + 2 * margin, config.width + 2 * margin)
    chance = _rng(seed, index, 1)
    if picture is not None:
        return picture.scene(canvas, plan, config)
    if config.depth == "ramp":
        return ground_scene(canvas, config.size, plan.near, plan.far, chance)
    ends = np.array([plan.near, plan.far])
    radii = [shot.signed_radius_px(ends, config) for shot in (plan.blur, plan.sharp)]
    reach = 1.1 * float(np.abs(radii).max()) + _extra_reach_px(config)
    return dead_leaves(canvas, config.size, plan.near, plan.far, chance, reach_px=reach)


def _render_canvas(
    scene: VirtualScene, shot: VirtualShot, plan: PairPlan, config: SimulateConfig, *, moved: bool
) -> NDArray[np.float32]:
    """The whole canvas as the lens draws it, on the sharp frame's grid."""
    zoom = plan.sharp.image_mm / shot.image_mm
    margin = margin_px(config)
    drawn = optics.optics_at(shot.f_number, config, (margin + (config.width - 1) / 2, margin + (config.height - 1) / 2))
    to_blur = np.asarray(np.linalg.inv(plan.homography), dtype=np.float64)

    def radii(colour: int) -> list[float | NDArray[np.float64]]:
        if shot.roll_mm == 0 and all(surface.relief is None for surface in scene.surfaces):
            depths = np.array([surface.inverse_depth for surface in scene.surfaces])
            return list(zoom * shot.signed_radius_px(depths, config, colour=colour))
        return [
            zoom * shot.signed_radius_px(surface.depths, config, rows=rows(surface), colour=colour)
            for surface in scene.surfaces
        ]

    def rows(surface: Surface) -> NDArray[np.float64] | None:
        if shot.roll_mm == 0:
            return None
        on_canvas = np.arange(surface.rgba.shape[0], dtype=np.float64)[:, None] + surface.position(moved=moved)[0]
        middle = np.full(on_canvas.shape, (config.width - 1) / 2, dtype=np.float64)
        return geometry.project_grid(to_blur, middle, on_canvas - margin)[1]

    if config.longitudinal_ca == (0.0, 0.0):
        return compositing.composite(scene, radii(1), moved=moved, optics=drawn)
    colours = [compositing.composite(scene, radii(c), moved=moved, optics=drawn)[..., c] for c in range(3)]
    return np.stack(colours, axis=-1)


def _largest_radius_px(scene: VirtualScene, shot: VirtualShot, config: SimulateConfig) -> float:
    ends = np.array([end for s in scene.surfaces for end in (s.depths.min(), s.depths.max())])
    return max(float(np.abs(shot.signed_radius_px(ends, config, colour=colour)).max()) for colour in range(3))


def _crop_sharp(canvas: NDArray[np.float32], config: SimulateConfig) -> NDArray[np.float32]:
    """The part of the canvas that the sharp frame sees."""
    margin = margin_px(config)
    return canvas[margin : margin + config.height, margin : margin + config.width]


def _warp_to_blurred(
    canvas: NDArray[np.float32],
    plan: PairPlan,
    config: SimulateConfig,
    interpolation: Interpolation = Interpolation.SPLINE,
) -> NDArray[np.float32]:
    """The part of the canvas (the sharp frame's grid and a margin) that the blurred frame sees.

    The spline dips below zero beside bright points on black; cutting that off would add light and widen the points.
    """
    margin = margin_px(config)
    to_canvas = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]], dtype=np.float64) @ plan.homography
    if plan.blur.roll_mm == 0:
        back = np.asarray(np.linalg.inv(to_canvas), dtype=np.float64)
        return resampling.warp(canvas, back, config.size, interpolation=interpolation)
    x, y = _undo_focus_roll(plan, config)
    x, y, _ = geometry.project_grid(to_canvas, x, y)
    return resampling.sample(canvas, x, y, interpolation)


def _undo_focus_roll(plan: PairPlan, config: SimulateConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each pixel of the blurred frame would lie, had the focus stood still: breathing differs from row to row."""
    y = np.arange(config.height, dtype=np.float64)[:, None]
    x = np.arange(config.width, dtype=np.float64)[None, :]
    factor = plan.blur.image_mm / plan.blur.image_mm_at(y, config.height)
    middle_x, middle_y = (config.width - 1) / 2, (config.height - 1) / 2
    across, down = np.broadcast_arrays(middle_x + factor * (x - middle_x), middle_y + factor * (y - middle_y))
    return across, down


def _illumination(shot: VirtualShot, config: SimulateConfig) -> NDArray[np.float32]:
    shade = lens.vignetting(
        config.size,
        image_mm=shot.image_mm,
        pitch_mm=config.pitch_mm,
        f_number=shot.f_number,
        f_number_min=config.f_number_min,
        strength=0.0 if config.cat_eye else config.vignetting,
    )
    if config.cat_eye:
        shade = shade * optics.optics_at(shot.f_number, config, (0.0, 0.0)).light(config.size)
    return shade[..., None]


def _pair_truth(
    scene: VirtualScene, plan: PairPlan, config: SimulateConfig, *, lost: Defect | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Displacement, occlusion and circle-of-confusion radius."""
    depth = _warp_to_blurred(scene.front_depth(), plan, config, Interpolation.NEAREST)
    field = geometry.displacement(plan.homography, config.size)
    rows = None
    if plan.blur.roll_mm:
        x, y = _undo_focus_roll(plan, config)
        x, y, _ = geometry.project_grid(plan.homography, x, y)
        rows = np.arange(config.height, dtype=np.float64)[:, None]
        field = np.stack([x - np.arange(config.width), y - rows], axis=-1).astype(np.float32)
    jump = scene.surfaces[-1].jump
    before, after = (np.zeros(config.size, np.bool_) for _ in range(2))
    if jump != (0, 0):
        before = _warp_to_blurred(scene.moving_object_mask(), plan, config, Interpolation.NEAREST) > 0.5
        after = _crop_sharp(scene.moving_object_mask(moved=True), config) > 0.5
    displacement, occlusion = truth.motion_truth(field, before, after, jump)
    if lost in (Defect.DIFFERENT_SCENE, Defect.BLACK_FRAME):
        occlusion = np.ones_like(occlusion)
    coc_px = np.abs(plan.blur.signed_radius_px(depth.astype(np.float64), config, rows=rows)).astype(np.float32)
    return displacement, occlusion, coc_px
