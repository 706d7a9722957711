"""Ctrl-C at a given step of a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sdd_toolkit.execution.progress import Advance, Track


def interrupting(after: int, number: int = signal.SIGINT) -> Track:
    """A progress display that raises a signal, by default Ctrl-C, at step `after`."""

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
