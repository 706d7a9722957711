"""Geometry drift: how far a deblurred image lies off the blurred one, blind to the blur between them.

Block by block the blurred image B is explained by the output D, blurred by an unknown isotropic kernel and moved by an
unknown displacement d (here for a block about x = 0; A is a small zoom, turn or shear within it):

    B(x) ~ c + Σ_r a_r (disc_r * D)(x + d + A x)

Discs of several radii span isotropic kernels; their weights a, which may be negative, c, d and A follow from
least squares (Gauss and Newton). An isotropic kernel has no first moment, so only d can move anything: it is
the centroid of the kernel that turns D into B. Whoever deblurs without moving has d = 0. Where a block holds too little
to tell, it abstains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK_PX = 96
REACH_PX = 12  # largest displacement that is looked for, either axis
RADII_PX = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0)
UNSURE_PX = 0.1  # standard error from which on a block abstains
LEAST_USED = 0.5  # share of a block's pixels that must be valid, and away from the frame's border
LEAST_EXPLAINED = 0.5  # share of a block's variance that the moved, blurred output must explain
_MARGIN_PX = 32  # around a block: the largest disc, and room for the taper and for the last fractions of a pixel
_TAPER_PX = 16
_STEPS = 4
_AT_ONCE = 64
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """The displacement of an image, block by block.

    Attributes:
        field: (rows, columns, 2) px, (x, y): the content of D at x + d lies in B at x. NaN where a block abstains.
        block_px: Side of the blocks; the first begins at the frame's first pixel.
    """

    field: NDArray[np.float32]
    block_px: int

    @property
    def lengths_px(self) -> NDArray[np.float32]:
        """The lengths of the known displacements, (N,)."""
        known = self.field[np.isfinite(self.field[..., 0])]
        return np.asarray(np.hypot(known[:, 0], known[:, 1]), dtype=np.float32)

    @property
    def mean_px(self) -> float | None:
        """Their mean; None where every block abstains."""
        return float(self.lengths_px.mean()) if self.lengths_px.size else None

    @property
    def p95_px(self) -> float | None:
        """Their 95th percentile; None where every block abstains."""
        return float(np.percentile(self.lengths_px, 95)) if self.lengths_px.size else None


@torch.no_grad()
def drift(output: Tensor, blurred: Tensor, valid: Tensor | None = None, *, block: int = BLOCK_PX) -> Drift:
    """How far `output` lies off `blurred`; best in linear light, where defocus is a convolution.

    Args:
        output: (1, C, H, W) in [0, 1].
        blurred: (1, C, H, W) in [0, 1].
        valid: (1, 1, H, W); pixels ≤ 0.5 do not count. None: all valid.
        block: Side of the blocks, pixels.

    Returns:
        Its blocks cover the frame but for less than one block at the right and the bottom; an image smaller than
        a block has none.
    """
    a, b = (image[0].float().mean(0) for image in (output, blurred))
    kept = torch.ones_like(b) if valid is None else (valid[0, 0] > 0.5).float()
    rows, columns = (size // block for size in b.shape)
    corners = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(b.device) * block
    found = [_displacements(a, b, kept, part, block) for part in torch.split(corners, _AT_ONCE) if len(part)]
    field = torch.cat(found).cpu() if found else torch.empty(0, 2)
    return Drift(field.view(rows, columns, 2).numpy(), block)


def _displacements(a: Tensor, b: Tensor, kept: Tensor, corners: Tensor, block: int) -> Tensor:
    """(N, 2) of the blocks at `corners` (N, 2: y, x); NaN where one abstains."""
    side = block + 2 * _MARGIN_PX
    taper = _taper(side, a.device)
    discs = _disc_spectra(side, a.device)
    y_wave, x_wave = _waves(side, a.device)
    target = _patches(b, corners, block)
    whole = _first_guess(_patches(a, corners - _MARGIN_PX, side), _patches(b, corners - _MARGIN_PX, side))
    used = _patches(kept, corners, block) * _away_from_border(a.shape, corners + whole, block)
    source = _patches(a, corners - _MARGIN_PX + whole, side)
    source = (source - source.mean((1, 2), keepdim=True)) * taper
    spectrum = torch.fft.rfft2(source)
    rest = torch.zeros_like(corners, dtype=torch.float32)
    inner = slice(_MARGIN_PX, _MARGIN_PX + block)
    # Without A, d would be that of wherever in the block the texture lies.
    line = torch.linspace(-1, 1, block, device=a.device)
    lines = (line, line[:, None])
    error = explained = torch.zeros_like(rest[:, 0])
    for _ in range(_STEPS):
        moved = spectrum * torch.exp(1j * (rest[:, :1, None] * y_wave + rest[:, 1:, None] * x_wave))
        blurred = torch.fft.irfft2(moved[:, None] * discs, s=(side, side))[..., inner, inner]
        weights, _, _ = _solved(blurred, target, used)
        kernel = (weights[..., None, None] * discs).sum(1)
        slopes = torch.stack([moved * kernel * 1j * wave for wave in (y_wave, x_wave)], 1)
        slopes = torch.fft.irfft2(slopes, s=(side, side))[..., inner, inner]
        bent = torch.cat([slopes * line for line in lines], 1)
        solution, variances, explained = _solved(torch.cat([slopes, bent, blurred], 1), target, used)
        rest = (rest + solution[:, :2].clamp(-2, 2)).clamp(-REACH_PX, REACH_PX)
        error = variances[:, :2].amax(1).sqrt()
    found = whole + rest
    sure = (error < UNSURE_PX) & (explained > LEAST_EXPLAINED) & (found.abs().amax(1) < REACH_PX)
    sure &= used.mean((1, 2)) >= LEAST_USED
    return torch.where(sure[:, None], found, torch.nan).flip(1)


def _solved(regressors: Tensor, target: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares of (N, h, w) `target` on (N, K, h, w) and a constant, where (N, h, w) `used` is 1.

    Returns:
        Weights (N, K), their variances (N, K), and the share of the target's variance that is explained (N,).
    """
    keep = used.flatten(1).double()
    count = keep.sum(1, keepdim=True).clamp(min=1)
    columns, right = regressors.flatten(2).double(), target.flatten(1).double()
    columns = (columns - (columns @ keep[..., None]) / count[..., None]) * keep[:, None]
    right = (right - (right * keep).sum(1, keepdim=True) / count) * keep
    normal = columns @ columns.mT
    scale = normal.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
    normal = normal / (scale[:, :, None] * scale[:, None, :])
    normal = normal + _RIDGE * torch.eye(normal.shape[1], dtype=normal.dtype, device=normal.device)
    projected = (columns @ right[..., None])[..., 0] / scale
    inverse = torch.linalg.inv(normal)
    weights = (inverse @ projected[..., None])[..., 0] / scale
    left = (right - (weights[:, None] @ columns)[:, 0]).square().sum(1, keepdim=True)
    variances = left / count * inverse.diagonal(dim1=1, dim2=2) / scale.square()
    explained = 1 - left[:, 0] / right.square().sum(1).clamp(min=1e-12)
    return weights.float(), variances.float(), explained.float()


