"""Fault points: every call that changes the disk below a folder, counted, and a fault at the n-th.

Nothing is patched. Python's audit hook reports that files are opened for writing, renamed, removed or truncated and
folders made, before it happens; the profiler reports `write`, `flush`, `fsync` and `close` of open files.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_ARGUMENT = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0}
_CALLS = frozenset(("write", "flush", "close", "truncate"))


class Points:
    """Lists the fault points below `folder` and calls `act` at one of them and, if it `stays`, at all later ones.

    Args:
        folder: What lies below it is watched.
        at: The number of the point or its name, of which the first counts; None for none.
        act: Called with the point's name.
        stays: Whether the fault stays.
    """

    def __init__(self, folder: Path, at: int | str | None, act: Callable[[str], None], *, stays: bool = False) -> None:
        self.folder, self.at, self.act, self.stays = os.path.realpath(folder) + os.sep, at, act, stays
        self.names: list[str] = []
        self.struck = False

    def watch(self) -> None:
        """Watches from here on, for the rest of the process."""
        sys.addaudithook(self._audited)
        sys.setprofile(self._profiled)

    def _point(self, what: str) -> None:
        self.names.append(what)
        if self.at in (len(self.names) - 1, what) and not self.struck:
            self.struck = True
            self.act(what)
        elif self.struck and self.stays:
            self.act(what)

    def _below(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and (os.fsdecode(path) + os.sep).startswith(self.folder)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        position = _PATH_ARGUMENT.get(event)
        if position is None or not self._below(arguments[position]):
            return
        if event != "open" or (isinstance(arguments[2], int) and arguments[2] & _WRITES):
            self._point(f"{event} {os.path.relpath(os.fsdecode(arguments[position]), self.folder)}")

    def _profiled(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "c_call":
            return
        if argument is os.fsync:
            self._point("fsync")
        elif argument.__name__ in _CALLS:
            file = argument.__self__
            name = getattr(file, "name", None)
            if self._below(name) and not getattr(file, "closed", True) and file.writable():
                self._point(f"{argument.__name__} {os.path.relpath(str(name), self.folder)}")


def killed(what: str) -> None:
    """The process dies here, as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(what: str) -> None:
    """Fails every write; existing files can still be removed and renamed."""
    if not what.startswith(("os.remove", "os.rename", "os.rmdir", "close", "fsync")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
