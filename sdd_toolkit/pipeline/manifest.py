"""Reads and writes manifests: JSON Lines with a header and one `PairRecord` a line.

The header names the root that all file paths are relative to, itself relative to the manifest's folder, so that a data
set folder and its sources can be moved together. Files are written atomically.
"""

from __future__ import annotations

import gc
import json
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit.errors import ManifestError
from sdd_toolkit.records import PairRecord, Step, value_counts
from sdd_toolkit.storage.files import check_relative, replace_atomically, resolve_inside
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from sdd_toolkit.config import Section
    from sdd_toolkit.records import FileRef, Reason

FORMAT = "sdd-manifest"
VERSION = 1
_LONGEST_ID = 200  # bytes; file systems allow 255, and the stages append suffixes
_RECORD = TypeAdapter(PairRecord)


@dataclass(frozen=True, slots=True)
class _RecordId:
    """The id of a line, without the cost of parsing the rest."""

    id: str


_RECORD_ID = TypeAdapter(_RecordId)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The pairs of a data set that is being built.

    Attributes:
        root: Folder that every `FileRef.path` is relative to.
        records: The pairs, sorted by id.
    """

    root: Path
    records: tuple[PairRecord, ...]

    def locate(self, ref: FileRef) -> Path:
        """The path of the file of `ref`; refused if it would leave the root."""
        return resolve_inside(self.root, ref.path)


def to_json(value: object) -> str:
    """`value` (dataclass, mapping or list) as one deterministic line of JSON."""
    return _ENCODER.encode(value)


def read_manifest(path: Path) -> Manifest:
    """Reads and validates a manifest.

    Raises:
        ManifestError: Missing, not a manifest, another version, or a line that does not fit its schema.
    """
    root, pairs = stream_records(path)
    with _gc_paused():
        return Manifest(root=root, records=tuple(record for record, _ in pairs))


def stream_records(path: Path) -> tuple[Path, Iterator[tuple[PairRecord, str]]]:
    """The root of a manifest, and an iterator over its pairs and their lines, for manifests larger than memory.

    Raises:
        ManifestError: See `read_manifest`; a malformed line raises it when it is reached.
    """
    lines = _read_lines(path)
    header = _parse_header(path, next(lines, ""))
    return (path.parent / header["root"]).resolve(), _parse_records(path, lines)


def _parse_records(path: Path, lines: Iterator[str]) -> Iterator[tuple[PairRecord, str]]:
    ids: set[str] = set()
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        record = parse_record(line, f"{path}, line {number}")
        if record.id in ids:
            raise ManifestError(f"{path}: the pair {record.id!r} appears twice", hint="make the ids unique")
        ids.add(record.id)
        yield record, line


def _read_lines(path: Path) -> Iterator[str]:
    try:
        # Lines end with "\n" and nothing else: U+2028, U+0085 or "\r" in a file's name ends no line.
        with path.open(encoding="utf-8", newline="\n") as stream:
            for line in stream:
                yield line.removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"cannot read the manifest {path}", hint="run `sdd ingest` first, or check the path"
        ) from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes the manifest atomically, records sorted by id, so that equal content is equal bytes."""
    write_lines(path, manifest.root, map(to_json, sorted(manifest.records, key=lambda record: record.id)))


