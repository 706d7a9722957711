"""The exceptions of the toolkit and their exit codes.

```
SddError
├── InputError       2   the user's file or option
│   ├── ConfigError
│   ├── ManifestError
│   └── RawError
├── LeakageError     1   splits share scenes
├── IntegrityError   3   bytes are not what the index promises
├── CameraError      4   the camera refused or vanished
├── CheckpointError  5   a checkpoint does not fit
└── MissingExtraError 6  an optional dependency is not installed
```

`ValueError` and `TypeError` stay for programmers' mistakes in pure functions.
"""

from __future__ import annotations

from typing import ClassVar


class SddError(Exception):
    """Base of all errors that the toolkit raises on purpose: the problem, its place, and the remedy.

    Args:
        what: One sentence with the offending value and the file, key or option that holds it.
        hint: Something to type or to check.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})"

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes return errors pickled; pickle cannot pass keyword-only arguments by itself.
        return _rebuild, (type(self), self.what, self.hint)


def _rebuild(kind: type[SddError], what: str, hint: str) -> SddError:
    return kind(what, hint=hint)


class LeakageError(SddError):
    """Scenes of different splits show the same subject."""

    exit_code = 1


class InputError(SddError):
    """The user's file or option cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration file or value is not valid."""


class ManifestError(InputError):
    """A manifest is missing, malformed or points outside its root."""


class RawError(InputError):
    """A RAW or image file cannot be read."""


class IntegrityError(SddError):
    """Bytes on disk are not what the index promises."""

    exit_code = 3


class CameraError(SddError):
    """The camera refused or vanished."""

    exit_code = 4


class CheckpointError(SddError):
    """A checkpoint is missing, malformed or made for another network."""

    exit_code = 5


class MissingExtraError(SddError):
    """An optional dependency is not installed; names the pip extra."""

    exit_code = 6

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtraError:
        """The error for a missing `package` that comes with the pip extra `extra`."""
        return cls(f"{package} is not installed", hint=f'pip install "sdd-toolkit[{extra}]"')
