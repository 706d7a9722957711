"""Which pairs of an earlier set can be taken over into a new one: nothing that their pixels depend on has changed."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from sdd_toolkit.calibration import lensfun_profile
from sdd_toolkit.execution.executor import run_tasks
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
# What says where a pair goes, or what lies beside its arrays. A setting that is not named here is one of the pixels.
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
    """Fingerprint of everything the stored arrays of a pair depend on, 32 hex digits.

    The two files by their hash, what they say of themselves, the alignment, the flow by its file's hash, the settings,
    the pixels that are repaired, the versions. Not among it: what was measured to judge the pair, and the judgement.

    Args:
        record: An aligned pair.
        folder: Folder that `alignment.flow_file` is relative to.
        config: See `PackConfig`.
        develop: How RAW files are developed.
        hot_pixels: What is repaired before.
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
    }
    # As JSON of its own: a distance may be infinite.
    metas = [to_json(record.blur_meta), to_json(record.sharp_meta)]
    return fingerprint_text(to_json({**facts, "meta": metas}), digits=32)


def development_settings(develop: DevelopConfig) -> dict[str, object]:
    """The settings of the development that pixels depend on, with the version of what corrects lenses."""
    values: dict[str, object] = develop.model_dump(mode="json", exclude={"hot_pixels"})
    if develop.lens_correction is not LensCorrection.NONE:
        values["lensfunpy"] = lensfun_profile.database_version()
    return values


def rechoose_patches(pair: StoredPair, patching: Patching) -> tuple[Patch, ...]:
    """The patches of a pair that is taken over: those it had if they were chosen this way, else chosen anew."""
    marks = read_reuse_keys(pair.path, [pair.stored_id]).get(pair.stored_id)
    if marks is not None and marks[0].patching == patching.fingerprint():
        return tuple(replace(patch, pair=pair.id) for patch in read_patches(pair.path, pair.stored_id))
    return tuple(replace(patch, pair=pair.id) for patch in patching.patches(read_pair(pair.path, pair.stored_id)))


def reusable_pairs(out: Location, executor: str) -> Mapping[str, tuple[ReusablePair, ...]]:
    """The pairs in the shards that were set aside in `out`, by id. A damaged shard is left out, and the log says so."""
    found: dict[str, list[ReusablePair]] = defaultdict(list)
    for outcome in run_tasks(superseded.read_reusable_pairs, superseded.list_shards(out), executor):
        if isinstance(outcome.result, tuple):
            for source in outcome.result:
                found[source.id].append(source)
        else:
            why = outcome.result or f"{outcome.task.note.shard.name}: the worker that read it died"
            log.warning("%s; its pairs are developed again", why)
    return {name: tuple(sorted(entries, key=lambda each: each.path.name)) for name, entries in found.items()}
