"""Scenes to pairs: which frame is blurred and which is sharp, with a reason for every frame left over."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.pairing.scenes import Frame, Role, Scene, body_name, natural_key
from sdd_toolkit.records import PairKind, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capture.config import IngestConfig
    from sdd_toolkit.records import Exposure

Couple = tuple[Frame, Frame]
Leftover = tuple[Frame, Reason, str]

_APERTURE_TOLERANCE = 0.97  # f/15.9 and f/16 are one setting


@dataclass(frozen=True, slots=True)
class Match:
    """A pair and what speaks for it."""

    blur: Frame
    sharp: Frame
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class PairingResult:
    """What became of a scene's frames.

    Attributes:
        matches: In the order of the blurred frames.
        leftovers: Every frame in no pair.
    """

    matches: tuple[Match, ...]
    leftovers: tuple[Leftover, ...]


def pair_scene(scene: Scene, config: IngestConfig) -> PairingResult:
    """Forms the pairs of one scene by the rule `config.pairing` names."""
    frames = _sort_frames(scene.frames)
    couples, why = _RULES[config.pairing](frames, config)
    result = limit_exposure(frames, couples, why, config.max_exposure_ev)
    matches = tuple(replace(match, evidence=describe_match(match, config)) for match in result.matches)
    return replace(result, matches=matches)


def needs_detail(scene: Scene, config: IngestConfig) -> bool:
    """Whether `pair` compares the fine detail of the scene's frames, which costs decoding them."""
    if config.pairing is not PairKind.FOCUS or config.reference != "detail":
        return False
    unnamed = [frame for frame in scene.frames if frame.role is None]
    named_sharp = any(frame.role is Role.SHARP for frame in scene.frames)
    return not named_sharp and 1 < len(unnamed) <= config.scene_frames


def describe_match(match: Match, config: IngestConfig) -> str:
    """What speaks for a pair, in a few words."""
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
    words += [word for word in (describe_settings(blur, sharp), _describe_interval(blur, sharp)) if word]
    return ", ".join([*words, _describe_folders(blur, sharp)])


def describe_settings(blur: Frame, sharp: Frame) -> str:
    """`f/1.8 -> f/16`; empty where neither tells its f-number."""
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
    frames: Sequence[Frame], couples: Sequence[Couple], why: str, max_exposure_ev: float
) -> PairingResult:
    """Splits `couples` by exposure and accounts for every one of `frames`.

    Args:
        frames: All that must end in a pair or with a reason.
        couples: Candidates, (blurred, sharp).
        why: The word on a frame in no couple.
        max_exposure_ev: Largest difference of exposure, in stops.
    """
    kept: list[Match] = []
    unmatched: dict[str, str] = {}
    for blur, sharp in couples:
        apart_ev = exposure_difference_ev(blur, sharp) or 0.0
        if abs(apart_ev) <= max_exposure_ev:
            kept.append(Match(blur, sharp))
        else:
            word = f"{apart_ev:+.1f} EV from {blur.name} to {sharp.name}"
            unmatched |= {blur.name: word, sharp.name: word}
    used = {frame.name for match in kept for frame in (match.blur, match.sharp)}
    left: list[Leftover] = []
    for frame in frames:
        if frame.name in used:
            continue
        if frame.name in unmatched:
            left.append((frame, Reason.EXPOSURE_UNMATCHED, unmatched[frame.name]))
        else:
            left.append((frame, Reason.NO_PARTNER, why if len(frames) > 1 else "the only frame of its scene"))
    return PairingResult(tuple(kept), tuple(left))


def exposure_difference_ev(blur: Frame, sharp: Frame) -> float | None:
    """How much more light the sharp frame's settings let in, in stops; None where a setting is unknown."""
    levels = exposure_ev(blur.meta.exposure), exposure_ev(sharp.meta.exposure)
    return None if levels[0] is None or levels[1] is None else levels[1] - levels[0]


def exposure_ev(exposure: Exposure) -> float | None:
    """log2 of the brightness these settings give: shutter time times ISO over the f-number squared."""
    if exposure.shutter_s is None or exposure.iso is None or exposure.f_number is None:
        return None
    return math.log2(exposure.shutter_s * exposure.iso / exposure.f_number**2)


def _sort_frames(frames: Sequence[Frame]) -> list[Frame]:
    """By capture time if all tell it, otherwise by name with numbers counted."""
    timed = all(frame.time_s is not None for frame in frames)
    return sorted(frames, key=lambda frame: ((frame.time_s or 0.0) if timed else 0.0, natural_key(frame.name)))


