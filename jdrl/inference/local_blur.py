"""Local blur of a single photograph without a network: a coarse map of the circle of confusion, from gradient energies.

The energy of an image's gradient falls with the scale s at which the gradient is taken as (σ² + s²)^-p: σ is the blur
that the image has already, p lies between 1/2 (isolated edges) and 1 (textures of a 1/f spectrum). Below σ the energy
is the same at every scale, above it falls; the knee tells σ, whatever the contrast. Energies are taken at seven scales
from 0.4 to 33 px, without those of white noise, which fall as s^-4.

Where there is hardly a gradient the map continues its surroundings. Where a sharp and a blurred area meet within
some tens of pixels it tends to the sharp one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.noise import noise_variance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

CELL_PX = 16
"""Side of the map's cells, pixels."""
LARGEST_RADIUS_PX = 64.0
RADIUS_OF_SIGMA = 2.4
"""Radius of the disc whose blur is read as σ = 1: 2 by their variances, more by the knee, measured on photographs."""

_OCTAVES = 6  # the finest at full size, then Gaussian derivatives at 1, 1/2, ... 1/32
_WINDOW_CELLS = 2.0  # standard deviation of the window over which energies are averaged
_SIGMAS_PX = 0.3 * 2 ** (np.arange(28) / 4)  # 0.3 ... 32 px
_POWERS = (0.5, 0.65, 0.8, 1.0)
_TYPICAL_POWER, _POWER_PENALTY = 0.75, 0.01
_REACH_OF_LAW = 6.0  # in multiples of σ
_MOST_NOISE = 0.02  # standard deviation; noisier blurred frames are read as less blurred
_QUANTISATION = (1 / 255) ** 2 / 12
_STEEP = (2.0, 3.0)  # ratio of the energies at 0.3 and 1 px: 1.3 ... 1.8 at σ = 1 px, 2.5 ... 6 at 0.3 px
_LEAST_SIGNAL = 2.0  # energy over that of the noise, from 2 px on, below which a cell has no texture
_TEMPERATURE = 0.004  # difference of the fit's cost that makes a σ e times less likely


def estimate_blur_map(image: Plane) -> Plane | None:
    """Estimates the local blur of an image.

    Args:
        image: (H, W, 3) in [0, 1], with the curve of sRGB or linear.

    Returns:
        (ceil(H / 16), ceil(W / 16)) circle-of-confusion radii in pixels of the cells; None for an image without
        texture, or too small to tell.

    Example:
        >>> cells = np.random.default_rng(0).uniform(0.1, 0.9, (64, 64, 1)).astype(np.float32)
        >>> sharp = cells.repeat(4, 0).repeat(4, 1).repeat(3, 2)
        >>> blurred = cv2.GaussianBlur(sharp, (0, 0), 4.0)
        >>> radii = [float(np.median(estimate_blur_map(image))) for image in (sharp, blurred)]
        >>> radii[0] < 1.0 < 1.5 < radii[1]
        True
    """
    if min(image.shape[:2]) < 2 * CELL_PX:
        return None
    plane = np.ascontiguousarray(image.mean(axis=2, dtype=np.float32))
    energies, gains, scales = _measure_energies(plane)
    # Fine texture all over a frame looks like noise.
    noise = (min(noise_variance(plane), _MOST_NOISE**2) + _QUANTISATION) * gains
    sigma_px = _fit_sigma(energies, noise, scales)
    # Edges a pixel wide are sharp, whatever law the coarser scales follow.
    steepness = (energies[0] - 2 * noise[0]) / np.maximum(energies[1], 1e-12)
    crisp = np.clip((steepness - _STEEP[0]) / (_STEEP[1] - _STEEP[0]), 0, 1)
    sigma_px = sigma_px ** (1 - crisp) * np.minimum(sigma_px, _SIGMAS_PX[0]) ** crisp
    signal = ((energies - noise[:, None, None]) / noise[:, None, None])[2:].max(axis=0)
    confidence = np.clip(signal / _LEAST_SIGNAL - 1, 0, 1).astype(np.float32)
    if confidence.max() == 0:
        return None
    radius_px: Plane = np.exp(_fill(np.log(RADIUS_OF_SIGMA * sigma_px).astype(np.float32), confidence))
    return np.minimum(radius_px, np.float32(LARGEST_RADIUS_PX))


