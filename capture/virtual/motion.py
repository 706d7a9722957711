"""Motion between the two shots of a virtual pair: parallax of a moved tripod, leaves in the wind, a moving object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual.dead_leaves import add_moving_object

if TYPE_CHECKING:
    from capture.virtual.config import SimulateConfig
    from capture.virtual.plan import PairPlan
    from capture.virtual.scene import Surface, VirtualScene

_OBJECT_AREA = (0.03, 0.04)
_LEAF_AREA = (0.001, 0.08)


def largest_motion_px(config: SimulateConfig) -> float:
    """The longest way that two surfaces move against each other between the shots."""
    leaves = config.leaf_motion_px if config.moving_leaves else 0.0
    return config.parallax_px + leaves + config.object_motion_px


def move_surfaces(
    scene: VirtualScene, config: SimulateConfig, plan: PairPlan, rng: np.random.Generator
) -> VirtualScene:
    """`scene` with the jumps of its surfaces between the shots, and with the moving object.

    Jumps are whole pixels of the grid on which the scene is drawn.

    Args:
        scene: The static scene.
        config: `parallax_px`, `moving_leaves`, `leaf_motion_px` and `object_motion_px`.
        plan: The depth range of the scene.
        rng: Random generator.
    """
    direction = rng.uniform(0, 2 * np.pi)
    moved = np.zeros((len(scene.surfaces), 2))
    if config.parallax_px:
        along = np.array([np.cos(direction), np.sin(direction)]) * config.parallax_px
        moved += np.rint([_nearness(surface, plan) * along for surface in scene.surfaces])
    if config.moving_leaves:
        leaves = visible_leaves(scene, config.size)
        chosen = rng.permutation(leaves)[: config.moving_leaves]
        length = config.leaf_motion_px * rng.uniform(0.5, 1.0, len(chosen))
        angle = rng.uniform(0, 2 * np.pi, len(chosen))
        moved[chosen] += np.rint(np.column_stack([length * np.cos(angle), length * np.sin(angle)]))
    if moved.any():
        surfaces = tuple(
            replace(surface, jump=(int(dx), int(dy)))
            for surface, (dx, dy) in zip(scene.surfaces, moved.tolist(), strict=True)
        )
        scene = replace(scene, surfaces=surfaces)
    if config.object_motion_px:
        jump_px = (config.object_motion_px, config.object_motion_px)
        scene = add_moving_object(scene, config.size, plan.near, rng, area=_OBJECT_AREA, jump_px=jump_px)
    return scene


def visible_leaves(scene: VirtualScene, frame: tuple[int, int]) -> list[int]:
    """Numbers of the surfaces that show between 0.1 and 8 % of a frame of `frame` (height, width) in the canvas."""
    top, left = ((whole - part) // 2 for whole, part in zip(scene.size, frame, strict=True))
    front = scene.front_surface()[top : top + frame[0], left : left + frame[1]]
    area = np.bincount(front.ravel(), minlength=len(scene.surfaces)) / front.size
    return [number for number in range(1, len(area)) if _LEAF_AREA[0] <= area[number] <= _LEAF_AREA[1]]


def _nearness(surface: Surface, plan: PairPlan) -> float:
    """-0.5 for the farthest surface of a scene, 0.5 for the nearest."""
    return (surface.inverse_depth - plan.far) / (plan.near - plan.far) - 0.5 if plan.near > plan.far else 0.0
