"""Clocks of cameras: time zones, known offsets, daylight-saving jumps, and two bodies whose clocks differ.

Every frame gets `clock_s`, seconds on a clock all frames share, and every assumption is told in a sentence.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from capture.pairing.scenes import body_name, natural_key, wall_time_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capture.config import IngestConfig
    from capture.pairing.scenes import Frame
    from sdd_toolkit.records import FrameMeta

_HOUR_S = 3600.0
_SIMULTANEOUS_S = 4.0  # shots of two bodies this near are one
_MIN_SHOTS, _MAX_DIFFERENCES = 3, 4_000_000
_NEAR_MODE = 0.9
_RISING_FRACTION = 0.9
_DST_MONTHS, _SUNDAY, _DST_LAST_HOUR = (3, 4, 9, 10), 6, 2


def correct_clocks(frames: Sequence[Frame], config: IngestConfig) -> tuple[list[Frame], tuple[str, ...]]:
    """`frames` with `clock_s`, and a sentence on every clock that was not taken as it is.

    Args:
        frames: In any order; those without a time stay so.
        config: `clock`, `clock_offsets_s`, `cameras` and `gap_s`.
    """
    notes: list[str] = []
    bodies: dict[str, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        if frame.meta.taken_at is not None:
            bodies[body_name(frame)].append(place)
    metas = [frame.meta for frame in frames]
    for name in sorted(config.clock_offsets_s):
        if not any(_configured_offset_s(meta, {name: 0.0})[1] for meta in metas):
            notes.append(f"{name}: no frame was taken with it, its offset is not used")
    clock: dict[int, float] = {}
    for body, places in sorted(bodies.items()):
        own = [frames[place] for place in places]
        times = _utc_times_s(own)
        shift_s, told = _configured_offset_s(own[0].meta, config.clock_offsets_s)
        if told:
            notes.append(f"{body or 'camera'}: {shift_s:+g} s, as configured")
        if config.clock == "auto" and not any(frame.meta.utc_offset for frame in own):
            times, jumps = _undo_jumps(own, times, config.gap_s)
            notes += [f"{body or 'camera'}: {jump}" for jump in jumps]
        clock |= {place: time_s + shift_s for place, time_s in zip(places, times, strict=True)}
    if config.clock == "auto" and config.cameras == "together" and len(bodies) > 1:
        notes += _align_bodies(bodies, clock)
    return [
        replace(frame, clock_s=clock[place]) if place in clock else frame for place, frame in enumerate(frames)
    ], tuple(notes)


def estimate_offset(first: Sequence[float], second: Sequence[float]) -> tuple[float, int] | None:
    """What to add to the times of `second` so that its shots fall on those of `first`, and how many then do.

    The mode of all differences decides; of nearly equal modes (shots at regular intervals) the clocks as they are,
    then whole hours, then the smallest difference.

    Args:
        first: Times in seconds.
        second: Times in seconds.

    Returns:
        None where too few shots agree.
    """
    a, b = np.sort(np.asarray(first, dtype=np.float64)), np.sort(np.asarray(second, dtype=np.float64))
    step = max(1, int(np.ceil(len(a) * len(b) / _MAX_DIFFERENCES)))
    apart = np.sort((a[:, None] - b[None, ::step]).ravel())
    counts = np.searchsorted(apart, apart + _SIMULTANEOUS_S, side="right") - np.arange(len(apart))
    if len(counts) == 0:
        return None
    options = []
    for start in np.flatnonzero(counts >= _NEAR_MODE * counts.max()):
        offset_s = float(np.median(apart[start : start + counts[start]]))
        hours = round(offset_s / _HOUR_S)
        whole = abs(offset_s - hours * _HOUR_S) <= _SIMULTANEOUS_S
        options.append((0 if whole and hours == 0 else 1 if whole else 2, abs(offset_s), offset_s))
    kind, _, offset_s = min(options)
    nearest = np.abs(a[:, None] - (b + offset_s)[None, :]).min(axis=0) if len(a) * len(b) <= _MAX_DIFFERENCES else None
    agreeing = int((nearest <= _SIMULTANEOUS_S).sum()) if nearest is not None else int(counts.max()) * step
    enough = agreeing >= min(len(a), len(b)) / 2 and (agreeing >= _MIN_SHOTS or kind < 2)
    return (0.0 if kind == 0 else offset_s, agreeing) if enough else None


def _align_bodies(bodies: Mapping[str, Sequence[int]], clock: dict[int, float]) -> list[str]:
    """Moves the clocks of all bodies onto that of the one with most frames; changes `clock`."""
    reference, *others = sorted(bodies, key=lambda body: (-len(bodies[body]), body))
    notes = []
    for body in others:
        found = estimate_offset([clock[place] for place in bodies[reference]], [clock[place] for place in bodies[body]])
        if found is None:
            notes.append(f"{body}: no constant offset to {reference} fits its shots, its clock is taken as it is")
            continue
        offset_s, agreeing = found
        for place in bodies[body]:
            clock[place] += offset_s
        notes.append(f"{body}: {offset_s:+.1f} s against {reference}, {agreeing} of {len(bodies[body])} shots agree")
    return notes


def _utc_times_s(frames: Sequence[Frame]) -> list[float]:
    """UTC where any frame of the body tells its zone (those that do not are taken to be in the commonest)."""
    zones = Counter(frame.meta.utc_offset for frame in frames if frame.meta.utc_offset)
    common = min(zones, key=lambda zone: (-zones[zone], str(zone))) if zones else None
    return [(wall_time_s(frame.meta) or 0.0) - _zone_offset_s(frame.meta.utc_offset or common) for frame in frames]


def _zone_offset_s(zone: str | None) -> float:
    if zone is None:
        return 0.0
    return (-1 if zone[0] == "-" else 1) * (int(zone[1:3]) * _HOUR_S + int(zone[4:6]) * 60.0)


def _configured_offset_s(meta: FrameMeta, offsets_s: Mapping[str, float]) -> tuple[float, bool]:
    """The configured offset of a body; the serial number wins over maker and model, and that over the model."""
    plain = {name.strip().lower(): value for name, value in offsets_s.items()}
    for name in (meta.serial, f"{meta.make} {meta.model}", meta.model):
        if name and name.lower() in plain:
            return plain[name.lower()], True
    return 0.0, False


def _undo_jumps(frames: Sequence[Frame], times: Sequence[float], gap_s: float) -> tuple[list[float], list[str]]:
    """`times` with a clock that was changed by one hour in the middle of a series set right, and what was done.

    Backwards: file numbers go on and the time is an hour less (plus a pause of at most `gap_s`). Forwards a pause of
    an hour looks the same, so only a Sunday night of a month in which clocks change counts.
    """
    series: dict[str, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        stem = re.sub(r"\d+(\.\w+)?$", "", frame.name)
        if stem != frame.name.rpartition(".")[0]:  # it has a number
            series[stem].append(place)
    right, notes = list(times), []
    for places in series.values():
        ordered = sorted(places, key=lambda place: natural_key(frames[place].name))
        steps = [times[later] - times[earlier] for earlier, later in itertools.pairwise(ordered)]
        jumps = [index for index, step in enumerate(steps) if _is_jump(step, times[ordered[index]], gap_s)]
        rising = sum(step >= 0 for index, step in enumerate(steps) if index not in jumps)
        if len(jumps) not in (1, 2) or rising < _RISING_FRACTION * (len(steps) - len(jumps)):
            continue
        for index in jumps:
            shift_s = _HOUR_S if steps[index] < 0 else -_HOUR_S
            for place in ordered[index + 1 :]:
                right[place] += shift_s
            notes.append(f"{shift_s:+g} s from {frames[ordered[index + 1]].name} on, where its clock jumps by an hour")
    return right, notes


def _is_jump(step_s: float, before_s: float, gap_s: float) -> bool:
    # Nothing else puts a clock back by that much while file numbers go on, however long the pause was.
    if -_HOUR_S <= step_s <= max(gap_s - _HOUR_S, -_HOUR_S / 2):
        return True
    when = datetime.fromtimestamp(before_s, UTC)
    spring = when.month in _DST_MONTHS and when.weekday() == _SUNDAY and when.hour <= _DST_LAST_HOUR
    return spring and _HOUR_S <= step_s <= _HOUR_S + gap_s
