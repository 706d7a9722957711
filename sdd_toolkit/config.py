"""Loads `sdd.toml` into frozen, validated sections; an unknown key is answered with the nearest valid one.

One file, one section a stage. Each package defines its own sections (`Section` subclasses); this module only reads,
validates and fingerprints. Precedence: defaults, then the file, then flags that were given.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping  # at run time: pydantic looks at the annotations of a class
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sdd_toolkit.errors import ConfigError
from sdd_toolkit.storage.fingerprint import fingerprint
from sdd_toolkit.storage.user_text import read_user_text

SECTION_NAMES = (
    "build",
    "ingest",
    "develop",
    "fuse",
    "align",
    "filter",
    "pack",
    "card",
    "report",
    "train",
    "evaluate",
    "simulate",
)


class Section(BaseModel):
    """Base of every configuration section: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    LATER_KEYS: ClassVar[frozenset[str]] = frozenset()
    """Keys younger than the fingerprints of finished steps: while they have their default, they are no part of it."""

    FORMER_DEFAULTS: ClassVar[Mapping[str, object]] = {}
    """Defaults that have changed, as they were: while such a key has its default, its fingerprint is the former one."""

    def fingerprint(self) -> str:
        """16 hex digits that change whenever any value of the section changes."""
        return fingerprint(self.fingerprinted())

    def fingerprinted(self) -> dict[str, Any]:
        """The values that count for the fingerprint, as JSON types."""
        fields = type(self).model_fields
        unset = {name for name in self.LATER_KEYS if getattr(self, name) == fields[name].default}
        former = {
            name: value for name, value in self.FORMER_DEFAULTS.items() if getattr(self, name) == fields[name].default
        }
        return {**self.model_dump(mode="json", exclude=unset), **former}


SectionT = TypeVar("SectionT", bound=Section)


def read_toml(path: Path | None) -> dict[str, Any]:
    """The parsed file, its section names checked; an empty mapping when there is no file.

    Raises:
        ConfigError: The file is missing, is not TOML or has an unknown section.
    """
    if path is None:
        return {}
    try:
        content = read_user_toml(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=hint_for_toml(error)) from error
    for name in content:
        if name not in SECTION_NAMES:
            raise ConfigError(f"{path}: unknown section [{name}]", hint=_suggest(name, SECTION_NAMES))
    return content


def read_user_toml(path: Path) -> dict[str, Any]:
    """The parsed TOML of a file in any encoding of `read_user_text`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no text or no TOML.
    """
    return tomllib.loads(read_user_text(path))


def hint_for_toml(error: Exception) -> str:
    """What to do about a TOML error."""
    if "Unescaped" in str(error) or "hex value" in str(error):
        return "write paths with / or in single quotes: 'C:\\photos'"
    return "fix that line"


def load_section(model: type[SectionT], name: str, path: Path | None, /, **flags: object) -> SectionT:
    """The section `name` of the file at `path`, with `flags` that are not None on top.

    Args:
        model: The section's class.
        name: The section's name in the file.
        path: The configuration file; None means defaults.
        **flags: Command-line values by field name; None means "not given".

    Raises:
        ConfigError: Unknown key, wrong type or value out of range.
    """
    values = read_toml(path).get(name, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {name} must be a section", hint=f"write [{name}] on a line of its own")
    given = {key: value for key, value in flags.items() if value is not None}
    return validate(model, {**values, **given}, where=f"{path or 'options'} [{name}]")


def validate(
    model: type[SectionT], values: Mapping[str, object], where: str, *, page: str = "docs/configuration.md"
) -> SectionT:
    """`values` as a validated `model`.

    Args:
        model: The section's class.
        values: By key.
        where: File and section; opens the error message.
        page: The page that explains every key, for the hint.

    Raises:
        ConfigError: Unknown key, wrong type or value out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: unknown key {key!r}", hint=_suggest(key, tuple(model.model_fields))) from error
        # An error of several keys together names none of them.
        assignment = f"{key} = {first['input']!r}: " if key else ""
        raise ConfigError(
            f"{where}: {assignment}{first['msg'].removeprefix('Value error, ')}",
            hint=f"see {page} for every key, its type and default",
        ) from error


def _suggest(name: str, valid: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    listing = ", ".join(valid)
    return f"did you mean {close[0]!r}? valid: {listing}" if close else f"valid: {listing}"