def write_lines(path: Path, root: Path, lines: Iterable[str]) -> None:
    """Writes a manifest from lines that are sorted by pair id; see `write_manifest`."""
    relative = os.path.relpath(root.resolve(), path.parent.resolve())
    header = to_json({"format": FORMAT, "version": VERSION, "root": relative.replace(os.sep, "/")})
    with replace_atomically(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(header + "\n")
        stream.writelines(line + "\n" for line in lines)


def step_of(stage: str, config: Section, record: PairRecord, **more: object) -> Step:
    """The provenance entry of `stage` for `record`; a pair with an equal step is not worked on again.

    The inputs are the two files' hashes, the history before this stage and `more`.
    """
    before = history_before(record, stage)
    digest = fingerprint_text(to_json({"files": [record.blur.sha256, record.sharp.sha256], "history": before, **more}))
    return Step(stage=stage, version=__version__, config=config.fingerprint(), inputs=digest)


def measurement_fingerprint(record: PairRecord, more: Mapping[str, str]) -> str:
    """Fingerprint of the inputs of a pair's `Quality`: version, both files, the alignment and `more`."""
    aligned = record.alignment and replace(record.alignment, flow_file=None)
    files = [record.blur.sha256, record.sharp.sha256]
    turn = {"turn": record.blur_turn} if record.blur_turn != 1 else {}
    return fingerprint_text(to_json({"version": __version__, "files": files, "alignment": aligned, **turn, **more}))


def history_before(record: PairRecord, stage: str) -> tuple[Step, ...]:
    """The record's history up to, not including, `stage`."""
    names = [step.stage for step in record.history]
    return record.history[: names.index(stage)] if stage in names else record.history


def read_finished(path: Path) -> dict[str, str]:
    """The lines of an earlier run's output by id, for resuming; empty if there is no readable one, or it is torn."""
    if not path.is_file():
        return {}
    try:
        lines = _read_lines(path)
        _parse_header(path, next(lines, ""))
        return {_RECORD_ID.validate_json(line).id: line for line in lines if line.strip()}
    except (ManifestError, ValidationError):
        return {}


def lines_by_id(lines: Iterable[str]) -> dict[str, str]:
    """The lines of a journal by pair id; lines torn by a kill are left out."""
    by_id: dict[str, str] = {}
    for line in lines:
        try:
            by_id[_RECORD_ID.validate_json(line).id] = line
        except ValidationError:
            continue
    return by_id


def try_parse_record(line: str) -> PairRecord | None:
    """The record of a line of an earlier run; None if it does not fit the schema."""
    try:
        return _RECORD.validate_json(line)
    except ValidationError:
        return None


def has_step(record: PairRecord | None, step: Step) -> bool:
    """Whether the history of `record` holds exactly this `step`."""
    return record is not None and step in record.history


def has_step_of_other_config(record: PairRecord, step: Step) -> bool:
    """Whether the history of `record` holds a step that differs from this one only in its configuration."""
    return any(
        (earlier.stage, earlier.version, earlier.inputs) == (step.stage, step.version, step.inputs)
        for earlier in record.history
    )


def reason_of(record: PairRecord) -> Reason | None:
    """The reason why the pair was rejected; None if it was not."""
    return None if record.verdict is None else record.verdict.reason


def reject_counts(records: Iterable[PairRecord]) -> dict[str, int]:
    """Number of records rejected for each reason, most frequent first."""
    return value_counts(map(reason_of, records))


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pauses the garbage collector: records hold no cycles, and searching for some doubles the time of reading."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse_header(path: Path, line: str) -> dict[str, Any]:
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


def parse_record(line: str, where: str) -> PairRecord:
    """Parses and checks a line: its id can name a file, its paths stay below their root.

    Args:
        line: JSON.
        where: File and line, for the message.

    Raises:
        ManifestError: The line holds no such record.
    """
    try:
        record = _RECORD.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{where}: {field}: {first['msg']}", hint="restore the line or ingest again") from error
    if not is_file_name(record.id):
        raise ManifestError(
            f"{where}: the id {record.id[:80]!r} cannot name a file", hint="restore the line or ingest again"
        )
    for ref in (record.blur, record.sharp):
        check_relative(ref.path, where)
    return record


def _as_mapping(value: Any) -> dict[str, Any]:
    """A dataclass as a mapping. JSON has no infinity: that of `focus_m` becomes a text, any other stays an error."""
    kind: Any = type(value)
    names, values = _field_getter(kind)
    mapping = dict(zip(names, values(value), strict=True))
    if mapping.get("focus_m") == math.inf:
        mapping["focus_m"] = "Infinity"
    return mapping


@lru_cache
def _field_getter(kind: type[Any]) -> tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]:
    """The names of a dataclass's fields, and a function that returns their values."""
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is no part of JSON")
    names = tuple(entry.name for entry in fields(kind))
    return names, attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)


# `asdict` copies every value, which takes several times longer.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_mapping)


def is_file_name(name: str) -> bool:
    """Whether a pair id can be part of file names, as the stages use it."""
    plain = name.isprintable() and not name.startswith(".") and not set(name) & set("/\\")
    return plain and 0 < len(name.encode()) <= _LONGEST_ID
