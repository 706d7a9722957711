"""Regression of the global motion on the displacements of tiles.

Every tile of the frame gives one linear system for its displacement: Gauss-Newton on both images' gradients (efficient
second-order minimisation: S. Benhimane and E. Malis, IROS 2004), from which an offset, a gain and a change of blur of
the tile are eliminated, so that shading, flare and imperfect blur matching do not bias it. Pixels are weighted by
Tukey's function of their residual.

The global model is then a random-effects regression over tiles (R. DerSimonian and N. Laird, "Meta-analysis in
clinical trials", 1986): a tile's displacement scatters about the model by its own uncertainty *and* by a spread τ that
all tiles share (parallax, imperfect optics). While τ is small, strong texture decides; where it is large, all parts of
the scene count alike, however blurred, and a deep scene does not favour the part that happens to be in focus. Tiles
that contradict the rest have less weight, by Tukey's function again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.estimation import homography
from alignment.estimation.blur_matching import four_point_gradient
from sdd_toolkit.imaging.robust import MAD_TO_SIGMA, TUKEY, biweight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

_RIDGE = 1e-6
_ROUNDS = 6
# Least share of a tile that must lie inside the overlap.
_COVERED = 0.25
# A residual far below the typical one is chance, not precision.
_LEAST_VARIANCE = 0.3
# Median of a chi-squared variable of one degree of freedom.
_MEDIAN_CHI2 = 0.4549
# Least share of a tile's gradient energy that is not noise, and the factor by which noise may be underestimated.
_LEAST_TEXTURE = 0.2
_NOISE_MARGIN = 1.1
_LEAST_SPREAD_PX = 1e-4
_LARGEST_SPREAD_PX = 16.0
# Neighbouring tiles share errors: they are summed into about this many clusters with independent errors.
_CLUSTERS = 60
_CLUSTER_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class TileSystems:
    """One linear system per tile: information · displacement = pull, in pixels.

    Attributes:
        information: (tiles, 2, 2) inverse covariance of the displacement up to a common factor; 0 in tiles without a
            measurement.
        pull: (tiles, 2) right-hand side.
        jacobian: (tiles, 2, 9) displacement of the tile centre by each parameter, see `homography`.
        grid: (rows, columns) of tiles.
    """

    information: Matrix
    pull: Matrix
    jacobian: Matrix
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class MotionFit:
    """The next step of the global model.

    Attributes:
        step: (9,) parameters of the small warp.
        covariance: (k, k) of the parameters within the basis; cluster-robust (K.-Y. Liang and S. Zeger, 1986).
        deviation: (k, k) covariance of the parameters if the model holds up to a spread that is independent from tile
            to tile.
        by_texture: (k,) what the parameters change by if texture alone weighs the tiles (τ = 0). If the model holds,
            both weightings estimate the same, so this shows what the misfit of the model is worth (J. Hausman,
            "Specification tests in econometrics", 1978).
        spread_px: τ, the standard deviation of tile displacements that their own uncertainty does not explain.
        weight: (tiles,) Tukey weight of each tile, 0 … 1; 0 in tiles without a measurement.
    """

    step: Matrix
    covariance: Matrix
    deviation: Matrix
    by_texture: Matrix
    spread_px: float
    weight: Matrix


def linearise(
    moving: Image, fixed: Image, blur_derivative: Image, weight: Image, tile_px: int, noise_energy: Image | None = None
) -> TileSystems:
    """Builds the linear systems for the displacement d of every tile with moving(x + d) = fixed(x).

    Args:
        moving: (H, W) the blurred frame under the current warp, blur-matched.
        fixed: (H, W) the sharp frame, blur-matched.
        blur_derivative: (H, W) change of `fixed` with the radius of blur.
        weight: (H, W) inverse variance of a pixel's residual, up to a factor; 0 outside the overlap.
        tile_px: Side of a tile.
        noise_energy: (H, W) contribution of noise alone to a pixel's weighted squared gradient; None: zero.
    """
    height, width = fixed.shape
    high, wide = min(tile_px, height), min(tile_px, width)
    rows, columns = height // high, width // wide
    total = np.asarray(0.5 * (moving + fixed), dtype=np.float32)
    along_x, along_y = four_point_gradient(total)
    difference = fixed - moving
    # The columns of the regression; number 2, the offset, is one everywhere.
    images = {0: along_x, 1: along_y, 3: total, 4: blur_derivative, 5: difference}
    parts = np.ones((columns, 6, high, wide), dtype=np.float32)
    flat = parts.reshape(columns, 6, -1)
    products = np.empty((rows * columns, 6, 6), dtype=np.float64)
    mass = np.empty(rows * columns, dtype=np.float64)
    for row in range(rows):
        strip = slice(row * high, (row + 1) * high)
        for number, image in images.items():
            parts[:, number] = _split_row(image[strip], columns, wide)
        weights = np.ascontiguousarray(_split_row(weight[strip], columns, wide)).reshape(columns, -1)
        weights = weights * _tukey_weights(flat[:, -1], weights)
        tiles = slice(row * columns, (row + 1) * columns)
        products[tiles] = np.matmul(flat * weights[:, None], flat.transpose(0, 2, 1))
        mass[tiles] = weights.sum(axis=1, dtype=np.float64)
    grid, tile = (rows, columns), (high, wide)
    covered = _tile_sums((weight > 0).astype(np.float32), grid, tile) >= _COVERED * high * wide
    noise = np.zeros_like(mass)
    if noise_energy is not None:
        along_x, along_y = four_point_gradient(difference)
        # The difference holds the noise of both frames at four times the strength it has in their mean, and more.
        bound = _tile_sums(weight * (along_x * along_x + along_y * along_y), grid, tile) / 4
        share = mass / np.maximum(_tile_sums(weight, grid, tile), 1e-30)
        noise = share * np.minimum(_tile_sums(noise_energy, grid, tile), bound)
    return _eliminate_nuisance(products, mass, noise, covered, homography.tile_jacobian((height, width), grid, tile))


def _split_row(strip: Image, columns: int, wide: int) -> Image:
    """(columns, high, wide) one row of tiles, a view."""
    return strip[:, : columns * wide].reshape(strip.shape[0], columns, wide).transpose(1, 0, 2)


def _tukey_weights(residual: Image, weight: Image) -> Image:
    """Tukey's weight of every pixel, relative to the spread of residuals in its tile."""
    relative = np.abs(residual) * np.sqrt(weight)
    # Pixels of a tile that lie outside the overlap have weight 0 and do not count.
    share = np.maximum((weight[:, ::3] > 0).mean(axis=1), 0.1)
    ordered = np.sort(relative[:, ::3], axis=1)
    index = np.clip(((1 - 0.5 * share) * ordered.shape[1]).astype(np.intp), 0, ordered.shape[1] - 1)
    scale = MAD_TO_SIGMA * np.take_along_axis(ordered, index[:, None], axis=1) + np.float32(1e-9)
    ratio = np.asarray(relative / (np.float32(TUKEY) * scale), dtype=np.float32)
    return biweight(ratio * ratio)


