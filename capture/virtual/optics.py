"""Blur kernels of a lens at one aperture, for every radius and every position on the canvas."""

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
    """A lens at one aperture.

    >>> Optics().kernel(1.5).shape
    (3, 3)

    Attributes:
        pupil: The pupil seen from the centre of the frame.
        aberration_px: Spherical aberration, see `kernels`.
        rim_shift: Shift of the barrel's rim for the corners of the frame, in radii of this opening.
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
        """Whether the kernels are plain discs everywhere."""
        return self.pupil.is_round and self.aberration_px == 0 and not self.varies_over_frame

    @property
    def varies_over_frame(self) -> bool:
        """Whether the shape of the kernels depends on the position in the frame."""
        return self.rim_shift + 1 > self.rim_radius + 1e-9

    @property
    def spacing_px(self) -> float:
        """Distance of the nodes between which kernels are interpolated."""
        return 2 * self.corner_px / _FIELD_STEPS

    def kernel(self, radius_px: float, position: tuple[float, float] | None = None) -> NDArray[np.float32]:
        """The image of a point at canvas pixel `position` (x, y), the centre if None; sums to one.

        Discs are exact. Other shapes are interpolated linearly between neighbours an eighth of a pixel of radius apart
        (from 8 px on, a sixty-fourth of it or less), and between the four nodes of a grid around `position`.
        """
        if self.is_plain_disc:
            return disc_kernel(abs(float(radius_px)))
        step_px = _RADIUS_STEP_PX * 2.0 ** max(0, np.floor(np.log2(max(abs(radius_px), 1.0) / 8)) + 1)
        steps = radius_px / step_px
        low = int(np.floor(steps))
        parts = [
            (share * part, pupil_kernel((low + step) * step_px, pupil, self.aberration_px))
            for step, part in ((0, 1 - (steps - low)), (1, steps - low))
            for share, pupil in self._pupils(position)
            if share * part > 0
        ]
        side = max(kernel.shape[0] for _, kernel in parts)
        total = np.zeros((side, side), np.float32)
        for share, kernel in parts:
            edge = (side - kernel.shape[0]) // 2
            total[edge : side - edge, edge : side - edge] += np.float32(share) * kernel
        return total

    def pupil_at(self, column: int, row: int) -> Pupil:
        """The pupil seen from a node of the grid, counted from the centre of the frame."""
        # The rim is in front of the pupil: off-axis points beyond the focus lose their outer side.
        shift = -self.rim_shift * self.spacing_px / self.corner_px
        return Pupil(
            blades=self.pupil.blades,
            roundness=self.pupil.roundness,
            turn_deg=self.pupil.turn_deg,
            rim_x=shift * column,
            rim_y=shift * row,
            rim_radius=self.rim_radius,
        )

    def _pupils(self, position: tuple[float, float] | None) -> list[tuple[float, Pupil]]:
        """The pupils to interpolate at `position`, each with its weight."""
        if position is None or not self.varies_over_frame:
            return [(1.0, self.pupil_at(0, 0) if self.varies_over_frame else self.pupil)]
        x, y = ((at - middle) / self.spacing_px for at, middle in zip(position, self.centre, strict=True))
        column, row = int(np.floor(x)), int(np.floor(y))
        across, down = x - column, y - row
        return [
            ((1 - across) * (1 - down), self.pupil_at(column, row)),
            (across * (1 - down), self.pupil_at(column + 1, row)),
            ((1 - across) * down, self.pupil_at(column, row + 1)),
            (across * down, self.pupil_at(column + 1, row + 1)),
        ]

    def light(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """(H, W): the fraction of light that the rim admits to each pixel of a frame; the true sum of its kernels."""
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
    """Distances from the centre, 1 at the corner, and the fraction of light that passes there."""
    at = np.linspace(0.0, 1.2, _FIELD_SAMPLES)
    # The mean over directions: the loss of a polygon depends a little on the direction.
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
        f_number: Aperture; wide open, the diaphragm's blades are outside the pupil.
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
