"""Options of one run of the alignment benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Attributes:
    photographs: Sharp photographs to plant motions in; empty: the sections that need them are left out.
    stacks: Folders of focal stacks, frames by name.
    every_stack: Folders of focal stacks whose loops check the estimate of the error.
    detours: By how many of the frames between the first and the last one; None: by each.
    pairs: (blurred, sharp) files of real pairs.
    images: How many photographs, or scenes made of them.
    size: (height, width) of the planted frames.
    radii_px: Disc radii of the planted frames.
    scenes: Virtual pairs of every kind.
    scene_size: (height, width) of the virtual camera.
    cost_size: (height, width) of the frames whose cost is measured.
    rivals: Whether anyone but ours takes part.
    seed: Same seed and options, same pairs.
    """

    photographs: list[Path]
    stacks: list[Path]
    every_stack: list[Path]
    detours: int | None
    pairs: list[tuple[Path, Path]]
    images: int
    size: tuple[int, int]
    radii_px: tuple[float, ...]
    scenes: int
    scene_size: tuple[int, int]
    cost_size: tuple[int, int]
    rivals: bool
    seed: int
