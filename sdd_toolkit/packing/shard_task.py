"""Packs the pairs of one shard in a worker: copied from an earlier shard where possible, developed otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap
from sdd_toolkit.imaging.perceptual_hash import hash_of
from sdd_toolkit.packing.config import PackConfig
from sdd_toolkit.packing.pair import pack_pair
from sdd_toolkit.packing.reuse import pixel_fingerprint, rechoose_patches
from sdd_toolkit.pipeline.stage_runner import Job, describe_change
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.records import PairRecord, Reason
from sdd_toolkit.shards.building import ShardTask
from sdd_toolkit.shards.index import FailedPair
from sdd_toolkit.shards.schema import PackedPair, ReuseKeys, StoredPair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sdd_toolkit.shards.building import PackedItem
    from sdd_toolkit.shards.superseded import ReusablePair


@dataclass(frozen=True, slots=True)
class PackTask(ShardTask[PairRecord]):
    """One shard of photographed pairs.

    Attributes:
        root: Folder that the records' files are relative to.
        folder: Folder that `alignment.flow_file` is relative to.
        config: Section `[pack]`.
        develop: How RAW files are developed.
        hot_pixels: The defective pixels that are repaired first.
        reusable: By id, the stored pairs that may be copied.
    """

    root: Path
    folder: Path
    config: PackConfig
    develop: DevelopConfig
    hot_pixels: HotPixelMap
    reusable: Mapping[str, tuple[ReusablePair, ...]] = field(default_factory=dict)

    def pack(self, item: PairRecord) -> PackedItem:
        """The pair with its patches: copied if a stored one has the same pixels, developed otherwise."""
        patching = self.config.patching(self.header.split)
        pixels = pixel_fingerprint(item, self.folder, self.config, self.develop, self.hot_pixels)
        for stored in self.reusable.get(item.id, ()):
            if stored.reuse_keys.pixels == pixels and min(stored.size) >= self.config.min_size_px:
                copy = StoredPair(item.id, item, stored.path, stored.id, patching.fingerprint())
                return copy, rechoose_patches(copy, patching)
        pair = self._develop(item)
        if isinstance(pair, FailedPair):
            return pair
        keys = ReuseKeys(pixels, patching.fingerprint(), hash_of(pair.sharp))
        return replace(pair, reuse_keys=keys), patching.patches(pair)

    def _develop(self, record: PairRecord) -> PackedPair | FailedPair:
        job = Job(record=record, root=self.root, folder=self.folder, config=self.config)
        if change := describe_change(job):
            return FailedPair(record.id, Reason.CHANGED, change)
        files = job.locate(record.blur), job.locate(record.sharp)
        pair = pack_pair(record, *files, self.folder, self.config, self.develop, self.hot_pixels)
        if isinstance(pair, FailedPair):
            # Absolute paths are left out: they are private, and output bytes must not depend on them.
            return replace(pair, detail=pair.detail.replace(f"{self.root}/", ""))
        return pair
