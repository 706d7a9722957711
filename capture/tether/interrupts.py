"""Ctrl-C in the middle of a frame: the frame is finished first, then the program stops."""

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
    """Puts off a first Ctrl-C to the end of the block; a second one stops at once.

    Raises:
        KeyboardInterrupt: At the end of the block, if Ctrl-C was pressed in it.
    """
    asked = False

    def later(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.getsignal(signal.SIGINT)
    # Only the main thread may; and a program told to ignore Ctrl-C goes on doing so.
    mine = threading.current_thread() is threading.main_thread() and callable(before)
    if mine:
        signal.signal(signal.SIGINT, later)
    try:
        yield
    except Exception as error:
        # A camera that hangs and then fails must not outlive the wish to stop.
        if asked:
            raise KeyboardInterrupt from error
        raise
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
