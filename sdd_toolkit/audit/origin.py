"""Traces a packed pair back to its source files, processing steps and shard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sdd_toolkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """The provenance of one packed pair.

    Attributes:
        id: Of the pair.
        scene: Of the pair.
        split: `train`, `val` or `test`.
        files: By role, path, bytes, SHA-256 and metadata of the source file.
        steps: Stage, version, fingerprints of the configuration and the inputs, and the configuration itself; None
            where it was not stored.
        shard: Name, sha256 and codec of the file that holds it.
        packed: The packing configuration; None where it was not stored.
        development: The development of both frames; None in the first shards.
        libraries: Their versions at the time of packing; empty in the first sets.
    """

    id: str
    scene: str
    split: str
    files: dict[str, dict[str, Any]]
    steps: tuple[dict[str, Any], ...]
    shard: dict[str, Any]
    packed: dict[str, Any] | None
    development: dict[str, Any] | None
    libraries: dict[str, str]


def trace_origin(shards: Path, pair_id: str) -> Origin:
    """Traces a packed pair: its source files, the steps that processed them, the shard that holds it.

    Raises:
        InputError: No index, or no such pair.
        IntegrityError: The shard is missing or damaged.
    """
    from sdd_toolkit.pipeline.manifest import to_json
    from sdd_toolkit.shards.reader import ShardReader

    with ShardReader(shards) as reader:
        index = reader.index
        holders = [shard for shard in index.shards if pair_id in shard.pairs]
        if not holders:
            failure = next((entry for entry in index.failed if entry.id == pair_id), None)
            cause = f"; it could not be packed: {failure.reason.value} {failure.detail}" if failure else ""
            raise InputError(f"{shards} has no pair {pair_id!r}{cause}", hint="see pairs in index.json")
        facts = reader.facts(pair_id)
    record, development = facts.record, facts.development
    files = {}
    for role, ref, meta in (("blur", record.blur, record.blur_meta), ("sharp", record.sharp, record.sharp_meta)):
        files[role] = {**asdict(ref), "meta": json.loads(to_json(meta))}
    packed = index.configs.get(index.config)
    return Origin(
        id=record.id,
        scene=record.scene,
        split=holders[0].split,
        files=files,
        steps=tuple({**asdict(step), "values": _values(index.configs, step.config)} for step in record.history),
        shard={"name": holders[0].name, "sha256": holders[0].sha256, "codec": index.codec, "toolkit": index.toolkit},
        packed=None if packed is None else packed["values"],
        development=None if development is None else json.loads(to_json(development)),
        libraries=index.libraries,
    )


def _values(configs: Mapping[str, dict[str, Any]], fingerprint: str) -> dict[str, Any] | None:
    entry = configs.get(fingerprint)
    return None if entry is None else entry["values"]
