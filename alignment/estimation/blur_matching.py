"""Blind blur matching: the disc radius, cell by cell, under which two aligned frames are equally blurred.

Either frame may be the softer one (a focal stack has both cases in one pair), so the radius is signed: positive
blurs the sharp frame to match the blurred one, negative the other way round. A bank of disc-blurred versions of the
frames is compared cell by cell, and the radius with the least difference is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.disc import sampled_disc_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CELL_PX = 12
_NEAR_CELLS = 1.0
_WIDE_CELLS = 4.0
_WIDE_SHARE = 0.15
# Number of independent differences in the neighbourhood of a cell: defocus correlates them.
_INDEPENDENT = 24.0
_PRIOR_ROUNDS = 12
_LOG_PRIOR_PER_STEP = 0.05
# Uncertainty of the noise of a neighbourhood, as a share of it.
_NOISE_FLOOR = 0.5
# A disc below this radius lies within one pixel and changes nothing.
_STEPS = (0.0, 0.8, 1.2, 1.7, 2.3, 3.0, 4.0, 5.2, 6.6, 8.2, 10.0, 12.0, 14.5, 17.5, 21.0, 25.0, 30.0, 36.0, 43.0)


def noise_gain(radius_px: float, sigma_px: float) -> float:
    """Share of white noise's variance that passes a disc followed by a Gaussian of `sigma_px`."""
    return float(np.sum(_impulse_response(radius_px, sigma_px) ** 2))


def noise_gradient_energy(radius_px: float, sigma_px: float) -> float:
    """Mean squared `four_point_gradient` of unit white noise under a disc followed by a Gaussian of `sigma_px`."""
    along_x, along_y = four_point_gradient(np.pad(_impulse_response(radius_px, sigma_px), 2))
    return float(np.sum(along_x**2 + along_y**2))


