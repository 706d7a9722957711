"""The development of frames: RAW, or pictures that a camera or a program made of it.

A developed picture has a tone curve, a white balance and a sharpening of its own. Two frames that were developed
differently are no pair: a network would learn the difference of the two developments.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from capture.pairing.scenes import body_name
from sdd_toolkit.formats.containers import RAW_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capture.pairing.scenes import Frame

_FORMATS = {".dng": "DNG", ".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def format_of(frame: Frame) -> str:
    """`DNG`, `TIFF`, `PNG`, `JPEG`, or the suffix of a maker's own RAW format, such as `NEF`."""
    suffix = _suffix(frame)
    return _FORMATS.get(suffix, suffix[1:].upper())


def is_raw(frame: Frame) -> bool:
    """Whether a frame is a RAW file; DNG counts as one, demosaiced or not."""
    return _suffix(frame) in RAW_SUFFIXES


def development_difference(first: Frame, second: Frame) -> str:
    """The difference of the developments of two frames in words; empty if there is none that their files tell."""
    if is_raw(first) != is_raw(second):
        raw, developed = (first, second) if is_raw(first) else (second, first)
        return f"{raw.name} is RAW, {developed.name} a developed picture"
    programs = [_program(frame) for frame in (first, second)]
    if programs[0] == programs[1]:
        return ""
    # Two bodies have two firmwares. A program that is not named may be the same one, in files of one format.
    same_body = body_name(first) == body_name(second)
    is_certain = is_raw(first) or (same_body and (all(programs) or format_of(first) != format_of(second)))
    return _describe_programs(first, second) if is_certain else ""


def group_by_development(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups of frames that agree in their development, in the order of their first ones."""
    groups: list[list[Frame]] = []
    representatives: list[list[Frame]] = []  # of each group one frame of every kind
    group_of: dict[tuple[object, ...], int] = {}
    for frame in frames:
        kind = (is_raw(frame), _program(frame), format_of(frame), body_name(frame))
        if kind not in group_of:
            agreeing = (
                index
                for index, members in enumerate(representatives)
                if not any(development_difference(frame, member) for member in members)
            )
            index = next(agreeing, len(groups))
            if index == len(groups):
                groups.append([])
                representatives.append([])
            representatives[index].append(frame)
            group_of[kind] = index
        groups[group_of[kind]].append(frame)
    return groups


def _suffix(frame: Frame) -> str:
    return os.path.splitext(frame.name)[1].lower()  # PurePosixPath takes ten times as long


def _program(frame: Frame) -> str:
    """The program that developed a frame, without its version.

    Empty if unknown, as in fused pictures of this toolkit, and for a mosaic, which no program has developed.
    """
    if is_raw(frame) and not frame.provenance.is_demosaiced:
        return ""
    return " ".join(re.findall(r"[^\W\d_]+", (frame.provenance.software or "").lower()))


def _describe_programs(first: Frame, second: Frame) -> str:
    words = [
        f"{frame.name} ({frame.provenance.software or 'no program named'}, {format_of(frame)})"
        for frame in (first, second)
    ]
    return f"{words[0]} and {words[1]} were developed differently"
