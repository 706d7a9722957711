"""Reuses packed pairs of an earlier run whose pixels cannot have changed, by a fingerprint of all their inputs."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sdd_toolkit.calibration import lensfun_profile
from sdd_toolkit.execution.executor import run_tasks
from sdd_toolkit.execution.landlock import FileAccess
from sdd_toolkit.imaging.orientation import UPRIGHT
from sdd_toolkit.pipeline.manifest import to_json
from sdd_toolkit.raw.development import LensCorrection
from sdd_toolkit.shards import superseded
from sdd_toolkit.shards.index import VERSION
from sdd_toolkit.shards.stored_patches import read_pair, read_patches, read_reuse_keys
from sdd_toolkit.storage.files import resolve_inside, sha256_of
from sdd_toolkit.storage.fingerprint import fingerprint_text
from sdd_toolkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sdd_toolkit.calibration.hot_pixel_map import HotPixelMap
    from sdd_toolkit.packing.config import PackConfig
    from sdd_toolkit.packing.patches import Patching
    from sdd_toolkit.raw.development import DevelopConfig
    from sdd_toolkit.records import PairRecord
    from sdd_toolkit.shards.schema import Patch, StoredPair
    from sdd_toolkit.shards.superseded import ReusablePair
    from sdd_toolkit.storage.locations import Location

log = logging.getLogger(__name__)
# Settings that pixels do not depend on: the place of a pair in the set, its patches. All others count.
_SETTINGS_BESIDE_PIXELS = {
    "name",
    "split",
    "pairs_per_shard",
    "patch_size",
    "patches",
    "train_overlap",
    "min_valid_fraction",
    "min_size_px",
}


def pixel_fingerprint(
    record: PairRecord, folder: Path, config: PackConfig, develop: DevelopConfig, hot_pixels: HotPixelMap
) -> str:
    """32 hex digits over everything that the stored arrays of a pair depend on.

    It covers the hashes of the two files, their metadata, the alignment, the hash of the flow file, the settings, the
    repaired pixels and the versions. The quality measurements and the verdict of the filter do not count.

    Args:
        record: An aligned pair.
        folder: Folder that `alignment.flow_file` is relative to.
        config: Section `[pack]`.
        develop: How RAW files are developed.
        hot_pixels: The defective pixels that are repaired first.
    """
    aligned = record.alignment
    flow = None if aligned is None or aligned.flow_file is None else resolve_inside(folder, aligned.flow_file)
    facts = {
        "format": VERSION,
        "toolkit": __version__,
        "pack": config.model_dump(mode="json", exclude=_SETTINGS_BESIDE_PIXELS),
        "develop": development_settings(develop),
        "files": [record.blur.sha256, record.sharp.sha256],
        "alignment": None if aligned is None else asdict(replace(aligned, flow_file=None)),
        "flow": None if flow is None else sha256_of(flow) if flow.is_file() else "missing",
        "hot_pixels": hot_pixels.inputs(record),
        **({} if record.blur_turn == UPRIGHT else {"turn": record.blur_turn}),
    }
    # JSON inside JSON: a distance may be infinite.
    metas = [to_json(record.blur_meta), to_json(record.sharp_meta)]
    return fingerprint_text(to_json({**facts, "meta": metas}), digits=32)


def development_settings(develop: DevelopConfig) -> dict[str, object]:
    """The settings of the development that pixels depend on, with the version of the lens database."""
    values: dict[str, object] = develop.model_dump(mode="json", exclude={"hot_pixels"})
    if develop.lens_correction is not LensCorrection.NONE:
        values["lensfunpy"] = lensfun_profile.database_version()
    return values


def rechoose_patches(pair: StoredPair, patching: Patching) -> tuple[Patch, ...]:
    """The patches of a copied pair: the stored ones if the same rule chose them, else chosen from its pixels."""
    stored = read_reuse_keys(pair.path, [pair.stored_id]).get(pair.stored_id)
    if stored is not None and stored[0].patching == patching.fingerprint():
        return tuple(replace(patch, pair=pair.id) for patch in read_patches(pair.path, pair.stored_id))
    return tuple(replace(patch, pair=pair.id) for patch in patching.patches(read_pair(pair.path, pair.stored_id)))


def reusable_pairs(out: Location, executor: str) -> Mapping[str, tuple[ReusablePair, ...]]:
    """The pairs of the superseded shards in `out`, by id; a damaged shard is left out with a warning."""
    reusable: dict[str, list[ReusablePair]] = defaultdict(list)
    for outcome in run_tasks(
        superseded.read_reusable_pairs, superseded.list_shards(out), executor, access=FileAccess((out,))
    ):
        if isinstance(outcome.result, tuple):
            for source in outcome.result:
                reusable[source.id].append(source)
        else:
            why = outcome.result or f"{outcome.task.note.shard.name}: the worker that read it died"
            log.warning("%s; its pairs are developed again", why)
    return {name: tuple(sorted(entries, key=lambda each: each.path.name)) for name, entries in reusable.items()}
