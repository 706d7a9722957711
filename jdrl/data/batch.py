"""A batch of aligned crops as tensors, and its rotation by quarter turns."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of one step, values in [0, 1] of the data set's encoding; M is the margin of the wide frame.

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
        """M: how far `wide_sharp` reaches beyond the window."""
        return (self.wide_sharp.shape[-1] - self.blur.shape[-1]) // 2

    @property
    def sharp(self) -> Tensor:
        """(B, 3, H, W) sharp frame, same window as `blur`, not warped."""
        return crop_margin(self.wide_sharp, self.margin_px)

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""
        return type(self)(*(part.to(device, non_blocking=True) for part in self.parts()))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory; the loader calls this."""
        return type(self)(*(part.pin_memory() for part in self.parts()))

    def turned(self, turn: int) -> Self:
        """All of it after one of the eight symmetries of `turned`."""
        parts = {field.name: rotate_quarter(getattr(self, field.name), turn) for field in fields(self)}
        return type(self)(**{**parts, "flow": rotate_flow_quarter(self.flow, turn)})

    def widened(self, margin_px: int) -> Self:
        """The same with a margin of at least `margin_px`; what is added holds no real content."""
        more = (max(0, margin_px - self.margin_px),) * 4
        wide_sharp = F.pad(self.wide_sharp, more, mode="replicate")
        return replace(self, wide_sharp=wide_sharp, wide_valid=F.pad(self.wide_valid, more))

    def parts(self) -> tuple[Tensor, ...]:
        """Its tensors in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))


def rotate_quarter(image: Tensor, turn: int) -> Tensor:
    """One of the square's eight symmetries: turn 0 … 3 quarter turns, 4 … 7 the same after a left-right flip."""
    flipped = image.flip(-1) if turn >= 4 else image
    return torch.rot90(flipped, turn % 4, dims=(-2, -1)).contiguous()


def rotate_flow_quarter(flow: Tensor, turn: int) -> Tensor:
    """A flow field (B, 2, H, W) between two images after `turned` was applied to both: its vectors turn, too."""
    x, y = rotate_quarter(flow, turn).unbind(1)
    x = -x if turn >= 4 else x
    for _ in range(turn % 4):
        x, y = y, -x
    return torch.stack([x, y], 1)


def crop_margin(image: Tensor, margin_px: int) -> Tensor:
    """Cuts `margin_px` pixels off each side of an image (..., H, W)."""
    height, width = image.shape[-2:]
    return image[..., margin_px : height - margin_px, margin_px : width - margin_px]
