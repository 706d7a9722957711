"""Progress as one small interface: a stage calls `track(label, total)` and advances; the terminal draws it."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Advance(Protocol):
    """What a stage calls as it gets on."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Marks `steps` more units as done, optionally with a word on the latest one."""


class Track(Protocol):
    """What a stage is handed to show its progress."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Opens a display of `total` units for the length of a `with` block."""


@contextmanager
def silent(label: str, total: int) -> Iterator[Advance]:
    """Shows nothing: the default in Python code and tests."""

    def advance(steps: int = 1, note: str = "") -> None:
        del steps, note

    yield advance
