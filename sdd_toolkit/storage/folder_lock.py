"""Who works in a folder: a lock of the kernel, with a word on its holder, so that two builds never mix their files.

The lock goes with the process that holds it, however that dies; worker processes do not inherit it. On network file
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
    """Who holds a folder.

    Attributes:
        host: Name of the machine.
        pid: The process there.
        command: Its command line.
        since: When it took the lock, local time with its distance from UTC, ISO 8601.
    """

    host: str
    pid: int
    command: str
    since: str


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process; makes it if need be, and removes it again if nothing was written.

    Raises:
        InputError: Another process holds it (the message says who), or nothing can be written there.
    """
    from filelock import FileLock, Timeout  # a command that only reads need not load it

    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        hint = "wait for it, stop it, or choose another folder"
        raise InputError(f"{folder} is in use by {_describe_holder(folder)}", hint=hint) from error
    except OSError as error:
        _remove_empty(made)
        raise write_error(folder, error) from error
    try:
        write_text(folder / HOLDER, json.dumps(asdict(_this_process())) + "\n")
        yield
    finally:
        # Before the lock is given back: afterwards they may be another's.
        for name in LOCK_FILES[::-1]:
            with suppress(OSError):
                (folder / name).unlink()
        lock.release()
        _remove_empty(made)


def _remove_empty(made: list[Path]) -> None:
    """Removes folders made for the lock alone; those with anything in them stay."""
    with suppress(OSError):
        for folder in made:
            folder.rmdir()


def _this_process() -> Holder:
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    return Holder(platform.node(), os.getpid(), command, now)


def _describe_holder(folder: Path) -> str:
    try:
        told = Holder(**json.loads((folder / HOLDER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return "another process that has just started"
    return f"process {told.pid} on {told.host} since {told.since}: {told.command}"
