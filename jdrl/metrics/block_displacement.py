"""Displacement of blocks between a deblurred and a blurred image: a regression that is robust to occlusion.

In a window of twice the block's side the blurred image B is modelled by the output D under isotropic blur,
displaced by d + A x:

    B(x) ~ c(x) + Σ_r a_r(x) (disc_r * D)(x + d + A x)

The weights a_r, one for each disc radius, may be negative; they and the offset c are linear in x, so that the blur may
change in the window. A is a small zoom, rotation or shear. Gauss-Newton finds d.

No convolution explains the light beside an edge of depth: a blurred surface lets the one behind it through. There the
model misfits, and plain least squares turns the misfit into displacement. So each pixel is weighted by the inverse of
the mean squared residual around it (iteratively reweighted least squares); the edges of depth lose their say.

All of it happens at a quarter of the size, after the same low pass of both images: blur leaves little above that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

REACH_PX = 12  # largest displacement of the search, per axis
RADII_PX = (0.0, 1.5, 3.0, 4.5, 6.0, 8.0, 11.0)
STEP = 4  # pixels a sample: both images are reduced before anything else
BLOCK_MULTIPLE_PX = 8  # of a block's side: samples, halves and cells are whole
_LOBES = 4  # of the low pass, on each side, in samples
_CUT_OFF = 0.75  # of the low pass, in units of the Nyquist frequency of samples
_CLEARANCE_PX = 6  # invalid pixels so near change a sample by more than the ripple of the low pass
_MARGIN_PX = 32  # around a window: for the largest disc, the taper and the sub-sample displacement
_TAPER_PX = 16
_MISFIT = 3  # side of the square, in samples, over which the squared residual is averaged
_CELLS = 4  # per side of a window, of the jackknife
_RIDGE = 1e-6
_SLOPES = 6  # regressors of d and A

SEARCH = ((math.inf,),)
"""Damping of the weights, step by step: the share of the median misfit that is added to each misfit."""
REFINEMENT = ((math.inf, 0.1, 0.01), (0.003, 0.001))
"""The same for two rounds; before each round the output is displaced anew."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockDisplacements:
    """Displacements of N blocks.

    Attributes:
        displacement: (N, 2) px, (y, x).
        error: (N,) px, standard error per axis: a jackknife over 16 cells of the window.
        explained: (N,) share of the variance of B in the block that the model explains.
        used: (N,) share of the block's samples that take part.
    """

    displacement: Tensor
    error: Tensor
    explained: Tensor
    used: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Windows about N blocks, in samples: the spectrum of D, (N, S, S/2+1), B, and which samples take part."""

    spectrum: Tensor
    target: Tensor
    used: Tensor
    block: int


def reduce_images(output: Tensor, blurred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reduces both images, (H, W) each, to a sample every `STEP` pixels, and the mask of valid pixels with them.

    A sample is usable where no invalid pixel is near, nor the frame's border, beyond which the light is unknown.
    """
    near = 2 * _CLEARANCE_PX
    usable = -F.max_pool2d(-mask[None, None], near, STEP, _CLEARANCE_PX - STEP // 2)[0, 0]
    return _low_pass(output), _low_pass(blurred), usable


def whole_displacements(a: Tensor, b: Tensor, corners: Tensor, block: int) -> Tensor:
    """The displacements (y, x) in whole samples of the highest correlation within reach, (N, 2) px: a first guess.

    Args:
        a: D of `reduce_images`.
        b: B of `reduce_images`.
        corners: (N, 2) y, x of the blocks, pixels.
        block: Side of the blocks, pixels.
    """
    start, side = (corners - block // 2 - _MARGIN_PX) // STEP, 2 * (block + _MARGIN_PX) // STEP
    reach = REACH_PX // STEP
    window = torch.hann_window(side, periodic=False, device=a.device)
    window = window[:, None] * window
    parts = (_cut_patches(image, start, side) for image in (a, b))
    spectra = [torch.fft.rfft2((part - part.mean((1, 2), keepdim=True)) * window) for part in parts]
    correlation = torch.fft.irfft2(spectra[0] * spectra[1].conj(), s=(side, side))
    near = torch.roll(correlation, (reach, reach), (1, 2))[:, : 2 * reach + 1, : 2 * reach + 1]
    best = near.flatten(1).argmax(1)
    return (torch.stack([best // (2 * reach + 1), best % (2 * reach + 1)], 1) - reach).float() * STEP


def block_displacements(
    images: tuple[Tensor, Tensor, Tensor],
    corners: Tensor,
    start: Tensor,
    block: int,
    plan: Sequence[Sequence[float]] = REFINEMENT,
) -> BlockDisplacements:
    """Refines the displacements of blocks.

    Args:
        images: D, B and the usable samples, of `reduce_images`.
        corners: (N, 2) y, x of the blocks, pixels.
        start: (N, 2) y, x: displacements to begin with, pixels.
        block: Side of the blocks, pixels.
        plan: Damping of the weights, round by round.
    """
    whole = (start / STEP).round()
    fraction = start - whole * STEP
    windows = _cut_windows(images, corners, whole.long(), block)
    weights, kernel = windows.used, None
    for round_ in plan:
        regressors = _regressors(windows, fraction, weights, kernel)
        for damping in round_:
            weights = _reweight(regressors, windows, weights, damping)
        solution = _solve(*_normal_equations(regressors, windows.target.flatten(1), weights.flatten(1)))
        kernel = solution[:, _SLOPES : _SLOPES + len(RADII_PX)]
        fraction = (fraction + solution[:, :2].float().clamp(-2, 2)).clamp(-REACH_PX, REACH_PX)
    explained, share = _explained(windows, _residual(regressors, windows.target, solution))
    return BlockDisplacements(
        whole * STEP + fraction, _jackknife(regressors, windows.target, weights), explained, share
    )


def _cut_windows(images: tuple[Tensor, Tensor, Tensor], corners: Tensor, whole: Tensor, block: int) -> _Windows:
    """Cuts the windows, that of D displaced by whole samples."""
    a, b, usable = images
    start, window, margin = (corners - block // 2) // STEP, 2 * block // STEP, _MARGIN_PX // STEP
    source = _cut_patches(a, start - margin + whole, window + 2 * margin)
    source = (source - source.mean((1, 2), keepdim=True)) * _taper(source.shape[-1], a.device)
    used = _cut_patches(_pad(usable, window), start + window, window)
    used = used * _cut_patches(_pad(_away_from_border(a), window), start + whole + window, window)
    return _Windows(torch.fft.rfft2(source), _cut_patches(b, start, window), used, block)


def _regressors(windows: _Windows, fraction: Tensor, weights: Tensor, kernel: Tensor | None) -> Tensor:
    """(N, K, P): slopes of d and A, then blurred outputs and 1, as they are and times x and y."""
    block, side = windows.block, windows.spectrum.shape[-2]
    inner = slice(_MARGIN_PX // STEP, (_MARGIN_PX + 2 * block) // STEP)
    discs, waves = _disc_spectra(side, fraction.device), _waves(side, fraction.device)
    phase = fraction[:, 0, None, None] * waves[0] + fraction[:, 1, None, None] * waves[1]
    spectrum = windows.spectrum * torch.polar(torch.ones_like(phase), phase)

    def sampled(spectra: Tensor) -> Tensor:
        samples: Tensor = torch.fft.irfft2(spectra, s=(side, side))[..., inner, inner]
        return samples

    blurred = torch.cat([sampled(spectrum[:, None] * discs), torch.ones_like(windows.target)[:, None]], 1)
    if kernel is None:
        kernel = _solve(
            *_normal_equations(blurred.flatten(2), windows.target.flatten(1), weights.flatten(1))
        )[:, : len(RADII_PX)]  # fmt: skip
    transfer = (kernel[..., None, None].float() * discs).sum(1)
    slopes = sampled(torch.stack([spectrum * transfer * 1j * wave for wave in waves], 1))
    count = 2 * block // STEP
    line = (torch.arange(count, device=fraction.device) - (count - 1) / 2) * (4 / count)
    columns = [slopes, slopes * line, slopes * line[:, None], blurred, blurred * line, blurred * line[:, None]]
    return torch.cat(columns, 1).flatten(2)


def _reweight(regressors: Tensor, windows: _Windows, weights: Tensor, damping: float) -> Tensor:
    """Weights of the samples, (N, h, w): the inverse of the mean squared residual around each, damped."""
    if math.isinf(damping):
        return windows.used
    solution = _solve(*_normal_equations(regressors, windows.target.flatten(1), weights.flatten(1)))
    residual = _residual(regressors, windows.target, solution)
    sums = [
        F.avg_pool2d(image[:, None], _MISFIT, 1, _MISFIT // 2)[:, 0]
        for image in (residual.square() * windows.used, windows.used)
    ]
    misfit = sums[0] / sums[1].clamp(min=1e-6)
    median = torch.where(windows.used > 0, misfit, torch.nan).flatten(1).nanmedian(1).values.nan_to_num()
    inverse = windows.used / (misfit + damping * median[:, None, None] + 1e-12)
    return inverse / inverse.mean((1, 2), keepdim=True).clamp(min=1e-30)


def _residual(regressors: Tensor, target: Tensor, solution: Tensor) -> Tensor:
    return target - (solution[:, None].to(regressors) @ regressors)[:, 0].view_as(target)


def _normal_equations(regressors: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix (..., K, K) and the right side (..., K) of weighted least squares, float64."""
    weighted = regressors * weights[..., None, :]
    return (weighted @ regressors.mT).double(), (weighted @ target[..., None])[..., 0].double()


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    scale = matrix.diagonal(dim1=-2, dim2=-1).clamp(min=1e-24).sqrt()
    matrix = matrix / (scale[..., :, None] * scale[..., None, :])
    matrix = matrix + _RIDGE * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    solution: Tensor = torch.linalg.solve(matrix, (right / scale)[..., None])[..., 0] / scale
    return solution


def _jackknife(regressors: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The standard error of d per axis, (N,): by how much it varies when one cell of the window is left out."""
    count, side = len(target), target.shape[-1] // _CELLS

    def cells(image: Tensor) -> Tensor:
        split = image.reshape(*image.shape[:-1], _CELLS, side, _CELLS, side).movedim((-4, -2), (1, 2))
        return split.flatten(-2).flatten(1, 2)

    matrix, right = _normal_equations(cells(regressors), cells(target.flatten(1)), cells(weights.flatten(1)))
    without = _solve(matrix.sum(1, keepdim=True) - matrix, right.sum(1, keepdim=True) - right)[..., :2]
    spread: Tensor = (without - without.mean(1, keepdim=True)).square().sum(1).mean(-1)
    return (spread * (1 - _CELLS**-2)).sqrt().float().view(count)


def _explained(windows: _Windows, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the variance that is explained and of the samples that take part, (N,) each, in the block itself.

    The variance is that of the block's inside, into which the low pass brings nothing from other blocks.
    """
    side = windows.block // STEP
    first, rim = windows.target.shape[-1] // 4, side // 6
    inner = slice(first + rim, first + side - rim)
    target, used, rest = (image[:, inner, inner].double() for image in (windows.target, windows.used, residual))
    mean = (target * used).sum((1, 2)) / used.sum((1, 2)).clamp(min=1)
    variance = ((target - mean[:, None, None]).square() * used).sum((1, 2))
    explained = 1 - (rest.square() * used).sum((1, 2)) / variance.clamp(min=1e-12)
    own = slice(first, first + side)
    return explained.float(), windows.used[:, own, own].mean((1, 2))


def _away_from_border(image: Tensor) -> Tensor:
    """0 where a disc about the pixel extends beyond the frame, where the light is unknown."""
    inside = torch.zeros_like(image)
    rim = math.ceil(RADII_PX[-1] / STEP)
    inside[rim:-rim, rim:-rim] = 1
    return inside


def _pad(image: Tensor, width: int) -> Tensor:
    return F.pad(image[None, None], (width, width, width, width))[0, 0]


def _cut_patches(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cuts patches at (y, x) `corners`, (N, side, side); beyond the frame the border pixel is repeated."""
    steps = torch.arange(side, device=image.device)
    rows = (corners[:, 0, None] + steps).clamp(0, image.shape[0] - 1)
    columns = (corners[:, 1, None] + steps).clamp(0, image.shape[1] - 1)
    return image[rows[:, :, None], columns[:, None, :]]


def _low_pass(image: Tensor) -> Tensor:
    """A sample in the middle of every `STEP` x `STEP` pixels, by a windowed sinc, without aliasing that would move."""
    reach = _LOBES * STEP
    offset = (torch.arange(2 * reach, device=image.device) - reach + 0.5) / STEP
    line = torch.sinc(_CUT_OFF * offset) * torch.sinc(offset / _LOBES)
    line = line / line.sum()
    around = (reach - STEP // 2,) * 4
    wide = F.pad(image[None, None], around, mode="replicate")
    for kernel, stride in ((line[None], (1, STEP)), (line[:, None], (STEP, 1))):
        wide = F.conv2d(wide, kernel[None, None], stride=stride)
    return wide[0, 0]


def _taper(side: int, device: torch.device) -> Tensor:
    """A window of 1 inside that falls to 0 at the rim, so that a patch can be repeated periodically."""
    length = _TAPER_PX // STEP
    rise = torch.sin(0.5 * torch.pi * (torch.arange(length, device=device) + 0.5) / length).square()
    line = torch.ones(side, device=device)
    line[:length], line[side - length :] = rise, rise.flip(0)
    return line[:, None] * line


def _waves(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Radians a pixel along y and x of `rfft2` of samples; 0 at the Nyquist frequency, whose phase is undefined."""
    y = 2 * torch.pi * torch.fft.fftfreq(side, device=device)
    x = 2 * torch.pi * torch.fft.rfftfreq(side, device=device)
    y, x = (torch.where(wave.abs() > 3.1415, 0.0, wave) / STEP for wave in (y, x))
    return y[:, None].expand(side, len(x)), x.expand(side, len(x))


@cache
def _disc_spectra(side: int, device: torch.device) -> Tensor:
    """Transfer functions, (R, S, S/2+1): of the smallest disc, then of each disc less that of the one before.

    They span the same kernels as the discs themselves, which are so alike that float32 cannot tell them apart.
    """
    spectra = torch.stack([_disc_spectrum(radius, side) for radius in RADII_PX])
    return torch.cat([spectra[:1], spectra[1:] - spectra[:-1]]).to(device)


def _disc_spectrum(radius_px: float, side: int) -> Tensor:
    """The transfer function of a uniform disc with antialiased rim at the frequencies of samples; real by symmetry."""
    offset = torch.fft.fftfreq(side * STEP, 1 / (side * STEP))
    distance = (offset[:, None].square() + offset.square()).sqrt()
    disc = (radius_px + 0.5 - distance).clamp(0, 1)
    half = side // 2
    spectrum: Tensor = torch.fft.rfft2(disc / disc.sum()).real
    return torch.cat([spectrum[:half], spectrum[len(spectrum) - half :]])[:, : half + 1]
