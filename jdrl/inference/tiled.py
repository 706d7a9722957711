"""Runs a deblurring network over an image of any size, tile by tile."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jdrl.image_checks import colour_image
from jdrl.inference.tiles import blend_weights, tile_spans
from jdrl.networks import LocalisedNetwork, restore
from jdrl.reblurring.blur_estimator import CELL_PX
from sdd_toolkit.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from jdrl.networks.localised import Statistics


@torch.inference_mode()
def deblur(
    network: nn.Module,
    image: Tensor,
    *,
    tile: int,
    overlap: int,
    wanted: Tensor | None = None,
    bfloat16: bool = False,
) -> Tensor:
    """Deblurs an image in tiles on the network's device.

    Args:
        network: In evaluation mode; localised (`jdrl.networks.localise`) if it takes statistics of its whole input.
        image: (3, H, W) in [0, 1], with the curve that the network was trained on; uint8 and uint16 are scaled.
        tile: Side of the tiles, pixels; 0, or at least the image's size, for no tiles.
        overlap: Of neighbouring tiles, pixels; see `jdrl.inference.tiles.choose_tiling`.
        wanted: (H, W), whether the answer is needed; tiles that hold no such pixel return the image. None: everywhere.
        bfloat16: Whether convolutions compute with 8 bits of precision, faster on processors made for it.

    Returns:
        (3, H, W) in [0, 1], float32, on the CPU.

    Raises:
        TypeError: The image is no tensor of floats, uint8 or uint16.
        ValueError: It is not (3, H, W), is empty, or holds values that are not finite or not about [0, 1].
        InputError: A tile does not fit into memory.
        CheckpointError: The network returns values that are not finite.

    Example:
        A new NAFNet is the identity:

        >>> from jdrl.networks import NAFNet
        >>> network = NAFNet(width=4, encoder_blocks=(1,), decoder_blocks=(1,)).eval()
        >>> image = torch.rand(3, 48, 64)
        >>> torch.allclose(deblur(network, image, tile=32, overlap=8), image)
        True
    """
    image = colour_image(image, "image")
    device = next(network.parameters()).device
    height, width = image.shape[-2:]
    # A blur estimator works on cells of the frame: tiles start at multiples of them.
    step = math.lcm(int(getattr(network, "size_multiple", 1)), CELL_PX)
    rows, columns = tile_spans(height, tile, overlap, step), tile_spans(width, tile, overlap, step)
    tiles = [(*row, *column) for row in rows for column in columns]
    run = [wanted is None or bool(wanted[top:bottom, left:right].any()) for top, bottom, left, right in tiles]
    if not any(run):
        return image.clamp(0, 1)
    # With one thread torch computes few convolutions fast unless the colours of a pixel lie together.
    frame = image[None].contiguous(memory_format=torch.channels_last if device.type == "cpu" else torch.preserve_format)
    with (
        _explain_out_of_memory(min(tile or height, height), min(tile or width, width)),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16),
    ):
        blended = _blend_tiles(network, frame, tiles, run, overlap)
    # The sum is finite if all values are, and NaN would become any code.
    if not torch.isfinite(blended.sum()):
        raise CheckpointError("the network returns values that are not finite", hint="take another checkpoint")
    return blended.clamp_(0, 1)


def _blend_tiles(
    network: nn.Module, frame: Tensor, tiles: list[tuple[int, int, int, int]], run: list[bool], overlap: int
) -> Tensor:
    """Deblurs the tiles (top, bottom, left, right) of a frame (1, 3, H, W) that are to be run, to (3, H, W)."""
    device = next(network.parameters()).device
    height, width = frame.shape[-2:]
    total, weights = torch.zeros(3, height, width), torch.zeros(1, height, width)
    statistics = network.measure_statistics(frame) if isinstance(network, LocalisedNetwork) else None
    for (top, bottom, left, right), needed in zip(tiles, run, strict=True):
        piece = frame[:, :, top:bottom, left:right]
        if needed:
            restored = _deblur_tile(network, piece.to(device), statistics, top, left).float().cpu()
        else:
            restored = piece[0]
        down = blend_weights(top, bottom, height, overlap)
        weight = down[:, None] * blend_weights(left, right, width, overlap)[None]
        total[:, top:bottom, left:right] += weight * restored
        weights[:, top:bottom, left:right] += weight
    return total.div_(weights)


def _deblur_tile(network: nn.Module, piece: Tensor, statistics: Statistics | None, top: int, left: int) -> Tensor:
    """Deblurs a tile (1, 3, H, W) that starts at (top, left) of its frame, to (3, H, W)."""
    if isinstance(network, LocalisedNetwork):
        return network.run_on_tile(piece, statistics, top, left)[0][0]
    return restore(network, piece)[0][0]


@contextmanager
def _explain_out_of_memory(height: int, width: int) -> Iterator[None]:
    """Turns a lack of memory for a tile of this size into an error that suggests smaller tiles."""
    try:
        yield
    except RuntimeError as error:
        # torch has a class for a full GPU, but only a message for full main memory.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(f"no memory for {height}x{width} px at once", hint="choose a smaller --tile") from error
