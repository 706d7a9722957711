"""The first module that the fork server imports; it removes the server's socket if the main process was killed."""

from __future__ import annotations

import atexit
import shutil
from multiprocessing import forkserver
from pathlib import Path


def _remove_socket() -> None:
    # The server exits in an orderly way only when its main process is gone.
    address = getattr(forkserver._forkserver, "_forkserver_address", None)
    if address is not None:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


atexit.register(_remove_socket)
