"""Pairing rules: which frames of a scene form a blurred/sharp pair, and why a frame is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from capture.pairing.developments import development_difference, group_by_development
from capture.pairing.scenes import Frame, Role, Scene, body_name, natural_key
from sdd_toolkit.records import PairKind, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capture.config import IngestConfig
    from sdd_toolkit.records import Exposure

Couple = tuple[Frame, Frame]
"""A candidate pair: (blurred, sharp)."""

_APERTURE_TOLERANCE = 0.97  # f/15.9 and f/16 are one setting


@dataclass(frozen=True, slots=True)
class Match:
    """A pair of frames and the evidence for it, in words."""

    blur: Frame
    sharp: Frame
    evidence: str = ""


class Leftover(NamedTuple):
    """A frame in no pair, the reason, and the details in words."""

    frame: Frame
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class PairingResult:
    """The pairs of a scene and the frames in none.

    Attributes:
        matches: In the order of the blurred frames.
        leftovers: Every frame in no pair.
    """

    matches: tuple[Match, ...]
    leftovers: tuple[Leftover, ...]


def pair_scene(scene: Scene, config: IngestConfig) -> PairingResult:
    """Forms the pairs of one scene by the rule `config.pairing`."""
    results = [_pair_group(group, scene, config) for group in _comparable_groups(scene, config)]
    return PairingResult(
        tuple(match for result in results for match in result.matches),
        tuple(leftover for result in results for leftover in result.leftovers),
    )


def needs_detail(scene: Scene, config: IngestConfig) -> bool:
    """Whether `pair_scene` compares the fine detail of the scene's frames, which must be decoded for it."""
    if config.pairing is not PairKind.FOCUS or config.reference != "detail":
        return False
    return any(_needs_detail(group, config) for group in _comparable_groups(scene, config))


def _needs_detail(frames: Sequence[Frame], config: IngestConfig) -> bool:
    unnamed = [frame for frame in frames if frame.role is None]
    named_sharp = any(frame.role is Role.SHARP for frame in frames)
    return not named_sharp and 1 < len(unnamed) <= config.scene_frames


def _comparable_groups(scene: Scene, config: IngestConfig) -> list[list[Frame]]:
    """The frames of a scene that may be paired with each other; a sequence is one of all its shots."""
    frames = _sort_frames(scene.frames)
    return [frames] if config.pairing is PairKind.SEQUENCE else group_by_development(frames)


def _pair_group(frames: list[Frame], scene: Scene, config: IngestConfig) -> PairingResult:
    """Pairs frames of one development, or of a sequence; frames of two developments are left over, saying so."""
    couples, unpaired_detail = _RULES[config.pairing](frames, config)
    differences: dict[str, str] = {}
    if len(frames) == 1 < len(scene.frames):
        other = next(frame for frame in scene.frames if frame.name != frames[0].name)
        differences[frames[0].name] = development_difference(frames[0], other)
    allowed: list[Couple] = []
    for blur, sharp in couples:
        difference = development_difference(blur, sharp)
        if difference:
            differences |= {blur.name: difference, sharp.name: difference}
        else:
            allowed.append((blur, sharp))
    result = limit_exposure(frames, allowed, unpaired_detail, config.max_exposure_ev)
    return PairingResult(
        tuple(replace(match, evidence=describe_match(match, config)) for match in result.matches),
        tuple(
            Leftover(leftover.frame, Reason.NO_PARTNER, differences[leftover.frame.name])
            if leftover.frame.name in differences
            else leftover
            for leftover in result.leftovers
        ),
    )


def describe_match(match: Match, config: IngestConfig) -> str:
    """The evidence for a pair in a few words, such as `role words, f/1.8 -> f/16, same folder`."""
    blur, sharp = match.blur, match.sharp
    words: list[str] = []
    if config.pairing is PairKind.CSV:
        words.append("in the table")
    elif config.pairing is not PairKind.SEQUENCE and sharp.role is Role.SHARP:
        words.append("role words")
    elif config.pairing is PairKind.SEQUENCE:
        words.append("shots in sequence" if body_name(blur) == body_name(sharp) else "nearest shots of two cameras")
    elif config.pairing is PairKind.FOCUS and config.reference != "detail":
        words.append(f"the {config.reference} of its scene")
    elif blur.detail and sharp.detail and config.pairing is PairKind.FOCUS:
        words.append(f"detail {math.sqrt(sharp.detail / blur.detail):.1f}x")
    words += [text for text in (describe_settings(blur, sharp), _describe_interval(blur, sharp)) if text]
    return ", ".join([*words, _describe_folders(blur, sharp)])


