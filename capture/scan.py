"""Walking folders: every file once, in a fixed order, whatever links there are."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.errors import InputError
from sdd_toolkit.frames import is_candidate
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

    Hidden files and folders are left out, and so are `skip`: what the toolkit wrote itself. Links are followed,
    each folder once.

    Raises:
        InputError: A source does not exist, or there is neither a RAW file nor an image.
    """
    for source in sources:
        if not source.exists():
            raise InputError(f"there is no file or folder {source}", hint="check the path")
    left_out = {path.resolve() for path in skip}
    paths = sorted({path for source in sources for path in _below(_absolute(source), left_out)})
    if not any(is_candidate(path) and path.is_file() for path in paths):
        places = ", ".join(map(str, sources))
        raise InputError(f"neither a RAW file nor an image in {places}", hint="check the path; try --help")
    root = _root(sources, paths)
    files, rejected = [], []
    for path in paths:
        name = _printable(path.relative_to(root).as_posix())
        reason = _refusal(path, name)
        if reason is not None:
            rejected.append(RejectedFile(name, *reason))
        else:
            real = path.resolve()
            files.append(Found(real, name, real.relative_to(root).as_posix()))
    return Scan(root, tuple(files), tuple(rejected))


def _absolute(source: Path) -> Path:
    """The folder itself resolved; a file keeps its own name, even if it is a link."""
    return source.resolve() if source.is_dir() else source.parent.resolve() / source.name


def _below(source: Path, left_out: set[Path]) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    seen: set[Path] = set()
    for folder, subfolders, names in os.walk(source, followlinks=True, onerror=_cannot_list):
        here = Path(folder)
        real = here.resolve()
        if real in seen or real in left_out:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (here / name for name in names if not name.startswith(".") and here / name not in left_out)


def _cannot_list(error: OSError) -> None:
    raise InputError(f"cannot list the folder {error.filename}: {error.strerror}", hint="check its rights") from error


def _root(sources: Sequence[Path], paths: Sequence[Path]) -> Path:
    folders = [_absolute(source) if source.is_dir() else _absolute(source).parent for source in sources]
    targets = [path.resolve().parent for path in paths if path.is_symlink() or path.parent.resolve() != path.parent]
    return Path(os.path.commonpath([*folders, *targets]))


def _refusal(path: Path, name: str) -> tuple[Reason, str] | None:
    if not is_candidate(path):
        return Reason.UNSUPPORTED, f"not an image ({path.suffix.lower() or 'no suffix'})"
    if "\N{REPLACEMENT CHARACTER}" in name:
        return Reason.UNREADABLE, "its name is not UTF-8"
    try:
        kind = path.stat().st_mode
    except OSError as error:
        return Reason.UNREADABLE, error.strerror or str(error)
    return None if stat.S_ISREG(kind) else (Reason.UNSUPPORTED, "not a regular file")


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
