"""Shooting one pair: plan, scene, lens, sensor. Arrays in memory, no files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual import lens, render, sensor, truth
from capture.virtual.plan import Plan, Shot, plan_pair
from capture.virtual.scene import Scene, dead_leaves, with_moving_object
from sdd_toolkit import resampling
from sdd_toolkit.resampling import Interpolation
from sdd_toolkit.types import PairKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig
    from capture.virtual.picture import Picture

_OVEREXPOSURE_EV = 3.0
_OTHER_SCENE = 1_000_000


class Defect(StrEnum):
    """Faults the camera can plant, named by the reason a pipeline should reject them for."""

    BLACK_FRAME = "black_frame"
    DIFFERENT_SCENE = "different_scene"
    MOVING_OBJECT = "moving_object"
    CLIPPED = "clipped"
    BOTH_BLURRED = "both_blurred"


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two shots of one scene and the truth about them.

    Attributes:
        kind: What was changed between the shots.
        defect: The planted fault, None for a good pair.
        plan: Settings of both shots and the geometry between them.
        blur_linear: (H, W, 3) float32 linear sRGB, noise-free, with exposure and vignetting; 1 = saturation.
        sharp_linear: The same of the sharp shot.
        blur_mosaic: (H, W) uint16, what the sensor wrote.
        sharp_mosaic: The same of the sharp shot.
        sharp_coc_px: Largest circle-of-confusion radius in the sharp shot.
        truth: See `Truth`.
    """

    kind: PairKind
    defect: Defect | None
    plan: Plan
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
        _chance(seed, index, 0),
        depths=depths,
        both_blurred=fault is Defect.BOTH_BLURRED,
    )
    scene = _scene(config, plan, seed, index, picture)
    if fault is Defect.MOVING_OBJECT:
        scene = with_moving_object(scene, config.size, plan.near, _chance(seed, index, 2))
    other = _scene(config, plan, seed, index + _OTHER_SCENE, None) if fault is Defect.DIFFERENT_SCENE else None

    blur_canvas = _render(scene, plan.blur, config, plan.zoom, moved=False)
    sharp_canvas = _render(other or scene, plan.sharp, config, 1.0, moved=True)
    # A disc within one pixel blurs nothing: then the sharp shot is the all-in-focus image.
    sharp_coc = float(np.abs(plan.sharp.signed_radius_px(_depths(scene), config)).max())
    still = fault is None and sharp_coc <= 0.505
    focused = sharp_canvas if still else render.composite(scene)
    exposure = config.highlight_level / max(float(np.quantile(focused[::4, ::4].max(axis=2), 0.995)), 1e-6)
    if fault is Defect.CLIPPED:
        exposure *= 2**_OVEREXPOSURE_EV
    dark = fault is Defect.BLACK_FRAME
    blur = _frame(blur_canvas, plan.homography, config) * (
        _falloff(plan.blur, config) * exposure * 2**plan.blur.error_ev
    )
    falloff = _falloff(plan.sharp, config) * exposure
    sharp = _frame(sharp_canvas, np.eye(3), config) * (falloff * (0.0 if dark else 1.0))
    noise = _chance(seed, index, 3)
    return RenderedPair(
        kind=pair_kind,
        defect=fault,
        plan=plan,
        blur_linear=blur,
        sharp_linear=sharp,
        blur_mosaic=sensor.expose(blur, config, noise),
        sharp_mosaic=sensor.expose(sharp, config, noise),
        sharp_coc_px=sharp_coc,
        truth=_truth(scene, plan, config, focused=_frame(focused, plan.homography, config) * falloff, lost=fault),
    )


def margin_px(config: SimulateConfig) -> int:
    """How far the canvas reaches beyond the frame, so that no shot looks past its edge."""
    diagonal = float(np.hypot(*config.size)) / 2
    turn = float(np.radians(config.max_rotation_deg))
    reach = diagonal * (config.max_zoom + turn) + config.max_shift_px + 1.2 * config.max_coc_px + resampling.REACH_PX
    return int(np.ceil(reach))


def _chance(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, purpose])


def _scene(config: SimulateConfig, plan: Plan, seed: int, index: int, picture: Picture | None) -> Scene:
    margin = margin_px(config)
    canvas = (config.height + 2 * margin, config.width + 2 * margin)
    if picture is not None:
        return picture.scene(canvas, plan, config)
    return dead_leaves(canvas, config.size, plan.near, plan.far, _chance(seed, index, 1))


def _render(scene: Scene, shot: Shot, config: SimulateConfig, zoom: float, *, moved: bool) -> NDArray[np.float32]:
    radii = np.abs(shot.signed_radius_px(_depths(scene), config)) * zoom
    return render.composite(scene, radii.tolist(), moved=moved)


def _depths(scene: Scene) -> NDArray[np.float64]:
    return np.array([surface.inverse_depth for surface in scene.surfaces])


def _frame(canvas: NDArray[np.float32], to_sharp: NDArray[np.float64], config: SimulateConfig) -> NDArray[np.float32]:
    """The part of the canvas (the sharp frame's grid and a margin) that a frame related by `to_sharp` sees."""
    margin = margin_px(config)
    if np.array_equal(to_sharp, np.eye(3)):
        return canvas[margin : margin + config.height, margin : margin + config.width]
    return np.maximum(resampling.warp(canvas, _seen_by(to_sharp, margin), config.size), 0)


def _seen_by(to_sharp: NDArray[np.float64], margin: int) -> NDArray[np.float64]:
    """Canvas (x, y, 1) to the frame that `to_sharp` relates to the sharp one."""
    to_canvas = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]], dtype=np.float64) @ to_sharp
    return np.asarray(np.linalg.inv(to_canvas), dtype=np.float64)


def _falloff(shot: Shot, config: SimulateConfig) -> NDArray[np.float32]:
    shade = lens.vignetting(
        config.size,
        image_mm=shot.image_mm,
        pitch_mm=config.pitch_mm,
        f_number=shot.f_number,
        f_number_min=config.f_number_min,
        strength=config.vignetting,
    )
    return shade[..., None]


def _truth(
    scene: Scene, plan: Plan, config: SimulateConfig, *, focused: NDArray[np.float32], lost: Defect | None
) -> truth.Truth:
    seen = _seen_by(plan.homography, margin_px(config))
    depth = resampling.warp(scene.front_depth(), seen, config.size, interpolation=Interpolation.NEAREST)
    before = resampling.warp(scene.jumping(), seen, config.size, interpolation=Interpolation.NEAREST) > 0.5
    after = _frame(scene.jumping(moved=True), np.eye(3), config) > 0.5
    displacement, occlusion = truth.motion(plan.homography, before, after, scene.surfaces[-1].jump)
    if lost in (Defect.DIFFERENT_SCENE, Defect.BLACK_FRAME):
        occlusion = np.ones_like(occlusion)
    return truth.Truth(
        homography=plan.homography,
        displacement=displacement,
        occlusion=occlusion,
        coc_px=np.abs(plan.blur.signed_radius_px(depth.astype(np.float64), config)).astype(np.float32),
        aligned=focused.astype(np.float32),
    )
