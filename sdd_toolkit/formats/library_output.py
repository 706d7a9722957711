"""Text that native libraries print while they decode: captured, so that it can be part of an error.

libjpeg, libpng, libtiff, OpenCV and LibRaw print to file descriptor 2, and often return pixels all the same. What other
threads write there meanwhile goes on to where it belongs.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDERR = 2
_ONE_AT_A_TIME = threading.RLock()
_LINE = re.compile(
    r"\s*(?:\[ ?(?:DEBUG|INFO|WARN|ERROR|FATAL)[:@]|libpng |Corrupt JPEG data|Premature end of |Invalid SOS |"
    r"Inconsistent progression |Unknown Adobe |Warning: unknown JFIF |Unsupported marker |Application transferred |"
    r".*: (?:Unexpected end of file|data corrupted at )|.*: (?:Warning|Error), |OpenCV\(\d)"
)
_PREFIX = re.compile(
    r"^\s*(?:\[ ?\w+:\d+@[\d.]+\] (?:global )?\S+:\d+ )?(?:TIFF_(?:Warning|Error) )?"
    r"(?:.*: (?=Unexpected end of file|data corrupted at ))?"
)
_MESSAGES, _LONGEST = 2, 200


@dataclass(slots=True)
class LibraryOutput:
    """What libraries printed during a block: whole lines, known after it."""

    lines: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first two messages, without times and positions in the library's source; empty if there is none."""
        messages = dict.fromkeys(_PREFIX.sub("", line).strip() for line in self.lines)
        return "; ".join([message for message in messages if message][:_MESSAGES])[:_LONGEST]


@contextmanager
def library_output() -> Iterator[LibraryOutput]:
    """Captures what libraries print to standard error in the block; takes about 30 µs.

    Example:
        >>> with library_output() as said:
        ...     _ = os.write(2, b"libpng error: Not enough image data\\n")
        >>> said.summary
        'libpng error: Not enough image data'
    """
    said = LibraryOutput()
    with _ONE_AT_A_TIME:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # closed: whatever is printed is lost anyway
            yield said
            return
        try:
            collector = _collector_of(os.getpid())
            if collector.is_used:
                raise RuntimeError("blocks of library output cannot be nested")
            collector.is_used = True
            _flush()
            os.dup2(collector.descriptor, _STDERR)
            try:
                yield said
            finally:
                collector.is_used = False
                _flush()
                os.dup2(kept, _STDERR)
                said.lines = _separate(collector.take(), kept)
        finally:
            os.close(kept)


@dataclass(slots=True)
class _Collector:
    """A file without a name that takes the place of standard error.

    It is kept: a thread that is about to finish a write when a block ends adds to it afterwards, and the next block
    finds that.
    """

    descriptor: int
    position: int = 0
    is_used: bool = False

    def take(self) -> bytes:
        """What has been added since the last time."""
        content = os.pread(self.descriptor, os.fstat(self.descriptor).st_size - self.position, self.position)
        self.position += len(content)
        return content


@cache
def _collector_of(process_id: int) -> _Collector:
    """The collector of this process; `process_id` because one that is forked needs another."""
    if hasattr(os, "memfd_create"):
        return _append_only(os.memfd_create("library-output"))
    with tempfile.TemporaryFile() as stream:
        return _append_only(os.dup(stream.fileno()))


def _append_only(descriptor: int) -> _Collector:
    """A collector to which threads may write at once; a memfd has no lock on its position."""
    if sys.platform != "win32":
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return _Collector(descriptor)


def _separate(content: bytes, kept: int) -> tuple[str, ...]:
    """The lines of libraries; all others are passed on."""
    of_libraries, others, is_library = [], b"", False
    for line in content.splitlines(keepends=True):
        text = line.decode("utf-8", "replace")
        is_library = bool(_LINE.match(text)) or (is_library and not text.strip())
        if is_library:
            of_libraries.append(text.strip())
        else:
            others += line
    while others:
        others = others[os.write(kept, others) :]
    return tuple(filter(None, of_libraries))


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
