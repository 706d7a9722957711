"""The interface between a stage and its progress display: `track(label, total)` opens one, `advance` moves it."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Advance(Protocol):
    """Moves a progress display."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Counts `steps` more units as done; `note` describes the latest one."""


class Track(Protocol):
    """Opens progress displays for a stage."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """A display of `total` units, shown during a `with` block."""


@contextmanager
def silent(label: str, total: int) -> Iterator[Advance]:
    """A progress display that shows nothing: the default in Python code and tests."""

    def advance(steps: int = 1, note: str = "") -> None:
        del steps, note

    yield advance
