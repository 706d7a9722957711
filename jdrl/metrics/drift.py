"""Geometry drift: the displacement of a deblurred image against the blurred one, independent of the blur.

Block by block the blurred image B is modelled by the output D, blurred by an unknown isotropic kernel and displaced by
an unknown d (here for a block about x = 0; A is a small zoom, rotation or shear within it):

    B(x) ~ c + Σ_r a_r (disc_r * D)(x + d + A x)

Discs of several radii span isotropic kernels; their weights a, which may be negative, c, d and A follow from
least squares (Gauss-Newton). An isotropic kernel has no first moment, so only d translates: it is the centroid of the
kernel that turns D into B, and zero for an output that is only sharper. A block with too little texture abstains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jdrl.image_checks import check_mask, check_same_shape, unit_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK_PX = 96
REACH_PX = 12  # largest displacement of the search, per axis
RADII_PX = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0)
MAX_ERROR_PX = 0.1  # standard error above which a block abstains
MIN_USED = 0.5  # share of a block's pixels that must be valid, and away from the frame's border
MIN_EXPLAINED = 0.5  # share of a block's variance that the moved, blurred output must explain
_MARGIN_PX = 32  # around a block: for the largest disc, the taper and the sub-pixel displacement
_TAPER_PX = 16
_STEPS = 4
_BLOCKS_PER_BATCH = 64
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """The displacement of an image, block by block.

    Attributes:
        field: (rows, columns, 2) px, (x, y): content of D at x + d is at x in B. NaN where a block abstains.
    """

    field: NDArray[np.float32]

    @property
    def lengths_px(self) -> NDArray[np.float32]:
        """The lengths of the estimated displacements, (N,)."""
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
def estimate_drift(output: Tensor, blurred: Tensor, valid: Tensor | None = None, *, block: int = BLOCK_PX) -> Drift:
    """Estimates the drift of `output` against `blurred`; best in linear light, where defocus is a convolution.

    Args:
        output: (1, C, H, W) in [0, 1].
        blurred: (1, C, H, W) in [0, 1].
        valid: (1, 1, H, W); pixels ≤ 0.5 are excluded. None: all are valid.
        block: Side of the blocks, pixels.

    Returns:
        The displacements of blocks that tile the frame from the top left; an image smaller than a block has none.

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: The shapes differ or are others, a batch is larger than one; values are not finite or not about
            [0, 1].
    """
    output, blurred = unit_image(output, "output"), unit_image(blurred, "blurred")
    check_same_shape(output, blurred)
    if len(output) != 1:
        raise ValueError(f"one image expected, not a batch of {len(output)}")
    if valid is not None:
        check_mask(valid, blurred, "valid")
        valid = valid.expand(1, 1, *blurred.shape[-2:])
    a, b = (image[0].float().mean(0) for image in (output, blurred))
    mask = torch.ones_like(b) if valid is None else (valid[0, 0] > 0.5).float()
    rows, columns = (size // block for size in b.shape)
    corners = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(b.device) * block
    displacements = [
        _estimate_displacements(a, b, mask, batch, block)
        for batch in torch.split(corners, _BLOCKS_PER_BATCH)
        if len(batch)
    ]
    field = torch.cat(displacements).cpu() if displacements else torch.empty(0, 2)
    return Drift(field.view(rows, columns, 2).numpy())


def _estimate_displacements(a: Tensor, b: Tensor, mask: Tensor, corners: Tensor, block: int) -> Tensor:
    """The displacements, (N, 2), of the blocks at `corners` (N, 2: y, x); NaN where a block abstains."""
    side = block + 2 * _MARGIN_PX
    taper = _taper(side, a.device)
    discs = _disc_spectra(side, a.device)
    y_wave, x_wave = _waves(side, a.device)
    target = _cut_patches(b, corners, block)
    whole = _first_guess(_cut_patches(a, corners - _MARGIN_PX, side), _cut_patches(b, corners - _MARGIN_PX, side))
    used = _cut_patches(mask, corners, block) * _away_from_border(a.shape, corners + whole, block)
    source = _cut_patches(a, corners - _MARGIN_PX + whole, side)
    source = (source - source.mean((1, 2), keepdim=True)) * taper
    spectrum = torch.fft.rfft2(source)
    fraction = torch.zeros_like(corners, dtype=torch.float32)
    inner = slice(_MARGIN_PX, _MARGIN_PX + block)
    # Without A, d would be that of the textured part of the block.
    line = torch.linspace(-1, 1, block, device=a.device)
    lines = (line, line[:, None])
    error = explained = torch.zeros_like(fraction[:, 0])
    for _ in range(_STEPS):
        shifted = spectrum * torch.exp(1j * (fraction[:, :1, None] * y_wave + fraction[:, 1:, None] * x_wave))
        blurred = torch.fft.irfft2(shifted[:, None] * discs, s=(side, side))[..., inner, inner]
        weights, _, _ = _least_squares(blurred, target, used)
        kernel = (weights[..., None, None] * discs).sum(1)
        slopes = torch.stack([shifted * kernel * 1j * wave for wave in (y_wave, x_wave)], 1)
        slopes = torch.fft.irfft2(slopes, s=(side, side))[..., inner, inner]
        affine = torch.cat([slopes * line for line in lines], 1)
        solution, variances, explained = _least_squares(torch.cat([slopes, affine, blurred], 1), target, used)
        fraction = (fraction + solution[:, :2].clamp(-2, 2)).clamp(-REACH_PX, REACH_PX)
        error = variances[:, :2].amax(1).sqrt()
    displacement = whole + fraction
    reliable = (error < MAX_ERROR_PX) & (explained > MIN_EXPLAINED) & (displacement.abs().amax(1) < REACH_PX)
    reliable &= used.mean((1, 2)) >= MIN_USED
    return torch.where(reliable[:, None], displacement, torch.nan).flip(1)


def _least_squares(regressors: Tensor, target: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    residual = (right - (weights[:, None] @ columns)[:, 0]).square().sum(1, keepdim=True)
    variances = residual / count * inverse.diagonal(dim1=1, dim2=2) / scale.square()
    explained = 1 - residual[:, 0] / right.square().sum(1).clamp(min=1e-12)
    return weights.float(), variances.float(), explained.float()


def _away_from_border(size: Sequence[int], corners: Tensor, block: int) -> Tensor:
    """(N, block, block): 0 where a disc about the pixel extends beyond the frame, where the light is unknown."""
    inside = torch.zeros(*size, device=corners.device)
    rim = math.ceil(RADII_PX[-1])
    inside[rim:-rim, rim:-rim] = 1
    return _cut_patches(inside, corners, block)


def _first_guess(a: Tensor, b: Tensor) -> Tensor:
    """The whole-pixel displacements (y, x) of the highest correlation within reach, (N, 2)."""
    side = a.shape[-1]
    window = torch.hann_window(side, periodic=False, device=a.device)
    window = window[:, None] * window
    spectra = [torch.fft.rfft2((part - part.mean((1, 2), keepdim=True)) * window) for part in (a, b)]
    correlation = torch.fft.irfft2(spectra[0] * spectra[1].conj(), s=(side, side))
    near = torch.roll(correlation, (REACH_PX, REACH_PX), (1, 2))[:, : 2 * REACH_PX + 1, : 2 * REACH_PX + 1]
    best = near.flatten(1).argmax(1)
    return torch.stack([best // (2 * REACH_PX + 1), best % (2 * REACH_PX + 1)], 1) - REACH_PX


def _cut_patches(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cuts patches at (y, x) `corners`, (N, side, side); beyond the frame the border pixel is repeated."""
    steps = torch.arange(side, device=image.device)
    rows = (corners[:, 0, None] + steps).clamp(0, image.shape[0] - 1)
    columns = (corners[:, 1, None] + steps).clamp(0, image.shape[1] - 1)
    return image[rows[:, :, None], columns[:, None, :]]


