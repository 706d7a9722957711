"""Photometry of a pair: noise-stabilised tone, noise model, and the gain, offset and vignetting between two frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit.imaging.noise import means_in_cells, noise_sigma, response_means
from sdd_toolkit.imaging.robust import MAD_TO_SIGMA, TUKEY, biweight, biweight_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

SATURATION_LEVEL = 0.98
_BRIGHT_PERCENTILE = 99.0
_DARK_SHARE = 1e-3
_CELL_PX = 16
# Below this linear level a frame is noise around black.
_LEAST_LIGHT = 1e-3
_LEAST_CELLS = 60
# Neighbouring cells share scene and flare: this many of them count as one observation in the choice of terms.
_CELLS_PER_OBSERVATION = 16.0
_BRIGHTNESSES = 5
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise model of a frame: variance = `floor` + `per_light` · linear light.

    Attributes:
        floor: Variance of read noise.
        per_light: Variance of photon noise per unit of linear light.
    """

    floor: float
    per_light: float

    def variance(self, light: Image) -> Image:
        """(H, W) noise variance at each pixel of an (H, W) smooth luminance."""
        return np.asarray(np.float32(self.floor) + np.float32(self.per_light) * light, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Photometry:
    """Brightness of the sharp frame in terms of the blurred one: gain (1 + a ρ² + b ρ⁴) · blur + offset.

    Attributes:
        gain: At the frame centre, linear.
        offset: Linear light (flare, black level).
        falloff: (a, b), the difference of vignetting; ρ is the distance from the frame centre in half diagonals.
    """

    gain: float = 1.0
    offset: float = 0.0
    falloff: tuple[float, float] = (0.0, 0.0)

    def apply(self, light: Image) -> Image:
        """An (H, W) linear luminance of the blurred frame at the sharp frame's brightness."""
        if self.falloff == (0.0, 0.0):
            return np.asarray(light * np.float32(self.gain) + np.float32(self.offset), dtype=np.float32)
        square = squared_radius((light.shape[0], light.shape[1]))
        field = self.gain * (1 + self.falloff[0] * square + self.falloff[1] * square**2)
        return np.asarray(light * field.astype(np.float32) + np.float32(self.offset), dtype=np.float32)


def unsaturated_mask(frame: Image) -> Image:
    """(H, W) 1 where no channel of an (H, W, 3) linear frame is saturated, else 0."""
    below = float(np.nextafter(np.float32(SATURATION_LEVEL), np.float32(0)))
    unsaturated = cv2.inRange(frame, (-np.inf,) * 3, (below,) * 3)
    return np.asarray(unsaturated, dtype=np.float32) * np.float32(1 / 255)


def white_level(light: NDArray[np.float32]) -> float:
    """A high percentile of an (H, W) linear luminance, which scales with exposure."""
    return float(np.percentile(light[::4, ::4], _BRIGHT_PERCENTILE))


def to_tone(light: NDArray[np.float32], white: float) -> NDArray[np.float32]:
    """Square root of luminance relative to `white`, in which shot noise has about equal strength everywhere.

    A small offset keeps read noise in the shadows from being amplified; gain cancels against `white`.

    Args:
        light: (H, W) linear luminance.
        white: Its `white_level`.
    """
    return np.asarray(np.sqrt(light * np.float32(1.0 / max(white, 1e-9)) + np.float32(_DARK_SHARE)))


def subtract_local_mean(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """An (H, W) image less its local Gaussian mean, which removes offset, vignetting and shading from a comparison."""
    return np.asarray(image - gaussian_mean(image, sigma_px), dtype=np.float32)


def gaussian_mean(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian mean of an (H, W) image, border mirrored; wide windows are computed on a reduced grid."""
    if sigma_px < 4.0 or min(image.shape) < 64:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))
    height, width = image.shape
    factor = 2 if sigma_px < 6.0 else 4
    small = cv2.resize(image, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / factor, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def estimate_noise(light: Image) -> Noise:
    """Estimates the noise model of an (H, W) linear luminance.

    The result is the highest line, not falling with light, below the response of the calmest cells, which are taken at
    several levels of brightness separately. Texture only adds to the response, so the true line lies below all of it.
    """
    response, brightness = response_means(light), means_in_cells(light)
    if response.size < 4 * _BRIGHTNESSES:
        return Noise(noise_sigma(light) ** 2, 0.0)
    order = np.argsort(brightness)
    bins = np.array_split(order, _BRIGHTNESSES)
    x = np.array([float(np.mean(brightness[members])) for members in bins])
    y = np.array([float(np.percentile(response[members], 25)) ** 2 * np.pi / 72 for members in bins])
    best = Noise(float(y.min()), 0.0)
    for i in range(_BRIGHTNESSES):
        for j in range(i):
            slope = (y[i] - y[j]) / max(x[i] - x[j], 1e-12)
            floor = y[j] - slope * x[j]
            below = np.all(floor + slope * x <= y * (1 + 1e-9))
            higher = floor + slope * x.mean() > best.floor + best.per_light * x.mean()
            if slope >= 0 and floor >= 0 and below and higher:
                best = Noise(float(floor), float(slope))
    slope = float(np.min(y / np.maximum(x, 1e-12)))
    if slope * x.mean() > best.floor + best.per_light * x.mean():
        best = Noise(0.0, slope)
    return best


def channel_gain(moving: Image, fixed: Image, homography: Matrix, usable: NDArray[np.bool_], luma: Photometry) -> float:
    """The gain of one colour channel, given the photometry of luminance: weighted median over cells.

    Args:
        moving: (h, w) linear channel of the blurred frame.
        fixed: (h, w) the same channel of the sharp frame.
        homography: Blurred to sharp, in pixels of these frames.
        usable: (rows, columns) cells that may be compared.
        luma: Photometry of the luminance.
    """
    size = (fixed.shape[0], fixed.shape[1])
    grid = (usable.shape[0], usable.shape[1])
    warped = cv2.warpPerspective(
        replace(luma, gain=1.0, offset=0.0).apply(moving),
        homography,
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    a = cell_means(np.asarray(warped, dtype=np.float32), grid)
    b = cell_means(fixed, grid) - luma.offset
    lit = usable.ravel() & (a > _LEAST_LIGHT) & (b > _LEAST_LIGHT)
    return _weighted_median(b[lit] / a[lit], np.sqrt(a[lit] * b[lit])) if lit.any() else luma.gain


def fit_brightness(moving: Matrix, fixed: Matrix, squared_radii: Matrix) -> Photometry:
    """Fits the brightness of one frame in terms of the other to means of cells that show the same content.

    fixed = gain (1 + a ρ² + b ρ⁴) moving + offset, by least squares on relative residuals under Tukey's weights, so
    that clipped, occluded and moving parts have no weight. Offset and falloff are included only if the evidence
    supports them (G. Schwarz, "Estimating the dimension of a model", 1978). Cell means hardly change with defocus, but
    blur-matched frames are preferable.

    Args:
        moving: (N,) linear cell means of the blurred frame, on the sharp frame's grid.
        fixed: (N,) linear cell means of the sharp frame.
        squared_radii: (N,) ρ² of the cells: squared distance from the centre in half diagonals.

    Returns:
        The identity where no cell can be compared.
    """
    lit = (moving > _LEAST_LIGHT) & (fixed > _LEAST_LIGHT)
    if not lit.any():
        return Photometry()
    m, f, r = moving[lit], fixed[lit], squared_radii[lit]
    gain = _weighted_median(f / m, np.sqrt(f * m))
    columns = np.stack([m, np.ones_like(m), m * r, m * r**2], axis=1)
    relative = 1.0 / (gain * m + f + 0.02 * float(np.percentile(f, 99)))
    best = Photometry(gain=gain)
    if len(m) < _LEAST_CELLS:
        return best
    best_cost = np.inf
    for terms in ((0,), (0, 1), (0, 2, 3), (0, 1, 2, 3)):
        solution, cost = _fit_robustly(columns[:, terms], f, relative, gain)
        cost += _CELLS_PER_OBSERVATION * len(terms) * float(np.log(len(m)))
        if cost < best_cost and solution[0] > 0:
            best_cost = cost
            whole = np.zeros(4)
            whole[list(terms)] = solution
            best = Photometry(
                gain=float(whole[0]),
                offset=float(whole[1]),
                falloff=(float(whole[2] / whole[0]), float(whole[3] / whole[0])),
            )
    return best


def _fit_robustly(columns: Matrix, target: Matrix, relative: Matrix, gain: float) -> tuple[Matrix, float]:
    """Iteratively reweighted least squares under Tukey's weights: the solution, and N ln(scale²) of its residuals."""
    residual = (target - gain * columns[:, 0]) * relative
    solution: Matrix = np.zeros(columns.shape[1])
    scale = 1.0
    for _ in range(_ROUNDS):
        scale = MAD_TO_SIGMA * float(np.median(np.abs(residual))) + 1e-6
        weight = relative * np.sqrt(biweight((residual / (TUKEY * scale)) ** 2))
        weighted = columns * (weight * weight)[:, None]
        solution = np.asarray(np.linalg.lstsq(weighted.T @ columns, weighted.T @ target, rcond=None)[0], np.float64)
        residual = (target - columns @ solution) * relative
    # Tukey's loss at the scale reached, on top of the scale itself.
    loss = TUKEY**2 / 3 * float(np.sum(biweight_loss((residual / (TUKEY * scale)) ** 2)))
    return solution, 2 * len(target) * float(np.log(scale)) + loss


def _weighted_median(values: Matrix, weight: Matrix) -> float:
    order = np.argsort(values)
    share = np.cumsum(weight[order])
    return float(np.interp(0.5 * share[-1], share - 0.5 * weight[order], values[order]))


def cell_means(image: Image, size: tuple[int, int]) -> Matrix:
    """(N,) means of an (H, W) image over a grid of `size` = (rows, columns) cells."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float64).ravel()


def brightness_grid(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the cells in which brightness is compared, for a frame of `size` = (height, width)."""
    return max(size[0] // _CELL_PX, 1), max(size[1] // _CELL_PX, 1)


def squared_radius(size: tuple[int, int]) -> Matrix:
    """(rows, columns) ρ² at the centres of a grid that covers a frame: 0 at the frame centre, 1 in its corners."""
    rows, columns = size
    y, x = (np.arange(rows) + 0.5) / rows - 0.5, (np.arange(columns) + 0.5) / columns - 0.5
    # Cells have the aspect ratio of pixels, so counts of cells stand for lengths.
    reach = (rows**2 + columns**2) / 4
    return np.asarray(((y * rows) ** 2)[:, None] / reach + ((x * columns) ** 2)[None] / reach, dtype=np.float64)
