"""The fork server that starts worker processes in milliseconds: it has imported the toolkit and has one thread.

It belongs to `multiprocessing`, starts with the first pool and ends with the main process. Workers inherit its resource
limits, umask and standard streams.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PRELOAD = "sdd_toolkit.execution.fork_server_preload"
# Not jdrl: torch starts threads when it is loaded, and no worker of a pool needs it.
_PACKAGES = ("sdd_toolkit", "capture", "alignment", "cli")
# Libraries that functions of workers import when they are called.
_IMPORTED_LATE = {"sdd_toolkit.shards.blosc_chunks": "blosc2"}
# LibRaw, NumPy, OpenCV, Blosc2 and Arrow then start no threads when they are loaded; a fork would lose them.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_MAX_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTHONSAFEPATH": "1",
}


def start(modules: Iterable[str] | None = None) -> None:
    """Starts the server unless it runs already; it imports while this process goes on.

    Args:
        modules: Modules that workers will need; None for those that this process has imported.

    Raises:
        OSError: There is no folder for its socket.
    """
    names = list(modules or (name for name in sys.modules if name.partition(".")[0] in _PACKAGES))
    late = [library for name, library in _IMPORTED_LATE.items() if modules or name in names]
    forkserver.set_forkserver_preload([_PRELOAD, "pebble", *names, *late])
    # Modules are found where this process finds them, never in the working folder.
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    environment = _ENVIRONMENT | {"PYTHONPATH": path}
    previous = {name: os.environ[name] for name in environment if name in os.environ}
    os.environ.update(environment)
    try:
        with sigint_blocked():
            forkserver.ensure_running()
    finally:
        for name in environment.keys() - previous.keys():
            del os.environ[name]
        os.environ.update(previous)
    atexit.unregister(stop)
    atexit.register(stop)


def stop() -> None:
    """Ends the server; the CPU time of its workers is then counted as that of children of this process."""
    server = forkserver._forkserver
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
            server._stop()  # type: ignore[attr-defined]


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Blocks Ctrl-C in this thread and in what it starts: a starting process would answer it with a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # First: when this starts, it unblocks SIGINT.
    resource_tracker.ensure_running()
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
