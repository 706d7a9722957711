"""Where a pair comes from: the configurations behind fingerprints, the libraries' versions, the chain of a pair."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from sdd_toolkit.errors import InputError
from sdd_toolkit.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sdd_toolkit.config import Section
    from sdd_toolkit.types import PairRecord

CONFIGURATIONS = "configurations.json"
LIBRARIES = ("h5py", "hdf5plugin", "numpy", "opencv-python-headless", "rawpy", "tifffile")
Configurations = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Origin:
    """How one packed pair came to be.

    Attributes:
        id: Of the pair.
        scene: Of the pair.
        split: `train`, `val` or `test`.
        files: Per role path, bytes, sha256 and what the file says of its making.
        steps: Stage, version, fingerprint of the configuration and of the inputs, and the configuration itself; None
            where it was not kept.
        shard: Name, sha256 and codec of the file that holds it.
        packed: The packing configuration; None where it was not kept.
        development: How both frames were developed; None where the shard does not say.
        libraries: Their versions when it was packed; empty where the index does not say.
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


def hand_on(source: Path, out: Path, stage: str, config: Section) -> None:
    """Keeps a stage's configuration in `out`, and those that lie beside its input in `source`."""
    before, here = kept(source), kept(out)
    both = {**here, **before, config.fingerprint(): entry_of(stage, config)}
    if both != here:
        write_text(out / CONFIGURATIONS, _text(both))


def entry_of(stage: str, config: Section) -> dict[str, Any]:
    """What is kept of a configuration: the stage's name and every value, defaults too."""
    return {"stage": stage, "values": config.model_dump(mode="json")}


def kept(folder: Path) -> Configurations:
    """The configurations in `folder` by fingerprint; those that do not have theirs are left out."""
    try:
        found = json.loads((folder / CONFIGURATIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return fitting(found) if isinstance(found, dict) else {}


def fitting(found: Mapping[str, Any]) -> Configurations:
    """Those entries of `found` that hash to their fingerprint."""
    return {key: entry for key, entry in found.items() if isinstance(entry, dict) and _fits(key, entry)}


def of_records(records: Iterable[PairRecord], known: Mapping[str, dict[str, Any]]) -> Configurations:
    """Those of `known` that steps of `records` went by."""
    wanted = {step.config for record in records for step in record.history}
    return {key: known[key] for key in sorted(wanted) if key in known}


def libraries() -> dict[str, str]:
    """The versions of the libraries that pixels go through, by name."""
    from sdd_toolkit.raw_files import libraw_version
    from sdd_toolkit.shards.tables import hdf5_version

    found = {"HDF5": hdf5_version(), "LibRaw": libraw_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def trace(shards: Path, pair_id: str) -> Origin:
    """The chain of a packed pair: its files, the steps it went through, the shard that holds it.

    Raises:
        InputError: No index, or no such pair.
        IntegrityError: The shard is missing or damaged.
    """
    from sdd_toolkit.manifest import to_json
    from sdd_toolkit.shards.reader import ShardReader

    with ShardReader(shards) as reader:
        index = reader.index
        held = [shard for shard in index.shards if pair_id in shard.pairs]
        if not held:
            why = next((entry for entry in index.failed if entry.id == pair_id), None)
            told = f"; it could not be packed: {why.reason.value} {why.detail}" if why else ""
            raise InputError(f"{shards} has no pair {pair_id!r}{told}", hint="see pairs in index.json")
        facts = reader.facts(pair_id)
    record, development = facts.record, facts.development
    files = {}
    for role, ref, meta in (("blur", record.blur, record.blur_meta), ("sharp", record.sharp, record.sharp_meta)):
        files[role] = {**asdict(ref), "meta": json.loads(to_json(meta))}
    packed = index.configs.get(index.config)
    return Origin(
        id=record.id,
        scene=record.scene,
        split=held[0].split,
        files=files,
        steps=tuple({**asdict(step), "values": _values(index.configs, step.config)} for step in record.history),
        shard={"name": held[0].name, "sha256": held[0].sha256, "codec": index.codec, "toolkit": index.toolkit},
        packed=None if packed is None else packed["values"],
        development=None if development is None else json.loads(to_json(development)),
        libraries=index.libraries,
    )


def _values(known: Mapping[str, dict[str, Any]], fingerprint: str) -> dict[str, Any] | None:
    entry = known.get(fingerprint)
    return None if entry is None else entry["values"]


def fingerprint_of(values: object) -> str:
    """What `Section.fingerprint` says of a section with these values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _fits(key: str, entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("stage"), str) and fingerprint_of(entry.get("values")) == key


def _text(configurations: Configurations) -> str:
    return json.dumps(dict(sorted(configurations.items())), ensure_ascii=False, indent=1) + "\n"
