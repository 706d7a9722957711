"""Where this machine's worker processes come from: a server that imports once and forks a worker in milliseconds.

It is `multiprocessing`'s fork server, started with the first pool of a process and ending with that process. It has one
thread, so nothing is lost in a fork; elsewhere than on Linux, and where it cannot start, workers are spawned instead.
Workers get today's environment and folder, but the server's resource limits, umask and standard streams.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.context import ForkServerContext, SpawnContext

MODULES = "SDD_WORKER_MODULES"
"""Environment variable that tells a starting server what to import."""
_PRELOADED = "sdd_toolkit.execution.fork_server_preload"
# Not jdrl: torch starts threads when it is loaded, and no worker of a pool needs it.
_SHARED = ("sdd_toolkit", "capture", "alignment", "cli")
# What a module's functions import when they are called first.
_LATE = {"sdd_toolkit.shards.blosc_chunks": "blosc2"}


def context(*, forking: bool = True, modules: Sequence[str] | None = None) -> ForkServerContext | SpawnContext:
    """What starts processes: the server, which runs from now on, or with `forking=False` nothing but spawning.

    Call it with SIGINT blocked: the server and what it forks inherit that.

    Args:
        forking: Whether to use the server.
        modules: What a server that does not run yet is to import; None: what this process has imported.
    """
    from multiprocessing import get_context

    # spawn, not fork: OpenCV and torch threads of the parent do not survive a fork.
    if sys.platform != "linux" or not forking:
        return get_context("spawn")
    from multiprocessing import forkserver

    server = get_context("forkserver")
    server.set_forkserver_preload([_PRELOADED])
    try:
        with _told_what_to_import(_imported() if modules is None else [*modules, *_LATE.values()]):
            forkserver.ensure_running()
    except OSError:
        return get_context("spawn")
    atexit.unregister(_stop_own)
    atexit.register(_stop_own, os.getpid())
    return server


def stop() -> None:
    """Ends the server, if there is one: what it and its workers cost then counts among this process's children."""
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver

    server = forkserver._forkserver
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        server._stop()  # type: ignore[attr-defined]


def _stop_own(owner: int) -> None:
    """At the end, so that `time sdd build` counts everything; a fork of the main process leaves the server alone."""
    if os.getpid() == owner:
        stop()


def let_go() -> None:
    """In a worker: the server ends when nobody holds it any more, which is to be up to the main process alone."""
    forkserver = sys.modules.get("multiprocessing.forkserver")
    server = getattr(forkserver, "_forkserver", None)
    held = getattr(server, "_forkserver_alive_fd", None)
    if server is not None and held is not None:
        server._forkserver_alive_fd = None
        os.close(held)


def _imported() -> list[str]:
    """What this process has imported of what workers need."""
    names = [name for name in sys.modules if name.partition(".")[0] in _SHARED]
    return names + [late for name, late in _LATE.items() if name in sys.modules]


@contextmanager
def _told_what_to_import(names: Sequence[str]) -> Iterator[None]:
    """The environment of a starting server: it finds modules where this process does, never in the working folder."""
    path = os.pathsep.join(str(Path(entry).resolve()) if entry else str(Path.cwd()) for entry in sys.path)
    before = dict(os.environ)
    os.environ.update({MODULES: " ".join(names), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"})
    try:
        yield
    finally:
        for name in (MODULES, "PYTHONPATH", "PYTHONSAFEPATH"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name)
