"""Global motion models from the identity to a homography with a radial term: parameters, Jacobian, model selection.

The parameters are the eight deviations of the homography from identity in coordinates centred on the frame, and the
coefficient of the radial term; the simpler models are linear subspaces of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdd_toolkit.calibration.breathing_model import ZoomPrior

    Matrix = NDArray[np.float64]

# Columns of each subspace of (h00 - 1, h01, h02, h10, h11 - 1, h12, h20, h21, k).
_UNIT = np.eye(9)
_SIMILARITY = np.stack([_UNIT[0] + _UNIT[4], _UNIT[3] - _UNIT[1], _UNIT[2], _UNIT[5]], axis=1)
BASES: dict[str, Matrix] = {
    "identity": np.zeros((9, 0)),
    "similarity": _SIMILARITY,
    "affine": _UNIT[:, :6],
    "homography": _UNIT[:, :8],
    "similarity+radial": np.column_stack([_SIMILARITY, _UNIT[8]]),
    "homography+radial": _UNIT,
}
# Imperfect blur matching is shared by neighbouring tiles, which the scatter between tiles does not show: the true
# error is this many times that scatter, on planted pairs and on loops of focal stacks (docs/benchmarks/alignment.md).
_ERROR_PER_DEVIATION = 1.6
# Expected standard deviations of the affine and perspective parameters and of the radial one.
_TILT_DEVIATION = 5e-3
_RADIAL_DEVIATION = 5e-3
_SHEARS = 0.5 * np.array([[1, 0, 0, 0, -1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0, 0]], dtype=np.float64)
# A radial term also fits a little parallax: it needs four times the evidence that another parameter needs.
_RADIAL_COST = 4.0


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The simplest model that the evidence supports.

    Attributes:
        model: Name of the model.
        parameters: (9,) the point of its subspace nearest to the full estimate.
    """

    model: str
    parameters: Matrix


def choose_model(parameters: Matrix, scatter: Matrix, full: str, observations: int) -> ModelChoice:
    """Chooses the simplest model that explains an estimate.

    Args:
        parameters: (9,) full estimate.
        scatter: (k, k) its covariance within the basis of the full model, from the scatter between tiles.
        full: Name of the model that was fitted.
        observations: Number of independent observations.
    """
    covariance = _ERROR_PER_DEVIATION**2 * scatter
    model = simplest_model(parameters, covariance, full, observations)
    return ModelChoice(model, project_onto_model(parameters, covariance, full, model))


def corner_error_px(deviation: Matrix, misfit: Matrix, model: str, size: tuple[int, int]) -> float:
    """Estimated error at the frame's corners, root mean square: what is random, and what the misfit of the model adds.

    Args:
        deviation: (k, k) covariance of the parameters within the basis of the fitted model.
        misfit: (k,) what they change by under another weighting of the scene.
        model: Name of the fitted model.
        size: (height, width) of the frame.
    """
    return _ERROR_PER_DEVIATION * corner_deviation_px(deviation + np.outer(misfit, misfit), BASES[model], size)


def centring_matrix(size: tuple[int, int]) -> Matrix:
    """(3, 3) pixels to coordinates centred on a frame of `size` = (height, width) whose corners lie at distance 1."""
    height, width = size
    reach = float(np.hypot(width, height)) / 2
    return np.array([[1 / reach, 0, -(width - 1) / 2 / reach], [0, 1 / reach, -(height - 1) / 2 / reach], [0, 0, 1]])


def to_matrix(parameters: Matrix, size: tuple[int, int]) -> Matrix:
    """(3, 3) homography in pixels of (9,) parameters, without the radial one."""
    frame = centring_matrix(size)
    inner = np.eye(3) + np.append(parameters[:8], 0.0).reshape(3, 3)
    return geometry.normalise_homography(np.linalg.inv(frame) @ inner @ frame)


def to_parameters(homography: Matrix, radial: float, size: tuple[int, int]) -> Matrix:
    """(9,) parameters of a homography in pixels and a radial coefficient; the inverse of `to_matrix`."""
    frame = centring_matrix(size)
    inner = geometry.normalise_homography(frame @ homography @ np.linalg.inv(frame))
    return np.append((inner - np.eye(3)).ravel()[:8], radial)


def compose(homography: Matrix, step: Matrix, size: tuple[int, int]) -> Matrix:
    """`homography` after the small warp δ of `step` (9,), moving(x + δ(x)) = fixed(x); its radial part is ignored."""
    return geometry.normalise_homography(np.linalg.inv(to_matrix(step, size)) @ homography)


def jacobian(points: Matrix, size: tuple[int, int]) -> Matrix:
    """(N, 2, 9) derivatives of (N, 2) points (x, y) of a frame by each parameter, in pixels."""
    frame = centring_matrix(size)
    x, y = geometry.project(frame, points).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    square = x * x + y * y
    along_x = np.stack([x, y, one, zero, zero, zero, -x * x, -x * y, x * square], axis=1)
    along_y = np.stack([zero, zero, zero, x, y, one, -x * y, -y * y, y * square], axis=1)
    return np.asarray(np.stack([along_x, along_y], axis=1) / frame[0, 0], dtype=np.float64)


