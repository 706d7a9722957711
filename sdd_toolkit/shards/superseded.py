"""Shards that a new plan no longer needs, kept in `.previous/` until the new index is published.

They are named after their SHA-256, each with its note, so that their pairs can be copied. A reader finds the old set or
no index at all; the run after a killed one finds them again. In an object store nothing is kept: copying would mean to
download the chunks and upload them again.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.errors import SddError
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.shards.folder import NOTE_SUFFIX, ShardNote, finished_shards, read_note, write_note
from sdd_toolkit.shards.index import INDEX_NAME
from sdd_toolkit.shards.stored_patches import read_reuse_keys
from sdd_toolkit.storage.files import sha256_of, write_error, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sdd_toolkit.shards.schema import ReuseKeys
    from sdd_toolkit.storage.locations import Location

SUPERSEDED_FOLDER = ".previous"


@dataclass(frozen=True, slots=True)
class SupersededShard:
    """A shard in `.previous/`."""

    path: Path
    note: ShardNote


@dataclass(frozen=True, slots=True)
class ReusablePair:
    """A pair in a superseded shard whose hash was checked.

    Attributes:
        id: Its id.
        path: Its shard.
        reuse_keys: The fingerprints of its pixels and patches.
        size: (height, width) of its arrays.
    """

    id: str
    path: Path
    reuse_keys: ReuseKeys
    size: tuple[int, int]


def move_aside(out: Location, kept: Mapping[str, ShardNote]) -> None:
    """Removes the index and moves every finished shard that is not `kept` into `.previous/`.

    All shards can be found after each step: notes replace the index before it is removed, and the note of a shard is
    written at its destination before the shard moves.
    """
    if not isinstance(out, Path):
        return
    leaving = [note for note in finished_shards(out) if note.shard.name not in kept]
    if not leaving:
        return
    for note in (*kept.values(), *leaving):
        write_note(out, note)
    try:
        (out / INDEX_NAME).unlink(missing_ok=True)
        for note in leaving:
            target = out / SUPERSEDED_FOLDER / f"{note.shard.sha256}.h5"
            write_text(target.with_name(target.name + NOTE_SUFFIX), to_json(note))
            os.replace(out / note.shard.name, target)
    except OSError as error:
        raise write_error(out / SUPERSEDED_FOLDER, error) from error


def list_shards(out: Location) -> tuple[SupersededShard, ...]:
    """The shards in `.previous/`."""
    if not isinstance(out, Path):
        return ()
    shards = []
    for path in sorted((out / SUPERSEDED_FOLDER).glob("*.h5")):
        note = read_note(path.with_name(path.name + NOTE_SUFFIX))
        if note is not None:
            shards.append(SupersededShard(path, note))
    return tuple(shards)


def read_reusable_pairs(shard: SupersededShard) -> tuple[ReusablePair, ...] | str:
    """The pairs of a shard that can be copied, after its hash was checked; or a message about its damage."""
    info = shard.note.shard
    try:
        if shard.path.stat().st_size != info.bytes or sha256_of(shard.path) != info.sha256:
            return f"{info.name}: SHA-256 differs from what was noted when it was packed"
        stored = read_reuse_keys(shard.path, info.pairs)
    except (OSError, KeyError, ValueError, SddError) as error:
        return f"{info.name}: {error}"
    return tuple(ReusablePair(name, shard.path, keys, size) for name, (keys, size) in stored.items())


def delete_all(out: Location) -> None:
    """Removes `.previous/` with everything in it."""
    if isinstance(out, Path) and (out / SUPERSEDED_FOLDER).is_dir():
        try:
            shutil.rmtree(out / SUPERSEDED_FOLDER)
        except OSError as error:
            raise write_error(out / SUPERSEDED_FOLDER, error) from error
