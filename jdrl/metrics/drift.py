"""Geometry drift: the displacement of a deblurred image against the blurred one, independent of the blur.

Block by block the displacement is that which, with an isotropic blur, turns the output into the blurred image
(`block_displacement`). An isotropic kernel has no first moment, so the estimate is zero for an output that is only
sharper; edges of depth, where no kernel fits, are outweighed. Neighbouring blocks are pooled as far as they agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jdrl.image_checks import check_mask, check_same_shape, unit_image
from jdrl.metrics.block_displacement import (
    BLOCK_MULTIPLE_PX,
    REACH_PX,
    SEARCH,
    BlockDisplacements,
    block_displacements,
    reduce_images,
    whole_displacements,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK_PX = 96
MAX_ERROR_PX = 0.1  # standard error per axis above which a block abstains
MIN_USED = 0.5  # share of a block's pixels that must be valid, and away from the frame's border
MIN_EXPLAINED = 0.5  # share of a block's variance that the moved, blurred output must explain
MAX_DEVIATION = 5.0  # in standard errors, from its neighbours, beyond which a block stays as it is
MAX_MEDIAN_DEVIATION = 2.5  # of all blocks; beyond it the field is not smooth, and no block is pooled
_MIN_ERROR_PX = 0.005  # misfit correlates between cells: smaller errors are not believed
_MIN_BLOCKS_OF_PLANE = 5
_BLOCKS_PER_BATCH = 16  # more of them leave the processor's cache


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
        block: Side of the blocks, pixels; a multiple of 8.

    Returns:
        The displacements of blocks that tile the frame from the top left; an image smaller than a block has none.

    Raises:
        TypeError: An image is no tensor of floats, uint8 or uint16.
        ValueError: The shapes differ or are others, a batch is larger than one, the blocks have another side; values
            are not finite or not about [0, 1].
    """
    if block < BLOCK_MULTIPLE_PX or block % BLOCK_MULTIPLE_PX:
        raise ValueError(f"blocks of {block} px, but their side is a multiple of {BLOCK_MULTIPLE_PX}")
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
    if not len(corners):
        return Drift(np.empty((rows, columns, 2), np.float32))
    images = reduce_images(a, b, mask)
    first = _in_batches(
        [
            block_displacements(images, part, whole_displacements(images[0], images[1], part, block), block, SEARCH)
            for part in torch.split(corners, _BLOCKS_PER_BATCH)
        ]
    )
    # Under strong blur a block alone can settle in a wrong minimum; its neighbours lead it out.
    start = _neighbourhood_median(first, rows, columns)
    found = _in_batches(
        [
            block_displacements(images, part, guess, block)
            for part, guess in zip(
                torch.split(corners, _BLOCKS_PER_BATCH), torch.split(start, _BLOCKS_PER_BATCH), strict=True
            )
        ]
    )
    field = found.displacement.flip(1).view(rows, columns, 2).cpu().numpy().astype(np.float64)
    error = found.error.view(rows, columns).cpu().numpy()
    reliable = (found.error < MAX_ERROR_PX) & _explains(found) & (found.displacement.abs().amax(1) < REACH_PX)
    field[~reliable.view(rows, columns).cpu().numpy()] = np.nan
    return Drift(pool_neighbours(field, error).astype(np.float32))


def pool_neighbours(field: NDArray[np.float64], error: NDArray[np.floating]) -> NDArray[np.float64]:
    """Replaces each displacement by that of a plane through its 3x3 neighbourhood, as far as the blocks agree.

    Blocks are weighted by their inverse variance, and less where they lie far off the plane. One that deviates by more
    than `MAX_DEVIATION` standard errors is really displaced and stays as it is. All do where the median block deviates
    by more than `MAX_MEDIAN_DEVIATION`: then the field is not smooth.

    Args:
        field: (rows, columns, 2) px; NaN where a block abstains.
        error: (rows, columns) px, standard errors per axis.
    """
    sigma = np.maximum(error, _MIN_ERROR_PX)
    planes = np.full_like(field, np.nan)
    for row, column in np.argwhere(np.isfinite(field[..., 0])):
        planes[row, column] = _plane_at(field, sigma, (int(row), int(column)))
    deviation = np.hypot(*np.moveaxis(planes - field, -1, 0)) / sigma
    known = deviation[np.isfinite(deviation)]
    if known.size == 0 or np.median(known) > MAX_MEDIAN_DEVIATION:
        return field
    return np.where((deviation > MAX_DEVIATION)[..., None], field, planes)


def _plane_at(field: NDArray[np.float64], sigma: NDArray[np.floating], at: tuple[int, int]) -> NDArray[np.float64]:
    """The value at `at` of the plane (with few blocks: of the mean) that fits the 3x3 blocks around it."""
    part = tuple(slice(max(i - 1, 0), i + 2) for i in at)
    rows, columns = np.nonzero(np.isfinite(field[part][..., 0]))
    values, scale = field[part][rows, columns], sigma[part][rows, columns]
    offsets = np.stack([rows - (at[0] - part[0].start), columns - (at[1] - part[1].start)], 1).astype(np.float64)
    ones = np.ones((len(values), 1))
    terms = np.hstack([ones, offsets]) if len(values) >= _MIN_BLOCKS_OF_PLANE else ones
    weights = 1 / scale**2
    for _ in range(3):
        root = np.sqrt(weights)[:, None]
        fit = np.linalg.lstsq(terms * root, values * root, rcond=None)[0]
        distance = np.linalg.norm(values - terms @ fit, axis=1) / scale
        weights = 1 / scale**2 / np.maximum(1, distance / 2)
    return np.asarray(fit[0])


def _neighbourhood_median(found: BlockDisplacements, rows: int, columns: int) -> Tensor:
    """(N, 2): the median displacement of the explained blocks among the 3x3 around each; without any its own."""
    field = torch.where(_explains(found)[:, None], found.displacement, torch.nan).view(rows, columns, 2)
    padded = torch.nn.functional.pad(field.permute(2, 0, 1), (1, 1, 1, 1), value=torch.nan)
    around = padded.unfold(1, 3, 1).unfold(2, 3, 1).flatten(-2)
    median = around.nanmedian(-1).values.permute(1, 2, 0).reshape(-1, 2)
    return torch.where(median.isfinite(), median, found.displacement)


def _explains(found: BlockDisplacements) -> Tensor:
    return (found.explained > MIN_EXPLAINED) & (found.used >= MIN_USED)


def _in_batches(parts: Sequence[BlockDisplacements]) -> BlockDisplacements:
    return BlockDisplacements(
        torch.cat([part.displacement for part in parts]),
        torch.cat([part.error for part in parts]),
        torch.cat([part.explained for part in parts]),
        torch.cat([part.used for part in parts]),
    )
