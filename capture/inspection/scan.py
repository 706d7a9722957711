"""Finds the files below folders: each file once, in a fixed order, across symbolic links."""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.containers import is_candidate
from sdd_toolkit.records import Reason, RejectedFile
from sdd_toolkit.storage.linked_stores import stored_object
from sdd_toolkit.storage.system_files import system_file, system_folder
from sdd_toolkit.storage.targets import is_toolkit_file

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A RAW file or image.

    Attributes:
        path: The file itself, links resolved, unless they lead into a store (`storage.linked_stores`).
        name: Path under which it was found, relative to the root: grouping uses this one.
        ref: Path of the file itself, relative to the root: the manifest stores this one.
        bytes: Its size.
        modified_ns: Its modification time.
    """

    path: Path
    name: str
    ref: str
    bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Scan:
    """All files below the sources.

    Attributes:
        root: Common parent folder of all files.
        files: RAW files and images, sorted by name.
        rejected: All others.
        side_files: Number of files that the toolkit wrote itself; they are in neither.
    """

    root: Path
    files: tuple[ScannedFile, ...]
    rejected: tuple[RejectedFile, ...]
    side_files: int = 0


def scan_folders(sources: Sequence[Path], excluded: Sequence[Path] = ()) -> Scan:
    """Lists the files of folders (recursively) and single files.

    Hidden files and those of the system (`storage.system_files`) are rejected; such folders, and folders that cannot be
    listed, are rejected as a whole. Links are followed, each folder is searched once.

    Args:
        sources: Folders and files.
        excluded: Files and folders to skip, such as outputs of the toolkit.

    Raises:
        InputError: A source does not exist, or there is neither a RAW file nor an image.
    """
    for source in sources:
        if not source.exists():
            raise InputError(f"there is no file or folder {source}", hint="check the path")
    walk = _Walk({os.path.realpath(path) for path in excluded})
    for source in sources:
        walk.add(_resolve_source(source))
    if not any(map(is_candidate, walk.files)):
        names = ", ".join(map(str, sources))
        raise InputError(f"neither a RAW file nor an image in {names}", hint="check the path; try --help")
    accepted = sorted((path, *file) for path, file in walk.files.items() if path not in walk.rejected)
    root = _common_root(sources, [real for _, real, _ in accepted])
    prefix = len(root.rstrip(os.sep)) + 1
    files = []
    for path, real, state in accepted:
        name = _relative_name(path, prefix)
        # An object of a store has no suffix; its link has, and stays when the object moves within the store.
        stored = real != path and stored_object(Path(path)) is not None
        file = path if stored else real
        ref = name if file == path else _relative_name(file, prefix)
        files.append(ScannedFile(Path(file), name, ref, state.st_size, state.st_mtime_ns))
    rejected = tuple(RejectedFile(_relative_name(path, prefix), *walk.rejected[path]) for path in sorted(walk.rejected))
    return Scan(Path(root), tuple(files), rejected, len(walk.side_files))


_UNKNOWN_STATE = os.stat_result([0] * 10)


class _Walk:
    """Collects the files below folders; paths are plain strings, as there may be many.

    Attributes:
        files: Real path and state of every file, by the path under which it was found.
        rejected: Reason and detail of every rejected file or folder.
        side_files: Real paths of the files that the toolkit wrote itself.
    """

    def __init__(self, excluded: set[str]) -> None:
        self.files: dict[str, tuple[str, os.stat_result]] = {}
        self.rejected: dict[str, tuple[Reason, str]] = {}
        self.side_files: set[str] = set()
        self._excluded = excluded

    def add(self, source: str) -> None:
        """Adds one file, or everything below a folder; links are followed last, each folder is searched once."""
        if not os.path.isdir(source):
            self._add_file(source, os.path.realpath(source))
            return
        searched: set[str] = set()
        pending, links = [(source, os.path.realpath(source))], deque[tuple[str, str]]()
        while pending or links:
            folder, real = pending.pop() if pending else links.popleft()
            if real in self._excluded:
                continue
            if real in searched:
                if os.path.islink(folder):
                    self.rejected[folder] = Reason.UNSUPPORTED, "a link to a folder that is searched already"
                continue
            searched.add(real)
            for path, target in self._add_entries(folder, real):
                if os.path.islink(path):
                    links.append((path, target))
                else:
                    pending.append((path, target))

    def _add_entries(self, folder: str, real_folder: str) -> list[tuple[str, str]]:
        """Adds the files of one folder; returns path and real path of its subfolders, the last to search first."""
        if is_candidate(folder):
            self.rejected[folder] = Reason.UNSUPPORTED, "a folder, though named like a photograph"
        try:
            with os.scandir(folder) as iterator:
                entries = sorted(iterator, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            self.rejected[folder] = Reason.UNREADABLE, f"cannot list the folder: {error.strerror}"
            return []
        subfolders = []
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if path in self._excluded:
                continue
            real = os.path.realpath(path) if entry.is_symlink() else os.path.join(real_folder, entry.name)
            if not _is_folder(entry):
                self._add_file(path, real)
            elif why := system_folder(entry.name):
                self.rejected[path] = Reason.UNSUPPORTED, f"{why}, not searched"
            else:
                subfolders.append((path, real))
        return subfolders

    def _add_file(self, path: str, real: str) -> None:
        if not is_candidate(path) and is_toolkit_file(Path(path)):
            self.side_files.add(real)
            return
        try:
            state = os.stat(path)
        except OSError as error:
            state, failure = _UNKNOWN_STATE, error.strerror or str(error)
        else:
            failure = ""
        self.files[path] = real, state
        rejection = _rejection(path, state.st_mode, failure)
        if rejection is not None:
            self.rejected[path] = rejection


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _resolve_source(source: Path) -> str:
    """A folder without links; a file keeps its own name, even if it is a link."""
    if source.is_dir():
        return os.path.realpath(source)
    return os.path.join(os.path.realpath(source.parent), source.name)


def _common_root(sources: Sequence[Path], real_paths: Collection[str]) -> str:
    """The common parent folder of all files, links resolved, and all sources."""
    folders = {
        _resolve_source(source) if source.is_dir() else os.path.dirname(_resolve_source(source)) for source in sources
    }
    return os.path.commonpath(folders | {os.path.dirname(real) for real in real_paths})


def _relative_name(path: str, prefix: int) -> str:
    return _replace_undecodable(path[prefix:].replace(os.sep, "/"))


def _rejection(path: str, mode: int, failure: str) -> tuple[Reason, str] | None:
    """Reason and detail of a file that is left out; `failure` is the reason for an unknown `mode`."""
    if why := system_file(os.path.basename(path)):
        return Reason.UNSUPPORTED, why
    if not is_candidate(path):
        suffix = os.path.splitext(path)[1].lower()
        return Reason.UNSUPPORTED, f"not an image ({_replace_undecodable(suffix) or 'no suffix'})"
    if not path.isascii():
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            return Reason.UNREADABLE, "its name is not UTF-8"
    if failure:
        return Reason.UNREADABLE, failure
    return None if stat.S_ISREG(mode) else (Reason.UNSUPPORTED, "not a regular file")


def _replace_undecodable(name: str) -> str:
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
