"""Pairing `auto`: groups frames of one scene by their content; the sharpest frame of a group is the sharp one."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from capture.pairing.developments import development_difference
from capture.pairing.rules import Leftover, Match, PairingResult, describe_settings
from capture.pairing.scenes import body_name
from sdd_toolkit.imaging import content_similarity
from sdd_toolkit.imaging.orientation import UPRIGHT, invert_orientation, turn_image
from sdd_toolkit.metadata.orientation import turn_of_blurred
from sdd_toolkit.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from capture.config import IngestConfig
    from capture.inspection.thumbnails import Thumbnail
    from capture.pairing.scenes import Frame

SAME_SCENE = 0.6
_SAME_PICTURE = 0.97
_MARGIN = 0.15
_NO_TEXTURE = "too little texture to compare"
_SIMILAR_SHARPNESS = 1.1  # sharpness ratio below which the f-numbers decide


def is_same_subject(first: Thumbnail, second: Thumbnail) -> bool:
    """Whether two pictures show the same scene, whatever the tones and the sharpness."""
    if first.band is None or second.band is None:
        return False
    return content_similarity.similarity(first.band, second.band) >= SAME_SCENE


def is_same_picture(first: Thumbnail, second: Thumbnail) -> bool:
    """Whether two pictures are copies of one, but for compression: nothing has moved, and both are equally sharp."""
    if first.band is None or second.band is None or first.band.shape != second.band.shape:
        return False
    agreement = float(np.corrcoef(first.band.ravel(), second.band.ravel())[0, 1])
    low, high = sorted((first.detail, second.detail))
    return agreement >= _SAME_PICTURE and high <= _SIMILAR_SHARPNESS**2 * low


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The frames that have texture, and how similar they are; frames are referred to by their index.

    Attributes:
        frames: In the order of their names.
        thumbnails: One for each frame.
        scores: Similarity of every compared pair, in both directions.
        unfit: The most similar frame of another size or development, the similarity, and the difference in words.
    """

    frames: Sequence[Frame]
    thumbnails: Sequence[Thumbnail]
    scores: Mapping[int, Mapping[int, float]]
    unfit: Mapping[int, tuple[int, float, str]]


def pair_by_content(
    frames: Sequence[Frame], thumbnails: Mapping[str, Thumbnail], config: IngestConfig
) -> tuple[PairingResult, ...]:
    """Groups frames that show the same scene, and forms the pairs of each group.

    Args:
        frames: All frames, in the order of their names.
        thumbnails: One for each frame, by the frame's name.
        config: For the largest group and the largest difference of exposure.

    Returns:
        One result a group; the last holds the frames without texture.
    """
    textured = [frame for frame in frames if thumbnails[frame.name].band is not None]
    flat = [frame for frame in frames if thumbnails[frame.name].band is None]
    comparison = _compare(textured, [thumbnails[frame.name] for frame in textured])
    results = [_pair_group(group, comparison, config) for group in _connected_groups(comparison)]
    no_texture = tuple(Leftover(frame, Reason.NO_PARTNER, _NO_TEXTURE) for frame in flat)
    return (*results, PairingResult((), no_texture))


def _compare(frames: Sequence[Frame], thumbnails: Sequence[Thumbnail]) -> _Comparison:
    """Scores all candidate pairs. Frames of two sizes or two developments are no pair."""
    bands = [thumbnail.band for thumbnail in thumbnails if thumbnail.band is not None]
    sizes = [_developed_size(frame) for frame in frames]
    scores: dict[int, dict[int, float]] = defaultdict(dict)
    unfit: dict[int, tuple[int, float, str]] = {}
    for first, second, score in (*_score_as_displayed(frames, bands), *_score_as_stored(frames, bands)):
        difference = development_difference(frames[first], frames[second])
        if difference:
            difference = f"but {difference}"
        elif None not in (sizes[first], sizes[second]) and sizes[first] != sizes[second]:
            turned = turn_of_blurred(frames[first].meta, frames[second].meta) != UPRIGHT
            difference = "" if turned else "which has another size"
        if not difference:
            scores[first][second] = scores[second][first] = score
            continue
        for frame, other in ((first, second), (second, first)):
            if score > unfit.get(frame, (0, 0.0, ""))[1]:
                unfit[frame] = other, score, difference
    return _Comparison(frames, thumbnails, scores, unfit)


def _score_as_displayed(frames: Sequence[Frame], bands: Sequence[NDArray[np.int8]]) -> Iterator[tuple[int, int, float]]:
    """Scores the candidate pairs of upright pictures; not those whose frames are to be turned."""
    for first, second in content_similarity.candidate_pairs(bands) if len(bands) > 1 else ():
        if turn_of_blurred(frames[first].meta, frames[second].meta) == UPRIGHT:
            yield first, second, content_similarity.similarity(bands[first], bands[second])


def _score_as_stored(frames: Sequence[Frame], bands: Sequence[NDArray[np.int8]]) -> Iterator[tuple[int, int, float]]:
    """Scores the candidate pairs of one body whose orientation tags differ, as the sensor saw them."""
    tags: dict[tuple[object, ...], set[int]] = defaultdict(set)
    for frame in frames:
        tags[body_name(frame), frame.meta.size].add(frame.meta.orientation)
    chosen = [index for index, frame in enumerate(frames) if len(tags[body_name(frame), frame.meta.size]) > 1]
    stored = [turn_image(bands[index], invert_orientation(frames[index].meta.orientation)) for index in chosen]
    for one, other in content_similarity.candidate_pairs(stored) if len(stored) > 1 else ():
        first, second = chosen[one], chosen[other]
        if turn_of_blurred(frames[first].meta, frames[second].meta) != UPRIGHT:
            yield first, second, content_similarity.similarity(stored[one], stored[other])


