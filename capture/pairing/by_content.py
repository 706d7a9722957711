"""Pairing `auto`: frames that show the same scene, found by their content; the sharpest of a group is the sharp one."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from capture.inspection import content_similarity
from capture.pairing.rules import Leftover, Match, PairingResult, describe_settings
from sdd_toolkit.records import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from capture.config import IngestConfig
    from capture.inspection.thumbnails import Thumbnail
    from capture.pairing.scenes import Frame

SAME_SCENE = 0.6
_MARGIN = 0.15
_NO_TEXTURE = "too little texture to compare"
_SIMILAR_SHARPNESS = 1.1  # sharpness ratio below which the f-numbers decide


def pair_by_content(
    frames: Sequence[Frame], thumbnails: Mapping[str, Thumbnail], config: IngestConfig
) -> tuple[PairingResult, ...]:
    """Groups of frames of one scene, each with its pairs and what is left of it.

    Args:
        frames: All frames, in the order of their names.
        thumbnails: One for each frame, by the frame's name.
        config: For the largest group and the largest difference of exposure.
    """
    bands = [thumbnails[frame.name].band for frame in frames]
    usable = [frame for frame, band in zip(frames, bands, strict=True) if band is not None]
    blank = [(frame, Reason.NO_PARTNER, _NO_TEXTURE) for frame, band in zip(frames, bands, strict=True) if band is None]
    scores, resized = _score_candidates(
        [band for band in bands if band is not None], [_developed_size(frame) for frame in usable]
    )
    done = [
        _pair_group(group, usable, scores, resized, thumbnails, config)
        for group in _connected_groups(len(usable), scores)
    ]
    return (*done, PairingResult((), tuple(blank)))


def _developed_size(frame: Frame) -> tuple[int, int] | None:
    """(height, width) of the developed frame; None if unknown."""
    size = frame.meta.size
    return size[::-1] if size is not None and frame.meta.orientation >= 5 else size


def _score_candidates(
    bands: Sequence[NDArray[np.int8]], sizes: Sequence[tuple[int, int] | None]
) -> tuple[dict[int, dict[int, float]], dict[int, tuple[int, float]]]:
    """The agreement of every candidate pair, from both sides; and of each frame with its likest of another size.

    Frames of two sizes are no pair: one of them is a smaller copy, or cropped.
    """
    scores: dict[int, dict[int, float]] = defaultdict(dict)
    resized: dict[int, tuple[int, float]] = {}
    for first, second in content_similarity.candidate_pairs(bands) if len(bands) > 1 else ():
        agreement = content_similarity.similarity(bands[first], bands[second])
        if None in (sizes[first], sizes[second]) or sizes[first] == sizes[second]:
            scores[first][second] = scores[second][first] = agreement
            continue
        for one, other in ((first, second), (second, first)):
            if agreement > resized.get(one, (0, 0.0))[1]:
                resized[one] = other, agreement
    return scores, resized


def _connected_groups(count: int, scores: Mapping[int, Mapping[int, float]]) -> list[list[int]]:
    """Frames that agree, directly or through others, in order; frames that agree with none are groups of one."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for first in range(count):
        for second, score in scores.get(first, {}).items():
            if score >= SAME_SCENE:
                low, high = sorted((root(first), root(second)))
                parent[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for place in range(count):
        groups[root(place)].append(place)
    return list(groups.values())


def _pair_group(
    group: list[int],
    frames: Sequence[Frame],
    scores: Mapping[int, Mapping[int, float]],
    resized: Mapping[int, tuple[int, float]],
    thumbnails: Mapping[str, Thumbnail],
    config: IngestConfig,
) -> PairingResult:
    if len(group) == 1:
        other, agreement = resized.get(group[0], (0, 0.0))
        word = _describe_single(group[0], frames, scores)
        if agreement >= SAME_SCENE:
            word = f"content {agreement:.2f} with {frames[other].name}, which has another size"
        return PairingResult((), ((frames[group[0]], Reason.NO_PARTNER, word),))
    if len(group) > config.scene_frames:
        word = f"{len(group)} frames look alike, more than scene_frames = {config.scene_frames}"
        return PairingResult((), tuple((frames[place], Reason.NO_PARTNER, word) for place in group))
    sharp = _find_sharpest(group, frames, thumbnails)
    inside = set(group)
    matches: list[Match] = []
    left: list[Leftover] = []
    for place in group:
        if place == sharp:
            continue
        own = max(score for other, score in scores[place].items() if other in inside)
        others = [score for other, score in scores[place].items() if other not in inside]
        best_other = max(others, default=0.0)
        blur_look, sharp_look = thumbnails[frames[place].name], thumbnails[frames[sharp].name]
        apart_ev = math.log2(max(sharp_look.level, 1e-6) / max(blur_look.level, 1e-6))
        if own - best_other < _MARGIN:
            word = f"content {own:.2f}, but {best_other:.2f} with a frame of another scene"
            left.append((frames[place], Reason.NO_PARTNER, word))
        elif abs(apart_ev) > config.max_exposure_ev:
            word = f"{apart_ev:+.1f} EV measured to {frames[sharp].name}"
            left.append((frames[place], Reason.EXPOSURE_UNMATCHED, word))
        else:
            gain = _sharpness_gain(sharp_look, blur_look)
            why = f"content {own:.2f}, next best {best_other:.2f}, sharpness {gain:.1f}x"
            matches.append(Match(frames[place], frames[sharp], why + _describe_exif(frames[place], frames[sharp])))
    if not matches:
        left.append((frames[sharp], *left[0][1:]))
    return PairingResult(tuple(matches), tuple(left))


def _find_sharpest(group: Sequence[int], frames: Sequence[Frame], thumbnails: Mapping[str, Thumbnail]) -> int:
    """The frame of most detail; where several hold about as much, the one of the largest f-number."""
    looks = {place: thumbnails[frames[place].name] for place in group}
    most = max(look.detail for look in looks.values())
    near = [place for place in group if looks[place].detail * _SIMILAR_SHARPNESS**2 >= most]
    return max(near, key=lambda place: (frames[place].meta.exposure.f_number or 0.0, looks[place].detail, -place))


def _sharpness_gain(sharp: Thumbnail, blur: Thumbnail) -> float:
    """How much more detail the sharp frame holds, as an amplitude; capped where the blurred one has none."""
    return min(math.sqrt(sharp.detail / max(blur.detail, 1e-12)), 99.0)


def _describe_exif(blur: Frame, sharp: Frame) -> str:
    """The settings, and a word where EXIF claims the opposite of what the pixels show."""
    word = describe_settings(blur, sharp)
    numbers = blur.meta.exposure.f_number, sharp.meta.exposure.f_number
    if numbers[0] is not None and numbers[1] is not None and numbers[0] > numbers[1]:
        word += " (EXIF says the opposite)"
    return f", {word}" if word else ""


def _describe_single(place: int, frames: Sequence[Frame], scores: Mapping[int, Mapping[int, float]]) -> str:
    own = scores.get(place, {})
    if not own:
        return "no other frame looks alike"
    other = max(own, key=lambda key: (own[key], -key))
    return f"content {own[other]:.2f} with {frames[other].name}, {SAME_SCENE:g} are needed"
