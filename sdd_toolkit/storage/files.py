"""Atomic file writing (a reader sees the old file or the new one), SHA-256, CSV and safe relative paths."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, overload

from sdd_toolkit.errors import InputError, ManifestError, SddError
from sdd_toolkit.storage.locations import Remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from _typeshed import ReadableBuffer as Buffer

    from sdd_toolkit.storage.locations import Location

PARTIAL = ".partial"
_STAY_BELOW = "paths in manifests and indexes must stay below their root"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replace_atomically(path: Location, *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary name beside `path`; on success it is synced and renamed onto `path`.

    A file for an object store is written to a temporary folder and uploaded whole.

    Args:
        path: The file to write.
        shared: Whether another process may write the same file at once; the temporary name is then unique.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    if isinstance(path, Remote):
        with _upload_on_success(path) as partial:
            yield partial
        return
    partial = path.with_name(path.name + (f".{os.urandom(4).hex()}" if shared else "") + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync_to_disk(partial)
        os.replace(partial, path)
        sync_to_disk(path.parent)
    except OSError as error:
        _remove(partial)
        raise write_error(path, error) from error
    except BaseException:
        _remove(partial)
        raise


@contextmanager
def _upload_on_success(path: Remote) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="sdd-") as folder:
            partial = Path(folder, path.name + PARTIAL)
            yield partial
            path.put(partial)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Location, error: OSError) -> SddError:
    """An `InputError` with advice for an `OSError` raised while `path` was written."""
    if error.errno in _DISK_FULL:
        return InputError(f"no space left while writing {path}", hint="free some space and run the same again")
    return InputError(f"cannot write {path}: {error.strerror or error}", hint="check the folder and its rights")


def write_bytes(path: Location, content: bytes) -> None:
    """Writes `content` to `path` atomically."""
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    with replace_atomically(path) as partial:
        partial.write_bytes(content)


def write_text(path: Location, text: str) -> None:
    """Writes `text` to `path` atomically, UTF-8 with Unix line ends."""
    write_bytes(path, text.encode("utf-8"))


def write_csv(path: Location, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table to `path` atomically: a header, then `rows`, lines ended by "\\n"; None becomes an empty field."""
    write_text(path, "".join(map(_csv_line, (columns, *rows))))


def _csv_line(values: Sequence[object]) -> str:
    line = io.StringIO()
    # The csv module quotes only the line ends it writes itself: with "\n" alone, a "\r" in a name would end a row.
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


def sha256_of(path: Location) -> str:
    """The file's SHA-256 as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@overload
def resolve_inside(root: Path, relative: str) -> Path: ...
@overload
def resolve_inside(root: Location, relative: str) -> Location: ...
def resolve_inside(root: Location, relative: str) -> Location:
    """`root / relative`, refused if it is absolute or leaves `root`.

    Raises:
        ManifestError: The path escapes the root (by `..`, by being absolute or through a symbolic link).
    """
    check_relative(relative, str(root))
    if isinstance(root, Remote):
        return root / relative
    path = root / PurePosixPath(relative)
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise ManifestError(f"{relative!r} leaves its root {root} through a link", hint=_STAY_BELOW)
    return path


def check_relative(relative: str, where: str) -> None:
    """Refuses a relative path that is empty, absolute or holds `..`.

    Args:
        relative: The path.
        where: Root, or file and line that names the path, for the message.

    Raises:
        ManifestError: The path could leave its root.
    """
    # Without pathlib: this runs for every file of a manifest, and creating a Path takes twenty times longer.
    if not relative or relative[0] == "/" or ".." in relative.split("/") or "\0" in relative:
        raise ManifestError(f"{relative[:200]!r} leaves its root ({where})", hint=_STAY_BELOW)


class DeferredErrorFile(io.FileIO):
    """A file that stores its first write error instead of raising it.

    HDF5 aborts the process if a write fails while it closes a file; so write errors are recorded and raised later.

    Attributes:
        failure: The first error; None if there was none.
    """

    failure: OSError | None = None

    def write(self, data: Buffer) -> int:
        """Writes all of `data`; after the first error nothing is written, and success reported."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        try:
            while len(rest) and self.failure is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return length

    def truncate(self, size: int | None = None) -> int:
        """Sets the length of the file; an error is stored, and success reported."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


def sync_to_disk(path: Path) -> None:
    """Returns once the content of a file, or the entries of a folder, are on the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    # If a parent is itself a file, unlink fails too; the first error is reported.
    with suppress(OSError):
        path.unlink()
