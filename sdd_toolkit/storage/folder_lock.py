"""An exclusive OS lock on an output folder, so that two builds never write to it at once; it records its holder.

The lock ends with the process that holds it, however that dies; worker processes do not inherit it. On network file
systems it is as good as their `flock`: NFS passes it to the server, some cluster file systems keep it to one machine.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.storage.files import PARTIAL, write_error, write_text

try:
    import fcntl
except ImportError:  # on Windows, where every file system has locks
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from filelock import BaseFileLock

_log = logging.getLogger(__name__)

LOCK = ".sdd.lock"
HOLDER = ".sdd.lock.json"
LOCK_FILES = (LOCK, HOLDER, HOLDER + PARTIAL)
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the lock of a folder.

    Attributes:
        host: Name of the machine.
        pid: Its process id there.
        command: Its command line.
        since: Time of locking, local time with its distance from UTC, ISO 8601.
    """

    host: str
    pid: int
    command: str
    since: str


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process; creates it where needed, and removes it again if nothing was written.

    On a file system without locks it warns and goes on without one.

    Raises:
        InputError: Another process holds the lock (the message names it), or the folder cannot be written.
    """
    from filelock import Timeout  # late: a command that only reads does not need it

    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_file(folder / LOCK)
    except Timeout as error:
        hint = "wait for it, stop it, or choose another folder"
        raise InputError(f"{folder} is in use by {_describe_holder(folder)}", hint=hint) from error
    except OSError as error:
        _remove_empty(created)
        raise write_error(folder, error) from error
    try:
        write_text(folder / HOLDER, json.dumps(asdict(_this_process())) + "\n")
        yield
    finally:
        # Before the release: afterwards they may belong to another process.
        for name in LOCK_FILES[::-1]:
            with suppress(OSError):
                (folder / name).unlink()
        if lock is not None:
            lock.release()
        _remove_empty(created)


def lock_file(path: Path) -> BaseFileLock | None:
    """Locks a file for this process; None, with a warning, on a file system that has no locks.

    Raises:
        filelock.Timeout: Another process holds the lock.
        OSError: The file cannot be written.
    """
    from filelock import FileLock

    if (failure := _lock_failure(path)) is not None:
        _log.warning(
            "%s: this file system has no locks (%s); a second run in the same folder would not be noticed",
            path.parent,
            failure,
        )
        return None
    lock = FileLock(path)
    lock.acquire(timeout=0)
    return lock


def _lock_failure(path: Path) -> str | None:
    """The system's message if it cannot lock the file; None if it can, or if another process has locked it."""
    if fcntl is None:
        return None
    # Not FileLock: depending on its version and the error, it would wait, or leave a file that outlives its process.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _HELD else error.strerror or str(error)
    finally:
        os.close(descriptor)
    return None


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders created for the lock; those that hold files stay."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _this_process() -> Holder:
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    return Holder(platform.node(), os.getpid(), command, now)


def _describe_holder(folder: Path) -> str:
    try:
        holder = Holder(**json.loads((folder / HOLDER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return "another process that has just started"
    return f"process {holder.pid} on {holder.host} since {holder.since}: {holder.command}"
