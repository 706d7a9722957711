"""Assigns pairs to shards and fingerprints everything that the bytes of a shard depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap
from sdd_toolkit.packing.reuse import development_settings
from sdd_toolkit.packing.splits import SPLITS
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.raw.development import DevelopConfig
from sdd_toolkit.shards.building import assign_to_shards
from sdd_toolkit.shards.index import VERSION
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.records import PairRecord


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One planned shard.

    Attributes:
        name: File name, with the split, the number and the count of shards.
        split: Its split.
        records: Its pairs, sorted by id.
        fingerprint: 16 hex digits over everything its bytes depend on.
    """

    name: str
    split: str
    records: tuple[PairRecord, ...]
    fingerprint: str


def plan_shards(
    records: Sequence[PairRecord],
    splits: Mapping[str, str],
    config: PackConfig,
    develop: DevelopConfig = DevelopConfig(),  # noqa: B008 frozen
    hot_pixels: HotPixelMap = HotPixelMap(),  # noqa: B008 frozen
) -> tuple[ShardPlan, ...]:
    """Assigns the pairs to shards: by split, then in the order of ids.

    Args:
        records: The pairs to pack.
        splits: The split of every scene.
        config: Section `[pack]`.
        develop: How RAW files are developed.
        hot_pixels: The defective pixels that are repaired first.
    """
    values = config.model_dump(mode="json", exclude={"name", "split", "pairs_per_shard"})
    plans = []
    for split in SPLITS:
        members = sorted((r for r in records if splits[r.scene] == split), key=lambda record: record.id)
        for name, part in assign_to_shards(split, members, config.pairs_per_shard):
            facts = {
                "format": VERSION,
                "toolkit": __version__,
                "config": values,
                "develop": development_settings(develop),
            }
            facts |= {"name": name, "hot_pixels": [hot_pixels.inputs(record) for record in part]}
            facts["records"] = [to_json(record) for record in part]
            fingerprint = fingerprint_text(to_json(facts))
            plans.append(ShardPlan(name, split, part, fingerprint))
    return tuple(plans)
