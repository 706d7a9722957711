"""Orientation tags that differ within a pair: two frames of one body are compared as its sensor saw them.

A camera on a stand that looks down writes whatever its tilt sensor happens to say; the picture has not turned. A frame
that a program has turned has a size of its own, or tag 1 like its partner: such frames are taken as displayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdd_toolkit.imaging.orientation import UPRIGHT, compose_orientations, invert_orientation

if TYPE_CHECKING:
    from sdd_toolkit.records import FrameMeta


def turn_of_blurred(blur: FrameMeta, sharp: FrameMeta) -> int:
    """The orientation that turns the displayed blurred frame to where the sharp frame's tag would have turned it.

    Returns:
        1, no turn, unless both frames are of one body and stored in one size, and their tags differ.
    """
    one_body = (blur.make, blur.model, blur.serial) == (sharp.make, sharp.model, sharp.serial)
    if not one_body or blur.size is None or blur.size != sharp.size:
        return UPRIGHT
    return compose_orientations(invert_orientation(blur.orientation), sharp.orientation)


def describe_turn(blur: FrameMeta, sharp: FrameMeta) -> str:
    """A note on a pair whose blurred frame is turned."""
    return (
        f"the orientation tags differ (blurred {blur.orientation}, sharp {sharp.orientation}): "
        "the frames are compared as the sensor saw them, both turned by the sharp frame's tag"
    )


def describe_tags(blur: FrameMeta, sharp: FrameMeta) -> str:
    """The tags of two frames whose sizes differ, as a hint; empty where both are the same."""
    if blur.orientation == sharp.orientation:
        return ""
    return f"EXIF Orientation is {blur.orientation} in the blurred frame, {sharp.orientation} in the sharp one"
