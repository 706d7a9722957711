"""The manifest: JSON Lines, a header then one `PairRecord` a line, written atomically.

The header names the root that all file paths are relative to, itself relative to the manifest's folder, so
a data set folder and its sources can be moved together.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit import __version__
from sdd_toolkit.errors import ManifestError
from sdd_toolkit.files import check_relative, inside, write_text
from sdd_toolkit.types import PairRecord, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from _typeshed import DataclassInstance

    from sdd_toolkit.config import Section
    from sdd_toolkit.types import FileRef

FORMAT = "sdd-manifest"
VERSION = 1
_LONGEST_ID = 200  # bytes; leaves room for suffixes in the 255 that file systems allow
_RECORD = TypeAdapter(PairRecord)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The pairs of a data set in the making.

    Attributes:
        root: Folder that every `FileRef.path` is relative to.
        records: The pairs, sorted by id.
    """

    root: Path
    records: tuple[PairRecord, ...]

    def locate(self, ref: FileRef) -> Path:
        """Where the file of `ref` lies; refused if it would leave the root."""
        return inside(self.root, ref.path)


def to_json(value: object) -> str:
    """`value` (dataclass, mapping or list) as one deterministic line of JSON."""
    return _ENCODER.encode(value)


def read(path: Path) -> Manifest:
    """Reads and validates a manifest.

    Raises:
        ManifestError: Missing, not a manifest, another version, or a line that does not fit its schema.
    """
    try:
        # Line by line, for a large manifest takes enough memory once. Lines end with "\n" and nothing else: U+2028,
        # U+0085 or "\r" in a file's name ends no line.
        with path.open(encoding="utf-8", newline="\n") as stream:
            header = _header(path, stream.readline())
            records = tuple(
                record_from(line, f"{path}, line {number}") for number, line in enumerate(stream, 2) if line.strip()
            )
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"cannot read the manifest {path}", hint="run `sdd ingest` first, or check the path"
        ) from error
    if twice := [name for name, count in Counter(record.id for record in records).items() if count > 1]:
        raise ManifestError(f"{path}: the pair {twice[0]!r} appears twice", hint="make the ids unique")
    return Manifest(root=(path.parent / header["root"]).resolve(), records=records)


def write(path: Path, manifest: Manifest) -> None:
    """Writes the manifest atomically, records sorted by id, so that equal content is equal bytes."""
    root = os.path.relpath(manifest.root.resolve(), path.parent.resolve())
    header = to_json({"format": FORMAT, "version": VERSION, "root": root.replace(os.sep, "/")})
    ordered = sorted(manifest.records, key=lambda record: record.id)
    write_text(path, "\n".join([header, *map(to_json, ordered)]) + "\n")


def step_of(stage: str, config: Section, record: PairRecord, **more: object) -> Step:
    """The provenance entry of `stage` on `record`: equal steps mean the work need not be done again.

    The inputs are the two files' hashes, the history before this stage and `more`.
    """
    before = history_before(record, stage)
    inputs = to_json({"files": [record.blur.sha256, record.sharp.sha256], "history": before, **more})
    digest = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    return Step(stage=stage, version=__version__, config=config.fingerprint(), inputs=digest)


def history_before(record: PairRecord, stage: str) -> tuple[Step, ...]:
    """The record's history up to, not including, `stage`."""
    names = [step.stage for step in record.history]
    return record.history[: names.index(stage)] if stage in names else record.history


def done_before(path: Path) -> Mapping[str, PairRecord]:
    """The records of an earlier run's output by id, for resuming; empty if there is no readable one."""
    if not path.is_file():
        return {}
    try:
        return {record.id: record for record in read(path).records}
    except ManifestError:
        return {}


def unchanged(record: PairRecord | None, step: Step) -> bool:
    """Whether `record` already went through exactly this `step`."""
    return record is not None and step in record.history


def measured_alike(record: PairRecord, step: Step) -> bool:
    """Whether `record` went through a step that differs from this one in nothing but its configuration."""
    return any(
        (one.stage, one.version, one.inputs) == (step.stage, step.version, step.inputs) for one in record.history
    )


def reject_counts(records: Iterable[PairRecord]) -> dict[str, int]:
    """How many records were rejected for each reason, most frequent first."""
    counts: dict[str, int] = {}
    for record in records:
        if record.verdict is not None and record.verdict.reason is not None:
            counts[record.verdict.reason] = counts.get(record.verdict.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _header(path: Path, line: str) -> dict[str, Any]:
    hint = "is it a manifest written by `sdd ingest`?"
    try:
        header = json.loads(line)
        fits = header["format"] == FORMAT and isinstance(header["root"], str) and "\0" not in header["root"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path} has no manifest header", hint=hint) from error
    if not fits:
        raise ManifestError(f"{path} has no manifest header", hint=hint)
    if header.get("version") != VERSION:
        raise ManifestError(
            f"{path} has manifest version {header.get('version')!r}, this toolkit reads {VERSION}",
            hint="use the toolkit version that wrote it, or ingest again",
        )
    return dict(header)


def record_from(line: str, where: str) -> PairRecord:
    """The record that `line` holds, checked: its id can name a file, its paths stay below their root.

    Args:
        line: JSON.
        where: File and line, for the message.

    Raises:
        ManifestError: It is none.
    """
    try:
        record = _RECORD.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{where}: {field}: {first['msg']}", hint="restore the line or ingest again") from error
    if not names_a_file(record.id):
        raise ManifestError(
            f"{where}: the id {record.id[:80]!r} cannot name a file", hint="restore the line or ingest again"
        )
    for ref in (record.blur, record.sharp):
        check_relative(ref.path, where)
    return record


def _plain(value: object) -> dict[str, Any]:
    """A dataclass as a mapping. JSON has no infinity: a lens focused there is spelt out, any other stays an error."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is no part of JSON")
    found = {name: getattr(value, name) for name in _names(type(value))}
    if found.get("focus_m") == math.inf:
        found["focus_m"] = "Infinity"
    return found


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(entry.name for entry in fields(kind))


# `asdict` copies everything it finds, which takes several times longer.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def names_a_file(name: str) -> bool:
    """Whether files may be called after a pair of this id: the stages do so."""
    plain = name.isprintable() and not name.startswith(".") and not set(name) & set("/\\")
    return plain and 0 < len(name.encode()) <= _LONGEST_ID
