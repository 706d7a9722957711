"""Far motions: which jumps do places agree on that the global model does not explain?

Every place of a coarse grid is compared with every place within reach, by correlation in a window; the jumps that most
places vote for are then measured to a small part of a pixel on the places that voted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.views import equally_soft, gradient, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.views import Soft, Views

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

LEAST_SHARE = 0.003
_SEARCH_SIDE_PX = 400
_REACH = 24
_WINDOW_SIGMA = 4.5
_WINDOW_PX = 15
_EXPLAINED_NCC = 0.6
_FOUND_NCC = 0.6
_OVER_NOISE = 4.0
_FAINT = 0.02
_MOST = 3
_APART_PX = 4.0
_STEPS = 6
_STILL_PX = 0.01


@dataclass(frozen=True, slots=True)
class Jump:
    """The motion of one object.

    Attributes:
        shift: (dx, dy) u[moving→fixed] in pixels of the views' grid.
        position: Signed position in the bank of the disc that makes the object equally soft.
    """

    shift: tuple[float, float]
    position: float

    def soft(self, views: Views) -> Soft:
        """The whole frame under this motion and disc."""
        flow = np.full((*views.overlap.shape, 2), self.shift, dtype=np.float32)
        return equally_soft(views, flow, np.full((1, 1), self.position, dtype=np.float32))


def find(views: Views) -> list[Jump]:
    """What moved far, the most frequent motion first; often nothing."""
    height, width = views.overlap.shape
    still = equally_soft(views, np.zeros((height, width, 2), dtype=np.float32))
    factor = max(height, width) / _SEARCH_SIDE_PX
    size = (round(width / factor), round(height / factor))
    explained = _agreement(views, still, size)
    index = still.index[cv2.resize(explained, still.index.shape[::-1], interpolation=cv2.INTER_LINEAR) > _EXPLAINED_NCC]
    # Where something moved the widest disc makes the least difference: there the softness of the rest is the guess.
    typical = float(np.median(index)) if index.size else 0.0
    moving, fixed = _under(views.moving, -typical), _under(views.fixed, typical)
    coarse = _resized(moving, size), _resized(fixed, size)
    places = explained < _EXPLAINED_NCC
    places &= _textured(*coarse, views.noise) & (_resized(views.overlap.astype(np.float32), size) > 0.99)
    least = LEAST_SHARE * places.size
    if places.sum() < least:
        return []
    steps, ncc = _best_steps(*coarse, places, views.noise)
    found: list[Jump] = []
    left = places & (ncc > _FOUND_NCC)
    for _ in range(_MOST):
        (dx, dy), voters = _elected(steps, left)
        if voters.sum() < least:
            break
        left &= ~voters
        weight = _resized(voters.astype(np.float32), (width, height))
        start = round(dx * factor), round(dy * factor)
        jump = refined(views, Jump(_nearby(moving, fixed, weight, start, round(1.5 * factor)), typical), weight)
        if min(np.hypot(*np.subtract(jump.shift, other)) for other in [(0, 0), *(k.shift for k in found)]) > _APART_PX:
            found.append(jump)
    return found


def _agreement(views: Views, soft: Soft, size: tuple[int, int]) -> Image:
    """(h, w) local correlation of two equally soft frames on a coarse grid of (width, height)."""
    first, second = _resized(soft.moving, size), _resized(soft.fixed, size)
    power = mean(first**2 + second**2, _WINDOW_SIGMA) + np.float32(views.noise**2 + 1e-9)
    return 2 * mean(first * second, _WINDOW_SIGMA) / power


def _textured(moving: Image, fixed: Image, noise: float) -> Mask:
    power = np.minimum(mean(moving**2, _WINDOW_SIGMA), mean(fixed**2, _WINDOW_SIGMA))
    return np.asarray(power > _OVER_NOISE * noise**2 + _FAINT * float(np.median(power)) + 1e-9)


def _best_steps(moving: Image, fixed: Image, places: Mask, noise: float) -> tuple[NDArray[np.intp], Image]:
    """(h, w, 2) the jump (dx, dy) within reach of largest correlation, and (h, w) that correlation; 0 elsewhere."""
    height, width = places.shape
    floor = np.float32(noise**2 + 1e-9)
    # Only the part of the frame that holds such places.
    margin = _WINDOW_PX // 2
    ys, xs = np.nonzero(places)
    top, left = max(int(ys.min()) - margin, 0), max(int(xs.min()) - margin, 0)
    bottom, right = min(int(ys.max()) + margin + 1, height), min(int(xs.max()) + margin + 1, width)
    asked = places[top:bottom, left:right]
    part = moving[top:bottom, left:right]
    power = _around(part**2)[asked] + floor
    padded = cv2.copyMakeBorder(fixed, *(_REACH,) * 4, cv2.BORDER_CONSTANT)
    power_padded = cv2.copyMakeBorder(_around(fixed**2) + floor, *(_REACH,) * 4, cv2.BORDER_REPLICATE)
    best = np.full(len(power), -1.0, dtype=np.float32)
    number = np.zeros(len(power), dtype=np.intp)
    span = 2 * _REACH + 1
    for k in range(span * span):
        dy, dx = divmod(k, span)
        window = (slice(top + dy, bottom + dy), slice(left + dx, right + dx))
        ncc = _around(part * padded[window])[asked] / np.sqrt(power * power_padded[window][asked])
        better = ncc > best
        best[better], number[better] = ncc[better], k
    jump, correlation = np.zeros((height, width, 2), dtype=np.intp), np.zeros((height, width), dtype=np.float32)
    jump[places] = np.stack([number % span - _REACH, number // span - _REACH], axis=-1)
    correlation[places] = best
    return jump, correlation


def _around(image: Image) -> Image:
    """Means over a window as wide as the Gaussian's, cheaper: there are hundreds."""
    return np.asarray(cv2.blur(image, (_WINDOW_PX, _WINDOW_PX), borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


def _elected(jump: NDArray[np.intp], voters: Mask) -> tuple[tuple[int, int], Mask]:
    """The jump with most votes, its neighbours' included, and who voted for it or a neighbour."""
    span = 2 * _REACH + 1
    ballots = (jump[voters] + _REACH) @ np.array([1, span])
    votes = np.bincount(ballots, minlength=span * span).reshape(span, span).astype(np.float32)
    dy, dx = divmod(int(np.argmax(mean(votes, 0.7))), span)
    chosen = (dx - _REACH, dy - _REACH)
    return chosen, voters & (np.hypot(jump[..., 0] - chosen[0], jump[..., 1] - chosen[1]) <= 1.5)


def _nearby(moving: Image, fixed: Image, weight: Image, start: tuple[int, int], reach: int) -> tuple[float, float]:
    """The whole-pixel jump near `start` under which the weighted places correlate best."""
    ys, xs = np.nonzero(weight > 0)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    weight, moving = weight[top:bottom, left:right], moving[top:bottom, left:right]
    margin = reach + max(abs(start[0]), abs(start[1]))
    padded = cv2.copyMakeBorder(fixed, *(margin,) * 4, cv2.BORDER_CONSTANT)
    best, best_score = start, -np.inf
    for dy in range(start[1] - reach, start[1] + reach + 1):
        for dx in range(start[0] - reach, start[0] + reach + 1):
            part = padded[top + dy + margin : bottom + dy + margin, left + dx + margin : right + dx + margin]
            power = float(np.sum(weight * part * part)) + 1e-12
            score = float(np.sum(weight * moving * part)) / np.sqrt(power)
            if score > best_score:
                best, best_score = (dx, dy), score
    return float(best[0]), float(best[1])


def refined(views: Views, jump: Jump, weight: Image) -> Jump:
    """Gauss-Newton on one translation over the weighted places, under the one disc that they ask for."""
    shift, position = jump.shift, jump.position
    for number in range(_STEPS):
        if number % 3 == 0:
            flow = np.full((*views.overlap.shape, 2), shift, dtype=np.float32)
            index = equally_soft(views, flow, where=weight).index
            counted = index[cv2.resize(weight, index.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5]
            position = float(np.median(counted)) if counted.size else position
        soft = Jump(shift, position).soft(views)
        gap = soft.moving - soft.fixed
        share = np.where(soft.inside, weight, 0)
        typical = float(np.sum(share * gap**2)) / max(float(np.sum(share)), 1e-6) + 1e-12
        share = share / (1 + gap**2 / (4 * typical))
        gx, gy = gradient(0.5 * (soft.moving + soft.fixed))
        xx, xy, yy = (float(np.sum(share * a * b)) for a, b in ((gx, gx), (gx, gy), (gy, gy)))
        side = [float(np.sum(share * gx * gap)), float(np.sum(share * gy * gap))]
        step = np.linalg.solve(np.array([[xx, xy], [xy, yy]]) + 1e-9 * np.eye(2), side)
        step *= min(1.0, 1.0 / max(float(np.hypot(*step)), 1e-9))
        shift = (shift[0] + float(step[0]), shift[1] + float(step[1]))
        if np.hypot(*step) < _STILL_PX:
            break
    return Jump(shift, position)


def _under(bank: list[Image], position: float) -> Image:
    """The image at a position between those of a bank; negative counts as 0."""
    below = int(min(max(position, 0.0), len(bank) - 1))
    above, share = min(below + 1, len(bank) - 1), np.float32(max(position, 0.0) - below)
    return np.asarray((1 - share) * bank[below] + share * bank[above], dtype=np.float32)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    smaller = size[0] < image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.float32)
