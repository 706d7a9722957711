"""Settings of a worker process: library threads, memory, time limits, and an end together with the main process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdd_toolkit.execution.landlock import restrict_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sdd_toolkit.execution.landlock import Rules

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30

ALARM: int | None = getattr(signal, "SIGALRM", None)
"""Signal that ends a worker whose task takes too long; None on Windows."""


def initialise_worker(environment: Mapping[str, str], rules: Rules | None) -> None:
    """Sets up a worker of a pool.

    Args:
        environment: That of the main process now, not when the fork server started.
        rules: What it may do; None for everything.
    """
    os.environ.clear()
    os.environ.update(environment)
    if rules is not None:
        # Before anything else: threads that run already would keep their rights.
        restrict_process(rules)
    prepare_worker()


def prepare_worker() -> None:
    """Sets up a worker process: one OpenCV and one LibRaw thread, and an end together with the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if ALARM is not None:
        signal.signal(ALARM, signal.SIG_DFL)
    _end_with_main_process()
    keep_memory()
    # Collections would copy the pages of all modules that the fork server has imported.
    gc.freeze()
    # LibRaw reads it when its library is loaded, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)


def _end_with_main_process() -> None:
    """A worker left behind by `kill -9` would wait forever, or write beside the workers of the next run."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    main = parent_process()
    if main is None:
        return

    def kill_when_main_ends(sentinel: int) -> None:
        wait([sentinel])
        # Not os._exit: the interpreter may be inside a library that holds locks.
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    threading.Thread(target=kill_when_main_ends, args=(main.sentinel,), daemon=True).start()
    if sys.platform == "linux":
        import ctypes

        # A fork server that is killed takes its workers along: the main process gives their tasks to new ones.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Kills this process if the block takes longer than `limit_s`, even inside a library. No effect on Windows."""
    if ALARM is None:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Restricts OpenCV to one thread: on small tiles several threads wait for each other longer than they work."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def keep_memory() -> None:
    """Makes glibc keep freed memory: frames come and go, and fresh pages cost as much time as the work on them.

    By default glibc returns every large array to the system at once. No effect on other systems.
    """
    import ctypes

    if sys.platform != "linux":
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    set_option(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES)
