"""The configuration recorded for a data set in its `config.json`; a stage given another one stops.

`sdd build` records every section with all values, a stage the sections of its `--config` as they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sdd_toolkit.config import Section
from sdd_toolkit.errors import ConfigError
from sdd_toolkit.storage.files import write_text
from sdd_toolkit.storage.targets import check_own

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

RECORDED_CONFIG = "config.json"
_SECTIONS = ("ingest", "develop", "fuse", "align", "filter", "pack", "card", "report")
_NAMES_SHOWN = 3


def read_recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """The sections recorded for the data set in `folder`; empty if none are."""
    try:
        content = json.loads((folder / RECORDED_CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: content[name] for name in _SECTIONS if isinstance(content.get(name), dict)}


def check_section(folder: Path, name: str, section: Section, chosen: Collection[str] = ()) -> None:
    """Refuses a section that differs from the one recorded for a data set; a section that is not recorded passes.

    Args:
        folder: Folder of the data set.
        name: The section's name.
        section: The section of the stage.
        chosen: Keys that may differ: they were given as options.

    Raises:
        ConfigError: Names the keys, both values and the file that records them.
    """
    try:
        recorded = type(section).model_validate(read_recorded(folder)[name]).model_dump(mode="json")
    except (KeyError, ValidationError):  # not recorded, or by another version
        return
    given = section.model_dump(mode="json")
    changed = [key for key in given if key not in chosen and given[key] != recorded[key]]
    if changed:
        here, there = (", ".join(f"{key} = {json.dumps(values[key])}" for key in changed[:_NAMES_SHOWN])
                       for values in (given, recorded))  # fmt: skip
        more = f" and {len(changed) - _NAMES_SHOWN} more keys" if len(changed) > _NAMES_SHOWN else ""
        raise ConfigError(
            f"[{name}] {here}{more}, but the data set was begun with {there} ({folder / RECORDED_CONFIG})",
            hint="pass the --config of the data set, or --change-config to go on with this one",
        )


def record_sections(folder: Path, sections: Mapping[str, Mapping[str, Any]], *, overwrite: bool = False) -> None:
    """Records sections of a configuration for the data set in `folder`, beside those that are recorded already."""
    before = read_recorded(folder)
    after = {name: dict({**before, **sections}[name]) for name in _SECTIONS if name in {**before, **sections}}
    if after != before:
        check_own([folder / RECORDED_CONFIG], overwrite=overwrite)
        text = json.dumps(after, ensure_ascii=False, separators=(",", ":"), default=str)
        write_text(folder / RECORDED_CONFIG, text)