def _tile_sums(image: Image, grid: tuple[int, int], tile: tuple[int, int]) -> Matrix:
    """(tiles,) sums over each tile."""
    whole = image[: grid[0] * tile[0], : grid[1] * tile[1]]
    means = cv2.resize(whole, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(tile[0] * tile[1] * means.astype(np.float64).ravel())


def _eliminate_nuisance(
    products: Matrix, mass: Matrix, noise: Matrix, covered: NDArray[np.bool_], jacobian: Matrix
) -> TileSystems:
    """Eliminates offset, gain and change of blur from each tile's sums (Schur complement).

    Args:
        products: (tiles, 6, 6) sums.
        mass: (tiles,) sum of weights.
        noise: (tiles,) contribution of noise alone to the gradient energy.
        covered: (tiles,) tiles with enough pixels inside the overlap.
        jacobian: (rows, columns, 2, 9).
    """
    nuisance, retained = np.array([2, 3, 4]), np.array([0, 1, 5])
    inner = products[:, nuisance[:, None], nuisance]
    ridge = _RIDGE * np.einsum("tii->ti", inner) + 1e-12
    cross = products[:, retained[:, None], nuisance]
    inner = inner + ridge[:, :, None] * np.eye(len(nuisance))
    rest = products[:, retained[:, None], retained] - cross @ np.linalg.solve(inner, cross.transpose(0, 2, 1))
    variance = np.maximum(rest[:, 2, 2], 0) / np.maximum(mass, 1e-12)
    typical = float(np.median(variance[covered])) if covered.any() else 1.0
    # Noise has gradients too, and would bias flat tiles towards no motion: its contribution to the energy is subtracted
    # (errors in variables: W. Fuller, Measurement error models, 1987, ch. 2).
    energy = rest[:, 0, 0] + rest[:, 1, 1]
    texture = np.maximum(1 - _NOISE_MARGIN * noise / np.maximum(energy, 1e-30), 0) * covered
    texture[texture < _LEAST_TEXTURE] = 0
    precision = 1 / np.maximum(variance, _LEAST_VARIANCE * typical + 1e-15)
    grid = jacobian.shape[0], jacobian.shape[1]
    return TileSystems(
        information=rest[:, :2, :2] * (precision * texture**2)[:, None, None],
        pull=rest[:, :2, 2] * (precision * texture)[:, None],
        jacobian=jacobian.reshape(-1, 2, 9),
        grid=grid,
    )


def fit_motion(tiles: TileSystems, basis: Matrix, prior: tuple[Matrix, Matrix] | None = None) -> MotionFit:
    """Fits a global motion to the displacements of all tiles by random-effects regression.

    Args:
        tiles: From `linearise`.
        basis: (9, k) of the model.
        prior: From `homography.step_prior`.
    """
    values, vectors = np.linalg.eigh(tiles.information)
    values = np.maximum(values, 0)
    pull = np.einsum("tji,tj->ti", vectors, tiles.pull)
    jacobian = np.einsum("tji,tjk->tik", vectors, tiles.jacobian @ basis)
    # A direction without texture carries no measurement.
    measured = values > 1e-4 * float(np.median(values[:, 1])) + 1e-12
    factor, spread2 = 1.0, 0.0
    weight = np.where(measured.any(axis=1), 1.0, 0.0)
    step = np.zeros(basis.shape[1])
    bread = np.eye(basis.shape[1])
    for _ in range(_ROUNDS):
        precision = np.where(measured, values / (factor + spread2 * values), 0.0) * weight[:, None]
        displacement = np.divide(pull, values, out=np.zeros_like(values), where=measured)
        normal, right = _normal_equations(jacobian, displacement, precision, basis, prior)
        bread = np.asarray(np.linalg.inv(normal) if len(normal) else normal, dtype=np.float64)
        step = bread @ right
        residual = displacement - jacobian @ step
        factor, spread2 = _estimate_scatter(residual[measured], values[measured])
        energy = np.where(measured, residual**2 * values / (factor + spread2 * values), 0.0).sum(axis=1)
        weight = np.where(measured.any(axis=1), biweight(energy / (2 * TUKEY**2)), 0.0)
    scores = np.einsum("tik,ti->tk", jacobian, precision * residual)
    meat = _sum_cluster_scores(scores, tiles.grid)
    if len(normal):
        # A small share of the covariance of independent tiles keeps it regular where few clusters span too few
        # directions.
        meat += _CLUSTER_RIDGE * float(np.trace(bread @ meat)) / len(normal) * normal
    by_texture = np.where(measured, values / factor, 0.0) * weight[:, None]
    other = np.linalg.solve(*_normal_equations(jacobian, displacement, by_texture, basis, prior)) - step
    return MotionFit(basis @ step, bread @ meat @ bread, bread, other, float(np.sqrt(spread2)), weight)


def _normal_equations(
    jacobian: Matrix, displacement: Matrix, precision: Matrix, basis: Matrix, prior: tuple[Matrix, Matrix] | None
) -> tuple[Matrix, Matrix]:
    """Matrix (k, k) and right-hand side (k,) of the regression on the displacements along two directions of each tile.

    Args:
        jacobian: (tiles, 2, k).
        displacement: (tiles, 2).
        precision: (tiles, 2) weights.
        basis: (9, k) of the model.
        prior: From `homography.step_prior`.
    """
    flat = jacobian.reshape(-1, jacobian.shape[2])
    normal = flat.T @ (flat * precision.reshape(-1, 1))
    right = np.einsum("tik,ti->k", jacobian, precision * displacement)
    if prior is not None:
        normal, right = normal + basis.T @ prior[0] @ basis, right + basis.T @ prior[1]
    return normal + 1e-7 * (np.trace(normal) / max(len(normal), 1) + 1e-12) * np.eye(len(normal)), right


def _estimate_scatter(residual: Matrix, values: Matrix) -> tuple[float, float]:
    """(factor, τ²) with residual² ≈ factor / values + τ²: the scatter of weak tiles, and of strong ones."""
    if residual.size < 8:
        return 1.0, 0.0
    weak = values <= np.median(values)
    factor = max(float(np.median(residual[weak] ** 2 * values[weak])) / _MEDIAN_CHI2, 1e-3)
    if weak.all():
        return factor, 0.0
    square, variance = residual[~weak] ** 2, factor / values[~weak]
    if float(np.median(square / variance)) <= _MEDIAN_CHI2:
        return factor, 0.0
    # For half of the tiles residual² / (variance + τ²) exceeds the median of chi-squared, that is
    # residual² / median - variance > τ².
    spread2 = float(np.median(square / _MEDIAN_CHI2 - variance))
    return factor, min(max(spread2, _LEAST_SPREAD_PX**2), _LARGEST_SPREAD_PX**2)


def _sum_cluster_scores(scores: Matrix, grid: tuple[int, int]) -> Matrix:
    """Σ s sᵀ over clusters of neighbouring tiles, s the sum of the (tiles, k) scores in a cluster."""
    rows, columns = grid
    side = max(round(float(np.sqrt(rows * columns / _CLUSTERS))), 1)
    label = (np.arange(rows) // side)[:, None] * (columns // side + 1) + (np.arange(columns) // side)[None]
    sums = np.zeros((int(label.max()) + 1, scores.shape[1]))
    np.add.at(sums, label.ravel(), scores)
    return sums.T @ sums
