"""Closed-form affine colour fit between two frames of a scene that differ in sharpness and slightly in position."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.image_checks import check_mask, check_same_shape, unit_image

CELL_PX = 16  # means over cells are compared, which change little by defocus or a shift of few pixels
OUTLIER = 20 / 255  # difference after the first fit above which a cell is excluded (Bhat et al., CVPR 2021)
_RIDGE = 1e-3


@torch.no_grad()
def fit_colours(source: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Fits the affine colour map from `source` to `target` by least squares on the means of cells.

    A small ridge keeps undetermined parts, such as the mixing of channels in a grey picture, at the identity.

    Args:
        source: (1, 3, H, W) in [0, 1].
        target: (1, 3, H, W) in [0, 1].
        valid: (1, 1, H, W); cells with a pixel ≤ 0.5 are excluded.

    Returns:
        (3, 4) float64: a 3x3 matrix and an offset; the identity if all cells are excluded.

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: The shapes differ or are others; values are not finite or not about [0, 1].
    """
    source, target = unit_image(source, "source"), unit_image(target, "target")
    check_same_shape(source, target)
    check_mask(valid, source, "valid")
    identity = torch.eye(3, 4, dtype=torch.float64)
    if min(source.shape[-2:]) < CELL_PX:
        return identity
    valid_cells = -F.max_pool2d(-(valid > 0.5).float(), CELL_PX)[0, 0] > 0
    before, after = (F.avg_pool2d(image[0], CELL_PX)[:, valid_cells].double().cpu() for image in (source, target))
    columns = torch.cat([before, torch.ones(1, before.shape[1], dtype=torch.float64)])
    weights = torch.ones(before.shape[1], dtype=torch.float64)
    fitted = identity
    for _ in range(2):
        normal = (columns * weights) @ columns.T + _RIDGE * (1 + weights.sum()) * torch.eye(4, dtype=torch.float64)
        change = ((after - before) * weights) @ columns.T
        fitted = identity + torch.linalg.solve(normal, change.T).T
        weights = ((fitted @ columns - after).abs().amax(0) <= OUTLIER).double()
    return fitted


def match_colours(image: Tensor, matrix: Tensor) -> Tensor:
    """Maps the colours of `image`, (B, 3, H, W), by `matrix`, (3, 4), and clips to [0, 1].

    Raises:
        TypeError: As of `fit_colours`.
        ValueError: As of `fit_colours`.
    """
    image = unit_image(image, "image")
    weights = matrix.to(image)
    return F.conv2d(image, weights[:, :3, None, None], weights[:, 3]).clamp_(0, 1)
