"""Confirmation of a session's steps by the photographer, or automatically in an unattended session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capture.tether.journal import FocusState


class Operator(Protocol):
    """Confirms the steps of a session that need a decision, and receives a line on each frame."""

    def wait_until_ready(self, scene: str, note: str) -> None:
        """Returns when `scene` is arranged; `note` is the plan's remark on it."""

    def confirm_reshoot(self, scene: str, problems: Sequence[str]) -> bool:
        """Whether to repeat the scene because of `problems` with a frame."""

    def confirm_replacement(self, problems: Sequence[str]) -> bool:
        """Whether to shoot again the frames that are missing or altered."""

    def confirm_refocused(self, scene: str, focus: FocusState) -> bool:
        """Whether the lens was focused by hand for the scene's start, so that the scene begins again."""

    def report(self, line: str) -> None:
        """Shows the result of a frame."""


class Unattended:
    """Runs a session without an operator: every frame is accepted, every warning is kept in the journal.

    Args:
        consents: Whether missing and altered frames are shot again (`--yes`).
        pause_s: Pause before each scene, in seconds.
    """

    def __init__(self, *, consents: bool = True, pause_s: float = 0.0) -> None:
        self._consents, self._pause_s = consents, pause_s

    def wait_until_ready(self, scene: str, note: str) -> None:
        """Waits for the pause."""
        time.sleep(self._pause_s)

    def confirm_reshoot(self, scene: str, problems: Sequence[str]) -> bool:
        """Never: a persistent fault would be shot for ever."""
        return False

    def confirm_replacement(self, problems: Sequence[str]) -> bool:
        """As consented to beforehand."""
        return self._consents

    def confirm_refocused(self, scene: str, focus: FocusState) -> bool:
        """Never: the lens was not touched."""
        return False

    def report(self, line: str) -> None:
        """Discards the line."""
