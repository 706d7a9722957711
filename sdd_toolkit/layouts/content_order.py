"""Pairs frames whose names do not tell the partner, as DPDD's: by their content, checked against the camera's numbers.

Sorting both folders and pairing by position, as loaders do, pairs every frame after a missing one with another scene.
Here each frame is compared with all of the other folder and takes the one that agrees best. The difference between the
numbers in two partners' names is then the same for most pairs (mostly one, as the shots follow each other): it
settles frames without texture and scenes that look alike, and a pair that contradicts it is left out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.imaging.content_similarity import correlations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Bands = Mapping[str, NDArray[np.int8] | None]
    Scores = NDArray[np.float32]

# Pairs from one position score above 0.7, blurred by up to 8 % of the width, other scenes below 0.45: docs/interop.md.
SAME_FRAME = 0.6
_MARGIN = 0.03  # between a partner and other frames of a scene that look alike
_MIN_PAIRS, _MIN_SHARE = 2, 0.75  # that must have one difference between their numbers
_NO_NUMBER = np.iinfo(np.int64).max
_NUMBER = re.compile(r"(\d{1,15})\D*$")


@dataclass(frozen=True, slots=True)
class ContentMatches:
    """The pairs of two folders, and the frames without partner.

    Attributes:
        pairs: (first, second) paths, in the order of the first ones.
        left_out: The reason of every other frame, by path.
    """

    pairs: tuple[tuple[str, str], ...]
    left_out: dict[str, str]


def match_by_content(first: Sequence[str], second: Sequence[str], bands: Bands) -> ContentMatches:
    """Pairs the frames of two folders; a frame without a certain partner is left out.

    Args:
        first: Paths of one folder, sorted.
        second: Paths of the other folder, sorted.
        bands: The band of each frame (`content_similarity.detail_band`); None where it cannot be compared.
    """
    scores = _score_all(first, second, bands)
    steps = _number_steps(first, second)
    step = _common_step(_greedy(scores, scores >= SAME_FRAME), steps)
    if step is None and (scores < 0).all():
        return _match_by_numbers(first, second, steps)
    agrees = steps == (_NO_NUMBER - 1 if step is None else step)
    pairs = _greedy(scores + np.where(agrees, np.float32(_MARGIN), np.float32(0)), scores >= SAME_FRAME)
    left_out: dict[str, str] = {}
    certain = [pair for pair in pairs if step is None or agrees[pair]]
    certain += _without_texture(scores, agrees, pairs)
    for row, column in sorted(set(pairs) - set(certain)):
        why = f"it looks like {{}}, but the numbers of the other pairs differ by {step:+d}"
        left_out[first[row]] = why.format(_name(second[column]))
        left_out[second[column]] = why.format(_name(first[row]))
    if step is None:
        ordered = _longest_order(certain)
        if len(ordered) >= _MIN_SHARE * len(certain):
            for row, column in sorted(set(certain) - set(ordered)):
                left_out[first[row]] = left_out[second[column]] = "it looks like a frame out of the order of the others"
            certain = ordered
        certain, doubtful = _unambiguous(scores, certain)
        for row, column in doubtful:
            left_out[first[row]] = left_out[second[column]] = "frames that look alike: one of them has no partner"
    left_out |= _alone(first, second, scores, certain, left_out)
    left_out |= _alone(second, first, scores.T, [(column, row) for row, column in certain], left_out)
    return ContentMatches(tuple((first[row], second[column]) for row, column in sorted(certain)), left_out)


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _score_all(first: Sequence[str], second: Sequence[str], bands: Bands) -> Scores:
    """(N, M) correlations; -1 where a frame cannot be compared."""
    scores = np.full((len(first), len(second)), -1, np.float32)
    mine, theirs = ([i for i, path in enumerate(paths) if bands[path] is not None] for paths in (first, second))
    if mine and theirs:
        known = [[band for path in paths if (band := bands[path]) is not None] for paths in (first, second)]
        # Clipped: -1 stays the mark of a frame that cannot be compared.
        scores[np.ix_(mine, theirs)] = np.clip(correlations(*known), 0, 1)
    return scores


def _number_steps(first: Sequence[str], second: Sequence[str]) -> NDArray[np.int64]:
    """(N, M) differences between the last numbers of the names; one, too, from a counter's end, 9999, to 0001."""
    mine, theirs = (
        [(int(found[1]), len(found[1])) if (found := _NUMBER.search(_stem(path))) else (-1, 0) for path in paths]
        for paths in (first, second)
    )
    a, b = (np.array(numbers, dtype=np.int64).reshape(-1, 2) for numbers in (mine, theirs))
    steps: NDArray[np.int64] = b[None, :, 0] - a[:, None, 0]
    last = 10 ** a[:, 1:] - 1
    over = (a[:, 1:] == b[None, :, 1]) & (np.abs(steps) >= last - 1) & (last > 9)
    steps = np.where(over, -np.sign(steps), steps)
    return np.where((a[:, :1] < 0) | (b[None, :, 0] < 0), _NO_NUMBER, steps)


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _greedy(weights: Scores, allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Partners, the most similar first; of equally similar ones those at the same position in their folders."""
    rows, columns = np.nonzero(allowed)
    position = np.abs(rows / max(weights.shape[0], 1) - columns / max(weights.shape[1], 1))
    order = np.lexsort((columns, rows, position, -np.round(weights[rows, columns], 3)))
    pairs: list[tuple[int, int]] = []
    used_rows, used_columns = set(), set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    return pairs


def _common_step(pairs: Sequence[tuple[int, int]], steps: NDArray[np.int64]) -> int | None:
    """The difference of numbers that most pairs have; None if there is none."""
    counts = Counter(int(steps[pair]) for pair in pairs)
    step, count = counts.most_common(1)[0] if counts else (_NO_NUMBER, 0)
    return step if step != _NO_NUMBER and count >= max(_MIN_PAIRS, _MIN_SHARE * len(pairs)) else None


def _match_by_numbers(first: Sequence[str], second: Sequence[str], steps: NDArray[np.int64]) -> ContentMatches:
    """Frames that cannot be compared: pairs one number apart, if all frames form such pairs, in one way only."""
    whole = [step for step in (-1, 1) if all(((steps == step).sum(axis=axis) == 1).all() for axis in (0, 1))]
    if len(whole) == 1 and first and len(first) == len(second):
        rows, columns = np.nonzero(steps == whole[0])
        pairs = tuple((first[row], second[column]) for row, column in zip(rows.tolist(), columns.tolist(), strict=True))
        return ContentMatches(pairs, {})
    why = "too small or too flat to compare, and the numbers in the names do not tell the partner"
    return ContentMatches((), dict.fromkeys((*first, *second), why))


def _without_texture(
    scores: Scores, agrees: NDArray[np.bool_], pairs: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Pairs of frames that cannot be compared, which alone have the common difference of numbers."""
    free = agrees & (scores < 0)
    free[[row for row, _ in pairs], :] = False
    free[:, [column for _, column in pairs]] = False
    rows, columns = np.nonzero(free & (free.sum(axis=1, keepdims=True) == 1) & (free.sum(axis=0, keepdims=True) == 1))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _longest_order(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most pairs that follow each other in both folders: the longest increasing subsequence of their columns."""
    in_order = sorted(pairs)
    tails: list[int] = []  # the smallest column that ends a chain of each length, and the index of its pair
    ends: list[int] = []
    before: list[int] = []
    for index, (_, column) in enumerate(in_order):
        length = bisect_left(tails, column)
        tails[length : length + 1], ends[length : length + 1] = [column], [index]
        before.append(ends[length - 1] if length else -1)
    chain: list[tuple[int, int]] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(in_order[index])
        index = before[index]
    return chain[::-1]


def _unambiguous(
    scores: Scores, pairs: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The pairs, apart from those whose frame agrees as well with a frame that has no partner."""
    used_rows, used_columns = [row for row, _ in pairs], [column for _, column in pairs]
    free_rows = np.setdiff1d(np.arange(scores.shape[0]), used_rows)
    free_columns = np.setdiff1d(np.arange(scores.shape[1]), used_columns)
    certain: list[tuple[int, int]] = []
    doubtful: list[tuple[int, int]] = []
    for row, column in pairs:
        others = np.concatenate([scores[free_rows, column], scores[row, free_columns], [0.0]])
        (doubtful if others.max() > scores[row, column] - _MARGIN else certain).append((row, column))
    return certain, doubtful


def _alone(
    paths: Sequence[str],
    others: Sequence[str],
    scores: Scores,
    pairs: Sequence[tuple[int, int]],
    left_out: Mapping[str, str],
) -> dict[str, str]:
    """The reason of each frame of one folder that is in no pair and has none yet."""
    used = {row for row, _ in pairs}
    reasons: dict[str, str] = {}
    for row, path in enumerate(paths):
        if row in used or path in left_out:
            continue
        best = int(scores[row].argmax()) if len(others) else 0
        if not len(others) or scores[row, best] < 0:
            reasons[path] = "too small or too flat to compare, or nothing to compare it with"
        else:
            nearest = f"{_name(others[best])} agrees most, by {scores[row, best]:.2f} of 1"
            reasons[path] = f"no frame beside it shows its scene; {nearest}"
    return reasons
