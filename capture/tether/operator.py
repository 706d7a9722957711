"""Who stands by the camera during a session: somebody who is asked, or nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capture.tether.journal import FocusState


class Operator(Protocol):
    """Is asked where a person has to decide, and hears how each frame went."""

    def wait_until_ready(self, scene: str, note: str) -> None:
        """Returns when `scene` is arranged."""

    def confirm_reshoot(self, scene: str, complaints: Sequence[str]) -> bool:
        """Whether to repeat the scene because of `complaints`."""

    def confirm_replacement(self, problems: Sequence[str]) -> bool:
        """Whether to shoot again the frames that are missing or altered."""

    def confirm_refocused(self, scene: str, lens: FocusState) -> bool:
        """Whether the lens was put back to the scene's start by hand, so that the scene begins anew."""

    def report(self, line: str) -> None:
        """Hears how a frame went."""


class Unattended:
    """Nobody: every frame is accepted, every warning noted.

    Args:
        consents: Whether missing and altered frames are shot again (`--yes`).
        pause_s: Rest before each scene.
    """

    def __init__(self, *, consents: bool = True, pause_s: float = 0.0) -> None:
        self._consents, self._pause_s = consents, pause_s

    def wait_until_ready(self, scene: str, note: str) -> None:
        """Waits the scene's pause."""
        time.sleep(self._pause_s)

    def confirm_reshoot(self, scene: str, complaints: Sequence[str]) -> bool:
        """Never: a fault that does not go away would be shot for ever."""
        return False

    def confirm_replacement(self, problems: Sequence[str]) -> bool:
        """As was said beforehand."""
        return self._consents

    def confirm_refocused(self, scene: str, lens: FocusState) -> bool:
        """Nobody was there to touch it."""
        return False

    def report(self, line: str) -> None:
        """Listens to nothing."""
