"""The blur of a pair, block by block: the radius of the disc that turns its sharp frame into its blurred one.

It is estimated from the pair alone, so it favours no method. In a window of twice a block's side the blurred frame is
modelled as gain times the sharp frame under a disc, plus an offset; the disc that leaves the smallest residual counts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.image_checks import check_mask, check_same_shape, unit_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_PX = 32
RADII_PX = (0.0, 0.75, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 10.0, 12.0, 14.0, 17.0, 20.0)
MIN_EXPLAINED = 0.5  # share of a window's variance that its disc must explain
MIN_CONTRAST = 3.0  # ratio of the largest to the smallest residual: without detail all discs fit alike
MIN_VALID = 0.5  # share of a window's pixels
_CELL_PX = BLOCK_PX // 2
_MARGIN_PX = 24


@torch.no_grad()
def block_blur_radius(sharp: Tensor, blurred: Tensor, valid: Tensor) -> NDArray[np.float32]:
    """Estimates the blur of every block; best in linear light, where defocus is a convolution.

    Args:
        sharp: (1, C, H, W) in [0, 1], aligned with `blurred`.
        blurred: (1, C, H, W) in [0, 1].
        valid: (1, 1, H, W); pixels ≤ 0.5 are excluded.

    Returns:
        (rows, columns) px, blocks from the top left, the last ones cut off by the frame: 0 in focus, at most 20; NaN
        where there is too little detail to tell, no disc explains the blurred frame, or pixels are invalid.

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: The shapes differ or are others; values are not finite or not about [0, 1].
    """
    sharp, blurred = unit_image(sharp, "sharp"), unit_image(blurred, "blurred")
    check_same_shape(sharp, blurred)
    check_mask(valid, blurred, "valid")
    a, b = (image[0].float().mean(0) for image in (sharp, blurred))
    a, b = a - b.mean(), b - b.mean()
    height, width = b.shape
    bottom, right = -height % BLOCK_PX, -width % BLOCK_PX
    outer = (_MARGIN_PX, _MARGIN_PX + right, _MARGIN_PX, _MARGIN_PX + bottom)
    spectrum = torch.fft.rfft2(F.pad(a[None, None], outer, mode="replicate")[0, 0])
    target, scored = (F.pad(image, (0, right, 0, bottom)) for image in (b, (valid[0, 0] > 0.5).float()))
    count = _window_means(scored)
    mean = _window_means(target * scored) / count.clamp(min=1e-6)
    variance = _window_means(target.square() * scored) / count.clamp(min=1e-6) - mean.square()
    side = (height + bottom + 2 * _MARGIN_PX, width + right + 2 * _MARGIN_PX)
    residuals = []
    for radius_px in RADII_PX:
        model = torch.fft.irfft2(spectrum * _disc_spectrum(radius_px, side).to(b.device), s=side)
        model = model[_MARGIN_PX : _MARGIN_PX + len(target), _MARGIN_PX : _MARGIN_PX + target.shape[1]]
        residuals.append(variance - _explained(model, target, scored, (count, mean)))
    stack = torch.stack(residuals).clamp(min=1e-9)
    best, index = stack.min(0)
    told = (best < (1 - MIN_EXPLAINED) * variance) & (stack.amax(0) > MIN_CONTRAST * best) & (count >= MIN_VALID)
    radius = torch.tensor(RADII_PX, device=b.device)[index].where(told, torch.nan)
    return np.asarray(radius.cpu().numpy(), dtype=np.float32)


def _explained(model: Tensor, target: Tensor, scored: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
    """The variance of the target that gain and offset of the model explain, window by window."""
    count, mean = moments
    share = count.clamp(min=1e-6)
    middle = _window_means(model * scored) / share
    spread = _window_means(model.square() * scored) / share - middle.square()
    covariance = _window_means(model * target * scored) / share - middle * mean
    return covariance.clamp(min=0).square() / spread.clamp(min=1e-12)


def _window_means(image: Tensor) -> Tensor:
    """Means over windows of twice a block's side around each block; nothing beyond the frame counts."""
    cells = F.avg_pool2d(image[None, None], _CELL_PX).double()
    return F.avg_pool2d(cells, 4, 2, 1, count_include_pad=False)[0, 0]


@lru_cache(maxsize=len(RADII_PX))
def _disc_spectrum(radius_px: float, side: tuple[int, int]) -> Tensor:
    """The transfer function of a uniform disc with antialiased rim; real, because the disc is symmetric."""
    y, x = (torch.fft.fftfreq(length, 1 / length) for length in side)
    disc = (radius_px + 0.5 - (y[:, None].square() + x.square()).sqrt()).clamp(0, 1)
    spectrum: Tensor = torch.fft.rfft2(disc / disc.sum()).real
    return spectrum
