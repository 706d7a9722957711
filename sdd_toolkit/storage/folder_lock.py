"""An exclusive OS lock on an output folder, so that two builds never write to it at once; it records its holder.

The lock ends with the process that holds it, however that dies; worker processes do not inherit it. On network file
systems it is as good as their `flock`: NFS passes it to the server, some cluster file systems keep it to one machine.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.storage.files import PARTIAL, write_error, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK = ".sdd.lock"
HOLDER = ".sdd.lock.json"
LOCK_FILES = (LOCK, HOLDER, HOLDER + PARTIAL)


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

    Raises:
        InputError: Another process holds the lock (the message names it), or the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # late: a command that only reads does not need it

    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
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
        lock.release()
        _remove_empty(created)


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
