"""Remarks on a pair whose frames were converted to sRGB: from which colour profile, and what could not be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdd_toolkit.records import FrameMeta

_ROLES = ("blurred", "sharp")
_NOTED_SHARE = 0.001


def conversion_notes(blur: FrameMeta, sharp: FrameMeta) -> tuple[str, ...]:
    """What is done with the colours of the two frames, where anything is.

    Example:
        >>> from sdd_toolkit.records import FrameMeta
        >>> conversion_notes(FrameMeta(), FrameMeta(colour="converted from Display P3 to sRGB primaries"))
        ('the sharp frame is converted from Display P3 to sRGB primaries',)
    """
    return tuple(
        f"the {role} frame is {meta.colour}" for role, meta in zip(_ROLES, (blur, sharp), strict=True) if meta.colour
    )


def gamut_notes(blur: float, sharp: float) -> tuple[str, ...]:
    """That pixels were clipped, where more than 0.1 % of a frame lie outside of sRGB.

    Example:
        >>> gamut_notes(0.0004, 0.0312)
        ('3.12 % of the sharp frame lie outside of sRGB and are clipped',)
    """
    return tuple(
        f"{100 * share:.3g} % of the {role} frame lie outside of sRGB and are clipped"
        for role, share in zip(_ROLES, (blur, sharp), strict=True)
        if share > _NOTED_SHARE
    )
