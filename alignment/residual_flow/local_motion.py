"""Small motion on top of the layers: Gauss-Newton in windows of every size, shrunk to what the evidence carries.

A frame pair taken from a tripod hardly moves beyond its global model, while blur matching is never perfect at depth
edges and noise never still. So each window first asks whether there is motion at all: its Gauss-Newton step (B. Lucas,
T. Kanade, IJCAI 1981) is scaled by 1 - (c/z)², 0 for z below c, where z is the step's squared length in units of its
own covariance (shrinkage towards the wider window: W. James, C. Stein 1961, positive part). The widest window starts
from the layer's motion, each finer one from the wider: without evidence the flow stays what the surroundings say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.residual_flow.blur_hypotheses import blurred_to_match, gradient, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.residual_flow.blur_hypotheses import BlurHypotheses, MatchedPair

    Image = NDArray[np.float32]

_TURNS = 3
_LEVELS = 5
_SMALLEST_PX = 8
_WINDOW_SIGMA = 3.0
_EVIDENCE_SIGMA = 5.0
_RESIDUAL_SIGMA = 8.0
# Residuals are smooth, so a window holds fewer independent pixels than pixels; and imperfect blur matching is no
# noise. Found on virtual pairs that stand still: 6 lets 0.1 px of false motion through, 15 eats true motion.
_EVIDENT = 10.0
# One prior observation: 1/px² that a textureless window is given, so that its step stays finite.
_PRIOR = 5.0


@dataclass(frozen=True, slots=True)
class Motion:
    """Flow between two frames and what it rests on, (H, W) each.

    Attributes:
        flow: (H, W, 2) u[moving→fixed], pixels.
        deviation_px: Root of the mean of the squared standard deviations along x and y.
        mismatch: Squared difference that is left, relative to local contrast: 0 equal, 1 unrelated.
    """

    flow: Image
    deviation_px: Image
    mismatch: Image


def estimate_motion(
    views: BlurHypotheses, start: Image, guess: Image | None = None, still: MatchedPair | None = None
) -> Motion:
    """The flow near `start`.

    Args:
        views: The two frames.
        start: (H, W, 2) u[moving→fixed] of the layer of each pixel: what the flow is where nothing speaks against it.
        guess: (H, W, 2) where to begin, and then one turn is enough; `start` if None.
        still: The two frames at equal softness under `start`, if that is known already.
    """
    flow, index = start if guess is None else guess, None
    for turn in range(_TURNS if guess is None else 1):
        soft = still if still and not turn else blurred_to_match(views, flow, index if turn % 2 else None)
        index = soft.index
        step, variance = _solve(_equations(soft, flow - start, views.noise))
        before, flow = flow, start + step
        if np.array_equal(flow, before):
            break  # what follows would be the same again
    else:
        soft = blurred_to_match(views, flow, index)
    power = mean(np.where(soft.inside, soft.moving**2 + soft.fixed**2, 0), _WINDOW_SIGMA)
    gap = mean(np.where(soft.inside, (soft.moving - soft.fixed) ** 2, 0), _WINDOW_SIGMA)
    mismatch = gap / (power + np.float32(4 * views.noise**2 + 1e-9))
    return Motion(flow, np.sqrt(variance), np.asarray(mismatch, dtype=np.float32))


def _equations(soft: MatchedPair, moved: Image, noise: float) -> list[Image]:
    """Per pixel the entries xx, xy, yy and x, y of the normal equations of the motion beyond the layer's.

    Rows are divided by the local variance of the residual and by Cauchy's weight (of twice that deviation).
    """
    gap = soft.moving - soft.fixed
    gx, gy = gradient(0.5 * (soft.moving + soft.fixed))
    known = mean(soft.inside.astype(np.float32), _RESIDUAL_SIGMA)
    variance = mean(np.where(soft.inside, gap**2, 0), _RESIDUAL_SIGMA) / np.maximum(known, 0.05)
    variance += np.float32(noise**2 + 1e-12)
    weight = soft.inside / (variance * (1 + gap**2 / (4 * variance)))
    target = gap + gx * moved[..., 0] + gy * moved[..., 1]
    rows = (weight * gx * gx, weight * gx * gy, weight * gy * gy, weight * gx * target, weight * gy * target)
    return [np.asarray(row, dtype=np.float32) for row in rows]


def _solve(equations: list[Image]) -> tuple[Image, Image]:
    """Coarse to fine over windows that double in size: (H, W, 2) motion and (H, W) its variance in px².

    Windows are smooth: each size is computed on the coarsest grid that carries it, the finest on every second pixel.
    """
    levels = [[_halved(image) for image in equations]]
    while len(levels) < _LEVELS and min(levels[-1][0].shape) >= _SMALLEST_PX:
        levels.append([_halved(image) for image in levels[-1]])
    flow = np.zeros((*levels[-1][0].shape, 2), dtype=np.float32)
    spread = np.zeros(levels[-1][0].shape, dtype=np.float32)
    for number in range(len(levels) - 1, -1, -1):
        pixels = np.float32(2 * np.pi * _WINDOW_SIGMA**2 * 4**number)
        xx, xy, yy, x, y = (pixels * mean(image, _WINDOW_SIGMA / 2) for image in levels[number])
        flow, spread = _enlarged(flow, xx.shape), _enlarged(spread, xx.shape)
        x, y = x - xx * flow[..., 0] - xy * flow[..., 1], y - xy * flow[..., 0] - yy * flow[..., 1]
        xx, yy = xx + np.float32(_PRIOR), yy + np.float32(_PRIOR)
        determinant = xx * yy - xy * xy
        dx, dy = (yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant
        evidence = mean(0.5 * (dx * x + dy * y), _EVIDENCE_SIGMA / 2)
        share = np.maximum(0, 1 - (_EVIDENT / np.maximum(evidence, np.float32(1e-6))) ** 2)
        flow = flow + np.dstack([share * dx, share * dy])
        # What the wider windows did not know of is known here as well as this window's own noise allows.
        own = np.float32(_EVIDENT / 2) * (xx + yy) / determinant
        moving = mean(share * (dx**2 + dy**2), _EVIDENCE_SIGMA / 2)
        spread = (1 - share) * spread + own * moving / (own + moving + np.float32(1e-9))
    return _enlarged(flow, equations[0].shape), _enlarged(spread, equations[0].shape)


def _halved(image: Image) -> Image:
    size = ((image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _enlarged(image: Image, shape: tuple[int, ...]) -> Image:
    enlarged = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, dtype=np.float32)
