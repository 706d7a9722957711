"""Walking folders: every file once, in a fixed order, whatever links there are."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.formats.containers import is_candidate
from sdd_toolkit.records import Reason, RejectedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A RAW file or image.

    Attributes:
        path: The file itself, links followed.
        name: Where it was found, relative to the root: this is what grouping looks at.
        ref: Where it is, relative to the root: this is what the manifest stores.
        bytes: Its size.
        modified_ns: When it was last written.
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
        root: Common parent folder of everything found.
        files: RAW files and images, sorted by name.
        rejected: All others.
    """

    root: Path
    files: tuple[ScannedFile, ...]
    rejected: tuple[RejectedFile, ...]


def scan_folders(sources: Sequence[Path], skip: Sequence[Path] = ()) -> Scan:
    """Lists the files of folders (recursively) and files named one by one.

    Hidden files are rejected, hidden folders and those that cannot be listed are rejected as a whole; `skip`, what
    the toolkit wrote itself, is left out. Links are followed, each folder once.

    Raises:
        InputError: A source does not exist, or there is neither a RAW file nor an image.
    """
    for source in sources:
        if not source.exists():
            raise InputError(f"there is no file or folder {source}", hint="check the path")
    left_out = {os.path.realpath(path) for path in skip}
    walk = _Walk(left_out)
    for source in sources:
        walk.add(_resolve_source(source))
    if not any(map(is_candidate, walk.files)):
        places = ", ".join(map(str, sources))
        raise InputError(f"neither a RAW file nor an image in {places}", hint="check the path; try --help")
    taken = sorted((path, *found) for path, found in walk.files.items() if path not in walk.refused)
    root = _common_root(sources, [real for _, real, _ in taken])
    cut = len(root.rstrip(os.sep)) + 1
    files = []
    for path, real, state in taken:
        name = _relative_name(path, cut)
        ref = name if real == path else _relative_name(real, cut)
        files.append(ScannedFile(Path(real), name, ref, state.st_size, state.st_mtime_ns))
    refused = tuple(RejectedFile(_relative_name(path, cut), *walk.refused[path]) for path in sorted(walk.refused))
    return Scan(Path(root), tuple(files), refused)


_UNKNOWN_STATE = os.stat_result([0] * 10)


class _Walk:
    """Files below folders, each with where it really is, and what was refused; plain strings, as there are many."""

    def __init__(self, left_out: set[str]) -> None:
        self.files: dict[str, tuple[str, os.stat_result]] = {}
        self.refused: dict[str, tuple[Reason, str]] = {}
        self._left_out = left_out

    def add(self, source: str) -> None:
        """Everything below a folder, or one file; links are followed, each folder is searched once."""
        seen: set[str] = set()
        waiting = [(source, os.path.realpath(source))]
        if not os.path.isdir(source):
            self._file(source, waiting.pop()[1])
        while waiting:
            here, real = waiting.pop()
            if real in seen or real in self._left_out:
                if os.path.islink(here) and real not in self._left_out:
                    self.refused[here] = Reason.UNSUPPORTED, "a link to a folder that is searched already"
                continue
            seen.add(real)
            if is_candidate(here):
                self.refused[here] = Reason.UNSUPPORTED, "a folder, though named like a photograph"
            try:
                with os.scandir(here) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                self.refused[here] = Reason.UNREADABLE, f"cannot list the folder: {error.strerror}"
                continue
            for entry in inside:
                path, link = os.path.join(here, entry.name), entry.is_symlink()
                if path in self._left_out:
                    continue
                place = os.path.realpath(path) if link else os.path.join(real, entry.name)
                if not _is_folder(entry):
                    self._file(path, place)
                elif entry.name.startswith("."):
                    self.refused[path] = Reason.UNSUPPORTED, "a hidden folder, not searched"
                else:
                    waiting.append((path, place))

    def _file(self, path: str, real: str) -> None:
        try:
            state = os.stat(path)
        except OSError as error:
            state, failure = _UNKNOWN_STATE, error.strerror or str(error)
        else:
            failure = ""
        self.files[path] = real, state
        why = _rejection(path, state.st_mode, failure)
        if why is not None:
            self.refused[path] = why


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _resolve_source(source: Path) -> str:
    """The folder itself without links; a file keeps its own name, even if it is a link."""
    if source.is_dir():
        return os.path.realpath(source)
    return os.path.join(os.path.realpath(source.parent), source.name)


def _common_root(sources: Sequence[Path], taken: Collection[str]) -> str:
    """The folder all files, wherever links lead, and all sources have in common."""
    folders = {
        _resolve_source(source) if source.is_dir() else os.path.dirname(_resolve_source(source)) for source in sources
    }
    return os.path.commonpath(folders | {os.path.dirname(real) for real in taken})


def _relative_name(path: str, cut: int) -> str:
    return _replace_undecodable(path[cut:].replace(os.sep, "/"))


def _rejection(path: str, mode: int, failure: str) -> tuple[Reason, str] | None:
    """Why a file is left out; `failure` is why its `mode` is not known."""
    if os.path.basename(path).startswith("."):
        return Reason.UNSUPPORTED, "a hidden file"
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
