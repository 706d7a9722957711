"""Scenes to pairs: which frame is blurred and which is sharp, with a reason for every frame left over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capture.scenes import Frame, Role, Scene, natural
from sdd_toolkit.types import PairKind, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from capture.config import IngestConfig
    from sdd_toolkit.types import Exposure

Couple = tuple[Frame, Frame]
Leftover = tuple[Frame, Reason, str]


@dataclass(frozen=True, slots=True)
class Paired:
    """What became of a scene's frames.

    Attributes:
        pairs: (blurred, sharp), in the order of the blurred frames.
        left: Every frame in no pair, why, and a word on it.
    """

    pairs: tuple[Couple, ...]
    left: tuple[Leftover, ...]


def pair(scene: Scene, config: IngestConfig) -> Paired:
    """Forms the pairs of one scene by the rule `config.pairing` names."""
    frames = _in_order(scene.frames)
    couples, why = _RULES[config.pairing](frames, config)
    return settle(frames, couples, why, config.max_exposure_ev)


def settle(frames: Sequence[Frame], couples: Sequence[Couple], why: str, max_exposure_ev: float) -> Paired:
    """Splits `couples` by exposure and accounts for every one of `frames`.

    Args:
        frames: All that must end in a pair or with a reason.
        couples: Candidates, (blurred, sharp).
        why: The word on a frame in no couple.
        max_exposure_ev: Largest difference of exposure, in stops.
    """
    kept: list[Couple] = []
    unmatched: dict[str, str] = {}
    for blur, sharp in couples:
        apart_ev = difference_ev(blur, sharp) or 0.0
        if abs(apart_ev) <= max_exposure_ev:
            kept.append((blur, sharp))
        else:
            word = f"{apart_ev:+.1f} EV from {blur.name} to {sharp.name}"
            unmatched |= {blur.name: word, sharp.name: word}
    used = {frame.name for couple in kept for frame in couple}
    left: list[Leftover] = []
    for frame in frames:
        if frame.name in used:
            continue
        if frame.name in unmatched:
            left.append((frame, Reason.EXPOSURE_UNMATCHED, unmatched[frame.name]))
        else:
            left.append((frame, Reason.NO_PARTNER, why if len(frames) > 1 else "the only frame of its scene"))
    return Paired(tuple(kept), tuple(left))


def difference_ev(blur: Frame, sharp: Frame) -> float | None:
    """How much more light the sharp frame's settings let in, in stops; None where a setting is unknown."""
    levels = exposure_ev(blur.meta.exposure), exposure_ev(sharp.meta.exposure)
    return None if levels[0] is None or levels[1] is None else levels[1] - levels[0]


def exposure_ev(exposure: Exposure) -> float | None:
    """log2 of the brightness these settings give: shutter time times ISO over the f-number squared."""
    if exposure.shutter_s is None or exposure.iso is None or exposure.f_number is None:
        return None
    return math.log2(exposure.shutter_s * exposure.iso / exposure.f_number**2)


def _in_order(frames: Sequence[Frame]) -> list[Frame]:
    """By capture time if all tell it, otherwise by name with numbers counted."""
    timed = all(frame.meta.taken_at is not None for frame in frames)
    return sorted(frames, key=lambda frame: (frame.meta.taken_at or "" if timed else "", natural(frame.name)))


def _by_aperture(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    numbers = {frame.meta.exposure.f_number for frame in frames}
    known = sorted(number for number in numbers if number is not None)
    if None in numbers and {frame.role for frame in frames} >= set(Role):
        return _by_role(frames), "no partner by its name"
    if len(known) < 2:
        return [], f"all frames that tell are at f/{known[0]:g}" if known else "no frame tells its f-number"
    widest = [frame for frame in frames if frame.meta.exposure.f_number == known[0]]
    narrowest = [frame for frame in frames if frame.meta.exposure.f_number == known[-1]]
    if len(widest) != len(narrowest):
        narrowest = [narrowest[0]] * len(widest)
    return list(zip(widest, narrowest, strict=True)), f"neither the first at f/{known[0]:g} nor at f/{known[-1]:g}"


def _by_focus(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    if any(frame.role is Role.SHARP for frame in frames):
        return _by_role(frames), "another frame of the scene is the sharp one"
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


def _by_role(frames: list[Frame]) -> list[Couple]:
    """The first frame named sharp, paired with every frame not named so."""
    sharp = next(frame for frame in frames if frame.role is Role.SHARP)
    return [(frame, sharp) for frame in frames if frame.role is not Role.SHARP]


def _by_sequence(frames: list[Frame], config: IngestConfig) -> tuple[list[Couple], str]:
    shots = list(zip(frames[0::2], frames[1::2], strict=False))
    if config.first == "sharp":
        shots = [(second, first) for first, second in shots]
    return shots, "the last of an odd number of shots"


_RULES: dict[PairKind, Callable[[list[Frame], IngestConfig], tuple[list[Couple], str]]] = {
    PairKind.APERTURE: _by_aperture,
    PairKind.FOCUS: _by_focus,
    PairKind.SEQUENCE: _by_sequence,
}
