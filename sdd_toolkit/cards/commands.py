"""Command line of `sdd card`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdd_toolkit.cli.options import FOLDER_OR_URL, IN_PATH, lock_folders, run_options

if TYPE_CHECKING:
    from pathlib import Path

    from sdd_toolkit.cli.options import RunOptions
    from sdd_toolkit.storage.locations import Location


@click.command()
@click.argument("shards", type=FOLDER_OR_URL)
@click.option("--manifest", type=IN_PATH, help="The packed manifest, for the rejected pairs and their reasons.")
@run_options("config", "overwrite", "change_config", "as_json")
def card(shards: Location, manifest: Path | None, run: RunOptions) -> None:
    """Write the data card of a packed data set."""
    from sdd_toolkit.cards import stage
    from sdd_toolkit.cards.config import CardConfig
    from sdd_toolkit.quality.criteria import FilterConfig

    lock_folders(shards)
    thresholds = None if run.config is None else run.section(FilterConfig, "filter")
    folder = _folder_of_set(shards, manifest)
    config = run.section(CardConfig, "card") if folder is None else run.set_section(folder, CardConfig, "card")
    report = stage.write_card(shards, config, manifest=manifest, thresholds=thresholds, overwrite=run.overwrite)
    if folder is not None:
        run.record_change(folder, card=config)
    run.echo(report)


def _folder_of_set(shards: Location, manifest: Path | None) -> Path | None:
    """The folder whose recorded configuration is that of the shards; None in an object store without a manifest."""
    from pathlib import Path

    if manifest is not None:
        return manifest.parent
    return shards.parent if isinstance(shards, Path) else None
