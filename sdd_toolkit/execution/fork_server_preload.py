"""Imports that the fork server makes before it forks workers. Nothing else imports this module."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sdd_toolkit.execution.fork_server import MODULES

SERVER_PID = os.getpid()
_MAIN_PID = os.getppid()
_PATIENCE_S = 1.0
# Read when LibRaw, numpy and OpenCV, Blosc2 and Arrow are loaded: they start no thread then, and a fork would lose it.
_THREADLESS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_MAX_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def load(names: list[str]) -> None:
    """Imports what can be imported; what cannot will fail in a worker, where somebody hears of it."""
    for name, value in _THREADLESS.items():
        os.environ.setdefault(name, value)
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)
    with suppress(ImportError):
        importlib.import_module("cv2").setNumThreads(1)
    # Collections in workers would copy the pages of all this.
    gc.freeze()


def tidy() -> None:
    """Removes the server's socket if the main process was killed before it could."""
    from multiprocessing import forkserver

    address = getattr(forkserver._forkserver, "_forkserver_address", None)
    end = time.monotonic() + _PATIENCE_S
    while os.getppid() == _MAIN_PID and time.monotonic() < end:
        time.sleep(0.01)
    if address is not None and os.getppid() != _MAIN_PID:
        with suppress(OSError):
            Path(address).unlink()
            Path(address).parent.rmdir()


load(os.environ.get(MODULES, "").split())
atexit.register(tidy)


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A worker that finds its pool gone before it has begun, after Ctrl-C, has nothing to tell."""
    if not isinstance(error, FileNotFoundError | EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _told
