"""Bases of blur kernels: hats, discs, rings, the square-cornered planes of the published code, and free kernels.

A pixel's kernel is k(o) = Σ_k a_k P_k(o) on the offsets |x|, |y| ≤ R, with non-negative weights a_k that sum to one.
Every plane P_k is non-negative, sums to one and is invariant under the eight symmetries of the square, and so is every
kernel: its first moment is zero, so it cannot translate the image. P_0 is the delta. Only `free` is otherwise: one
plane an offset, for the ablation of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jdrl.config import BasisName

LARGEST_RADIUS_PX = 16
OFFICIAL_RADIUS_PX = 7


@dataclass(frozen=True, slots=True)
class Basis:
    """The name of a family of planes and its radius.

    `hats`: H_r(o) = max(0, 1 - ||o| - r|) on the disc |o| ≤ R, r = 0 … R. `discs`: uniform discs of radius 0, 0.5, 1,
    1.5, 2, 3 … R. `rings`: the offsets of one length, every length up to R. `official`: the rings up to 7, then for
    every square of 3, 5 … 15 px the offsets beyond its disc. `free`: every offset of the square by itself, from the
    top left.

    Attributes:
        name: The family.
        radius_px: R, the largest radius, at most 16; `official` has 7.

    Raises:
        ValueError: There is no such basis.
    """

    name: BasisName
    radius_px: int

    def __post_init__(self) -> None:
        if self.name not in _TABLES or not 0 <= self.radius_px <= LARGEST_RADIUS_PX:
            raise ValueError(f"no basis {self.name!r} of radius {self.radius_px} px")
        if self.name == "official" and self.radius_px != OFFICIAL_RADIUS_PX:
            raise ValueError(f"the official basis has radius {OFFICIAL_RADIUS_PX} px, not {self.radius_px}")

    @property
    def padding(self) -> str:
        """Padding mode of the image, as named by `torch.nn.functional.pad`."""
        return "constant" if self.name == "official" else "replicate"


@cache
@torch.inference_mode(False)
def planes(basis: Basis) -> Tensor:
    """The planes of a basis, (K, 2R + 1, 2R + 1) float64 on the CPU; cached, so not to be changed.

    Example:
        >>> planes(Basis("hats", 3)).shape
        torch.Size([4, 7, 7])
        >>> planes(Basis("hats", 3)).sum((1, 2)).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    squared = squared_distance(basis.radius_px)
    table = _TABLES[basis.name](basis.radius_px, squared)
    return table / table.sum((1, 2), keepdim=True)


@cache
def find_basis(name: BasisName, count: int) -> Basis:
    """Finds the basis of a family with `count` planes.

    Raises:
        ValueError: There is none.
    """
    radii = (OFFICIAL_RADIUS_PX,) if name == "official" else range(LARGEST_RADIUS_PX + 1)
    for basis in (Basis(name, radius) for radius in radii):
        if len(planes(basis)) == count:
            return basis
    raise ValueError(f"no basis {name!r} has {count} planes")


@cache
@torch.inference_mode(False)
def second_moments(basis: Basis) -> Tensor:
    """(K,) float64: the mean of |o|² under every plane, px²."""
    return (planes(basis) * squared_distance(basis.radius_px)).sum((1, 2))


@dataclass(frozen=True, slots=True)
class Ring:
    """Offsets (y, x) at which every plane has one value, and the planes with a value there, (index, value)."""

    offsets: tuple[tuple[int, int], ...]
    planes: tuple[tuple[int, float], ...]


@cache
def rings(basis: Basis) -> tuple[Ring, ...]:
    """Groups offsets of equal kernel value: blurring needs one product for each ring."""
    radius = basis.radius_px
    columns = planes(basis).permute(1, 2, 0).tolist()
    offsets: dict[tuple[float, ...], list[tuple[int, int]]] = {}
    for y, x in product(range(-radius, radius + 1), repeat=2):
        offsets.setdefault(tuple(columns[y + radius][x + radius]), []).append((y, x))
    return tuple(
        Ring(tuple(ring), tuple((plane, height) for plane, height in enumerate(column) if height > 0))
        for column, ring in offsets.items()
        if any(column)
    )


def squared_distance(radius_px: int) -> Tensor:
    """|o|² of every offset, (2R + 1, 2R + 1) float64, px²."""
    offset = torch.arange(-radius_px, radius_px + 1, dtype=torch.float64, device="cpu")
    return offset.view(-1, 1).square() + offset.square()


def ring_lengths_px2(radius_px: int) -> list[int]:
    """The squared lengths |o|² ≤ R² that occur, ascending: 24 of them at R = 7."""
    squared = squared_distance(radius_px)
    return sorted({int(length) for length in squared.flatten().tolist() if length <= radius_px**2})


def _hats(radius_px: int, squared: Tensor) -> Tensor:
    distance = squared.sqrt()
    radii = torch.arange(radius_px + 1, dtype=torch.float64, device="cpu").view(-1, 1, 1)
    return (1 - (distance - radii).abs()).clamp(min=0) * (squared <= radius_px**2)


def _discs(radius_px: int, squared: Tensor) -> Tensor:
    radii = [radius for radius in (0.0, 0.5, 1.0, 1.5, *map(float, range(2, radius_px + 1))) if radius <= radius_px]
    return torch.stack([_disc(radius, squared) for radius in radii])


def _disc(radius_px: float, squared: Tensor) -> Tensor:
    """A disc with an edge of one pixel, placed so that its second moment is that of the exact disc, ρ²/2.

    Both frames are integrated over the pixels already; the kernel between them must not integrate again.
    """
    distance, low, high = squared.sqrt(), 0.0, radius_px + 1.0
    for _ in range(60):
        edge = 0.5 * (low + high)
        disc = (edge + 0.5 - distance).clamp(0, 1)
        narrow = bool((disc * squared).sum() < 0.5 * radius_px**2 * disc.sum())
        low, high = (edge, high) if narrow else (low, edge)
    return disc


def _rings(radius_px: int, squared: Tensor) -> Tensor:
    return torch.stack([(squared == length).double() for length in ring_lengths_px2(radius_px)])


def _official(radius_px: int, squared: Tensor) -> Tensor:
    offset = torch.arange(-radius_px, radius_px + 1, dtype=torch.float64, device="cpu").abs()
    square = torch.maximum(offset.view(-1, 1), offset)
    corners = [((square <= radius) & (squared > radius**2)).double() for radius in range(1, radius_px + 1)]
    return torch.cat([_rings(radius_px, squared), torch.stack(corners)])


def _free(radius_px: int, squared: Tensor) -> Tensor:
    side = 2 * radius_px + 1
    return torch.eye(side**2, dtype=torch.float64, device="cpu").view(-1, side, side)


_TABLES = {"hats": _hats, "discs": _discs, "rings": _rings, "official": _official, "free": _free}
