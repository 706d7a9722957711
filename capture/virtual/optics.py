"""How a lens draws points in one shot: the kernel of every radius at every place of the canvas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from capture.virtual.kernels import ROUND, Pupil, open_fraction, pupil_kernel
from sdd_toolkit.imaging.disc import disc_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from capture.virtual.config import SimulateConfig

_RADIUS_STEP_PX = 0.125
_FIELD_STEPS = 8
_FIELD_SAMPLES = 65


@dataclass(frozen=True, slots=True)
class Optics:
    """One setting of a lens.

    Attributes:
        pupil: Its opening as the centre of the frame sees it.
        aberration_px: Spherical aberration, see `kernels`.
        rim_shift: How far the barrel's rim has moved for the corners of the frame, in radii of this opening.
        rim_radius: Radius of the rim in radii of this opening: 1 wide open, more when stopped down.
        centre: (x, y) of the frame's centre on the canvas.
        corner_px: Distance of the frame's corners from there.
    """

    pupil: Pupil = ROUND
    aberration_px: float = 0.0
    rim_shift: float = 0.0
    rim_radius: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)
    corner_px: float = 1.0

    @property
    def is_plain_disc(self) -> bool:
        """Whether points are plain discs everywhere."""
        return self.pupil.is_round and self.aberration_px == 0 and not self.varies_over_frame

    @property
    def varies_over_frame(self) -> bool:
        """Whether the shape depends on the place in the frame."""
        return self.rim_shift + 1 > self.rim_radius + 1e-9

    @property
    def spacing_px(self) -> float:
        """Distance of the places between which kernels are blended."""
        return 2 * self.corner_px / _FIELD_STEPS

    def kernel(self, radius_px: float, place: tuple[float, float] | None = None) -> NDArray[np.float32]:
        """The image of a point at canvas pixel `place` (x, y), the centre if None; sums to one.

        Discs are exact. Other shapes are blended linearly between neighbours an eighth of a pixel of radius apart
        (from 8 px on, a sixty-fourth of it or less), and between the four places of a grid around `place`.
        """
        if self.is_plain_disc:
            return disc_kernel(abs(float(radius_px)))
        step_px = _RADIUS_STEP_PX * 2.0 ** max(0, np.floor(np.log2(max(abs(radius_px), 1.0) / 8)) + 1)
        steps = radius_px / step_px
        low = int(np.floor(steps))
        parts = [
            (share * part, pupil_kernel((low + step) * step_px, pupil, self.aberration_px))
            for step, part in ((0, 1 - (steps - low)), (1, steps - low))
            for share, pupil in self._pupils(place)
            if share * part > 0
        ]
        side = max(kernel.shape[0] for _, kernel in parts)
        total = np.zeros((side, side), np.float32)
        for share, kernel in parts:
            edge = (side - kernel.shape[0]) // 2
            total[edge : side - edge, edge : side - edge] += np.float32(share) * kernel
        return total

    def pupil_at(self, column: int, row: int) -> Pupil:
        """The opening as seen from a place of the grid, counted from the centre of the frame."""
        # The rim stands before the pupil: outer points beyond the focus lose the side that looks outwards.
        shift = -self.rim_shift * self.spacing_px / self.corner_px
        return Pupil(
            blades=self.pupil.blades,
            roundness=self.pupil.roundness,
            turn_deg=self.pupil.turn_deg,
            rim_x=shift * column,
            rim_y=shift * row,
            rim_radius=self.rim_radius,
        )

    def _pupils(self, place: tuple[float, float] | None) -> list[tuple[float, Pupil]]:
        if place is None or not self.varies_over_frame:
            return [(1.0, self.pupil_at(0, 0) if self.varies_over_frame else self.pupil)]
        x, y = ((at - middle) / self.spacing_px for at, middle in zip(place, self.centre, strict=True))
        column, row = int(np.floor(x)), int(np.floor(y))
        across, down = x - column, y - row
        return [
            ((1 - across) * (1 - down), self.pupil_at(column, row)),
            (across * (1 - down), self.pupil_at(column + 1, row)),
            ((1 - across) * down, self.pupil_at(column, row + 1)),
            (across * down, self.pupil_at(column + 1, row + 1)),
        ]

    def light(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """(H, W): the share of the light that the rim lets through to each pixel of a frame; its kernels' true sum."""
        if not self.varies_over_frame:
            return np.ones(size, np.float32)
        y = (np.arange(size[0], dtype=np.float32) - (size[0] - 1) / 2)[:, None]
        x = (np.arange(size[1], dtype=np.float32) - (size[1] - 1) / 2)[None, :]
        distance = np.sqrt(x**2 + y**2) / self.corner_px
        at, share = _open_fractions(self.pupil, self.rim_shift, self.rim_radius)
        return np.interp(distance.ravel(), at, share).astype(np.float32).reshape(size)


@lru_cache(maxsize=16)
def _open_fractions(
    pupil: Pupil, rim_shift: float, rim_radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances from the centre, 1 at the corner, and the share of light that passes there."""
    at = np.linspace(0.0, 1.2, _FIELD_SAMPLES)
    # The mean over directions: a polygon loses a little more in some than in others.
    turns = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    shares = [
        np.mean([
            open_fraction(Pupil(
                pupil.blades, pupil.roundness, pupil.turn_deg,
                rim_shift * rho * np.cos(turn), rim_shift * rho * np.sin(turn), rim_radius,
            ))
            for turn in (turns if pupil.blades else turns[:1])
        ])
        for rho in at.tolist()
    ]  # fmt: skip
    return at, np.asarray(shares, dtype=np.float64)


THIN_LENS = Optics()
"""A thin lens with a round opening."""


def optics_at(f_number: float, config: SimulateConfig, centre: tuple[float, float]) -> Optics:
    """The configured lens at an f-number.

    Args:
        f_number: Opening; at the widest one the diaphragm's blades are out of sight.
        config: The camera.
        centre: (x, y) of the frame's centre on the canvas.
    """
    stopped = f_number / config.f_number_min
    blades = config.blades if stopped > 1 + 1e-6 and config.blade_roundness < 1 else 0
    return Optics(
        pupil=Pupil(blades, config.blade_roundness, config.blade_turn_deg) if blades else ROUND,
        aberration_px=config.spherical_aberration_px / stopped**3,
        rim_shift=config.cat_eye * stopped,
        rim_radius=stopped,
        centre=centre,
        corner_px=float(np.hypot(*config.size)) / 2,
    )
