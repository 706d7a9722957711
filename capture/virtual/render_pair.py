"""Renders one pair with the virtual camera: plan, scene, lens, sensor; arrays in memory, no files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual import compositing, defects, lens, motion, optics, sensor, truth
from capture.virtual.dead_leaves import add_moving_object, dead_leaves
from capture.virtual.defects import Defect
from capture.virtual.ground_plane import ground_scene
from capture.virtual.plan import PairPlan, VirtualShot, plan_pair
from capture.virtual.scene import Surface, VirtualScene
from sdd_toolkit.imaging import geometry, resampling
from sdd_toolkit.imaging.interpolation import REACH_PX, Interpolation
from sdd_toolkit.records import PairKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig
    from capture.virtual.picture import Picture

_OTHER_SCENE = 1_000_000
_POINT_RADIUS_PX = 0.505
_REACH_OF_LARGEST_DISPLACEMENT_PX = 66.0
_PLAN, _SCENE, _DEFECT, _BLUR_NOISE, _SHARP_NOISE, _MOTION = 0, 1, 2, 3, 5, 7  # streams of random numbers of one pair


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two shots of one scene and the truth about them.

    Attributes:
        kind: The setting that differs between the shots.
        defect: The planted defect, None for a good pair.
        plan: Settings of both shots and the geometry between them.
        blur_linear: (H, W, 3) float32 linear sRGB, noise-free, with exposure, vignetting and optical low-pass; 1 =
            saturation. A little below 0 beside bright points on black, where it was resampled.
        sharp_linear: The same of the sharp shot.
        blur_mosaic: (H, W) uint16 raw values.
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


@dataclass(frozen=True, slots=True)
class _PlannedPair:
    """A pair before it is rendered.

    Attributes:
        kind: As in `RenderedPair`.
        defect: As in `RenderedPair`.
        plan: As in `RenderedPair`.
        blur_scene: Scene of the blurred shot.
        sharp_scene: Scene of the sharp shot; another one only for `different_scene`.
        seed: Seed of the series.
        index: Number of the pair.
    """

    kind: PairKind
    defect: Defect | None
    plan: PairPlan
    blur_scene: VirtualScene
    sharp_scene: VirtualScene
    seed: int
    index: int

    def rng(self, stream: int) -> np.random.Generator:
        """The random generator of one stream of this pair."""
        return _rng(self.seed, self.index, stream)


def render_pair(
    config: SimulateConfig,
    kind: str,
    seed: int,
    index: int,
    defect: str | None = None,
    picture: Picture | None = None,
) -> RenderedPair:
    """Renders pair `index` of the series `seed`.

    Args:
        config: The camera.
        kind: `focus` or `aperture`.
        seed: Same seed, index and configuration: the same pair.
        index: Number of the pair; pairs are independent of each other.
        defect: A defect to plant, see `Defect`.
        picture: A photograph with depth to shoot instead of dead leaves.

    Raises:
        ValueError: The kind or the defect is unknown.
    """
    planted = None if defect is None else Defect(defect)
    pair_kind = PairKind(kind)
    plan = plan_pair(
        config,
        pair_kind,
        _rng(seed, index, _PLAN),
        depths=None if picture is None else picture.depths,
        both_blurred=planted is Defect.BOTH_BLURRED,
    )
    scene = _build_scene(config, plan, seed, index, picture)
    scene = motion.move_surfaces(scene, config, plan, _rng(seed, index, _MOTION))
    rng = _rng(seed, index, _DEFECT)
    if planted is Defect.MOVING_OBJECT:
        scene = add_moving_object(scene, config.size, plan.near, rng)
    if planted is Defect.MOVING_LEAF:
        area, jump_px = defects.LEAF_AREA_FRACTION, defects.LEAF_JUMP_PX
        scene = add_moving_object(scene, config.size, plan.near, rng, area=area, jump_px=jump_px)
    sharp_scene = scene
    if planted is Defect.DIFFERENT_SCENE:
        sharp_scene = _build_scene(config, plan, seed, index + _OTHER_SCENE, None)
    return _expose_pair(_PlannedPair(pair_kind, planted, plan, scene, sharp_scene, seed, index), config)


def _expose_pair(pair: _PlannedPair, config: SimulateConfig) -> RenderedPair:
    """Both shots in parallel, one thread each: they share nothing, so the bytes are those of one thread."""
    plan, scene = pair.plan, pair.blur_scene
    sharp_coc_px = _largest_radius_px(scene, plan.sharp, config)
    # Discs within one pixel blur nothing: then the sharp shot is the all-in-focus image.
    is_plain = optics.optics_at(plan.sharp.f_number, config, (0.0, 0.0)).is_plain_disc
    stands_still = pair.defect is None and not scene.jumps.any()
    all_in_focus = stands_still and is_plain and sharp_coc_px <= _POINT_RADIUS_PX
    with ThreadPoolExecutor(2) as pool:
        blur_future = pool.submit(
            lambda: _warp_to_blurred(_render_canvas(scene, plan.blur, plan, config, moved=False), plan, config)
        )
        sharp_canvas = _render_canvas(pair.sharp_scene, plan.sharp, plan, config, moved=True)
        focused = sharp_canvas if all_in_focus else compositing.composite(scene)
        exposure = sensor.metered_exposure(focused, config)
        exposure *= 2**defects.OVEREXPOSURE_EV if pair.defect is Defect.CLIPPED else 1.0
        truth_future = pool.submit(lambda: _pair_truth(pair, config))
        illumination = _illumination(plan.sharp, config) * np.float32(exposure)
        sharp = _warp_to_sharp(sharp_canvas, plan, config) * (illumination * np.float32(_light_factor(pair)))
        sharp = sensor.optical_low_pass(sharp, config.optical_low_pass_px)
        sharp_mosaic = sensor.expose(sharp, config, pair.rng(_SHARP_NOISE))
        aligned = np.maximum(_warp_to_blurred(focused, plan, config) * illumination, 0)
        light = np.float32(exposure * 2**plan.blur.error_ev)
        blur = blur_future.result() * (_illumination(plan.blur, config) * light)
        blur = sensor.optical_low_pass(blur, config.optical_low_pass_px)
        blur_mosaic = sensor.expose(blur, config, pair.rng(_BLUR_NOISE))
    displacement, occlusion, coc_px = truth_future.result()
    return RenderedPair(
        kind=pair.kind,
        defect=pair.defect,
        plan=plan,
        blur_linear=blur,
        sharp_linear=sharp,
        blur_mosaic=blur_mosaic,
        sharp_mosaic=sharp_mosaic,
        sharp_coc_px=sharp_coc_px,
        truth=truth.Truth(plan.homography, displacement, occlusion, coc_px, aligned),
    )


def _light_factor(pair: _PlannedPair) -> float:
    """Light of the sharp shot relative to a good pair's."""
    if pair.defect is Defect.LIGHT_CHANGE:
        return float(2 ** -pair.rng(_DEFECT).uniform(defects.MIN_DIMMING_EV, defects.MAX_DIMMING_EV))
    return 0.0 if pair.defect is Defect.BLACK_FRAME else 1.0


