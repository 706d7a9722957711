"""A batch of aligned crops as tensors, and its rotation by quarter turns."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of one step, with values in [0, 1] of the data set's encoding; M is the margin of the wide frame.

    Attributes:
        blur: (B, 3, H, W) blurred frame.
        wide_sharp: (B, 3, H + 2M, W + 2M) sharp frame, not warped, reaching M px beyond the window on each side.
        sharp_on_blur: (B, 3, H, W) sharp frame warped by the stored flow onto the blurred frame's grid.
        valid: (B, 1, H, W) 1 where the blurred frame and `sharp_on_blur` hold real content, else 0.
        flow: (B, 2, H, W) stored u[blur→sharp], pixels.
        wide_valid: (B, 1, H + 2M, W + 2M) 1 where `wide_sharp` holds real content: inside the photograph.
    """

    blur: Tensor
    wide_sharp: Tensor
    sharp_on_blur: Tensor
    valid: Tensor
    flow: Tensor
    wide_valid: Tensor

    @property
    def margin_px(self) -> int:
        """M: the width by which `wide_sharp` extends beyond the window on each side, pixels."""
        return (self.wide_sharp.shape[-1] - self.blur.shape[-1]) // 2

    @property
    def sharp(self) -> Tensor:
        """(B, 3, H, W) sharp frame, same window as `blur`, not warped."""
        return crop_margin(self.wide_sharp, self.margin_px)

    def to(self, device: torch.device) -> Self:
        """Copies the batch to `device`."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in self.tensors()))

    def pin_memory(self) -> Self:
        """Copies the batch to page-locked memory; the loader calls this."""
        return type(self)(*(tensor.pin_memory() for tensor in self.tensors()))

    def rotate_quarter(self, turn: int) -> Self:
        """Applies one of the eight symmetries of `rotate_quarter` to all fields."""
        rotated = {field.name: rotate_quarter(getattr(self, field.name), turn) for field in fields(self)}
        return type(self)(**{**rotated, "flow": rotate_flow_quarter(self.flow, turn)})

    def widen_margin(self, margin_px: int) -> Self:
        """Widens the margin to at least `margin_px`; the added pixels are marked as invalid."""
        padding = (max(0, margin_px - self.margin_px),) * 4
        wide_sharp = F.pad(self.wide_sharp, padding, mode="replicate")
        return replace(self, wide_sharp=wide_sharp, wide_valid=F.pad(self.wide_valid, padding))

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))


def rotate_quarter(image: Tensor, turn: int) -> Tensor:
    """Applies one of the eight symmetries of the square.

    Args:
        image: (..., H, W).
        turn: 0 … 3: so many quarter turns; 4 … 7: the same after a left-right flip.
    """
    flipped = image.flip(-1) if turn >= 4 else image
    return torch.rot90(flipped, turn % 4, dims=(-2, -1)).contiguous()


def rotate_flow_quarter(flow: Tensor, turn: int) -> Tensor:
    """Rotates a flow field (B, 2, H, W) with its images: the grid by `rotate_quarter`, and the vectors as well."""
    x, y = rotate_quarter(flow, turn).unbind(1)
    x = -x if turn >= 4 else x
    for _ in range(turn % 4):
        x, y = y, -x
    return torch.stack([x, y], 1)


def crop_margin(image: Tensor, margin_px: int) -> Tensor:
    """Crops `margin_px` pixels off each side of an image (..., H, W)."""
    height, width = image.shape[-2:]
    return image[..., margin_px : height - margin_px, margin_px : width - margin_px]
