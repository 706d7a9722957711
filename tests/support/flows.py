"""Flow fields and textured scenes for tests of optical flow."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def textured_scene(size: int = 160) -> Tensor:
    """(1, 3, size, size) in [0, 1], with texture at several scales, as in a photograph."""
    generator = torch.Generator().manual_seed(3)
    image = torch.zeros(1, 3, size, size)
    for grid in (10, 20, 40, 80):
        noise = torch.rand(1, 3, grid, grid, generator=generator)
        image += (20 / grid) * F.interpolate(noise, size=size, mode="bicubic", align_corners=False)
    return (image - image.min()) / (image.max() - image.min())


def constant_flow(x: float, y: float, size: tuple[int, int]) -> Tensor:
    """(1, 2, H, W) of one vector, pixels."""
    return torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(1, 2, *size).clone()


def zoom_flow(zoom: float, size: int) -> Tensor:
    """(1, 2, size, size) of a zoom about the centre, pixels."""
    return zoom_and_shift(size, zoom, 0.0, 0.0)


def zoom_and_shift(size: int, zoom: float, x: float, y: float) -> Tensor:
    """(1, 2, size, size) of a zoom about the centre and a shift, pixels."""
    from_centre = (torch.arange(size) - (size - 1) / 2) * (zoom - 1)
    return torch.stack([from_centre.expand(size, size) + x, from_centre[:, None].expand(size, size) + y]).unsqueeze(0)


def zero_flow(first: Tensor, second: Tensor) -> Tensor:
    """A flow estimator that always returns zero."""
    return first.new_zeros(first.shape[0], 2, *first.shape[-2:])


def endpoint_error(flow: Tensor, truth: Tensor, margin: int = 16) -> float:
    """The mean endpoint error inside a margin, pixels."""
    return float((flow - truth)[..., margin:-margin, margin:-margin].square().sum(1).sqrt().mean())
