"""Writes a set of shards into a folder: keeps what an interrupted run finished, builds the rest, publishes the index.

`sdd pack`, `sdd import` and the commands that rearrange sets all end this way. A shard is written by one worker from
start to end: `NAME.h5.partial`, closed, synced, hashed, renamed, then noted in `NAME.h5.json`. The index is written
last and replaces the notes. A killed run therefore leaves whole shards with notes, and the next run keeps those that
its plan still holds.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypeVar

from sdd_toolkit.raw.development import Demosaic
from sdd_toolkit.shards import superseded
from sdd_toolkit.shards.building import ShardTask, build_shards
from sdd_toolkit.shards.folder import ShardNote, intact_shards, publish_index, remove_unlisted, unlisted_shards
from sdd_toolkit.shards.index import TRANSFER, Index
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from sdd_toolkit.execution.progress import Track
    from sdd_toolkit.records import ShardInfo
    from sdd_toolkit.shards.index import FailedPair, ShardHeader
    from sdd_toolkit.storage.locations import Location

LIBRARIES = ("h5py", "hdf5plugin", "numpy", "opencv-python-headless", "rawpy", "tifffile")
TaskT = TypeVar("TaskT", bound="ShardTask[Any]")


@dataclass(frozen=True, slots=True)
class WrittenShards:
    """All shards of a set, finished, the index not yet written.

    Attributes:
        notes: One a shard, in the order of the plan.
        skipped: Pairs in shards that an earlier run had finished.
        copied: Pairs that were copied from other shards.
    """

    notes: tuple[ShardNote, ...]
    skipped: int
    copied: int

    @property
    def pair_count(self) -> int:
        """Number of pairs in all shards."""
        return sum(len(note.shard.pairs) for note in self.notes)

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        """The shards, for the index."""
        return tuple(note.shard for note in self.notes)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each shard by its name, for the index."""
        return {note.shard.name: note.plan for note in self.notes}

    @property
    def failed(self) -> tuple[FailedPair, ...]:
        """The pairs that were left out."""
        return tuple(failure for note in self.notes for failure in note.failed)


def write_shards(
    out: Location,
    tasks: Sequence[TaskT],
    *,
    stage: str,
    executor: str,
    overwrite: bool,
    track: Track,
    prepare: Callable[[list[TaskT], Mapping[str, ShardNote]], list[TaskT]] | None = None,
    sees: Sequence[Path] = (),
) -> WrittenShards:
    """Builds those of the planned shards that do not lie intact in `out`, and removes all others from it.

    Args:
        out: Folder of the shards.
        tasks: The whole plan, in reading order.
        stage: Name of the stage, for the progress.
        executor: See `sdd_toolkit.execution.executor`.
        overwrite: Whether intact shards are built again, too.
        track: Shows progress, one step a pair.
        prepare: Called with the shards to build and the notes of the intact ones before anything in `out` is removed;
            returns the shards to build.
        sees: Paths that workers read, and that must exist for every one.

    Raises:
        InputError: `out` cannot be written, or workers die again and again.
        IntegrityError: A stored pair cannot be copied.
    """
    notes: dict[str, ShardNote] = {}
    if not overwrite:
        fingerprints = {task.name: task.fingerprint for task in tasks}
        notes = intact_shards(out, fingerprints, {task.name: task.ids for task in tasks})
    skipped = sum(len(note.shard.pairs) for note in notes.values())
    missing = [task for task in tasks if task.name not in notes]
    if prepare is not None:
        missing = prepare(missing, notes)
    if missing or unlisted_shards(out, notes):
        remove_unlisted(out, notes)
    copied = 0
    with track(stage, sum(len(task.items) for task in missing)) as advance:
        for built in build_shards(missing, executor, sees):
            note = notes[built.note.shard.name] = built.note
            copied += built.copied
            advance(len(note.shard.pairs) + len(note.failed), note.shard.name)
    return WrittenShards(tuple(notes[task.name] for task in tasks), skipped, copied)


def index_of(
    written: WrittenShards,
    header: ShardHeader,
    *,
    name: str,
    config: str,
    splits: Mapping[str, tuple[str, ...]],
    configs: Mapping[str, dict[str, Any]],
    failed: Sequence[FailedPair],
) -> Index:
    """The index of a new set.

    Args:
        written: Its shards.
        header: The attributes that all of them share; its split does not count.
        name: Name of the data set.
        config: Fingerprint of the packing configuration.
        splits: The scenes of each split.
        configs: The configurations that the pairs and the packing went by, by fingerprint.
        failed: The pairs and files that were left out.
    """
    return Index(
        name=name,
        encoding=header.encoding,
        transfer=TRANSFER[header.encoding],
        patch_size=header.patch_size,
        codec=header.codec,
        toolkit=__version__,
        config=config,
        splits=dict(splits),
        shards=written.shards,
        plans=written.fingerprints,
        failed=tuple(failed),
        warp=header.warp,
        brightness=header.brightness,
        demosaic=header.demosaic,
        lens_correction=header.lens_correction,
        reduction=2 if header.demosaic is Demosaic.HALF else 1,
        transfer_parameters=header.encoding.transfer,
        configs=dict(sorted(configs.items())),
        libraries=library_versions(),
    )


def library_versions() -> dict[str, str]:
    """The versions of the libraries that process pixels, by name."""
    from sdd_toolkit.raw.libraw import libraw_version
    from sdd_toolkit.shards.tables import hdf5_version

    versions = {"HDF5": hdf5_version(), "LibRaw": libraw_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def publish_set(out: Location, index: Index) -> None:
    """Writes the index of a finished set; notes and superseded shards are no longer needed and go."""
    publish_index(out, index)
    superseded.delete_all(out)


def discard_set(out: Location) -> None:
    """Removes the index and every shard, superseded ones too: the plan holds no pair."""
    remove_unlisted(out, {})
    superseded.delete_all(out)
