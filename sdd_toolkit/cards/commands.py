"""Command line of `sdd card`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import FOLDER_OR_URL, IN_PATH, config_option, echo_report, json_option, lock_folders

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.storage.locations import Location


@click.command()
@click.argument("shards", type=FOLDER_OR_URL)
@click.option("--manifest", type=IN_PATH, help="The packed manifest, for what was rejected and why.")
@config_option
@json_option
def card(shards: Location, manifest: Path | None, config: Path | None, as_json: bool) -> None:
    """Write the data card of a packed data set."""
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.cards.stage import write_card
    from sdd_toolkit.config import load_section
    from sdd_toolkit.quality.criteria import FilterConfig

    lock_folders(shards)
    thresholds = load_section(FilterConfig, "filter", config) if config is not None else None
    section = load_section(CardConfig, "card", config)
    echo_report(write_card(shards, section, manifest=manifest, thresholds=thresholds), as_json)
