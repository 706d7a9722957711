"""A closed-form colour fit between two frames of one scene that differ in sharpness and a little in position."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CELL_PX = 16  # what is compared: means over cells, which neither defocus nor a few pixels of shift change much
OUTLIER = 20 / 255  # difference after the first fit from which on a cell does not count (Bhat et al., CVPR 2021)
_RIDGE = 1e-3


@torch.no_grad()
def colour_fit(source: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The affine map of colours that brings `source` to `target`, by least squares on low-passed content.

    What the cells do not determine, such as the mixing of channels in a grey picture, stays the identity's.

    Args:
        source: (1, 3, H, W) in [0, 1].
        target: (1, 3, H, W) in [0, 1].
        valid: (1, 1, H, W); cells with a pixel ≤ 0.5 do not count.

    Returns:
        (3, 4) float64: a 3x3 matrix and an offset; the identity where no cell counts.
    """
    identity = torch.eye(3, 4, dtype=torch.float64)
    if min(source.shape[-2:]) < CELL_PX:
        return identity
    kept = -F.max_pool2d(-(valid > 0.5).float(), CELL_PX)[0, 0] > 0
    before, after = (F.avg_pool2d(image[0], CELL_PX)[:, kept].double().cpu() for image in (source, target))
    columns = torch.cat([before, torch.ones(1, before.shape[1], dtype=torch.float64)])
    counts = torch.ones(before.shape[1], dtype=torch.float64)
    fitted = identity
    for _ in range(2):
        normal = (columns * counts) @ columns.T + _RIDGE * (1 + counts.sum()) * torch.eye(4, dtype=torch.float64)
        change = ((after - before) * counts) @ columns.T
        fitted = identity + torch.linalg.solve(normal, change.T).T
        counts = ((fitted @ columns - after).abs().amax(0) <= OUTLIER).double()
    return fitted


def match_colours(image: Tensor, matrix: Tensor) -> Tensor:
    """(B, 3, H, W) `image` with its colours mapped by (3, 4) `matrix`, within [0, 1]."""
    weights = matrix.to(image)
    return F.conv2d(image, weights[:, :3, None, None], weights[:, 3]).clamp_(0, 1)
