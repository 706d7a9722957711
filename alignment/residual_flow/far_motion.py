"""Far motions: which jumps do places agree on that the global model does not explain?

A template around each such place is compared with everything within reach by normalised correlation; the jumps that
most places vote for are then measured to a small part of a pixel on the places that voted.
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
    Mask = NDArray[np.bool_]

LEAST_SHARE = 0.003
_SEARCH_SIDE_PX = 400
_REACH = 32
_WINDOW_SIGMA = 4.5
_TEMPLATE_PX = 15
_STRIDE_PX = 5
_EXPLAINED_NCC = 0.6
_FOUND_NCC = 0.6
_OVER_NOISE = 4.0
_FAINT = 0.02
_MOST = 3
_APART_PX = 4.0
_STEPS = 6
_STILL_PX = 0.01


@dataclass(frozen=True, slots=True)
class Displacement:
    """The motion of one object.

    Attributes:
        shift: (dx, dy) u[moving→fixed] in pixels of the views' grid.
        position: Signed position in the bank of the disc that makes the object equally soft.
    """

    shift: tuple[float, float]
    position: float

    def soft(self, views: BlurHypotheses) -> MatchedPair:
        """The whole frame under this motion and disc."""
        flow = np.full((*views.overlap.shape, 2), self.shift, dtype=np.float32)
        return blurred_to_match(views, flow, np.full((1, 1), self.position, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class VoteMap:
    """Places that found where they went, on the coarse grid.

    Attributes:
        place: (N, 2) row and column.
        step: (N, 2) dx and dy.
    """

    place: NDArray[np.intp]
    step: NDArray[np.intp]


def find_displacements(views: BlurHypotheses, still: MatchedPair | None = None) -> list[Displacement]:
    """What moved far, the most frequent motion first; often nothing.

    Args:
        views: The pair.
        still: It at equal softness where nothing moves, if that is known already.
    """
    height, width = views.overlap.shape
    still = still or blurred_to_match(views, np.zeros((height, width, 2), dtype=np.float32))
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
    if places.sum() < LEAST_SHARE * places.size:
        return []
    votes = _vote(*coarse, places)
    least = LEAST_SHARE * places.size / _STRIDE_PX**2
    found: list[Displacement] = []
    for _ in range(_MOST):
        if len(votes.step) < least:
            break
        (dx, dy), chosen = _peaks(votes)
        if chosen.sum() < least:
            break
        weight = _resized(_marked(votes.place[chosen], places.shape), (width, height))
        votes = VoteMap(votes.place[~chosen], votes.step[~chosen])
        start = round(dx * factor), round(dy * factor)
        jump = refined(views, Displacement(_nearby(moving, fixed, weight, start, round(1.5 * factor)), typical), weight)
        if min(np.hypot(*np.subtract(jump.shift, other)) for other in [(0, 0), *(k.shift for k in found)]) > _APART_PX:
            found.append(jump)
    return found


def _agreement(views: BlurHypotheses, soft: MatchedPair, size: tuple[int, int]) -> Image:
    """(h, w) local correlation of two equally soft frames on a coarse grid of (width, height)."""
    first, second = _resized(soft.moving, size), _resized(soft.fixed, size)
    power = mean(first**2 + second**2, _WINDOW_SIGMA) + np.float32(views.noise**2 + 1e-9)
    return 2 * mean(first * second, _WINDOW_SIGMA) / power


def _textured(moving: Image, fixed: Image, noise: float) -> Mask:
    power = np.minimum(mean(moving**2, _WINDOW_SIGMA), mean(fixed**2, _WINDOW_SIGMA))
    return np.asarray(power > _OVER_NOISE * noise**2 + _FAINT * float(np.median(power)) + 1e-9)


def _vote(moving: Image, fixed: Image, places: Mask) -> VoteMap:
    """The best step within reach of every few of the places, where it correlates well."""
    half = _TEMPLATE_PX // 2
    around = cv2.copyMakeBorder(moving, *(half,) * 4, cv2.BORDER_CONSTANT)
    padded = cv2.copyMakeBorder(fixed, *(_REACH + half,) * 4, cv2.BORDER_CONSTANT)
    grid = np.argwhere(places[::_STRIDE_PX, ::_STRIDE_PX]) * _STRIDE_PX
    span = 2 * (_REACH + half) + 1
    place, step = [], []
    for y, x in grid.tolist():
        template = around[y : y + _TEMPLATE_PX, x : x + _TEMPLATE_PX]
        ncc = cv2.matchTemplate(padded[y : y + span, x : x + span], template, cv2.TM_CCORR_NORMED)
        _, best, _, (left, top) = cv2.minMaxLoc(ncc)
        if best > _FOUND_NCC:
            place.append((y, x))
            step.append((left - _REACH, top - _REACH))
    return VoteMap(np.array(place, dtype=np.intp).reshape(-1, 2), np.array(step, dtype=np.intp).reshape(-1, 2))


def _peaks(votes: VoteMap) -> tuple[tuple[int, int], Mask]:
    """The step with most votes, its neighbours' included, and who voted for it or a neighbour."""
    span = 2 * _REACH + 1
    count = np.bincount((votes.step + _REACH) @ np.array([1, span]), minlength=span * span).reshape(span, span)
    dy, dx = divmod(int(np.argmax(mean(count.astype(np.float32), 0.7))), span)
    chosen = (dx - _REACH, dy - _REACH)
    return chosen, np.asarray(np.hypot(*(votes.step - np.array(chosen)).T) <= 1.5)


def _marked(place: NDArray[np.intp], size: tuple[int, ...]) -> Image:
    """(h, w) 1 around the places, 0 elsewhere."""
    marks = np.zeros(size, dtype=np.float32)
    marks[place[:, 0], place[:, 1]] = 1.0
    return np.asarray(cv2.dilate(marks, np.ones((_STRIDE_PX, _STRIDE_PX), dtype=np.uint8)), dtype=np.float32)


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


def refined(views: BlurHypotheses, jump: Displacement, weight: Image) -> Displacement:
    """Gauss-Newton on one translation over the weighted places, under the one disc that they ask for."""
    shift, position = jump.shift, jump.position
    for number in range(_STEPS):
        if number % 3 == 0:
            flow = np.full((*views.overlap.shape, 2), shift, dtype=np.float32)
            index = blurred_to_match(views, flow, where=weight).index
            counted = index[cv2.resize(weight, index.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5]
            position = float(np.median(counted)) if counted.size else position
        soft = Displacement(shift, position).soft(views)
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
    return Displacement(shift, position)


def _under(bank: list[Image], position: float) -> Image:
    """The image at a position between those of a bank; negative counts as 0."""
    below = int(min(max(position, 0.0), len(bank) - 1))
    above, share = min(below + 1, len(bank) - 1), np.float32(max(position, 0.0) - below)
    return np.asarray((1 - share) * bank[below] + share * bank[above], dtype=np.float32)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    smaller = size[0] < image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.float32)