def describe_settings(blur: Frame, sharp: Frame) -> str:
    """`f/1.8 -> f/16`; empty where both f-numbers are unknown."""
    numbers = [frame.meta.exposure.f_number for frame in (blur, sharp)]
    return " -> ".join(f"f/{number:g}" if number else "f/?" for number in numbers) if any(numbers) else ""


def _describe_interval(blur: Frame, sharp: Frame) -> str:
    if blur.time_s is None or sharp.time_s is None:
        return ""
    return f"{abs(sharp.time_s - blur.time_s):.3g} s apart"


def _describe_folders(blur: Frame, sharp: Frame) -> str:
    same = PurePosixPath(blur.name).parent == PurePosixPath(sharp.name).parent
    return "same folder" if same else "folders of one scene"


def limit_exposure(
    frames: Sequence[Frame], couples: Sequence[Couple], unpaired_detail: str, max_exposure_ev: float
) -> PairingResult:
    """Rejects couples whose exposures differ too much, and gives every other frame its reason.

    Args:
        frames: All frames that must end in a pair or with a reason.
        couples: Candidates, (blurred, sharp).
        unpaired_detail: Detail of a frame that is in no couple.
        max_exposure_ev: Largest difference of exposure, in stops.
    """
    matches: list[Match] = []
    mismatches: dict[str, str] = {}
    for blur, sharp in couples:
        difference_ev = exposure_difference_ev(blur, sharp) or 0.0
        if abs(difference_ev) <= max_exposure_ev:
            matches.append(Match(blur, sharp))
        else:
            detail = f"{difference_ev:+.1f} EV from {blur.name} to {sharp.name}"
            mismatches |= {blur.name: detail, sharp.name: detail}
    paired = {frame.name for match in matches for frame in (match.blur, match.sharp)}
    leftovers: list[Leftover] = []
    for frame in frames:
        if frame.name in paired:
            continue
        if frame.name in mismatches:
            leftovers.append(Leftover(frame, Reason.EXPOSURE_UNMATCHED, mismatches[frame.name]))
        else:
            detail = unpaired_detail if len(frames) > 1 else "the only frame of its scene"
            leftovers.append(Leftover(frame, Reason.NO_PARTNER, detail))
    return PairingResult(tuple(matches), tuple(leftovers))


def exposure_difference_ev(blur: Frame, sharp: Frame) -> float | None:
    """By how many stops the sharp frame's settings admit more light; None where a setting is unknown."""
    blur_ev, sharp_ev = exposure_ev(blur.meta.exposure), exposure_ev(sharp.meta.exposure)
    return None if blur_ev is None or sharp_ev is None else sharp_ev - blur_ev


def exposure_ev(exposure: Exposure) -> float | None:
    """log2 of the brightness these settings give: shutter time times ISO over the f-number squared."""
    if exposure.shutter_s is None or exposure.iso is None or exposure.f_number is None:
        return None
    return math.log2(exposure.shutter_s * exposure.iso / exposure.f_number**2)


def _sort_frames(frames: Sequence[Frame]) -> list[Frame]:
    """By capture time if it is known of all frames, otherwise by name with numbers in numeric order."""
    timed = all(frame.time_s is not None for frame in frames)
    return sorted(frames, key=lambda frame: ((frame.time_s or 0.0) if timed else 0.0, natural_key(frame.name)))


def _in_order_of_blurred(couples: Sequence[Couple], frames: Sequence[Frame]) -> list[Couple]:
    position = {frame.name: index for index, frame in enumerate(frames)}
    return sorted(couples, key=lambda couple: position[couple[0].name])