def _developed_size(frame: Frame) -> tuple[int, int] | None:
    """(height, width) of the developed frame; None if unknown."""
    size = frame.meta.size
    return size[::-1] if size is not None and frame.meta.orientation >= 5 else size


def _connected_groups(comparison: _Comparison) -> list[list[int]]:
    """Frames that are similar, directly or through others (union-find); the others form groups of one."""
    count = len(comparison.frames)
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first in range(count):
        for second, score in comparison.scores.get(first, {}).items():
            if score >= SAME_SCENE:
                low, high = sorted((root(first), root(second)))
                parent[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        groups[root(index)].append(index)
    return list(groups.values())


def _pair_group(group: list[int], comparison: _Comparison, config: IngestConfig) -> PairingResult:
    frames = comparison.frames
    if len(group) == 1:
        detail = _describe_single(group[0], comparison)
        return PairingResult((), (Leftover(frames[group[0]], Reason.NO_PARTNER, detail),))
    if len(group) > config.scene_frames:
        detail = f"{len(group)} frames look alike, more than scene_frames = {config.scene_frames}"
        return PairingResult((), tuple(Leftover(frames[index], Reason.NO_PARTNER, detail) for index in group))
    sharp = _find_sharpest(group, comparison)
    outcomes = [_match_with(sharp, index, group, comparison, config) for index in group if index != sharp]
    matches = [outcome for outcome in outcomes if isinstance(outcome, Match)]
    leftovers = [outcome for outcome in outcomes if isinstance(outcome, Leftover)]
    if not matches:
        leftovers.append(leftovers[0]._replace(frame=frames[sharp]))
    return PairingResult(tuple(matches), tuple(leftovers))


def _match_with(
    sharp: int, blur: int, group: Sequence[int], comparison: _Comparison, config: IngestConfig
) -> Match | Leftover:
    """The pair of a group's sharpest frame and another one, or the reason against it."""
    blur_frame, sharp_frame = comparison.frames[blur], comparison.frames[sharp]
    blur_thumbnail, sharp_thumbnail = comparison.thumbnails[blur], comparison.thumbnails[sharp]
    inside = max(score for other, score in comparison.scores[blur].items() if other in group)
    outside = max((score for other, score in comparison.scores[blur].items() if other not in group), default=0.0)
    difference_ev = math.log2(max(sharp_thumbnail.level, 1e-6) / max(blur_thumbnail.level, 1e-6))
    if inside - outside < _MARGIN:
        detail = f"content {inside:.2f}, but {outside:.2f} with a frame of another scene"
        return Leftover(blur_frame, Reason.NO_PARTNER, detail)
    if abs(difference_ev) > config.max_exposure_ev:
        detail = f"{difference_ev:+.1f} EV measured to {sharp_frame.name}"
        return Leftover(blur_frame, Reason.EXPOSURE_UNMATCHED, detail)
    gain = _sharpness_gain(sharp_thumbnail, blur_thumbnail)
    evidence = f"content {inside:.2f}, next best {outside:.2f}, sharpness {gain:.1f}x"
    return Match(blur_frame, sharp_frame, evidence + _describe_exif(blur_frame, sharp_frame))


def _find_sharpest(group: Sequence[int], comparison: _Comparison) -> int:
    """The frame of most detail; of several with about as much, the one with the largest f-number."""
    detail = {index: comparison.thumbnails[index].detail for index in group}
    most = max(detail.values())
    similar = [index for index in group if detail[index] * _SIMILAR_SHARPNESS**2 >= most]
    f_number = {index: comparison.frames[index].meta.exposure.f_number or 0.0 for index in similar}
    return max(similar, key=lambda index: (f_number[index], detail[index], -index))


def _sharpness_gain(sharp: Thumbnail, blur: Thumbnail) -> float:
    """Ratio of fine detail, sharp over blurred, as an amplitude; at most 99."""
    return min(math.sqrt(sharp.detail / max(blur.detail, 1e-12)), 99.0)


def _describe_exif(blur: Frame, sharp: Frame) -> str:
    """The f-numbers, with a remark where they contradict the measured sharpness."""
    text = describe_settings(blur, sharp)
    numbers = blur.meta.exposure.f_number, sharp.meta.exposure.f_number
    if numbers[0] is not None and numbers[1] is not None and numbers[0] > numbers[1]:
        text += " (EXIF says the opposite)"
    return f", {text}" if text else ""


def _describe_single(index: int, comparison: _Comparison) -> str:
    """Why a frame has no partner: the most similar frame, if there is any."""
    other, score, difference = comparison.unfit.get(index, (0, 0.0, ""))
    if score >= SAME_SCENE:
        return f"content {score:.2f} with {comparison.frames[other].name}, {difference}"
    scores = comparison.scores.get(index, {})
    if not scores:
        return "no other frame looks alike"
    other = max(scores, key=lambda key: (scores[key], -key))
    return f"content {scores[other]:.2f} with {comparison.frames[other].name}, {SAME_SCENE:g} are needed"
