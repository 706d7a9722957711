"""Camera clocks: time zones, configured offsets, daylight-saving jumps, and the offset between two bodies.

Every frame gets `clock_s`, seconds on one clock for all frames. Each correction is described in a sentence.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from capture.pairing.scenes import body_name, natural_key, wall_time_s, zone_offset_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capture.config import IngestConfig
    from capture.pairing.scenes import Frame
    from sdd_toolkit.records import FrameMeta

_HOUR_S = 3600.0
_SIMULTANEOUS_S = 4.0  # shots of two bodies this near were released together
_MIN_SHOTS, _MAX_DIFFERENCES = 3, 4_000_000
_NEAR_MODE = 0.9
_RISING_FRACTION = 0.9
_DST_MONTHS, _SUNDAY, _DST_LAST_HOUR = (3, 4, 9, 10), 6, 2


def correct_clocks(frames: Sequence[Frame], config: IngestConfig) -> tuple[list[Frame], tuple[str, ...]]:
    """Sets `clock_s` of every frame with a capture time.

    Args:
        frames: In any order.
        config: `clock`, `clock_offsets_s`, `cameras` and `gap_s`.

    Returns:
        The frames in the same order, and a sentence on every correction.
    """
    notes: list[str] = []
    bodies: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        if frame.meta.taken_at is not None:
            bodies[body_name(frame)].append(index)
    metas = [frame.meta for frame in frames]
    for name in sorted(config.clock_offsets_s):
        if not any(_configured_offset_s(meta, {name: 0.0}) is not None for meta in metas):
            notes.append(f"{name}: no frame was taken with it, its offset is not used")
    clock: dict[int, float] = {}
    for body, indices in sorted(bodies.items()):
        times_s, corrections = _correct_body([frames[index] for index in indices], config)
        notes += [f"{body or 'camera'}: {correction}" for correction in corrections]
        clock |= dict(zip(indices, times_s, strict=True))
    if config.clock == "auto" and config.cameras == "together" and len(bodies) > 1:
        notes += _align_bodies(bodies, clock)
    corrected = [
        replace(frame, clock_s=clock[index]) if index in clock else frame for index, frame in enumerate(frames)
    ]
    return corrected, tuple(notes)


def estimate_offset(first: Sequence[float], second: Sequence[float]) -> tuple[float, int] | None:
    """The offset between two clocks: the mode of all differences between their shots.

    Shots at regular intervals give several nearly equal modes. Of these, no offset is preferred, then whole hours, then
    the smallest offset.

    Args:
        first: Times in seconds.
        second: Times in seconds.

    Returns:
        Seconds to add to `second`, and how many of its shots then coincide with one of `first`; None where too few do.
    """
    a, b = np.sort(np.asarray(first, dtype=np.float64)), np.sort(np.asarray(second, dtype=np.float64))
    step = max(1, int(np.ceil(len(a) * len(b) / _MAX_DIFFERENCES)))
    differences = np.sort((a[:, None] - b[None, ::step]).ravel())
    counts = np.searchsorted(differences, differences + _SIMULTANEOUS_S, side="right") - np.arange(len(differences))
    if len(counts) == 0:
        return None
    options = []
    for start in np.flatnonzero(counts >= _NEAR_MODE * counts.max()):
        offset_s = float(np.median(differences[start : start + counts[start]]))
        hours = round(offset_s / _HOUR_S)
        whole = abs(offset_s - hours * _HOUR_S) <= _SIMULTANEOUS_S
        options.append((0 if whole and hours == 0 else 1 if whole else 2, abs(offset_s), offset_s))
    rank, _, offset_s = min(options)
    nearest = np.abs(a[:, None] - (b + offset_s)[None, :]).min(axis=0) if len(a) * len(b) <= _MAX_DIFFERENCES else None
    agreeing = int((nearest <= _SIMULTANEOUS_S).sum()) if nearest is not None else int(counts.max()) * step
    enough = agreeing >= min(len(a), len(b)) / 2 and (agreeing >= _MIN_SHOTS or rank < 2)
    return (0.0 if rank == 0 else offset_s, agreeing) if enough else None


def _correct_body(frames: Sequence[Frame], config: IngestConfig) -> tuple[list[float], list[str]]:
    """The corrected times in seconds of one body's frames, and the corrections in words."""
    times_s, corrections = _utc_times_s(frames), []
    offset_s = _configured_offset_s(frames[0].meta, config.clock_offsets_s)
    if offset_s is not None:
        corrections.append(f"{offset_s:+g} s, as configured")
    if config.clock == "auto" and not any(frame.meta.utc_offset for frame in frames):
        times_s, jumps = _undo_jumps(frames, times_s, config.gap_s)
        corrections += jumps
    return [time_s + (offset_s or 0.0) for time_s in times_s], corrections


