"""Small local motion: Gauss-Newton in windows of every size, shrunk towards the wider window by its evidence.

A pair taken from a tripod hardly moves beyond its global model, while blur matching is imperfect at depth edges and
every difference holds noise. So a window's Gauss-Newton step (B. Lucas, T. Kanade, IJCAI 1981) is scaled by
1 - (c/z)², and by 0 for z below c, where z is the step's squared length in units of its own covariance (shrinkage
towards the wider window: W. James, C. Stein 1961, positive part). The widest window starts from the motion of its
layer, each finer one from the wider: without evidence the flow stays at that of the surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.residual_flow.blur_hypotheses import blur_to_match, central_gradient, window_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.residual_flow.blur_hypotheses import BlurHypotheses, MatchedPair

    Image = NDArray[np.float32]

_ROUNDS = 3
_LEVELS = 5
_SMALLEST_PX = 8
_WINDOW_SIGMA_PX = 3.0
_EVIDENCE_SIGMA_PX = 5.0
_RESIDUAL_SIGMA_PX = 8.0
# c of the shrinkage. Residuals are smooth, so a window holds fewer independent pixels than pixels, and imperfect blur
# matching is not noise. From static virtual pairs: 6 lets 0.1 px of false motion through, 15 suppresses true motion.
_LEAST_EVIDENCE = 10.0
# One prior observation: information in 1/px² added to every window, so that a textureless one has a finite step.
_PRIOR = 5.0


@dataclass(frozen=True, slots=True)
class Motion:
    """Flow between two frames, its uncertainty and its misfit.

    Attributes:
        flow: (H, W, 2) u[moving→fixed] in pixels.
        deviation_px: (H, W) root of the mean of the squared standard deviations along x and y.
        mismatch: (H, W) squared difference under the flow relative to local contrast: 0 equal, 1 unrelated.
    """

    flow: Image
    deviation_px: Image
    mismatch: Image


def estimate_motion(
    hypotheses: BlurHypotheses, layer_flow: Image, guess: Image | None = None, at_layer: MatchedPair | None = None
) -> Motion:
    """Estimates the flow in the neighbourhood of the motion of the layers.

    Args:
        hypotheses: The two frames.
        layer_flow: (H, W, 2) u[moving→fixed] of each pixel's layer: the flow where there is no evidence for another.
        guess: (H, W, 2) initial flow, refined in a single round; `layer_flow` if None.
        at_layer: The frames at equal blur under `layer_flow`, if known.
    """
    flow, index = layer_flow if guess is None else guess, None
    for number in range(_ROUNDS if guess is None else 1):
        if at_layer and not number:
            matched = at_layer
        else:
            matched = blur_to_match(hypotheses, flow, index if number % 2 else None)
        index = matched.index
        step, variance = _solve(_normal_equations(matched, flow - layer_flow, hypotheses.noise))
        before, flow = flow, layer_flow + step
        if np.array_equal(flow, before):
            break  # another round would repeat this one
    else:
        matched = blur_to_match(hypotheses, flow, index)
    power = window_mean(np.where(matched.inside, matched.moving**2 + matched.fixed**2, 0), _WINDOW_SIGMA_PX)
    energy = window_mean(np.where(matched.inside, (matched.moving - matched.fixed) ** 2, 0), _WINDOW_SIGMA_PX)
    mismatch = energy / (power + np.float32(4 * hypotheses.noise**2 + 1e-9))
    return Motion(flow, np.sqrt(variance), np.asarray(mismatch, dtype=np.float32))


def _normal_equations(matched: MatchedPair, beyond_layer: Image, noise: float) -> list[Image]:
    """The entries xx, xy, yy and x, y of each pixel's normal equations for the motion beyond its layer's.

    Rows are divided by the local variance of the residual and by Cauchy's weight (of twice that deviation).

    Args:
        matched: The frames at equal blur under the current flow.
        beyond_layer: (H, W, 2) that flow less the layer's.
        noise: Standard deviation of the noise in the difference of the frames.
    """
    difference = matched.moving - matched.fixed
    gx, gy = central_gradient(0.5 * (matched.moving + matched.fixed))
    share = window_mean(matched.inside.astype(np.float32), _RESIDUAL_SIGMA_PX)
    energy = window_mean(np.where(matched.inside, difference**2, 0), _RESIDUAL_SIGMA_PX)
    variance = energy / np.maximum(share, 0.05)
    variance += np.float32(noise**2 + 1e-12)
    weight = matched.inside / (variance * (1 + difference**2 / (4 * variance)))
    target = difference + gx * beyond_layer[..., 0] + gy * beyond_layer[..., 1]
    rows = (weight * gx * gx, weight * gx * gy, weight * gy * gy, weight * gx * target, weight * gy * target)
    return [np.asarray(row, dtype=np.float32) for row in rows]


def _solve(equations: list[Image]) -> tuple[Image, Image]:
    """Coarse to fine over windows that double in size: (H, W, 2) motion and (H, W) its variance in px².

    Windows are smooth: each size is computed on the coarsest grid that carries it, the finest on every second pixel.
    """
    levels = [[_halve(image) for image in equations]]
    while len(levels) < _LEVELS and min(levels[-1][0].shape) >= _SMALLEST_PX:
        levels.append([_halve(image) for image in levels[-1]])
    flow = np.zeros((*levels[-1][0].shape, 2), dtype=np.float32)
    variance = np.zeros(levels[-1][0].shape, dtype=np.float32)
    for number in range(len(levels) - 1, -1, -1):
        pixels = np.float32(2 * np.pi * _WINDOW_SIGMA_PX**2 * 4**number)
        xx, xy, yy, x, y = (pixels * window_mean(image, _WINDOW_SIGMA_PX / 2) for image in levels[number])
        flow, variance = _resize(flow, xx.shape), _resize(variance, xx.shape)
        x, y = x - xx * flow[..., 0] - xy * flow[..., 1], y - xy * flow[..., 0] - yy * flow[..., 1]
        xx, yy = xx + np.float32(_PRIOR), yy + np.float32(_PRIOR)
        determinant = xx * yy - xy * xy
        dx, dy = (yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant
        evidence = window_mean(0.5 * (dx * x + dy * y), _EVIDENCE_SIGMA_PX / 2)
        share = np.maximum(0, 1 - (_LEAST_EVIDENCE / np.maximum(evidence, np.float32(1e-6))) ** 2)
        flow = flow + np.dstack([share * dx, share * dy])
        # Motion that the wider windows miss is as uncertain here as this window's own noise makes it.
        window_variance = np.float32(_LEAST_EVIDENCE / 2) * (xx + yy) / determinant
        missed = window_mean(share * (dx**2 + dy**2), _EVIDENCE_SIGMA_PX / 2)
        added = window_variance * missed / (window_variance + missed + np.float32(1e-9))
        variance = (1 - share) * variance + added
    return _resize(flow, equations[0].shape), _resize(variance, equations[0].shape)


def _halve(image: Image) -> Image:
    size = ((image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _resize(image: Image, shape: tuple[int, ...]) -> Image:
    resized = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)
