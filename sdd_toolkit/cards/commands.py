"""Command line of `sdd card`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import (
    IN_PATH,
    PLACE,
    config_option,
    echo_report,
    hold,
    json_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.storage.locations import Place


@click.command()
@click.argument("shards", type=PLACE)
@click.option("--manifest", type=IN_PATH, help="The packed manifest, for what was rejected and why.")
@config_option
@json_option
def card(shards: Place, manifest: Path | None, config: Path | None, as_json: bool) -> None:
    """Write the data card of a packed data set."""
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.cards.stage import run
    from sdd_toolkit.config import load_section
    from sdd_toolkit.quality.criteria import FilterConfig

    hold(shards)
    thresholds = load_section(FilterConfig, "filter", config) if config is not None else None
    section = load_section(CardConfig, "card", config)
    echo_report(run(shards, section, manifest=manifest, thresholds=thresholds), as_json)
