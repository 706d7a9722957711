"""Where a pair comes from: the configurations behind fingerprints, the libraries' versions, the chain of a pair."""

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
    """Keeps a stage's configuration in `out`, and those that lie beside its input in `source`."""
    before, here = read_configurations(source), read_configurations(out)
    both = {**here, **before, config.fingerprint(): configuration_entry(stage, config)}
    if both != here:
        write_text(out / CONFIGURATIONS, _text(both))


def configuration_entry(stage: str, config: Section) -> dict[str, Any]:
    """What is kept of a configuration: the stage's name and every value, defaults too."""
    return {"stage": stage, "values": config.model_dump(mode="json")}


def read_configurations(folder: Path) -> Configurations:
    """The configurations in `folder` by fingerprint; those that do not have theirs are left out."""
    try:
        found = json.loads((folder / CONFIGURATIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return valid_configurations(found) if isinstance(found, dict) else {}


def valid_configurations(found: Mapping[str, Any]) -> Configurations:
    """Those entries of `found` that hash to their fingerprint."""
    return {key: entry for key, entry in found.items() if isinstance(entry, dict) and _has_its_fingerprint(key, entry)}


def configurations_of(records: Iterable[PairRecord], known: Mapping[str, dict[str, Any]]) -> Configurations:
    """Those of `known` that steps of `records` went by."""
    wanted = {step.config for record in records for step in record.history}
    return {key: known[key] for key in sorted(wanted) if key in known}


def _has_its_fingerprint(key: str, entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("stage"), str) and fingerprint(entry.get("values")) == key


def _text(configurations: Configurations) -> str:
    return json.dumps(dict(sorted(configurations.items())), ensure_ascii=False, indent=1) + "\n"