def _pair_by_aperture(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    numbers = {frame.meta.exposure.f_number for frame in frames}
    known = sorted(number for number in numbers if number is not None)
    if None in numbers and {frame.role for frame in frames} >= set(Role):
        return _pair_by_role(frames), "no partner by its name"
    if len(known) < 2:
        return [], f"all frames that tell are at f/{known[0]:g}" if known else "no frame tells its f-number"
    narrow = [frame for frame in frames if _is_narrowest(frame, known[-1])]
    couples: list[Couple] = []
    for number in known:
        wide = [frame for frame in frames if frame.meta.exposure.f_number == number and frame not in narrow]
        # Brackets shot as often wide as narrow belong together in turn; any other wide shot to the nearest narrow one.
        turns = zip(wide, narrow, strict=True) if len(wide) == len(narrow) else _pair_nearest(wide, narrow, frames)
        couples += turns
    if not couples:
        return [], f"all frames that tell are at f/{known[-1]:g}"
    order = {frame.name: place for place, frame in enumerate(frames)}
    return sorted(couples, key=lambda couple: order[couple[0].name]), "its f-number is unknown"


def _is_narrowest(frame: Frame, number: float) -> bool:
    own = frame.meta.exposure.f_number
    return own is not None and own >= _APERTURE_TOLERANCE * number


def _pair_nearest(blurs: Sequence[Frame], sharps: Sequence[Frame], frames: Sequence[Frame]) -> list[Couple]:
    """Each of `blurs` with the one of `sharps` shot nearest to it, the later one of two."""
    order = {frame.name: place for place, frame in enumerate(frames)}

    def apart(blur: Frame, sharp: Frame) -> tuple[float, int]:
        steps = order[sharp.name] - order[blur.name]
        timed = blur.time_s is not None and sharp.time_s is not None
        return abs((sharp.time_s or 0.0) - (blur.time_s or 0.0)) if timed else abs(steps), -steps

    return [(blur, min(sharps, key=lambda sharp, blur=blur: apart(blur, sharp))) for blur in blurs]  # type: ignore[misc]


def _pair_by_focus(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    if any(frame.role is Role.SHARP for frame in frames):
        return _pair_by_role(frames), "another frame of the scene is the sharp one"
    candidates = [frame for frame in frames if frame.role is None]
    if not candidates:
        return [], "no frame of the scene is sharp by its name"
    if len(candidates) > config.scene_frames:
        return [], f"{len(candidates)} frames are too many to be one scene"
    picked = {
        "first": candidates[0],
        "last": candidates[-1],
        "detail": max(candidates, key=lambda frame: frame.detail or 0.0),
    }
    sharp = picked[config.reference]
    return [(frame, sharp) for frame in frames if frame is not sharp], ""


def _pair_by_role(frames: list[Frame]) -> list[Couple]:
    """The first frame named sharp, paired with every frame not named so."""
    sharp = next(frame for frame in frames if frame.role is Role.SHARP)
    return [(frame, sharp) for frame in frames if frame.role is not Role.SHARP]


def _pair_by_sequence(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    bodies = sorted({body_name(frame) for frame in frames})
    if config.cameras == "together" and len(bodies) == 2:
        return _pair_two_bodies(frames, bodies, config)
    shots = list(zip(frames[0::2], frames[1::2], strict=False))
    if config.first == "sharp":
        shots = [(second, first) for first, second in shots]
    return shots, "the last of an odd number of shots"


def _pair_two_bodies(frames: list[Frame], bodies: list[str], config: IngestConfig) -> tuple[list[Couple], str]:
    """The shots of two bodies that fired together: nearest in time, each once; the wider aperture is blurred."""
    sides = [[frame for frame in frames if body_name(frame) == body] for body in bodies]
    timed = all(frame.time_s is not None for frame in frames)
    apart = sorted(
        (abs((a.time_s or 0.0) - (b.time_s or 0.0)) if timed else abs(i - j), i, j)
        for i, a in enumerate(sides[0])
        for j, b in enumerate(sides[1])
    )
    couples: list[Couple] = []
    used: set[str] = set()
    for _, i, j in apart:
        shot = sides[0][i], sides[1][j]
        if used.isdisjoint((shot[0].name, shot[1].name)):
            used |= {shot[0].name, shot[1].name}
            couples.append(_order_shots(shot, config))
    order = {frame.name: place for place, frame in enumerate(frames)}
    return sorted(couples, key=lambda couple: order[couple[0].name]), "no shot of the other camera is left for it"


def _order_shots(shot: Couple, config: IngestConfig) -> Couple:
    numbers = [frame.meta.exposure.f_number for frame in shot]
    if numbers[0] is not None and numbers[1] is not None and numbers[0] != numbers[1]:
        return shot if numbers[0] < numbers[1] else (shot[1], shot[0])
    return shot if config.first == "blur" else (shot[1], shot[0])


_RULES: dict[PairKind, Callable[[list[Frame], IngestConfig], tuple[list[Couple], str]]] = {
    PairKind.APERTURE: _pair_by_aperture,
    PairKind.FOCUS: _pair_by_focus,
    PairKind.SEQUENCE: _pair_by_sequence,
}
