"""Defers Ctrl-C to the end of a frame: the frame is finished first, then the program stops."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Defers a first Ctrl-C to the end of the block; a second one stops at once.

    Raises:
        KeyboardInterrupt: At the end of the block, if Ctrl-C was pressed in it.
    """
    interrupted = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    previous = signal.getsignal(signal.SIGINT)
    # Only the main thread can set handlers; and a program that ignores Ctrl-C continues to ignore it.
    replaceable = threading.current_thread() is threading.main_thread() and callable(previous)
    if replaceable:
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    except Exception as error:
        # If the camera hangs and then fails, the interrupt counts more than the failure.
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        if replaceable:
            signal.signal(signal.SIGINT, previous)
    if interrupted:
        raise KeyboardInterrupt
