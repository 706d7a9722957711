"""Blur-robust registration of a defocused photograph to its sharp partner.

`alignment.register(blur, sharp)` and `alignment.flow(blur, sharp)` work on two linear RGB arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignment.config import AlignConfig
    from alignment.registration.dense_motion import Flow, flow
    from alignment.registration.register import register

__all__ = ["AlignConfig", "Flow", "flow", "register"]


def __getattr__(name: str) -> Any:
    # Importing the package opens neither OpenCV nor NumPy: `sdd align --help` passes through here.
    if name in ("flow", "Flow"):
        from alignment.registration import dense_motion

        return getattr(dense_motion, name)
    if name == "register":
        from alignment.registration.register import register

        return register
    if name == "AlignConfig":
        from alignment.config import AlignConfig

        return AlignConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