def _align_bodies(bodies: Mapping[str, Sequence[int]], clock: dict[int, float]) -> list[str]:
    """Shifts the clocks of all bodies onto that of the body with most frames; changes `clock`."""
    reference, *others = sorted(bodies, key=lambda body: (-len(bodies[body]), body))
    reference_s = [clock[index] for index in bodies[reference]]
    notes = []
    for body in others:
        estimate = estimate_offset(reference_s, [clock[index] for index in bodies[body]])
        if estimate is None:
            notes.append(f"{body}: no constant offset to {reference} fits its shots, its clock is taken as it is")
            continue
        offset_s, agreeing = estimate
        for index in bodies[body]:
            clock[index] += offset_s
        notes.append(f"{body}: {offset_s:+.1f} s against {reference}, {agreeing} of {len(bodies[body])} shots agree")
    return notes


def _utc_times_s(frames: Sequence[Frame]) -> list[float]:
    """UTC where a frame of the body has a time zone; frames without one are taken to be in the commonest."""
    zones = Counter(frame.meta.utc_offset for frame in frames if frame.meta.utc_offset)
    common = min(zones, key=lambda zone: (-zones[zone], str(zone))) if zones else None
    return [
        (wall_time_s(frame.meta) or 0.0) - zone_offset_s(frame.meta.utc_offset or common) for frame in frames
    ]  # fmt: skip


def _configured_offset_s(meta: FrameMeta, offsets_s: Mapping[str, float]) -> float | None:
    """The configured offset of a body, by its serial number, else maker and model, else model; None without one."""
    by_name = {name.strip().lower(): value for name, value in offsets_s.items()}
    for name in (meta.serial, f"{meta.make} {meta.model}", meta.model):
        if name and name.lower() in by_name:
            return by_name[name.lower()]
    return None


def _undo_jumps(frames: Sequence[Frame], times_s: Sequence[float], gap_s: float) -> tuple[list[float], list[str]]:
    """Corrects a clock that was changed by one hour within a series.

    Backwards: file numbers go on and the time is an hour less (plus a pause of at most `gap_s`). Forwards, a pause of
    an hour looks the same; so only a Sunday night of a month in which clocks change counts.

    Returns:
        The corrected times in seconds, and the corrections in words.
    """
    series: dict[str, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        stem = re.sub(r"\d+(\.\w+)?$", "", frame.name)
        if stem != frame.name.rpartition(".")[0]:  # it has a number
            series[stem].append(index)
    corrected, notes = list(times_s), []
    for indices in series.values():
        ordered = sorted(indices, key=lambda index: natural_key(frames[index].name))
        steps_s = [times_s[later] - times_s[earlier] for earlier, later in itertools.pairwise(ordered)]
        jumps = [step for step, by_s in enumerate(steps_s) if _is_jump(by_s, times_s[ordered[step]], gap_s)]
        rising = sum(by_s >= 0 for step, by_s in enumerate(steps_s) if step not in jumps)
        if len(jumps) not in (1, 2) or rising < _RISING_FRACTION * (len(steps_s) - len(jumps)):
            continue
        for step in jumps:
            shift_s = _HOUR_S if steps_s[step] < 0 else -_HOUR_S
            for index in ordered[step + 1 :]:
                corrected[index] += shift_s
            notes.append(f"{shift_s:+g} s from {frames[ordered[step + 1]].name} on, where its clock jumps by an hour")
    return corrected, notes


def _is_jump(step_s: float, before_s: float, gap_s: float) -> bool:
    # Nothing else sets a clock back by that much while file numbers go on, however long the pause was.
    if -_HOUR_S <= step_s <= max(gap_s - _HOUR_S, -_HOUR_S / 2):
        return True
    before = datetime.fromtimestamp(before_s, UTC)
    spring = before.month in _DST_MONTHS and before.weekday() == _SUNDAY and before.hour <= _DST_LAST_HOUR
    return spring and _HOUR_S <= step_s <= _HOUR_S + gap_s
