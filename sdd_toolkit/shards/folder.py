"""The state of a shard folder between runs: notes of finished shards, unlisted files, and the index written last.

Each finished shard has a note `NAME.h5.json` beside it until `index.json`, written last, replaces all notes.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from sdd_toolkit.errors import InputError, IntegrityError
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import Reason, ShardInfo
from sdd_toolkit.shards.index import INDEX_NAME, FailedPair, Index, read_index, write_index
from sdd_toolkit.storage.files import PARTIAL, sha256_of, write_error, write_text
from sdd_toolkit.storage.targets import check_own

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sdd_toolkit.storage.locations import Location

log = logging.getLogger(__name__)
NOTE_SUFFIX = ".json"
_PARTIAL_SUFFIX = r"(\.[0-9a-f]{8})?\.partial"
_SHARD_FILE = re.compile(
    rf"(train|val|test)-\d{{5,}}-of-\d{{5,}}\.h5(\.json)?({_PARTIAL_SUFFIX})?|index\.json{_PARTIAL_SUFFIX}"
)
LEFTOVER = re.compile(rf"({_SHARD_FILE.pattern}|(README\.md|pairs\.csv|croissant\.json){_PARTIAL_SUFFIX})")
"""Names of the files that a killed run may leave beside the shards, and of the shards themselves."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Failures whose cause may be gone in the next run.
_RETRIED_REASONS = (Reason.CHANGED, Reason.UNREADABLE, Reason.WORKER_DIED, Reason.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class ShardNote:
    """The description of a finished shard before the index is written, stored as `NAME.h5.json`.

    Attributes:
        plan: Fingerprint of everything its bytes depend on.
        shard: Its entry in the index.
        failed: The pairs that it was to hold and that were left out.
    """

    plan: str
    shard: ShardInfo
    failed: tuple[FailedPair, ...]


_NOTE_ADAPTER = TypeAdapter(ShardNote)


def _read_existing_index(out: Location) -> Index | None:
    if not (out / INDEX_NAME).is_file():
        return None
    try:
        return read_index(out)
    except IntegrityError:
        log.warning("%s is damaged; packing again", out / INDEX_NAME)
        return None


def intact_shards(
    out: Location, plans: Mapping[str, str], pairs: Mapping[str, Collection[str]]
) -> dict[str, ShardNote]:
    """The notes of those planned shards that are finished in `out`, their SHA-256 checked.

    Args:
        out: Folder of the shards.
        plans: The fingerprint of each planned shard, by its name.
        pairs: The ids of the pairs planned for each.
    """
    index = _read_existing_index(out)
    noted = {} if index is None else _notes_of_index(index, pairs)
    intact = {}
    for name, plan in plans.items():
        note = noted.get(name) or read_note(_note_path(out / name))
        if note is not None and note.plan == plan and note.shard.name == name and _is_intact(out / name, note):
            intact[name] = note
    return intact


def _is_intact(path: Location, note: ShardNote) -> bool:
    if any(failure.reason in _RETRIED_REASONS for failure in note.failed):
        return False
    return _has_noted_size(path, note) and sha256_of(path) == note.shard.sha256


def _notes_of_index(index: Index, pairs: Mapping[str, Collection[str]]) -> dict[str, ShardNote]:
    failures = {failure.id: failure for failure in index.failed}
    return {
        shard.name: ShardNote(
            plan=index.plans.get(shard.name, ""),
            shard=shard,
            failed=tuple(failures[name] for name in pairs.get(shard.name, ()) if name in failures),
        )
        for shard in index.shards
    }


def write_note(out: Location, note: ShardNote) -> None:
    """Records that the shard of `note` is finished."""
    write_text(_note_path(out / note.shard.name), to_json(note))


def finished_shards(out: Location) -> list[ShardNote]:
    """The notes of all finished shards in `out`, of any plan; their bytes are not checked."""
    index = _read_existing_index(out)
    noted = {} if index is None else _notes_of_index(index, {})
    for path in _shard_files(out):
        note = read_note(_note_path(path)) if path.suffix == ".h5" else None
        if note is not None and note.shard.name == path.name:
            noted.setdefault(path.name, note)
    return [
        note
        for name, note in noted.items()
        if _SHARD_FILE.fullmatch(name) and _SHA256.fullmatch(note.shard.sha256) and _has_noted_size(out / name, note)
    ]


def _has_noted_size(path: Location, note: ShardNote) -> bool:
    return path.is_file() and path.stat().st_size == note.shard.bytes


def check_own_set(out: Location, ids: Collection[str], *, overwrite: bool) -> None:
    """Refuses, without `overwrite`, to replace files that the toolkit did not write, or a set with none of these pairs.

    Args:
        out: Folder of the shards.
        ids: The ids of the planned pairs.
        overwrite: Whether all that may be replaced.

    Raises:
        InputError: Names the files, or the set.
    """
    if overwrite:
        return
    check_own([out / INDEX_NAME])
    index, shards = _read_existing_index(out), [path for path in _shard_files(out) if path.suffix == ".h5"]
    listed = {shard.name for shard in index.shards} if index is not None else set()
    check_own(path for path in shards if path.name not in listed and read_note(_note_path(path)) is None)
    packed = {name for shard in index.shards for name in shard.pairs} if index is not None else set()
    if index is not None and packed and ids and packed.isdisjoint(ids):
        hint = "give another --out, or --overwrite"
        raise InputError(f"{out} holds another data set, {index.name!r} with {len(packed)} pairs", hint=hint)


def read_note(path: Location) -> ShardNote | None:
    """The note in the file at `path`; None if it is missing or damaged."""
    try:
        return _NOTE_ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _note_path(shard: Location) -> Location:
    return shard.with_name(shard.name + NOTE_SUFFIX)


def _shard_files(out: Location) -> list[Location]:
    try:
        return sorted((path for path in out.iterdir() if _SHARD_FILE.fullmatch(path.name)), key=str)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise write_error(out, error) from error


def unlisted_shards(out: Location, notes: Mapping[str, ShardNote]) -> list[Location]:
    """Files of the toolkit in `out` that belong to no shard of `notes`: from a killed run or another plan."""
    listed = {name for shard in notes for name in (shard, shard + NOTE_SUFFIX)}
    return [path for path in _shard_files(out) if path.name not in listed]


def remove_unlisted(out: Location, notes: Mapping[str, ShardNote]) -> None:
    """Takes the old index back before anything it lists changes; leaves nothing but the shards of `notes`."""
    for note in notes.values():
        write_note(out, note)
    try:
        (out / INDEX_NAME).unlink(missing_ok=True)
        for path in unlisted_shards(out, notes):
            path.unlink()
    except OSError as error:
        raise write_error(out, error) from error


def publish_index(out: Location, index: Index) -> None:
    """Writes the index, unless an equal one exists, and removes notes and partial files."""
    if _read_existing_index(out) != index:
        write_index(out, index)
    try:
        for shard in index.shards:
            _note_path(out / shard.name).unlink(missing_ok=True)
        # From a card or an index whose writer was killed.
        for leftover in [
            path for path in out.iterdir() if path.name.endswith(PARTIAL) and LEFTOVER.fullmatch(path.name)
        ]:
            leftover.unlink()
    except OSError as error:
        raise write_error(out, error) from error
