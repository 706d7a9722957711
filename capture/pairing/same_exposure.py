"""Compares names and metadata of two files: evidence that they show one exposure, doubts that only pixels settle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from capture.pairing.developments import development_difference, format_of, is_raw
from capture.pairing.scenes import wall_time_s, zone_offset_s
from capture.pairing.version_names import NameLink

if TYPE_CHECKING:
    from capture.pairing.scenes import Frame

_SAME_INSTANT_S = 0.01
_LARGEST_RATIO = 1.15  # of two exposure settings that are rounded differently


class Doubt(StrEnum):
    """What the pixels of two files must show where names and metadata do not suffice."""

    SAME_SUBJECT = "same subject"
    SAME_PICTURE = "same picture"


@dataclass(frozen=True, slots=True)
class Likeness:
    """The evidence that two files show one exposure, and the doubt that is left; None for none."""

    evidence: str
    doubt: Doubt | None = None


def compare_facts(frame: Frame, other: Frame, link: NameLink | None) -> Likeness | None:
    """Compares two files by their metadata.

    Args:
        frame: One of them.
        other: The one that `frame` may be a version of.
        link: How its name follows from that of `other`; None if it does not.

    Returns:
        None where the facts contradict each other or prove nothing.
    """
    if _contradict(frame, other):
        return None
    times = shot_times_s(frame), shot_times_s(other)
    if not all(times):
        return _compare_untimed(frame, other, link)
    if link is None:
        # Two bodies of one model may fire at once, and a burst may be faster than its clock.
        if not _are_processed_apart(frame, other):
            return Likeness("", Doubt.SAME_PICTURE)
        same_body = _share_serial(frame, other)
        return Likeness("the same instant of the same body", None if same_body else Doubt.SAME_SUBJECT)
    evidence = _NAME_EVIDENCE[link]
    # Within one second a body takes many shots, of one name in two folders if its counter starts again.
    same_instant = link is NameLink.SAME and _share_serial(frame, other) and all(time[0] % 1 for time in times)
    certain = _are_processed_apart(frame, other) or link is NameLink.EDITED or same_instant
    return Likeness(f"{evidence} and time", None if certain else Doubt.SAME_PICTURE)


def shot_times_s(frame: Frame) -> tuple[float, ...]:
    """The time of the shot in seconds by the camera's clock and, if its offset is known, UTC; empty if unknown."""
    time_s = wall_time_s(frame.meta) if frame.provenance.has_shot_time else None
    if time_s is None:
        return ()
    zone = frame.meta.utc_offset
    return (time_s,) if zone is None else (time_s, time_s - zone_offset_s(zone))


_NAME_EVIDENCE = {
    NameLink.SAME: "the same name",
    NameLink.EDITED: "the name of an edited copy",
    NameLink.NUMBERED: "the name of a numbered copy",
}


def _compare_untimed(frame: Frame, other: Frame, link: NameLink | None) -> Likeness | None:
    """Compares two files of which at least one does not tell its time: names and folders are what is left."""
    if link is None:
        return None
    same_folder = PurePosixPath(frame.name).parent == PurePosixPath(other.name).parent
    one_is_raw = is_raw(frame) != is_raw(other)
    if same_folder and link is NameLink.SAME:
        return Likeness(_NAME_EVIDENCE[link]) if format_of(frame) != format_of(other) else None
    # Files of one name in two folders are often the two frames of a pair.
    if one_is_raw or link is NameLink.EDITED:
        return Likeness(_NAME_EVIDENCE[link], Doubt.SAME_SUBJECT)
    return None


def _are_processed_apart(frame: Frame, other: Frame) -> bool:
    """Whether two files differ in more than their bytes, as the two frames of a pair do not."""
    if format_of(frame) != format_of(other) or development_difference(frame, other):
        return True
    return not is_raw(frame) and None not in (frame.meta.size, other.meta.size) and frame.meta.size != other.meta.size


def _share_serial(frame: Frame, other: Frame) -> bool:
    serials = [_normalise(each.meta.serial) for each in (frame, other)]
    return bool(serials[0]) and serials[0] == serials[1]


def _contradict(frame: Frame, other: Frame) -> bool:
    """Whether the roles, bodies, exposures or times that both files tell differ."""
    if frame.role is not None and other.role is not None and frame.role is not other.role:
        return True
    models, serials = (
        [_normalise(getattr(each.meta, name)) for each in (frame, other)] for name in ("model", "serial")
    )
    # Some programs write the maker before the model.
    if all(models) and not (models[0].endswith(models[1]) or models[1].endswith(models[0])):
        return True
    if all(serials) and serials[0] != serials[1]:
        return True
    for name in ("iso", "shutter_s", "f_number"):
        numbers = sorted(value for each in (frame, other) if (value := getattr(each.meta.exposure, name)))
        if len(numbers) == 2 and numbers[1] > _LARGEST_RATIO * numbers[0]:
            return True
    return not _times_agree(frame, other)


def _normalise(text: str | None) -> str:
    return re.sub(r"[\W_]+", "", (text or "").lower()).lstrip("0")


def _times_agree(frame: Frame, other: Frame) -> bool:
    """Whether no two known times differ, by the cameras' clocks or in UTC; a whole second may be any part of it."""
    first, second = shot_times_s(frame), shot_times_s(other)
    return not first or not second or any(map(_same_instant, first, second))


def _same_instant(first_s: float, second_s: float) -> bool:
    if first_s % 1 and second_s % 1:
        return abs(first_s - second_s) < _SAME_INSTANT_S
    return int(first_s) == int(second_s)
