"""Locations of shards: a folder on a disk (`Path`) or in an object store (`Remote`). The only importer of fsspec.

A `Remote` has the few methods of `Path` that shards need, so that what works on one works on the other.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sdd_toolkit.errors import InputError, MissingExtraError, SddError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://[^/?#]*[^?#]*")
# These stores document uploads as atomic; elsewhere a file is uploaded under another name and moved.
_ATOMIC = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Status:
    """The part of `os.stat_result` that object stores have too."""

    st_size: int


@dataclass(frozen=True, slots=True, order=True)
class Remote:
    """A file or folder in an object store.

    Its methods are those of `Path` with the same names. A missing file raises FileNotFoundError, any other failure of
    the store (credentials, network) InputError.

    Attributes:
        url: Without a slash at the end.

    >>> (Remote("s3://bucket/set") / "index.json").name
    'index.json'
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}")

    @property
    def protocol(self) -> str:
        """`s3`, `gs`, `memory` …."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.partition("://")[2].rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, as `Path.suffix`."""
        return Path(self.name).suffix

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of the name, as `Path.suffixes`."""
        return Path(self.name).suffixes

    @property
    def parent(self) -> Remote:
        """The folder that holds it."""
        return Remote(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> Remote:
        """A file in the same folder."""
        return self.parent / name

    def resolve(self) -> Remote:
        """Itself: a URL is absolute."""
        return self

    def read_bytes(self) -> bytes:
        """The whole content."""
        with _file_system(self) as (files, path):
            return bytes(files.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole content as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> BufferedIOBase:
        """A seekable stream for reading; ranges are fetched when they are read."""
        if mode != "rb":
            raise ValueError(f"mode {mode!r}: files in a store are written whole, by write_bytes or put")
        with _file_system(self) as (files, path):
            stream: BufferedIOBase = files.open(path, "rb")
            return stream

    def is_file(self) -> bool:
        """Whether the file exists."""
        with _file_system(self) as (files, path):
            return bool(files.isfile(path))

    def exists(self) -> bool:
        """Whether the file or folder exists."""
        with _file_system(self) as (files, path):
            return bool(files.exists(path))

    def stat(self) -> Status:
        """The size of the file."""
        with _file_system(self) as (files, path):
            return Status(int(files.info(path)["size"]))

    def iterdir(self) -> Iterator[Remote]:
        """The files and folders directly in it, sorted; a missing folder raises FileNotFoundError or is empty."""
        with _file_system(self) as (files, path):
            names = [str(entry).rstrip("/").rpartition("/")[2] for entry in files.ls(path, detail=False)]
        return iter([self / name for name in sorted(names) if name])

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        try:
            with _file_system(self) as (files, path):
                files.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Creates the folder, where the store has folders."""
        with _file_system(self) as (files, path):
            files.makedirs(path, exist_ok=exist_ok)

    def write_bytes(self, content: bytes) -> None:
        """Writes the whole file, or leaves the old one."""
        with self._upload_path() as (files, path):
            files.pipe_file(path, content)

    def put(self, source: Path) -> None:
        """Uploads a whole local file, or leaves the old one."""
        with self._upload_path() as (files, path):
            files.put_file(str(source), path)
            if int(files.info(path)["size"]) != source.stat().st_size:
                raise OSError(f"{files.info(path)['size']} bytes arrived of {source.stat().st_size}")

    @contextmanager
    def _upload_path(self) -> Iterator[tuple[Any, str]]:
        """The file system, and the path to upload the new content to; on success it is moved to its own."""
        with _file_system(self) as (files, path):
            folder = path.rpartition("/")[0]
            if self.protocol in _ATOMIC:
                yield files, path
                return
            files.makedirs(folder, exist_ok=True)
            temporary = f"{path}.{os.urandom(4).hex()}{_PARTIAL}"
            try:
                yield files, temporary
                files.mv(temporary, path)
            except BaseException:
                with suppress(Exception):
                    files.rm_file(temporary)
                raise


Location = Path | Remote


def parse_location(text: str | Path | Remote) -> Location:
    """A `Remote` for a URL such as `s3://bucket/folder`, otherwise a `Path`."""
    if isinstance(text, str) and _URL.fullmatch(text):
        return Remote(text.rstrip("/"))
    return text if isinstance(text, Remote) else Path(text)


@contextmanager
def _file_system(remote: Remote) -> Iterator[tuple[Any, str]]:
    """The fsspec file system of `remote` and the path in it; its errors become an `InputError` with advice."""
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(remote.url)
        # Some cache listings, and other workers write to the same folder.
        files.invalidate_cache()
        yield files, path
    except (FileNotFoundError, SddError):
        raise
    except Exception as error:  # every store has its own exceptions
        _raise_input_error(remote, error)


def _raise_input_error(remote: Remote, error: Exception) -> NoReturn:
    if isinstance(error, ImportError):
        if remote.protocol in ("s3", "s3a", "gs", "gcs"):
            package = "s3fs" if remote.protocol.startswith("s3") else "gcsfs"
            raise MissingExtraError.of(package, "cloud") from error
        raise InputError(f"{remote}: {error}", hint="install the package that fsspec names") from error
    if isinstance(error, ValueError) and "rotocol" in str(error):
        raise InputError(
            f"{remote}: {error}", hint="use a folder, s3://, gs:// or another URL that fsspec supports"
        ) from error
    message = " ".join(str(error).split()) or type(error).__name__
    raise InputError(
        f"cannot reach {remote}: {type(error).__name__}: {message[:300]}",
        hint="check the address, the network, the credentials and the rights on it, then run the same again",
    ) from error