def four_point_gradient(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Derivatives of an (H, W) image along x and y by four-point differences.

    They are exact well below the Nyquist frequency, where the detail of blurred images lies.
    """
    kernel = np.array([1, -8, 0, 8, -1], dtype=np.float32)[None] / 12
    along_x, along_y = (cv2.filter2D(image, cv2.CV_32F, k) for k in (kernel, kernel.T))
    return np.asarray(along_x, dtype=np.float32), np.asarray(along_y, dtype=np.float32)


def _impulse_response(radius_px: float, sigma_px: float) -> NDArray[np.float32]:
    impulse = np.pad(sampled_disc_kernel(radius_px), int(np.ceil(4 * sigma_px)) + 1)
    return np.asarray(cv2.GaussianBlur(impulse, (0, 0), sigma_px, borderType=cv2.BORDER_CONSTANT))


def radii_up_to(largest_px: float) -> tuple[float, ...]:
    """Radii of a bank of discs, ascending from 0 to `largest_px`: fine steps first, then about a fifth apart."""
    inner = tuple(step for step in _STEPS if step < largest_px)
    return (*inner, float(largest_px)) if largest_px > inner[-1] else inner


@dataclass(frozen=True, slots=True)
class RadiusMap:
    """Signed disc radius per cell.

    Attributes:
        index: (rows, columns) float32 position in the signed bank: 0 is "equally blurred", +k blurs the sharp frame
            with radii[k], -k the blurred one; between integers the neighbours are mixed.
        radii: Radii of the bank in pixels.
    """

    index: NDArray[np.float32]
    radii: tuple[float, ...]

    @property
    def radius_px(self) -> NDArray[np.float32]:
        """(rows, columns) signed radius in pixels."""
        steps = np.arange(len(self.radii))
        size = np.interp(np.abs(self.index), steps, np.array(self.radii))
        return np.asarray(np.sign(self.index) * size, dtype=np.float32)


def choose_radii(
    moving: Sequence[NDArray[np.float32]],
    fixed: Sequence[NDArray[np.float32]],
    weight: NDArray[np.float32],
    radii: tuple[float, ...],
    noise: NDArray[np.float32] | NDArray[np.float64] | None = None,
) -> RadiusMap:
    """Chooses the signed radius of highest posterior probability for each cell.

    The likelihood of a radius in a cell is that of the differences around it. The prior is the frequency of the radius
    in the whole frame, estimated together with it (empirical Bayes: H. Robbins 1956). Where one radius holds for the
    whole frame the prior becomes sharp and corrects single cells; where depth spreads the radii, the cells decide.

    Args:
        moving: (H, W) images of the blurred frame under each radius, aligned and at the sharp frame's brightness; a
            single image if only the sharp frame may be blurred.
        fixed: (H, W) images of the sharp frame under each radius.
        weight: (H, W) inverse variance of a pixel's difference up to a factor; 0 excludes a pixel.
        radii: Radii of the bank in pixels, one per image of `fixed`.
        noise: (hypotheses,) weighted noise variance in each comparison, from -largest to +largest radius, or
            (hypotheses, rows, columns) for each cell separately: more blur leaves less noise, which is no sign of a
            match. None: negligible.
    """
    hypotheses = [(moving[k], fixed[0]) for k in range(len(moving) - 1, 0, -1)]
    hypotheses += [(moving[0], image) for image in fixed]
    count, equal = len(hypotheses), len(moving) - 1
    share = mean_over_cells(weight) + np.float32(1e-9)
    energy = _difference_energy(hypotheses, weight, share)
    level = np.zeros((count, 1, 1), dtype=np.float32) if noise is None else noise.astype(np.float32)
    level = level.reshape(count, *(level.shape[1:] if level.ndim == 3 else (1, 1)))
    evidence = _log_likelihood(energy, level)
    # Of two radii that explain a flat cell equally well the smaller one is chosen.
    steps = np.abs(np.arange(count) - equal).astype(np.float32)
    evidence -= np.float32(_LOG_PRIOR_PER_STEP) * steps[:, None, None]
    evidence -= evidence.max(axis=0)
    score = evidence + _log_prior(evidence, (share > 0.5 * float(np.median(share))))[:, None, None]
    index = _subpixel_argmin(np.asarray(-score, dtype=np.float32)) - np.float32(equal)
    return RadiusMap(index=index, radii=radii)


def _difference_energy(
    hypotheses: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    weight: NDArray[np.float32],
    share: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(hypotheses, rows, columns) mean squared difference around each cell.

    Args:
        hypotheses: The (H, W) images that each hypothesis compares.
        weight: (H, W) weight of a pixel.
        share: (rows, columns) mean weight of a cell.
    """
    inside = mean_over_cells((weight > 0).astype(np.float32)) + np.float32(1e-3)
    energy = np.empty((len(hypotheses), *share.shape), dtype=np.float32)
    for number, (moving, fixed) in enumerate(hypotheses):
        difference = moving - fixed
        weighted = difference * weight
        mean = mean_over_cells(weighted)
        # The mean difference of a cell is shading, not blur.
        energy[number] = mean_over_cells(weighted * difference) - mean * mean / share
    near, wide = (
        np.stack([_smooth_cells(layer, sigma) for layer in energy]) / _smooth_cells(inside, sigma)
        for sigma in (_NEAR_CELLS, _WIDE_CELLS)
    )
    return np.asarray((near + np.float32(_WIDE_SHARE) * wide) / np.float32(1 + _WIDE_SHARE), dtype=np.float32)


def _log_likelihood(energy: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
    """(hypotheses, rows, columns) log likelihood up to a constant, given the energy of noise in each difference."""
    excess = np.maximum(energy - noise, 0)
    floor = np.float32(1e-3 * float(np.median(energy.max(axis=0))) + 1e-12)
    floor = floor + np.float32(_NOISE_FLOOR) * noise.max(axis=0)
    return np.asarray(np.float32(-_INDEPENDENT / 2) * np.log(excess + floor), dtype=np.float32)


def mean_over_cells(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) means of an (H, W) image over cells of `CELL_PX`, for which radii are chosen."""
    height, width = image.shape
    size = (max(width // CELL_PX, 1), max(height // CELL_PX, 1))
    if min(size) > 1 and not (height % 2 or width % 2):
        # OpenCV is fast for whole factors only.
        half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(half, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _log_prior(evidence: NDArray[np.float32], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(hypotheses,) log frequency of each radius over the cells, by expectation-maximisation."""
    likelihood = np.exp(evidence[:, counted]).astype(np.float64)
    count = len(likelihood)
    prior = np.full(count, 1.0 / count)
    if not likelihood.size:
        return np.asarray(np.log(prior), dtype=np.float32)
    for _ in range(_PRIOR_ROUNDS):
        joint = likelihood * prior[:, None]
        prior = (joint / joint.sum(axis=0)).mean(axis=1)
        padded = np.pad(prior, 1, mode="edge")
        # Neighbouring radii belong to neighbouring depths, and no radius is impossible.
        prior = 0.8 * prior + 0.1 * (padded[:-2] + padded[2:]) + 1e-4
        prior /= prior.sum()
    return np.asarray(np.log(prior), dtype=np.float32)


def mix_bank(
    bank: Sequence[NDArray[np.float32]], index: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Mixes one (H, W) image from a bank by a map of positions in it; negative positions count as 0.

    Args:
        bank: (H, W) images in ascending order of radius.
        index: (rows, columns) position in the bank per cell.
        size: (height, width) of the images.
    """
    position = cv2.resize(np.maximum(index, 0), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    mixed = np.zeros(size, dtype=np.float32)
    first, last = (int(edge(position)) for edge in (np.min, np.max))
    if first == position.max():
        return bank[first].copy()
    for k in range(first, min(last + 2, len(bank))):
        mixed += np.clip(1 - np.abs(position - np.float32(k)), 0, 1) * bank[k]
    return mixed


def _smooth_cells(cells: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(cells, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def _subpixel_argmin(cost: NDArray[np.float32]) -> NDArray[np.float32]:
    """Position of the least cost along axis 0, refined by a parabola through its neighbours."""
    best = np.argmin(cost, axis=0)
    inner = np.clip(best, 1, cost.shape[0] - 2)
    left, middle, right = (np.take_along_axis(cost, (inner + step)[None], 0)[0] for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    offset = np.where(curvature > 1e-12, 0.5 * (left - right) / np.maximum(curvature, 1e-12), 0.0)
    refined = inner + np.clip(offset, -0.5, 0.5)
    return np.asarray(np.where(inner == best, refined, best), dtype=np.float32)