def _taper(side: int, device: torch.device) -> Tensor:
    """A window of 1 inside that falls to 0 at the rim, so that a patch can be repeated periodically."""
    rise = torch.sin(0.5 * torch.pi * (torch.arange(_TAPER_PX, device=device) + 0.5) / _TAPER_PX).square()
    line = torch.ones(side, device=device)
    line[:_TAPER_PX], line[side - _TAPER_PX :] = rise, rise.flip(0)
    return line[:, None] * line


def _waves(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Angular frequencies along y and x of `rfft2`; 0 at the Nyquist frequency, whose phase is undefined."""
    y = 2 * torch.pi * torch.fft.fftfreq(side, device=device)
    x = 2 * torch.pi * torch.fft.rfftfreq(side, device=device)
    y, x = (torch.where(wave.abs() > 3.1415, 0.0, wave) for wave in (y, x))
    return y[:, None].expand(side, len(x)), x.expand(side, len(x))


def _disc_spectra(side: int, device: torch.device) -> Tensor:
    return torch.stack([_disc_spectrum(radius, side) for radius in RADII_PX]).to(device)


@cache
def _disc_spectrum(radius_px: float, side: int) -> Tensor:
    """The transfer function of a uniform disc with antialiased rim; real, because the disc is symmetric."""
    offset = torch.fft.fftfreq(side, 1 / side)
    distance = (offset[:, None].square() + offset.square()).sqrt()
    disc = (radius_px + 0.5 - distance).clamp(0, 1)
    spectrum: Tensor = torch.fft.rfft2(disc / disc.sum()).real
    return spectrum
