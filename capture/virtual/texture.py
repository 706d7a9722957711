"""Two-coloured textures with detail down to about three pixels: noise, grain, stripes, checks, dots and wood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 512
_TEXTURES = 18
_APERIODIC = (0, 1, 4)
_MAKERS = 6


def draw_palettes(count: int, rng: np.random.Generator, least_contrast: float = 0.35) -> NDArray[np.float32]:
    """(count, 2, 3) linear sRGB: random pairs of related colours, log-normal in luminance, of any hue."""
    luminance = np.clip(0.18 * np.exp(0.7 * rng.standard_normal((count, 1))), 0.03, 0.7)
    hue = rng.standard_normal((count, 3))
    hue -= hue.mean(axis=1, keepdims=True)
    tint = rng.uniform(0.1, 0.75, (count, 1)) * hue / np.maximum(np.abs(hue).max(axis=1, keepdims=True), 1e-6)
    contrast = np.where(rng.random((count, 1)) < 0.5, -1, 1) * rng.uniform(least_contrast, 1.2, (count, 1))
    second = luminance * np.exp(contrast) * (1 + tint * rng.uniform(-0.6, 1.0, (count, 1)))
    both = np.clip(np.stack([luminance * (1 + tint), second], axis=1), 0.004, 0.95)
    return np.asarray(both, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Appearance:
    """Texture and shading of a surface.

    Attributes:
        number: Number of the texture.
        row: First row of the surface on it.
        column: First column.
        shading: (across, down) change of the light from edge to edge.
    """

    number: int
    row: int
    column: int
    shading: tuple[float, float]


def draw_appearance(rng: np.random.Generator, *, aperiodic: bool = False) -> Appearance:
    """Draws the appearance of a surface at random.

    Args:
        rng: Random generator.
        aperiodic: Only textures without a period, so that every displacement is visible.
    """
    number, row, column = rng.integers(0, (_TEXTURES, _TILE, _TILE)).tolist()
    across, down = rng.uniform(-0.4, 0.4, 2).tolist()
    return Appearance(_APERIODIC[number % 3] if aperiodic else number, row, column, (across, down))


def paint_two_tones(
    coverage: NDArray[np.float32], tones: NDArray[np.float32], appearance: Appearance
) -> NDArray[np.float32]:
    """(h, w, 4) linear sRGB times alpha, and alpha: two colours mixed by a texture, with a slight shading across.

    Args:
        coverage: (h, w) alpha.
        tones: (2, 3) colours, see `draw_palettes`.
        appearance: Texture, position on it and shading.
    """
    height, width = coverage.shape
    mix = _crop_periodic(_texture_tiles()[appearance.number], appearance.row, appearance.column, (height, width))
    across, down = appearance.shading
    along = (np.arange(width) * (across / width) + (1 - across / 2)).astype(np.float32)
    below = (np.arange(height) * (down / height) - down / 2).astype(np.float32)
    light = (along[None, :] + below[:, None]) * coverage
    planes = [
        (mix * np.float32(second - first) + np.float32(first)) * light
        for first, second in zip(*tones.tolist(), strict=True)
    ]
    return np.asarray(cv2.merge([*planes, coverage]), dtype=np.float32)


def _crop_periodic(tile: NDArray[np.float32], row: int, column: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """A (height, width) crop of the periodic continuation of `tile`."""
    if row + size[0] <= _TILE and column + size[1] <= _TILE:
        return tile[row : row + size[0], column : column + size[1]]
    rows, columns = np.arange(row, row + size[0]) % _TILE, np.arange(column, column + size[1]) % _TILE
    return np.take(tile[rows], columns, axis=1)


@lru_cache(maxsize=1)
def _texture_tiles() -> tuple[NDArray[np.float32], ...]:
    """Periodic tiles with values 0 … 1, the same in every process."""
    rng = np.random.default_rng(20210)
    makers = (_fractal, _grain, _stripes, _checks, _dots, _wood)
    return tuple(makers[number % _MAKERS](rng) for number in range(_TEXTURES))


def _noise(rng: np.random.Generator, exponent: float, finest_px: float) -> NDArray[np.float64]:
    """Periodic noise of amplitude 1/frequency^exponent, unit variance, nothing finer than `finest_px`."""
    frequency = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None, :])
    gain = np.maximum(frequency, 1 / _TILE) ** -exponent * np.exp(-((frequency * finest_px) ** 4))
    gain[0, 0] = 0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) * gain, s=(_TILE, _TILE))
    return np.asarray(field / field.std(), dtype=np.float64)


def _to_unit_range(field: NDArray[np.float64], softness: float = 0.5) -> NDArray[np.float32]:
    return np.asarray(0.5 + 0.5 * np.tanh(field / (2 * softness)), dtype=np.float32)


def _fractal(rng: np.random.Generator) -> NDArray[np.float32]:
    return _to_unit_range(_noise(rng, rng.uniform(0.8, 1.3), 2.5))


def _grain(rng: np.random.Generator) -> NDArray[np.float32]:
    return _to_unit_range(_noise(rng, 0.0, rng.uniform(2.5, 5.0)) + 0.5 * _noise(rng, 1.2, 8.0))


def _wave(rng: np.random.Generator, period_px: float, warp: float = 0.0) -> NDArray[np.float64]:
    """A plane wave of whole cycles, so that the tile stays periodic."""
    angle = rng.uniform(0, np.pi)
    x, y = np.meshgrid(np.arange(_TILE), np.arange(_TILE))
    cycles_x = round(_TILE / period_px * np.cos(angle))
    cycles_y = round(_TILE / period_px * np.sin(angle))
    phase = 2 * np.pi * (cycles_x * x + cycles_y * y) / _TILE
    return np.asarray(np.sin(phase + warp * _noise(rng, 1.8, 16.0)), dtype=np.float64)


def _stripes(rng: np.random.Generator) -> NDArray[np.float32]:
    return _to_unit_range(_wave(rng, rng.uniform(5, 14)) + 0.15 * _noise(rng, 0.5, 3.0), 0.25)


def _checks(rng: np.random.Generator) -> NDArray[np.float32]:
    period = rng.uniform(7, 16)
    return _to_unit_range(_wave(rng, period) * _wave(rng, period) + 0.15 * _noise(rng, 0.5, 3.0), 0.15)


def _dots(rng: np.random.Generator) -> NDArray[np.float32]:
    spots = _noise(rng, -1.0, rng.uniform(5, 9))
    return _to_unit_range(
        cv2.GaussianBlur((spots > 1.1).astype(np.float64), (0, 0), 0.7) * 4 - 1 + 0.2 * _noise(rng, 0.7, 3.0)
    )


def _wood(rng: np.random.Generator) -> NDArray[np.float32]:
    return _to_unit_range(_wave(rng, rng.uniform(7, 18), warp=2.5) + 0.3 * _noise(rng, 0.5, 3.0), 0.35)
