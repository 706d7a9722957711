"""Reads crops of packed pairs as tensors, the sharp frame warped onto the blurred one by the stored flow."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jdrl.data.batch import Batch
from jdrl.flow.warping import in_bounds_mask, warp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jdrl.flow.global_motion import GlobalMotion
    from sdd_toolkit.shards.reader import ShardReader
    from sdd_toolkit.shards.schema import PackedPair

MARGIN_STEP_PX = 8
"""Margins of crops are multiples of this."""

_RESIDUAL_PX = 4  # how far beyond the stored flow the joint phase may look


def read_crop(
    reader: ShardReader,
    pair: str,
    top: int,
    left: int,
    size: int,
    margin_px: int = MARGIN_STEP_PX,
    motion: GlobalMotion | None = None,
) -> Batch:
    """Reads one crop of a pair. The sharp frame is warped before its margin is cut off, so no border is invented.

    Args:
        reader: Of the data set.
        pair: The pair's id.
        top: First row of the crop, pixels.
        left: First column of the crop, pixels.
        size: Side of the crop, pixels.
        margin_px: Smallest margin of the sharp frame, a multiple of 8. The margin grows until it covers the stored
            flow and 4 px more, or the photograph ends.
        motion: Flow of the whole pair, instead of the stored one.

    Returns:
        A batch of one.

    Raises:
        IntegrityError: A shard is missing or damaged.
    """
    height, width = reader.shape(pair)
    margin = margin_px
    while True:
        row, column = max(0, top - margin), max(0, left - margin)
        bottom, right = min(height, top + size + margin), min(width, left + size + margin)
        packed = reader.read_window(pair, row, column, bottom - row, right - column)
        if motion is not None:
            flow = motion.flow(row, column, bottom - row, right - column)
            packed = replace(packed, flow=flow[0].permute(1, 2, 0).numpy())
        inner = slice(top - row, top - row + size), slice(left - column, left - column + size)
        reach = math.ceil(float(np.abs(packed.flow[inner]).max(initial=0.0))) + 1 + _RESIDUAL_PX
        if reach <= margin or margin >= max(height, width):
            break
        margin = -(-reach // MARGIN_STEP_PX) * MARGIN_STEP_PX
    aligned = align_pair(packed)
    # The part of the margin beyond the photograph repeats the border and is marked as invalid.
    missing = (margin - left + column, left + size + margin - right, margin - top + row, top + size + margin - bottom)
    return Batch(
        blur=aligned.blur[..., inner[0], inner[1]],
        wide_sharp=F.pad(aligned.wide_sharp, missing, mode="replicate"),
        sharp_on_blur=aligned.sharp_on_blur[..., inner[0], inner[1]],
        valid=aligned.valid[..., inner[0], inner[1]],
        flow=aligned.flow[..., inner[0], inner[1]],
        wide_valid=F.pad(aligned.wide_valid, missing),
    )


def align_pair(packed: PackedPair) -> Batch:
    """Converts a pair, or a window of one, to tensors and warps its sharp frame onto the blurred one.

    Args:
        packed: As `ShardReader.read_window` returns it: its flow has the size of its images.

    Returns:
        A batch of one without a margin. `valid` is also 0 where the flow points outside the window.
    """
    flow = torch.from_numpy(np.ascontiguousarray(packed.flow, dtype=np.float32)).permute(2, 0, 1)[None]
    sharp = image_to_tensor(packed.sharp)
    valid = torch.from_numpy(np.ascontiguousarray(packed.valid, dtype=np.float32))[None, None]
    return Batch(
        blur=image_to_tensor(packed.blur),
        wide_sharp=sharp,
        sharp_on_blur=warp(sharp, flow),
        valid=valid * in_bounds_mask(flow),
        flow=flow,
        wide_valid=torch.ones_like(valid),
    )


def image_to_tensor(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Tensor:
    """(H, W, 3) integers to (1, 3, H, W) float32 in [0, 1]."""
    scaled = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]
