"""Plans the shards of an imported data set and packs its pairs, sRGB pixels unchanged."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdd_toolkit.errors import InputError, RawError
from sdd_toolkit.imaging.residual_flow import FLOW_FACTOR
from sdd_toolkit.layouts.pixels import read_encoded, read_mask
from sdd_toolkit.layouts.sidecar import Export
from sdd_toolkit.metadata.colour_notes import gamut_notes
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.records import FileRef, PairRecord, Reason
from sdd_toolkit.shards.building import ShardTask, assign_to_shards
from sdd_toolkit.shards.index import VERSION, FailedPair
from sdd_toolkit.shards.schema import PackedPair
from sdd_toolkit.storage.files import sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.storage.linked_stores import resolve_source
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sdd_toolkit.imaging.encoding import Encoding
    from sdd_toolkit.shards.building import PackedItem

_LARGEST_EDGE = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class ImportedFrames:
    """A pair to import: its record, and its files as they were when it was examined.

    Attributes:
        record: Its record.
        split: The split of the layout; None if it has none.
        blur: The blurred frame's file.
        sharp: The sharp frame's file.
        bits: Bits a channel.
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

    @property
    def id(self) -> str:
        """The pair's id."""
        return self.record.id


@dataclass(frozen=True, slots=True)
class ImportTask(ShardTask[ImportedFrames]):
    """One shard of imported pairs.

    Attributes:
        root: Folder that the files are relative to.
        config: Section `[pack]`.
        follow_links: See `listing.list_files`.
    """

    root: Path
    config: PackConfig
    follow_links: bool = False

    def pack(self, item: ImportedFrames) -> PackedItem:
        """The pair with its pixels and its patches, or the reason why it is left out."""
        pair = self._read_pair(item)
        if isinstance(pair, FailedPair):
            return pair
        return pair, self.config.patching(self.header.split).patches(pair)

    def _locate(self, path: str) -> Path:
        return resolve_source(self.root, path, follow_links=self.follow_links)

    def _read_pair(self, entry: ImportedFrames) -> PackedPair | FailedPair:
        record = entry.record
        try:
            for ref in (entry.blur, entry.sharp):
                path = self._locate(ref.path)
                if path.stat().st_size != ref.bytes or sha256_of(path) != ref.sha256:
                    return FailedPair(record.id, Reason.CHANGED, f"{ref.path} changed while it was imported")
            files = (self._locate(ref.path) for ref in (entry.blur, entry.sharp))
            (blur, blur_share), (sharp, sharp_share) = (read_encoded(file, self.header.encoding) for file in files)
            record = replace(record, notes=(*record.notes, *gamut_notes(blur_share, sharp_share)))
            size = sharp.shape[:2]
            valid = np.ones(size, np.bool_) if entry.valid is None else read_mask(self._locate(entry.valid))
        except RawError as error:
            return FailedPair(record.id, Reason.UNREADABLE, error.what.replace(f"{self.root}/", ""))
        except (InputError, OSError) as error:
            return FailedPair(record.id, Reason.CHANGED, str(error).replace(f"{self.root}/", ""))
        if blur.shape != sharp.shape or valid.shape != size:
            return FailedPair(record.id, Reason.SIZE_MISMATCH, f"{_size_text(blur)} and {_size_text(sharp)} px")
        if blur.dtype != sharp.dtype or blur.dtype.itemsize * 8 != entry.bits:
            return FailedPair(record.id, Reason.UNREADABLE, f"its pixels are {blur.dtype} and {sharp.dtype}")
        box = (0, 0, size[1], size[0]) if entry.box is None else entry.box
        if (box[3] - box[1], box[2] - box[0]) != size or max(map(abs, box)) > _LARGEST_EDGE:
            return FailedPair(record.id, Reason.SIZE_MISMATCH, f"{_size_text(sharp)} px, exported was the box {box}")
        grid = (-(-size[0] // FLOW_FACTOR), -(-size[1] // FLOW_FACTOR), 2)
        return PackedPair(record.id, blur, sharp, valid, np.zeros(grid, np.float32), record, box)


def plan_import(
    root: Path,
    out: Path,
    frames: Sequence[ImportedFrames],
    splits: Mapping[str, str],
    config: PackConfig,
    encoding: Encoding,
    export: Export | None = None,
    follow_links: bool = False,
) -> list[ImportTask]:
    """The shards of an imported data set: by split, then in the order of ids.

    Args:
        root: Folder that the files are relative to.
        out: Folder of the shards.
        frames: The pairs.
        splits: The split of every scene.
        config: Section `[pack]`.
        encoding: Encoding of their pixel values.
        export: The export they are read from, if the data set is one.
        follow_links: See `listing.list_files`.
    """
    origin = export or Export("", "", encoding, "", None, False, __version__)
    values = config.model_dump(mode="json", exclude={"name", "split", "pairs_per_shard", "encoding"})
    tasks = []
    for split in SPLITS:
        members = sorted((f for f in frames if splits[f.record.scene] == split), key=lambda entry: entry.record.id)
        header = origin.header(split, config.patch_size, config.profile.codec)
        for name, mine in assign_to_shards(split, members, config.pairs_per_shard):
            facts = {"format": VERSION, "toolkit": __version__, "config": values, "header": asdict(header)}
            facts |= {"name": name, "frames": [asdict(entry) for entry in mine]}
            fingerprint = fingerprint_text(to_json(facts))
            tasks.append(ImportTask(name, header, fingerprint, mine, out, root, config, follow_links))
    return tasks


def _size_text(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
