"""Candidate displacements of large moving objects, by template matching and voting.

A template around each position that the global model does not explain is compared with everything within reach by
normalised correlation. The displacements with most votes are then refined to a small part of a pixel on the
positions that voted for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from alignment.residual_flow.blur_hypotheses import blur_to_match, central_gradient, match_static, window_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alignment.residual_flow.blur_hypotheses import BlurHypotheses, MatchedPair

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

LEAST_SHARE = 0.003
_SEARCH_SIDE_PX = 400
_REACH_PX = 32
_WINDOW_SIGMA_PX = 4.5
_TEMPLATE_PX = 15
_STRIDE_PX = 5
_EXPLAINED_NCC = 0.6
_VOTE_NCC = 0.6
_OVER_NOISE = 4.0
_FAINT = 0.02
_MAX_OBJECTS = 3
_DISTINCT_PX = 4.0
_STEPS = 6
_CONVERGED_PX = 0.01


@dataclass(frozen=True, slots=True)
class Displacement:
    """The motion of one object.

    Attributes:
        shift_px: (dx, dy) u[moving→fixed] in pixels of the hypotheses' grid.
        disc_index: Signed position in the bank of the disc under which the object is equally blurred in both frames.
    """

    shift_px: tuple[float, float]
    disc_index: float

    def match(self, hypotheses: BlurHypotheses) -> MatchedPair:
        """The whole frames at equal blur, as if everything moved like this object."""
        flow = np.full((*hypotheses.overlap.shape, 2), self.shift_px, dtype=np.float32)
        return blur_to_match(hypotheses, flow, np.full((1, 1), self.disc_index, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class VoteMap:
    """Positions with the displacement of their best template match, on the coarse grid.

    Attributes:
        position: (N, 2) row and column.
        step: (N, 2) dx and dy.
    """

    position: NDArray[np.intp]
    step: NDArray[np.intp]


def find_displacements(hypotheses: BlurHypotheses, static: MatchedPair | None = None) -> list[Displacement]:
    """Finds the displacements of objects that moved far.

    Args:
        hypotheses: The pair.
        static: The pair at equal blur under no motion, if known.

    Returns:
        The most frequent displacement first; empty for most pairs.
    """
    height, width = hypotheses.overlap.shape
    static = static or match_static(hypotheses)
    factor = max(height, width) / _SEARCH_SIDE_PX
    size = (round(width / factor), round(height / factor))
    correlation = _local_correlation(hypotheses, static, size)
    disc_index = _typical_disc_index(static, correlation)
    moving, fixed = _image_at(hypotheses.moving, -disc_index), _image_at(hypotheses.fixed, disc_index)
    coarse = _resize(moving, size), _resize(fixed, size)
    unexplained = correlation < _EXPLAINED_NCC
    unexplained &= _texture_mask(*coarse, hypotheses.noise)
    unexplained &= _resize(hypotheses.overlap.astype(np.float32), size) > 0.99
    if unexplained.sum() < LEAST_SHARE * unexplained.size:
        return []
    votes = _vote(*coarse, unexplained)
    least_votes = LEAST_SHARE * unexplained.size / _STRIDE_PX**2
    displacements: list[Displacement] = []
    for _ in range(_MAX_OBJECTS):
        if len(votes.step) < least_votes:
            break
        (dx, dy), elected = _peaks(votes)
        if elected.sum() < least_votes:
            break
        weight = _resize(_draw_marks(votes.position[elected], unexplained.shape), (width, height))
        votes = VoteMap(votes.position[~elected], votes.step[~elected])
        start = round(dx * factor), round(dy * factor)
        whole_px = _best_whole_shift(moving, fixed, weight, start, round(1.5 * factor))
        candidate = refine_displacement(hypotheses, Displacement(whole_px, disc_index), weight)
        others = [(0.0, 0.0), *(other.shift_px for other in displacements)]
        if min(np.hypot(*np.subtract(candidate.shift_px, other)) for other in others) > _DISTINCT_PX:
            displacements.append(candidate)
    return displacements


def _typical_disc_index(static: MatchedPair, correlation: Image) -> float:
    """Median disc index where the global model holds; elsewhere the match tends to the widest disc."""
    correlated = cv2.resize(correlation, static.index.shape[::-1], interpolation=cv2.INTER_LINEAR) > _EXPLAINED_NCC
    index = static.index[correlated]
    return float(np.median(index)) if index.size else 0.0


def _local_correlation(hypotheses: BlurHypotheses, matched: MatchedPair, size: tuple[int, int]) -> Image:
    """(h, w) local correlation of two equally blurred frames on a coarse grid of (width, height)."""
    first, second = _resize(matched.moving, size), _resize(matched.fixed, size)
    power = window_mean(first**2 + second**2, _WINDOW_SIGMA_PX) + np.float32(hypotheses.noise**2 + 1e-9)
    return 2 * window_mean(first * second, _WINDOW_SIGMA_PX) / power


def _texture_mask(moving: Image, fixed: Image, noise: float) -> Mask:
    power = np.minimum(window_mean(moving**2, _WINDOW_SIGMA_PX), window_mean(fixed**2, _WINDOW_SIGMA_PX))
    return np.asarray(power > _OVER_NOISE * noise**2 + _FAINT * float(np.median(power)) + 1e-9)


def _vote(moving: Image, fixed: Image, candidates: Mask) -> VoteMap:
    """The best step within reach of every `_STRIDE_PX`-th candidate position, where it correlates well."""
    half = _TEMPLATE_PX // 2
    around = cv2.copyMakeBorder(moving, *(half,) * 4, cv2.BORDER_CONSTANT)
    padded = cv2.copyMakeBorder(fixed, *(_REACH_PX + half,) * 4, cv2.BORDER_CONSTANT)
    grid = np.argwhere(candidates[::_STRIDE_PX, ::_STRIDE_PX]) * _STRIDE_PX
    span = 2 * (_REACH_PX + half) + 1
    positions, steps = [], []
    for y, x in grid.tolist():
        template = around[y : y + _TEMPLATE_PX, x : x + _TEMPLATE_PX]
        ncc = cv2.matchTemplate(padded[y : y + span, x : x + span], template, cv2.TM_CCORR_NORMED)
        _, best, _, (left, top) = cv2.minMaxLoc(ncc)
        if best > _VOTE_NCC:
            positions.append((y, x))
            steps.append((left - _REACH_PX, top - _REACH_PX))
    return VoteMap(np.array(positions, dtype=np.intp).reshape(-1, 2), np.array(steps, dtype=np.intp).reshape(-1, 2))


def _peaks(votes: VoteMap) -> tuple[tuple[int, int], Mask]:
    """The step with most votes, those of its neighbours included, and (N,) the votes for it or a neighbour."""
    span = 2 * _REACH_PX + 1
    count = np.bincount((votes.step + _REACH_PX) @ np.array([1, span]), minlength=span * span).reshape(span, span)
    dy, dx = divmod(int(np.argmax(window_mean(count.astype(np.float32), 0.7))), span)
    peak = (dx - _REACH_PX, dy - _REACH_PX)
    return peak, np.asarray(np.hypot(*(votes.step - np.array(peak)).T) <= 1.5)


def _draw_marks(positions: NDArray[np.intp], size: tuple[int, ...]) -> Image:
    """(h, w) 1 around the positions, 0 elsewhere."""
    marks = np.zeros(size, dtype=np.float32)
    marks[positions[:, 0], positions[:, 1]] = 1.0
    return np.asarray(cv2.dilate(marks, np.ones((_STRIDE_PX, _STRIDE_PX), dtype=np.uint8)), dtype=np.float32)


def _best_whole_shift(
    moving: Image, fixed: Image, weight: Image, start: tuple[int, int], reach: int
) -> tuple[float, float]:
    """The whole-pixel shift within `reach` of `start` under which the weighted pixels correlate best."""
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


def refine_displacement(hypotheses: BlurHypotheses, displacement: Displacement, weight: Image) -> Displacement:
    """Refines a displacement by Gauss-Newton on one translation, together with the one disc that matches best.

    Args:
        hypotheses: The pair.
        displacement: The initial displacement.
        weight: (H, W) 0 … 1, weight of a pixel of the moving frame.
    """
    shift, disc_index = displacement.shift_px, displacement.disc_index
    for number in range(_STEPS):
        if number % 3 == 0:
            flow = np.full((*hypotheses.overlap.shape, 2), shift, dtype=np.float32)
            index = blur_to_match(hypotheses, flow, weight=weight).index
            counted = index[cv2.resize(weight, index.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5]
            disc_index = float(np.median(counted)) if counted.size else disc_index
        step = _newton_step(Displacement(shift, disc_index).match(hypotheses), weight)
        shift = (shift[0] + float(step[0]), shift[1] + float(step[1]))
        if np.hypot(*step) < _CONVERGED_PX:
            break
    return Displacement(shift, disc_index)


def _newton_step(matched: MatchedPair, weight: Image) -> NDArray[np.float64]:
    """(2,) Gauss-Newton step of a translation under Cauchy's weights, at most one pixel long."""
    difference = matched.moving - matched.fixed
    share = np.where(matched.inside, weight, 0)
    typical = float(np.sum(share * difference**2)) / max(float(np.sum(share)), 1e-6) + 1e-12
    share = share / (1 + difference**2 / (4 * typical))
    gx, gy = central_gradient(0.5 * (matched.moving + matched.fixed))
    xx, xy, yy = (float(np.sum(share * a * b)) for a, b in ((gx, gx), (gx, gy), (gy, gy)))
    right = [float(np.sum(share * gx * difference)), float(np.sum(share * gy * difference))]
    step = np.linalg.solve(np.array([[xx, xy], [xy, yy]]) + 1e-9 * np.eye(2), right)
    step *= min(1.0, 1.0 / max(float(np.hypot(*step)), 1e-9))
    return np.asarray(step)


def _image_at(bank: list[Image], disc_index: float) -> Image:
    """The image at a position between those of a bank; negative positions count as 0."""
    below = int(min(max(disc_index, 0.0), len(bank) - 1))
    above, share = min(below + 1, len(bank) - 1), np.float32(max(disc_index, 0.0) - below)
    return np.asarray((1 - share) * bank[below] + share * bank[above], dtype=np.float32)


def _resize(image: Image, size: tuple[int, int]) -> Image:
    smaller = size[0] < image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.float32)
