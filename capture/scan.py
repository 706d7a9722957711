"""Walking folders: every file once, in a fixed order, whatever links there are."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.containers import is_candidate
from sdd_toolkit.errors import InputError
from sdd_toolkit.types import Reason, RejectedFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Found:
    """A RAW file or image.

    Attributes:
        path: The file itself, links followed.
        name: Where it was found, relative to the root: this is what grouping looks at.
        ref: Where it is, relative to the root: this is what the manifest stores.
    """

    path: Path
    name: str
    ref: str


@dataclass(frozen=True, slots=True)
class Scan:
    """All files below the sources.

    Attributes:
        root: Common parent folder of everything found.
        files: RAW files and images, sorted by name.
        rejected: All others.
    """

    root: Path
    files: tuple[Found, ...]
    rejected: tuple[RejectedFile, ...]


def scan(sources: Sequence[Path], skip: Sequence[Path] = ()) -> Scan:
    """Lists the files of folders (recursively) and files named one by one.

    Hidden files are rejected, hidden folders and those that cannot be listed are rejected as a whole; `skip`, what
    the toolkit wrote itself, is left out. Links are followed, each folder once.

    Raises:
        InputError: A source does not exist, or there is neither a RAW file nor an image.
    """
    for source in sources:
        if not source.exists():
            raise InputError(f"there is no file or folder {source}", hint="check the path")
    left_out = {_real(path) for path in skip}
    refused: dict[Path, tuple[Reason, str]] = {}
    paths = sorted({path for source in sources for path in _below(_absolute(source), left_out, refused)})
    refused |= {path: why for path in paths if (why := _refusal(path)) is not None}
    taken = [path for path in paths if path not in refused]
    if not any(is_candidate(path) for path in paths):
        places = ", ".join(map(str, sources))
        raise InputError(f"neither a RAW file nor an image in {places}", hint="check the path; try --help")
    root = _root(sources, taken)
    names = {path: _printable(path.relative_to(root).as_posix()) for path in (*taken, *refused)}
    files = [Found(_real(path), names[path], _real(path).relative_to(root).as_posix()) for path in taken]
    return Scan(root, tuple(files), tuple(RejectedFile(names[path], *refused[path]) for path in sorted(refused)))


def _real(path: Path) -> Path:
    """`path` without links; unlike `Path.resolve` a link to itself is no error."""
    return Path(os.path.realpath(path))


def _absolute(source: Path) -> Path:
    """The folder itself resolved; a file keeps its own name, even if it is a link."""
    return _real(source) if source.is_dir() else _real(source.parent) / source.name


def _below(source: Path, left_out: set[Path], refused: dict[Path, tuple[Reason, str]]) -> Iterator[Path]:
    """All files below `source`; folders that are not searched are noted in `refused`."""
    if not source.is_dir():
        yield source
        return

    def cannot_list(error: OSError) -> None:
        refused[Path(error.filename)] = Reason.UNREADABLE, f"cannot list the folder: {error.strerror}"

    seen: set[Path] = set()
    for folder, subfolders, names in os.walk(source, followlinks=True, onerror=cannot_list):
        here = Path(folder)
        real = _real(here)
        if real in seen or real in left_out:
            if here.is_symlink() and real not in left_out:
                refused[here] = Reason.UNSUPPORTED, "a link to a folder that is searched already"
            subfolders.clear()
            continue
        seen.add(real)
        if is_candidate(here):
            refused[here] = Reason.UNSUPPORTED, "a folder, though named like a photograph"
        hidden = {name for name in subfolders if name.startswith(".")}
        refused |= {here / name: (Reason.UNSUPPORTED, "a hidden folder, not searched") for name in hidden}
        subfolders[:] = sorted(set(subfolders) - hidden)
        yield from (here / name for name in names if here / name not in left_out)


def _root(sources: Sequence[Path], taken: Sequence[Path]) -> Path:
    folders = [_absolute(source) if source.is_dir() else _absolute(source).parent for source in sources]
    return Path(os.path.commonpath([*folders, *(_real(path).parent for path in taken)]))


def _refusal(path: Path) -> tuple[Reason, str] | None:
    if path.name.startswith("."):
        return Reason.UNSUPPORTED, "a hidden file"
    if not is_candidate(path):
        return Reason.UNSUPPORTED, f"not an image ({_printable(path.suffix.lower()) or 'no suffix'})"
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Reason.UNREADABLE, "its name is not UTF-8"
    try:
        kind = path.stat().st_mode
    except OSError as error:
        return Reason.UNREADABLE, error.strerror or str(error)
    return None if stat.S_ISREG(kind) else (Reason.UNSUPPORTED, "not a regular file")


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
