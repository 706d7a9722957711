"""Imported pairs into shards: which goes where, and the work of one shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.layouts.pixels import read_frame, read_mask
from sdd_toolkit.layouts.sidecar import Export
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import FileRef, PairRecord, Reason
from sdd_toolkit.shards.building import assign_to_shards, build_shard, finalise
from sdd_toolkit.shards.folder import ShardNote
from sdd_toolkit.shards.index import VERSION, FailedPair, ShardHeader
from sdd_toolkit.shards.schema import PackedPair
from sdd_toolkit.storage.files import resolve_inside, sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.shards.schema import Patch

_LARGEST_EDGE = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class ImportedFrames:
    """A pair to import: its record, and its files as they were when it was looked at.

    Attributes:
        split: What the layout says; None if nothing.
        bits: Of a channel.
        valid: The file of its mask; None: every pixel is valid.
        box: (left, top, right, bottom) on the uncropped sharp frame; None: the whole frame.
    """

    record: PairRecord
    split: str | None
    blur: FileRef
    sharp: FileRef
    bits: int
    valid: str | None = None
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class ImportShardTask:
    """One shard to be; `plan` is the fingerprint of everything its bytes depend on."""

    name: str
    header: ShardHeader
    frames: tuple[ImportedFrames, ...]
    plan: str
    root: Path
    out: Path
    config: PackConfig
    lost: tuple[FailedPair, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The pairs it is to hold."""
        return tuple(entry.record.id for entry in self.frames)

    def only(self, pair_id: str) -> ImportShardTask:
        """The same with one pair."""
        return replace(self, frames=tuple(entry for entry in self.frames if entry.record.id == pair_id))

    def without(self, lost: tuple[FailedPair, ...]) -> ImportShardTask:
        """The same, these pairs left out with their reasons."""
        return replace(self, lost=lost)


def plan_import(
    root: Path,
    out: Path,
    frames: Sequence[ImportedFrames],
    splits: Mapping[str, str],
    config: PackConfig,
    encoding: Encoding,
    export: Export | None = None,
) -> tuple[ImportShardTask, ...]:
    """The shards: by split, then in the order of ids.

    Args:
        root: Folder that the files are relative to.
        out: Folder of the shards.
        frames: The pairs.
        splits: The split of every scene.
        config: Section `[pack]`.
        encoding: How their values stand for light.
        export: Where they come from, if that is an export of this toolkit.
    """
    told = export or Export("", "", encoding, "", None, False, __version__)
    values = config.model_dump(mode="json", exclude={"name", "split", "pairs_per_shard", "encoding"})
    tasks = []
    for split in SPLITS:
        members = sorted((f for f in frames if splits[f.record.scene] == split), key=lambda entry: entry.record.id)
        header = told.header(split, config.patch_size, config.profile.codec)
        for name, mine in assign_to_shards(split, members, config.pairs_per_shard):
            facts = {"format": VERSION, "toolkit": __version__, "config": values, "header": asdict(header)}
            facts |= {"name": name, "frames": [asdict(entry) for entry in mine]}
            plan = fingerprint_text(to_json(facts))
            tasks.append(ImportShardTask(name, header, mine, plan, root, out, config))
    return tuple(tasks)


def build_import_shard(tasks: Sequence[ImportShardTask], executor: str) -> Iterator[ShardNote]:
    """The notes of the shards as they get ready."""
    return build_shard(build, _try, tasks, executor, sees=tuple({task.root for task in tasks}))


def _try(task: ImportShardTask) -> bool:
    return isinstance(packed(task, task.frames[0]), PackedPair)


def build(task: ImportShardTask) -> ShardNote:
    """Writes one shard and notes that it is finished; runs in a worker."""
    failed: list[FailedPair] = []

    def pairs() -> Iterator[tuple[PackedPair, Sequence[Patch]]]:
        for entry in task.frames:
            pair = packed(task, entry)
            if isinstance(pair, FailedPair):
                failed.append(pair)
            else:
                yield pair, task.config.patching(task.header.split).patches(pair)

    return finalise(task.out, task.name, task.plan, task.header, pairs(), failed)


def packed(task: ImportShardTask, entry: ImportedFrames) -> PackedPair | FailedPair:
    """The pair with its pixels as they are, or why it cannot be had."""
    record = entry.record
    for failure in task.lost:
        if failure.id == record.id:
            return failure
    try:
        for ref in (entry.blur, entry.sharp):
            path = resolve_inside(task.root, ref.path)
            if path.stat().st_size != ref.bytes or sha256_of(path) != ref.sha256:
                return FailedPair(record.id, Reason.CHANGED, f"{ref.path} changed while it was imported")
        blur, sharp = (read_frame(resolve_inside(task.root, ref.path)) for ref in (entry.blur, entry.sharp))
        size = sharp.shape[:2]
        valid = np.ones(size, np.bool_) if entry.valid is None else read_mask(resolve_inside(task.root, entry.valid))
    except RawError as error:
        return FailedPair(record.id, Reason.UNREADABLE, error.what.replace(f"{task.root}/", ""))
    except (InputError, OSError) as error:
        return FailedPair(record.id, Reason.CHANGED, str(error).replace(f"{task.root}/", ""))
    if blur.shape != sharp.shape or valid.shape != size:
        return FailedPair(record.id, Reason.SIZE_MISMATCH, f"{_by(blur)} and {_by(sharp)} px")
    if blur.dtype != sharp.dtype or blur.dtype.itemsize * 8 != entry.bits:
        return FailedPair(record.id, Reason.UNREADABLE, f"its pixels are {blur.dtype} and {sharp.dtype}")
    box = (0, 0, size[1], size[0]) if entry.box is None else entry.box
    if (box[3] - box[1], box[2] - box[0]) != size or max(map(abs, box)) > _LARGEST_EDGE:
        return FailedPair(record.id, Reason.SIZE_MISMATCH, f"{_by(sharp)} px, exported was the box {box}")
    grid = (-(-size[0] // FLOW_FACTOR), -(-size[1] // FLOW_FACTOR), 2)
    return PackedPair(record.id, blur, sharp, valid, np.zeros(grid, np.float32), record, box)


def _by(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