def tile_jacobian(size: tuple[int, int], grid: tuple[int, int], tile: tuple[int, int]) -> Matrix:
    """(rows, columns, 2, 9) `jacobian` at the centres of the tiles of a frame.

    Args:
        size: (height, width) of the frame.
        grid: (rows, columns) of tiles.
        tile: (height, width) of a tile.
    """
    ys = np.arange(grid[0]) * tile[0] + (tile[0] - 1) / 2
    xs = np.arange(grid[1]) * tile[1] + (tile[1] - 1) / 2
    centres = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    return jacobian(centres, size).reshape(*grid, 2, 9)


def step_prior(
    matrix: Matrix, radial: float, size: tuple[int, int], prior: ZoomPrior | None = None
) -> tuple[Matrix, Matrix]:
    """Prior of the next Gauss-Newton step, independent of the pixels.

    A camera on a tripod tilts little, so the affine and perspective parts are small. This prior holds the model where
    half of a frame is sky, and yields to the least texture. The zoom is that of `prior`, less certain the further the
    frames are shifted: rotating the camera by an angle θ magnifies by about θ².

    Args:
        matrix: The current homography.
        radial: The current radial coefficient.
        size: (height, width) of the frame.
        prior: Expected zoom.

    Returns:
        Information (9, 9) and its product with the expected step (9,).
    """
    parameters = to_parameters(matrix, radial, size)
    information = np.diag([0.0] * 6 + [_TILT_DEVIATION**-2] * 2 + [_RADIAL_DEVIATION**-2])
    for along in _SHEARS:
        information += np.outer(along, along) / _TILT_DEVIATION**2
    right = information @ parameters
    if prior is not None:
        shift = float(np.hypot(*geometry.decompose(matrix, size).shift_px)) / max(size)
        along = np.zeros(9)
        along[[0, 4]] = 0.5
        variance = prior.deviation**2 + shift**4
        # A prior that the pixels contradict loses its weight (a Cauchy tail).
        variance *= 1 + (float(along @ parameters) - (prior.zoom - 1)) ** 2 / (9 * variance)
        information += np.outer(along, along) / variance
        right += along * (float(along @ parameters) - (prior.zoom - 1)) / variance
    # The step is composed inversely, so that the expected step removes the current deviation.
    return information, right


def simplest_model(parameters: Matrix, covariance: Matrix, full: str, observations: int) -> str:
    """Name of the simplest model that the evidence does not contradict.

    It has the least Wald distance from the full estimate plus ln(observations) per parameter (G. Schwarz, "Estimating
    the dimension of a model", 1978).

    Args:
        parameters: (9,) full estimate.
        covariance: (k, k) its covariance within the basis of the full model.
        full: Name of the model that was fitted.
        observations: Number of independent observations.
    """
    best, best_cost = full, np.inf
    for name, basis in BASES.items():
        if not _spans(BASES[full], basis):
            continue
        gap = _coordinates_in(parameters - project_onto_model(parameters, covariance, full, name), full)
        freedom = basis.shape[1] + (_RADIAL_COST - 1 if name.endswith("radial") else 0)
        cost = float(gap @ _information_matrix(covariance) @ gap) + freedom * float(np.log(max(observations, 2)))
        if cost < best_cost:
            best, best_cost = name, cost
    return best


def corner_deviation_px(covariance: Matrix, basis: Matrix, size: tuple[int, int]) -> float:
    """Root mean square of the standard deviations of the corners, in pixels.

    Args:
        covariance: (k, k) of the parameters within the basis.
        basis: (9, k).
        size: (height, width) of the frame.
    """
    if not basis.shape[1]:
        return 0.0
    corners = jacobian(geometry.corners(size), size) @ basis
    total = float(np.einsum("pik,kl,pil->", corners, covariance, corners))
    return float(np.sqrt(max(total, 0.0) / 4))


def _information_matrix(covariance: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(covariance + 1e-18 * np.eye(len(covariance))), dtype=np.float64)


def _spans(outer: Matrix, inner: Matrix) -> bool:
    return bool(np.linalg.matrix_rank(np.column_stack([outer, inner])) == outer.shape[1])


def _coordinates_in(parameters: Matrix, model: str) -> Matrix:
    """(k,) coordinates of (9,) parameters in the basis of a model."""
    return np.asarray(np.linalg.lstsq(BASES[model], parameters, rcond=None)[0], dtype=np.float64)


def project_onto_model(parameters: Matrix, covariance: Matrix, full: str, model: str) -> Matrix:
    """(9,) the point of a model's subspace nearest to `parameters` under their covariance, see `choose_model`."""
    basis = BASES[model]
    if not basis.shape[1]:
        return np.zeros(9)
    inner = np.linalg.lstsq(BASES[full], basis, rcond=None)[0]
    information = _information_matrix(covariance)
    normal = inner.T @ information @ inner
    return np.asarray(basis @ np.linalg.solve(normal, inner.T @ information @ _coordinates_in(parameters, full)))