def margin_px(config: SimulateConfig) -> int:
    """Margin of the canvas around the frame, so that no shot reaches beyond its edge."""
    diagonal = float(np.hypot(*config.size)) / 2
    roll = float(np.radians(config.max_rotation_deg))
    breathing = config.max_zoom + abs(config.focus_roll_mm) / config.focal_mm
    reach = diagonal * (breathing + roll) + config.max_shift_px
    if config.mean_displacement_px is not None:
        # The same for every displacement, and with it the scene: the corners move by less than twice the mean.
        reach = _REACH_OF_LARGEST_DISPLACEMENT_PX
    return int(np.ceil(reach + 1.2 * config.max_coc_px + REACH_PX + _extra_reach_px(config) + config.parallax_px))


def _extra_reach_px(config: SimulateConfig) -> float:
    """Distance beyond the largest circle of confusion to which kernels other than plain discs spread light."""
    corners = 0.3 * config.max_coc_px if config.blades else 0.0
    opening_px = config.focal_mm / config.f_number_min / (2 * config.pitch_mm)
    focus_roll = opening_px * abs(config.focus_roll_mm) / 2 / config.focal_mm
    colours = opening_px * max(abs(shift) for shift in config.longitudinal_ca)
    return corners + focus_roll + colours + abs(config.spherical_aberration_px)


def _rng(seed: int, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, stream])


def _build_scene(
    config: SimulateConfig, plan: PairPlan, seed: int, index: int, picture: Picture | None
) -> VirtualScene:
    margin = margin_px(config)
    canvas = (config.height + 2 * margin, config.width + 2 * margin)
    rng = _rng(seed, index, _SCENE)
    if picture is not None:
        return picture.scene(canvas, plan, config)
    if config.depth == "ramp":
        return ground_scene(canvas, config.size, plan.near, plan.far, rng)
    ends = np.array([plan.near, plan.far])
    radii = [shot.signed_radius_px(ends, config) for shot in (plan.blur, plan.sharp)]
    reach = 1.1 * float(np.abs(radii).max()) + _extra_reach_px(config) + motion.largest_motion_px(config)
    return dead_leaves(canvas, config.size, plan.near, plan.far, rng, reach_px=reach)


