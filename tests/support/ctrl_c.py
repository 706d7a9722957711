"""Somebody presses Ctrl-C while a run trains."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sdd_toolkit.execution.progress import Advance, Track


def interrupting(after: int, number: int = signal.SIGINT) -> Track:
    """A progress display during whose step `after` somebody presses Ctrl-C."""

    @contextmanager
    def track(label: str, total: int) -> Iterator[Advance]:
        done = 0

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done
            done += steps
            if done == after:
                signal.raise_signal(number)

        yield advance

    return track
