"""Defects that the virtual camera can plant, and the reason for which the pipeline must reject each."""

from __future__ import annotations

from enum import StrEnum

from sdd_toolkit.records import Reason

OVEREXPOSURE_EV = 3.0
MAX_DIMMING_EV = 2.0
MIN_DIMMING_EV = 1.3
LEAF_AREA_FRACTION = (0.03, 0.04)
LEAF_JUMP_PX = (25.0, 40.0)


class Defect(StrEnum):
    """A defect of a pair."""

    BLACK_FRAME = "black_frame"
    DIFFERENT_SCENE = "different_scene"
    MOVING_OBJECT = "moving_object"
    CLIPPED = "clipped"
    BOTH_BLURRED = "both_blurred"
    MOVING_LEAF = "moving_leaf"
    LIGHT_CHANGE = "light_change"

    @property
    def reason(self) -> Reason:
        """The reason for which the pair must be rejected."""
        other = {Defect.MOVING_LEAF: Reason.MOVING_OBJECT, Defect.LIGHT_CHANGE: Reason.EXPOSURE_MISMATCH}
        return other.get(self) or Reason(self.value)