def _render_canvas(
    scene: VirtualScene, shot: VirtualShot, plan: PairPlan, config: SimulateConfig, *, moved: bool
) -> NDArray[np.float32]:
    """The whole canvas through the lens."""
    zoom = plan.canvas_image_mm / shot.image_mm
    margin = margin_px(config)
    centre = (margin + (config.width - 1) / 2, margin + (config.height - 1) / 2)
    lens_optics = optics.optics_at(shot.f_number, config, centre)
    to_blur = np.asarray(np.linalg.inv(plan.blurred_to_canvas), dtype=np.float64)

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
        return compositing.composite(scene, radii(1), moved=moved, optics=lens_optics)
    colours = [
        compositing.composite(scene, radii(colour), moved=moved, optics=lens_optics)[..., colour]
        for colour in range(3)
    ]  # fmt: skip
    return np.stack(colours, axis=-1)


def _largest_radius_px(scene: VirtualScene, shot: VirtualShot, config: SimulateConfig) -> float:
    ends = np.array([end for s in scene.surfaces for end in (s.depths.min(), s.depths.max())])
    return max(float(np.abs(shot.signed_radius_px(ends, config, colour=colour)).max()) for colour in range(3))


def _warp_to_sharp(canvas: NDArray[np.float32], plan: PairPlan, config: SimulateConfig) -> NDArray[np.float32]:
    """The part of the canvas within the sharp frame."""
    margin = margin_px(config)
    if not plan.keeps_blurred:
        return canvas[margin : margin + config.height, margin : margin + config.width]
    from_canvas = plan.canvas_to_sharp @ np.array([[1, 0, -margin], [0, 1, -margin], [0, 0, 1]], dtype=np.float64)
    return np.maximum(resampling.warp(canvas, np.asarray(from_canvas), config.size), 0)


def _warp_to_blurred(
    canvas: NDArray[np.float32],
    plan: PairPlan,
    config: SimulateConfig,
    interpolation: Interpolation = Interpolation.SPLINE,
) -> NDArray[np.float32]:
    """The part of the canvas within the blurred frame.

    The spline dips below zero beside bright points on black; clipping it would add light and widen the points.
    """
    margin = margin_px(config)
    to_canvas = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]], dtype=np.float64) @ plan.blurred_to_canvas
    if plan.blur.roll_mm == 0:
        from_canvas = np.asarray(np.linalg.inv(to_canvas), dtype=np.float64)
        return resampling.warp(canvas, from_canvas, config.size, interpolation=interpolation)
    x, y = _undo_focus_roll(plan, config)
    x, y, _ = geometry.project_grid(to_canvas, x, y)
    return resampling.sample(canvas, x, y, interpolation)


def _undo_focus_roll(plan: PairPlan, config: SimulateConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of the blurred frame's pixels without focus roll, whose breathing differs from row to row."""
    y = np.arange(config.height, dtype=np.float64)[:, None]
    x = np.arange(config.width, dtype=np.float64)[None, :]
    factor = plan.blur.image_mm / plan.blur.image_mm_at(y, config.height)
    middle_x, middle_y = (config.width - 1) / 2, (config.height - 1) / 2
    across, down = np.broadcast_arrays(middle_x + factor * (x - middle_x), middle_y + factor * (y - middle_y))
    return across, down


def _illumination(shot: VirtualShot, config: SimulateConfig) -> NDArray[np.float32]:
    """(H, W, 1) relative illumination: vignetting, or the shadow of a cat's eye."""
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
    pair: _PlannedPair, config: SimulateConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Displacement, occlusion and circle-of-confusion radius; see `Truth`."""
    plan, scene = pair.plan, pair.blur_scene
    depth = _warp_to_blurred(scene.front_depth(), plan, config, Interpolation.NEAREST)
    displacement = geometry.displacement(plan.homography, config.size)
    rows = np.arange(config.height, dtype=np.float64)[:, None]
    hidden = np.zeros(config.size, np.bool_)
    if plan.blur.roll_mm or scene.jumps.any():
        x, y = _undo_focus_roll(plan, config)
        x, y, _ = geometry.project_grid(plan.blurred_to_canvas, x, y)
        if scene.jumps.any():
            fronts = scene.front_surface(), scene.front_surface(moved=True)
            x, y, hidden = truth.SurfaceMotion(*fronts, scene.jumps, margin_px(config)).follow(x, y)
        x, y, _ = geometry.project_grid(plan.canvas_to_sharp, x, y)
        displacement = np.stack([x - np.arange(config.width), y - rows], axis=-1).astype(np.float32)
    occlusion = hidden | truth.leaves_frame(displacement)
    if pair.defect in (Defect.DIFFERENT_SCENE, Defect.BLACK_FRAME):
        occlusion = np.ones_like(occlusion)
    imaged = rows if plan.blur.roll_mm else None
    coc_px = np.abs(plan.blur.signed_radius_px(depth.astype(np.float64), config, rows=imaged)).astype(np.float32)
    return displacement, occlusion, coc_px
