"""Stores the configuration behind each fingerprint in `configurations.json`, beside the manifests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from sdd_toolkit.config import Section
    from sdd_toolkit.records import PairRecord

CONFIGURATIONS = "configurations.json"
Configurations = dict[str, dict[str, Any]]


def copy_configurations(source: Path, out: Path, stage: str, config: Section) -> None:
    """Adds a stage's configuration to those in the folder `out`, and those beside its input in the folder `source`."""
    before, here = read_configurations(source), read_configurations(out)
    both = {**here, **before, config.fingerprint(): configuration_entry(stage, config)}
    if both != here:
        write_text(out / CONFIGURATIONS, _text(both))


def configuration_entry(stage: str, config: Section) -> dict[str, Any]:
    """The stored form of a configuration: the stage's name and every value, defaults too."""
    return {"stage": stage, "values": config.model_dump(mode="json")}


def read_configurations(folder: Path) -> Configurations:
    """The configurations in `folder` by fingerprint; entries that do not match theirs are left out."""
    try:
        content = json.loads((folder / CONFIGURATIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return valid_configurations(content) if isinstance(content, dict) else {}


def valid_configurations(entries: Mapping[str, Any]) -> Configurations:
    """The entries that hash to their fingerprint."""
    return {
        key: entry for key, entry in entries.items() if isinstance(entry, dict) and _has_its_fingerprint(key, entry)
    }


def configurations_of(records: Iterable[PairRecord], configurations: Mapping[str, dict[str, Any]]) -> Configurations:
    """The `configurations` that steps of `records` refer to."""
    used = {step.config for record in records for step in record.history}
    return {key: configurations[key] for key in sorted(used) if key in configurations}


def _has_its_fingerprint(key: str, entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("stage"), str) and fingerprint(entry.get("values")) == key


def _text(configurations: Configurations) -> str:
    return json.dumps(dict(sorted(configurations.items())), ensure_ascii=False, indent=1) + "\n"
