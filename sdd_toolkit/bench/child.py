"""Runs one command of the toolkit as a child process that ends with its parent: `python -m sdd_toolkit.bench.child`."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_POLL_S = 1.0


def end_with_parent(parent: int) -> None:
    """Stops this process, as Ctrl-C does, once `parent` is gone: killed by `kill -9`, it cannot do so itself."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Runs `sdd` with the words after the parent's process id."""
    parent, *words = sys.argv[1:]
    threading.Thread(target=end_with_parent, args=(int(parent),), daemon=True).start()
    sys.argv = ["sdd", *words]
    runpy.run_module("sdd_toolkit", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
