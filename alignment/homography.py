"""The global model: a first search over zoom, rotation and shift, then Gauss-Newton on blur-matched frames.

Each Gauss-Newton step linearises both images (efficient second-order minimisation: S. Benhimane and E. Malis,
"Real-time image-based tracking of planes using efficient second-order minimization", IROS 2004) and weighs pixels
by Tukey's function of their residual relative to the local contrast, so that neither an occlusion edge nor a moving
object pulls. The parameters are the eight deviations from identity in coordinates centred on the frame; similarity
and affine models are linear subspaces of them. Their covariance is the cluster-robust "sandwich" over tiles
(K.-Y. Liang and S. Zeger, Biometrika 1986), which counts what neighbouring pixels share only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sdd_toolkit import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Image = NDArray[np.float32]

SEARCH_PX = 108
_TUKEY = 4.685
_DAMPING = 1e-7
_RIDGE = 1e-3
_ZOOM_STEP_PERCENT = 2.0
_ROTATION_STEP_DEG = 1.0

# Columns of each subspace of (h00 - 1, h01, h02, h10, h11 - 1, h12, h20, h21).
_E = np.eye(8)
BASES: dict[str, Matrix] = {
    "identity": np.zeros((8, 0)),
    "similarity": np.stack([_E[0] + _E[4], _E[3] - _E[1], _E[2], _E[5]], axis=1),
    "affine": _E[:, :6],
    "homography": _E,
}


@dataclass(frozen=True, slots=True)
class Equations:
    """Robust normal equations of one linearisation, kept apart by tile.

    Attributes:
        normal: (tiles, 9, 9) J'WJ; the ninth parameter is a gain between the images.
        gradient: (tiles, 9) J'Wr.
        scale: Robust standard deviation of the relative residual.
    """

    normal: Matrix
    gradient: Matrix
    scale: float

    def step(self, basis: Matrix) -> Matrix:
        """(8,) Gauss-Newton step within a subspace (the gain is always free)."""
        free = _with_gain(basis)
        normal = free.T @ self.normal.sum(axis=0) @ free
        normal += _DAMPING * np.trace(normal) / len(normal) * np.eye(len(normal))
        solution = np.linalg.solve(normal, free.T @ self.gradient.sum(axis=0))
        return np.asarray(basis @ solution[:-1], dtype=np.float64)

    def covariance(self, basis: Matrix) -> Matrix:
        """(k, k) cluster-robust covariance of the parameters within a subspace."""
        free = _with_gain(basis)
        normal = free.T @ self.normal.sum(axis=0) @ free
        bread = np.linalg.inv(normal + _DAMPING * np.trace(normal) / len(normal) * np.eye(len(normal)))
        parts = self.gradient @ free
        meat = parts.T @ parts
        # Few tiles span too few directions: a little of what independent pixels would give keeps it regular.
        meat += _RIDGE * float(np.trace(bread @ meat)) / len(normal) * normal
        return np.asarray((bread @ meat @ bread)[:-1, :-1], dtype=np.float64)


def _with_gain(basis: Matrix) -> Matrix:
    whole = np.zeros((9, basis.shape[1] + 1))
    whole[:8, :-1], whole[8, -1] = basis, 1.0
    return whole


def centred(size: tuple[int, int]) -> Matrix:
    """(3, 3) from pixels to coordinates centred on a (height, width) frame whose corners lie at distance 1."""
    height, width = size
    reach = float(np.hypot(width, height)) / 2
    return np.array([[1 / reach, 0, -(width - 1) / 2 / reach], [0, 1 / reach, -(height - 1) / 2 / reach], [0, 0, 1]])


def to_matrix(parameters: Matrix, size: tuple[int, int]) -> Matrix:
    """The homography in pixels that the eight centred parameters stand for."""
    frame = centred(size)
    inner = np.eye(3) + np.append(parameters, 0.0).reshape(3, 3)
    return geometry.normalised(np.linalg.inv(frame) @ inner @ frame)


def to_parameters(homography: Matrix, size: tuple[int, int]) -> Matrix:
    """The inverse of `to_matrix`."""
    frame = centred(size)
    inner = geometry.normalised(frame @ homography @ np.linalg.inv(frame))
    return np.asarray((inner - np.eye(3)).ravel()[:8], dtype=np.float64)


def search(moving: Image, fixed: Image, *, max_zoom_percent: float, max_rotation_deg: float) -> Matrix:
    """A rough homography `moving` → `fixed`: the zoom, rotation and shift of the highest correlation.

    Args:
        moving: (h, w) band-passed image.
        fixed: (h, w) band-passed image.
        max_zoom_percent: Largest zoom tried, either way.
        max_rotation_deg: Largest rotation tried, either way.
    """
    factor = max(max(fixed.shape) / SEARCH_PX, 1.0)
    small = (max(int(fixed.shape[1] / factor), 8), max(int(fixed.shape[0] / factor), 8))
    a, b = (cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in (moving, fixed))
    window = cv2.createHanningWindow(small, cv2.CV_32F) ** 0.5
    padded = (cv2.getOptimalDFTSize(2 * small[1]), cv2.getOptimalDFTSize(2 * small[0]))
    canvas = np.zeros(padded, dtype=np.float32)
    target = _spectrum(b * window, canvas)
    best, best_score = np.eye(3), -np.inf
    for zoom in _steps(max_zoom_percent, _ZOOM_STEP_PERCENT) / 100 + 1:
        for angle in np.radians(_steps(max_rotation_deg, _ROTATION_STEP_DEG)):
            turn = _about_centre(float(zoom), float(angle), (small[1], small[0]))
            turned = cv2.warpPerspective(a, turn, small, flags=cv2.INTER_LINEAR) * window
            crossed = cv2.mulSpectrums(target, _spectrum(turned, canvas), 0, conjB=True)
            surface = cv2.idft(crossed, flags=cv2.DFT_REAL_OUTPUT)
            _, peak, _, (dx, dy) = cv2.minMaxLoc(surface)
            score = peak / (float(np.linalg.norm(turned)) + 1e-12)
            if score > best_score:
                # Shifts beyond half the padded frame are negative ones.
                dx -= padded[1] if dx > padded[1] // 2 else 0
                dy -= padded[0] if dy > padded[0] // 2 else 0
                best_score = score
                best = np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]]) @ turn
    grow = np.array([fixed.shape[1] / small[0], fixed.shape[0] / small[1]])
    up = np.array([[grow[0], 0, (grow[0] - 1) / 2], [0, grow[1], (grow[1] - 1) / 2], [0, 0, 1]])
    return geometry.normalised(up @ best @ np.linalg.inv(up))


def _spectrum(image: Image, canvas: Image) -> Image:
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.asarray(cv2.dft(canvas, nonzeroRows=image.shape[0]), dtype=np.float32)


def _steps(limit: float, step: float) -> Matrix:
    count = int(np.ceil(limit / step))
    return np.linspace(-limit, limit, 2 * count + 1) if count else np.zeros(1)


def _about_centre(zoom: float, angle: float, size: tuple[int, int]) -> Matrix:
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    inner = np.array([[cosine - 1, -sine, 0], [sine, cosine - 1, 0], [0, 0, 0]])
    return to_matrix(inner.ravel()[:8], size)


def linearise(moving: Image, fixed: Image, weight: Image, tile_px: int) -> Equations:
    """Normal equations for the small warp δ with moving(x + δ(x)) = fixed(x).

    Args:
        moving: (H, W) the blurred frame under the current warp, blur-matched and band-passed.
        fixed: (H, W) the sharp frame, blur-matched and band-passed.
        weight: (H, W) 0 outside the overlap; elsewhere the inverse of the local contrast.
        tile_px: Side of the tiles the sums are kept for.
    """
    height, width = fixed.shape
    total = np.asarray(0.5 * (moving + fixed), dtype=np.float32)
    # Four-point central difference: exact for frequencies well below Nyquist, where defocused detail lives.
    kernel = np.array([1, -8, 0, 8, -1], dtype=np.float32)[None] / 12
    gx = cv2.filter2D(total, cv2.CV_32F, kernel)
    gy = cv2.filter2D(total, cv2.CV_32F, kernel.T)
    residual = fixed - moving
    relative = residual * weight
    live = np.abs(relative[weight > 0][::7])
    scale = 1.4826 * float(np.median(live)) + 1e-9 if live.size else 1e-9
    ratio = np.minimum(np.abs(relative) / np.float32(_TUKEY * scale), 1)
    robust = (weight * (1 - ratio**2)) ** 2
    # δ is in pixels while the parameters are centred: one centred unit is 1 / frame[0, 0] pixels.
    frame = centred((height, width)).astype(np.float32)
    x = np.broadcast_to(np.arange(width, dtype=np.float32) * frame[0, 0] + frame[0, 2], (height, width))
    y = np.broadcast_to((np.arange(height, dtype=np.float32) * frame[1, 1] + frame[1, 2])[:, None], (height, width))
    parts = [_cut(image, tile_px) for image in (gx / frame[0, 0], gy / frame[0, 0], x, y, total, residual, robust)]
    gx, gy, x, y, total, residual, robust = parts
    columns = np.empty((len(gx), 10, gx.shape[1]), dtype=np.float32)
    columns[:, 2], columns[:, 5], columns[:, 8], columns[:, 9] = gx, gy, total, residual
    np.multiply(gx, x, out=columns[:, 0])
    np.multiply(gx, y, out=columns[:, 1])
    np.multiply(gy, x, out=columns[:, 3])
    np.multiply(gy, y, out=columns[:, 4])
    radial = columns[:, 0] + columns[:, 4]
    np.multiply(radial, -x, out=columns[:, 6])
    np.multiply(radial, -y, out=columns[:, 7])
    products = np.matmul(columns * robust[:, None], columns.transpose(0, 2, 1)).astype(np.float64)
    return Equations(normal=products[:, :9, :9], gradient=products[:, :9, 9], scale=scale)


def _cut(image: Image, tile_px: int) -> Image:
    """(tiles, pixels) of the whole tiles of an (H, W) image."""
    high, wide = min(tile_px, image.shape[0]), min(tile_px, image.shape[1])
    rows, columns = image.shape[0] // high, image.shape[1] // wide
    parts = image[: rows * high, : columns * wide].reshape(rows, high, columns, wide).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parts.reshape(rows * columns, high * wide), dtype=np.float32)


def compose(homography: Matrix, step: Matrix, size: tuple[int, int]) -> Matrix:
    """`homography` after the small warp `step` (parameters) found by `linearise`."""
    return geometry.normalised(np.linalg.inv(to_matrix(step, size)) @ homography)


def choose_model(parameters: Matrix, covariance: Matrix, tiles: int) -> str:
    """The simplest model the evidence does not contradict.

    Wald distance of each subspace from the full estimate plus ln(tiles) per parameter (Schwarz 1978).

    Args:
        parameters: (8,) full estimate.
        covariance: (8, 8) of it.
        tiles: Number of independent observations.
    """
    information = np.linalg.inv(covariance + 1e-16 * np.eye(8))
    best, best_cost = "homography", np.inf
    for name, basis in BASES.items():
        gap = parameters.copy()
        if basis.shape[1]:
            normal = basis.T @ information @ basis
            gap -= basis @ np.linalg.solve(normal, basis.T @ information @ parameters)
        cost = float(gap @ information @ gap) + basis.shape[1] * float(np.log(max(tiles, 2)))
        if cost < best_cost:
            best, best_cost = name, cost
    return best


def nearest(parameters: Matrix, covariance: Matrix, model: str) -> Matrix:
    """(8,) the point of the model's subspace nearest to `parameters` under their covariance."""
    basis = BASES[model]
    information = np.linalg.inv(covariance + 1e-16 * np.eye(8))
    if not basis.shape[1]:
        return np.zeros(8)
    normal = basis.T @ information @ basis
    return np.asarray(basis @ np.linalg.solve(normal, basis.T @ information @ parameters), dtype=np.float64)


def corner_deviation_px(covariance: Matrix, basis: Matrix, size: tuple[int, int]) -> float:
    """Root mean square of the corners' standard deviations under a covariance within a subspace."""
    if not basis.shape[1]:
        return 0.0
    frame = centred(size)
    total = 0.0
    for x, y in geometry.project(frame, geometry.corners(size)):
        along_x = np.array([x, y, 1, 0, 0, 0, -x * x, -x * y])
        along_y = np.array([0, 0, 0, x, y, 1, -x * y, -y * y])
        jacobian = np.stack([along_x, along_y]) @ basis / frame[0, 0]
        total += float(np.trace(jacobian @ covariance @ jacobian.T))
    return float(np.sqrt(max(total, 0.0) / 4))