def _away_from_border(size: Sequence[int], corners: Tensor, block: int) -> Tensor:
    """(N, block, block): 0 where a disc about the pixel reaches beyond the frame, whose light nobody knows."""
    inside = torch.zeros(*size, device=corners.device)
    rim = math.ceil(RADII_PX[-1])
    inside[rim:-rim, rim:-rim] = 1
    return _patches(inside, corners, block)


def _first_guess(a: Tensor, b: Tensor) -> Tensor:
    """(N, 2) whole-pixel (y, x) displacements of the highest correlation within reach."""
    side = a.shape[-1]
    window = torch.hann_window(side, periodic=False, device=a.device)
    window = window[:, None] * window
    spectra = [torch.fft.rfft2((part - part.mean((1, 2), keepdim=True)) * window) for part in (a, b)]
    correlation = torch.fft.irfft2(spectra[0] * spectra[1].conj(), s=(side, side))
    near = torch.roll(correlation, (REACH_PX, REACH_PX), (1, 2))[:, : 2 * REACH_PX + 1, : 2 * REACH_PX + 1]
    best = near.flatten(1).argmax(1)
    return torch.stack([best // (2 * REACH_PX + 1), best % (2 * REACH_PX + 1)], 1) - REACH_PX


def _patches(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """(N, side, side) cut at (y, x) `corners`; beyond the frame the border pixel is repeated."""
    steps = torch.arange(side, device=image.device)
    rows = (corners[:, 0, None] + steps).clamp(0, image.shape[0] - 1)
    columns = (corners[:, 1, None] + steps).clamp(0, image.shape[1] - 1)
    return image[rows[:, :, None], columns[:, None, :]]


def _taper(side: int, device: torch.device) -> Tensor:
    """1 inside, down to 0 at the rim, so that a patch can be repeated periodically."""
    rise = torch.sin(0.5 * torch.pi * (torch.arange(_TAPER_PX, device=device) + 0.5) / _TAPER_PX).square()
    line = torch.ones(side, device=device)
    line[:_TAPER_PX], line[side - _TAPER_PX :] = rise, rise.flip(0)
    return line[:, None] * line


def _waves(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Angular frequencies along y and x of `rfft2`; 0 at Nyquist's, whose phase means nothing."""
    y = 2 * torch.pi * torch.fft.fftfreq(side, device=device)
    x = 2 * torch.pi * torch.fft.rfftfreq(side, device=device)
    y, x = (torch.where(wave.abs() > 3.1415, 0.0, wave) for wave in (y, x))
    return y[:, None].expand(side, len(x)), x.expand(side, len(x))


def _disc_spectra(side: int, device: torch.device) -> Tensor:
    return torch.stack([_disc_spectrum(radius, side) for radius in RADII_PX]).to(device)


@cache
def _disc_spectrum(radius_px: float, side: int) -> Tensor:
    """The transfer function of a uniform disc, drawn with antialiased rim; real, as the disc is symmetric."""
    offset = torch.fft.fftfreq(side, 1 / side)
    distance = (offset[:, None].square() + offset.square()).sqrt()
    disc = (radius_px + 0.5 - distance).clamp(0, 1)
    spectrum: Tensor = torch.fft.rfft2(disc / disc.sum()).real
    return spectrum