def _pair_by_aperture(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    numbers = {frame.meta.exposure.f_number for frame in frames}
    known = sorted(number for number in numbers if number is not None)
    if None in numbers and {frame.role for frame in frames} >= set(Role):
        return _pair_by_role(frames), "no partner by its name"
    if len(known) < 2:
        return [], f"all known f-numbers are f/{known[0]:g}" if known else "no frame tells its f-number"
    narrow = [frame for frame in frames if _is_narrowest(frame, known[-1])]
    couples: list[Couple] = []
    for number in known:
        wide = [frame for frame in frames if frame.meta.exposure.f_number == number and frame not in narrow]
        # In brackets with as many wide as narrow shots they are paired in turn; else each wide shot with the nearest.
        in_turn = len(wide) == len(narrow)
        couples += zip(wide, narrow, strict=True) if in_turn else _pair_nearest(wide, narrow, frames)
    if not couples:
        return [], f"all known f-numbers are f/{known[-1]:g}"
    return _in_order_of_blurred(couples, frames), "its f-number is unknown"


def _is_narrowest(frame: Frame, largest_f_number: float) -> bool:
    f_number = frame.meta.exposure.f_number
    return f_number is not None and f_number >= _APERTURE_TOLERANCE * largest_f_number


def _pair_nearest(blurs: Sequence[Frame], sharps: Sequence[Frame], frames: Sequence[Frame]) -> list[Couple]:
    """Each of `blurs` with the nearest in time of `sharps`; of two equally near ones, the later."""
    position = {frame.name: index for index, frame in enumerate(frames)}

    def distance(blur: Frame, sharp: Frame) -> tuple[float, int]:
        steps = position[sharp.name] - position[blur.name]
        timed = blur.time_s is not None and sharp.time_s is not None
        return abs((sharp.time_s or 0.0) - (blur.time_s or 0.0)) if timed else abs(steps), -steps

    return [(blur, min(sharps, key=lambda sharp, blur=blur: distance(blur, sharp))) for blur in blurs]  # type: ignore[misc]


def _pair_by_focus(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    if any(frame.role is Role.SHARP for frame in frames):
        return _pair_by_role(frames), "another frame of the scene is the sharp one"
    candidates = [frame for frame in frames if frame.role is None]
    if not candidates:
        return [], "no frame of the scene is sharp by its name"
    if len(candidates) > config.scene_frames:
        return [], f"{len(candidates)} frames are too many to be one scene"
    references = {
        "first": candidates[0],
        "last": candidates[-1],
        "detail": max(candidates, key=lambda frame: frame.detail or 0.0),
    }
    sharp = references[config.reference]
    return [(frame, sharp) for frame in frames if frame is not sharp], ""


def _pair_by_role(frames: list[Frame]) -> list[Couple]:
    """The first frame with the role `sharp`, paired with every frame of another role."""
    sharp = next(frame for frame in frames if frame.role is Role.SHARP)
    return [(frame, sharp) for frame in frames if frame.role is not Role.SHARP]


def _pair_by_sequence(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    bodies = sorted({body_name(frame) for frame in frames})
    if config.cameras == "together" and len(bodies) == 2:
        return _pair_two_bodies(frames, bodies, config)
    couples = list(zip(frames[0::2], frames[1::2], strict=False))
    if config.first == "sharp":
        couples = [(second, first) for first, second in couples]
    return couples, "the last of an odd number of shots"


def _pair_two_bodies(frames: list[Frame], bodies: list[str], config: IngestConfig) -> tuple[list[Couple], str]:
    """The shots of two bodies released together: nearest in time, each once; the wider aperture is blurred."""
    first, second = ([frame for frame in frames if body_name(frame) == body] for body in bodies)
    timed = all(frame.time_s is not None for frame in frames)
    distances = sorted(
        (abs((a.time_s or 0.0) - (b.time_s or 0.0)) if timed else abs(i - j), i, j)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
    )
    couples: list[Couple] = []
    used: set[str] = set()
    for _, i, j in distances:
        shots = first[i], second[j]
        if used.isdisjoint((shots[0].name, shots[1].name)):
            used |= {shots[0].name, shots[1].name}
            couples.append(_order_shots(shots, config))
    return _in_order_of_blurred(couples, frames), "no shot of the other camera is left for it"


def _order_shots(shots: Couple, config: IngestConfig) -> Couple:
    """The two shots, blurred first: by their f-numbers where these differ, otherwise by `config.first`."""
    numbers = [frame.meta.exposure.f_number for frame in shots]
    if numbers[0] is not None and numbers[1] is not None and numbers[0] != numbers[1]:
        return shots if numbers[0] < numbers[1] else (shots[1], shots[0])
    return shots if config.first == "blur" else (shots[1], shots[0])


_RULES: dict[PairKind, Callable[[list[Frame], IngestConfig], tuple[list[Couple], str]]] = {
    PairKind.APERTURE: _pair_by_aperture,
    PairKind.FOCUS: _pair_by_focus,
    PairKind.SEQUENCE: _pair_by_sequence,
}
