"""Runs a function in a fresh process, so that its seconds and its peak of memory are its own."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
LIBRARIES = ("torch", "lightning_fabric", "numpy", "cv2", "h5py", "hdf5plugin", "pandas", "matplotlib.figure", "rawpy")


def in_fresh_process(function: Callable[..., T], *arguments: Any, method: str = "forkserver") -> T:
    """The result of `function(*arguments)` in a process that does nothing else.

    It is forked from a server that has loaded the libraries of the script, once, and nothing more. A function that
    starts workers of its own needs the method `spawn`: they would be forked from the same server.
    """
    context = get_context(method)
    context.set_forkserver_preload([name for name in LIBRARIES if name in sys.modules])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def resident_mb(field: str) -> float:
    """Memory of this process in megabytes: `VmHWM` at its peak, `VmRSS` now; NaN where there is no /proc.

    `ru_maxrss` would start at the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.is_file() else None
    return int(found[1]) * 1024 / 1e6 if found else math.nan