def _measure_energies(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Gradient energies of the cells at every scale, (scales, rows, columns); their gains of noise; scales in px."""
    rows, columns = (-(-side // CELL_PX) for side in plane.shape)
    most = max(CELL_PX, 2 ** (_OCTAVES - 1))
    down, right = (-side % most for side in plane.shape)
    level: Plane = np.pad(plane, ((0, down), (0, right)), mode="symmetric")
    energies = [_cell_means(_diagonal_energy(level), CELL_PX)[:rows, :columns]]
    gains, scales = [2.0], [0.3]
    for octave in range(_OCTAVES):
        if octave:
            half = (level.shape[1] // 2, level.shape[0] // 2)
            level = np.asarray(cv2.resize(level, half, interpolation=cv2.INTER_AREA), dtype=np.float32)
        shrunk = 2**octave
        cells = _cell_means(_gaussian_energy(level), CELL_PX / shrunk) / shrunk**2
        energies.append(cells[:rows, :columns])
        gains.append(_GAUSSIAN_GAIN / shrunk**4)
        scales.append(shrunk * (1 + (1 - shrunk**-2) / 12) ** 0.5)
    smooth = [cv2.GaussianBlur(cells, (0, 0), _WINDOW_CELLS, borderType=cv2.BORDER_REFLECT) for cells in energies]
    return np.stack(smooth).astype(np.float64), np.array(gains), np.array(scales)


def _diagonal_energy(level: Plane) -> Plane:
    """Squared gradient by differences of 2x2 pixels."""
    across = 0.5 * (level[:-1, 1:] - level[:-1, :-1] + level[1:, 1:] - level[1:, :-1])
    down = 0.5 * (level[1:, :-1] - level[:-1, :-1] + level[1:, 1:] - level[:-1, 1:])
    return np.pad(across * across + down * down, ((0, 1), (0, 1)), mode="edge")


_SMOOTH = cv2.getGaussianKernel(9, 1.0, cv2.CV_32F)
_DERIVATIVE = (np.arange(-4, 5, dtype=np.float32)[:, None] * _SMOOTH).astype(np.float32)
_GAUSSIAN_GAIN = 2 * float(np.sum(_DERIVATIVE**2) * np.sum(_SMOOTH**2))


def _gaussian_energy(level: Plane) -> Plane:
    """Squared gradient by derivatives of a Gaussian of 1 px."""
    across = cv2.sepFilter2D(level, cv2.CV_32F, _DERIVATIVE, _SMOOTH, borderType=cv2.BORDER_REFLECT)
    down = cv2.sepFilter2D(level, cv2.CV_32F, _SMOOTH, _DERIVATIVE, borderType=cv2.BORDER_REFLECT)
    return np.asarray(across * across + down * down, dtype=np.float32)


def _cell_means(energy: Plane, cell: float) -> Plane:
    """Means of cells of `cell` pixels; for cells below a pixel its value."""
    size = (round(energy.shape[1] / cell), round(energy.shape[0] / cell))
    interpolation = cv2.INTER_AREA if cell >= 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(energy, size, interpolation=interpolation), dtype=np.float32)


def _fit_sigma(
    energies: NDArray[np.float64], noise: NDArray[np.float64], scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The σ of each cell, (rows, columns), whose power law is nearest to its energies, relative to them."""
    weight = 1 / np.maximum(energies, 1e-12)
    target = (energies - noise[:, None, None]) * weight
    costs = []
    for sigma in _SIGMAS_PX:
        # Coarser than the knee the law need not hold: large areas are smooth, small frames have no large shapes.
        share = 1 / (1 + (scales / (_REACH_OF_LAW * sigma)) ** 2)
        share = (share / share.sum())[:, None, None]
        best: NDArray[np.float64] | None = None
        for power in _POWERS:
            model = ((sigma**2 + scales**2) ** -power)[:, None, None] * weight
            amplitude = np.maximum((share * target * model).sum(0), 0) / (share * model * model).sum(0)
            misfit = (share * (target - amplitude * model) ** 2).sum(0)
            cost = misfit + _POWER_PENALTY * (power - _TYPICAL_POWER) ** 2
            best = cost if best is None else np.minimum(best, cost)
        costs.append(best)
    stack = np.stack([cost for cost in costs if cost is not None])
    # The mean over all σ by their likelihood: smooth where the choice is not.
    likelihood = np.exp(-(stack - stack.min(0)) / _TEMPERATURE)
    log_sigma = (np.log(_SIGMAS_PX)[:, None, None] * likelihood).sum(0) / likelihood.sum(0)
    sigma_px: NDArray[np.float64] = np.exp(log_sigma)
    return sigma_px


def _fill(values: Plane, confidence: Plane) -> Plane:
    """Values where they are certain, else the weighted mean of ever wider surroundings."""
    known = values * confidence
    filled, certain = known, confidence
    reach = 1.0
    while certain.min() < 1e-3 and reach < max(values.shape):
        wide, weight = (cv2.GaussianBlur(x, (0, 0), reach, borderType=cv2.BORDER_REFLECT) for x in (known, confidence))
        mean = wide / np.maximum(weight, 1e-12)
        # Of each width only what is still missing.
        share = (1 - certain) * np.clip(weight / 0.05, 0, 1)
        filled, certain = filled + share * mean, certain + share
        reach *= 2
    everywhere = float(known.sum() / confidence.sum())
    result: Plane = filled + (1 - certain) * np.float32(everywhere)
    return result
